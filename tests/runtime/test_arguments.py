"""Methods refuse arguments of a wrong type, or that do not fit, each with an error of the runtime that names it."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hatch_bpf.runtime as rt
from hatch_bpf.runtime import BpfError, InvalidTypeError, InvalidValueError
from tests.common import needs, tracefs
from tests.common.skeleton_package import load_skeleton

XDP_DROP = 1
WRONG: tuple[Any, ...] = (
    *(None, 1.5, float("nan"), object(), [None], {"a": 1}, (1, 2), b"\xff", "no\0name", "\ud800", "\udc80"),
    *(True, -1, 1 << 31, (1 << 32) + 1, (1 << 64) + 1, -1 << 70, 10**5000),
)
"""Values of which most belong nowhere. Python writes no int of more than 4,300 digits, so not even into a message."""
ATTACH: dict[str, tuple[str, dict[str, Any]]] = {
    "attach_tracepoint": ("on_tracepoint", {"category": "none", "name": "none", "cookie": 0}),
    "attach_raw_tracepoint": ("nowhere", {"name": "none"}),
    "attach_kprobe": ("on_uprobe", {"function": "none", "offset": 0, "retprobe": False, "cookie": 0}),
    "attach_ksyscall": ("on_uprobe", {"syscall": "none", "retprobe": False, "cookie": 0}),
    "attach_uprobe": ("on_uprobe", {"binary": "/none", "function": "f", "offset": 0, "pid": -1, "cookie": 0}),
    "attach_uprobe_multi": (
        "on_uprobe",
        {"binary": "/none", "pattern": "", "functions": ["f"], "pid": -1, "cookies": []},
    ),
    "attach_usdt": ("on_uprobe", {"binary": "/none", "provider": "p", "name": "n", "pid": -1, "cookie": 0}),
    "attach_kprobe_multi": ("on_uprobe", {"pattern": "", "functions": ["none"], "retprobe": False, "cookies": []}),
    "attach_sampling": ("on_uprobe", {"frequency": 1, "period": 0, "event": "cpu-clock", "cpus": [0], "pid": -1}),
    "attach_perf_event": ("on_uprobe", {"fd": 1 << 20, "cookie": 0}),
    "attach_freplace": ("on_xdp", {"program": 1 << 20, "function": "f"}),
    "attach_tcx": ("on_xdp", {"interface": "none"}),
    "attach_netkit": ("on_xdp", {"interface": "none"}),
    "attach_xdp": ("on_xdp", {"interface": "none", "mode": "skb", "replace": False}),
    "attach_tc": ("on_tc", {"interface": "none", "direction": "ingress", "handle": 0, "priority": 0, "replace": False}),
    "attach_netfilter": ("on_xdp", {"family": 2, "hook": 1, "priority": 0}),
    "attach_netns": ("on_xdp", {"path": "/none"}),
    "attach_cgroup": ("on_cgroup", {"path": "/none"}),
    "attach_iter": ("on_xdp", {"map": None, "cgroup": None, "order": "self_only", "pid": 0}),
    "read_iter_records": ("on_xdp", {"record": None}),
    "test_run": ("on_xdp", {"data": b"", "context": b"", "repeat": 1, "flags": 1 << 31}),
    "pin": ("on_xdp", {"path": "/none"}),
}
"""Of each method a program, and arguments that it refuses for what they are, not for their type."""
FUNCTIONS: dict[str, dict[str, Any]] = {
    "functions_of": {"binary": "/none", "pattern": "f"},
    "usdts_of": {"binary": "/none"},
    "tracepoints": {"pattern": "none"},
    "kernel_functions": {"pattern": "none"},
    "has_program_type": {"name": "none"},
    "has_map_type": {"name": "none"},
    "has_helper": {"name": "none", "program_type": "none"},
    "has_attach_type": {"name": "none"},
    "has_kfunc": {"name": "none"},
    "syscall_name": {"number": 1},
    "tc_query": {"interface": "none", "direction": "ingress", "handle": 1, "priority": 1},
    "tc_hook_destroy": {"interface": "none", "direction": "ingress"},
    "xdp_query": {"interface": "none"},
    "PinnedLink": {"path": "/none"},
    "PinnedProgram": {"path": "/none"},
    "read_stream": {"program": 1 << 20, "stream": "stderr"},
    "Log2Histogram": {"counts": {1: 2}, "first_slot": 0},
    "LinearHistogram": {"counts": {1: 2}, "low": 0, "step": 1},
}


@pytest.fixture(scope="module")
def skel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    tracefs.mounted()
    module = load_skeleton("attachments", tmp_path_factory.mktemp("attachments"))
    with module.Attachments.open() as opened, opened.load() as loaded:
        yield loaded


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    needs.root_bpf()
    module = load_skeleton("mapkinds", tmp_path_factory.mktemp("mapkinds"))
    with module.Mapkinds.open() as opened, opened.load() as loaded:
        yield loaded


def refused(call: Callable[[], Any], what: str) -> None:
    """Make a call that may do what it is asked for or refuse it, but in no other way than the runtime's."""
    try:
        made = call()
    except (BpfError, KeyError, IndexError):
        return
    except Exception as error:
        raise AssertionError(f"{what} ends in {type(error).__name__}") from error
    for link in made if isinstance(made, list) else [made]:
        if isinstance(link, rt.Link):
            link.detach()


