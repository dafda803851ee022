"""What attach methods say and do where a program cannot be attached, and that attach() passes over no real failure."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.project.alternatives import Alternatives
from hatch_bpf.runtime import errors
from hatch_bpf.runtime.events.perf_events import max_sample_rate
from hatch_bpf.runtime.host.arch import running_name
from hatch_bpf.runtime.programs import program
from hatch_bpf.runtime.programs.elfsyms import usdt_names
from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from tests.common import needs
from tests.common.namespaces import own_loopback
from tests.common.skeleton_package import BPF, Package, load_skeleton, make_package

LIBRARY = str(OWN_LIBBPF / "lib" / running_name() / "glibc" / "libbpf.so.1")
"""It knows `uprobe.multi`, which the system's may not."""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Any:
    events = {"numbers": "__u32", "tails": "tail"}
    return load_skeleton("samples", tmp_path_factory.mktemp("samples"), events=events).Samples


@pytest.fixture
def skel(samples: Any) -> Iterator[Any]:
    needs.root_bpf()
    with samples.open() as bpf, bpf.load() as loaded:
        yield loaded


@pytest.fixture
def loopback() -> Iterator[str]:
    with own_loopback() as name:
        yield name


# --- attach() -----------------------------------------------------------------------------------------------------


def kernel_attaches_many(no_target: Any) -> bool:
    with no_target.open() as bpf, bpf.load() as loaded:
        try:
            loaded.programs.many.attach()
        except errors.BpfError:
            return False
        return True


def test_a_program_that_cannot_be_attached_is_not_passed_over(tmp_path: Path) -> None:
    """As in bpf_object__attach_skeleton(): only a section without a target is."""
    needs.root_bpf()
    no_target = load_skeleton("no_target", tmp_path).NoTarget
    if kernel_attaches_many(no_target):
        with no_target.run() as loaded:
            assert sorted(link.program.name for link in loaded.links) == ["many", "one"]
        return
    with pytest.raises(errors.AttachError, match="program many can't be attached"):
        no_target.run()
    with no_target.open() as bpf:
        bpf.programs.many.autoload = False
        loaded = bpf.load()
        loaded.attach()
        assert [link.program.name for link in loaded.links] == ["one"], "the uprobe has no target"


@pytest.mark.parametrize("is_old", [False, True])
def test_a_group_chooses_uprobes_by_whether_the_kernel_has_their_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_old: bool
) -> None:
    """Linux before 6.6 loads a program in SEC("uprobe.multi"), and answers EINVAL to whatever it is attached to."""
    needs.root_bpf()
    needs.own_libbpf()
    features = KernelFeatures(Btf(needs.host_btf().read_bytes(), source="host"))
    groups = Alternatives(groups={"probe": ("everywhere", "anywhere")})
    skeleton = load_skeleton("no_target", tmp_path, alternatives=groups).NoTarget

    def refuse(*_arguments: object) -> None:
        ctypes.set_errno(errno.EINVAL)

    with skeleton.open(libbpf=LIBRARY) as bpf:
        bpf.programs.many.autoload = False
        if is_old:
            monkeypatch.setattr(bpf._held.libbpf, "bpf_program__attach_uprobe_multi", refuse)
        with bpf.load() as loaded:
            (choice,) = loaded.choices
            is_there = features.has_attach_type("BPF_TRACE_UPROBE_MULTI") and not is_old
            assert choice.chosen == ("everywhere" if is_there else "anywhere")
            assert ["no such links: EINVAL" in refusal.why for refusal in choice.refused] == [True] * (not is_there)


def test_a_group_chooses_the_member_that_can_be_attached(tmp_path: Path) -> None:
    needs.root_bpf()
    groups = Alternatives(groups={"watch": ("many", "one")})
    no_target = load_skeleton("no_target", tmp_path, alternatives=groups).NoTarget
    wanted = "many" if kernel_attaches_many(load_skeleton("no_target", tmp_path).NoTarget) else "one"
    with no_target.run() as loaded:
        (choice,) = loaded.choices
        assert choice.chosen == wanted
        assert [link.program.name for link in loaded.links] == [wanted]
        os.getppid()
        if wanted == "one":
            assert loaded.bss.hits > 0


# --- what is wrong ------------------------------------------------------------------------------------------------


def test_a_program_of_another_type(skel: Any, loopback: str) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: skel.programs.on_sample.attach_xdp(loopback),
        lambda: skel.programs.on_sample.attach_xdp(loopback, replace=True),
        lambda: skel.programs.on_packet.attach_tracepoint("syscalls", "sys_enter_getppid"),
        lambda: skel.programs.write.attach_tc(loopback),
    ]
    for attach in attempts:
        with pytest.raises(errors.AttachError, match=r"makes it a program of type \w+, and only those of type \w+"):
            attach()
    assert skel.links == ()


