"""A ring buffer that is too small: what does not fit is counted, and what arrives is whole and in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.common import tracefs
from tests.common.skeleton_package import load_skeleton

CALLS = 20_000
MASK = 2**64 - 1


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("checksums", tmp_path_factory.mktemp("checksums"), events={"records": "record"})


@contextmanager
def two_producers(skel: Any) -> Iterator[None]:
    """Two processes that make records as fast as they can, from when the block is entered until it is left."""
    read, write = os.pipe()
    cpus = sorted(os.sched_getaffinity(0))
    children = []
    for number in range(2):
        child = os.fork()
        if not child:
            os.close(write)
            os.sched_setaffinity(0, {cpus[number % len(cpus)]})
            os.read(read, 1)  # until the other end is closed
            for _ in range(CALLS):
                os.getppid()
            os._exit(0)
        children.append(child)
        skel.bss.pids[number] = child
    os.close(read)
    os.close(write)
    yield
    for child in children:
        assert os.waitpid(child, 0)[1] == 0


def check(record: Any) -> None:
    """Whether a record is what the program wrote."""
    head = record.head
    total = head.number ^ head.pid
    words = list(record.words)
    assert len(words) == head.words == (1, 2, 9, 60)[head.number % 4]
    for i, word in enumerate(words):
        assert word == ((head.number + 1) * 0x9E3779B97F4A7C15 + i * head.pid) & MASK
        total = ((total << 1 | total >> 63) & MASK) + word & MASK
    assert total == head.sum


def test_lost_records_are_counted_and_others_are_whole(skeleton: Any) -> None:
    tracefs.mounted()
    with skeleton.Checksums.open().load() as skel:
        skel.attach()
        ring, bss = skel.maps.records, skel.bss
        last: dict[int, int] = {}
        seen = 0
        with two_producers(skel):
            while sum(bss.numbers.to_list()) < 2 * CALLS:
                for record in ring.poll(0.01):
                    check(record)
                    assert record.head.number > last.get(record.head.pid, -1), "records of a process come in its order"
                    last[record.head.pid] = record.head.number
                    seen += 1
        for record in ring.poll(0):
            check(record)
            seen += 1
        assert bss.lost > 0, "the ring was never full"
        assert bss.discarded > 0
        assert seen == bss.submitted
        assert bss.submitted + bss.discarded + bss.lost == 2 * CALLS
        assert bss.too_long == 2 * CALLS // 100, "what the ring can't hold at all is refused"
        # and after all that it works as before
        skel.bss.pids[0] = os.getpid()
        before = bss.submitted
        for _ in range(3):
            os.getppid()
        again = ring.poll(1)
        assert len(again) == bss.submitted - before > 0
        for record in again:
            check(record)
