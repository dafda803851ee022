"""Open, load, attach, use and close, over and over: nothing stays behind, in this process or in the kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.common import tracefs
from tests.common.projects import REPOSITORY
from tests.common.skeleton_package import load_skeleton
from tests.cycles import held_by_kernel

COUNT = 10_000 if os.environ.get("HATCH_BPF_FULL") else 100
GROWTH = 512
"""KB that the allocator may take for itself: 5 for each of 100 cycles, less than an object has."""
ARENAS = 8
"""Mappings that the allocator may add."""


def test_cycles_leave_nothing_behind() -> None:
    tracefs.mounted()
    command = [sys.executable, "-m", "tests.cycles", "--count", str(COUNT)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=6000)
    assert done.returncode == 0, done.stderr
    print(done.stdout)  # the figures, for `pytest -s`
    found = json.loads(done.stdout)
    before, after = found["before"], found["after"]
    assert [before[kind] for kind in ("progs", "maps", "links")] == [0, 0, 0]
    grown = after.pop("resident KB") - before.pop("resident KB")
    assert grown < GROWTH
    assert after.pop("mappings") - before.pop("mappings") < ARENAS
    # caches of types and code, which come and go
    assert after.pop("Python objects") - before.pop("Python objects") < COUNT // 2
    assert after == before
    assert found["cycles"] == COUNT


def test_what_the_kernel_holds_is_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without which the test above could not fail."""
    tracefs.mounted()
    attachments = load_skeleton("attachments", tmp_path_factory.mktemp("attachments"))
    specs = [attachments.Attachments._spec_]
    before = held_by_kernel(specs)
    with attachments.Attachments.run() as skel:
        new = {kind: ids - before[kind] for kind, ids in held_by_kernel(specs).items()}
        assert len(new["progs"]) >= len([program for program in skel.programs if program.loaded])
        assert len(new["links"]) >= len(skel.links)
        assert new["maps"]
