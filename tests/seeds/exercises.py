"""Use the seeds' programs as their users would, and hold what they tell against what this machine tells by other means.

Input: names of exercises; the package `seeds`, importable. Output: a line of JSON for each exercise: `step` is `right`,
`wrong` or what was refused (`open`, `load`, `attach`), `btf` the source of the BTF used, `checks` how many comparisons
were made, `wrong` those that failed. Standard library only: this runs in virtual machines, too.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

PATIENCE = 20
"""Seconds to wait for an event; emulated machines are slow."""

TCP_INFO_STATE = struct.Struct("=7B")
RTT_IN_TCP_INFO = 68
TCP_INFO_WSCALE_OPTION = 4
TCP_THIN_LINEAR_TIMEOUTS = 16
TCP_INQ = 36
NAGLE_OFF = 1
"""`TCP_NAGLE_OFF` of the kernel's `nonagle`."""
SYS_ARCH_PRCTL = 158
ARCH_GET_FS = 0x1003
CLOCK_TAI = 11


class Checks:
    """What was compared, and what of it was not as it should be."""

    def __init__(self) -> None:
        self.count = 0
        self.wrong: list[str] = []
        self.found: dict[str, int] = {}
        """Values that only the machine outside can check."""
        self.btf = ""

    def equal(self, what: str, found: object, wanted: object) -> None:
        self._check(found == wanted, f"{what} is {found!r}, not {wanted!r}")

    def between(self, what: str, low: float, found: float, high: float) -> None:
        self._check(low <= found <= high, f"{what} is {found!r}, not from {low!r} to {high!r}")

    def _check(self, right: bool, text: str) -> None:
        self.count += 1
        if not right:
            self.wrong.append(text)

    def used(self, loaded: Any) -> None:
        """Note which BTF a skeleton was relocated with."""
        self.btf = loaded.btf.source if loaded.btf is not None else "none needed"


def skeleton(name: str) -> Any:
    """The skeleton class of a program source."""
    module = importlib.import_module(f"seeds.{name}_skel")
    return getattr(module, "".join(part.title() for part in name.split("_")))


def next_event(events: Any, wanted: Callable[[Any], bool]) -> Any:
    """The first event that is wanted; TimeoutError where none comes."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for event in events.poll(0.2):
            if wanted(event):
                return event
    raise TimeoutError("no event came")


def has(member: str, value: object) -> Callable[[Any], bool]:
    """Whether an event's member is a value; char arrays by their text."""

    def is_wanted(event: Any) -> bool:
        found = getattr(event, member)
        return (str(found) if isinstance(found, bytes) else found) == value

    return is_wanted


# flat


def flat(checks: Checks, kind: str) -> None:
    """Packets of our own making, then real ones on the loopback interface, each of which goes by once either way.

    `kind` is the buffer that carries the events, `ring` or `perf`.
    """
    with skeleton("flat").open() as opened:
        other = "perf" if kind == "ring" else "ring"
        opened.programs[f"flat_{other}"].autoload = False
        opened.maps[f"{other}_events"].autocreate = False
        with opened.load() as skel:
            checks.used(skel)
            program, events = skel.programs[f"flat_{kind}"], skel.maps[f"{kind}_events"]
            if kind == "perf":
                events.open()
            made_packets(checks, program.test_run, events)
            for direction in ("ingress", "egress"):
                with program.attach_tc("lo", direction):
                    udp_exchange(checks, events, socket.AF_INET, "127.0.0.1")
                    tcp_handshake(checks, events, socket.AF_INET, "127.0.0.1")
                    if os.path.exists("/proc/net/if_inet6"):
                        tcp_handshake(checks, events, socket.AF_INET6, "::1")


def packed(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address).ljust(16, b"\0")


