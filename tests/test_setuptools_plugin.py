"""setuptools' side through its front doors, against hatchling's: the same options, the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.common import needs
from tests.common.projects import (
    KERNELS,
    PROGRAM,
    SETUPTOOLS_PYPROJECT,
    build_wheel,
    make_project,
    pip_wheel,
    tree_of,
    wheel_files,
)

OPTIONS = 'archs = ["x86_64", "arm64"]\nbtf-archive = "kernels"\nkernels = ["debian/12/*/6.1.*"]\n'


def project_with_kernels(folder: Path, **options: str) -> Path:
    """A project that keeps its own archive, as the example does."""
    project = make_project(folder, options=OPTIONS, **options)  # type: ignore[arg-type]
    shutil.copytree(KERNELS / "debian" / "12", project / "kernels" / "debian" / "12")
    return project


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


def test_a_wheel_has_what_hatchlings_has_byte_for_byte(tmp_path: Path) -> None:
    needs.tool("clang")
    theirs = project_with_kernels(tmp_path / "hatchling")
    ours = project_with_kernels(tmp_path / "setuptools", pyproject=SETUPTOOLS_PYPROJECT)
    hatchling_wheel, wheel = build_wheel(theirs, tmp_path / "out1"), build_wheel(ours, tmp_path / "out2")
    assert wheel.name == hatchling_wheel.name == "demo-1-py3-none-any.whl"

    def generated(path: Path) -> dict[str, bytes]:
        return {name: data for name, data in wheel_files(path).items() if "/_bpf/" in name or name.endswith("_skel.py")}

    assert generated(wheel) == generated(hatchling_wheel)
    assert "demo/_bpf/arm64/prog.bpf.o" in generated(wheel)


def test_a_wheel_leaves_nothing_of_ours_in_the_source_tree(tmp_path: Path) -> None:
    needs.tool("clang")
    project = project_with_kernels(tmp_path / "p", pyproject=SETUPTOOLS_PYPROJECT)
    before = tree_of(project / "src")
    build_wheel(project, tmp_path / "out")
    # setuptools itself leaves build/ and *.egg-info
    after = {name: data for name, data in tree_of(project / "src").items() if ".egg-info/" not in name}
    assert after == before


def test_an_editable_build_writes_beside_the_sources(tmp_path: Path) -> None:
    needs.tool("clang")
    project = project_with_kernels(tmp_path / "p", pyproject=SETUPTOOLS_PYPROJECT)
    (tmp_path / "out").mkdir()
    done = setuptools(project, f"b.build_editable({str(tmp_path / 'out')!r})")
    assert done.returncode == 0, done.stdout
    assert (project / "src/demo/_bpf/x86_64/prog.bpf.o").exists()
    assert (project / "src/demo/prog_skel.py").exists()


def test_an_sdist_installs_without_clang(tmp_path: Path) -> None:
    needs.tool("clang")
    project = project_with_kernels(tmp_path / "p", pyproject=SETUPTOOLS_PYPROJECT)
    done = setuptools(project, f"b.build_sdist({str(tmp_path)!r})")
    assert done.returncode == 0, done.stdout
    with tarfile.open(tmp_path / "demo-1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / "demo-1"
    assert (unpacked / "src/demo/prog.bpf.c").read_text() == PROGRAM
    assert list(unpacked.glob("kernels/debian/12/x86_64/6.1.*"))
    (tmp_path / "bin").mkdir()
    built = pip_wheel(unpacked, tmp_path / "out", env={"PATH": str(tmp_path / "bin")}, verbose=True)
    assert built.returncode == 0, built.stdout
    assert "taking the objects in src/demo/_bpf, which fit the sources" in built.stdout
    (wheel,) = (tmp_path / "out").glob("*.whl")
    direct = build_wheel(project_with_kernels(tmp_path / "q", pyproject=SETUPTOOLS_PYPROJECT), tmp_path / "out2")
    assert {n: d for n, d in wheel_files(wheel).items() if "/_bpf/" in n} == {
        n: d for n, d in wheel_files(direct).items() if "/_bpf/" in n
    }


def test_bad_input_is_one_message(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", options='kernel = ["host"]', pyproject=SETUPTOOLS_PYPROJECT)
    done = pip_wheel(project, tmp_path / "out")
    assert done.returncode == 1
    assert "hatch-bpf: tool.hatch-bpf.kernel is not an option, did you mean 'kernels'?" in done.stdout
    assert "Traceback" not in done.stdout
    assert not list((tmp_path / "out").glob("*"))


def test_an_sdist_is_refused_for_the_same_reasons(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", options='kernel = ["host"]', pyproject=SETUPTOOLS_PYPROJECT)
    code = f"import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "hatch-bpf: tool.hatch-bpf.kernel is not an option, did you mean 'kernels'?" in done.stderr


def test_an_sdist_that_cannot_be_built_leaves_nothing_half_made(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p", sources={"prog.bpf.c": "not C"}, pyproject=SETUPTOOLS_PYPROJECT)
    done = setuptools(project, f"b.build_sdist({str(tmp_path)!r})")
    assert done.returncode == 1
    assert "error: hatch-bpf: src/demo/prog.bpf.c does not compile" in done.stdout
    assert sorted(path.name for path in project.iterdir()) == ["pyproject.toml", "src"]
    assert not list(tmp_path.glob("*.tar.gz"))


def test_a_table_that_is_none(tmp_path: Path) -> None:
    pyproject = SETUPTOOLS_PYPROJECT.replace("[tool.hatch-bpf]\n", "[tool]\nhatch-bpf = 3\n")
    project = make_project(tmp_path / "p", options="", pyproject=pyproject)
    done = pip_wheel(project, tmp_path / "out")
    assert done.returncode == 1
    assert "hatch-bpf: tool.hatch-bpf must be a table" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_project_without_the_table_is_left_alone(tmp_path: Path) -> None:
    pyproject = SETUPTOOLS_PYPROJECT.replace("[tool.hatch-bpf]\n", "").replace(', "hatch-bpf"', ', "hatch-bpf-x"')
    assert "hatch-bpf-x" in pyproject
    project = make_project(tmp_path / "p", options="", sources={"prog.bpf.c": "not C"}, pyproject=pyproject)
    assert not [name for name in wheel_files(build_wheel(project, tmp_path / "out")) if "_bpf" in name]


@pytest.mark.parametrize("requirement", ["hatch-bpf", "Hatch_BPF[zig] >= 0.1", "hatch.bpf==0.1"])
@pytest.mark.parametrize("table", ["", "[tool.hatch.build.hooks.bpf]\n", "[tool.hatch_bpf]\n"])
def test_a_project_that_requires_hatch_bpf_and_has_no_table_is_told(
    tmp_path: Path, table: str, requirement: str
) -> None:
    """Its wheel would lack the programs, and nobody would be told."""
    pyproject = SETUPTOOLS_PYPROJECT.replace("[tool.hatch-bpf]\n", table).replace('"hatch-bpf"', f'"{requirement}"')
    project = make_project(tmp_path / "p", options="", pyproject=pyproject)
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
