"""setuptools' side through its front doors, against hatchling's: the same options, the same files."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.common import needs
from tests.common.projects import (
    PROGRAM,
    SETUPTOOLS_PYPROJECT,
    build_wheel,
    make_project,
    pip_wheel,
    tree_of,
    wheel_files,
)

OPTIONS = 'archs = ["x86_64", "arm64"]\nbtf-archive = "kernels"\nkernels = ["debian/12/*/6.1.*"]\n'


def setuptools(project: Path, code: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run setuptools' PEP 517 functions as a build front end does."""
    return subprocess.run(
        [sys.executable, "-c", f"import setuptools.build_meta as b; {code}"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


def test_a_value_instead_of_the_table(tmp_path: Path) -> None:
    pyproject = SETUPTOOLS_PYPROJECT.replace("[tool.hatch-bpf]\n", "[tool]\nhatch-bpf = 3\n")
    project = make_project(tmp_path / "p", options="", libbpf="", pyproject=pyproject)
    done = pip_wheel(project, tmp_path / "out")
    assert done.returncode == 1
    assert "hatch-bpf: tool.hatch-bpf must be a table" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_project_without_the_table_is_left_alone(tmp_path: Path) -> None:
    pyproject = SETUPTOOLS_PYPROJECT.replace("[tool.hatch-bpf]\n", "").replace(', "hatch-bpf"', ', "hatch-bpf-x"')
    assert "hatch-bpf-x" in pyproject
    project = make_project(tmp_path / "p", options="", libbpf="", sources={"prog.bpf.c": "not C"}, pyproject=pyproject)
    assert not [name for name in wheel_files(build_wheel(project, tmp_path / "out")) if "_bpf" in name]


@pytest.mark.parametrize("requirement", ["hatch-bpf", "Hatch_BPF[zig] >= 0.1", "hatch.bpf==0.1"])
@pytest.mark.parametrize("table", ["", "[tool.hatch.build.hooks.bpf]\n", "[tool.hatch_bpf]\n"])
def test_a_project_that_requires_hatch_bpf_and_has_no_table_is_told(
    tmp_path: Path, table: str, requirement: str
) -> None:
    """Its wheel would lack the programs, and nobody would be told."""
    pyproject = SETUPTOOLS_PYPROJECT.replace("[tool.hatch-bpf]\n", table).replace('"hatch-bpf"', f'"{requirement}"')
    project = make_project(tmp_path / "p", options="", libbpf="", pyproject=pyproject)
    done = setuptools(project, f"b.build_wheel({str(tmp_path)!r})")
    assert done.returncode == 1
    assert "error: hatch-bpf: tool.hatch-bpf is missing: the project requires hatch-bpf" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("layout", ["src", "flat"])
def test_both_layouts(tmp_path: Path, layout: str) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p", pyproject=SETUPTOOLS_PYPROJECT)
    if layout == "flat":
        (project / "src" / "demo").rename(project / "demo")
        (project / "src").rmdir()
    files = wheel_files(build_wheel(project, tmp_path / "out"))
    assert {"demo/prog_skel.py", "demo/_bpf/x86_64/prog.bpf.o", "demo/_bpf/runtime/__init__.py"} <= set(files)


def test_a_strict_editable_install_has_all_that_was_built(tmp_path: Path) -> None:
    """Its folder of links holds what the steps of the build say that they made, and nothing else."""
    needs.tool("clang")
    project = make_project(tmp_path / "p", pyproject=SETUPTOOLS_PYPROJECT)
    (tmp_path / "out").mkdir()
    done = setuptools(project, f"b.build_editable({str(tmp_path / 'out')!r}, {{'editable_mode': 'strict'}})")
    assert done.returncode == 0, done.stdout
    (links,) = project.glob("build/__editable__.*")
    code = "import demo.prog_skel as s, os; s.Prog.open; print(os.path.dirname(s.__file__))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=links, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == (f"{links}/demo\n", "")
    made = {str(path.relative_to(project / "src")) for path in (project / "src/demo/_bpf").rglob("*.*")}
    assert made <= set(tree_of(links)), "objects, kernels and the runtime"


OWN_SDIST = """\
from setuptools.command.sdist import sdist

class Own(sdist):
    def make_release_tree(self, base_dir, files):
        sdist.make_release_tree(self, base_dir, files)
        with open(base_dir + "/OWN", "w") as file:
            file.write("own")
"""


@pytest.mark.parametrize("named_in", ["setup.py", "pyproject.toml"])
def test_a_project_with_its_own_sdist_class_ships_what_was_built(tmp_path: Path, named_in: str) -> None:
    """As versioneer's is."""
    needs.tool("clang")
    project = make_project(tmp_path / "p", pyproject=SETUPTOOLS_PYPROJECT)
    (project / "own.py").write_text(OWN_SDIST)
    if named_in == "setup.py":
        text = "import sys; sys.path.insert(0, '.')\nfrom setuptools import setup\nfrom own import Own\n"
        (project / "setup.py").write_text(text + "setup(cmdclass={'sdist': Own})\n")
    else:
        with (project / "pyproject.toml").open("a") as file:
            file.write('\n[tool.setuptools.cmdclass]\nsdist = "own.Own"\n')
    done = setuptools(project, f"b.build_sdist({str(tmp_path)!r})")
    assert done.returncode == 0, done.stdout
    with tarfile.open(tmp_path / "demo-1.tar.gz") as archive:
        names = archive.getnames()
    built = {"prog_skel.py", "_bpf/x86_64/prog.bpf.o", "_bpf/runtime/__init__.py"}
    assert {"demo-1/OWN", *(f"demo-1/src/demo/{name}" for name in built)} <= set(names)


@pytest.mark.parametrize("code", ["b.build_wheel('.')", "b.build_sdist('.')", "b.get_requires_for_build_wheel()"])
def test_a_setuptools_that_is_too_old_is_told_before_anything_else(tmp_path: Path, code: str) -> None:
    project = make_project(tmp_path / "p", options="kernel = []", pyproject=SETUPTOOLS_PYPROJECT)
    done = setuptools(project, f"import setuptools; setuptools.__version__ = '65.5.0'; {code}")
    assert done.returncode == 1
    assert (
        "error: hatch-bpf: setuptools 65.5.0 is too old: 70.1 is the first that makes wheels by itself" in done.stdout
    )
    assert "Traceback" not in done.stdout
    command = "import sys, setuptools; setuptools.__version__ = '65.5.0'; from hatch_bpf.cli.main import main; "
    command += "sys.exit(main(['build']))"
    by_cli = subprocess.run([sys.executable, "-c", command], cwd=project, capture_output=True, text=True, check=False)
    assert by_cli.returncode == 1
    assert by_cli.stderr.startswith("hatch-bpf: setuptools 65.5.0 is too old: ")


def test_what_an_earlier_wheel_left_in_the_build_folder_does_not_ship(tmp_path: Path) -> None:
    needs.tool("clang")
    sources = {"a.bpf.c": PROGRAM, "b.bpf.c": PROGRAM}
    project = make_project(tmp_path / "p", sources=sources, pyproject=SETUPTOOLS_PYPROJECT)
    done = setuptools(project, f"b.build_wheel({str(tmp_path)!r})")
    assert done.returncode == 0, done.stdout
    (project / "src/demo/b.bpf.c").unlink()
    done = setuptools(project, f"b.build_wheel({str(tmp_path / 'out')!r})")
    assert done.returncode == 0, done.stdout
    (wheel,) = (tmp_path / "out").glob("*.whl")
    ours = {name for name in wheel_files(wheel) if name.endswith((".bpf.o", "_skel.py"))}
    assert ours == {"demo/a_skel.py", "demo/_bpf/x86_64/a.bpf.o"}


@pytest.mark.parametrize("command", ["bdist_egg", "install_lib"])
def test_what_setuptools_makes_without_its_build_command_has_the_programs_too(command: str, tmp_path: Path) -> None:
    """An egg, and modules that are installed alone."""
    needs.tool("clang")
    project = make_project(tmp_path / "p", pyproject=SETUPTOOLS_PYPROJECT)
    (project / "setup.py").write_text("from setuptools import setup\nsetup()\n")
    into = "-d" if command == "install_lib" else "--dist-dir"
    argv = [sys.executable, "setup.py", "-q", command, into, str(tmp_path / "out")]
    done = subprocess.run(argv, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")]
    for egg in (tmp_path / "out").glob("*.egg"):
        names += zipfile.ZipFile(egg).namelist()
    assert {"demo/prog_skel.py", "demo/_bpf/x86_64/prog.bpf.o", "demo/_bpf/runtime/skeleton.py"} <= set(names)