def udp_exchange(checks: Checks, events: Any, family: int, address: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((address, 0))
        client.bind((address, 0))
        before = time.monotonic_ns()
        client.sendto(b"question", server.getsockname())
        _, sender = server.recvfrom(64)
        asked = time.monotonic_ns()
        time.sleep(0.02)
        answering = time.monotonic_ns()
        server.sendto(b"answer", sender)
        client.recv(64)
        after = time.monotonic_ns()
        sport, dport = client.getsockname()[1], server.getsockname()[1]
    event = next_event(events, lambda e: e.flow.sport == sport)
    checks.equal("UDP flow", flow_of(event), (17, 4, packed(family, address), packed(family, address), dport))
    checks.between("time of the UDP question", before, event.start_ns, asked)
    checks.between("time of the UDP answer", answering, event.end_ns, after)


def tcp_handshake(checks: Checks, events: Any, family: int, address: str) -> None:
    with socket.create_server((address, 0), family=family) as server:
        before = time.monotonic_ns()
        with socket.create_connection(server.getsockname()[:2]) as client:
            after = time.monotonic_ns()
            sport, dport = client.getsockname()[1], server.getsockname()[1]
            event = next_event(events, lambda e: e.flow.sport == sport)
    version = 4 if family == socket.AF_INET else 6
    checks.equal("TCP flow", flow_of(event), (6, version, packed(family, address), packed(family, address), dport))
    checks.between("time of the SYN", before, event.start_ns, after)
    checks.between("time of the SYN-ACK", event.start_ns, event.end_ns, after)


def flow_of(event: Any) -> tuple[object, ...]:
    flow = event.flow
    return flow.protocol, flow.family, bytes(flow.saddr), bytes(flow.daddr), flow.dport


def made_packets(checks: Checks, run: Callable[[bytes], Any], events: Any) -> None:
    here, there = socket.inet_aton("192.0.2.1"), socket.inet_aton("198.51.100.2")
    before = time.monotonic_ns()
    checks.equal("verdict on the SYN", run(tcp_packet(here, there, 1234, 80, syn=True)).result, 0)
    between = time.monotonic_ns()
    run(tcp_packet(here, there, 1234, 80, ack=True))
    run(tcp_packet(there, here, 81, 1234, syn=True, ack=True))
    run(tcp_packet(there, here, 80, 1234, syn=True, ack=True))
    after = time.monotonic_ns()
    event = next_event(events, lambda _: True)
    addresses = here.ljust(16, b"\0"), there.ljust(16, b"\0")
    checks.equal("flow of made packets", (event.flow.sport, *flow_of(event)), (1234, 6, 4, *addresses, 80))
    checks.between("time of the made SYN", before, event.start_ns, between)
    checks.between("time of the made SYN-ACK", between, event.end_ns, after)
    checks.equal("more events", events.poll(0), [])


def tcp_packet(source: bytes, target: bytes, sport: int, dport: int, *, syn: bool = False, ack: bool = False) -> bytes:
    ethernet = bytes(12) + b"\x08\x00"
    # with an option, so that the header's length counts
    ip = struct.pack("!BBHHHBBH4s4sI", 0x46, 0, 44, 1, 0, 64, 6, 0, source, target, 0x01010100)
    return ethernet + ip + struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 0x50, syn * 2 | ack * 16, 1024, 0, 0)


# TCP sockets


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection over which something was said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        with client, peer:
            for _ in range(5):
                client.sendall(b"ping")
                peer.recv(64)
                peer.sendall(b"pong")
                client.recv(64)
            yield client, peer


def tcprtt(checks: Checks) -> None:
    with skeleton("tcprtt_fentry").run() as skel:
        checks.used(skel)
        with connection() as (client, _):
            info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RTT_IN_TCP_INFO + 4)
            (rtt,) = struct.unpack_from("=I", info, RTT_IN_TCP_INFO)
            own, other = client.getsockname(), client.getpeername()
            client.close()
            event = next_event(skel.maps.close_events, has("sport", own[1]))
        checks.equal("round-trip time", event.srtt_us, rtt)
        checks.between("round-trip time", 1, rtt, 10_000_000)
        checks.equal("own address", bytes(event.saddr), socket.inet_aton(own[0]))
        checks.equal("peer's address", bytes(event.daddr), socket.inet_aton(other[0]))
        checks.equal("peer's port", event.dport, other[1])


