"""Signal handlers that read or close what they have interrupted: no event comes twice, nothing crashes."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hatch_bpf.runtime import BpfError, ClosedError, MapError
from tests.common import needs
from tests.common.skeleton_package import load_skeleton
from tests.runtime.interrupts import Step

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython before 3.11 looks elsewhere for signals")
COUNT = 10
PRODUCERS = {"ring": "into_ring", "texts": "into_texts", "perf": "into_perf"}
HOW = ("poll", "read_batch")


class Handler(Step):
    """Runs a handler at a moment, instead of raising an exception there."""

    def __init__(self, number: int, handler: Callable[[], object]) -> None:
        super().__init__(number)
        self._handler = handler

    def strike(self) -> None:
        self._handler()


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    needs.root_bpf()
    with contextlib.suppress(ImportError):
        importlib.import_module("numpy")
    events = {"ring": "event", "texts": "text", "perf": "event"}
    return load_skeleton("interrupts", tmp_path_factory.mktemp("interrupts"), events=events)


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    with skeleton.Interrupts.open() as bpf, bpf.load() as loaded:
        loaded.maps.perf.open()
        yield loaded


def produce(skel: Any, name: str) -> None:
    for _ in range(COUNT):
        skel.programs[PRODUCERS[name]].test_run(bytes(64))


def read(buffer: Any, how: str) -> list[Any]:
    return buffer.poll(0) if how == "poll" else getattr(buffer, how)()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", PRODUCERS)
@pytest.mark.parametrize("outer", HOW)
@pytest.mark.parametrize("inner", HOW)
def test_a_handler_that_reads(skel: Any, name: str, outer: str, inner: str) -> None:
    buffer, moment, refused = skel.maps[name], 0, 0
    while True:
        got: list[Any] = []

        def handler() -> None:
            nonlocal refused
            try:
                got.extend(read(buffer, inner))  # noqa: B023
            except MapError as error:
                assert "this thread is reading it already" in str(error)  # noqa: PT017
                refused += 1

        produce(skel, name)
        step = Handler(moment, handler)
        step.run(lambda: got.extend(read(buffer, outer)))  # noqa: B023
        got += buffer.read_batch()
        assert sorted(event.number for event in got) == [*range(COUNT * moment, COUNT * moment + COUNT)], step.where
        if not step.where:
            break
        moment += 1
    assert refused > 10


def works(skel: Any) -> None:
    for name in PRODUCERS:
        skel.maps[name].poll(0)
    skel.maps.orders.send(bytes(8))
    skel.programs.into_ring.test_run(bytes(64))
    skel.close()


def test_a_handler_that_closes(skeleton: Any) -> None:
    moment, closed = 0, 0
    while True:
        loaded = skeleton.Interrupts.open().load()
        for name in PRODUCERS:
            produce(loaded, name)
        step = Handler(moment, loaded.close)
        try:
            step.run(lambda: works(loaded))  # noqa: B023
        except ClosedError:
            closed += 1
        loaded.close()
        with pytest.raises(ClosedError):
            loaded.maps.ring.poll(0)
        if not step.where:
            break
        moment += 7
    assert closed > 20


def test_a_handler_that_closes_during_the_load(skeleton: Any) -> None:
    for moment in range(0, 400, 13):
        opened = skeleton.Interrupts.open()
        step = Handler(moment, opened.close)
        with contextlib.suppress(BpfError):
            step.run(lambda: opened.load().close())  # noqa: B023
        opened.close()
        with pytest.raises(ClosedError):
            opened.load()
