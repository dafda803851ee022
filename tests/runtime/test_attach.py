"""Programs attach to what they should, see what happens there, and no longer do once their link is gone."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from hatch_bpf.runtime.host import mounts
from hatch_bpf.skeleton.generate import class_name
from tests.common import needs, tracefs
from tests.common.namespaces import own_cgroup, own_loopback
from tests.common.skeleton_package import load_skeleton


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """The skeleton class of tests/bpf/NAME.bpf.c, which is compiled once."""

    @cache
    def class_of(name: str) -> Any:
        module = load_skeleton(name, tmp_path_factory.mktemp(name))
        return getattr(module, class_name(name))

    return class_of


@pytest.fixture
def skel(classes: Callable[[str], Any]) -> Iterator[Any]:
    with loaded(classes("attachments")) as bpf:
        yield bpf


@pytest.fixture
def probes(classes: Callable[[str], Any]) -> Iterator[Any]:
    with loaded(classes("probes")) as bpf:
        yield bpf


@pytest.fixture
def contexts(classes: Callable[[str], Any]) -> Iterator[Any]:
    with loaded(classes("contexts")) as bpf:
        yield bpf


@pytest.fixture
def iterators(classes: Callable[[str], Any]) -> Iterator[Any]:
    needs.program_kind("iter/task")
    with loaded(classes("iterators")) as bpf:
        yield bpf


@contextmanager
def loaded(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.open() as bpf, bpf.load() as skel:
        yield skel


@pytest.fixture
def loopback() -> Iterator[str]:
    with own_loopback() as name:
        yield name


@pytest.fixture
def cgroup() -> Iterator[Path]:
    with own_cgroup() as folder:
        yield folder


def send_a_packet() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))


def test_tracepoint(skel: Any) -> None:
    tracefs.mounted()
    skel.bss.caller = os.getpid()
    with skel.programs.on_tracepoint.attach_tracepoint("syscalls", "sys_enter_getppid", cookie=7) as link:
        assert repr(link) == "<link of on_tracepoint, attached to tracepoint syscalls:sys_enter_getppid>"
        os.getppid()
        assert skel.bss.tracepoints == 3
    os.getppid()
    assert skel.bss.tracepoints == 3
    assert skel.links == ()


def test_raw_tracepoint_by_section_and_by_name(skel: Any) -> None:
    with skel.programs.on_raw_tracepoint.attach():
        os.getppid()
    first = skel.bss.raw_tracepoints
    assert first > 0
    with skel.programs.nowhere.attach_raw_tracepoint("sys_exit"):
        os.getppid()
    second = skel.bss.raw_tracepoints
    assert second > first
    os.getppid()
    assert skel.bss.raw_tracepoints == second


@pytest.mark.parametrize("mode", ["auto", "skb"])
def test_xdp(skel: Any, loopback: str, mode: str) -> None:
    def shown() -> str:
        return subprocess.run(["ip", "link", "show", loopback], capture_output=True, text=True, check=True).stdout

    with skel.programs.on_xdp.attach_xdp(loopback, mode=mode):
        assert "prog/xdp" in shown()
        send_a_packet()
        assert skel.bss.packets_xdp > 0
        with pytest.raises(errors.AttachError, match="another XDP program is attached there"):
            skel.programs.on_xdp.attach_xdp(loopback, mode=mode)
    assert "prog/xdp" not in shown()


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_tc(skel: Any, loopback: str, direction: str) -> None:
    with skel.programs.on_tc.attach_tc(loopback, direction) as link:
        assert link.handle > 0
        send_a_packet()
        seen = skel.bss.packets_tc
        assert seen > 0
    send_a_packet()
    assert skel.bss.packets_tc == seen
    skel.programs.on_tc.attach_tc(loopback, direction).detach()  # the qdisc that is there is used again


def test_cgroup(skel: Any, cgroup: Path) -> None:
    with skel.programs.on_cgroup.attach_cgroup(cgroup):
        send_a_packet()
        seen = skel.bss.packets_cgroup
        assert seen > 0
    send_a_packet()
    assert skel.bss.packets_cgroup == seen


def test_uprobe(skel: Any) -> None:
    tracefs.mounted()
    libc = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line)
    with skel.programs.on_uprobe.attach_uprobe(libc, "getppid", pid=0):
        os.getppid()
        assert skel.bss.uprobes == 1


def _note_and_release(order: list[str], name: str, release: Callable[[], None]) -> None:
    order.append(name)
    release()


def test_links_are_detached_last_first(skel: Any) -> None:
    tracefs.mounted()
    order: list[str] = []
    links = [skel.programs.on_tracepoint.attach(), skel.programs.on_raw_tracepoint.attach()]
    for link in links:
        link._release = partial(_note_and_release, order, link.program.name, link._release)
    skel.close()
    assert order == ["on_raw_tracepoint", "on_tracepoint"]


def test_all_is_released_even_if_a_detach_fails(skel: Any) -> None:
    tracefs.mounted()
    first, second = skel.programs.on_tracepoint.attach(), skel.programs.on_raw_tracepoint.attach()
    release = second._release

    def fail() -> None:
        release()
        raise errors.AttachError("it did not work")

    second._release = fail
    with pytest.raises(errors.AttachError, match="it did not work"):
        skel.close()
    assert not first.attached
    assert repr(skel) == "<AttachmentsLoaded: closed>"


def test_a_raw_tracepoint_link_can_be_pinned(skel: Any) -> None:
    link = skel.programs.on_raw_tracepoint.attach()
    with pytest.raises(errors.AttachError, match=r"can't be pinned to /tmp/no-bpf-file-system: /tmp is not"):
        link.pin("/tmp/no-bpf-file-system")


@pytest.mark.parametrize(
    ("attach", "message"),
    [
        (lambda p: p.on_cgroup.attach_cgroup("/no/such/cgroup"), "cgroup /no/such/cgroup: No such file or directory"),
        (lambda p: p.on_xdp.attach_xdp("nosuchif0"), "interface nosuchif0: there is none of that name"),
        (lambda p: p.on_tc.attach_tc("nosuchif0"), "interface nosuchif0: there is none of that name"),
        (lambda p: p.on_tracepoint.attach_tracepoint("no", "such"), "tracepoint no:such: ENOENT"),
        (lambda p: p.nowhere.attach_raw_tracepoint("no_such"), "raw tracepoint no_such: ENOENT"),
        (lambda p: p.nowhere.attach(), "Operation not supported; the section names no target: use the attach_ method"),
        (lambda p: p.on_xdp.attach(), "Operation not supported; the section names no target: use the attach_ method"),
        (lambda p: p.on_uprobe.attach_uprobe("/no/such/binary", "f"), "uprobe /no/such/binary:f"),
    ],
)
def test_an_attach_that_fails(skel: Any, attach: Any, message: str) -> None:
    tracefs.mounted()
    with pytest.raises(errors.AttachError, match=f"program .* can't be attached to .*{message}"):
        attach(skel.programs)
    assert skel.links == ()


def test_a_folder_that_is_no_cgroup(skel: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.AttachError, match=rf"EBADF.*\n  {tmp_path} is not in a cgroup v2 hierarchy; "):
        skel.programs.on_cgroup.attach_cgroup(tmp_path)


def test_modes_and_directions_are_checked(skel: Any) -> None:
    with pytest.raises(errors.InvalidValueError, match="mode must be one of auto, skb, driver, hardware"):
        skel.programs.on_xdp.attach_xdp("lo", mode="fast")
    with pytest.raises(errors.InvalidValueError, match="direction must be one of ingress, egress"):
        skel.programs.on_tc.attach_tc("lo", "sideways")


def test_test_run(skel: Any) -> None:
    run = skel.programs.on_xdp.test_run(b"\x01" * 64, repeat=3)
    assert (run.result, run.data) == (2, b"\x01" * 64)
    assert skel.bss.packets_xdp == 3
    with pytest.raises(errors.AttachError, match="can't be test-run"):
        skel.programs.on_uprobe.test_run(b"x")


# --- kinds that attach in ways of their own -------------------------------------------------------------------------


def test_sampling(probes: Any) -> None:
    links = probes.programs.on_sample.attach_sampling(1000)
    assert len(links) == os.sysconf("SC_NPROCESSORS_ONLN")
    deadline = time.monotonic() + 20
    while not probes.bss.samples and time.monotonic() < deadline:
        sum(range(100_000))
    assert probes.bss.samples > 0
    for link in links:
        link.detach()
    assert probes.links == ()


def test_an_iterator_reads_as_text(iterators: Any) -> None:
    lines = iterators.programs.list_tasks.read_iter().splitlines()
    assert f"process {os.getpid()}" in lines
    assert iterators.links == ()


def test_a_context_that_the_kernel_changes_in_place(contexts: Any) -> None:
    run = contexts.programs.answer.test_run(context=struct.pack("Qq", 42, 0))
    assert run.result == 3
    assert struct.unpack("Qq", run.context) == (42, -42)
    assert contexts.programs.answer.test_run(context=bytes(16), repeat=1).context == bytes(16)


def test_a_context_of_arguments(contexts: Any) -> None:
    arguments = struct.pack("QQ", 5, 1 << 63)
    run = contexts.programs.takes_arguments.test_run(context=arguments)
    assert (run.result, run.context) == (4, arguments)
    assert contexts.bss.argument == 1 << 63


def test_a_context_that_comes_back_changed(contexts: Any) -> None:
    context = bytes(8) + struct.pack("I", 6) + bytes(180)  # struct __sk_buff, with its mark
    run = contexts.programs.marks.test_run(b"\x01" * 64, context=context)
    assert (run.result, run.data) == (0, b"\x01" * 64)
    assert struct.unpack_from("I", run.context, 8) == (7,)
    assert context[8] == 6, "what was passed stays as it was"


def test_an_iterator_over_a_map(iterators: Any) -> None:
    iterators.maps.squares.update_many({n: n * n for n in range(5)})
    lines = iterators.programs.list_squares.read_iter(map=iterators.maps.squares).splitlines()
    assert sorted(lines) == [f"{n} {n * n}" for n in range(5)]
    with iterators.programs.list_squares.attach_iter(map=iterators.maps.squares) as link:
        assert repr(link) == "<link of list_squares, attached to iterator over map squares>"


def test_an_iterator_over_cgroups(iterators: Any, cgroup: Path) -> None:
    (cgroup / "inner").mkdir()
    try:
        levels = {
            order: iterators.programs.list_cgroups.read_iter(cgroup=cgroup, order=order).split()[1::2]
            for order in ("self_only", "descendants_pre", "descendants_post", "ancestors_up")
        }
    finally:
        (cgroup / "inner").rmdir()
    (own,) = levels["self_only"]
    inner = str(int(own) + 1)
    assert levels["descendants_pre"] == [own, inner]
    assert levels["descendants_post"] == [inner, own]
    assert levels["ancestors_up"] == [str(level) for level in range(int(own), -1, -1)]
    with pytest.raises(errors.AttachError, match="can't be attached to cgroup /nowhere: No such file"):
        iterators.programs.list_cgroups.read_iter(cgroup="/nowhere")
    with pytest.raises(errors.InvalidValueError, match="order must be one of self_only, descendants_pre"):
        iterators.programs.list_cgroups.read_iter(cgroup=cgroup, order="up")


def test_storage_of_a_cgroup(classes: Callable[[str], Any], cgroup: Path) -> None:
    with loaded(classes("cgroup_storage")) as skel, skel.programs.counts.attach_cgroup(cgroup):
        of_all, by_cpu = skel.maps.per_cgroup, skel.maps.per_cgroup_and_cpu
        send_a_packet()
        ((key, count),) = of_all.items()
        assert key.cgroup_inode_id == cgroup.stat().st_ino
        assert count > 0
        assert [(key, sum(counts)) for key, counts in by_cpu.items()] == [(key, count)]
        of_all[key] = 1 << 40
        send_a_packet()
        assert of_all[key] > 1 << 40


def test_an_iterator_over_one_process(iterators: Any) -> None:
    assert set(iterators.programs.list_tasks.read_iter(pid=os.getpid()).splitlines()) == {f"process {os.getpid()}"}


def test_iterators_that_need_an_argument_are_not_attached_by_themselves(iterators: Any) -> None:
    with pytest.raises(errors.AttachError, match=r"does not name what to iterate over; use read_iter\(map=...\)"):
        iterators.programs.list_squares.attach()
    with pytest.raises(errors.AttachError, match=r"use read_iter\(cgroup=...\)"):
        iterators.programs.list_cgroups.attach()
    iterators.attach()
    attached = [link.program.name for link in iterators.links]
    for link in iterators.links:
        link.detach()
    assert attached == ["list_tasks"]


def test_only_what_tracefs_names_is_blamed_on_it(contexts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TRACEFS", ("/nowhere", "/nowhere"))
    with pytest.raises(errors.AttachError, match="raw tracepoint no_such: ENOENT") as caught:
        contexts.programs.takes_arguments.attach_raw_tracepoint("no_such")
    assert "mount" not in str(caught.value)


@pytest.mark.usefixtures("loopback")
def test_socket_lookup_of_a_network_namespace(classes: Callable[[str], Any]) -> None:
    with loaded(classes("sk_lookup")) as skel, skel.programs.on_lookup.attach_netns() as link:
        with socket.socket() as listener, socket.socket() as client:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            client.connect(listener.getsockname())
        assert skel.bss.lookups > 0
        link.update(skel.programs.on_lookup)


def test_a_verdict_on_a_sockmap(classes: Callable[[str], Any], skel: Any) -> None:
    with loaded(classes("sockmap")) as other, socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted, other.programs.on_verdict.attach_sockmap(other.maps.sockets):
            other.maps.sockets[0] = accepted
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
            assert other.bss.verdicts > 0
        with pytest.raises(errors.InvalidValueError, match="is neither an sk_skb nor an sk_msg section"):
            skel.programs.on_xdp.attach_sockmap(other.maps.sockets)


@pytest.mark.parametrize(
    "attach",
    [
        lambda p: p.on_function.attach_kprobe("no_such_function_anywhere"),
        lambda p: p.on_function.attach_kprobe_multi(functions=["no_such_function_anywhere"]),
        lambda p: p.on_function.attach_ksyscall("no_such_call"),
        lambda p: p.on_function.attach_usdt("/no/such/binary", "provider", "probe"),
        lambda p: p.on_sample.attach_perf_event(-1),
    ],
)
def test_probes_that_cannot_be_made_say_so(probes: Any, attach: Any) -> None:
    tracefs.mounted()
    with pytest.raises((errors.AttachError, errors.PermissionDeniedError), match="can't be attached to"):
        attach(probes.programs)
    assert probes.links == ()


def test_what_this_libbpf_lacks_is_named(probes: Any) -> None:
    if probes._held.libbpf.has("bpf_program__attach_tcx"):
        pytest.skip("this libbpf has it")
    with pytest.raises(errors.LibbpfTooOldError, match=r"bpf_program__attach_tcx\(\) needs libbpf 1\.3 or later"):
        probes.programs.on_function.attach_tcx("lo")