def bitfields(checks: Checks, program: str) -> None:
    with skeleton("bitfields").open() as opened:
        opened.programs[program].autoload = True
        with opened.load() as skel:
            checks.used(skel)
            skel.attach()
            for nodelay, thin, inq in ((0, 0, 0), (1, 0, 1), (0, 1, 0), (1, 1, 1)):
                with connection() as (client, _):
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
                    client.setsockopt(socket.IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, thin)
                    client.setsockopt(socket.IPPROTO_TCP, TCP_INQ, inq)
                    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_STATE.size)
                    *_, options, scales = TCP_INFO_STATE.unpack(info)
                    client_port = client.getsockname()[1]
                    client.close()
                    event = next_event(skel.maps.bits_events, has("sport", client_port))
                for way, bits in (("direct", event.direct), ("probed", event.probed)):
                    if way == "direct" and program.startswith("raw_"):
                        continue
                    checks.equal(f"{way} wscale_ok", bits.wscale_ok, int(bool(options & TCP_INFO_WSCALE_OPTION)))
                    checks.equal(f"{way} window scales", (bits.snd_wscale, bits.rcv_wscale), (scales & 15, scales >> 4))
                    checks.equal(f"{way} nonagle", bits.nonagle & NAGLE_OFF, nodelay)
                    checks.equal(f"{way} thin_lto", bits.thin_lto, thin)
                    checks.equal(f"{way} recvmsg_inq", bits.recvmsg_inq, inq)
                if not program.startswith("raw_"):
                    checks.equal("what was read directly", bytes(event.direct), bytes(event.probed))


# files and tasks


def opensnoop(checks: Checks) -> None:
    with skeleton("opensnoop").open() as opened:
        opened.rodata.target_tgid = os.getpid()
        with opened.load() as skel:
            checks.used(skel)
            skel.attach()
            for path, flags in (("/proc/self/stat", os.O_RDONLY), ("/no/such/file", os.O_RDWR | os.O_NOFOLLOW)):
                try:
                    result = fd = os.open(path, flags)
                    os.close(fd)
                except OSError as error:
                    result = -(error.errno or 0)
                event = next_event(skel.maps.open_events, has("path", path))
                # Python adds O_CLOEXEC
                checks.equal(f"flags for {path}", event.flags & ~os.O_CLOEXEC & ~0o100000, flags & ~0o100000)
                checks.equal(f"result for {path}", event.ret, result)
                checks.equal("process", (event.tgid, event.pid), (os.getpid(), threading.get_native_id()))
                checks.equal("user", event.uid, os.getuid())
                checks.equal("comm", str(event.comm), own_comm())
            checks.equal("failed with", result, -errno.ENOENT)


def own_comm() -> str:
    with open("/proc/self/comm") as file:
        return file.read().rstrip("\n")


def runqslower(checks: Checks, kind: str) -> None:
    """Two processes that both want one CPU all the time: the kernel's own account of their waiting is the reference."""
    with skeleton("runqslower").open() as opened:
        for program in opened.programs:
            program.autoload = program.name.startswith(kind)
        with opened.load() as skel, ExitStack() as stack:
            checks.used(skel)
            skel.attach()
            cpu = min(os.sched_getaffinity(0))
            first, second = (stack.enter_context(busy_child(cpu)) for _ in range(2))
            watched = (first, second)
            # two accounts around the events, and two within, so that it does not matter how long all this takes
            outer = [run_delays(watched)]
            skel.maps.wait_events.read_batch()
            inner = [run_delays(watched)]
            events: list[Any] = []
            deadline = time.monotonic() + PATIENCE
            while min(sum(e.pid == pid for e in events) for pid in watched) < 15:
                events += skel.maps.wait_events.poll(1)
                if time.monotonic() > deadline:
                    raise TimeoutError("the busy processes did not wait for each other")
            inner.append(run_delays(watched))
            events += skel.maps.wait_events.read_batch()
            outer.append(run_delays(watched))
    for pid in watched:
        own = [event for event in events if event.pid == pid]
        told = sum(event.waited_ns for event in own)
        least, most = (after[pid] - before[pid] for before, after in (inner, outer))
        # the scheduler's clock is not quite that of the program
        checks.between(f"waiting of {pid} that is told of", least / 1.5, told, most * 1.5)
        checks.between(f"waiting of {pid}", 1, least, most)
        checks.equal("names", {str(event.comm) for event in own}, {"seeds-busy"})
        checks.equal("a task that took over from itself", pid in {event.prev_pid for event in own}, False)


