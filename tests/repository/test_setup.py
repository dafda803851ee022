"""tools/setup.sh with each package manager that it knows: what it would install where everything is missing.

The package managers are fakes that note their arguments. Whether the packages really have these names, they can't
tell.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.common.projects import REPOSITORY

MANAGERS = {"apt": "apt-get", "dnf": "dnf", "apk": "apk"}
COMMON = {"clang", "llvm", "bpftool", "binutils", "cpio", "zstd", "lz4", "zsh", "fish"}
OWN = {
    "apt": {"musl-tools", "iproute2", "xz-utils", "util-linux"},
    "dnf": {"musl-gcc", "iproute", "xz", "util-linux"},
    "apk": {"iproute2", "xz", "util-linux-misc", "py3-pip"},
}


def bare_path(folder: Path, manager: str) -> Path:
    """A folder for PATH: what the script itself runs, a package manager, and a Python too old, which ends it."""
    folder.mkdir()
    for name in ("sh", "id", "test", "tail", "grep", "env", "true"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, text in (
        (MANAGERS[manager], f'echo "$@" >> {folder}/told'),
        ("python3", "exit 1"),
        ("sudo", 'exec "$@"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("manager", MANAGERS)
def test_what_is_missing_is_named_and_installed(tmp_path: Path, manager: str) -> None:
    path = bare_path(tmp_path / "bin", manager)
    # the script looks for tools in the system's folders too, so those are hidden by their names
    script = (REPOSITORY / "tools" / "setup.sh").read_text().replace(':/usr/sbin:/sbin"', '"')
    (tmp_path / "setup.sh").write_text(script)
    done = subprocess.run(
        [path / "sh", tmp_path / "setup.sh", "test", tmp_path / "venv"],
        capture_output=True, text=True, check=False, env={"PATH": str(path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "hatch-bpf builds with Python 3.10 or newer" in done.stderr
    assert f"Installing with {manager}: " in done.stdout
    told = (path / "told").read_text().splitlines()
    words = set(told[-1].split())
    assert COMMON | OWN[manager] <= words
    assert {"install", "add"} & words
    assert "" not in told[-1].split(" ")[:-1]
    said = done.stdout.split("Installing with")[1].split(":", 1)[1].split()
    assert set(said) <= words
