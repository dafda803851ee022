"""A machine without clang, bpftool, libbpf's headers and libbpf.so: the example still builds, installs and loads.

Everything comes from PyPI and from hatch-bpf's own wheel. What this machine has of it is hidden, in a mount namespace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_bpf.arch import build_machine
from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from tests.common import needs
from tests.common.projects import wheel_files
from tests.system.test_example import HIDE_LIBBPF, cgroup, copy_of_example, events, install, run

__all__ = ["cgroup"]  # a fixture

pytestmark = pytest.mark.packaging

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def hide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shell commands that hide libbpf's headers and libraries, in a mount namespace of the process's own."""
    needs.root_bpf()
    needs.private_mounts()
    libraries = sorted(Path("/usr/lib").glob("*/libbpf.so.1"))
    commands = [HIDE_LIBBPF.format(folder=p.parent, scratch=tmp_path_factory.mktemp("scratch")) for p in libraries]
    if Path("/usr/include/bpf").is_dir():
        commands.append("mount -t tmpfs none /usr/include/bpf")
    return "\n".join(commands)


def example(folder: Path) -> Path:
    """The example for this architecture alone."""
    project = copy_of_example(folder)
    text = (project / "pyproject.toml").read_text()
    text = text.replace('archs = ["x86_64", "arm64"]\n', "").replace("debian/*/*/*", "debian/12/*/*")
    (project / "pyproject.toml").write_text(text)
    return project


def bare(hide: str, *command: object, cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where there is nothing: no compiler either, on a PATH of three programs."""
    tools = home / "bin"
    tools.mkdir(exist_ok=True)
    for name in ("sh", "env", "true"):
        if not (tools / name).exists():
            (tools / name).symlink_to(str(shutil.which(name, path=PATH)))
    inner = f'{hide}\nPATH={tools}\nexport PATH\nexec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-e", "-c", inner, "sh", *map(str, command)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={"PATH": PATH, "HOME": str(home)},
    )


def wheel_built_bare(zig_python: Path, hide: str, project: Path, folder: Path) -> tuple[Path, str]:
    code = f"import hatchling.build as b; b.build_wheel({str(folder)!r})"
    done = bare(hide, zig_python, "-c", code, cwd=project, home=folder)
    assert done.returncode == 0, done.stdout
    (wheel,) = folder.glob("tcprtt-*.whl")
    return wheel, done.stdout


def test_from_source_with_zigs_clang(tmp_path: Path, zig_python: Path, hide: str, cgroup: Path) -> None:
    wheel, _ = wheel_built_bare(zig_python, hide, example(tmp_path / "example"), tmp_path)
    prefix = "tcprtt/_bpf/lib/"
    libraries = {name.removeprefix(prefix): data for name, data in wheel_files(wheel).items() if name.endswith(".so.1")}
    machine = build_machine()
    assert machine is not None
    assert libraries == {
        f"{machine.name}/{libc}/libbpf.so.1": (OWN_LIBBPF / "lib" / machine.name / libc / "libbpf.so.1").read_bytes()
        for libc in ("glibc", "musl")
    }, "hatch-bpf's own, for the architecture that is the default"
    bin_dir = install(wheel, tmp_path / "venv")
    assert len(events(run(bin_dir, "--cgroup", cgroup, "--count", 5, before=hide))) == 5


def test_from_an_sdist(tmp_path: Path, zig_python: Path, hide: str, cgroup: Path) -> None:
    """The sdist is made where there is a compiler, and installed where there is none, not even zig's."""
    project = example(tmp_path / "example")
    code = f"import hatchling.build as b; b.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True, capture_output=True, env=os.environ)
    shutil.unpack_archive(tmp_path / "tcprtt-1.0.tar.gz", tmp_path / "unpacked")
    no_zig = 'mount -t tmpfs none "$(dirname "$1")/../lib/"python3*/site-packages/ziglang'
    wheel, said = wheel_built_bare(zig_python, f"{hide}\n{no_zig}", tmp_path / "unpacked" / "tcprtt-1.0", tmp_path)
    assert "taking the objects in src/tcprtt/_bpf, which fit the sources" in said
    bin_dir = install(wheel, tmp_path / "venv")
    assert len(events(run(bin_dir, "--cgroup", cgroup, "--count", 5, before=hide))) == 5
