"""What the system's BPF is, as bpftool tells it; what this kernel can do; what programs print."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf import runtime
from hatch_bpf.runtime import errors
from hatch_bpf.runtime.libbpf import library
from hatch_bpf.runtime.maps.shapes import MAP_TYPES
from hatch_bpf.runtime.system import features, objects, tracing
from hatch_bpf.runtime.system.objects import LINK_TYPES, PROGRAM_TYPES
from tests.common import needs, tracefs
from tests.common.skeleton_package import load_skeleton


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("pins", tmp_path_factory.mktemp("system"))


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.Pins.open() as bpf, bpf.load() as loaded:
        yield loaded


def bpftool(*arguments: str) -> Any:
    return json.loads(subprocess.check_output([needs.tool("bpftool"), "-j", *arguments]))


def test_programs_are_those_of_bpftool(skel: Any) -> None:
    info = skel.programs.count.info()
    assert info in list(runtime.loaded_programs())
    told = bpftool("prog", "show", "id", str(info.id))
    assert (told["id"], told["type"], told["name"]) == (info.id, info.type.lower(), info.name)
    assert (told["tag"], told["uid"], told["gpl_compatible"]) == (info.tag, info.uid, info.gpl_compatible)
    assert (told["bytes_xlated"], told["bytes_jited"]) == (info.instruction_bytes, info.jited_bytes)
    assert (sorted(told["map_ids"]), told["btf_id"]) == (sorted(info.map_ids), info.btf_id)
    assert info.verified_instructions > 5


def test_maps_links_and_btfs_are_those_of_bpftool(skel: Any) -> None:
    link = skel.programs.say.attach()
    number = skel.maps.packets.info().id
    mine = next(info for info in runtime.loaded_maps() if info.id == number)
    told = bpftool("map", "show", "id", str(number))
    assert (told["type"], told["name"], told["bytes_value"]) == ("array", mine.name, mine.value_size)
    assert link.info() in list(runtime.loaded_links())
    told = bpftool("link", "show", "id", str(link.info().id))
    assert (told["type"], told["prog_id"], told["tp_name"]) == (
        "raw_tracepoint",
        skel.programs.say.info().id,
        "sys_enter",
    )
    assert link.info().target == {"tp_name": "sys_enter"}
    told = {item["id"]: item for item in bpftool("btf", "show")}
    kernel = next(info for info in runtime.loaded_btfs() if info.name == "vmlinux")
    assert kernel.is_kernel
    assert (told[kernel.id]["name"], told[kernel.id]["size"]) == ("vmlinux", kernel.size)
    assert skel.programs.say.info().btf_id in {info.id for info in runtime.loaded_btfs() if not info.is_kernel}


def test_runs_are_counted_when_asked_for(skel: Any) -> None:
    skel.programs.count.test_run(bytes(64), repeat=10)
    before = skel.programs.say.info().run_count
    with skel.programs.say.attach(), runtime.count_runs():
        for _ in range(100):
            os.getppid()
    info = skel.programs.say.info()
    assert info.run_count - before >= 100
    assert info.run_time > 0


@pytest.mark.parametrize(
    ("enum", "prefix", "names"),
    [
        ("bpf_prog_type", "BPF_PROG_TYPE_", PROGRAM_TYPES),
        ("bpf_link_type", "BPF_LINK_TYPE_", LINK_TYPES),
        ("bpf_map_type", "BPF_MAP_TYPE_", MAP_TYPES),
    ],
)
def test_names_are_the_kernels(enum: str, prefix: str, names: tuple[str, ...]) -> None:
    needs.root_bpf()
    told = features._enumerators(enum)
    for number, name in enumerate(names):
        assert told.get(prefix + name, number) == number


def test_features_are_those_that_bpftool_finds() -> None:
    needs.root_bpf()
    told = bpftool("feature", "probe", "kernel")
    for name in PROGRAM_TYPES[1:]:
        key = f"have_{name.lower()}_prog_type"
        if key in told["program_types"]:
            assert runtime.has_program_type(name) == told["program_types"][key], name
    for name in MAP_TYPES[1:]:
        key = f"have_{name.lower()}_map_type"
        if key in told["map_types"]:
            assert runtime.has_map_type(name) == told["map_types"][key], name
    helpers = told["helpers"]["xdp_available_helpers"]
    assert len(helpers) > 50
    for helper in (*helpers[::10], "bpf_get_stack", "bpf_override_return"):
        assert runtime.has_helper(helper, "XDP") == (helper in helpers), helper
    assert not runtime.has_helper("no_such_helper", "XDP")
    with pytest.raises(errors.InvalidValueError, match="there is no map type 'RINGBUFFER'"):
        runtime.has_map_type("RINGBUFFER")


def test_attach_types_and_kfuncs_are_those_of_the_kernels_btf() -> None:
    needs.root_bpf()
    assert runtime.has_attach_type("BPF_XDP")
    assert not runtime.has_attach_type("BPF_NO_SUCH_HOOK")
    assert runtime.has_kfunc("bpf_task_from_pid")
    assert not runtime.has_kfunc("bpf_no_such_kfunc")
    assert not runtime.has_kfunc("vfs_read"), "a function, but no kfunc"


def test_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    needs.root_bpf()
    assert runtime.has_map_type("HASH")
    monkeypatch.setattr(library, "current", lambda: pytest.fail("asked again"))
    assert runtime.has_map_type("HASH")


def test_trace_pipe_gives_what_programs_print(skel: Any) -> None:
    tracefs.mounted()
    pipe = runtime.trace_pipe(timeout=5)
    skel.maps.packets[3] = os.getpid()
    with skel.programs.say.attach():
        os.getppid()
        line = next(line for line in pipe if line.pid == os.getpid())
    assert line.message == "hatch says 42"
    assert line.cpu in os.sched_getaffinity(0)
    assert line.timestamp > 0
    with pytest.raises(errors.BpfError, match="one reader at a time"):
        runtime.trace_pipe()
    pipe.close()
    assert list(runtime.trace_pipe(timeout=0)) == []


def test_streams_are_read_where_the_kernel_has_them(tmp_path: Path, skel: Any) -> None:
    if not any(map(runtime.has_kfunc, ("bpf_stream_vprintk", "bpf_stream_vprintk_impl"))):
        with pytest.raises(errors.BpfError, match=r"takes Linux 6\.17"):
            runtime.read_stream(skel.programs.count)
        return
    assert features._enumerators("bpf_cmd")["BPF_PROG_STREAM_READ_BY_FD"] == tracing._BPF_PROG_STREAM_READ_BY_FD
    streams = load_skeleton("streams", tmp_path)
    with streams.Streams.open() as bpf, bpf.load() as loaded:
        program = loaded.programs.write
        results = [program.test_run(bytes(64)).result for _ in range(500)]
        refused = results.count(2**32 - errno.ENOMEM)  # all of them where the kernel can't allocate without locks
        assert runtime.read_stream(program, "stdout") == "hatch writes 42\n" * (500 - refused)
        assert runtime.read_stream(program, "stdout") == "", "read already"
        assert runtime.read_stream(program) == ""
        with pytest.raises(ValueError, match="stdout, stderr"):
            runtime.read_stream(program, "stdin")


def test_nobody_pays_for_it_at_import() -> None:
    code = "import sys, hatch_bpf.runtime; print([name for name in sys.modules if '.system' in name or 'pins' in name])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


class _OldKernel:
    """libbpf on Linux 5.4, as it answers to what came later."""

    def bpf_obj_get_info_by_fd(self, _fd: int, info: Any, _size: Any) -> int:
        raw = info._obj
        if raw.name or raw.name_len:  # bpf_check_uarg_tail_zero()
            ctypes.set_errno(errno.E2BIG)
            return -1
        raw.id, raw.btf_size = 7, 100
        return 0

    def bpf_link_get_next_id(self, _start: int, _following: Any) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    def bpf_link_get_fd_by_id(self, _number: int) -> int:
        raise AssertionError

    def bpf_enable_stats(self, _kind: int) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1


def test_a_kernel_without_names_of_btfs() -> None:
    assert tuple(objects._btf_info(_OldKernel(), 3)) == (7, "", 100, False)


def test_what_an_old_kernel_cannot_list_or_count_says_since_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "current", _OldKernel)
    with pytest.raises(errors.BpfError, match=r"the system's links can't be listed: EINVAL: .*; it takes Linux 5\.8$"):
        list(runtime.loaded_links())
    with pytest.raises(
        errors.BpfError, match=r"it takes Linux 5\.8; from 5\.1 on root can write 1 to /proc/sys/kernel/"
    ):
        runtime.count_runs().__enter__()
