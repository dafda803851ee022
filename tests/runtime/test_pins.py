"""Pinned programs and links outlive processes; a daemon restarts under traffic and misses nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import PinnedLink, PinnedProgram, errors
from tests.common.namespaces import own_bpf_file_system, own_cgroup
from tests.common.skeleton_package import BPF, Package, load_skeleton, make_package

DAEMON = """
    import sys, time
    from demo.pins_skel import Pins
    from demo._bpf.runtime import AttachError, PinnedLink
    pins, cgroup, version = sys.argv[1:]
    with Pins.open() as bpf:
        bpf.rodata.version = int(version)
        bpf.maps.packets.pin_path = f"{pins}/packets"
        with bpf.load() as skel:
            try:
                with PinnedLink(f"{pins}/link") as link:
                    link.update(skel.programs.count)
            except AttachError:
                skel.programs.count.attach_cgroup(cgroup).pin(f"{pins}/link")
            print("ready", flush=True)
            time.sleep(60)
"""


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("pins", tmp_path_factory.mktemp("pins"))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(BPF / "pins.bpf.c", tmp_path_factory.mktemp("daemon"))


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    with own_bpf_file_system(tmp_path / "bpf") as folder:
        yield folder


def daemon(package: Package, pins: Path, cgroup: Path, version: int) -> subprocess.Popen[str]:
    """A running daemon that is attached."""
    started = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DAEMON), pins, cgroup, str(version)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.fspath(package.root), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def test_a_daemon_restarts_under_traffic_without_a_gap(skeleton: Any, package: Package, pins: Path) -> None:
    with own_cgroup() as cgroup, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        first = daemon(package, pins, cgroup, 0)
        sent, done = 0, threading.Event()

        def send() -> None:
            nonlocal sent
            while not done.is_set():
                sock.sendto(b"x", sock.getsockname())
                sent += 1

        sender = threading.Thread(target=send)
        sender.start()
        try:
            time.sleep(0.1)
            first.send_signal(signal.SIGKILL)
            first.wait()
            with skeleton.Pins.pinned("packets", os.fspath(pins / "packets")) as packets:
                at_death = packets[0]
                time.sleep(0.05)
                assert packets[0] > at_death, "the program counts while no daemon runs"
            second = daemon(package, pins, cgroup, 1)
            time.sleep(0.1)
            second.terminate()
            second.wait()
        finally:
            done.set()
            sender.join()
        with skeleton.Pins.pinned("packets", os.fspath(pins / "packets")) as packets:
            counts = packets[:]
        assert counts[0]
        assert counts[1]
        assert sum(counts) == sent
        with PinnedLink(pins / "link") as link:
            link.unpin()
        assert not (pins / "link").exists()


def test_a_pinned_link_stays_attached_when_the_skeleton_closes(skeleton: Any, pins: Path) -> None:
    """A link of a perf event too, which libbpf would disable."""
    with skeleton.Pins.open() as bpf, bpf.load() as skel:
        skel.maps.packets.pin(pins / "packets")
        link = skel.programs.on_getppid.attach()
        link.pin(pins / "link")
        number = link.info().id
    with skeleton.Pins.pinned("packets", os.fspath(pins / "packets")) as packets, PinnedLink(pins / "link") as opened:
        assert opened.info().id == number
        before = packets[2]
        os.getppid()
        assert packets[2] > before
        opened.unpin()
    assert not list(pins.glob("link"))


def test_a_pinned_program_is_opened_again(skeleton: Any, pins: Path) -> None:
    with skeleton.Pins.open() as bpf, bpf.load() as skel:
        skel.programs.count.pin(pins / "program")
        info = skel.programs.count.info()
        with pytest.raises(errors.AttachError, match="there is a file already"):
            skel.programs.count.pin(pins / "program")
        with pytest.raises(errors.AttachError, match="is not in a BPF file system"):
            skel.programs.count.pin("/tmp/program")
    with PinnedProgram(pins / "program") as program:
        assert program.info() == info
    with pytest.raises(errors.ClosedError):
        program.info()
    with pytest.raises(errors.AttachError, match="is a program, not a link"):
        PinnedLink(pins / "program")
    with pytest.raises(errors.AttachError, match="no program can be opened at"):
        PinnedProgram(pins / "other")


def test_a_pinned_link_is_updated_and_detached(skeleton: Any, pins: Path) -> None:
    with own_cgroup() as cgroup, skeleton.Pins.open() as bpf, bpf.load() as skel:
        link = skel.programs.count.attach_cgroup(cgroup)
        assert link.info().target == {"cgroup_id": cgroup.stat().st_ino}
        link.pin(pins / "link")
        with PinnedLink(pins / "link") as opened, skeleton.Pins.open() as again, again.load() as other:
            opened.update(other.programs.count)
            assert opened.info().program_id == other.programs.count.info().id
            with pytest.raises(errors.AttachError, match="can't be updated: EINVAL"):
                opened.update(other.programs.say)
            opened.detach()
            assert opened.info().target == {"cgroup_id": 0}
            opened.unpin()
