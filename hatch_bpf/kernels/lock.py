"""`bpf-kernels.lock`: the sha256 of the BTF of every kernel that a project is built for.

Input: a matrix, or the lock beside pyproject.toml. Output: a `Lock` and its text; and a matrix that accepts no BTF but
those locked. Raises `KernelError`. The running kernel ("host") is never in it.

A folder's kernels and the lock's must be the same ones. An archive at a URL grows without the project's doing, so there
the lock stands for the list of kernels: what is built stays the same until the lock is made anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import Entry, KernelSource, Matrix, Newest, Pattern, resolve
from hatch_bpf.kernels.remote.archive_url import Archive, ArchiveUrl
from hatch_bpf.support.toml import parse_toml

REMEDY = "run `hatch-bpf kernels lock` and look at what it changes"
SHOWN = 10
"""Faults of one kind that are told; the others are counted."""

_HEADER = """\
# The kernels that this package is built for, and the sha256 of each one's BTF. A build accepts no others.
# Made by `hatch-bpf kernels lock`.
"""


@dataclass(frozen=True)
class Lock:
    """What a lock file says."""

    patterns: tuple[str, ...]
    """The patterns that it was made for, sorted."""
    archs: tuple[str, ...]
    """The architectures that it was made for, sorted."""
    digests: Mapping[Kernel, str]
    """sha256 of each kernel's BTF."""


def read_lock(path: Path) -> Lock | None:
    """The lock at a path; None when there is none. Raises `KernelError`."""
    try:
        table = parse_toml(path.read_bytes())
        lock = Lock(
            tuple(map(str, table["patterns"])),
            tuple(map(str, table["archs"])),
            {Kernel.parse(name): _digest(value) for name, value in table["btf-sha256"].items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, KernelError) as error:
        raise KernelError(f"{path} is not a lock of kernels ({error}); {REMEDY}") from error
    return lock


def make_lock(
    entries: Sequence[Entry], archs: Iterable[str], matrix: Matrix, read: Callable[[int, Kernel], None]
) -> Lock:
    """The lock of a matrix without the host. `read` is told of every BTF that was read. Raises `KernelError`."""
    digests = {}
    for number, source in enumerate(matrix.sources, 1):
        digests[source.kernel] = hashlib.sha256(source.read()).hexdigest()
        read(number, source.kernel)
    return Lock(_patterns(entries), tuple(sorted(archs)), digests)


def render_lock(lock: Lock) -> str:
    """The text of a lock file: a line for each kernel, always in the same order."""
    lines = [f"patterns = {_list(lock.patterns)}", f"archs = {_list(lock.archs)}", "", "[btf-sha256]"]
    lines += [f'{_text(str(kernel))} = "{digest}"' for kernel, digest in sorted(lock.digests.items())]
    return _HEADER + "\n".join(lines) + "\n"


def resolve_locked(
    entries: Sequence[Entry], *, archs: Sequence[str], archive: Archive | None, lock: Lock, path: Path
) -> Matrix:
    """The matrix, if it is the one that was locked. `path` is the lock's. Raises `KernelError`."""
    known = None
    if isinstance(archive, ArchiveUrl):
        _check_declared(lock, _patterns(entries), tuple(sorted(archs)), path)
        known = lock.digests.keys()
    matrix = resolve(entries, archs=archs, archive=archive, known=known)
    found = {source.kernel for source in matrix.sources}
    new = [source for source in matrix.sources if source.kernel not in lock.digests and not source.is_host]
    faults = [f"{source.kernel} ({source.origin}) is not in {path}: {REMEDY}" for source in new[:SHOWN]]
    gone = [kernel for kernel in lock.digests if kernel not in found]
    faults += [f"{kernel} is in {path}, but not in the kernel matrix any more: {REMEDY}" for kernel in gone[:SHOWN]]
    if faults:
        more = len(new) + len(gone) - len(faults)
        raise KernelError("\n".join(faults + [f"(and {more} more)"] * bool(more)))
    return Matrix(tuple(_locked(source, lock) for source in matrix.sources), matrix.warnings)


def _locked(source: KernelSource, lock: Lock) -> KernelSource:
    return replace(source, sha256=lock.digests.get(source.kernel, ""))


def _check_declared(lock: Lock, patterns: tuple[str, ...], archs: tuple[str, ...], path: Path) -> None:
    for name, have, locked in (("kernels", patterns, lock.patterns), ("archs", archs, lock.archs)):
        if have != locked:
            changed = ", ".join(sorted(set(have) ^ set(locked)))
            raise KernelError(f"{name} is not what it was when {path} was made ({changed}): {REMEDY}")


def _patterns(entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(sorted({str(entry) for entry in entries if isinstance(entry, (Pattern, Newest))}))


def _digest(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f"{value!r} is not a sha256")
    return value


def _list(texts: Iterable[str]) -> str:
    return "[" + "".join(f"\n  {_text(text)}," for text in texts) + "\n]" if texts else "[]"


def _text(text: str) -> str:
    # JSON's strings are TOML's as long as nothing beyond ASCII is escaped
    return json.dumps(text, ensure_ascii=False)