def each_wrong(arguments: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in arguments:
        for number, value in enumerate(WRONG):
            yield f"{name} = WRONG[{number}]", {**arguments, name: value}


@pytest.mark.parametrize("method", ATTACH)
def test_programs(skel: Any, method: str) -> None:
    program, arguments = ATTACH[method]
    for what, wrong in each_wrong(arguments):
        refused(lambda wrong=wrong: getattr(skel.programs[program], method)(**wrong), what)  # type: ignore[misc]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions(function: str) -> None:
    needs.root_bpf()
    for what, wrong in each_wrong(FUNCTIONS[function]):
        refused(lambda wrong=wrong: getattr(rt, function)(**wrong), what)  # type: ignore[misc]


def test_maps(kinds: Any) -> None:
    tried = 0
    for item in kinds.maps:
        for number, value in enumerate(WRONG):
            calls: list[tuple[str, tuple[Any, ...]]] = [
                *((name, (value,)) for name in ("__getitem__", "__delitem__", "__contains__", "get", "pin", "push")),
                *(
                    (name, pair)
                    for name in ("__setitem__", "add", "replace", "pop")
                    for pair in ((0, value), (value, 0))
                ),
                *((name, (value,)) for name in ("update", "update_many", "delete_many", "open_inner")),
                ("__setitem__", (slice(value, None), [])),
            ]
            for name, arguments in calls:
                method = getattr(item, name, None)
                if method is not None and takes(method, len(arguments)):
                    refused(lambda method=method, arguments=arguments: method(*arguments), f"{item}.{name}, {number}")  # type: ignore[misc]
                    tried += 1
    assert tried > 1000


def takes(method: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(method).bind(*range(count))
    except TypeError:
        return False
    return True


def test_links(skel: Any) -> None:
    with skel.programs.on_tracepoint.attach() as link:
        for value in WRONG:
            refused(lambda value=value: link.update(value), "update")  # type: ignore[misc]
            refused(lambda value=value: link.pin(value), "pin")  # type: ignore[misc]
        assert link.attached


def test_symbols() -> None:
    symbolizer = rt.Symbolizer()
    for value in WRONG:
        refused(lambda value=value: symbolizer.user(value, 0), "user")  # type: ignore[misc]
        refused(lambda value=value: symbolizer.user(5, value), "user")  # type: ignore[misc]
        refused(lambda value=value: symbolizer.symbolize(value, 0), "symbolize")  # type: ignore[misc]
        refused(lambda value=value: symbolizer.symbolize([value], 0), "symbolize")  # type: ignore[misc]
        refused(lambda value=value: rt.FoldedStacks().add(value, "name"), "add")  # type: ignore[misc]
        refused(lambda value=value: rt.FoldedStacks().add(1, value), "add")  # type: ignore[misc]
        refused(lambda value=value: rt.wait(value, 0), "wait")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.on_uprobe.attach_kprobe(5), InvalidTypeError, "^function must be a str, not int"),
        (lambda s: s.on_uprobe.attach_kprobe("vfs_read\0x"), InvalidValueError, "^function can't be .* end at a NUL"),
        (lambda s: s.on_uprobe.attach_kprobe("f", cookie="7"), InvalidTypeError, "^cookie: must be an int, not str"),
        (lambda s: s.on_uprobe.attach_kprobe_multi(functions="vfs_read"), InvalidTypeError, "^functions must be a lis"),
        (lambda s: s.on_uprobe.attach_uprobe(5, "f"), InvalidTypeError, "^binary must be a path, not int"),
        (lambda s: s.on_uprobe.attach_sampling("99"), InvalidTypeError, "^frequency: must be an int, not str"),
        (lambda s: s.on_uprobe.attach_sampling(1 << 64 | 99), InvalidValueError, "^frequency or period: .* does not"),
        (lambda s: s.on_uprobe.attach_sampling(99, cpus=0), InvalidTypeError, "^cpus must be a list, not int"),
        (lambda s: s.on_uprobe.attach_sampling(99, cpus=[]), InvalidValueError, "cpus names no CPU"),
        (lambda s: s.on_uprobe.attach_sampling(99, event=5), InvalidTypeError, "^event must be a name, or a pair"),
        (lambda s: s.on_uprobe.attach_perf_event(1 << 32 | 3), InvalidValueError, "^fd: .* does not fit"),
        (lambda s: s.on_xdp.attach_xdp(True), InvalidTypeError, "^interface must be a name or an index, not bool"),
        (lambda s: s.on_xdp.attach_xdp(-1), InvalidValueError, "interface -1: indexes begin with 1"),
        (lambda s: s.on_xdp.attach_xdp("lo", replace="no"), InvalidTypeError, "^replace: must be True or False"),
        (lambda s: s.on_tc.attach_tc("lo", priority=1 << 16), InvalidValueError, "^priority: 65536 does not fit"),
        (lambda s: s.on_xdp.attach_freplace("entry", "f"), InvalidTypeError, "^program: must be a map, a program"),
        (lambda s: s.on_xdp.test_run(repeat=-1), InvalidValueError, "^repeat can't be -1"),
        (lambda s: s.on_xdp.test_run("text"), InvalidTypeError, "^data: must be bytes, not str"),
        (lambda s: s.on_xdp.pin(5), InvalidTypeError, "^path must be a path, not int"),
        (lambda s: s.on_xdp.pin("/sys/fs/bpf/x\0y"), InvalidValueError, "^path can't be .* end at a NUL"),
    ],
)  # fmt: skip
def test_what_the_message_names(skel: Any, call: Callable[[Any], object], error: type[BpfError], message: str) -> None:
    with pytest.raises(error, match=message):
        call(skel.programs)


