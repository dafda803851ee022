"""Attach a program of each kind, see that it runs, and that it no longer does once its link is gone.

Input: names of exercises, none for all; the package `demo` with tests/bpf/kinds.bpf.c, its struct_ops ones and
usdt.bpf.c, importable; libprobe.so beside this file. Output: a line of JSON for each exercise: `step` is `works`, `does
not run`, `old libbpf`, or what was refused (`load`, `attach`), and `error`. Standard library only: this runs in virtual
machines, too.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import platform
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 20
"""Seconds to wait for a sample; emulated machines are slow."""
SYSCALL = {"x86_64": "__x64_sys_{}", "aarch64": "__arm64_sys_{}"}[platform.machine()]
CGROUP = next(path for path in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(path + "/cgroup.procs"))
TCP_CONGESTION = 13
NFPROTO_IPV4, NF_INET_LOCAL_IN, PRIORITY = 2, 1, -128
XDP_DROP, XDP_TX = 1, 3
NETKIT, NETKIT_ADDRESS, NETKIT_PEER = "hatch0", "10.77.0.1", "10.77.0.2"
RTM_NEWLINK, NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 16, 0x1, 0x4, 0x200, 0x400
IFLA_INFO_KIND, IFLA_IFNAME, IFLA_LINKINFO, IFF_UP, SIOCSIFFLAGS, SIOCSIFADDR = 1, 3, 18, 1, 0x8914, 0x8916


class NoDeviceError(Exception):
    """The kernel has no network device of the kind that an exercise needs."""


class DoesNotRunError(Exception):
    """A program is attached, and what it should see doesn't reach it; or it does although the program is detached."""


def skeleton(name: str) -> Any:
    """The skeleton class of a program source."""
    module = importlib.import_module(f"demo.{name}_skel")
    return getattr(module, "".join(part.title() for part in name.split("_")))


@contextmanager
def loaded(*names: str, target: str = "") -> Iterator[Any]:
    """kinds.bpf.c with some of its programs; `target` is the kernel function that they are to attach to."""
    with skeleton("kinds").open() as bpf:
        for name in names:
            bpf.programs[name].autoload = True
            if target:
                bpf.programs[name].set_attach_target(target)
        with bpf.load() as skel:
            yield skel


def check(condition: bool, text: str) -> None:
    if not condition:
        raise DoesNotRunError(text)


def runs(skel: Any, attach: Callable[[], Any], do: Callable[[], object], *, times: int = 1) -> None:
    """What is attached counts `do()`, and no longer once it is detached."""
    with attach():
        before = skel.bss.hits
        do()
        check(skel.bss.hits - before >= times, f"it ran {skel.bss.hits - before} times, not {times}")
    before = skel.bss.hits
    do()
    check(skel.bss.hits == before, "it runs although it is detached")


def libc() -> str:
    with open("/proc/self/maps") as maps:
        return next(line.split()[-1] for line in maps if "/libc.so" in line or "/libc-2" in line)


def call_getppid() -> None:
    ctypes.CDLL(None).getppid()


def send_a_packet(address: str = "127.0.0.1") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (address, 9))
    time.sleep(0.05)


def make_a_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def open_a_file() -> None:
    with open("/proc/self/stat"):
        pass


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected TCP sockets."""
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            yield client, accepted


# --- probes ---------------------------------------------------------------------------------------------------------


def kprobe() -> None:
    with loaded("on_kprobe") as skel:
        runs(skel, lambda: skel.programs.on_kprobe.attach_kprobe(SYSCALL.format("getppid")), os.getppid)


def kprobe_offset() -> None:
    """Within the function: behind the entry's marker or call, whatever this kernel begins its functions with."""
    with loaded("on_kprobe") as skel:
        attach = skel.programs.on_kprobe.attach_kprobe
        refused: Exception | None = None
        for offset in (4, 5, 8, 12):
            try:
                attach(SYSCALL.format("getppid"), offset=offset).detach()
            except Exception as error:
                refused = error
                continue
            runs(skel, lambda at=offset: attach(SYSCALL.format("getppid"), offset=at), os.getppid)  # type: ignore[misc]
            return
        assert refused is not None
        raise refused


def kretprobe() -> None:
    with loaded("on_kretprobe") as skel:
        attach = skel.programs.on_kretprobe.attach_kprobe
        runs(skel, lambda: attach(SYSCALL.format("getppid"), retprobe=True), os.getppid)


def ksyscall() -> None:
    with loaded("on_ksyscall") as skel:
        runs(skel, lambda: skel.programs.on_ksyscall.attach_ksyscall("getppid"), os.getppid)


def kretsyscall() -> None:
    with loaded("on_ksyscall") as skel:
        runs(skel, lambda: skel.programs.on_ksyscall.attach_ksyscall("getppid", retprobe=True), os.getppid)


