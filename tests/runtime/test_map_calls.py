"""Values with a spin lock are read and written whole; arrays and stack maps are cleared; inner maps are swapped."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from tests.common import needs
from tests.common.skeleton_package import load_skeleton

UNSUPPORTED = 524
READS = 20_000


@pytest.fixture(scope="module")
def locks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("locks", tmp_path_factory.mktemp("locks"))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("mapkinds", tmp_path_factory.mktemp("kinds"))


@pytest.fixture
def skel(kinds: Any) -> Iterator[Any]:
    needs.root_bpf()
    with kinds.Mapkinds.open() as bpf, bpf.load() as loaded:
        yield loaded


def torn_values(locks: Any) -> int:
    """How many values that were read while a program changed them are of two moments."""
    with locks.Locks.open() as bpf, bpf.load() as skel:
        skel.maps.pairs[0] = locks.pair()
        program = skel.programs.count
        worker = threading.Thread(target=lambda: [program.test_run(bytes(64), repeat=400_000) for _ in range(5)])
        worker.start()
        torn = reads = 0
        while worker.is_alive() or reads < READS:
            for value in (skel.maps.pairs[0], skel.maps.numbered[0], *skel.maps.pairs.values(), *skel.maps.numbered):
                torn += any(part != value.left for part in value.right)
                reads += 1
        worker.join()
        assert skel.maps.pairs[0].left == skel.maps.numbered[0].left == 2_000_000
        return torn


def test_values_with_a_lock_are_read_whole(locks: Any) -> None:
    needs.root_bpf()
    assert torn_values(locks) == 0


def test_every_call_takes_the_lock(locks: Any) -> None:
    """The kernel has to know the flag in batches and in single steps alike."""
    needs.root_bpf()
    with locks.Locks.open() as bpf, bpf.load() as skel:
        assert skel.maps.pairs._lock == skel.maps.numbered._lock == 4
        pair = locks.pair(left=1)
        skel.maps.pairs.update_many(dict.fromkeys(range(10), pair))
        assert skel.maps.pairs.add(3, pair) is False
        assert skel.maps.pairs.pop(3).left == 1
        assert sorted(key for key, _ in skel.maps.pairs.drain()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        skel.maps.numbered[:] = [pair] * 4
        assert [value.left for value in skel.maps.numbered] == [1] * 4
        skel.maps.numbered.clear()
        assert [value.left for value in skel.maps.numbered] == [0] * 4


@pytest.mark.parametrize("has_batches", [True, False])
def test_arrays_are_cleared(kinds: Any, skel: Any, monkeypatch: pytest.MonkeyPatch, has_batches: bool) -> None:
    if not has_batches:
        refuse = lambda *_: ctypes.set_errno(UNSUPPORTED) or -1  # noqa: E731
        monkeypatch.setattr(skel.maps.numbers._libbpf, "bpf_map_update_batch", refuse)
    cpus = len(skel.maps.cpu_numbers[0])
    skel.maps.numbers[:] = [1, 2, 3, 4, 5]
    skel.maps.counters[1] = kinds.counter(packets=7, bytes=8)
    skel.maps.cpu_numbers[2] = [9] * cpus
    skel.maps.numbers.drain()
    for name in ("numbers", "counters", "cpu_numbers"):
        skel.maps[name].clear()
    assert skel.maps.numbers[:] == [0] * 5
    assert skel.maps.counters[1] == kinds.counter()
    assert skel.maps.cpu_numbers[2] == [0] * cpus
    skel.maps.numbers[0] = 3
    assert skel.maps.numbers.drain() == [3, 0, 0, 0, 0]


def test_stack_maps_are_cleared(skel: Any) -> None:
    with skel.programs.take_stack.attach():
        os.getppid()
    assert list(skel.maps.stacks)
    skel.maps.stacks.clear()
    assert not list(skel.maps.stacks)


def test_stacks_that_the_kernel_does_not_list(skel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux 4.15 answers EINVAL when it is asked for the next key of a stack map."""
    refuse = lambda *_: ctypes.set_errno(errno.EINVAL) or -1  # noqa: E731
    monkeypatch.setattr(skel.maps.stacks._libbpf, "bpf_map_get_next_key", refuse)
    with pytest.raises(errors.MapError, match=r"before 4\.16 list no ids; look up those that") as caught:
        list(skel.maps.stacks)
    assert caught.value.errno == errno.EINVAL


def test_an_inner_map_is_filled_before_programs_see_it(skel: Any) -> None:
    outer = skel.maps.by_tenant
    outer.create(7)[0] = 1
    fresh = outer.create_inner()
    fresh[:] = [10, 20, 30, 40, 50]
    assert outer.open_inner(7)[0] == 1
    outer[7] = fresh
    opened = outer.open_inner(7)
    assert opened[:] == [10, 20, 30, 40, 50]
    opened[4] = 99
    assert fresh[4] == 99, "the same map"
    with pytest.raises(KeyError):
        outer.open_inner(8)
