"""The portability report as data: `Report` > `KernelReport` > `ProgramVerdict` > `Reason`.

Input: nothing. Output: the types that `object_check.py` fills in, and `PortabilityError`, which carries a report.
`report.py` works out what is shown of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.identity import Kernel


class Verdict(Enum):
    """What happens to a program on a kernel if libbpf loads it, and no other program of its object, as built.

    From best to worst.
    """

    LOADS = "loads"
    """It loads, with the kernel's own BTF and with an embedded one."""
    NEEDS_KERNEL_BTF = "needs-kernel-btf"
    """It loads if the running kernel exposes its own BTF; no embedded BTF helps."""
    CONDITIONAL = "conditional"
    """Whether it loads depends on what the application sets, on the kernel's configuration or on libbpf's version."""
    CANNOT_ATTACH = "cannot-attach"
    """It loads, but can never be attached where its section says."""
    FAILS = "fails"
    """It does not load."""

    @property
    def is_failure(self) -> bool:
        """Whether the program is of no use there: policies, exit statuses and alternatives treat these alike."""
        return self in (Verdict.CANNOT_ATTACH, Verdict.FAILS)


class Weight(IntEnum):
    """What a reason does to the verdict; the heaviest decides."""

    NOTE = 0
    """Nothing: it may matter after the load, or BTF does not say for sure."""
    KERNEL_BTF = 1
    CONDITIONAL = 2
    CANNOT_ATTACH = 3
    FAILS = 4

    @property
    def verdict(self) -> Verdict:
        """The verdict of a program whose heaviest reason has this weight."""
        return list(Verdict)[self]