def test_a_usdt_that_is_not_there(tmp_path: Path) -> None:
    """The file's own are listed."""
    source = tmp_path / "probed.c"
    note = """
        .pushsection .note.stapsdt, "", "note"
        .balign 4
        .4byte 8, 3f - 2f, 3
        .asciz "stapsdt"
        2: .8byte 1b, 0, 0
        .asciz "hatch"
        .asciz "{name}"
        .asciz ""
        3: .balign 4
        .popsection
    """
    statements = "\n".join(
        f"__asm__ volatile({json.dumps('1: nop' + note.format(name=name))});" for name in ("begin", "end")
    )
    source.write_text(f"int main(void) {{ {statements} return 0; }}\n")
    binary = tmp_path / "probed"
    subprocess.run([needs.tool("clang"), source, "-o", binary], check=True)
    assert usdt_names(str(binary)) == ["hatch:begin", "hatch:end"]
    with pytest.raises(ValueError, match="is not an ELF file"):
        usdt_names(str(source))
    damaged = binary.read_bytes().replace(b"hatch\0begin\0\0", b"hatch begin..")
    binary.write_bytes(damaged)
    assert usdt_names(str(binary)) == ["hatch:end"], "a note that names nothing was a ValueError without the file"


# --- samples ------------------------------------------------------------------------------------------------------


def test_every_thread_of_a_process_is_sampled(skel: Any) -> None:
    """Those that are there, and those that they start."""
    threads: set[int] = set()

    def work() -> None:
        threads.add(threading.get_native_id())
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            sum(range(1000))

    before = [threading.Thread(target=work) for _ in range(2)]
    for worker in before:
        worker.start()
    links = skel.programs.on_sample.attach_sampling(997, pid=0)
    after = threading.Thread(target=work)
    after.start()
    for worker in (*before, after):
        worker.join()
    for link in links:
        link.detach()
    sampled = set(skel.maps.threads)
    assert threads <= sampled
    tasks = {int(name) for name in os.listdir("/proc/self/task")}
    assert sampled <= threads | tasks, "threads of other processes were sampled"


@pytest.mark.parametrize("frequency", [0, -1])
def test_a_frequency_that_never_samples(skel: Any, frequency: int) -> None:
    with pytest.raises(errors.BpfError):
        skel.programs.on_sample.attach_sampling(frequency)
    assert skel.links == ()


def test_a_frequency_that_is_too_high(skel: Any) -> None:
    highest = max_sample_rate()
    assert highest is not None
    with pytest.raises(errors.AttachError, match=f"{highest + 1} Hz is more than the {highest} in /proc/sys/kernel/"):
        skel.programs.on_sample.attach_sampling(highest + 1)
    with pytest.raises(errors.AttachError, match="ESRCH"):
        skel.programs.on_sample.attach_sampling(99, pid=2**22 + 1)
    assert skel.links == ()


def test_a_sample_that_is_refused_is_not_said_to_lack_a_target(skel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By EOPNOTSUPP, or before libbpf 0.8 by ESRCH, libbpf says that a section names no target."""

    def refuse(*_: object, **__: object) -> int:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr(program, "open_sampled", refuse)
    with pytest.raises(errors.AttachError, match=r"ENOTSUP: [\w ]+\n  this machine does not count cycles") as caught:
        skel.programs.on_sample.attach_sampling(99, event="cycles")
    assert type(caught.value) is errors.AttachError
    monkeypatch.setattr(skel._held.libbpf, "version", (0, 7))
    with pytest.raises(errors.AttachError, match=r"process 4194305: ESRCH: No such process$") as caught:
        skel.programs.on_sample.attach_sampling(99, pid=2**22 + 1)
    assert type(caught.value) is errors.AttachError


# --- perf buffers -------------------------------------------------------------------------------------------------


def test_bytes_that_the_kernel_adds_to_events(skel: Any) -> None:
    for name in ("bytes", "numbers", "tails"):
        skel.maps[name].open()
    skel.programs.write.test_run(bytes(64))
    ((data,), numbers, (tail,)) = (skel.maps[name].poll(1) for name in ("bytes", "numbers", "tails"))
    assert (len(data), data[:5]) == (12, b"\5\0\0\0A")
    assert numbers == [5]
    assert tail.number == 5
    assert bytes(tail.data)[:5] == b"ABCDE", "and whatever was there before"


# --- tc -----------------------------------------------------------------------------------------------------------


def filters(interface: str) -> list[str]:
    shown = subprocess.run(["tc", "filter", "show", "dev", interface, "ingress"], capture_output=True, text=True)
    return [line for line in shown.stdout.splitlines() if "direct-action" in line]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(BPF / "samples.bpf.c", tmp_path_factory.mktemp("package"))


@pytest.mark.parametrize("where", ["", ", handle=7, priority=3"])
def test_a_filter_takes_the_place_of_what_a_killed_process_left(
    skel: Any, package: Package, loopback: str, where: str
) -> None:
    needs.tool("tc")
    code = f"""
        import os, signal
        from demo.samples_skel import Samples
        skel = Samples.open().load()
        skel.programs.on_packet.attach_tc("lo"{where}, replace=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    for _ in range(3):
        assert package.run(code, check=False).returncode == -signal.SIGKILL
        assert len(filters(loopback)) == 1
    arguments = {"handle": 7, "priority": 3} if where else {}
    link = skel.programs.on_packet.attach_tc(loopback, replace=True, **arguments)
    assert len(filters(loopback)) == 1
    subprocess.run([sys.executable, "-c", PING], check=True)
    assert skel.bss.seen > 0
    package.run(code, check=False)
    link.detach()
    assert len(filters(loopback)) == 1, "the filter of another process was removed"
    skel.programs.on_packet.attach_tc(loopback, replace=True, **arguments).detach()
    assert filters(loopback) == []


PING = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', 9))"
