"""`hatch-bpf init`: what it makes builds, installs, runs and passes its own test, with each build system."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from hatch_bpf.cli import scaffold
from hatch_bpf.cli.main import _parser, main
from hatch_bpf.errors import OutputError
from tests.common import needs, tracefs
from tests.common.front_ends import BACKENDS
from tests.common.projects import build_scaffold, build_wheel, tree_of, wheel_files


@pytest.mark.parametrize("backend", BACKENDS)
def test_type_checkers_find_nothing_in_the_package_and_its_test(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the skeleton, the runtime and what uses them, for old Pythons too."""
    needs.tool("clang")
    monkeypatch.chdir(tmp_path)
    build_scaffold(tmp_path, backend)
    for command in (
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-version", "3.10", "src", "tests"],
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--pythonversion", "3.9", "src", "tests"],
    ):
        if "pyright" in command:
            pytest.importorskip("pyright")
        environment = {**os.environ, "MYPYPATH": "src", "MYPY_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr


def check_metadata(wheel: Path, *, name: str) -> None:
    """What PyPI checks when a wheel is uploaded: metadata that is valid, and a description in Markdown."""
    (raw,) = (data for path, data in wheel_files(wheel).items() if path.endswith(".dist-info/METADATA"))
    metadata = Metadata.from_email(raw, validate=True)
    assert (metadata.name, metadata.description_content_type) == (name, "text/markdown")
    assert metadata.description is not None
    assert name in metadata.description


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_package_works(tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.tool("clang")
    needs.own_libbpf()
    needs.root_bpf()
    tracefs.mounted()
    monkeypatch.chdir(tmp_path)
    assert main(["init", "Exec-Watch", "--backend", backend]) == 0
    wheel = build_wheel(tmp_path / "Exec-Watch", tmp_path / "out")
    check_metadata(wheel, name="Exec-Watch")
    names = {name.rpartition("/")[2] for name in wheel_files(wheel)}
    assert "py.typed" in names
    assert "execs.bpf.c" not in names, "the sources are in the sdist"
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(pip, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    own_test = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "Exec-Watch/tests"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert "1 passed" in own_test.stdout, own_test.stdout
    watcher = subprocess.Popen(
        [sys.executable, "-m", "exec_watch", "--count", "1"], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert watcher.stdout is not None
    assert watcher.stdout.readline().split() == ["PID", "PARENT", "COMMAND"]
    started = subprocess.Popen(["/bin/true"])
    started.wait()
    # communicate() would miss the line if it was read together with the heading
    pid, parent, _command = watcher.stdout.readline().split(maxsplit=2)
    assert (int(pid) > 0, int(parent) > 0) == (True, True)
    assert watcher.wait(30) == 0
    # `exec-watch | head -1`
    watcher = subprocess.Popen(
        [sys.executable, "-m", "exec_watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert watcher.stdout is not None
    assert watcher.stdout.readline().split() == ["PID", "PARENT", "COMMAND"]
    watcher.stdout.close()
    while watcher.poll() is None:
        subprocess.run(["/bin/true"], check=True)
    assert watcher.stderr is not None
    assert (watcher.returncode, watcher.stderr.read()) == (0, "")


@pytest.mark.parametrize("name", ["", "1st", "import", "a/b", "../x", "-x", "json", "a b", "x\n", "Hatch-BPF", "tests"])
def test_a_name_that_cannot_be_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--", name]) == 1
    assert "cannot be the name of a package" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_was_begun_is_taken_away_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hatch_bpf.cli.scaffold.os.replace", refuse)
    with pytest.raises(OutputError, match="demo cannot be made: No space left on device"):
        scaffold.create("demo", folder=tmp_path / "demo", backend="hatchling")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "installs"),
    [(None, "./demo"), (".", "."), ("a b/c", "'./a b/c'"), ("{absolute}/x", "{absolute}/x")],
)
def test_what_is_next_can_be_typed(
    tmp_path: Path,
    folder: str | None,
    installs: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """pip takes a bare name for a project on PyPI, whatever folder is there."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    where = [] if folder is None else [folder.format(absolute=tmp_path)]
    assert main(["init", "demo", *where]) == 0
    next_command = f'pip install {installs.format(absolute=tmp_path)}, then sudo "$(command -v demo)"'
    assert next_command in capsys.readouterr().err
    made = Path(*where or ["demo"])
    assert sorted(path.name for path in made.iterdir()) == [".gitignore", "README.md", "pyproject.toml", "src", "tests"]
    assert Path.cwd() == tmp_path / "work"


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("mine")
    before = tree_of(tmp_path)
    assert main(["init", "demo", str(tmp_path / "there")]) == 1
    assert "is not empty: name another folder" in capsys.readouterr().err
    assert main(["init", "demo", str(tmp_path / "there" / "mine" / "deeper")]) == 1
    assert "cannot be made" in capsys.readouterr().err
    assert main(["init", "demo", str(tmp_path / "there" / "mine")]) == 1
    assert "exists and is not a folder: name another" in capsys.readouterr().err
    assert tree_of(tmp_path) == before


def test_the_job_for_github_uses_commands_that_exist(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    assert main(["init", "my-tool", str(tmp_path / "p"), "--ci", "github", "--backend", "setuptools"]) == 0
    text = (tmp_path / "p/.github/workflows/bpf.yml").read_text()
    lines = [line.strip().removeprefix("run: ") for line in text.splitlines()]
    commands = [line for line in lines if line.startswith("hatch-bpf ")]
    assert [line.split()[1] for line in commands] == ["check", "try"]
    for line in commands:
        _parser().parse_args(line.split()[1:])
    assert "pip install build pytest hatch-bpf setuptools" in lines
    assert "{{" not in text


def test_without_ci_there_is_no_job(tmp_path: Path) -> None:
    assert main(["init", "my-tool", str(tmp_path / "p")]) == 0
    assert not (tmp_path / "p/.github").exists()