def kprobe_multi() -> None:
    with loaded("on_kprobes") as skel:
        functions = [SYSCALL.format("getpgid"), SYSCALL.format("getsid")]

        def both() -> None:
            os.getpgid(0)
            os.getsid(0)

        attach = skel.programs.on_kprobes.attach_kprobe_multi
        runs(skel, lambda: attach(functions=functions, cookies=[1, 2]), both, times=2)
        runs(skel, lambda: attach(functions=functions, retprobe=True), both, times=2)
        runs(skel, lambda: attach(SYSCALL.format("getpg?d")), lambda: os.getpgid(0))


def kprobe_session() -> None:
    with loaded("on_session") as skel:
        attach = skel.programs.on_session.attach_kprobe_multi
        runs(skel, lambda: attach(SYSCALL.format("getpgid"), session=True), lambda: os.getpgid(0), times=2)


def uprobe() -> None:
    with loaded("on_uprobe") as skel:
        attach = skel.programs.on_uprobe.attach_uprobe
        runs(skel, lambda: attach(libc(), "getppid", pid=0), call_getppid)


def uretprobe() -> None:
    with loaded("on_uprobe") as skel:
        attach = skel.programs.on_uprobe.attach_uprobe
        runs(skel, lambda: attach(libc(), "getppid", retprobe=True), call_getppid)


def uprobe_multi() -> None:
    with loaded("on_uprobes") as skel:
        attach = skel.programs.on_uprobes.attach_uprobe_multi

        def both() -> None:
            call_getppid()
            ctypes.CDLL(None).getuid()

        runs(skel, lambda: attach(libc(), functions=["getppid", "getuid"], pid=0), both, times=2)
        runs(skel, lambda: attach(libc(), functions=["getppid"], retprobe=True), call_getppid)
        runs(skel, lambda: attach(libc(), "getpp?d"), call_getppid)


def usdt() -> None:
    library = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libprobe.so")
    opened = ctypes.CDLL(library)  # kernels before 5.15 find probes of a process in what it has open
    with skeleton("usdt").open().load() as skel:
        attach = skel.programs.on_usdt.attach_usdt
        try:
            runs(skel, lambda: attach(library, "hatch_bpf", "probe"), lambda: opened.probe(1))
        except importlib.import_module("demo._bpf.runtime").AttachError as error:
            check("pid=PID" in str(error), f"no word of the remedy: {error}")
        runs(
            skel,
            lambda: attach(library, "hatch_bpf", "probe", pid=os.getpid()),
            lambda: opened.probe(4242),
        )
        # how libbpf hands arguments to usdt.bpf.h changed with 1.7, and the header is the build machine's
        if importlib.import_module("demo._bpf.runtime.libbpf.library").load().version < (1, 7):
            check(skel.bss.argument == 4242, f"it was handed {skel.bss.argument}")


# --- tracing --------------------------------------------------------------------------------------------------------


def tracepoint() -> None:
    with loaded("on_tracepoint") as skel:
        attach = skel.programs.on_tracepoint.attach_tracepoint
        runs(skel, lambda: attach("syscalls", "sys_enter_getppid"), os.getppid)


def raw_tracepoint() -> None:
    with loaded("on_raw_tracepoint") as skel:
        runs(skel, skel.programs.on_raw_tracepoint.attach, os.getppid)


def tp_btf() -> None:
    with loaded("on_tp_btf") as skel:
        runs(skel, skel.programs.on_tp_btf.attach, os.getppid)


def fentry() -> None:
    with loaded("on_fentry", target=SYSCALL.format("getpgid")) as skel:
        runs(skel, skel.programs.on_fentry.attach, lambda: os.getpgid(0))


def fexit() -> None:
    with loaded("on_fexit", target=SYSCALL.format("getpgid")) as skel:
        runs(skel, skel.programs.on_fexit.attach, lambda: os.getpgid(0))


def fmod_ret() -> None:
    with loaded("on_fmod_ret", target="security_task_getpgid") as skel:
        runs(skel, skel.programs.on_fmod_ret.attach, lambda: os.getpgid(os.getpid()))


def lsm() -> None:
    with loaded("on_lsm") as skel:
        runs(skel, skel.programs.on_lsm.attach, open_a_file)


def lsm_cgroup() -> None:
    with loaded("on_lsm_cgroup") as skel:
        runs(skel, lambda: skel.programs.on_lsm_cgroup.attach_cgroup(CGROUP), make_a_socket)


def sampling() -> None:
    with loaded("on_sample") as skel:
        links = skel.programs.on_sample.attach_sampling(1000)
        deadline = time.monotonic() + PATIENCE
        while not skel.bss.hits and time.monotonic() < deadline:
            sum(range(100_000))
        check(skel.bss.hits > 0, "no sample came")
        for link in links:
            link.detach()


