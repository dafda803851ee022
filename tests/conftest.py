"""What holds for every test: its markers, the cache folder, and fixtures that several modules share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from hatch_bpf.support.store import CACHE_VARIABLE
from tests.common import marks, needs
from tests.common.projects import REPOSITORY


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test, and group them for pytest-xdist (`--dist loadgroup`).

    Tests that use the kernel run one after another, for some count what the whole kernel holds. Those that build
    packages stay together by module, so that its fixtures are made once. Unit tests go wherever there is time, after
    the groups.
    """
    ranks = {}
    for item in items:
        assert isinstance(item, pytest.Function)
        for marker in marks.markers(item):
            item.add_marker(marker)
        if item.get_closest_marker("kernel"):
            ranks[item] = 0
            item.add_marker(pytest.mark.xdist_group("kernel"))
        elif item.get_closest_marker("packaging"):
            ranks[item] = 1
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        else:
            ranks[item] = 2
    items.sort(key=ranks.__getitem__)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty cache folder for this run of the tests, so that they neither use nor leave anything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """What the tests start can be interrupted, even if the tests run in the background, where shells ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


@pytest.fixture(scope="session")
def own_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hatch-bpf's own wheel, as a release has it."""
    (wheel,) = made_once(tmp_path_factory, "own-wheel", make_own_wheel).glob("hatch_bpf-*.whl")
    return wheel


def make_own_wheel(folder: Path) -> None:
    subprocess.run([*PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, REPOSITORY], check=True)


@pytest.fixture(scope="session")
def zig_python(tmp_path_factory: pytest.TempPathFactory, own_wheel: Path) -> Path:
    """The Python of an environment with hatch-bpf's own wheel and its zig extra, as pip installs them."""
    folder = made_once(tmp_path_factory, "zig", lambda folder: make_zig_environment(folder, own_wheel))
    return folder / "venv" / "bin" / "python"


def make_zig_environment(folder: Path, wheel: Path) -> None:
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = [*PIP, "--python", python, "install", "--quiet", "--constraint", REPOSITORY / "tests" / "constraints.txt"]
    install += [f"{wheel}[zig]", "setuptools>=77", "editables"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        needs.missing(f"PyPI cannot be reached: {done.stderr.strip().splitlines()[-1]}")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is filled once in a test run, whichever of pytest-xdist's workers asks first."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each worker has its own below it
    with (root / f"{name}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        folder = root / name
        if not folder.exists():
            unfinished = factory.mktemp(name)
            make(unfinished)
            folder.symlink_to(unfinished)
    return folder


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for this machine and for GitHub's hosts, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [needs.tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = "IP:127.0.0.1,DNS:api.github.com,DNS:raw.githubusercontent.com"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", f"subjectAltName={names}"]
    subprocess.run([*command, *subject, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key
