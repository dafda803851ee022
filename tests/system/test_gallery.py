"""The packages of examples/: built with pip, installed, typed, and run on this kernel as their users would run them.

What each prints is compared with what the machine says by other means.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread, Timer

import pytest

from tests.common import needs, tracefs
from tests.common.namespaces import own_bpf_file_system, own_cgroup, own_loopback
from tests.common.postgresql import postgres
from tests.common.projects import REPOSITORY, build_wheel, wheel_files
from tests.seeds.exercises import busy_child, run_delays

EXAMPLES = REPOSITORY / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/pyproject.toml"))
BUSY = """
#include <fcntl.h>
#include <unistd.h>
static char buffer[1 << 20];
__attribute__((noinline)) void burn(void) { for (volatile int i = 0; i < 1000000; i++); }
__attribute__((noinline)) void work(int fd) { burn(); for (int i = 0; i < 20; i++) read(fd, buffer, sizeof(buffer)); }
int main(void) { int fd = open("/dev/zero", O_RDONLY); for (;;) work(fd); }
"""
IP_UDP_100 = 20 + 8 + 100
"""Bytes of an IPv4 packet that carries 100 bytes by UDP."""
ONE_RUNTIME = """
from hatch_bpf.runtime import *
from hatch_bpf.runtime import enums as enums, types as types
"""
HOLD = """\
do $$ begin
    while not exists (select from pg_locks where not granted) loop perform pg_sleep(0.01); end loop;
    perform pg_sleep(0.1);
end $$"""
"""SQL that holds the locks of its transaction until another one has waited for a while."""
BUCKET = re.compile(r"^ *(\d+) -> (\d+) *: (\d+)", re.MULTILINE)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each example, built in a copy, since setuptools writes beside its sources."""
    needs.tool("clang")
    needs.host_btf()
    needs.own_libbpf()
    folder = tmp_path_factory.mktemp("gallery")
    ignore = shutil.ignore_patterns("_bpf", "*_skel.py", "__pycache__", "dist", "build", "*.egg-info")
    shutil.copytree(EXAMPLES, folder / "examples", ignore=ignore)
    (folder / "example_project").symlink_to(REPOSITORY / "example_project")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        built = pool.map(lambda name: build_wheel(folder / "examples" / name, folder / "wheels" / name), NAMES)
        return dict(zip(NAMES, built, strict=True))


