"""Installers take the example's wheel, and what they install runs: old and new pips, and uv; twine finds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.common import needs
from tests.common.pythons import pythons
from tests.system.test_example import cgroup, copy_of_example, events, run, wheel

__all__ = ["cgroup", "wheel"]  # fixtures

pytestmark = pytest.mark.packaging

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
FIRST = "19.3"
"""The first pip that knows `manylinux2014`."""
UBUNTU_20_04 = "20.0.2"
NEWEST = ""


def from_pypi(*command: object) -> None:
    done = subprocess.run([*PIP, *map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        needs.missing(f"PyPI cannot be reached: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the newest uv and twine, as users have them."""
    folder = tmp_path_factory.mktemp("tools")
    from_pypi("install", "--target", folder, "uv", "twine")
    return folder


def environment(folder: Path, version: str) -> Path:
    """An empty environment of a Python of some version; of the one that runs the tests if that is not there."""
    python = pythons().get(version, sys.executable)
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin"


@pytest.mark.parametrize(
    ("pip", "python"),
    [(FIRST, "3.7"), (UBUNTU_20_04, "3.8"), (NEWEST, "3.13")],
    ids=lambda version: version or "newest",
)
def test_pip_installs_it_and_it_runs(wheel: Path, cgroup: Path, tmp_path: Path, pip: str, python: str) -> None:
    bin_dir = environment(tmp_path / "venv", python)
    if pip and sys.version_info >= (3, 12) and python not in pythons():
        needs.missing(f"pip {pip} runs on Python 3.11 and older, and there is none")
    from_pypi("download", "--no-deps", "--dest", tmp_path, f"pip=={pip}" if pip else "pip")
    (archive,) = tmp_path.glob("pip-*.whl")
    command = [bin_dir / "python", archive / "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
    subprocess.run([*command, wheel], check=True)
    assert len(events(run(bin_dir, "--cgroup", cgroup, "--count", 3))) == 3


def test_uv_installs_it_and_it_runs(wheel: Path, cgroup: Path, tools: Path, tmp_path: Path) -> None:
    bin_dir = environment(tmp_path / "venv", "3.12")
    uv = [tools / "bin" / "uv", "--no-cache", "--offline", "pip", "install", "--python", bin_dir / "python"]
    subprocess.run([*uv, "--no-deps", wheel], check=True)
    assert len(events(run(bin_dir, "--cgroup", cgroup, "--count", 3))) == 3


def test_twine_finds_nothing_before_an_upload(wheel: Path, own_wheel: Path, tools: Path, tmp_path: Path) -> None:
    """In the example's wheel and sdist, and in hatch-bpf's own wheel."""
    project = copy_of_example(tmp_path / "example")
    code = f"import hatchling.build as b; b.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, own_wheel],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tools), "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 3, done.stdout