def iterator() -> None:
    with loaded("list_tasks") as skel:
        text = skel.programs.list_tasks.read_iter()
        check(f"task {os.getpid()}" in text.splitlines(), "this process is not in the list")


def freplace() -> None:
    with loaded("with_function") as target, skeleton("kinds").open() as bpf:
        bpf.programs.replacement.autoload = True
        bpf.programs.replacement.set_attach_target("replaceable", program_fd=target.programs.with_function.fd)

        def verdict() -> int:
            return int(target.programs.with_function.test_run(b"\x01" * 64).result)

        with bpf.load() as skel:
            check(verdict() == XDP_DROP, "it is replaced before it is attached")
            with skel.programs.replacement.attach():
                check(verdict() == XDP_TX, "it is not replaced")
            check(verdict() == XDP_DROP, "it is still replaced")
            with skel.programs.replacement.attach_freplace(target.programs.with_function, "replaceable"):
                check(verdict() == XDP_TX, "it is not replaced by name")


# --- network --------------------------------------------------------------------------------------------------------


def cgroup() -> None:
    with loaded("on_egress", "on_socket") as skel:
        runs(skel, lambda: skel.programs.on_egress.attach_cgroup(CGROUP), send_a_packet)
        runs(skel, lambda: skel.programs.on_socket.attach_cgroup(CGROUP), make_a_socket)


def xdp() -> None:
    with loaded("on_xdp", "on_xdp_too") as skel:
        programs = skel.programs
        for mode in ("auto", "skb"):
            runs(skel, lambda mode=mode: programs.on_xdp.attach_xdp("lo", mode=mode), send_a_packet)  # type: ignore[misc]

        with programs.on_xdp.attach_xdp("lo") as link:
            link.update(programs.on_xdp_too)
            before = skel.bss.hits
            send_a_packet()
            check(skel.bss.hits == before and skel.bss.others > 0, "the link does not change")


def xdp_replace() -> None:
    """One without a link in another's place, and by way of its link a third one."""
    with loaded("on_xdp", "on_xdp_too") as skel:
        first, second = skel.programs.on_xdp, skel.programs.on_xdp_too
        with first.attach_xdp("lo", replace=True), second.attach_xdp("lo", replace=True) as link:
            send_a_packet()
            check(skel.bss.hits == 0 and skel.bss.others > 0, "the first is not replaced")
            link.update(first)
            before = skel.bss.others
            send_a_packet()
            check(skel.bss.hits > 0 and skel.bss.others == before, "the link does not change")
        before = skel.bss.hits
        send_a_packet()
        check(skel.bss.hits == before, "it runs although both are detached")


def tc() -> None:
    with loaded("on_tc", "on_tc_too") as skel:
        runs(skel, lambda: skel.programs.on_tc.attach_tc("lo"), send_a_packet)
        with skel.programs.on_tc.attach_tc("lo") as link:
            link.update(skel.programs.on_tc_too)
            before = skel.bss.hits
            send_a_packet()
            check(skel.bss.hits == before and skel.bss.others > 0, "the filter does not change")


def tcx() -> None:
    with loaded("on_tcx") as skel:
        runs(skel, lambda: skel.programs.on_tcx.attach_tcx("lo"), send_a_packet)


def netkit() -> None:
    """What leaves by the device passes the program. Two ends come into being together, and go together."""
    make_netkit(NETKIT)
    with loaded("on_netkit") as skel:
        runs(skel, lambda: skel.programs.on_netkit.attach_netkit(NETKIT), lambda: send_a_packet(NETKIT_PEER))


