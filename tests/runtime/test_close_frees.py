"""What libbpf frees as one thread closes, no other thread touches any more: objects, links, user ring buffers.

As in test_runtime_close_race.py, the close is put between an operation and its call into libbpf, which is watched: with
what has been freed it must not be called. An operation may hold the close up, or end with `ClosedError`.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from hatch_bpf.runtime.libbpf import library as libbpf_module
from tests.common import tracefs
from tests.common.skeleton_package import load_skeleton
from tests.runtime.test_close_race import PATIENCE

ORDER = bytes(1)
FREES = ("bpf_object__close", "bpf_link__destroy", "user_ring_buffer__free")
OF_THE_OBJECT = ("bpf_object__load", "bpf_object__find", "bpf_map__", "bpf_program__")
"""How functions begin whose argument goes when the object goes."""


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("events", tmp_path_factory.mktemp("events"), events={"ring": "event", "perf": "event"})


class Watch:
    """Wraps libbpf's functions that take pointers; at the first that a thread calls, another thread closes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.misused: list[str] = []
        self.struck = False
        self._freed: set[int] = set()
        self._object_is_freed = False
        self._thread: threading.Thread | None = None
        self._user = threading.get_ident()
        library = libbpf_module.load()
        for name, (_, _, arguments) in libbpf_module._FUNCTIONS.items():
            if arguments and arguments[0] is ctypes.c_void_p and library.has(name):
                monkeypatch.setattr(library, name, self._watched(name, getattr(library, name)))

    def strike_with(self, close: Callable[[], object]) -> None:
        """Close at the next call of this thread."""
        self._thread = threading.Thread(target=close)

    def finish(self) -> None:
        if self._thread is not None and self.struck:
            self._thread.join(30)
            assert not self._thread.is_alive()

    def _watched(self, name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if self._thread is not None and not self.struck and threading.get_ident() == self._user:
                self.struck = True
                self._thread.start()
                self._thread.join(PATIENCE)
            pointer = arguments[0]
            if pointer in self._freed or (self._object_is_freed and name.startswith(OF_THE_OBJECT)):
                self.misused.append(name)
                return 0
            if name in FREES:
                self._freed.add(pointer)
                self._object_is_freed |= name == "bpf_object__close"
            result = function(*arguments)
            self._freed.discard(result)  # the allocator gave the place to something else
            return result

        return call


LOADED: dict[str, Callable[[Any], Any]] = {
    "attach": lambda skel: skel.programs.emit.attach(),
    "attach all": lambda skel: skel.attach(),
    "attach to a tracepoint": lambda skel: skel.programs.emit.attach_tracepoint("syscalls", "sys_enter_getppid"),
    "detach": lambda skel: skel.links[0].detach(),
    "descriptor of a link": lambda skel: skel.links[0].fd,
    "send to a program": lambda skel: skel.maps.orders.send(ORDER),
    "close": lambda skel: skel.close(),
}
OPENED: dict[str, Callable[[Any], Any]] = {
    "load": lambda bpf: bpf.load().close(),
    "set a size": lambda bpf: setattr(bpf.maps.ring, "max_entries", 1 << 16),
    "read a size": lambda bpf: bpf.maps.ring.max_entries,
    "leave a program out": lambda bpf: setattr(bpf.programs.emit, "autoload", False),
    "close": lambda bpf: bpf.close(),
}
IS_ATTACHED = ("detach", "descriptor of a link", "close")
IS_USED = ("send to a program",)
"""Operations on buffers that have been used before."""


@pytest.mark.parametrize("name", LOADED)
def test_nothing_freed_is_used(skeleton: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tracefs.mounted()
    watch = Watch(monkeypatch)
    skel = skeleton.Events.open().load()
    if name in IS_ATTACHED:
        skel.programs.emit.attach()
    if name in IS_USED:
        skel.maps.orders.send(ORDER)
    watch.strike_with(skel.close)
    try:
        LOADED[name](skel)
    except errors.ClosedError:
        pass
    except errors.BpfError:
        assert watch.misused != [], "what is closed must be called closed"
    watch.finish()
    skel.close()
    assert watch.struck, "the operation called nothing that is watched"
    assert watch.misused == []


@pytest.mark.parametrize("name", OPENED)
def test_nothing_freed_is_used_before_the_load(skeleton: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tracefs.mounted()
    watch = Watch(monkeypatch)
    bpf = skeleton.Events.open()
    watch.strike_with(bpf.close)
    try:
        OPENED[name](bpf)
    except errors.ClosedError:
        pass
    except errors.BpfError:
        assert watch.misused != [], "what is closed must be called closed"
    watch.finish()
    bpf.close()
    assert watch.struck, "the operation called nothing that is watched"
    assert watch.misused == []


def test_a_link_that_two_threads_detach_is_detached_once(skeleton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tracefs.mounted()
    watch = Watch(monkeypatch)
    with skeleton.Events.open().load() as skel:
        link = skel.programs.emit.attach()
        watch.strike_with(link.detach)
        link.detach()
        watch.finish()
        os.getppid()
        assert skel.bss.number == 0
    assert watch.misused == []


def test_closing_ends_the_wait_for_room(skeleton: Any) -> None:
    tracefs.mounted()
    skel = skeleton.Events.open().load()
    orders = skel.maps.orders
    while orders.send(ORDER):
        pass
    assert not orders.send(ORDER, timeout=0.05)
    ended: list[type[BaseException]] = []

    def send() -> None:
        try:
            orders.send(ORDER, timeout=None)
        except errors.ClosedError as error:
            ended.append(type(error))

    worker = threading.Thread(target=send, daemon=True)
    worker.start()
    worker.join(0.05)
    assert worker.is_alive()
    skel.close()
    worker.join(30)
    assert ended == [errors.ClosedError]


def test_room_that_is_made_ends_the_wait_for_it(skeleton: Any) -> None:
    tracefs.mounted()
    with skeleton.Events.open() as bpf:
        bpf.rodata.pid = os.getpid()
        with bpf.load() as skel:
            skel.attach()
            while skel.maps.orders.send(ORDER):
                pass
            sent: list[bool] = []
            worker = threading.Thread(target=lambda: sent.append(skel.maps.orders.send(ORDER, timeout=30)), daemon=True)
            worker.start()
            worker.join(0.05)
            assert worker.is_alive()
            os.getppid()
            worker.join(30)
            assert sent == [True]
