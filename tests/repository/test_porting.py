"""docs/porting.md: a row for each call of bcc's reference guide, and nothing on the right that does not exist."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from collections.abc import Callable, Iterator
from itertools import chain

import pytest

from hatch_bpf import runtime
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.objects import uapi
from hatch_bpf.runtime import sections
from tests.common.projects import REPOSITORY

_BCC_GUIDE = """
    kprobe__ kretprobe__ TRACEPOINT_PROBE uprobes uretprobes USDT bpf_usdt_readarg bpf_usdt_readarg_p
    RAW_TRACEPOINT_PROBE syscall__ KFUNC_PROBE MODULE_KFUNC_PROBE KRETFUNC_PROBE MODULE_KRETFUNC_PROBE LSM_PROBE
    BPF_ITER PT_REGS_PARM1 PT_REGS_RC
    bpf_probe_read_kernel bpf_probe_read_kernel_str bpf_ktime_get_ns bpf_get_current_pid_tgid bpf_get_current_uid_gid
    bpf_get_current_comm bpf_get_current_task bpf_log2l bpf_get_prandom_u32 bpf_probe_read_user bpf_probe_read_user_str
    bpf_get_ns_current_pid_tgid bpf_override_return
    bpf_trace_printk BPF_PERF_OUTPUT perf_submit perf_submit_skb BPF_RINGBUF_OUTPUT ringbuf_output ringbuf_reserve
    ringbuf_submit ringbuf_discard ringbuf_query
    BPF_TABLE BPF_F_TABLE BPF_TABLE_PINNED BPF_HASH BPF_ARRAY BPF_HISTOGRAM BPF_STACK_TRACE BPF_PERF_ARRAY
    BPF_PERCPU_HASH BPF_PERCPU_ARRAY BPF_LPM_TRIE BPF_PROG_ARRAY BPF_DEVMAP BPF_CPUMAP BPF_XSKMAP BPF_ARRAY_OF_MAPS
    BPF_HASH_OF_MAPS BPF_STACK BPF_QUEUE BPF_SOCKHASH
    map.lookup map.lookup_or_try_init map.delete map.update map.insert map.increment map.atomic_increment get_stackid
    perf_read call redirect_map push pop peek sock_hash_update msg_redirect_hash sk_redirect_hash
    BPF_LICENSE rewriter
    BPF(text BPF(src_file BPF(cflags BPF(debug USDT(pid attach_kprobe attach_kretprobe attach_tracepoint attach_uprobe
    attach_uretprobe USDT.enable_probe attach_raw_tracepoint attach_raw_socket attach_xdp attach_func detach_func
    detach_kprobe detach_kretprobe trace_print trace_fields perf_buffer_poll ring_buffer_poll ring_buffer_consume
    get_table open_perf_buffer items values clear items_lookup_and_delete_batch items_lookup_batch items_delete_batch
    items_update_batch print_log2_hist print_linear_hist open_ring_buffer
    ksym ksymname sym num_open_kprobes get_syscall_fnname
    BCC_KERNEL_SOURCE BCC_LINUX_VERSION_CODE
"""
BCC_GUIDE = _BCC_GUIDE.split()
"""The calls that docs/reference_guide.md of bcc documents, in its order."""
TEXT = (REPOSITORY / "docs" / "porting.md").read_text(encoding="utf-8")
FROM_BCC = TEXT.partition("## From bcc")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| ")]


ROWS = rows(FROM_BCC)
ALL_ROWS = rows(TEXT)
"""Also those of the other toolkits."""
PUBLIC = [getattr(runtime, name) for name in dir(runtime)]
OWNERS: dict[str, list[type]] = {
    "maps": [runtime.OpenedMap, *(each for each in PUBLIC if isinstance(each, type) and issubclass(each, runtime.Map))],
    "programs": [runtime.Program, runtime.OpenedProgram],
    "skel": [runtime.Loaded],
    "symbolizer": [runtime.Symbolizer],
    "link": [runtime.Link],
}
"""What is left of a dot -> the classes that it may have."""


def codes(cell: str) -> list[str]:
    """The pieces of code in a cell."""
    return [code.replace("\\|", "|") for code in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("name", BCC_GUIDE)
def test_each_of_bccs_calls_has_a_row(name: str) -> None:
    shown = "\n".join(left for left, _ in ROWS)
    ends = "" if name.endswith("__") else "(?![a-z_])"
    assert re.search(rf"(?<!\w){re.escape(name)}{ends}", shown)


def test_rows_have_two_cells() -> None:
    assert len(ROWS) > 100
    assert [row for row in ALL_ROWS if len(row) != 2] == []


PYTHON = sorted(
    {
        code
        for _, right in ALL_ROWS
        for code in codes(right)
        if re.search(r"\b(skel|bpf|symbolizer|link)\.|^[a-zA-Z_]+\(", code)
    }
)


def parsed(code: str) -> ast.AST | None:
    """A piece of Python; None for what is C."""
    try:
        return ast.parse(f"{code} pass" if code.endswith(":") else code)
    except SyntaxError:
        return None


@pytest.mark.parametrize("code", PYTHON)
def test_python_on_the_right_exists(code: str) -> None:
    tree = parsed(code)
    if tree is None:
        assert not re.search(r"\b(skel|symbolizer|link)\.", code), "this is no Python"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            check_attribute(node)
        if isinstance(node, ast.Call):
            check_arguments(node)


def check_attribute(node: ast.Attribute) -> None:
    """It is a member of what is left of the dot, as far as that is known."""
    for owner in owners(node.value):
        if any(hasattr(cls, node.attr) or node.attr in cls.__annotations__ for cls in owner):
            return
        raise AssertionError(f"{ast.unparse(node)}: there is no {node.attr}")


def owners(value: ast.expr) -> Iterator[list[type]]:
    """The classes of `skel`, `symbolizer`, `link`, `skel.maps.NAME` and `skel.programs.NAME`."""
    if isinstance(value, ast.Name) and value.id in OWNERS:
        yield OWNERS[value.id]
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Attribute) and value.value.attr in OWNERS:
        yield OWNERS[value.value.attr]


def check_arguments(node: ast.Call) -> None:
    """It takes these arguments."""
    if isinstance(node.func, ast.Name):
        name = node.func.id
        found = [getattr(runtime, name)] if name in dir(runtime) else []
        is_method = any(hasattr(each, name) for each in PUBLIC)
        assert found or is_method or hasattr(builtins, name) or re.match("SEC|BPF_|bpf_|__", name), f"no {name}"
        bound = 0
    elif isinstance(node.func, ast.Attribute):
        name, bound = node.func.attr, 1
        found = [getattr(cls, name) for cls in chain(*owners(node.func.value)) if hasattr(cls, name)]
    else:
        return
    if found:
        assert any(takes(each, bound, node) for each in found), ast.unparse(node)


def takes(function: Callable[..., object], bound: int, call: ast.Call) -> bool:
    arguments = {word.arg: None for word in call.keywords if word.arg}
    try:
        inspect.signature(function).bind(*[None] * bound, *call.args, **arguments)
    except TypeError:
        return False
    return True


HEADERS = [
    path
    for folder in find_toolchain().includes
    for pattern in ("bpf/*.h", "linux/bpf.h")
    for path in sorted(folder.glob(pattern))
]
C_NAMES = sorted(
    {name for _, right in ROWS for code in codes(right) for name in re.findall(r"\b(bpf_\w+|BPF_\w+)", code)}
)


@pytest.mark.parametrize("name", C_NAMES)
def test_c_on_the_right_exists(name: str) -> None:
    """A helper, a number of the UAPI, or a macro of libbpf's headers."""
    if name.startswith("bpf_") and name[4:] in uapi._HELPERS:
        return
    if name.startswith("BPF_MAP_TYPE_"):
        assert name.removeprefix("BPF_MAP_TYPE_") in uapi.MapType.__members__
        return
    if re.match("bpf_iter__|bpf_raw_tracepoint_args|bpf_attr", name):
        return  # structs of the kernel
    texts = [path.read_text() for path in HEADERS]
    assert any(re.search(rf"\b{name}\b", text) for text in texts), name


@pytest.mark.parametrize("section", sorted(set(re.findall(r'SEC\("([^"]+)"\)', FROM_BCC))))
def test_sections_on_the_right_exist(section: str) -> None:
    assert section in (".maps", "license") or sections.parse_section(section) is not None
