"""Temporary folders: gone at the end, and those of killed builds gone with the next build."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hatch_bpf.support.scratch import Scratch
from tests.common.projects import REPOSITORY

HOLD = """
import sys, time
from hatch_bpf.support.scratch import Scratch
scratch = Scratch()
open(scratch.folder + "/file", "w").close()
print(scratch.folder, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def holder(tmp_path: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with a folder, which is killed by whoever asks for it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_goes_at_the_end(tmp_path: Path) -> None:
    with Scratch() as folder:
        Path(folder, "file").touch()
        assert os.stat(folder).st_mode & 0o077 == 0
        assert list(tmp_path.iterdir()) == [Path(folder)]
    assert list(tmp_path.iterdir()) == []


def test_that_of_a_killed_build_goes_with_the_next_and_that_of_a_running_one_stays(tmp_path: Path) -> None:
    killed, abandoned = holder(tmp_path)
    running, in_use = holder(tmp_path)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert abandoned.exists()
        with Scratch() as folder:
            assert sorted(tmp_path.iterdir()) == sorted([in_use, Path(folder)])
        assert (in_use / "file").exists()
    finally:
        for process in (killed, running):
            process.kill()
            process.communicate()


def test_what_is_not_a_folder_of_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "hatch-bpf-build-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "hatch-bpf-build-file").touch()
    (tmp_path / "hatch-bpf-other").mkdir()
    before = sorted(tmp_path.iterdir())
    with Scratch():
        pass
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "elsewhere").exists()


def test_many_at_once_do_not_take_each_other_away(tmp_path: Path) -> None:
    script = (
        "from hatch_bpf.support.scratch import Scratch\n"
        "for _ in range(100):\n with Scratch() as folder:\n  open(folder + '/file', 'w').close()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    processes = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert list(tmp_path.iterdir()) == []


def test_one_that_another_build_has_locked_to_remove_it_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still there when the new build looks, and gone a moment later."""
    make, locked = tempfile.mkdtemp, list[tuple[str, int]]()

    def make_and_lock_the_first(*, prefix: str) -> str:
        folder = make(prefix=prefix, dir=tmp_path)
        if not locked:
            locked.append((folder, os.open(folder, os.O_RDONLY)))
            fcntl.flock(locked[0][1], fcntl.LOCK_EX)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lock_the_first)
    with Scratch() as folder:
        assert folder != locked[0][0]
        shutil.rmtree(locked[0][0])
        os.close(locked[0][1])
        assert Path(folder).is_dir()