def make_netkit(name: str) -> None:
    """A netkit device with an address, both of whose ends are up, by rtnetlink(7): guests have no ip(8)."""
    before = set(socket.if_nameindex())
    ifname, kind = attribute(IFLA_IFNAME, name.encode() + b"\0"), attribute(IFLA_INFO_KIND, b"netkit\0")
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, IFF_UP, IFF_UP) + ifname + attribute(IFLA_LINKINFO, kind)
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, flags, 1, 0) + body)
        (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
    if error:
        raise NoDeviceError(f"this kernel makes no netkit device: {os.strerror(-error)}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        address = struct.pack("=16sHH4s8x", name.encode(), socket.AF_INET, 0, socket.inet_aton(NETKIT_ADDRESS))
        fcntl.ioctl(control, SIOCSIFADDR, address)
        for _, end in set(socket.if_nameindex()) - before:
            fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("=16sH22x", end.encode(), IFF_UP))


def attribute(kind: int, data: bytes) -> bytes:
    """A `struct rtattr`, padded."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def netfilter() -> None:
    with loaded("on_netfilter") as skel:
        attach = skel.programs.on_netfilter.attach_netfilter
        runs(skel, lambda: attach(family=NFPROTO_IPV4, hook=NF_INET_LOCAL_IN, priority=PRIORITY), send_a_packet)


def sk_lookup() -> None:
    def connect() -> None:
        with connection():
            pass

    with loaded("on_lookup") as skel:
        runs(skel, skel.programs.on_lookup.attach_netns, connect)


def sockmap() -> None:
    with (
        loaded("on_verdict") as skel,
        connection() as (client, accepted),
        skel.programs.on_verdict.attach_sockmap(skel.maps.sockets),
    ):
        skel.maps.sockets[0] = accepted
        client.sendall(b"hello")
        check(accepted.recv(5) == b"hello", "what was sent doesn't arrive")
        check(skel.bss.hits > 0, "it did not run")


# --- struct_ops, and links ------------------------------------------------------------------------------------------


def send_through(control: str) -> None:
    """Send something through a TCP connection with a congestion control."""
    with connection() as (client, accepted):
        client.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, control.encode())
        for _ in range(20):
            client.sendall(b"x" * 1000)
            accepted.recv(1000)
            accepted.sendall(b"y")
            client.recv(1)


def struct_ops() -> None:
    with skeleton("struct_ops").run() as skel:
        check([link.program.name for link in skel.links] == ["counting"], "run() does not attach it")
        send_through("bpf_counting")
        check(skel.bss.acks > 0, "it hears of no acknowledgement")
        skel.links[0].detach()
        try:
            send_through("bpf_counting")
        except FileNotFoundError:
            return
        raise DoesNotRunError("the kernel knows it although it is detached")


def struct_ops_link() -> None:
    with skeleton("struct_ops_link").open() as bpf:
        bpf.maps.counting_too.autoattach = False
        with bpf.load() as skel:
            skel.attach()
            (link,) = skel.links
            send_through("bpf_counting")
            check(skel.bss.acks > 0, "it hears of no acknowledgement")
            link.update(skel.maps.counting_too)
            before = skel.bss.acks
            send_through("bpf_counting")
            check(skel.bss.acks == before and skel.bss.others > 0, "the link does not change")


def links() -> None:
    """A cgroup's link changes its program, and stays when it is pinned."""
    pin = f"/sys/fs/bpf/hatch-bpf-{os.getpid()}"
    with loaded("on_raw_tracepoint", "on_egress") as skel:
        link = skel.programs.on_egress.attach_cgroup(CGROUP)
        link.update(skel.programs.on_egress)
        link.pin(pin)
        try:
            link.detach()
            before = skel.bss.hits
            send_a_packet()
            check(skel.bss.hits > before, "a pinned link does not stay")
        finally:
            os.unlink(pin)
        for _ in range(100):  # the kernel frees a link later
            before = skel.bss.hits
            send_a_packet()
            if skel.bss.hits == before:
                return
        raise DoesNotRunError("it runs although nothing holds its link")


EXERCISES: dict[str, Callable[[], None]] = {
    exercise.__name__: exercise
    for exercise in (
        *(kprobe, kprobe_offset, kretprobe, ksyscall, kretsyscall, kprobe_multi, kprobe_session),
        *(uprobe, uretprobe, uprobe_multi, usdt),
        *(tracepoint, raw_tracepoint, tp_btf, fentry, fexit, fmod_ret, lsm, lsm_cgroup, sampling, iterator, freplace),
        *(cgroup, xdp, xdp_replace, tc, tcx, netkit, netfilter, sk_lookup, sockmap),
        *(struct_ops, struct_ops_link, links),
    )
}


def outcome(name: str) -> dict[str, Any]:
    """Do an exercise; returns the step it got to, and the error."""
    errors = importlib.import_module("demo._bpf.runtime.errors")
    try:
        EXERCISES[name]()
    except errors.LibbpfTooOldError as error:
        return {"step": "old libbpf", "error": str(error)}
    except errors.LoadError as error:
        return {"step": "load", "error": str(error)}
    except (errors.AttachError, errors.PermissionDeniedError, errors.OpenError) as error:
        return {"step": "load" if "can't be loaded" in str(error) else "attach", "error": str(error)}
    except NoDeviceError as error:
        return {"step": "no device", "error": str(error)}
    except DoesNotRunError as error:
        return {"step": "does not run", "error": str(error)}
    return {"step": "works", "error": ""}


def main(names: list[str]) -> None:
    version = importlib.import_module("demo._bpf.runtime.libbpf.library").load().version
    print(json.dumps({"libbpf": version, "python": platform.python_version()}), flush=True)
    for name in names or EXERCISES:
        print(json.dumps({"exercise": name, **outcome(name)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