@pytest.fixture(scope="module")
def site(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all wheels are installed in, and nothing else."""
    folder = tmp_path_factory.mktemp("gallery-site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-compile", "--target", folder, *wheels.values()], check=True)
    return folder


def start(site: Path, name: str, *arguments: object, merge: bool = False) -> subprocess.Popen[str]:
    """An example's command, running. Both its streams are pipes, or one if they are merged."""
    return subprocess.Popen(
        [site / "bin" / name, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge else subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
    )


def run(site: Path, name: str, *arguments: object) -> str:
    """What an example's command prints; it must succeed."""
    with start(site, name, *arguments) as process:
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    return out


@pytest.mark.parametrize("name", NAMES)
def test_it_is_complete(name: str) -> None:
    folder = EXAMPLES / name
    readme = (folder / "README.md").read_text()
    assert readme.startswith(f"# {name.replace('_', '-')}\n")
    assert "\n    $ sudo " in readme
    assert len(readme.splitlines()) <= 50, "more than one screen"
    assert f"]({name}/README.md)" in (EXAMPLES / "README.md").read_text()
    assert (folder / "src" / name / "py.typed").exists()
    for source in folder.rglob("*.bpf.[ch]"):
        assert source.read_text().startswith("// SPDX-License-Identifier: GPL-2.0\n"), source


@pytest.mark.parametrize("name", NAMES)
def test_the_wheel_has_no_source_and_the_command_says_how_it_is_used(
    wheels: dict[str, Path], site: Path, name: str
) -> None:
    files = wheel_files(wheels[name])
    assert f"{name}/py.typed" in files
    assert not [path for path in files if path.endswith((".bpf.c", ".h"))]
    command = name.replace("_", "-")
    assert run(site, command, "--help").startswith(f"usage: {command} ")


def test_they_are_typed(site: Path, tmp_path: Path) -> None:
    """With one runtime for all of them: each has the same, and mypy takes a second for each copy."""
    for name in NAMES:
        ignore = shutil.ignore_patterns("runtime", "__pycache__")
        package = shutil.copytree(site / name, tmp_path / name, ignore=ignore)
        (package / "_bpf" / "runtime").mkdir()
        (package / "_bpf" / "runtime" / "__init__.py").write_text(ONE_RUNTIME)
    packages = [argument for name in NAMES for argument in ("-p", name)]
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", *packages]
    env = {"PATH": os.environ["PATH"], "MYPYPATH": f"{tmp_path}:{REPOSITORY}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running(site: Path, name: str, *arguments: object) -> Iterator[Iterator[list[str]]]:
    """An example's command, attached; the words of each line that it prints below the heading of its table.

    SIGTERM must end it well.
    """
    with start(site, name, *arguments, merge=True) as process:
        assert process.stdout is not None
        watchdog = Timer(60, process.kill)
        watchdog.start()
        try:
            heading = process.stdout.readline()
            assert ":" not in heading, heading + process.stdout.read()
            yield (line.split() for line in process.stdout)
            process.terminate()
            rest = process.stdout.read()
            assert process.wait() == 0, rest
        finally:
            watchdog.cancel()
            process.kill()


def test_opensnoop(site: Path, tmp_path: Path) -> None:
    tracefs.mounted()
    missing = tmp_path / "missing"
    with running(site, "opensnoop", "--pid", os.getpid()) as lines:
        with open(os.devnull) as file:
            fd = file.fileno()
        with pytest.raises(FileNotFoundError):
            missing.open()
        first = next(words for words in lines if words[-1] == os.devnull)
        second = next(words for words in lines if words[-1] == str(missing))
    assert (first[0], first[-2]) == (str(os.getpid()), str(fd))
    assert second[-2] == "ENOENT"
    with running(site, "opensnoop", "--pid", os.getpid(), "--failed") as lines:
        with open(os.devnull):
            pass
        with pytest.raises(FileNotFoundError):
            missing.open()
        assert next(lines)[-2:] == ["ENOENT", str(missing)]


def test_runqslower(site: Path) -> None:
    needs.root_bpf()
    cpu = min(os.sched_getaffinity(0))
    with busy_child(cpu) as pid, busy_child(cpu), running(site, "runqslower", 100, "--pid", pid) as lines:
        before = run_delays([pid])[pid]
        waits = [next(lines) for _ in range(5)]
        waited_us = (run_delays([pid])[pid] - before) / 1000
    assert {(words[1], words[2]) for words in waits} == {("seeds-busy", str(pid))}
    assert all(int(words[3]) >= 100 for words in waits)
    # the first wait may have begun before
    assert sum(int(words[3]) for words in waits[1:]) <= waited_us * 1.1


def test_flat(site: Path) -> None:
    needs.root_bpf()
    with own_loopback() as interface, running(site, "flat", "-i", interface) as lines:
        for host, shown in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.create_server((host, 0), family=family) as server:
                before = time.monotonic()
                with socket.create_connection(server.getsockname()[:2]) as client:
                    took_ms = (time.monotonic() - before) * 1000
                    own, peer = client.getsockname()[1], client.getpeername()[1]
                    protocol, source, target, answered_ms = next(lines)
            assert (protocol, source, target) == ("TCP", f"{shown}:{own}", f"{shown}:{peer}")
            assert 0 < float(answered_ms) <= took_ms


def test_pglocks(site: Path) -> None:
    """A query that waits for another's lock: PostgreSQL itself logs for how long."""
    with postgres() as server:
        relation = server.sql("create table accounts (amount int); select 'accounts'::regclass::oid")
        with running(site, "pglocks", "--server", server.binary) as lines:
            holder = server.start(f"begin; lock accounts; {HOLD}; commit")
            server.wait_for("select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted", "1")
            server.sql("select count(*) from accounts")
            assert holder.wait(30) == 0
            _, pid, waited_ms, *rest = next(words for words in lines if words[5:6] == [relation])
        assert rest == ["AccessShare", "relation", relation, "select", "count(*)", "from", "accounts"]
        logged = re.search(
            rf"process {pid} acquired AccessShareLock on relation {relation} .* after ([\d.]+) ms", server.log()
        )
    assert logged, "the process that waited"
    assert float(waited_ms) == pytest.approx(float(logged[1]), abs=20)


def test_keepcount(site: Path, tmp_path: Path) -> None:
    """Killed, absent and started again under traffic, it still counts every packet."""
    with (
        own_bpf_file_system(tmp_path / "bpf") as pins,
        own_cgroup() as cgroup,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.bind(("127.0.0.1", 0))
        arguments = ("keepcount", 0.1, "--cgroup", cgroup, "--pins", pins / "kept")
        sent, done = 0, Event()

        def send() -> None:
            nonlocal sent
            while not done.is_set():
                sock.sendto(b"x" * 100, sock.getsockname())
                sent += 1

        sender = Thread(target=send)
        with start(site, *arguments) as first:
            assert first.stdout is not None
            first.stdout.readline()  # it is attached
            sender.start()
            try:
                at_death = int(first.stdout.readline().split()[1])
                first.kill()
                time.sleep(0.2)
                with running(site, *arguments) as lines:
                    next(lines)
            finally:
                done.set()
                sender.join()
        (last,) = [line.split() for line in run(site, "keepcount", 0.1, 1, *arguments[2:]).splitlines()[1:]]
        assert [int(number) for number in last[1:]] == [sent, sent * IP_UDP_100, sent, sent * IP_UDP_100]
        assert 0 < at_death < sent
        run(site, *arguments, "--stop")
        assert list((pins / "kept").iterdir()) == []


def test_tcprtt_fentry(site: Path) -> None:
    """Where this kernel takes fentry programs; otherwise make test-kernels does it."""
    needs.program_kind("fentry/tcp_close")
    tests = EXAMPLES / "tcprtt_fentry" / "tests"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(site)}
    )
    assert done.returncode == 0, done.stdout


def test_cpuprofile(site: Path, tmp_path: Path) -> None:
    """A process that is now in a function of its own, and now in a system call; its CPU time bounds the samples."""
    needs.root_bpf()
    program = tmp_path / "busy"
    compile_ = [needs.tool("clang"), "-O0", "-fno-omit-frame-pointer", "-w", "-x", "c", "-", "-o", program]
    subprocess.run(compile_, input=BUSY, text=True, check=True)
    with subprocess.Popen([program]) as busy:
        try:
            before = cpu_seconds(busy.pid)
            stacks = run(site, "cpuprofile", 2, "-F", 999, "-p", busy.pid).splitlines()
            most = (cpu_seconds(busy.pid) - before) * 999
        finally:
            busy.kill()
    counts = {stack: int(count) for stack, _, count in (line.rpartition(" ") for line in stacks)}
    own = sum(count for stack, count in counts.items() if stack.endswith(";main;work;burn"))
    system_calls = [stack for stack in counts if ";main;read;" in stack or ";main;work;read;" in stack]
    assert own > 10
    assert any("vfs_read" in stack for stack in system_calls), stacks
    assert all(stack.startswith("busy;") for stack in counts)
    assert 20 < sum(counts.values()) <= most * 1.1 + 10


def cpu_seconds(pid: int) -> float:
    """The time that a process has been on a CPU, by the kernel's account."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def test_runqlat(site: Path) -> None:
    """Two processes that both want one CPU: the kernel's own account of their waiting bounds the buckets."""
    tracefs.mounted()
    cpu = min(os.sched_getaffinity(0))
    with busy_child(cpu) as pid, busy_child(cpu) as other:
        before = run_delays([pid])[pid]
        (of_all,) = [run(site, "runqlat", "-p", pid, 1, 1)]
        waited_us = (run_delays([pid])[pid] - before) / 1000
        by_process = run(site, "runqlat", "-P", 0.5, 1)
    buckets = [tuple(map(int, bucket)) for bucket in BUCKET.findall(of_all)]
    assert sum(low * count for low, _, count in buckets) <= waited_us * 1.1
    assert sum(high * count for _, high, count in buckets) >= 200_000, "of a second, it waits about half"
    assert of_all.count("usecs") == 1
    assert {f"pid = {pid}", f"pid = {other}"} <= set(by_process.splitlines())