@contextmanager
def busy_child(cpu: int) -> Iterator[int]:
    """The pid of a process that keeps a CPU busy, under a name of its own."""
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        with open("/proc/self/comm", "w") as file:
            file.write("seeds-busy")
        os.sched_setaffinity(0, {cpu})
        os.write(tell, b"!")
        end = time.monotonic() + 2 * PATIENCE
        while time.monotonic() < end:
            pass
        os._exit(0)
    try:
        os.read(ready, 1)
        os.close(ready)
        os.close(tell)
        yield pid
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def run_delays(pids: Iterable[int]) -> dict[int, int]:
    """Nanoseconds that processes have waited for a CPU, by the kernel's account."""
    delays = {}
    for pid in pids:
        with open(f"/proc/{pid}/schedstat") as file:
            delays[pid] = int(file.read().split()[1])
    return delays


def thread(checks: Checks) -> None:
    with skeleton("thread").open() as opened:
        opened.rodata.target_pid = threading.get_native_id()
        with opened.load() as skel:
            checks.used(skel)
            skel.attach()
            time.sleep(0.01)  # the kernel keeps the register in the struct when another task gets the CPU
            os.getppid()
            base = ctypes.c_ulong()
            assert ctypes.CDLL(None).syscall(SYS_ARCH_PRCTL, ARCH_GET_FS, ctypes.byref(base)) == 0
            checks.equal("fsbase", skel.bss.fsbase, base.value)
            checks.equal("fsbase is not zero", base.value != 0, True)


def utime(checks: Checks) -> None:
    """KCONFIG names a file with the kernel's configuration; where it does not, libbpf has to find one."""
    path = os.environ.get("KCONFIG")
    if path:
        with open(path) as file:
            text = file.read()
    with skeleton("utime").open(kconfig=text if path else None) as opened:
        opened.rodata.target_pid = threading.get_native_id()
        with opened.load() as skel:
            checks.used(skel)
            skel.attach()
            while own_utime() < 0.5:
                pass
            os.getppid()
            bpf, told = skel.bss.utime_ns / 1e9, own_utime()
            # the kernel counts ticks, of which a busy emulator loses some, and /proc scales them to the time that was
            # really run; in the wrong unit it would be millions of times as much or as little
            checks.between("seconds in user space", told / 10, bpf, told * 2)
            release = [int(number) for number in re.findall(r"\d+", os.uname().release)[:2]]
            version = skel.bss.kernel_version
            checks.equal("version", [version >> 16, version >> 8 & 0xFF], release)
            checks.found["hz"] = skel.bss.hz


