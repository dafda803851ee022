"""hatchling's hook through its front doors: what lands in a wheel, its tag, editable builds, and an untouched tree."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf import arch
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler import bpftool
from hatch_bpf.hatch_plugin import load_hatch_project
from hatch_bpf.kernels.archive import list_kernels, read_archived
from hatch_bpf.kernels.locked import LOCK_NAME
from hatch_bpf.objects.model import read_object
from hatch_bpf.reuse.shipped import find_shipped
from hatch_bpf.runtime.host.embedded import Embedded
from hatch_bpf.support.context import Context
from tests.common import needs
from tests.common.projects import (
    KERNELS,
    PROGRAM,
    REPOSITORY,
    build_wheel,
    make_project,
    pip_wheel,
    tree_of,
    wheel_files,
)

OPTIONS = f"""\
archs = ["x86_64", "arm64"]
btf-archive = "{KERNELS}"
kernels = ["debian/*/*/*"]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a wheel for two architectures and the kernels of the repository's archive."""
    needs.tool("clang")
    folder = tmp_path_factory.mktemp("wheel")
    project = make_project(folder / "p", options=OPTIONS)
    before = tree_of(project)
    path = build_wheel(project, folder / "out")
    assert path.name == "demo-1-py3-none-any.whl"
    assert tree_of(project) == before, "a standard build leaves the source tree as it found it"
    return wheel_files(path)


