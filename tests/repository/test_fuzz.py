"""The targets of `fuzz/` on their seeds and on a few mutations of them, and how much a hostile input can cost.

`make fuzz` does the same with millions of inputs.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import forged, hostile, recipes
from fuzz.targets import REFUSALS, TARGETS
from tests.common import kernel_btfs
from tests.common.projects import REPOSITORY

pytestmark = pytest.mark.thorough

SECONDS = 5
MEGABYTES = 300
SIZE = 10 << 20


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_short_and_some_are_good(name: str) -> None:
    target = TARGETS[name]
    refused = {}
    for seed, data in target.seeds().items():
        assert len(data) <= target.max_length, seed
        try:
            target.run(data)
        except REFUSALS as error:
            refused[seed] = str(error)
    assert len(refused) < len(target.seeds()), refused


@pytest.mark.parametrize("name", [name for name in TARGETS if not name.startswith("forged-")])
@settings(max_examples=1000 if kernel_btfs.FULL else 60, deadline=None)
@given(data=st.data())
def test_mutations_are_refused_or_taken(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    mutated = bytearray(data.draw(st.sampled_from(sorted(target.seeds().values()))))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(len(mutated) - 1, 0)))
        match data.draw(st.sampled_from(["byte", "word", "cut", "repeat"])):
            case "byte":
                mutated[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "word":
                mutated[at : at + 4] = data.draw(st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF])).to_bytes(4, "little")
            case "cut":
                del mutated[at : at + data.draw(st.integers(1, 64))]
            case "repeat":
                mutated[at:at] = mutated[at : at + data.draw(st.integers(1, 64))]
    with contextlib.suppress(*REFUSALS):
        target.run(bytes(mutated))


@pytest.mark.parametrize("name", recipes.FILES)
@settings(max_examples=1000 if kernel_btfs.FULL else 25, deadline=None)
@given(recipe=st.binary(max_size=48))
def test_forged_files_are_refused_or_taken_in_time(name: str, recipe: bytes) -> None:
    made = recipes.FILES[name](recipes.Recipe(recipe))
    start = time.process_time()
    with contextlib.suppress(*REFUSALS):
        TARGETS[name].run(made)
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("kind", forged.FORGED if kernel_btfs.FULL else forged.WORST)
def test_a_forged_file_costs_little(kind: str) -> None:
    """Through the command, in a process of its own, under limits that the kernel enforces."""
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.forged", kind], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
    seconds, megabytes, status = map(float, done.stdout.split()[-3:])
    assert status in (0, 1)
    assert seconds < SECONDS
    assert megabytes < MEGABYTES


@pytest.mark.parametrize("shape", hostile.SHAPES if kernel_btfs.FULL else hostile.WORST)
def test_a_hostile_btf_of_10_mb_costs_little(shape: str) -> None:
    """In a process of its own, under limits that the kernel enforces: processor time and memory."""
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.hostile", shape, str(SIZE), str(SECONDS)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr[-2000:]}"
    seconds, megabytes = map(float, done.stdout.split()[:2])
    assert seconds < SECONDS
    assert megabytes < MEGABYTES
