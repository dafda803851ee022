"""Forked children, and processes that end with everything attached: nothing stays in the kernel that should not, and
nothing goes that should stay.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.common import needs, tracefs
from tests.common.libbpf_load import LIBRARY
from tests.common.namespaces import own_loopback
from tests.common.skeleton_package import BPF, Package, make_package

PATIENCE = 20
"""Seconds for the kernel to free what a process held."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(BPF / "attachments.bpf.c", tmp_path_factory.mktemp("processes"))


# --- the end of a process -------------------------------------------------------------------------------------------

ENDS = {
    "end of the script": ("pass", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "exception": ("raise ValueError('on purpose')", 1),
    "os._exit": ("os._exit(4)", 4),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "abort": ("os.abort()", -signal.SIGABRT),
    "Ctrl-C": (
        "signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
        -signal.SIGINT,
    ),
    "with a thread at work": ("threading.Thread(target=work, daemon=True).start(); time.sleep(0.1)", 0),
    "with a thread waiting": (
        "threading.Thread(target=lambda: select.select([skel.programs.on_xdp.fd], [], [], 60), daemon=True).start()",
        0,
    ),
}
ATTACH_AND_END = """
import ctypes, os, select, signal, sys, threading, time
from demo.attachments_skel import Attachments, _bpf

skel = Attachments.run()

def work():
    try:
        while True:
            with skel.programs.nowhere.attach_raw_tracepoint("sys_exit"):
                skel.bss.tracepoints = 1
    except _bpf.ClosedError:
        pass  # at its end Python closes what is open

def id_of(fd):
    told, length = (ctypes.c_uint32 * 20)(), ctypes.c_uint32(80)
    assert not skel._held.libbpf.bpf_obj_get_info_by_fd(fd, told, ctypes.byref(length))
    return told[1]

print(len(skel.links), id_of(skel.programs.on_tracepoint.fd), flush=True)
"""


def is_in_kernel(program: int) -> bool:
    libbpf = ctypes.CDLL(LIBRARY)
    fd = libbpf.bpf_prog_get_fd_by_id(program)
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


@pytest.mark.parametrize("name", ENDS)
def test_nothing_outlives_a_process(package: Package, name: str) -> None:
    tracefs.mounted()
    code, status = ENDS[name]
    done = package.run(ATTACH_AND_END + code, check=False)
    assert done.returncode == status, done.stderr
    if name in ("exception", "Ctrl-C"):
        assert done.stderr.count("Traceback") == 1
        assert done.stderr.rstrip().endswith(("ValueError: on purpose", "KeyboardInterrupt"))
    else:
        assert done.stderr == ""
    links, program = map(int, done.stdout.split())
    assert links == 2
    deadline = time.monotonic() + PATIENCE
    while is_in_kernel(program):
        assert time.monotonic() < deadline, "the program is still loaded"
        time.sleep(0.05)


# --- forked children ------------------------------------------------------------------------------------------------

CHILDREN = {
    "closes": "skel.close()",
    "ends": "sys.exit(0)",
    "drops it": "del skel; gc.collect()",
    "detaches": "[link.detach() for link in skel.links]",
    "reads": "assert skel.bss.raw_tracepoints > 0",
    "loads its own": "Attachments.run().close()",
}
FORK = """
import gc, os, sys
from demo.attachments_skel import Attachments

skel = Attachments.run()
skel.bss.caller = os.getpid()
if not os.fork():
    {child}
    sys.exit(0)
print("status", os.wait()[1])
before = skel.bss.tracepoints
os.getppid()
print("seen", skel.bss.tracepoints - before, "links", len(skel.links))
"""


@pytest.mark.parametrize("name", CHILDREN)
def test_what_a_child_does_leaves_the_parents_alone(package: Package, name: str) -> None:
    tracefs.mounted()
    done = package.run(FORK.format(child=CHILDREN[name]))
    assert (done.stdout, done.stderr) == ("status 0\nseen 3 links 2\n", "")


def test_a_child_may_close_while_the_parents_thread_is_attaching(package: Package) -> None:
    """Locks that another thread holds at the fork stay held in the child for ever."""
    tracefs.mounted()
    code = """
        import os, signal, threading
        from demo.attachments_skel import Attachments

        skel, stop = Attachments.run(), threading.Event()

        def work():
            while not stop.is_set():
                skel.programs.nowhere.attach_raw_tracepoint("sys_exit").detach()

        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(50):
            child = os.fork()
            if not child:
                signal.alarm(20)
                skel.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        worker.join()
        print(len(skel.links))
    """
    assert package.run(code).stdout == "2\n"


def test_a_process_that_was_killed_leaves_pins_and_nothing_else(package: Package, tmp_path: Path) -> None:
    """A pinned link is there to outlive its process."""
    tracefs.mounted()
    place = tmp_path / "bpf"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"bpf", os.fsencode(place), b"bpf", 0, None) == 0
    try:
        pin = "[l for l in skel.links if l.program.name == 'on_raw_tracepoint'][0].pin({path!r}); os._exit(0)"
        done = package.run(ATTACH_AND_END + pin.format(path=str(place / "link")))
        program = int(done.stdout.split()[1])
        deadline = time.monotonic() + PATIENCE
        while is_in_kernel(program):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [path.name for path in place.iterdir() if not path.name.endswith(".debug")] == ["link"]
    finally:
        libc.umount2(os.fsencode(place), 0)


@pytest.mark.parametrize(("end", "stays"), [("sys.exit()", False), ("os.kill(os.getpid(), signal.SIGKILL)", True)])
def test_a_tc_filter_outlives_a_process_only_if_that_is_killed(package: Package, end: str, stays: bool) -> None:
    """It is no link, and so nobody's: SECURITY.md says so."""
    needs.root_bpf()
    tc = needs.tool("tc")
    code = f"""
        import os, signal, sys
        from demo.attachments_skel import Attachments
        skel = Attachments.open().load()
        skel.programs.on_tc.attach_tc("lo")
        {end}
    """
    with own_loopback():
        package.run(code, check=False)
        shown = subprocess.run(
            [tc, "filter", "show", "dev", "lo", "ingress"], capture_output=True, text=True, check=True
        )
        assert ("on_tc" in shown.stdout) == stays
