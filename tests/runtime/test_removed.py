"""What reading removes from the kernel is given out once, at whatever moment a signal handler raises an exception."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf import runtime
from tests.common import needs, tracefs
from tests.common.skeleton_package import load_skeleton
from tests.runtime.interrupts import Step

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython before 3.11 looks elsewhere for signals")
KEYS = range(3)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    needs.root_bpf()
    module = load_skeleton("mapkinds", tmp_path_factory.mktemp("mapkinds"))
    with module.Mapkinds.open() as opened, opened.load() as loaded:
        yield loaded.maps


def at_each_moment(prepare: Callable[[], Any], take: Callable[[list[Any]], None]) -> Iterator[tuple[list[Any], str]]:
    """What `take` got before it was interrupted, and where, for each moment at which it can be."""
    moment = 0
    while True:
        prepare()
        got: list[Any] = []
        step = Step(moment)
        if not step.run(lambda: take(got)):  # noqa: B023
            break
        step.error = None
        yield got, step.where
        moment += 1
    assert moment > 5


def test_values_of_a_hash(maps: Any) -> None:
    recent = maps.recent

    def fill() -> None:
        recent.update_many({key: key + 100 for key in KEYS})

    def pop(got: list[Any]) -> None:
        got += [(1, recent.pop(1))]

    def popitem(got: list[Any]) -> None:
        got += [recent.popitem()]

    for take in (pop, popitem):
        for got, where in at_each_moment(fill, take):
            assert sorted([*got, *recent.drain()]) == [(key, key + 100) for key in KEYS], where


def test_values_of_kernels_without_one_step(maps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.14 a value is read, and then removed; before 5.6 there are no batches."""
    recent, libbpf = maps.recent, maps.recent._libbpf
    for name in ("bpf_map_lookup_and_delete_elem", "bpf_map_lookup_and_delete_batch"):
        monkeypatch.setitem(vars(libbpf), name, unsupported)

    def fill() -> None:
        recent.update_many({key: key + 100 for key in KEYS})

    def pop(got: list[Any]) -> None:
        got += [(1, recent.pop(1))]

    def drain(got: list[Any]) -> None:
        got += recent.drain()

    for take in (pop, drain):
        for got, where in at_each_moment(fill, take):
            assert sorted([*got, *recent.drain()]) == [(key, key + 100) for key in KEYS], where


def unsupported(*_: object) -> int:
    ctypes.set_errno(errno.EINVAL)
    return -1


def test_values_of_a_queue_come_in_their_order(maps: Any) -> None:
    queue = maps.queue

    def fill() -> None:
        list(queue)
        for key in KEYS:
            queue.push(key)

    def pop(got: list[Any]) -> None:
        got.append(queue.pop())

    def iterate(got: list[Any]) -> None:
        for value in queue:
            got.append(value)

    for take in (pop, iterate):
        for got, where in at_each_moment(fill, take):
            following = [queue.peek()] if len(got) < 3 else []
            rest = list(queue)
            assert [*got, *rest] == [*KEYS], where
            assert following == rest[:1], where


@pytest.fixture
def say(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Makes a program print a few lines."""
    tracefs.mounted()
    with load_skeleton("pins", tmp_path).Pins.open() as opened, opened.load() as loaded:
        loaded.programs.say.attach()

        def make() -> None:
            loaded.maps.packets[3] = os.getpid()
            loaded.maps.packets[3] = 0

        yield make


def ours(lines: Iterator[runtime.TraceLine]) -> Iterator[runtime.TraceLine]:
    return (line for line in lines if line.pid == os.getpid())


def test_lines_of_trace_pipe(say: Callable[[], None]) -> None:
    def rest() -> list[runtime.TraceLine]:
        return list(ours(runtime.trace_pipe(timeout=0.05)))

    def first(got: list[Any]) -> None:
        got.append(next(ours(runtime.trace_pipe(timeout=5))))

    rest()
    say()
    lines, got = len(rest()), list[Any]()
    assert lines > 0
    say()
    first(got)
    assert len(got + rest()) == lines, "who leaves the loop takes one line"
    for got, where in at_each_moment(say, first):
        assert len(got + rest()) == lines, where


def test_text_of_a_stream(tmp_path: Path) -> None:
    needs.root_bpf()
    if not any(map(runtime.has_kfunc, ("bpf_stream_vprintk", "bpf_stream_vprintk_impl"))):
        pytest.skip("this kernel has no streams")
    with load_skeleton("streams", tmp_path).Streams.open() as opened, opened.load() as loaded:
        program, written = loaded.programs.write, list[int]()

        def write() -> None:
            written[:] = [program.test_run(bytes(64)).result for _ in range(5)]

        def take(got: list[Any]) -> None:
            got += [runtime.read_stream(program, "stdout")]

        for got, where in at_each_moment(write, take):
            text = "".join(got) + runtime.read_stream(program, "stdout")
            refused = sum(result >= 1 << 31 for result in written)  # where the kernel can't allocate without locks
            assert text == "hatch writes 42\n" * (5 - refused), where