def test_a_target_for_a_program_that_has_none(tmp_path: Path) -> None:
    needs.root_bpf()
    with load_skeleton("attachments", tmp_path).Attachments.open() as opened:
        with pytest.raises(InvalidValueError, match=r"on_xdp: the attach target can't be set: SEC\('xdp'\) is none of"):
            opened.programs.on_xdp.set_attach_target("vfs_read")
        opened.programs.optional.set_attach_target("vfs_read")


def test_bytes_like_packets(skel: Any) -> None:
    for data in (bytes(64), bytearray(64), memoryview(bytes(64))):
        assert skel.programs.on_xdp.test_run(data).data == bytes(64)


def test_descriptors(kinds: Any) -> None:
    numpy = pytest.importorskip("numpy")
    closed = socket.socket()
    closed.close()
    sockets, jumps = kinds.maps.sockets, kinds.maps.jumps
    for wrong, message in ((True, "not bool"), ("3", "must be a map, a program, .*not str"), (closed, "-1 is no desc")):
        with pytest.raises(BpfError, match=f"^map sockets: descriptor: .*{message}"):
            sockets[1] = wrong
    assert 2 not in jumps
    jumps[numpy.int64(2)] = numpy.int64(kinds.programs.target.fd)
    assert numpy.int64(2) in jumps
    assert kinds.programs.entry.test_run(bytes(64)).result == XDP_DROP
    del jumps[2]
