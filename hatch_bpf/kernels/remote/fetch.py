"""Kernels of an archive at a URL -> their files in the cache, several at a time.

Input: archived kernels. Output: their files; or one `KernelError` that names everything the server lacks. Reports a
line for each kernel, and the bytes received. An interruption leaves whole files only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from hatch_bpf.kernels.archive import ArchivedKernel
from hatch_bpf.kernels.remote.download import NotThereError, Tell, download, keep
from hatch_bpf.support.budget import ARCHIVED_BYTES
from hatch_bpf.support.progress import Downloaded

AT_ONCE = 8
"""Downloads at the same time: files are small, so most of the time is spent waiting."""
_NO_MORE = -1
"""Queued after the last file's number."""


@dataclass(frozen=True)
class _FileEvent:
    """What a worker reports about one file."""

    number: int
    have: int = 0
    total: int | None = None
    done: bool = False
    error: BaseException | None = None


def fetch(
    entry: ArchivedKernel,
    *,
    tell: Tell = lambda _have, _total: None,
    stop: threading.Event | None = None,
) -> None:
    """Download one kernel. Raises `KernelError`."""
    try:
        keep(entry.path, download(entry.url, limit=ARCHIVED_BYTES, tell=tell, stop=stop))
    except NotThereError as error:
        raise NotThereError(
            f"{error}: the archive has no {entry.kernel}; take it out of kernels, or let btf-archive name another",
            kernel=entry.kernel,
        ) from error


def fetch_all(
    entries: Sequence[ArchivedKernel],
    notify: Callable[[str], None],
    progress: Callable[[Downloaded], None],
) -> None:
    """Download kernels, at least one. Both callbacks run in the caller's own thread.

    Raises `KernelError`. A file that is missing on the server does not keep the others from being downloaded first.
    """
    notify(f"downloading {len(entries)} kernel{'s' * (len(entries) > 1)}")
    stop = threading.Event()
    todo: SimpleQueue[int] = SimpleQueue()
    events: SimpleQueue[_FileEvent] = SimpleQueue()
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
    for thread in threads:  # they are done, and the caller may fork next
        thread.join()
    if absent:
        raise NotThereError("\n".join(absent[number] for number in sorted(absent)))


def _work(
    entries: Sequence[ArchivedKernel], todo: SimpleQueue[int], events: SimpleQueue[_FileEvent], stop: threading.Event
) -> None:
    """A thread that downloads one file of the queue after another."""
    while (number := todo.get()) != _NO_MORE and not stop.is_set():

        def tell(have: int, total: int | None, number: int = number) -> None:
            events.put(_FileEvent(number, have, total))

        try:
            fetch(entries[number], tell=tell, stop=stop)
            events.put(_FileEvent(number, done=True))
        except BaseException as error:
            events.put(_FileEvent(number, done=True, error=error))
            if not isinstance(error, NotThereError):
                stop.set()


def _follow(
    entries: Sequence[ArchivedKernel],
    events: SimpleQueue[_FileEvent],
    notify: Callable[[str], None],
    progress: Callable[[Downloaded], None],
) -> dict[int, str]:
    """Report what the workers do until they are done; returns the errors of files that the server lacks."""
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
    """A number for each file, and their sum, kept up to date so that thousands need not be added up each time."""

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
