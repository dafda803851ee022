"""The duties that hatchling's and setuptools' adapters share: what must not ship, and whose files are left alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.common import needs
from tests.common.projects import PROGRAM, PYPROJECT, SETUPTOOLS_PYPROJECT, make_project, tree_of, wheel_files

TABLES = {"hatchling": PYPROJECT, "setuptools": SETUPTOOLS_PYPROJECT}
MODULES = {"hatchling": "hatchling.build", "setuptools": "setuptools.build_meta"}
SOURCES = {"a.bpf.c": PROGRAM, "b.bpf.c": PROGRAM}


@pytest.fixture(params=["hatchling", "setuptools"])
def system(request: pytest.FixtureRequest) -> str:
    needs.tool("clang")
    return str(request.param)


def project_of(system: str, folder: Path) -> Path:
    return make_project(folder / "p", sources=SOURCES, pyproject=TABLES[system])


def run(system: str, project: Path, made: str, out: Path) -> subprocess.CompletedProcess[str]:
    """`made` is "wheel", "sdist" or "editable"."""
    out.mkdir(exist_ok=True)
    code = f"import {MODULES[system]} as b; b.build_{made}({str(out)!r})"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def hatch_bpf_build(project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatch_bpf", "build"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def names_in(out: Path) -> set[str]:
    (made,) = out.iterdir()
    if made.suffix == ".whl":
        return set(wheel_files(made))
    with tarfile.open(made) as archive:
        return set(archive.getnames())


@pytest.mark.parametrize("made", ["wheel", "sdist"])
@pytest.mark.parametrize("left", ["all", "no object"])
def test_the_skeleton_of_a_source_that_is_gone_does_not_ship(system: str, made: str, left: str, tmp_path: Path) -> None:
    project = project_of(system, tmp_path)
    assert hatch_bpf_build(project).returncode == 0
    (project / "src/demo/b.bpf.c").unlink()
    if left == "no object":
        (project / "src/demo/_bpf/x86_64/b.bpf.o").unlink()
    done = run(system, project, made, tmp_path / "out")
    assert done.returncode == 1, done.stdout
    assert "src/demo/" in done.stdout
    assert "is left from an editable build and would go into the wheel: remove it" in done.stdout
    assert not list((tmp_path / "out").iterdir())
    # the remedy
    for name in ("b_skel.py", "_bpf/x86_64/b.bpf.o"):
        (project / "src/demo" / name).unlink(missing_ok=True)
    done = run(system, project, made, tmp_path / "out")
    assert done.returncode == 0, done.stdout
    assert any(name.endswith("demo/a_skel.py") for name in names_in(tmp_path / "out"))
    assert not any("b_skel" in name or "b.bpf" in name for name in names_in(tmp_path / "out"))


@pytest.mark.parametrize("made", ["wheel", "sdist"])
def test_temporary_files_of_a_killed_build_do_not_ship(system: str, made: str, tmp_path: Path) -> None:
    """Neither those that are written beside their files, as they once were, nor today's."""
    project = project_of(system, tmp_path)
    if system == "setuptools":  # which takes such files only where it is told to
        with (project / "pyproject.toml").open("a") as file:
            file.write('\n[tool.setuptools.package-data]\n"*" = ["**/*", "**/.*"]\n')
    assert hatch_bpf_build(project).returncode == 0
    package = project / "src/demo"
    left = [
        package / "_bpf/runtime/.globals.py.2c109wjb",
        package / "_bpf/runtime/__pycache__/.globals.py.2c109wjb",
        package / "_bpf/x86_64/.a.bpf.o.abcdefgh",
        package / ".a_skel.py.abcd_123",
        package / "__pycache__/.a_skel.py.abcd_123",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    mine = package / ".a_skel.py.swp"
    mine.write_bytes(b"an editor's")
    done = run(system, project, made, tmp_path / "out")
    assert done.returncode == 0, done.stdout
    names = names_in(tmp_path / "out")
    assert any(name.endswith("_bpf/runtime/globals.py") for name in names)
    assert not [name for name in names if "2c109wjb" in name or "abcd" in name]
    assert mine.exists()


@pytest.mark.parametrize("link", ["_bpf", "_bpf/runtime", "_bpf/x86_64", "_bpf/runtime/deeper"])
def test_a_link_in_the_folder_that_is_filled_is_refused(system: str, link: str, tmp_path: Path) -> None:
    """What it leads to is somebody else's."""
    project = project_of(system, tmp_path)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "precious.py").write_text("precious = True\n")
    assert hatch_bpf_build(project).returncode == 0
    path = project / "src/demo" / link
    if path.exists():
        shutil.rmtree(path)
    path.symlink_to(theirs)
    before = tree_of(theirs)
    for done in (
        hatch_bpf_build(project),
        run(system, project, "wheel", tmp_path / "out"),
        run(system, project, "editable", tmp_path / "out"),
    ):
        assert done.returncode == 1
        said = done.stdout + (done.stderr or "")
        assert f"src/demo/{link} is a symbolic link" in said
        assert "Traceback" not in said
    assert tree_of(theirs) == before
    assert path.is_symlink()
    path.unlink()
    assert hatch_bpf_build(project).returncode == 0


def test_one_bpf_folder_and_one_runtime_for_folders_that_are_no_packages(system: str, tmp_path: Path) -> None:
    sources = {f"tools/t{number}/t{number}.bpf.c": PROGRAM for number in range(3)}
    project = make_project(tmp_path / "p", sources=sources, pyproject=TABLES[system])
    (project / "src/demo/__init__.py").unlink()
    with (project / "pyproject.toml").open("a") as file:  # without it hatchling finds no package
        file.write('\n[tool.hatch.build.targets.wheel]\npackages = ["src/demo"]\n')
    done = run(system, project, "wheel", tmp_path / "out")
    assert done.returncode == 0, done.stdout
    runtimes = {name for name in names_in(tmp_path / "out") if name.endswith("_bpf/runtime/__init__.py")}
    assert runtimes == {"demo/tools/_bpf/runtime/__init__.py"}


RING = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct event { __u32 pid; };
struct event *unused_event __attribute__((unused));
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
SEC("raw_tp/sched_switch") int NAME(void *ctx) { return bpf_ringbuf_output(&ring, &(struct event){}, 4, 0); }
char LICENSE[] SEC("license") = "GPL";
"""


def test_one_name_in_two_sub_packages(system: str, tmp_path: Path) -> None:
    sources = {f"{name}/prog.bpf.c": RING.replace("NAME", name) for name in ("a", "b")}
    options = 'archs = ["x86_64"]\nevents = { "prog.ring" = "event" }'
    project = make_project(tmp_path / "p", sources=sources, options=options, pyproject=TABLES[system])
    for name in ("a", "b"):
        (project / "src/demo" / name / "__init__.py").write_text("")
    done = run(system, project, "wheel", tmp_path / "out")
    assert done.returncode == 0, done.stdout
    (wheel,) = (tmp_path / "out").iterdir()
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    code = "import demo.a.prog_skel as a, demo.b.prog_skel as b; print(a.Prog.__name__, b.Prog.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("Prog Prog\n", "")
    files = wheel_files(wheel)
    assert files["demo/_bpf/x86_64/a/prog.bpf.o"] != files["demo/_bpf/x86_64/b/prog.bpf.o"]
    for name in ("a", "b"):
        text = files[f"demo/{name}/prog_skel.py"].decode()
        assert f'"x86_64/{name}/prog.bpf.o"' in text
        assert "ring: _bpf.RingBuffer[event]" in text
