"""The first process of a guest, as far as it runs on this machine."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from pathlib import Path

import pytest

from hatch_bpf.lab.guest.init import _Guest


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan = {"mark": "@ ", "folder": str(tmp_path), "path": {"bin": os.environ["PATH"], "site": ""}}
    start = time.monotonic()
    _Guest(plan, ctypes.CDLL(None))._run(["sh", "-c", "sleep 60 & echo $! >pid; echo said; exit 3"])
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert time.monotonic() - start < 30
    before, _, after = capfd.readouterr().out.partition("said\n")
    assert json.loads(before.strip().removeprefix("@ ")) == {"command": "begins"}
    assert json.loads(after.strip().removeprefix("@ ")) == {"command": "ends", "status": 3}
