"""The first process of a guest, as far as it runs on this machine."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hatch_bpf.lab.guest.init import _Guest, _survive_interrupts


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan = {"mark": "@ ", "folder": str(tmp_path), "path": {"bin": os.environ["PATH"], "site": ""}}
    start = time.monotonic()
    _Guest(plan, ctypes.CDLL(None))._run(["sh", "-c", "sleep 60 & echo $! >pid; echo said; exit 3"])
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert time.monotonic() - start < 30
    before, _, after = capfd.readouterr().out.partition("said\n")
    assert json.loads(before.strip().removeprefix("@ ")) == {"command": "begins"}
    assert json.loads(after.strip().removeprefix("@ ")) == {"command": "ends", "status": 3}


def test_a_command_that_interrupts_the_first_process() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        _survive_interrupts()
        os.kill(os.getpid(), signal.SIGINT)
        command = subprocess.Popen(["sleep", "60"])
        command.send_signal(signal.SIGINT)
        assert command.wait(timeout=30) == -signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)
