"""The benchmarks' frame prints, writes and measures what it says. No figure of a machine is judged here."""

from __future__ import annotations

import importlib
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import __main__ as frame
from benchmarks import measure, plot
from benchmarks.table import (
    Row,
    Skipped,
    Target,
    figure,
    more_by_at_most,
    ours_at_most,
    ratio_at_least,
    ratio_at_most,
)


def rows(quick: bool) -> Iterator[Row | Skipped]:
    what = "quick" if quick else "whole"
    yield Row(what=what, reference="twice", ours=1.0, theirs=2.0, unit="s", target=ratio_at_most(0.4), note="a note")
    yield Row(what="rate", reference="none", ours=3e6, theirs=2e6, unit="events/s", target=ratio_at_least(1.5))
    yield Row(what="bytes", reference="none", ours=70_772, theirs=100_000, unit="bytes")
    yield Skipped(what="a fourth", reason="there is no fourth")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of rows that takes no time."""
    fake = ModuleType("benchmarks.fake")
    fake.rows = rows  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.setattr(frame, "MODULES", ("fake",))


@pytest.mark.usefixtures("module")
def test_the_table_and_its_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert frame.main(["--json", str(tmp_path / "figures.json"), "--quick"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in printed[3:6]] == [
        ["quick", "twice", "1", "s", "2", "s", "0.5", "≤", "0.4", "no"],
        ["rate", "none", "3", "M", "events/s", "2", "M", "events/s", "1.5", "≥", "1.5", "yes"],
        ["bytes", "none", "70,772", "bytes", "100,000", "bytes", "0.708"],
    ]
    assert printed[6:] == ["quick: a note", "a fourth: skipped: there is no fourth"]
    figures = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert figures[0] == {
        "what": "quick",
        "reference": "twice",
        "ours": 1.0,
        "theirs": 2.0,
        "unit": "s",
        "ratio": 0.5,
        "target": "≤ 0.4",
        "reached": False,
        "note": "a note",
    }
    assert figures[3] == {"what": "a fourth", "skipped": "there is no fourth"}


@pytest.mark.usefixtures("module")
def test_rows_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        frame.main(["speed"])
    assert "no rows are called speed; there are fake" in capsys.readouterr().err


def test_every_module_of_rows_has_rows() -> None:
    for name in frame.MODULES:
        assert callable(importlib.import_module(f"benchmarks.{name}").rows)


@pytest.mark.parametrize(
    ("target", "ours", "theirs", "reached", "text"),
    [
        (ratio_at_most(1.25), 5.0, 4.0, True, "≤ 1.25"),
        (ratio_at_most(1.25), 5.1, 4.0, False, "≤ 1.25"),
        (ratio_at_least(15), 30.0, 2.0, True, "≥ 15"),
        (ratio_at_least(15), 29.0, 2.0, False, "≥ 15"),
        (more_by_at_most(0.015), 0.024, 0.010, True, "≤ +15 ms"),
        (more_by_at_most(0.015), 0.026, 0.010, False, "≤ +15 ms"),
        (ours_at_most(64), 64.0, 1.0, True, "≤ 64 s"),
        (ours_at_most(64), 65.0, 1.0, False, "≤ 64 s"),
    ],
)
def test_targets(target: Target, ours: float, theirs: float, reached: bool, text: str) -> None:
    row = Row(what="", reference="", ours=ours, theirs=theirs, unit="s", target=target)
    assert row.reached is reached
    assert target.text("s") == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.5, "s", "2.5 s"),
        (0.0123, "s", "12.3 ms"),
        (0.0000042, "s", "4.2 µs"),
        (12.41, "bytes", "12.4 bytes"),
        (70_772, "bytes", "70,772 bytes"),
        (2_614_000, "events/s", "2.61 M events/s"),
        (384_000, "reads/s", "384 k reads/s"),
    ],
)
def test_figures(value: float, unit: str, text: str) -> None:
    assert figure(value, unit) == text


def test_measuring_in_turns() -> None:
    calls: list[str] = []
    ours, theirs = iter([9.0, 3.0, 2.0, 4.0]), iter([9.0, 7.0, 8.0, 6.0])

    def measured(name: str, figures: Iterator[float]) -> float:
        calls.append(name)
        return next(figures)

    found = measure.interleaved(lambda: measured("ours", ours), lambda: measured("theirs", theirs), rounds=3)
    assert found == (2.0, 6.0), "the first of each fills caches, and the least of the others counts"
    assert calls == ["ours", "theirs"] * 4


def test_cpu_time_of_a_command() -> None:
    busy = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"]
    idle = [sys.executable, "-c", "import time; time.sleep(0.2)"]
    assert measure.cpu_seconds(busy) >= 0.2
    assert measure.wall_seconds(idle) >= 0.2
    with pytest.raises(RuntimeError, match="failed with status 3: why"):
        measure.cpu_seconds([sys.executable, "-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"])


def test_the_plot_shows_every_measurement(tmp_path: Path) -> None:
    data = {
        "kernels": [1, 40, 4000],
        "cold_seconds": [0.1, 3.5, 300.0],
        "warm_seconds": [0.02, 0.05, 1.8],
        "bytes_per_kernel": [420.0, 45.0, 12.4],
    }
    (tmp_path / "scaling.json").write_text(json.dumps(data))
    assert plot.main([str(tmp_path / "scaling.json"), str(tmp_path / "scaling.svg")]) == 0
    space = {"svg": "http://www.w3.org/2000/svg"}
    picture = ET.parse(tmp_path / "scaling.svg")
    titles = [title.text for title in picture.iterfind(".//svg:circle/svg:title", space)]
    assert titles == [
        *("1 kernels: 0.1 s", "40 kernels: 3.5 s", "4,000 kernels: 300 s"),
        *("1 kernels: 0.02 s", "40 kernels: 0.05 s", "4,000 kernels: 1.8 s"),
        *("1 kernels: 420 bytes", "40 kernels: 45 bytes", "4,000 kernels: 12 bytes"),
    ]
    lines = picture.findall(".//svg:path[@class='line first']", space)
    assert lines[0].attrib["d"].count("L") == 2
    across = [float(circle.attrib["cx"]) for circle in picture.iterfind(".//svg:circle", space)][:3]
    assert across[1] - across[0] == pytest.approx((across[2] - across[0]) * 0.4447, abs=0.2), "the axis is logarithmic"
