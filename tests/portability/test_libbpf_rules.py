"""What libbpf refuses whatever the kernel, and maps that every kernel refuses: as libbpf and the kernel say here."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import ObjectError
from hatch_bpf.kernels.identity import host
from hatch_bpf.portability.libbpf_open import refusals_of_libbpf
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.text import render_warnings
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from hatch_bpf.support import own_libbpf
from tests.common import c_programs, needs
from tests.common.libbpf_load import Libbpf
from tests.common.on_kernels import KernelTypes, check_kernel, check_on

PRELUDE = """
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name
#define __array(name, value) typeof(value) *name[]
#define __ulong(name, value) enum { __unique_##name = value } name
#define __kconfig __attribute__((section(".kconfig")))
#define __ksym __attribute__((section(".ksyms")))
#define __weak __attribute__((weak))
#define noinline __attribute__((noinline))
#define MAP(members) struct { members } m SEC(".maps")
static void *(*lookup)(void *, const void *) = (void *)1;
static long (*tail_call)(void *, void *, unsigned) = (void *)12;
"""
PLAIN = 'SEC("xdp") int f(void *ctx) { return 2; }'
USES = 'SEC("xdp") int f(void *ctx) { int key = 0; return lookup(&m, &key) ? 2 : 1; }'
JUMPS = 'SEC("xdp") int f(void *ctx) { tail_call(ctx, &m, 0); return 2; }'
INNER = "struct inner { __uint(type, 2); __uint(max_entries, 1); __type(key, int); __type(value, int); };"
OUTER = "__uint(type, 12); __uint(max_entries, 1); __type(key, int);"

REFUSED = {
    "two sizes of its keys": "MAP(__uint(type, 1); __uint(max_entries, 1); __type(key, long); __uint(key_size, 4);"
    " __type(value, int);); " + USES,
    "two sizes of its values": "MAP(__uint(type, 1); __uint(max_entries, 1); __type(key, int); __type(value, long);"
    " __uint(value_size, 4);); " + USES,
    "pinning 7": "MAP(__uint(type, 2); __uint(max_entries, 1); __type(key, int); __type(value, int);"
    " __uint(pinning, 7);); " + USES,
    "max_entries is declared with __ulong()": "MAP(__uint(type, 2); __ulong(max_entries, 1); __type(key, int);"
    " __type(value, int);); " + USES,
    "values of 8 bytes": INNER + "MAP(" + OUTER + " __uint(value_size, 8); __array(values, struct inner);); " + USES,
    "members behind `values`": INNER
    + 'struct { __uint(type, 12); __type(key, int); struct inner *values[0]; __uint(max_entries, 1); } m SEC(".maps");'
    + USES,
    "neither a map of maps nor a program array": INNER
    + "MAP(__uint(type, 2); __uint(max_entries, 1); __type(key, int); __array(values, struct inner);); "
    + USES,
    "`values` that are not maps": "MAP(" + OUTER + " __array(values, int (void *));); " + USES,
    "`values` that are not functions": INNER
    + "MAP(__uint(type, 3); __uint(max_entries, 1); __type(key, int); __array(values, struct inner);); "
    + JUMPS,
    "`values` of a fixed length": INNER + "MAP(" + OUTER + " struct inner *values[2];); " + USES,
    "is an inner map and has `pinning`": "struct inner { __uint(type, 2); __uint(max_entries, 1); __type(key, int);"
    " __type(value, int); __uint(pinning, 0); }; MAP(" + OUTER + " __array(values, struct inner);); " + USES,
    "keys of 8 bytes": INNER
    + 'struct inner one SEC(".maps"); struct { __uint(type, 13); __uint(max_entries, 1); __type(key, long);'
    ' __array(values, struct inner); } m SEC(".maps") = { .values = { [0] = &one } }; ' + USES,
    "initialized at 3": INNER
    + 'struct inner one SEC(".maps"); struct { __uint(type, 12); __uint(max_entries, 2); __type(key, int);'
    ' __array(values, struct inner); } m SEC(".maps") = { .values = { [3] = &one } }; ' + USES,
    "whose value_size is not that": INNER
    + 'struct { __uint(type, 2); __uint(max_entries, 1); __type(key, int); __type(value, long); } one SEC(".maps");'
    " struct { __uint(type, 12); __uint(max_entries, 2); __type(key, int); __array(values, struct inner); }"
    ' m SEC(".maps") = { .values = { [0] = (void *)&one } }; ' + USES,
    "initialized with sub, which is no program": "noinline int sub(void *ctx) { return 1; }"
    " struct { __uint(type, 3); __uint(max_entries, 2); __uint(key_size, 4); __array(values, int (void *)); }"
    ' m SEC(".maps") = { .values = { [0] = (void *)&sub } }; ' + JUMPS,
    "initialized with a static function": "static noinline int sub(void *ctx) { return 1; }"
    " struct { __uint(type, 3); __uint(max_entries, 2); __uint(key_size, 4); __array(values, int (void *)); }"
    ' m SEC(".maps") = { .values = { [0] = (void *)&sub } }; ' + JUMPS,
    'program g in SEC("tc") is static': 'SEC("tc") static int g(void *ctx) { return 0; } ' + PLAIN,
    "as they were before libbpf 1.0": 'struct { unsigned a, b, c, d, e; } old SEC("maps") = { 2, 4, 4, 1 }; ' + PLAIN,
    "its section version has 8 bytes": 'long _version SEC("version") = 1; ' + PLAIN,
    "extern thing is in section other": 'extern int thing SEC("other"); SEC("xdp") int f(void *ctx) { return thing; }',
    "other() is declared, and no source": 'int other(void); SEC("xdp") int f(void *ctx) { return other(); }',
    "thing is declared, and no source": 'extern int thing; SEC("xdp") int f(void *ctx) { return thing; }',
    "extern NAME is no option": 'extern int NAME __kconfig; SEC("xdp") int f(void *ctx) { return NAME; }',
    "extern NAME2 is no option": 'extern int NAME2 __kconfig __weak; SEC("xdp") int f(void *ctx) { return NAME2; }',
    "extern LINUX_NEW is no option": "extern int LINUX_NEW __kconfig;"
    ' SEC("xdp") int f(void *ctx) { return LINUX_NEW; }',
    "extern CONFIG_S is of a type": "struct s { int a; }; extern struct s CONFIG_S __kconfig __weak;"
    ' SEC("xdp") int f(void *ctx) { return CONFIG_S.a; }',
    "extern CONFIG_E is of a type": "enum e { A }; extern enum e CONFIG_E __kconfig __weak;"
    ' SEC("xdp") int f(void *ctx) { return CONFIG_E; }',
    "extern CONFIG_P is of a type": "extern int *CONFIG_P __kconfig __weak;"
    ' SEC("xdp") int f(void *ctx) { return CONFIG_P != 0; }',
    "extern CONFIG_A is of a type": "extern int CONFIG_A[2] __kconfig __weak;"
    ' SEC("xdp") int f(void *ctx) { return CONFIG_A[1]; }',
    "LINUX_KERNEL_VERSION is a number that": "extern short LINUX_KERNEL_VERSION __kconfig;"
    ' SEC("xdp") int f(void *ctx) { return LINUX_KERNEL_VERSION; }',
    "LINUX_HAS_BPF_COOKIE is a number that": "extern char LINUX_HAS_BPF_COOKIE[4] __kconfig;"
    ' SEC("xdp") int f(void *ctx) { return LINUX_HAS_BPF_COOKIE[0]; }',
    "is a function in .kconfig": "extern int CONFIG_F(void) __kconfig;"
    ' SEC("xdp") int f(void *ctx) { return CONFIG_F(); }',
    "calls or names g, which is a program": 'SEC("tc") noinline int g(void *ctx) { volatile int x = 1; return x; }'
    ' SEC("xdp") int f(void *ctx) { return g(ctx); }',
    "f() has no SEC()": "int f(void *ctx) { return 0; }",
    "f() has no SEC(), so": "static __attribute__((used)) int f(void *ctx) { return 0; }",
    'did you mean SEC("kprobe/vfs_read")': 'SEC("kporbe/vfs_read") int f(void *ctx) { return 0; }',
    "no struct_ops map refers to f": 'SEC("struct_ops/f") int f(void *ctx) { return 0; } int other = 1;',
    # maps
    "is a BPF_MAP_TYPE_ARRAY_OF_MAPS without an inner map": "MAP(" + OUTER + " __type(value, int);); " + PLAIN,
    "a BPF_MAP_TYPE_RINGBUF has no values": "MAP(__uint(type, 27); __uint(max_entries, 4096);"
    " __type(value, long);); " + PLAIN,
    "a BPF_MAP_TYPE_RINGBUF has no keys": "MAP(__uint(type, 27); __uint(max_entries, 4096); __type(key, int);); "
    + PLAIN,
    "a BPF_MAP_TYPE_QUEUE has no keys": "MAP(__uint(type, 22); __uint(max_entries, 1); __type(key, int);"
    " __type(value, int);); " + PLAIN,
    "the keys of a BPF_MAP_TYPE_PERCPU_ARRAY are indices": "MAP(__uint(type, 6); __uint(max_entries, 1);"
    " __type(key, char); __type(value, int);); " + PLAIN,
    "values of 1 to 32768 bytes, not 40000": "MAP(__uint(type, 6); __uint(max_entries, 1); __type(key, int);"
    " __uint(value_size, 40000);); " + PLAIN,
    "keys of 5 to 260 bytes, not 4": "MAP(__uint(type, 11); __uint(max_entries, 1); __type(key, int);"
    " __type(value, int);"
    " __uint(map_flags, 1);); " + PLAIN,
    "a BPF_MAP_TYPE_LPM_TRIE needs the flag BPF_F_NO_PREALLOC": "MAP(__uint(type, 11); __uint(max_entries, 1);"
    " __type(key, long); __type(value, int);); " + PLAIN,
    "values of 8 to 4064 in steps of 8 bytes, not 12": "MAP(__uint(type, 7); __uint(max_entries, 1); __type(key, int);"
    " __uint(value_size, 12);); " + PLAIN,
    "stacks have at most 127 addresses, not 128": "MAP(__uint(type, 7); __uint(max_entries, 1); __type(key, int);"
    " __uint(value_size, 1024);); " + PLAIN,
    "values are structs of 32 bytes": "MAP(__uint(type, 7); __uint(max_entries, 1); __type(key, int);"
    " __uint(value_size, 8); __uint(map_flags, 32);); " + PLAIN,
    "a BPF_MAP_TYPE_TASK_STORAGE needs types": "MAP(__uint(type, 29); __uint(key_size, 4); __uint(value_size, 4);"
    " __uint(map_flags, 1);); " + PLAIN,
    "a BPF_MAP_TYPE_HASH takes no flag BPF_F_MMAPABLE": "MAP(__uint(type, 1); __uint(max_entries, 1); __type(key, int);"
    " __type(value, int); __uint(map_flags, 1024);); " + PLAIN,
    "a BPF_MAP_TYPE_LRU_HASH takes no flag BPF_F_NO_PREALLOC": "MAP(__uint(type, 9); __uint(max_entries, 1);"
    " __type(key, int); __type(value, int); __uint(map_flags, 1);); " + PLAIN,
    "takes no flag 0x200000": "MAP(__uint(type, 2); __uint(max_entries, 1); __type(key, int);"
    " __type(value, int); __uint(map_flags, 1 << 21);); " + PLAIN,
    "BPF_F_RDONLY and BPF_F_WRONLY exclude each other": "MAP(__uint(type, 1); __uint(max_entries, 1); __type(key, int);"
    " __type(value, int); __uint(map_flags, 24);); " + PLAIN,
    "a BPF_MAP_TYPE_ARENA needs the flag BPF_F_MMAPABLE": "MAP(__uint(type, 33); __uint(max_entries, 1);); " + PLAIN,
    "takes no map_extra of 0x3": "MAP(__uint(type, 1); __uint(max_entries, 1); __type(key, int); __type(value, int);"
    " __uint(map_extra, 3);); " + PLAIN,
    "a BPF_MAP_TYPE_PROG_ARRAY cannot be an inner map": "struct inner { __uint(type, 3); __uint(max_entries, 1);"
    " __uint(key_size, 4); __uint(value_size, 4); }; MAP(" + OUTER + " __array(values, struct inner);); " + USES,
    "values of 4 or 8 bytes, not 2": "MAP(__uint(type, 14); __uint(max_entries, 1); __type(key, int);"
    " __type(value, short);); " + PLAIN,
    "entries of 1 to 8192, not 100000": "MAP(__uint(type, 16); __uint(max_entries, 100000); __type(key, int);"
    " __type(value, int);); " + PLAIN,
    "keys have a type other than int": "struct k { int a; };"
    " MAP(__uint(type, 29); __type(key, struct k); __type(value, int); __uint(map_flags, 1);); " + PLAIN,
    "no machine has a NUMA node 1024": "MAP(__uint(type, 1); __uint(max_entries, 1); __type(key, int);"
    " __type(value, int); __uint(map_flags, 4); __uint(numa_node, 1024);); " + PLAIN,
    "keys of 8 or 16 bytes, not 4": "MAP(__uint(type, 19); __type(key, int); __type(value, int);); " + PLAIN,
}
"""Programs that never load, by what is said of them."""
TAKEN = {
    "pinned by name": "MAP(__uint(type, 2); __uint(max_entries, 1); __type(key, int); __type(value, int);"
    " __uint(pinning, 0);); " + USES,
    "one size twice": "MAP(__uint(type, 1); __uint(max_entries, 1); __type(key, int); __uint(key_size, 4);"
    " __type(value, int);); " + USES,
    "inner maps": INNER
    + 'struct inner one SEC(".maps"); struct { __uint(type, 12); __uint(max_entries, 2); __type(key, int);'
    ' __array(values, struct inner); } m SEC(".maps") = { .values = { [1] = &one } }; ' + USES,
    "tail calls": "int f(void *ctx);"
    " struct { __uint(type, 3); __uint(max_entries, 2); __uint(key_size, 4); __array(values, int (void *)); }"
    ' m SEC(".maps") = { .values = { [1] = (void *)&f } }; ' + JUMPS,
    "a weak virtual extern": 'extern int LINUX_NEW __kconfig __weak; SEC("xdp") int f(void *ctx) { return LINUX_NEW; }',
    "the kernel's version": "extern int LINUX_KERNEL_VERSION __kconfig;"
    ' SEC("xdp") int f(void *ctx) { return LINUX_KERNEL_VERSION > 5; }',
    "a global function": 'noinline int g(int x) { return x + 1; } SEC("xdp") int f(void *ctx) { return g(1); }',
    "a bloom filter": "MAP(__uint(type, 30); __uint(max_entries, 8); __type(value, int); __uint(map_extra, 3);); "
    + PLAIN,
    "task storage": "MAP(__uint(type, 29); __type(key, int); __type(value, int); __uint(map_flags, 1);); " + PLAIN,
    "a ring buffer": "MAP(__uint(type, 27); __uint(max_entries, 5000);); " + PLAIN,
    "a perf buffer": "MAP(__uint(type, 4); __uint(key_size, 4); __uint(value_size, 4);); " + PLAIN,
    "memory of the first NUMA node": "MAP(__uint(type, 1); __uint(max_entries, 1); __type(key, int);"
    " __type(value, int); __uint(map_flags, 4); __uint(numa_node, 0);); " + PLAIN,
    "build ids": "MAP(__uint(type, 7); __uint(max_entries, 1); __type(key, int); __uint(value_size, 4064);"
    " __uint(map_flags, 32);); " + PLAIN,
}
"""Their siblings that do load."""


def verdict_on_host(source: str, libbpf: tuple[int, int] | None = None) -> ProgramVerdict:
    btf = Btf(needs.host_btf().read_bytes(), source="host")
    obj = c_programs.model(PRELUDE + source)
    found = check_kernel(Checker([obj], libbpf=libbpf), KernelTypes(host(), btf)).programs
    return next(program for program in found if program.program == "f")


def loads(source: str) -> tuple[bool, str]:
    """Whether libbpf and the running kernel load the program `f`, and what libbpf says."""
    needs.root_bpf()
    try:
        tried = {
            loaded.program: loaded for loaded in needs.libbpf().load_each(c_programs.compile_bpf(PRELUDE + source))
        }
    except AssertionError as refused:
        return False, str(refused)
    # functions without SEC() are no programs for newer ones
    return "f" in tried and not tried["f"].error, tried["f"].log if "f" in tried else ""


@pytest.mark.parametrize("what", REFUSED)
def test_what_never_loads_fails(what: str) -> None:
    """With what is wrong, and a remedy other than to leave kernels out; and libbpf or the kernel refuses it here."""
    found = verdict_on_host(REFUSED[what])
    telling = [reason for reason in found.reasons if what in reason.message]
    assert telling, [reason.message for reason in found.reasons]
    assert found.verdict is Verdict.FAILS
    assert all(reason.on_any_kernel and reason.remedy for reason in telling)
    taken, log = loads(REFUSED[what])
    assert not taken, log


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_like_it_and_loads_does_not_fail(what: str) -> None:
    assert verdict_on_host(TAKEN[what]).verdict is Verdict.LOADS
    taken, log = loads(TAKEN[what])
    assert taken, log


@pytest.mark.parametrize(
    ("node", "flags", "expected"),
    [(3, 4, Verdict.CONDITIONAL), (3, 0, Verdict.LOADS)],
)
def test_a_numa_node_is_the_machines(node: int, flags: int, expected: Verdict) -> None:
    """Without the flag, the kernel does not look at the number."""
    source = f"""MAP(__uint(type, 1); __uint(max_entries, 1); __type(key, int); __type(value, int);
    __uint(map_flags, {flags}); __uint(numa_node, {node});); {PLAIN}"""
    assert verdict_on_host(source).verdict is expected


def test_a_struct_ops_map_among_the_others_would_crash_libbpf() -> None:
    """So libbpf itself is not asked here: it takes the process with it."""
    found = verdict_on_host(
        "MAP(__uint(type, 26); __uint(max_entries, 1); __type(key, int); __type(value, int);); " + PLAIN
    )
    assert found.verdict is Verdict.FAILS
    assert any("BPF_MAP_TYPE_STRUCT_OPS in .maps" in reason.message for reason in found.reasons)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("struct unknown; MAP(__uint(type, 1); struct unknown *key; __type(value, int););", "its key has no size"),
        ("MAP(__uint(type, 1); __type(key, int); void *value;);", "its value has no size"),
        (
            INNER + "struct middle { __uint(type, 12); __uint(max_entries, 1); __type(key, int);"
            " __array(values, struct inner); }; MAP(" + OUTER + " __array(values, struct middle););",
            "map m.inner holds maps as well",
        ),
    ],
)
def test_what_no_map_can_be_declared_with(source: str, said: str) -> None:
    with pytest.raises(ObjectError, match=said):
        c_programs.model(PRELUDE + source + PLAIN)
    taken, log = loads(source + PLAIN)
    assert not taken, log


def test_pointers_in_globals_are_zero_and_the_build_says_so() -> None:
    """For the program that reads them; the other one is well."""
    source = """const char *names[] = {"a", "b"}; int plain[] = {1, 2};
    SEC("xdp") int f(void *ctx) { return names[plain[0]] != 0; }
    SEC("xdp") int g(void *ctx) { return plain[1]; }"""
    btf = Btf(needs.host_btf().read_bytes(), source="host")
    report = check_on([c_programs.model(PRELUDE + source)], [KernelTypes(host(), btf)])
    f, g = report.kernels[0].programs
    assert [reason.kind for reason in f.reasons] == [ReasonKind.POINTER_LOST]
    assert g.reasons == ()
    (warning,) = render_warnings(report).splitlines()
    assert warning.startswith("warning: program.f: ")
    assert "names in .data is initialized with pointers, which nothing fills in" in warning


@pytest.mark.thorough
@pytest.mark.parametrize("whose", ["hatch-bpf's", "the machine's"])
def test_libbpf_itself_is_asked_where_it_is_at_hand(whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """hatch-bpf's own, or else the machine's; what it says is what it does."""
    needs.own_libbpf()
    libbpf = needs.libbpf()
    if whose == "hatch-bpf's":
        libbpf = Libbpf(str(own_libbpf.own_library()))
    else:
        monkeypatch.setattr(own_libbpf, "own_library", lambda: None)
    sources = [*REFUSED.values(), *TAKEN.values()]
    objects = [c_programs.compile_bpf(PRELUDE + source) for source in sources]
    version, refused = refusals_of_libbpf(objects) or ("", {})
    assert version == "{}.{}".format(*libbpf.version)
    opened = [loads_or_opens(libbpf, data) for data in objects]
    assert [data not in refused for data in objects] == opened
    assert 10 < opened.count(False) < len(opened)


def loads_or_opens(libbpf: Libbpf, data: bytes) -> bool:
    try:
        list(libbpf.load_each(data))
    except AssertionError:
        return False
    return True