class ReasonKind(Enum):
    """Stable identifiers of reasons."""

    CO_RE_MISSING = "co-re-missing"
    """The kernel lacks the field, type or enumerator of a CO-RE relocation whose instruction is reached."""
    CO_RE_SIZE = "co-re-size"
    """A field's size differs in a way that its load or store cannot be adjusted to."""
    CO_RE_REFUSED = "co-re-refused"
    """libbpf refuses the object: the relocation is ambiguous on this kernel, or malformed."""
    MINIMIZED_DIFFERS = "minimized-differs"
    """A relocation resolves differently against the minimized BTF: a fault of hatch-bpf."""
    TYPE_ID_TARGET = "type-id-target"
    """The program uses a type's id in the kernel's BTF, which an embedded BTF doesn't have."""
    HELPER_MISSING = "helper-missing"
    HELPER_OF_TRACING = "helper-of-tracing"
    """The kernel has the helper only for tracing programs."""
    KFUNC_MISSING = "kfunc-missing"
    KSYM_MISSING = "ksym-missing"
    KSYM_UNKNOWN = "ksym-unknown"
    """BTF doesn't list all kernel symbols; /proc/kallsyms of the running kernel decides."""
    MAP_TYPE_MISSING = "map-type-missing"
    LIBBPF_REFUSES = "libbpf-refuses"
    """libbpf does not open the object, or refuses it before it asks the kernel for anything."""
    MAP_UNSIZED = "map-unsized"
    """The application has to give a map its size, or its inner map, before the load."""
    MAP_REFUSED = "map-refused"
    """Every kernel refuses to create a map that is defined so."""
    MAP_FLAG_MISSING = "map-flag-missing"
    MAP_HELPER = "map-helper"
    """A map is passed to a helper that takes no map of this type on any kernel."""
    MAP_ACCESS = "map-access"
    """The program writes to a map that it may only read, or reads one that it may only write."""
    MAP_FIELD = "map-field"
    """The values of a map have a lock or timer, and the kernel lets no such program use it, or does not know it."""
    GLOBAL_FUNCTION = "global-function"
    """The kernel cannot check a global function by its declaration alone."""
    SLEEPABLE = "sleepable"
    """A program that may sleep uses a map that such programs may not, or one that may not sleep calls what may."""
    CALL_DEPTH = "call-depth"
    """Its functions call each other deeper than any kernel allows."""
    NUMA_NODE = "numa-node"
    """A map's memory is asked for on a NUMA node that not every machine has."""
    RETURN_VALUE = "return-value"
    """The program returns a number that the kernel does not take from programs of its section."""
    MAP_VALUE = "map-value"
    """A helper is given a key or value that is in a map's value, which older kernels do not take from there."""
    VARIABLE_STACK = "variable-stack"
    """The program accesses its stack at an offset that varies, and the kernel is too old for that."""
    UNWRITTEN_STACK = "unwritten-stack"
    """The program reads bytes of its stack that it did not write, or passes them to a helper."""
    BEYOND_STACK = "beyond-stack"
    """A helper is given memory on the stack that may end beyond the stack."""
    LOST_POINTER = "lost-pointer"
    """The address of space in a ring buffer is kept on the stack, where the kernel loses it."""
    EMPTY_BUFFER = "empty-buffer"
    """The size of a helper's buffer may be 0, and the helper takes no empty one."""
    CONTEXT_PASSED = "context-passed"
    """A helper is given a key, a value or a buffer that is in the program's context."""
    MAP_VALUES_TOO_WIDE = "map-values-too-wide"
    """The kernel takes smaller values only in maps of this type."""
    INNER_MAP_REFUSED = "inner-map-refused"
    """The kernel refuses the name that libbpf gives to a declared inner map."""
    STRUCT_OPS_MISSING = "struct-ops-missing"
    GLOBAL_DATA_MISSING = "global-data-missing"
    """The kernel has no maps for global variables."""
    GLOBAL_DATA_GUARDED = "global-data-guarded"
    """It has none, and the program uses them behind a guard only, which newer versions of libbpf make useless."""
    SECTION_UNKNOWN = "section-unknown"
    PROGRAM_TYPE_MISSING = "program-type-missing"
    PROGRAM_FLAG_MISSING = "program-flag-missing"
    ATTACH_TYPE_MISSING = "attach-type-missing"
    ATTACH_UNSUPPORTED = "attach-unsupported"
    """It loads, but this kernel cannot attach its kind on its architecture."""
    ATTACH_TARGET_UNSET = "attach-target-unset"
    """The application has to name the target before the load."""
    LIBBPF_TOO_OLD = "libbpf-too-old"
    """Only newer versions of libbpf know the section."""
    STRUCT_OPS_UNUSED = "struct-ops-unused"
    """No struct_ops map refers to the program."""
    POINTER_LOST = "pointer-lost"
    """A global variable is initialized with a pointer, and is zero when the program runs."""
    ATTACH_TARGET_MISSING = "attach-target-missing"
    ATTACH_TARGET_UNKNOWN = "attach-target-unknown"
    """BTF does not list the target, which a module may have, or does not say whether it can be attached to."""
    ARGUMENT_MISSING = "argument-missing"
    """A tracing program reads an argument that its target does not have on this kernel."""
    CONTEXT_FIELD_MISSING = "context-field-missing"
    """The program reads or writes a field of its context that is newer than the kernel."""
    CONTEXT_FIELD_REFUSED = "context-field-refused"
    """The program reads or writes a field of its context that is not for programs of its kind."""
    CONTEXT_MOVED = "context-moved"
    """The program reads its context through a pointer that it has moved, as for memcpy() of a CO-RE field."""
    LICENSE = "license"
    """It uses something that needs a GPL-compatible license."""
    INSN_MISSING = "insn-missing"
    """The program has an instruction that is newer than the kernel."""
    TOO_LONG = "too-long"
    """It has more instructions than the kernel allows."""
    SUBPROGRAMS_MISSING = "subprograms-missing"
    """It calls a function of its own, and the kernel runs only programs without any."""
    LOOPS_MISSING = "loops-missing"
    """It has a loop, and the kernel allows none."""
    GLOBAL_POINTER = "global-pointer"
    """A global function takes a pointer, and the kernel cannot check such functions."""
    TAIL_CALL_REFUSED = "tail-call-refused"
    """A program with subprograms does a tail call, and the kernel allows only one of the two."""
    CALLBACKS_MISSING = "callbacks-missing"
    """The kernel has no helpers that call subprograms."""
    KCONFIG_UNKNOWN = "kconfig-unknown"
    """libbpf reads the running kernel's configuration from a file, which has to be there."""
    KERNEL_BTF = "kernel-btf"
    """The kind of program, or an extern of its object, needs the kernel's own BTF."""
    KERNEL_WITHOUT_BTF = "kernel-without-btf"
    """The program needs a kernel that was built with BTF, whether or not it can be seen. This one may not be."""
    OPTIONAL = "optional"
    """SEC("?...") or the option `optional`: it may be left out of the load, so it breaks no build."""
    ALTERNATIVE = "alternative"
    """Another member of its group of alternatives is used instead."""


