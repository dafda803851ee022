"""Kernels of an archive at a URL -> their files in the cache, several at a time.

Input: archived kernels. Output: their files, whole; or one `KernelError` with everything that the server has not. Told
as it goes on: a line for each kernel, and how many bytes have come. Interrupted, it leaves no half file where a whole
one should be, and the next time goes on where this one stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from hatch_bpf.kernels.archive import ArchivedKernel
from hatch_bpf.kernels.remote.download import NotThereError, download
from hatch_bpf.support.budget import ARCHIVED_BYTES
from hatch_bpf.support.progress import Downloaded

AT_ONCE = 8
"""Downloads at the same time: files are small, so that most of the time goes by waiting."""
_NO_MORE = -1
"""In the place of a file's number: there are no more."""


@dataclass(frozen=True)
class _Event:
    """What a worker has to say about one file."""

    number: int
    have: int = 0
    total: int | None = None
    done: bool = False
    error: BaseException | None = None


def fetch(entry: ArchivedKernel) -> None:
    """Download one kernel. Raises `KernelError`."""
    _fetch(entry, tell=lambda _have, _total: None, stop=None)


def fetch_all(
    entries: Sequence[ArchivedKernel],
    notify: Callable[[str], None],
    progress: Callable[[Downloaded], None] = lambda _: None,
) -> None:
    """Download kernels; both are called in the caller's own thread. Raises `KernelError`: `NotThereError` only once
    all the others are there."""
    if entries:
        notify(f"downloading {len(entries)} kernel{'s' * (len(entries) > 1)}")
    stop = threading.Event()
    todo: SimpleQueue[int] = SimpleQueue()
    events: SimpleQueue[_Event] = SimpleQueue()
    workers = min(AT_ONCE, len(entries))
    for number in (*range(len(entries)), *[_NO_MORE] * workers):
        todo.put(number)
    # daemons, so that an interrupted program need not wait until a silent server is given up
    work = (entries, todo, events, stop)
    threads = [
        threading.Thread(target=_work, args=work, name="hatch-bpf download", daemon=True) for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    try:
        absent = _follow(entries, events, notify, progress)
    finally:
        stop.set()
    for thread in threads:  # they have nothing to do any more; what comes next may fork
        thread.join()
    if absent:
        raise NotThereError("\n".join(absent[number] for number in sorted(absent)))


def _work(
    entries: Sequence[ArchivedKernel], todo: SimpleQueue[int], events: SimpleQueue[_Event], stop: threading.Event
) -> None:
    """A thread that downloads what is to do, one after another."""
    while (number := todo.get()) != _NO_MORE and not stop.is_set():

        def tell(have: int, total: int | None, number: int = number) -> None:
            events.put(_Event(number, have, total))

        try:
            _fetch(entries[number], tell=tell, stop=stop)
            events.put(_Event(number, done=True))
        except BaseException as error:
            events.put(_Event(number, done=True, error=error))
            if not isinstance(error, NotThereError):
                stop.set()


def _follow(
    entries: Sequence[ArchivedKernel],
    events: SimpleQueue[_Event],
    notify: Callable[[str], None],
    progress: Callable[[Downloaded], None],
) -> dict[int, str]:
    """Tell what the workers do until all is done; returns what is said of files that the server has not."""
    have, sizes = _Sum(), _Sum()
    done = 0
    absent: dict[int, str] = {}
    while done < len(entries):
        event = events.get()
        number = event.number
        if not event.done:
            have.set(number, event.have)
            if event.total is not None:
                sizes.set(number, event.total)
        elif event.error is None:
            done += 1
            sizes.set(number, have.get(number))
            notify(f"downloaded {entries[number].kernel} ({done} of {len(entries)}, {have.get(number):,} bytes)")
        elif isinstance(event.error, NotThereError):
            done += 1
            absent[number] = str(event.error)
            sizes.set(number, 0)
        else:
            raise event.error
        expected = sizes.sum * len(entries) // len(sizes) if len(sizes) else 0
        progress(Downloaded(done, len(entries), have.sum, expected))
    return absent


class _Sum:
    """A number for each file, and their sum without adding thousands of them up each time."""

    def __init__(self) -> None:
        self._values: dict[int, int] = {}
        self.sum = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, number: int) -> int:
        return self._values.get(number, 0)

    def set(self, number: int, value: int) -> None:
        self.sum += value - self.get(number)
        self._values[number] = value


def _fetch(entry: ArchivedKernel, *, tell: Callable[[int, int | None], None], stop: threading.Event | None) -> None:
    try:
        download(entry.url, entry.path, limit=ARCHIVED_BYTES.most, tell=tell, stop=stop)
    except NotThereError as error:
        raise NotThereError(
            f"{error}: the archive has no {entry.kernel}; take it out of kernels, or let btf-archive name another"
        ) from error
