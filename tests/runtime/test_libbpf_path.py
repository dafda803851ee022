"""Whose libbpf is loaded: the wheel's or the system's own. Real libraries lie wherever an attacker could put one."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hatch_bpf.arch import build_machine
from hatch_bpf.runtime import errors
from hatch_bpf.runtime.host.arch import running_name
from hatch_bpf.runtime.libbpf import library as libbpf
from hatch_bpf.runtime.libbpf.bundled import INDEX, running_libc
from hatch_bpf.runtime.libbpf.unfit import why_unfit
from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from hatch_bpf.wheel.bundled_libbpf import bundle
from tests.common import needs
from tests.common.skeleton_package import BPF, Package, make_package
from tests.system.test_example import HIDE_LIBBPF

FAKE = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void ran(void) { close(open("%s", O_CREAT | O_WRONLY, 0600)); }
unsigned libbpf_major_version(void) { return 1; }
unsigned libbpf_minor_version(void) { return 1; }
"""
"""A library that leaves a mark when it is loaded, and that passes for libbpf."""
NAMES = ("libbpf.so.1", "libbpf.so.0", "libbpf.so", "libbpf")
WHICH = """
    from demo._bpf.runtime import errors
    from demo._bpf.runtime.libbpf import library as libbpf
    try:
        print(libbpf.load({argument}).path)
    except errors.BpfError as error:
        print(type(error).__name__, error)
"""


class Trap:
    """Fake libraries, and the mark that they leave."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "mark"
        self._built = folder / "fake.so"
        command = [needs.tool("clang"), "-shared", "-fPIC", "-x", "c", "-", "-o", self._built]
        subprocess.run(command, input=FAKE % self.mark, text=True, check=True)

    def lay(self, folder: Path) -> Path:
        """Put fakes into a folder, under every name that a loader may look for."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            shutil.copy(self._built, folder / name)
        return folder


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(BPF / "rejected.bpf.c", tmp_path_factory.mktemp("package"))


@pytest.fixture
def package(made: Package, tmp_path: Path) -> Package:
    """One to put things into."""
    shutil.copytree(made.root, tmp_path / "root")
    return Package(tmp_path / "root", made.module)


def which(package: Package, cwd: Path, *, argument: str = "", before: str = "", **variables: str) -> str:
    """Which libbpf a process takes: its path, or the error."""
    code = textwrap.dedent(WHICH).format(argument=argument)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package.root), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    script = f'{before}\nexec "$@"'
    prefix = ["unshare", "-m", "sh", "-ec", script, "sh"] if before else []
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def the_systems() -> str:
    found = next(iter(sorted(Path("/usr/lib").glob("*/libbpf.so.1"))), None)
    if found is None:
        needs.missing("libbpf.so.1 is not in a multiarch folder")
    return str(found)


def test_a_fake_is_loaded_if_it_is_asked_for(package: Package, trap: Trap, tmp_path: Path) -> None:
    """Without which the tests below could not fail."""
    fake = trap.lay(tmp_path / "mine") / "libbpf.so.1"
    assert which(package, tmp_path, argument=repr(str(fake))) == str(fake)
    assert trap.mark.exists()


@pytest.mark.parametrize("variable", [None, "LD_LIBRARY_PATH", "PYTHONPATH", "PATH", "HOME", "LIBBPF", "LD_RUN_PATH"])
def test_no_folder_that_others_name(package: Package, trap: Trap, tmp_path: Path, variable: str | None) -> None:
    """Not the current folder, and none that a variable names."""
    folder = trap.lay(tmp_path / "theirs")
    trap.lay(folder / "lib")
    variables = {}
    if variable is not None:
        own = {"PYTHONPATH": str(package.root), "PATH": os.environ["PATH"]}.get(variable)
        variables[variable] = os.pathsep.join(filter(None, [str(folder), own]))
    assert which(package, folder, **variables) == the_systems()
    assert not trap.mark.exists()


@pytest.mark.parametrize("inside", [".", "demo", "demo/_bpf", "demo/_bpf/lib", "demo/_bpf/lib/x86_64"])
def test_no_library_that_the_wheel_did_not_bring(package: Package, trap: Trap, inside: str) -> None:
    """One that lies in the package, but is in no list with its sha256."""
    trap.lay(package.root / inside)
    assert which(package, package.root) == the_systems()
    assert not trap.mark.exists()


@pytest.mark.parametrize("vouched", [False, True])
def test_no_list_that_the_skeleton_does_not_vouch_for(package: Package, trap: Trap, vouched: bool) -> None:
    """A list with the right sha256 of a planted library, in a package that brings none or another."""
    folder = trap.lay(package.bpf_dir / "lib" / running_name() / running_libc())
    digest = hashlib.sha256((folder / "libbpf.so.1").read_bytes()).hexdigest()
    (package.bpf_dir / "lib" / INDEX).write_text(f"{running_name()} {running_libc()} {digest}\n")
    if vouched:
        told = which(package, package.root, argument=f"libraries={'0' * 64!r}")
        assert told.startswith("PackageError ")
    else:
        assert which(package, package.root) == the_systems()
    assert not trap.mark.exists()