def hatchling(project: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run hatchling's PEP 517 functions as a build front end does: in the project's folder, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", f"import hatchling.build as b; {code}"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def embedded(files: dict[str, bytes]) -> Embedded:
    return Embedded(files["demo/_bpf/kernels.btfs"], "kernels.btfs")


def test_every_kernel_is_there_and_each_btf_once(wheel: dict[str, bytes]) -> None:
    kernels = embedded(wheel).kernels()
    assert set(kernels) == {str(entry.kernel) for entry in list_kernels(KERNELS)}
    btfs = [embedded(wheel).btf(number) for number in sorted(set(kernels.values()))]
    assert len(set(btfs)) == len(btfs) >= 2


def test_the_skeleton_knows_the_file_of_kernels_by_its_sha256(wheel: dict[str, bytes]) -> None:
    digest = hashlib.sha256(wheel["demo/_bpf/kernels.btfs"]).hexdigest()
    assert f'kernels=(\n            "kernels.btfs",\n            "{digest}",\n' in wheel["demo/prog_skel.py"].decode()


def test_each_minimized_btf_is_what_bpftool_makes(wheel: dict[str, bytes]) -> None:
    needs.tool("bpftool")
    kernels = embedded(wheel).kernels()
    for entry in list_kernels(KERNELS):
        model = read_object(wheel[f"demo/_bpf/{entry.kernel.arch}/prog.bpf.o"], path="prog.bpf.o")
        whole = Btf(read_archived(entry.path), source=str(entry.kernel))
        assert embedded(wheel).btf(kernels[str(entry.kernel)]) == bpftool.minimize_by_bpftool([model], whole)


def test_bpftool_as_the_minimizer_makes_the_same_wheel(tmp_path: Path, wheel: dict[str, bytes]) -> None:
    needs.tool("bpftool")
    project = make_project(tmp_path / "p", options=OPTIONS + 'minimizer = "bpftool"\n')
    other = wheel_files(build_wheel(project, tmp_path / "out"))
    assert other["demo/_bpf/kernels.btfs"] == wheel["demo/_bpf/kernels.btfs"]


def test_the_same_bytes_from_two_folders(tmp_path: Path) -> None:
    needs.tool("clang")
    first = build_wheel(make_project(tmp_path / "here", options=OPTIONS), tmp_path / "out1")
    second = build_wheel(make_project(tmp_path / "some where" / "else", options=OPTIONS), tmp_path / "out2")
    assert first.read_bytes() == second.read_bytes()


def test_host_is_embedded_under_its_own_name(tmp_path: Path) -> None:
    needs.tool("clang")
    needs.host_btf()
    machine = arch.build_machine()
    assert machine is not None
    project = make_project(tmp_path / "p", options=f'archs = ["{machine.name}"]\nkernels = ["host"]')
    (kernel,) = embedded(wheel_files(build_wheel(project, tmp_path / "out"))).kernels()
    assert kernel.split("/")[2:] == [machine.name, os.uname().release]


def test_a_package_without_a_matrix_relies_on_the_kernels_own_btf(tmp_path: Path) -> None:
    needs.tool("clang")
    files = wheel_files(build_wheel(make_project(tmp_path / "p"), tmp_path / "out"))
    assert embedded(files).kernels() == {}
    assert "demo/_bpf/x86_64/prog.bpf.o" in files


def test_hatchlings_own_keys_are_not_taken_for_options(tmp_path: Path) -> None:
    needs.tool("clang")
    options = 'archs = ["x86_64"]\ndependencies = []\nrequire-runtime-dependencies = false\nenable-by-default = true'
    assert build_wheel(make_project(tmp_path / "p", options=options), tmp_path / "out")


def test_leftovers_of_an_editable_build_do_not_slip_into_a_wheel(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p")
    assert hatchling(project, f"b.build_editable({str(tmp_path)!r})").returncode == 0
    (project / "src/demo/_bpf/stale.btf").write_bytes(b"left by an earlier build")
    done = hatchling(project, f"b.build_wheel({str(tmp_path / 'out')!r})")
    assert done.returncode == 1
    assert "src/demo/_bpf/stale.btf is left from an editable build and would go into the wheel" in done.stdout
    (project / ".gitignore").write_text("_bpf/\n*_skel.py\n")
    assert hatchling(project, f"b.build_wheel({str(tmp_path / 'out')!r})").returncode == 0
    (wheel,) = (tmp_path / "out").glob("*.whl")
    assert "demo/_bpf/stale.btf" not in wheel_files(wheel)
    assert "demo/_bpf/x86_64/prog.bpf.o" in wheel_files(wheel)


def test_clean_removes_what_an_editable_build_wrote(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p")
    before = tree_of(project)
    assert hatchling(project, f"b.build_editable({str(tmp_path)!r})").returncode == 0
    assert tree_of(project) != before
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--clean", "--directory", tmp_path / "dist"],
        cwd=project, check=True, capture_output=True,
    )  # fmt: skip
    assert tree_of(project) == before


IN_SDIST = {str(e.kernel) for e in list_kernels(KERNELS) if (e.kernel.version, e.kernel.release[:4]) == ("12", "6.1.")}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist of a project for two architectures; its matrix names the host too."""
    needs.tool("clang")
    folder = tmp_path_factory.mktemp("sdist")
    project = make_project(folder / "p", options=OPTIONS.replace('"debian/*/*/*"', '"debian/12/*/6.1.*", "host"'))
    before = tree_of(project)
    done = hatchling(project, f"b.build_sdist({str(folder)!r})")
    assert done.returncode == 0, done.stdout
    assert tree_of(project) == before
    with tarfile.open(folder / "demo-1.tar.gz") as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return folder / "unpacked" / "demo-1"


def without_tools(folder: Path) -> dict[str, str]:
    """An environment where there is no compiler and no bpftool."""
    folder.mkdir()
    return {"PATH": str(folder)}


def copy(sdist: Path, to: Path) -> Path:
    return Path(shutil.copytree(sdist, to))


def test_an_sdist_carries_what_was_built_but_nothing_of_the_host(sdist: Path) -> None:
    assert (sdist / "src/demo/_bpf/arm64/prog.bpf.o").exists()
    assert (sdist / "src/demo/prog_skel.py").exists()
    data = (sdist / "src/demo/_bpf/kernels.btfs").read_bytes()
    assert set(Embedded(data, "kernels.btfs").kernels()) == IN_SDIST


def test_an_sdist_installs_without_clang_and_without_the_archive(tmp_path: Path, sdist: Path) -> None:
    project = copy(sdist, tmp_path / "p")
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace(str(KERNELS), "/nowhere"))
    done = pip_wheel(project, tmp_path / "out", env=without_tools(tmp_path / "bin"), verbose=True)
    assert done.returncode == 0, done.stdout
    assert "taking the objects in src/demo/_bpf, which fit the sources (" in done.stdout
    (wheel,) = (tmp_path / "out").glob("*.whl")
    files = wheel_files(wheel)
    assert files["demo/_bpf/x86_64/prog.bpf.o"] == (project / "src/demo/_bpf/x86_64/prog.bpf.o").read_bytes()
    kernels = set(embedded(files).kernels())
    assert kernels >= IN_SDIST
    if needs.HOST_BTF.exists() and arch.build_machine() in (arch.X86_64, arch.ARM64):
        assert any(key.endswith(os.uname().release) for key in kernels), "the host is minimized where it is installed"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: append(p / "src/demo/prog.bpf.c", "/* changed */\n"), "src/demo/prog.bpf.c has changed"),
        (lambda p: append(p / "pyproject.toml", 'cflags = ["-DX"]\n'), "the options have changed"),
        (lambda p: append(p / "src/demo/_bpf/x86_64/prog.bpf.o", "x"), "x86_64/prog.bpf.o has changed"),
        (lambda p: (p / "src/demo/_bpf/kernels.btfs").unlink(), "kernels.btfs is missing"),
        (lambda p: (p / "src/demo/_bpf/build.json").write_text("{}"), "build.json is not a record of a build"),
        (lambda p: (p / "src/demo/more.bpf.c").write_text(PROGRAM), "src/demo/more.bpf.c is new"),
    ],
    ids=["source", "options", "object", "index", "record", "new source"],
)
def test_what_does_not_fit_is_built_anew_or_refused(tmp_path: Path, sdist: Path, change, reason: str) -> None:  # type: ignore[no-untyped-def]
    project = copy(sdist, tmp_path / "p")
    change(project)
    refused = pip_wheel(project, tmp_path / "out", env=without_tools(tmp_path / "bin"), verbose=True)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stdout
    assert f"building anew what is in src/demo/_bpf: {reason}" in refused.stdout
    assert "hatch-bpf: clang is not on PATH" in refused.stdout
    done = pip_wheel(project, tmp_path / "out", verbose=True)
    assert done.returncode == 0, done.stdout
    assert f"building anew what is in src/demo/_bpf: {reason}" in done.stdout


def _another_index(record: Any, project: Path) -> None:
    """A file of kernels that is what the record says, and no such file."""
    (project / "src/demo/_bpf/kernels.btfs").write_bytes(b"nonsense")
    record["outputs"]["kernels.btfs"] = hashlib.sha256(b"nonsense").hexdigest()


def _a_fifo(record: Any, project: Path) -> None:
    os.mkfifo(project / "pipe")
    record["inputs"]["pipe"] = "00"


def _a_device(record: Any, project: Path) -> None:
    (project / "zero").symlink_to("/dev/zero")
    record["inputs"]["zero"] = "00"


def _one_file_often(record: Any, project: Path) -> None:
    data = bytes(8 << 20)
    (project / "big").write_bytes(data)
    for number in range(1000):
        record["inputs"]["./" * number + "big"] = hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record, _: record.update(format=0), "build.json is of another version of hatch-bpf"),
        (lambda record, _: record.update(compiler=14), "build.json is not a record of a build"),
        (lambda record, _: record.update(inputs=[]), "build.json is not a record of a build"),
        (lambda record, _: record["inputs"].update({"/dev/zero": "00"}), "build.json is not a record of a build"),
        (lambda record, _: record["inputs"].update({"../secret": "00"}), "build.json is not a record of a build"),
        (lambda record, _: record["inputs"].update({"\x1b[2J": "00"}), "build.json is not a record of a build"),
        (lambda record, _: record["inputs"].update({"a\0b": "00"}), "build.json is not a record of a build"),
        (lambda record, _: record["inputs"].update({"\ud800": "00"}), "build.json is not a record of a build"),
        (_a_fifo, "pipe cannot be read: it is not a regular file"),
        (_a_device, "zero cannot be read: it is not a regular file"),
        (_one_file_often, "build.json: unpacks to more than any real file of its size"),
        (lambda _, project: (project / "src/demo/new.h").write_text(""), "the headers in src/demo/ are not the same"),
        (lambda record, _: record["outputs"].pop("arm64/prog.bpf.o"), "the record does not name all of it"),
        (lambda record, _: record["outputs"].pop("kernels.btfs"), "the record does not name all of it"),
        (_another_index, "the record does not name all of it"),
        (lambda _, project: (project / LOCK_NAME).write_text("{}"), f"{LOCK_NAME} is new"),
    ],
)
def test_a_record_that_does_not_fit(tmp_path: Path, sdist: Path, change: Any, reason: str) -> None:
    project = copy(sdist, tmp_path / "p")
    path = project / "src/demo/_bpf/build.json"
    loaded = load_hatch_project(project)
    assert loaded is not None
    (package,) = loaded.packages
    said: list[str] = []
    assert find_shipped(package, loaded, Context(said.append)) is not None
    record = json.loads(path.read_text())
    change(record, project)
    path.write_text(json.dumps(record))
    assert find_shipped(package, loaded, Context(said.append)) is None
    assert said[-1].startswith(f"building anew what is in src/demo/_bpf: {reason}")


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.tool("clang")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    build_wheel(make_project(tmp_path / "good"), tmp_path / "out")
    broken = make_project(tmp_path / "bad", sources={"prog.bpf.c": PROGRAM + "#error stop\n"})
    assert hatchling(broken, f"b.build_wheel({str(tmp_path / 'out2')!r})").returncode == 1
    assert [path.name for path in scratch.rglob("*") if "hatch-bpf" in path.name] == []


def test_each_package_gets_a_runtime_of_its_own(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p", options=OPTIONS)
    other = project / "src" / "other"
    shutil.copytree(project / "src" / "demo", other)
    table = project / "pyproject.toml"
    table.write_text(
        table.read_text() + '\n[tool.hatch.build.targets.wheel]\npackages = ["src/demo", "src/other"]\n',
        encoding="utf-8",
    )
    names = set(wheel_files(build_wheel(project, tmp_path / "out")))
    hatch_bpf = REPOSITORY / "hatch_bpf"
    for path in (hatch_bpf / "runtime").rglob("*.py"):
        module = path.relative_to(hatch_bpf).as_posix()
        assert {f"demo/_bpf/{module}", f"other/_bpf/{module}"} <= names
