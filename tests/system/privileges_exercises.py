"""Runs as root, here or in a virtual machine of the lab: load and attach programs of each kind with few capabilities.

Input: JSON, for each kind the sets of capabilities to try; the package `demo` of privileges.bpf.c on PYTHONPATH.
Output: a line of JSON for each try: `works`, or the step that failed and what the runtime said. Every try is a process
of its own, run by the user `nobody`. Standard library only.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import socket  # noqa: F401  # now, since the user `nobody` may not be allowed to read this Python's folder
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

CAPABILITIES = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
NOBODY = 65534
CLONE_NEWNET = 0x40000000
PR_SET_KEEPCAPS = 8
CAPABILITY_VERSION = 0x20080522
CGROUPS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")


def library() -> str:
    with open("/proc/self/maps") as file:
        return next(line.split()[-1] for line in file if "/libc.so" in line or "/libc-" in line)


LOW_MEMORY_LIMIT = "xdp, RLIMIT_MEMLOCK of 4 KB"
KINDS: dict[str, tuple[str, Callable[[Any, Any, str], Any]]] = {
    "socket": ("on_socket", lambda p, _maps, _cgroup: p.test_run(b"\1" * 64)),
    "xdp": ("on_xdp", lambda p, _maps, _cgroup: p.attach_xdp("lo", mode="skb")),
    "tc": ("on_tc", lambda p, _maps, _cgroup: p.attach_tc("lo")),
    "cgroup_skb": ("on_cgroup_skb", lambda p, _maps, cgroup: p.attach_cgroup(cgroup)),
    "cgroup/": ("on_cgroup_connect", lambda p, _maps, cgroup: p.attach_cgroup(cgroup)),
    "sockops": ("on_sockops", lambda p, _maps, cgroup: p.attach_cgroup(cgroup)),
    "sk_lookup": ("on_sk_lookup", lambda p, _maps, _cgroup: p.attach_netns()),
    "flow_dissector": ("on_flow_dissector", lambda p, _maps, _cgroup: p.attach_netns()),
    "sk_skb": ("on_sk_skb", lambda p, maps, _cgroup: p.attach_sockmap(maps.sockets)),
    "sk_msg": ("on_sk_msg", lambda p, maps, _cgroup: p.attach_sockmap(maps.sockets)),
    "tp": ("on_tp", lambda p, _maps, _cgroup: p.attach()),
    "raw_tp": ("on_raw_tp", lambda p, _maps, _cgroup: p.attach()),
    "tp_btf": ("on_tp_btf", lambda p, _maps, _cgroup: p.attach()),
    "fentry": ("on_fentry", lambda p, _maps, _cgroup: p.attach()),
    "kprobe": ("on_kprobe", lambda p, _maps, _cgroup: p.attach()),
    "uprobe": ("on_uprobe", lambda p, _maps, _cgroup: p.attach_uprobe(library(), "getppid")),
    "perf_event": ("on_perf_event", lambda p, _maps, _cgroup: p.attach_sampling(10)),
    "iter": ("on_iter", lambda p, _maps, _cgroup: p.read_iter()),
    "lsm": ("on_lsm", lambda p, _maps, _cgroup: p.attach()),
    "reads kernel memory": ("reads_kernel", lambda p, _maps, _cgroup: p.attach_xdp("lo", mode="skb")),
    "perf buffer": ("on_socket", lambda _p, maps, _cgroup: maps.events.open()),
}
"""Kind -> program, and how it is attached."""
MAPS = {"sockets": ("sk_skb", "sk_msg"), "events": ("perf buffer",)}
"""Maps that are made for some kinds only, for they need capabilities of their own."""
AFTERWARDS = "globals and maps of what is loaded"
"""Not a kind: load with all capabilities, then give up all but these, and use it."""


def main(sets: dict[str, list[list[str]]]) -> None:
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    if unshare(CLONE_NEWNET):
        sys.exit("this needs root")
    root = next(folder for folder in CGROUPS if os.path.exists(f"{folder}/cgroup.procs"))
    cgroup = tempfile.mkdtemp(prefix="hatch-bpf-privileges-", dir=root)
    os.chmod(cgroup, 0o755)
    try:
        for kind, tries in sets.items():
            for capabilities in tries:
                told = in_child(kind, capabilities, cgroup)
                print(json.dumps({"kind": kind, "capabilities": capabilities, **told}), flush=True)
    finally:
        os.rmdir(cgroup)


def in_child(kind: str, capabilities: list[str], cgroup: str) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, json.dumps(attempt(kind, capabilities, cgroup)).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        told = file.read()
    os.waitpid(child, 0)
    return json.loads(told) if told else {"step": "died", "error": ""}


def attempt(kind: str, capabilities: list[str], cgroup: str) -> dict[str, Any]:
    skeleton = importlib.import_module("demo.privileges_skel")
    error_class = importlib.import_module("demo._bpf.runtime").BpfError
    name, attach = KINDS["xdp"] if kind == LOW_MEMORY_LIMIT else KINDS.get(kind, ("on_socket", None))
    step = "open"
    try:
        bpf = skeleton.Privileges.open()  # it reads files, which the user `nobody` may not
        for program in bpf.programs:
            program.autoload = program.name == name
        for map_name, kinds in MAPS.items():
            bpf.maps[map_name].autocreate = kind in kinds
        step = "load"
        if kind == LOW_MEMORY_LIMIT:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
        if attach is not None:
            keep(capabilities)
        loaded = bpf.load()
        step = "attach"
        if attach is None:
            keep(capabilities)
            loaded.bss.ran += 1
            step = "use a map"
            loaded.maps.counts[0] = 1
            loaded.maps.counts[0] += 1
            loaded.maps.ring.poll(0)
        else:
            attach(loaded.programs[name], loaded.maps, cgroup)
    except error_class as error:
        return {"step": step, "error": f"{type(error).__name__}: {error}"}
    return {"step": "works", "error": ""}


def keep(capabilities: list[str]) -> None:
    """Become the user `nobody`, with these capabilities and no others."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    bits = sum(1 << CAPABILITIES[name] for name in capabilities)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
