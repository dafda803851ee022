"""The whole story on one terminal: build the example's wheel, install it alone, and watch it work in the kernel.

Run by `make demo`. Input: this repository. Output: what each step prints; exit status 0 if all of it worked, or if the
last line says what this machine lacks for loading BPF.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent
REPOSITORY = EXAMPLE.parent
OWN_LIBBPF = REPOSITORY / "hatch_bpf" / "_libbpf"
EVENTS = 10
HIDE_BTF = 'mount -t tmpfs none /sys/kernel/btf && exec "$@"'


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-demo-") as folder:
        work = Path(folder)
        wheel = build(work)
        show(wheel)
        tcprtt = install(wheel, work / "clean")
        lacking = what_lacks()
        if lacking:
            print(f"\nBuilt and installed, but not loaded: {lacking}.")
            return 0
        with cgroup() as group, traffic(group):
            step(f"Load it with the kernel's own BTF, and print {EVENTS} events")
            run(tcprtt, "--cgroup", group, "--count", EVENTS)
            step(f"Hide /sys/kernel/btf, as on a kernel without BTF, and print {EVENTS} events")
            run("unshare", "--mount", "sh", "-c", HIDE_BTF, "sh", tcprtt, "--cgroup", group, "--count", EVENTS)
    print("\nThe demo is complete: built, installed alone, and loaded with and without the kernel's BTF.")
    return 0


def build(work: Path) -> Path:
    """Build hatch-bpf's wheel, the example's sdist, and from that, isolated, the example's wheel."""
    step("Build hatch-bpf, and the example's sdist")
    wheelhouse = work / "wheelhouse"
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheelhouse, REPOSITORY)
    project = example(work)
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", work, cwd=project)
    (sdist,) = work.glob("tcprtt-*.tar.gz")
    step("Build the example's wheel with pip from its sdist, in an isolated environment")
    run(sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "--find-links", wheelhouse,
        "--wheel-dir", work, sdist, keep="hatch-bpf: ")  # fmt: skip
    (wheel,) = work.glob("tcprtt-*.whl")
    return wheel


def example(work: Path) -> Path:
    """The example; if hatch-bpf has no libbpf here to put into its wheel, a copy whose wheel uses the machine's."""
    if OWN_LIBBPF.is_dir():
        return EXAMPLE
    copy = Path(shutil.copytree(EXAMPLE, work / "example", ignore=shutil.ignore_patterns("_bpf", "*_skel.py")))
    with (copy / "pyproject.toml").open("a", encoding="utf-8") as options:
        options.write('libbpf = "system"\n')
    return copy


def show(wheel: Path) -> None:
    step(f"What is in {wheel.name}, {wheel.stat().st_size:,} bytes")
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            print(f"  {item.file_size:>9,}  {item.filename}")


def install(wheel: Path, folder: Path) -> Path:
    step("Install it into an environment that has nothing else")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel)
    run(sys.executable, "-m", "pip", "--python", python, "list")
    return folder / "bin" / "tcprtt"


def what_lacks() -> str:
    """What this machine lacks for loading BPF, or an empty string."""
    if os.geteuid() != 0:
        return "loading BPF needs root; run `sudo make demo`"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "this kernel has no BTF (/sys/kernel/btf/vmlinux), so the first half of the demo cannot run"
    if "cgroup2" not in Path("/proc/filesystems").read_text():
        return "this kernel has no cgroup v2"
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        return f"private mounts are not allowed here ({probe.stderr.strip()})"
    return ""


@contextmanager
def cgroup() -> Iterator[Path]:
    """A new cgroup, in the mounted cgroup v2 or in a mount of our own."""
    mounted = [
        line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"
    ]
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-cgroup-") as folder:
        if not mounted:
            run("mount", "-t", "cgroup2", "none", folder)
        group = Path(mounted[0] if mounted else folder) / f"hatch-bpf-demo-{os.getpid()}"
        group.mkdir()
        try:
            yield group
        finally:
            remove(group)
            if not mounted:
                run("umount", folder)


def remove(group: Path) -> None:
    """Remove a cgroup, which works only once the last of its processes is gone."""
    for _ in range(50):
        try:
            group.rmdir()
            return
        except OSError:
            time.sleep(0.1)
    group.rmdir()


@contextmanager
def traffic(group: Path) -> Iterator[None]:
    """A process in the cgroup that talks TCP to itself over the loopback."""
    join = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
    process = subprocess.Popen(["sh", "-c", join, "sh", sys.executable, __file__, "--traffic"])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def make_traffic() -> None:
    """Open a connection, exchange a few bytes, pause; repeat forever."""
    server = socket.create_server(("127.0.0.1", 0))

    def echo() -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1024):
                    connection.sendall(data)

    threading.Thread(target=echo, daemon=True).start()
    while True:
        with socket.create_connection(server.getsockname()) as client:
            for _ in range(5):
                client.sendall(b"ping")
                client.recv(1024)
        time.sleep(0.05)


def step(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run(*command: object, cwd: Path | None = None, keep: str = "") -> None:
    """Run a command. With `keep`, print only what follows that text in lines that contain it; all lines on failure."""
    argv = [str(part) for part in command]
    if not keep:
        if subprocess.run(argv, cwd=cwd, check=False).returncode:
            sys.exit(f"The demo stops here: {' '.join(argv)} failed.")
        return
    done = subprocess.run(argv, cwd=cwd, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for text in done.stdout.splitlines():
        if done.returncode:
            print(text)
        elif keep in text:
            print(f"  {text.split(keep, 1)[1]}", flush=True)
    if done.returncode:
        sys.exit(f"The demo stops here: {' '.join(argv)} failed.")


if __name__ == "__main__":
    if sys.argv[1:] == ["--traffic"]:
        make_traffic()
    sys.exit(main())