def test_none_rather_than_any(package: Package, trap: Trap, tmp_path: Path) -> None:
    """Where the system has no libbpf, that is an error, whatever else could be loaded."""
    needs.root_bpf()
    needs.private_mounts()
    folder = trap.lay(tmp_path / "theirs")
    trap.lay(package.bpf_dir)
    (tmp_path / "scratch").mkdir()
    before = HIDE_LIBBPF.format(folder=Path(the_systems()).parent, scratch=tmp_path / "scratch")
    told = which(package, folder, before=before, LD_LIBRARY_PATH=str(folder))
    assert told.startswith("LibbpfNotFoundError libbpf.so.1 or libbpf.so.0 is in none of /usr/lib/")
    assert not trap.mark.exists()


def test_a_library_is_not_looked_for_by_a_bare_name(package: Package, trap: Trap, tmp_path: Path) -> None:
    """`libbpf="libbpf.so.1"` is a path as any other, from the current folder: the loader's own search has no part."""
    folder = trap.lay(tmp_path / "theirs")
    told = which(package, tmp_path, argument=repr("libbpf.so.1"), LD_LIBRARY_PATH=str(folder))
    assert told.startswith(f"LibbpfNotFoundError {tmp_path}/libbpf.so.1 cannot be loaded")
    assert not trap.mark.exists()


def test_what_a_bundled_libbpf_needs_is_the_wheels_too(package: Package, tmp_path: Path, trap: Trap) -> None:
    """A bundled libbpf has libelf inside, so that LD_LIBRARY_PATH cannot put another in its place."""
    arch = build_machine()
    assert arch is not None
    needs.own_libbpf()
    bundled = bundle([arch])
    for name, data in bundled.files.items():
        (package.bpf_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (package.bpf_dir / name).write_bytes(data)
    folder = trap.lay(tmp_path / "theirs")
    (folder / "libbpf.so").rename(folder / "libelf.so.1")
    digest = hashlib.sha256(bundled.index).hexdigest()
    told = which(package, folder, argument=f"libraries={digest!r}", LD_LIBRARY_PATH=str(folder))
    assert told.startswith(str(package.bpf_dir / "lib"))
    assert not trap.mark.exists()


@pytest.mark.parametrize(
    "who", ["file of another user", "file that all may write", "folder that all may write", "group"]
)
def test_root_takes_none_that_others_could_change(
    trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """A system folder with lax rights, as /usr/local/lib may be."""
    needs.root_bpf()
    tmp_path.chmod(0o755)
    folder = trap.lay(tmp_path / "local")
    path = folder / "libbpf.so.1"
    folder.chmod(0o755)
    for name in NAMES:
        (folder / name).chmod(0o755)
    (folder / "libbpf.so.0").unlink()
    monkeypatch.setattr(libbpf, "library_folders", lambda: [str(folder)])
    assert libbpf.find() == str(path)
    if who == "file of another user":
        os.chown(path, 65534, 0)
    elif who == "group":
        os.chown(folder, 0, 65534)
        folder.chmod(0o775)
    else:
        (path if who.startswith("file") else folder).chmod(0o777)
    with pytest.raises(
        errors.LibbpfNotFoundError, match="can be changed by others than root, so root does not load it"
    ):
        libbpf.find()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert libbpf.find() == str(path), "a user's own process takes what the system has"


def test_a_library_for_another_machine_is_named_as_such(tmp_path: Path) -> None:
    needs.own_libbpf()
    own = build_machine()
    assert own is not None
    other = "arm64" if own.name == "x86_64" else "x86_64"
    text = tmp_path / "text"
    text.write_text("hello")
    wanted = {
        OWN_LIBBPF
        / "lib"
        / own.name
        / "musl"
        / "libbpf.so.1": "it is built for musl, and this Python runs on glibc: name",
        OWN_LIBBPF / "lib" / other / "glibc" / "libbpf.so.1": "it is built for another architecture than this Python",
        text: "it is no shared library",
        tmp_path / "missing": "No such file or directory",
    }
    assert running_libc() == "glibc"
    for path, why in wanted.items():
        with pytest.raises(errors.LibbpfNotFoundError, match=f"{path} cannot be loaded as libbpf: {why}"):
            libbpf.load(str(path))


def test_a_library_of_glibc_where_musl_runs() -> None:
    needs.own_libbpf()
    library = OWN_LIBBPF / "lib" / running_name() / "glibc" / "libbpf.so.1"
    told = why_unfit(str(library), "musl")
    assert told == "it is built for glibc, and this Python runs on musl: name one that is built for musl"
    assert why_unfit(str(library.parents[1] / "musl" / library.name), "musl") == ""
