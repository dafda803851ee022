"""Exceptions where libbpf or the kernel calls Python, or where Python is in the middle of a buffer: none is lost, and
nothing else is either.
"""

from __future__ import annotations

import _thread
import ctypes
import logging
import os
import time
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from hatch_bpf.runtime import errors, handle
from tests.common import needs, tracefs
from tests.common.skeleton_package import load_skeleton


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    events = {"ring": "event", "perf": "event", "notes": "__u64"}
    return load_skeleton("events", tmp_path_factory.mktemp("events"), events=events)


def emitting(skeleton: Any) -> Any:
    tracefs.mounted()
    bpf = skeleton.Events.open()
    bpf.rodata.pid = os.getpid()
    skel = bpf.load()
    skel.attach()
    return skel


def emit(count: int) -> None:
    for _ in range(count):
        os.getppid()


class Stumbles:
    """Stands for a decoder that raises once."""

    def __init__(self, decode: Any, error: type[BaseException]) -> None:
        self.decode = decode
        self.error: type[BaseException] | None = error

    def __call__(self, record: Any) -> Any:
        if self.error is not None:
            error, self.error = self.error, None
            raise error("in the decoder")
        return self.decode(record)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("name", ["perf", "raw"])
def test_a_decoder_that_raises_does_so_to_who_reads(skeleton: Any, name: str, error: type[BaseException]) -> None:
    """Also where libbpf calls it, through C; and the events behind it still come."""
    with emitting(skeleton) as skel:
        buffer = skel.maps[name]
        buffer._decode = Stumbles(buffer._decode, error)
        if name == "perf":  # where records of one size are made into structs without the decoder
            buffer._usual = (*buffer._usual[:2], 0)
        emit(5)
        with pytest.raises(error, match="in the decoder"):
            buffer.poll(0)
        assert len(buffer.poll(0)) >= 4
        emit(3)
        assert len(buffer.poll(1)) == 3


def test_a_handler_of_messages_that_raises_loses_neither_the_operation_nor_the_message(tmp_path: Any) -> None:
    needs.root_bpf()
    rejected = load_skeleton("rejected", tmp_path)

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(record.getMessage())

    logger, handler = logging.getLogger("libbpf"), Broken()
    logger.addHandler(handler)
    try:
        with pytest.raises(errors.VerifierError) as caught:
            rejected.Rejected.open().load()
    finally:
        logger.removeHandler(handler)
    assert "invalid mem access 'map_value_or_null'" in caught.value.verifier_log


def test_an_exception_in_the_block_detaches_all(skeleton: Any) -> None:
    seen: list[Any] = []

    def divide() -> None:
        with emitting(skeleton) as skel:
            emit(1)
            seen.append(skel.bss)
            1 / 0  # noqa: B018

    with pytest.raises(ZeroDivisionError):
        divide()
    emit(1)
    assert seen[0].number == 1


def test_records_that_are_too_short_are_filled_with_zeros(skeleton: Any) -> None:
    """Those of `notes` have 4 to 11 bytes, and are declared to have 8."""
    with emitting(skeleton) as skel:
        emit(8)
        texts = [b"abcdefg"[: min(length, 4)] for length in range(8)]
        wanted = [length | int.from_bytes(text, "little") << 32 for length, text in enumerate(texts)]
        assert skel.maps.notes.poll(0) == wanted


class Owner:
    """Stands for a skeleton."""


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_of_a_finalizer_waits_until_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine another thread may get Python's lock before the finalizer has returned."""

    def start(*arguments: Any) -> None:
        _thread.start_new_thread(*arguments)
        ctypes.PyDLL(None).usleep(30_000)  # with Python's lock

    def fail() -> NoReturn:
        raise ZeroDivisionError

    held = handle.ObjectHandle(ctypes.CDLL(None), "held")
    monkeypatch.setattr(held, "close", fail)
    monkeypatch.setattr(handle, "_thread", SimpleNamespace(start_new_thread=start, get_ident=_thread.get_ident))
    owners = [Owner()]
    held.close_with(owners[0])

    def collect() -> None:
        owners.clear()
        time.sleep(10)

    with pytest.raises(ZeroDivisionError):
        collect()
    del handle._open[held]
