"""A descriptor's number is used again as soon as it is closed: who uses a map or a program while another thread closes
it must never reach what was opened after it.

The close, and the opening of another object, are put exactly between the moment where an operation has taken the
descriptor and its system call. An operation may hold the close up, or end with `ClosedError`; nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from tests.common import needs
from tests.common.skeleton_package import load_skeleton

MARK = 7777
"""What the maps of the object hold that is opened afterwards."""
ON_DESCRIPTORS = (
    "bpf_map_delete_batch",
    "bpf_map_delete_elem",
    "bpf_map_get_next_key",
    "bpf_map_lookup_and_delete_elem",
    "bpf_map_lookup_batch",
    "bpf_map_lookup_elem",
    "bpf_map_lookup_elem_flags",
    "bpf_map_update_batch",
    "bpf_map_update_elem",
    "bpf_obj_get_info_by_fd",
    "bpf_prog_test_run_opts",
)
PATIENCE = 0.3
"""Seconds that an operation is held up to let the other thread close; all of them where it is protected."""


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("mapkinds", tmp_path_factory.mktemp("maps"))


def filled(skeleton: Any, value: int) -> Any:
    """A loaded object whose maps hold one value."""
    skel = skeleton.Mapkinds.open().load()
    maps = skel.maps
    for index in range(len(maps.numbers)):
        maps.numbers[index] = value
    maps.recent[value] = value
    maps.queue.push(value)
    maps.cpu_numbers[0] = [value] * len(maps.cpu_numbers[0])
    return skel


def held(skel: Any) -> dict[str, Any]:
    """What the maps hold; the queue is empty afterwards."""
    maps = skel.maps
    return {
        "numbers": list(maps.numbers),
        "recent": dict(maps.recent),
        "queue": list(maps.queue),
        "cpu_numbers": [list(value) for value in maps.cpu_numbers],
    }


class Rival:
    """Closes a skeleton and opens another as soon as an operation on it is about to enter the kernel."""

    def __init__(self, skeleton: Any, skel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.victim: Any = None
        self.expected: dict[str, Any] = {}
        self.struck = False
        self._skeleton = skeleton
        self._skel = skel
        self._thread = threading.Thread(target=self._strike)
        self._user = threading.get_ident()
        for name in ON_DESCRIPTORS:
            monkeypatch.setattr(skel._held.libbpf, name, self._before(getattr(skel._held.libbpf, name)))

    def _before(self, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if not self.struck and threading.get_ident() == self._user:
                self.struck = True
                self._thread.start()
                self._thread.join(PATIENCE)
            return function(*arguments)

        return call

    def _strike(self) -> None:
        self._skel.close()
        self.victim = filled(self._skeleton, MARK)

    def finish(self) -> Any:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.victim


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "write an element": lambda maps: maps.numbers.__setitem__(0, 1),
    "read an element": lambda maps: maps.numbers[0],
    "read an array": lambda maps: list(maps.numbers),
    "write a pair": lambda maps: maps.recent.__setitem__(MARK, 1),
    "read a pair": lambda maps: maps.recent.get(MARK),
    "delete a pair": lambda maps: maps.recent.pop(MARK, None),
    "test for a key": lambda maps: MARK if MARK in maps.recent else None,
    "add a pair": lambda maps: maps.recent.add(2, 1),
    "replace a pair": lambda maps: maps.recent.replace(MARK, 1),
    "all keys": lambda maps: list(maps.recent),
    "all pairs": lambda maps: [value for _, value in maps.recent.items()],
    "write many": lambda maps: maps.recent.update_many({5: 5, 6: 6}),
    "delete many": lambda maps: maps.recent.delete_many([MARK]),
    "clear": lambda maps: maps.recent.clear(),
    "push": lambda maps: maps.queue.push(1),
    "pop": lambda maps: maps.queue.pop(),
    "peek": lambda maps: maps.queue.peek(),
    "read per CPU": lambda maps: maps.cpu_numbers[0][0],
    "write per CPU": lambda maps: maps.cpu_numbers.__setitem__(0, [1] * len(maps.cpu_numbers[1])),
}


def cpu_count(skel: Any) -> int:
    return int(skel._held.libbpf.libbpf_num_possible_cpus())


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_never_reaches_what_was_opened_after(
    skeleton: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    needs.root_bpf()
    skel = filled(skeleton, 1)
    rival = Rival(skeleton, skel, monkeypatch)
    try:
        result = OPERATIONS[name](skel.maps)
    except errors.ClosedError:
        result = None
    assert rival.struck, "the operation made none of these calls"
    with rival.finish() as victim:
        assert MARK not in (result if isinstance(result, list) else [result]), "it read another object's map"
        assert held(victim) == {
            "numbers": [MARK] * 5,
            "recent": {MARK: MARK},
            "queue": [MARK],
            "cpu_numbers": [[MARK] * cpu_count(victim), [0] * cpu_count(victim), [0] * cpu_count(victim)],
        }, "it changed another object's map"


def test_what_the_kernel_says_of_a_map_is_of_that_map(skeleton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.root_bpf()
    skel = filled(skeleton, 1)
    own = skel.maps.numbers.info().id
    rival = Rival(skeleton, skel, monkeypatch)
    try:
        told = skel.maps.numbers.info().id
    except errors.ClosedError:
        told = own
    with rival.finish():
        assert told == own


def test_a_program_that_is_run_is_that_program(skeleton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.root_bpf()
    skel = filled(skeleton, 1)
    rival = Rival(skeleton, skel, monkeypatch)
    try:
        skel.programs.entry.test_run(b"\x01" * 64)
    except errors.ClosedError:
        pass
    with rival.finish() as victim:
        assert list(victim.maps.numbers) == [MARK] * 5, "another object's program ran, and counted"


def test_the_numbers_of_descriptors_are_used_again(skeleton: Any) -> None:
    """Without which the tests above could not fail."""
    needs.root_bpf()
    first = filled(skeleton, 1)
    numbers = [int(item.fd) for item in first.maps]  # copies, which keep nothing open
    first.close()
    with filled(skeleton, 1) as second:
        assert [item.fd for item in second.maps] == numbers


def test_many_threads_many_times(skeleton: Any) -> None:
    """The same left to chance: threads work on one object while it is closed and another opened, over and over."""
    needs.root_bpf()
    failures: list[BaseException] = []

    def work(skel: Any) -> None:
        maps = skel.maps
        try:
            while True:
                maps.numbers[0] = 1
                maps.recent[3] = 1
                assert maps.numbers[1] == 1
                assert dict(maps.recent.items())[1] == 1
                maps.queue.push(1, replace=True)
                assert maps.queue.peek() == 1
        except errors.ClosedError:
            pass
        except BaseException as error:
            failures.append(error)

    for _ in range(30):
        skel = filled(skeleton, 1)
        workers = [threading.Thread(target=work, args=[skel]) for _ in range(4)]
        for worker in workers:
            worker.start()
        time.sleep(0.005)
        skel.close()
        with filled(skeleton, MARK) as victim:
            for worker in workers:
                worker.join(30)
                assert not worker.is_alive()
            found = held(victim)
        assert failures == []
        assert (found["numbers"], found["recent"], found["queue"]) == ([MARK] * 5, {MARK: MARK}, [MARK])