@dataclass(frozen=True)
class Reason:
    """One thing that a verdict rests on."""

    kind: ReasonKind
    weight: Weight
    what: str
    """What is wrong or noteworthy. The kernel is `this kernel`, so that kernels with the same reasons compare equal."""
    remedy: str = ""
    """What to do about it; empty for notes."""
    source: str = ""
    """`file:line`, where one line of source is to blame."""
    nearest: str = field(default="", compare=False)
    """The most similar name that the kernel has. If no kernel has the name itself, it is perhaps a typo of this one."""
    on_any_kernel: bool = False
    """Whether it holds on every kernel, so that leaving out kernels does not help."""

    @property
    def message(self) -> str:
        return f"{self.what}: {self.remedy}" if self.remedy else self.what


@dataclass(frozen=True)
class ProgramVerdict:
    object: str
    """Path of the object, as it was given."""
    program: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    """The heaviest first."""
    is_optional: bool = False
    """SEC("?..."), or named in the option `optional`."""
    group: str = ""
    """The group of alternatives it is in; empty for none."""
    stand_in: str = ""
    """If it fails or cannot be attached, the member of its group that is used instead; empty if there is none."""

    @property
    def at_load(self) -> Verdict:
        """The verdict on the load alone, which says nothing of the attach."""
        if self.verdict is not Verdict.CANNOT_ATTACH:
            return self.verdict
        return decide([reason for reason in self.reasons if reason.weight is not Weight.CANNOT_ATTACH])[0]

    @property
    def breaks_build(self) -> bool:
        return self.verdict.is_failure and not self.is_optional and not self.stand_in


@dataclass(frozen=True)
class KernelReport:
    kernel: Kernel
    programs: tuple[ProgramVerdict, ...]


@dataclass(frozen=True)
class Report:
    kernels: tuple[KernelReport, ...]

    @property
    def exit_status(self) -> int:
        """1 if a program that isn't optional fails or cannot be attached somewhere, and nothing is used instead."""
        return int(any(program.breaks_build for kernel in self.kernels for program in kernel.programs))


class PortabilityError(HatchBpfError):
    """A program is of no use on a kernel of the matrix, and `on-unportable` says that this is an error."""

    def __init__(self, message: str, report: Report) -> None:
        self.report = report
        super().__init__(message)


def joined(reports: Iterable[Report]) -> Report:
    """The reports of a project's packages as one: each kernel once, with the programs of all packages."""
    programs: dict[Kernel, list[ProgramVerdict]] = {}
    for report in reports:
        for kernel in report.kernels:
            programs.setdefault(kernel.kernel, []).extend(kernel.programs)
    return Report(tuple(KernelReport(kernel, tuple(found)) for kernel, found in programs.items()))


def decide(reasons: list[Reason]) -> tuple[Verdict, tuple[Reason, ...]]:
    """The verdict that follows from reasons, and the reasons in order, each once."""
    unique = list(dict.fromkeys(reasons))
    unique.sort(key=lambda reason: -reason.weight)
    heaviest = max((reason.weight for reason in unique), default=Weight.NOTE)
    return heaviest.verdict, tuple(unique)