def own_utime() -> float:
    """Seconds that this process has run in user space, by /proc."""
    with open("/proc/self/stat") as file:
        return int(file.read().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")


def fancy_helper(checks: Checks, use: bool) -> None:
    with skeleton("fancy_helper").open() as opened:
        opened.rodata.use_fancy_helper = use
        opened.rodata.fallback_value = 3
        opened.rodata.target_pid = threading.get_native_id()
        with opened.load() as skel:
            checks.used(skel)
            skel.attach()
            clock, factor = (CLOCK_TAI, 1) if use else (time.CLOCK_MONOTONIC, 3)
            before = time.clock_gettime_ns(clock)
            os.getppid()
            value = skel.bss.value
            checks.between("the value", before * factor, value, time.clock_gettime_ns(clock) * factor)


# relocations


def reads_kernel(checks: Checks) -> None:
    with skeleton("reads").open() as opened:
        opened.rodata.target_pid = threading.get_native_id()
        opened.programs.of_the_user.autoload = False
        with opened.load() as skel:
            checks.used(skel)
            with skel.programs.of_the_kernel.attach():
                os.getppid()
            reads = skel.bss.kernel_reads
            with open("/proc/self/stat") as file:
                started = int(file.read().rpartition(")")[2].split()[19])
            exe = os.stat("/proc/self/exe")
            checks.equal("processes", (reads.tgid, reads.parent), (os.getpid(), os.getppid()))
            checks.equal("thread", reads.pid, threading.get_native_id())
            checks.equal("start", reads.start_boottime * os.sysconf("SC_CLK_TCK") // 10**9, started)
            checks.equal("inode of the program", reads.exe_inode, exe.st_ino)
            device = reads.exe_device
            checks.equal("its device", (device >> 20, device & 0xFFFFF), (os.major(exe.st_dev), os.minor(exe.st_dev)))
            names = (str(reads.comm), str(reads.comm_again), str(reads.comm_probed))
            checks.equal("comm", names, (own_comm(),) * 3)
            checks.equal("list", (reads.list_next_prev, reads.list_prev_next), (reads.list, reads.list))
            checks.between("count", 1, reads.count, 1000)


def reads_user(checks: Checks) -> None:
    path = f"/tmp/seeds-{os.getpid()}.socket"
    pieces = [b"some", b"words", b"more"]
    with skeleton("reads").open() as opened:
        opened.rodata.target_pid = threading.get_native_id()
        opened.programs.of_the_kernel.autoload = False
        with opened.load() as skel, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            checks.used(skel)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, skel.programs.of_the_user.attach():
                receiver.bind(path)
                try:
                    sender.sendmsg(pieces, [], 0, path)
                finally:
                    os.unlink(path)
            reads = skel.bss.user_reads
            checks.equal("count", reads.count, 1)
            checks.equal("length of the first piece", (reads.length, reads.length_probed), (len(pieces[0]),) * 2)
            checks.equal("number of pieces", (reads.pieces, reads.pieces_probed), (len(pieces),) * 2)
            # older Pythons leave out the zero at its end
            checks.between("length of the name", 2 + len(path), reads.name_length, 2 + len(path) + 1)
            names = (str(reads.path), str(reads.path_again), str(reads.path_probed))
            checks.equal("path", names, (path,) * 3)


def types(checks: Checks) -> None:
    with skeleton("types").open() as opened:
        opened.programs.learn_kernel_id.autoload = False
        with opened.load() as skel:
            checks.used(skel)
            with skel.programs.learn.attach():
                os.getppid()
            checks.found.update(skel.bss.facts.to_dict())
            checks.between("count", 1, checks.found.pop("count"), 10**9)


def type_id(checks: Checks) -> None:
    with skeleton("types").open() as opened:
        opened.programs.learn.autoload = False
        with opened.load() as skel:
            checks.used(skel)
            with skel.programs.learn_kernel_id.attach():
                os.getppid()
            checks.found["task_kernel_id"] = skel.bss.task_kernel_id


EXERCISES: dict[str, Callable[[Checks], None]] = {
    "flat_ring": lambda checks: flat(checks, "ring"),
    "flat_perf": lambda checks: flat(checks, "perf"),
    "tcprtt_fentry": tcprtt,
    "opensnoop": opensnoop,
    "runqslower_btf": lambda checks: runqslower(checks, "btf_"),
    "runqslower_raw": lambda checks: runqslower(checks, "raw_"),
    "thread": thread,
    "utime": utime,
    "fancy_helper_on": lambda checks: fancy_helper(checks, use=True),
    "fancy_helper_off": lambda checks: fancy_helper(checks, use=False),
    "bitfields_btf": lambda checks: bitfields(checks, "btf_set_state"),
    "bitfields_raw": lambda checks: bitfields(checks, "raw_set_state"),
    "reads_kernel": reads_kernel,
    "reads_user": reads_user,
    "types": types,
    "type_id": type_id,
}


def do(name: str) -> dict[str, object]:
    """Do one exercise; returns its record."""
    errors = importlib.import_module("seeds._bpf.runtime.errors")
    checks = Checks()
    steps = {errors.OpenError: "open", errors.LoadError: "load", errors.AttachError: "attach"}
    record: dict[str, object] = {"exercise": name}
    try:
        EXERCISES[name](checks)
        record["step"] = "wrong" if checks.wrong else "right"
    except errors.BpfError as error:
        record["step"] = next((step for kind, step in steps.items() if isinstance(error, kind)), type(error).__name__)
        record["error"] = str(error)
        record["errno"] = getattr(error, "errno", 0)
    except Exception as error:
        checks.wrong.append(f"{type(error).__name__}: {error}")
        record["step"] = "wrong"
    found = {"btf": checks.btf, "checks": checks.count, "wrong": checks.wrong, "found": checks.found}
    return {**record, **found}


if __name__ == "__main__":
    for exercise in sys.argv[1:] or EXERCISES:
        print(json.dumps(do(exercise)), flush=True)
