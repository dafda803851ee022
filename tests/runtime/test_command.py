"""Commands end as their users expect: by one line for an error, and well by Ctrl-C, SIGTERM and a closed pipe."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hatch_bpf
from hatch_bpf.runtime import MapError, as_command, command, intervals

ROOT = Path(hatch_bpf.__file__).parents[1]
COUNTING = """
from hatch_bpf.runtime import as_command, intervals
with as_command("tool"):
    try:
        print("ready", flush=True)
        for number, _ in enumerate(intervals(SECONDS)):
            print(number, flush=True)
    finally:
        print("detached", flush=True)
print("the end", flush=True)
"""
PRINTING = """
import sys
from hatch_bpf.runtime import as_command
with as_command("tool"):
    try:
        while True:
            print("line", flush=True)
    finally:
        sys.stderr.write("detached")
"""


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", ["60", "None"])
def test_a_signal_makes_the_interval_the_last(number: signal.Signals, seconds: str) -> None:
    with start(COUNTING.replace("SECONDS", seconds)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)  # it waits now
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (out.split("\n"), err, process.returncode) == (["0", "detached", "the end", ""], "", 0)


def test_a_reader_that_has_gone_is_no_error() -> None:
    with start(PRINTING) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == "detached"
        assert process.wait(30) == 0


def test_an_error_of_bpf_is_one_line_and_others_are_not_touched() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, as_command("tool"):
        raise MapError("map counts is full")
    assert caught.value.code == "tool: map counts is full"
    with pytest.raises(ValueError), as_command("tool"):
        raise ValueError
    assert signal.getsignal(signal.SIGTERM) is handler


def test_intervals_come_as_often_as_asked_for() -> None:
    before = time.monotonic()
    assert len(list(intervals(0.02, 3))) == 3
    assert time.monotonic() - before >= 0.06
    assert list(intervals(60, 0)) == []


def test_an_interval_may_be_longer_than_a_float_can_say(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = list[float]()
    monkeypatch.setattr(command, "_wait", waits.append)
    assert len(list(intervals(10**400, 2))) == 2
    assert min(waits) > 30 * 365 * 86400
    assert time.monotonic() + min(waits) < float("inf")
    with pytest.raises(ValueError, match="at least 0"):
        next(intervals(-(10**400)))
