"""The wording of the portability report: facts about a program and a kernel -> `Reason`s.

Input: what the checks found. Output: reasons, each saying what is wrong, at which source line, and what to do.
`section_check.py` words its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.core_relo.resolve import AmbiguityError, Resolution
from hatch_bpf.core_relo.spec import ENUMVAL_KINDS, Spec
from hatch_bpf.errors import RelocationError
from hatch_bpf.objects import uapi
from hatch_bpf.objects.insns import InsnSet
from hatch_bpf.objects.model import Function, MapDef, ObjectModel
from hatch_bpf.portability.verdicts import Reason, ReasonKind, Weight
from hatch_bpf.runtime.sections import ProgramSection
from hatch_bpf.support.own_libbpf import own_version
from hatch_bpf.verifier.facts import VerifierRefusal
from hatch_bpf.verifier.reach import Exposure
from hatch_bpf.verifier.values import U32

RINGBUF_HELPERS = uapi.helpers("ringbuf_output ringbuf_reserve ringbuf_submit ringbuf_discard ringbuf_query")
PERF_BUFFER = (
    "use bpf_perf_event_output() and a BPF_MAP_TYPE_PERF_EVENT_ARRAY map there; the option `alternatives` chooses one "
    "of both by what the kernel has"
)
MODULE_NOTE = "a module may define it, but no embedded BTF can serve that"


def missing(spec: Spec, source: str, *, type_is_there: bool, nearest: str = "") -> Reason:
    """A field or enumerator that the kernel lacks; `reached()` gives it its weight."""
    root = replace(spec, kind=CoreReloKind.TYPE_EXISTS).access
    part = spec.access.removeprefix(root).lstrip(".:")
    if type_is_there:
        what = f"{spec.access} is not in this kernel"
    else:
        what = f"{spec.access} is not in this kernel, whose BTF has no {root} ({MODULE_NOTE})"
    check = "bpf_core_enum_value_exists" if spec.kind in ENUMVAL_KINDS else "bpf_core_field_exists"
    guard = f"{check}({root}, {part})" if part else f"bpf_core_type_exists({root})"
    return Reason(ReasonKind.CO_RE_MISSING, Weight.NOTE, what, f"guard it with {guard}", source, nearest)


def size_differs(resolution: Resolution, source: str) -> Reason:
    what = (
        f"{resolution.local.access} has {resolution.local_size} bytes in the object and {resolution.target_size} "
        f"in this kernel, and is no unsigned integer or pointer, so its load or store cannot be adjusted"
    )
    remedy = "read it with bpf_core_read() and bpf_core_field_size(), or declare a flavor of the type for this kernel"
    return Reason(ReasonKind.CO_RE_SIZE, Weight.NOTE, what, remedy, source)


def refused_relocation(error: RelocationError, source: str) -> Reason:
    if isinstance(error, AmbiguityError):
        one, other = error.targets
        places = f"at bits {one.bit_offset} and {other.bit_offset}"
        differ = places if one.bit_offset != other.bit_offset else "with different values"
        what = f"this kernel has more than one {one.access}, {differ}"
    else:
        # without places and ids, which differ from kernel to kernel
        what = str(error.__cause__ or error)
    remedy = "declare what the program reads of the type as the kernel has it"
    return Reason(ReasonKind.CO_RE_REFUSED, Weight.FAILS, f"libbpf refuses the object: {what}", remedy, source)


def minimized_differs(resolution: Resolution, source: str) -> Reason:
    what = f"{resolution.local} resolves differently against the minimized BTF than against the kernel's own"
    remedy = "this is a fault of hatch-bpf; please report it"
    return Reason(ReasonKind.MINIMIZED_DIFFERS, Weight.FAILS, what, remedy, source)


def type_id_target(spec: Spec, source: str) -> Reason:
    what = (
        f"bpf_core_type_id_kernel({spec.access}) is the type's id in the kernel's own BTF; "
        f"the types of an embedded BTF have other ids"
    )
    return Reason(ReasonKind.TYPE_ID_TARGET, Weight.KERNEL_BTF, what, source=source)


def helper_missing(number: int, source: str, *, is_listed: bool) -> Reason:
    """`is_listed` if `enum bpf_func_id` has it nevertheless, so that checks for its enumerator say it is there."""
    name, enumerator = uapi.helper_name(number), uapi.helper_enumerator(number)
    what = f"this kernel has no {name}()"
    if is_listed:
        what += ", although its BTF has the enumerator"
        remedy = "a guard does not help: call it in a program of its own that is optional"
    elif number in RINGBUF_HELPERS:
        remedy = PERF_BUFFER
    elif enumerator:
        remedy = f"guard the call with bpf_core_enum_value_exists(enum bpf_func_id, {enumerator})"
    else:
        remedy = "guard the call"
    return Reason(ReasonKind.HELPER_MISSING, Weight.NOTE, what, remedy, source)


def helper_of_tracing(number: int, source: str) -> Reason:
    what = f"this kernel lets no programs but those for tracing call {uapi.helper_name(number)}()"
    if number in uapi.helpers("probe_read probe_read_str"):
        newer = f"{uapi.helper_name(number)}()".replace("read", "read_kernel")
        return Reason(ReasonKind.HELPER_OF_TRACING, Weight.NOTE, what, f"call {newer}", source, on_any_kernel=True)
    remedy = (
        "guard the call with bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_ringbuf_output), as both came with "
        "one Linux, or do it in a tracing program (kprobe, raw_tp)"
    )
    return Reason(ReasonKind.HELPER_OF_TRACING, Weight.NOTE, what, remedy, source)


def built_without_btf(thing: str, remedy: str, source: str = "") -> Reason:
    what = (
        f"{thing}, which kernels without a BTF of their own refuse (CONFIG_DEBUG_INFO_BTF), and what is known of this "
        "kernel does not show that it has one"
    )
    return Reason(ReasonKind.KERNEL_WITHOUT_BTF, Weight.KERNEL_BTF, what, remedy, source)


def global_context(name: str) -> Reason:
    return built_without_btf(f"the global function {name}() takes the context", "declare it static")


def helper_needs_btf(number: int, source: str) -> Reason:
    thing = f"{uapi.helper_name(number)}() returns a pointer to a struct of the kernel"
    return built_without_btf(thing, "read the struct with bpf_probe_read_kernel() instead", source)


def not_gpl(thing: str, obj: ObjectModel, source: str, weight: Weight) -> Reason:
    license_ = f'"{obj.license}"' if obj.license else "none"
    what = f"{thing} needs a license that is compatible with the GPL, and this object's is {license_}"
    remedy = 'say char LICENSE[] SEC("license") = "GPL"; if it is'
    return Reason(ReasonKind.LICENSE, weight, what, remedy, source, on_any_kernel=True)


def kfunc_missing(name: str, source: str = "") -> Reason:
    """With a source it is a call, which `reached()` weighs; without, a strong extern, which libbpf refuses."""
    what = f"this kernel has no kfunc {name}() ({MODULE_NOTE})"
    remedy = f"declare it __weak and guard the call with bpf_ksym_exists({name})"
    if source:
        remedy = f"guard the call with bpf_ksym_exists({name})"
    return Reason(ReasonKind.KFUNC_MISSING, Weight.NOTE if source else Weight.FAILS, what, remedy, source)


def kfunc_address(name: str) -> Reason:
    what = f"this kernel has the kfunc {name}(), but refuses programs that take its address, as bpf_ksym_exists() does"
    remedy = "guard its calls with a CO-RE check for something that came with it"
    return Reason(ReasonKind.KFUNC_MISSING, Weight.FAILS, what, remedy)


def ksym_missing(name: str) -> Reason:
    what = f"this kernel's BTF has no variable {name} ({MODULE_NOTE})"
    remedy = f"declare it __weak and guard its use with bpf_ksym_exists({name})"
    return Reason(ReasonKind.KSYM_MISSING, Weight.FAILS, what, remedy)


def with_libbpf(reason: Reason, versions: str, *, fails: bool) -> Reason:
    """A reason that holds only with some versions of libbpf: a condition, unless the program `fails` with all."""
    weight = reason.weight if fails else min(reason.weight, Weight.CONDITIONAL)
    return replace(reason, weight=weight, what=f"with libbpf {versions}, {reason.what}")


def extern_differs(name: str, *, is_function: bool) -> Reason:
    kind = ReasonKind.KFUNC_MISSING if is_function else ReasonKind.KSYM_MISSING
    thing = f"kfunc {name}()" if is_function else f"variable {name}"
    what = f"this kernel's {thing} has another type than the extern declares, so libbpf refuses the object"
    return Reason(kind, Weight.FAILS, what, "declare it as the kernel has it")


def ksym_unknown(name: str) -> Reason:
    what = f"kernel symbol {name} is not in this kernel's BTF, which lists few; libbpf looks it up in /proc/kallsyms"
    return Reason(ReasonKind.KSYM_UNKNOWN, Weight.NOTE, what)


def typed_extern(name: str, *, is_function: bool) -> Reason:
    what = "kfunc" if is_function else "typed kernel symbol"
    return Reason(ReasonKind.KERNEL_BTF, Weight.KERNEL_BTF, f"{what} {name} can only be found in the kernel's own BTF")


def map_type_missing(definition: MapDef) -> Reason:
    what = f"map {definition.name} is a {uapi.map_type_name(definition.type)}, which this kernel does not know"
    if definition.type == uapi.MapType.RINGBUF:
        remedy = PERF_BUFFER
    else:
        remedy = "use another type of map there, or turn off the map's autocreate"
    return Reason(ReasonKind.MAP_TYPE_MISSING, Weight.FAILS, what, remedy)


def argument_missing(section: ProgramSection, index: int, has: int, source: str) -> Reason:
    count = "no argument" if not has else f"{has} argument{'s' * (has != 1)}"
    what = f"the program reads argument {index + 1} of {section.target}, which has {count} on this kernel"
    remedy = "decide by the kernel's BTF, with bpf_core_field_exists() for example, not by its version"
    return Reason(ReasonKind.ARGUMENT_MISSING, Weight.NOTE, what, remedy, source)


def context_field_missing(field: str) -> Reason:
    """`field` is `__sk_buff.hwtstamp` or the like."""
    what = f"the program's context has no {field} on this kernel, which refuses a program that accesses it"
    remedy = "guard it with bpf_core_field_exists(), of a struct with preserve_access_index as in vmlinux.h"
    return Reason(ReasonKind.CONTEXT_FIELD_MISSING, Weight.NOTE, what, remedy)


def context_field_refused(section: ProgramSection, field: str, *, is_write: bool) -> Reason:
    what = f'this kernel lets no SEC("{section.name}") program {"write" if is_write else "read"} {field}'
    return Reason(ReasonKind.CONTEXT_FIELD_REFUSED, Weight.NOTE, what, "do it in another kind of program")


def context_part_refused(field: str) -> Reason:
    what = f"the program reads the middle of {field}, and this kernel lets it read only a field's first bytes"
    remedy = "read all of it, through a volatile pointer, and take the part of that"
    return Reason(ReasonKind.CONTEXT_FIELD_REFUSED, Weight.NOTE, what, remedy)


def context_moved(source: str) -> Reason:
    what = (
        "the program reads its context through a pointer that it has moved, as memcpy() and loops over fields do, "
        'and verifiers refuse that ("dereference of modified ctx ptr")'
    )
    remedy = "copy the field with bpf_probe_read_kernel(), or read it with BPF_CORE_READ()"
    return Reason(ReasonKind.CONTEXT_MOVED, Weight.NOTE, what, remedy, source, on_any_kernel=True)


def return_refused(section: ProgramSection, returned: int, allowed: range, source: str) -> Reason:
    """`returned` is the value of r0, 64 bits wide."""
    bits = 32 if returned <= U32 else 64
    shown = int.from_bytes(returned.to_bytes(8, "little")[: bits // 8], "little", signed=True)
    values = " or ".join(map(str, allowed)) if len(allowed) < 3 else f"{allowed[0]} to {allowed[-1]}"
    what = (
        f'the program returns {shown}, and this kernel takes nothing but {values} from a SEC("{section.name}") program'
    )
    return Reason(ReasonKind.RETURN_VALUE, Weight.NOTE, what, f"return {values}", source)


def verifier_refuses(refusal: VerifierRefusal, source: str) -> Reason:
    """What this verifier refuses; newer ones may not."""
    what, remedy = _REFUSALS[refusal]
    return Reason(ReasonKind[refusal.name], Weight.NOTE, what, remedy, source)


_REFUSALS = {
    VerifierRefusal.MAP_VALUE: (
        "a helper is given a key or value that is in the value of a map, and this kernel takes none from there",
        "copy it to a variable on the stack",
    ),
    VerifierRefusal.VARIABLE_STACK: (
        "the program accesses its stack at an offset that varies, and this kernel takes fixed offsets only",
        "keep the buffer in a map of one element, such as a per-CPU array",
    ),
    VerifierRefusal.UNWRITTEN_STACK: (
        "bytes of the stack are read that were never written, such as padding or a buffer of which a helper may fill a "
        'part, and this kernel refuses that ("invalid indirect read from stack")',
        "initialize the whole variable, with its padding: __builtin_memset(&variable, 0, sizeof(variable))",
    ),
    VerifierRefusal.BEYOND_STACK: (
        "a helper is given a key, a value or a buffer on the stack that may end beyond the variable",
        "give the variable the size that the map has, or limit the size: `size &= 63`",
    ),
    VerifierRefusal.LOST_POINTER: (
        "clang keeps the address of space in a ring buffer on the stack, and this kernel loses it there",
        "use fewer variables while the space is reserved, or bpf_ringbuf_output()",
    ),
    VerifierRefusal.EMPTY_BUFFER: (
        "the size that a helper is given for its buffer may be 0, and the helper takes no such buffer",
        "have clang keep the check that it is not: `if (size & 0xff) ...`, or asm volatile between check and call",
    ),
    VerifierRefusal.CONTEXT_PASSED: (
        "a helper is given a key, a value or a buffer that is in the program's context, and takes none from there",
        "copy it to a variable on the stack",
    ),
}
"""What is wrong, and what to do. The reason for a refusal has a kind of the same name."""


def insns_missing(insns: InsnSet, source: str, weight: Weight) -> Reason:
    what = f"this kernel does not know {insns.value}"
    match insns:
        case InsnSet.JUMP32 | InsnSet.SHIFT32:
            remedy = "compile with -mcpu=v2"
        case InsnSet.V4:
            remedy = "compile with -mcpu=v3"
        case _ if weight is Weight.FAILS:
            remedy = "a guard does not help: leave it out, or put it into a program of its own"
        case _:
            remedy = "guard it"
    return Reason(ReasonKind.INSN_MISSING, weight, what, remedy, source)


def too_long(length: int, limit: int) -> Reason:
    what = f"with everything that it calls it has {length} instructions, and this kernel takes at most {limit}"
    return Reason(ReasonKind.TOO_LONG, Weight.FAILS, what, "split it up with tail calls")


def subprograms_missing(name: str) -> Reason:
    what = f"it calls {name}(), and this kernel runs no program that calls functions of its own"
    return Reason(ReasonKind.SUBPROGRAMS_MISSING, Weight.FAILS, what, "inline it with __always_inline")


def loops_missing(source: str) -> Reason:
    what = "it has a loop, and this kernel allows none"
    return Reason(ReasonKind.LOOPS_MISSING, Weight.FAILS, what, "have clang unroll it with #pragma unroll", source)


def global_pointer(name: str) -> Reason:
    what = f"the global function {name}() takes a pointer that is not the context, and this kernel is too old for that"
    return Reason(ReasonKind.GLOBAL_POINTER, Weight.FAILS, what, "declare it static")


def tail_call_refused(source: str) -> Reason:
    what = "this kernel allows no tail calls in programs that have subprograms"
    return Reason(ReasonKind.TAIL_CALL_REFUSED, Weight.NOTE, what, "inline the functions with __always_inline", source)


def map_flag_missing(definition: MapDef, flag: int) -> Reason:
    what = f"map {definition.name} has the flag BPF_F_{uapi.MapFlag(flag).name}, which this kernel does not know"
    return Reason(ReasonKind.MAP_FLAG_MISSING, Weight.FAILS, what, "leave it out, or turn off the map's autocreate")


def map_not_for_helper(name: str, map_type: int, number: int, allowed: Collection[int], source: str) -> Reason:
    """`allowed` are the helpers that take such a map, where only some do."""
    called = f"{uapi.helper_name(number)}()"
    what = f"every kernel refuses to pass map {name}, a {uapi.map_type_name(map_type)}, to {called}"
    remedy = f"{called} takes another type of map"
    if allowed:
        helpers = " and ".join(f"{uapi.helper_name(one)}()" for one in sorted(allowed))
        remedy = f"such a map is for {helpers} alone"
    return Reason(ReasonKind.MAP_HELPER, Weight.NOTE, what, remedy, source, on_any_kernel=True)


def map_values_too_wide(definition: MapDef, width: int) -> Reason:
    kind = uapi.map_type_name(definition.type)
    size = definition.value_size
    what = f"map {definition.name} has values of {size} bytes, and this kernel takes only {width} in a {kind}"
    return Reason(ReasonKind.MAP_VALUES_TOO_WIDE, Weight.FAILS, what, f"declare values of {width} bytes")


def inner_map_refused(definition: MapDef) -> Reason:
    what = (
        f"libbpf names the inner map that is declared for {definition.name} with a dot ({definition.name}.inner), and "
        "this kernel allows none in names"
    )
    return Reason(ReasonKind.INNER_MAP_REFUSED, Weight.FAILS, what, "turn off the map's autocreate there")


def callbacks_missing(name: str) -> Reason:
    what = f"subprogram {name} is passed to a helper, and this kernel knows no helper that calls subprograms"
    return Reason(ReasonKind.CALLBACKS_MISSING, Weight.FAILS, what, "put what uses it into a program of its own")


def kconfig_unknown(name: str, *, is_needed: bool) -> Reason:
    what = f"{name} is read from the running machine's /proc/config.gz or /boot/config-*; its object needs one of them"
    if not is_needed:
        return Reason(ReasonKind.KCONFIG_UNKNOWN, Weight.NOTE, what)
    what += f", and that it sets {name}"
    return Reason(ReasonKind.KCONFIG_UNKNOWN, Weight.CONDITIONAL, what, "declare it __weak")


def refused_by_libbpf(what: str, remedy: str) -> Reason:
    what = f"libbpf refuses the object: {what}"
    return Reason(ReasonKind.LIBBPF_REFUSES, Weight.FAILS, what, remedy, on_any_kernel=True)


def refused_by_this_libbpf(version: str, log: str, *, is_the_wheels: bool) -> Reason:
    if is_the_wheels:
        what = f"libbpf {version}, which the wheel brings, does not open the object: {log}"
        return Reason(ReasonKind.LIBBPF_REFUSES, Weight.FAILS, what, on_any_kernel=True)
    what = f"libbpf {version} does not open the object: {log}"
    return Reason(ReasonKind.LIBBPF_REFUSES, Weight.CONDITIONAL, what, "another version may", on_any_kernel=True)


def libbpf_too_old(since: tuple[int, int], what: str, wheels: tuple[int, int] | None) -> Reason:
    """`wheels` is the version that the wheel brings, or None."""
    needed = "{}.{}".format(*since)
    what = f"libbpf before {needed} does not know {what}, and refuses to load it"
    if wheels is not None:
        what += ", and the wheel brings {}.{}".format(*wheels)
        remedy = f'set libbpf = "system", if all hosts have libbpf {needed} or newer'
        return Reason(ReasonKind.LIBBPF_TOO_OLD, Weight.FAILS, what, remedy, on_any_kernel=True)
    own = own_version()
    remedy = f"the hosts need libbpf {needed} or newer"
    if own is not None and own >= since:
        remedy = 'let the wheel bring a newer one: libbpf = "bundle"'
    return Reason(ReasonKind.LIBBPF_TOO_OLD, Weight.CONDITIONAL, what, remedy, on_any_kernel=True)


def map_unsized(definition: MapDef, lacking: Sequence[str]) -> Reason:
    what = f"map {definition.name} has no {' and no '.join(lacking)}"
    remedy = "nothing of its object loads until the application sets what is missing"
    return Reason(ReasonKind.MAP_UNSIZED, Weight.CONDITIONAL, what, remedy, on_any_kernel=True)


def no_inner_map(definition: MapDef, *, is_used: bool) -> Reason:
    what = f"map {definition.name} is a {uapi.map_type_name(definition.type)} without an inner map"
    remedy = "declare one by __array(values, struct ...)"
    if is_used:
        what += ": nothing of its object loads until the application sets one"
        return Reason(ReasonKind.MAP_UNSIZED, Weight.CONDITIONAL, what, remedy, on_any_kernel=True)
    what += ", and no program uses it: kernels refuse to create it"
    return Reason(ReasonKind.MAP_REFUSED, Weight.FAILS, what, f"{remedy}, or remove the map", on_any_kernel=True)


def map_refused(definition: MapDef, what: str, remedy: str) -> Reason:
    what = f"every kernel refuses map {definition.name}: {what}"
    return Reason(ReasonKind.MAP_REFUSED, Weight.FAILS, what, remedy, on_any_kernel=True)


def field_not_for_tracing(name: str, field: str, section: str) -> Reason:
    what = f'{name} holds a struct {field}, and this kernel lets no SEC("{section}") program use such a map'
    return Reason(ReasonKind.MAP_FIELD, Weight.FAILS, what, "use another map there, or atomic operations")


def field_unknown(number: int, field: str, source: str) -> Reason:
    what = f"{uapi.helper_name(number)}() needs a struct {field}, and no map of the program holds one that kernels know"
    remedy = (
        f"declare struct {field} as a member of the value of a BPF_MAP_TYPE_HASH or BPF_MAP_TYPE_ARRAY, whose key (an "
        "int for an array) and value are given by __type()"
    )
    return Reason(ReasonKind.MAP_FIELD, Weight.NOTE, what, remedy, source, on_any_kernel=True)


def map_not_for_sleepers(name: str, map_type: int) -> Reason:
    kind = uapi.map_type_name(map_type)
    what = f"it may sleep, and this kernel lets no such program use map {name}, a {kind}"
    return Reason(ReasonKind.SLEEPABLE, Weight.FAILS, what, "use a hash, an array or a ring buffer")


def helper_sleeps(number: int, source: str) -> Reason:
    called = f"{uapi.helper_name(number)}()"
    what = f"{called} may sleep, and kernels keep it from programs that may not"
    remedy = "let the section say that the program may, as uprobe.s/ or fentry.s/ do, or use bpf_probe_read_user()"
    return Reason(ReasonKind.SLEEPABLE, Weight.NOTE, what, remedy, source, on_any_kernel=True)


def callback_not_static(name: str, source: str) -> Reason:
    what = f"{name}() is passed to a helper, and kernels take no global function there"
    return Reason(ReasonKind.GLOBAL_FUNCTION, Weight.NOTE, what, "declare it static", source, on_any_kernel=True)


def two_cgroup_storages(first: str, second: str, map_type: int) -> Reason:
    what = f"it uses {first} and {second}, and kernels allow one {uapi.map_type_name(map_type)} in a program"
    return Reason(ReasonKind.MAP_REFUSED, Weight.FAILS, what, "put both values into one struct", on_any_kernel=True)


def indirect_call(source: str) -> Reason:
    what = "it calls a function through a pointer, which no kernel can"
    remedy = "call it by its name, in a switch"
    return Reason(ReasonKind.INSN_MISSING, Weight.FAILS, what, remedy, source, on_any_kernel=True)


def calls_too_deep(depth: int | None, limit: int) -> Reason:
    calls = f"{depth} functions deep" if depth else "in a circle"
    what = f"its functions call each other {calls}, and kernels allow a depth of {limit}"
    remedy = "use bpf_loop() or a loop" if depth is None else "have some of them inlined, with __always_inline"
    return Reason(ReasonKind.CALL_DEPTH, Weight.FAILS, what, remedy, on_any_kernel=True)


def returns_nothing() -> Reason:
    what = "it returns nothing, and kernels refuse a program that sets no return value"
    return Reason(ReasonKind.RETURN_VALUE, Weight.FAILS, what, "declare it as int, and return 0", on_any_kernel=True)


def global_function_refused(name: str, what: str, source: str) -> Reason:
    what = f"the global function {name}() {what}, by which this kernel cannot check it"
    return Reason(ReasonKind.GLOBAL_FUNCTION, Weight.NOTE, what, "declare it static", source)


def numa_node(definition: MapDef) -> Reason:
    what = f"map {definition.name} asks for memory of NUMA node {definition.numa_node}, which not every machine has"
    remedy = "leave numa_node out, or have the application set it"
    return Reason(ReasonKind.NUMA_NODE, Weight.CONDITIONAL, what, remedy, on_any_kernel=True)


def map_access_refused(name: str, flag: str, called: int | None, source: str) -> Reason:
    """`called` is the helper that does it; None for a plain load or store."""
    reads = flag == "BPF_F_WRONLY_PROG"
    verb, other = ("reads from", "writing it") if reads else ("writes to", "reading it")
    what = f"every kernel refuses a program that {verb} {'map ' * bool(flag)}{name}"
    what += f" by {uapi.helper_name(called)}()" if called is not None else ""
    remedy = "const variables and kconfig externs are for reading alone: declare the variable without const"
    if flag:
        what += f", which has {flag}"
        remedy = f"with that flag programs are for {other} alone: leave it out"
    return Reason(ReasonKind.MAP_ACCESS, Weight.NOTE, what, remedy, source, on_any_kernel=True)


def pointer_lost(section: str, variable: str, source: str) -> Reason:
    what = f"{variable} in {section} is initialized with pointers, which nothing fills in: the program reads zeros"
    remedy = "use arrays of characters (char names[][16]), a switch, or have the application set them"
    return Reason(ReasonKind.POINTER_LOST, Weight.NOTE, what, remedy, source, on_any_kernel=True)


def struct_ops_unused(program: Function) -> Reason:
    what = f"no struct_ops map refers to {program.name}, and libbpf does not load such programs"
    remedy = 'name it in a variable in SEC(".struct_ops.link")'
    return Reason(ReasonKind.STRUCT_OPS_UNUSED, Weight.FAILS, what, remedy, on_any_kernel=True)


def struct_ops_missing(name: str) -> Reason:
    what = f"this kernel has no struct_ops {name} ({MODULE_NOTE})"
    return Reason(ReasonKind.STRUCT_OPS_MISSING, Weight.FAILS, what, "put the struct_ops map into an object of its own")


def struct_ops_link_missing(name: str) -> Reason:
    what = f"a struct_ops {name} is in .struct_ops.link, and this kernel knows no links of them"
    return Reason(ReasonKind.STRUCT_OPS_MISSING, Weight.FAILS, what, 'put it into SEC(".struct_ops")')


def struct_ops_member_missing(struct: str, member: str) -> Reason:
    what = (
        f"this kernel's struct {struct} has no {member}, so libbpf before 1.5 refuses the object; "
        f"newer versions leave the member out, unless it is a number other than 0"
    )
    return Reason(ReasonKind.STRUCT_OPS_MISSING, Weight.CONDITIONAL, what, "declare no more of the struct than you set")


def struct_ops_member_differs(struct: str, member: str) -> Reason:
    what = f"{member} of this kernel's struct {struct} has another kind or size, so libbpf refuses the object"
    return Reason(ReasonKind.STRUCT_OPS_MISSING, Weight.FAILS, what, "declare it as the kernel has it")


def global_data_missing(source: str) -> Reason:
    what = "this kernel has no global variables"
    return Reason(ReasonKind.GLOBAL_DATA_MISSING, Weight.NOTE, what, "keep the value in an array map", source)


def global_data_guarded(source: str) -> Reason:
    what = (
        "this kernel has no global variables, and refuses even a guarded use of one unless libbpf takes it out of the "
        "program, as it does before 1.4"
    )
    remedy = "put what uses them into a program of its own"
    return Reason(ReasonKind.GLOBAL_DATA_GUARDED, Weight.CONDITIONAL, what, remedy, source)


def kconfig_refused(name: str, source: str) -> Reason:
    what = f"{name} is a global variable to the kernel, and this kernel has none; a guard does not help"
    remedy = "put what reads it into a program of its own"
    return Reason(ReasonKind.GLOBAL_DATA_MISSING, Weight.FAILS, what, remedy, source)


def optional(program: Function, *, is_declared: bool) -> Reason:
    what = f'SEC("{program.section}") is optional: it is not loaded unless the application asks for it'
    if is_declared:
        what = "it is optional: it is left out where it cannot be loaded"
    return Reason(ReasonKind.OPTIONAL, Weight.NOTE, what)


def alternative(group: str, stand_in: str) -> Reason:
    return Reason(ReasonKind.ALTERNATIVE, Weight.NOTE, f"{stand_in} of the group {group} is used instead")


def reached(
    reason: Reason, weight: Weight, exposure: Exposure, *, as_built: Exposure | None, is_guarded: bool
) -> Reason:
    """A hazard's reason, with how the verifier reaches it.

    `as_built` is how it would reach it if the application set no globals; None if it would not.
    """
    what = reason.what
    if is_guarded:
        what += "; it is guarded, but this kernel's verifier is too old to follow the guard"
    if exposure.conditions:
        names = ", ".join(sorted(exposure.conditions))
        what += f"; whether it is reached depends on {names}"
        if as_built is None or as_built.certain:
            what += f" (with the initial values of globals it {'is not' if as_built is None else 'is'})"
    if what == reason.what and weight == reason.weight:
        return reason
    # replace() takes five times as long, and a large program has thousands of reasons
    return Reason(reason.kind, weight, what, reason.remedy, reason.source, reason.nearest, reason.on_any_kernel)
