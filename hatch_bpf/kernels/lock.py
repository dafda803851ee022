"""`bpf-kernels.lock`: the sha256 of the BTF, image and configuration of every kernel that a project is built for.

Input: a matrix, or the lock beside pyproject.toml. Output: a `Lock` and its text; and a matrix that accepts only the
locked BTF. Raises `KernelError`. The running kernel ("host") is never locked.

The kernels of a folder must be those of the lock. An archive at a URL may get new kernels at any time, so there the
lock's own list is used: a build has the same kernels until the lock is renewed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.any_archive import Archive
from hatch_bpf.kernels.configurations import find_config
from hatch_bpf.kernels.identity import Kernel, in_order
from hatch_bpf.kernels.images import find_image, read_kernel_image
from hatch_bpf.kernels.locked import REMEDY
from hatch_bpf.kernels.matrix import Entry, KernelSource, Matrix, Newest, Pattern, resolve
from hatch_bpf.support.budget import LIST_BYTES
from hatch_bpf.support.files import read_regular
from hatch_bpf.support.progress import Meter

SHOWN = 10
"""Faults of one kind that are listed; the others are only counted."""

_HEADER = """\
# The kernels that this package is built for, and the sha256 of each one's BTF. A build accepts no others.
# Made by `hatch-bpf kernels lock`.
"""

_STRING = r'"(?:[^"\\]|\\.)*"'
_LINE = re.compile(
    r"(?:#.*|(?P<list>patterns|archs) = \[\]?|(?P<text>" + _STRING + r"),|\]|\[(?P<table>btf|image|config)-sha256\]|"
    r"(?P<kernel>" + _STRING + r') = "(?P<digest>[0-9a-f]{64})")?'
)
"""A line as `render_lock()` writes it, or a comment."""
_LONGEST_LINE = 1 << 14
"""Characters of a line that is looked at: matching one takes 150 times its size in memory."""


@dataclass(frozen=True)
class Lock:
    """What a lock file says."""

    patterns: tuple[str, ...]
    """The patterns that it was made for, sorted."""
    archs: tuple[str, ...]
    """The architectures that it was made for, sorted."""
    digests: Mapping[Kernel, str]
    """sha256 of each kernel's BTF."""
    images: Mapping[Kernel, str] = field(default_factory=dict)
    """sha256 of the images that there are."""
    configs: Mapping[Kernel, str] = field(default_factory=dict)
    """sha256 of the configurations that there are."""

    @property
    def tables(self) -> dict[str, Mapping[Kernel, str]]:
        """All digests, by what they are of."""
        return {"btf": self.digests, "image": self.images, "config": self.configs}

    def digests_of(self, kernel: Kernel) -> list[str | None]:
        """All that is locked of a kernel."""
        return [table.get(kernel) for table in self.tables.values()]


NO_LOCK = Lock((), (), {})


def read_lock(path: Path) -> Lock | None:
    """The lock at a path; None when there is none. Raises `KernelError`."""
    try:
        return _parse(read_regular(path, LIST_BYTES.most).decode())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KernelError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise KernelError(f"is not a lock of kernels ({why}); {REMEDY}", source=path) from error


def _parse(text: str) -> Lock:
    """Read what `render_lock()` writes, which is TOML. Raises `ValueError` or `KernelError`.

    Not by a TOML reader: those take time that grows with the square of a key's dots, and call themselves for each
    bracket.
    """
    lists: dict[str, list[str]] = {}
    tables: dict[str, dict[Kernel, str]] = {}
    here: list[str] | None = None
    table: dict[Kernel, str] | None = None
    # one by one, since a million empty lines are much more in a list than in a text
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        match = _LINE.fullmatch(line.strip()) if len(line) <= _LONGEST_LINE else None
        if match is None:
            raise ValueError(f"line {number}: {line[:80]!r}")
        if match["list"]:
            here = lists.setdefault(match["list"], [])
        elif match["digest"]:
            if table is None:
                raise ValueError(f"line {number} is in no table")
            table[Kernel.parse(json.loads(match["kernel"]))] = match["digest"]
        elif match["text"] and here is not None:
            here.append(json.loads(match["text"]))
        elif match["table"]:
            table = tables.setdefault(match["table"], {})
    if lists.keys() != {"patterns", "archs"} or "btf" not in tables:
        raise ValueError("it has no patterns, no archs or no table btf-sha256")
    others = tables.get("image", {}), tables.get("config", {})
    return Lock(tuple(lists["patterns"]), tuple(lists["archs"]), tables["btf"], *others)


def make_lock(
    entries: Sequence[Entry],
    archs: Iterable[str],
    matrix: Matrix,
    meter: Meter,
    old: Lock = NO_LOCK,
) -> Lock:
    """The lock of a matrix without the host. Raises `KernelError`.

    Images and configurations that are not on this machine stay as `old` has them.
    """
    digests, images, configs = {}, {}, {}
    for number, source in enumerate(matrix.sources, 1):
        kernel = source.kernel
        digests[kernel] = hashlib.sha256(source.read()).hexdigest()
        if image := find_image(source):
            images[kernel] = hashlib.sha256(read_kernel_image(image.path).data).hexdigest()
        elif kernel in old.images:
            images[kernel] = old.images[kernel]
        if config := find_config(source):
            configs[kernel] = hashlib.sha256(config.read(kernel)).hexdigest()
        elif kernel in old.configs:
            configs[kernel] = old.configs[kernel]
        meter.step("reading", number, len(matrix.sources), kernel)
    return Lock(_patterns(entries), tuple(sorted(archs)), digests, images, configs)


def render_lock(lock: Lock) -> str:
    """The text of a lock file: one line for each kernel, in a fixed order."""
    lines = [f"patterns = {_list(lock.patterns)}", f"archs = {_list(lock.archs)}"]
    for name, digests in lock.tables.items():
        if digests or name == "btf":
            lines += ["", f"[{name}-sha256]"]
            lines += [f'{_text(str(kernel))} = "{digests[kernel]}"' for kernel in in_order(digests)]
    return _HEADER + "\n".join(lines) + "\n"


def resolve_locked(
    entries: Sequence[Entry], *, archs: Sequence[str], archive: Archive | None, lock: Lock, path: Path
) -> Matrix:
    """The matrix, with the digests of the lock at `path`. Raises `KernelError` if it is not the one that was locked."""
    known = None
    if archive is not None and not isinstance(archive, Path):
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
    def locked(table: Mapping[Kernel, str]) -> str | None:
        return table.get(source.kernel, "") if table and not source.is_host else None

    sha256 = lock.digests.get(source.kernel, "")
    return replace(source, sha256=sha256, image_sha256=locked(lock.images), config_sha256=locked(lock.configs))


def _check_declared(lock: Lock, patterns: tuple[str, ...], archs: tuple[str, ...], path: Path) -> None:
    for name, have, locked in (("kernels", patterns, lock.patterns), ("archs", archs, lock.archs)):
        if have != locked:
            changed = ", ".join(sorted(set(have) ^ set(locked)))
            raise KernelError(f"{name} is not what it was when this was made ({changed}): {REMEDY}", source=path)


def _patterns(entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(sorted({str(entry) for entry in entries if isinstance(entry, (Pattern, Newest))}))


def _list(texts: Iterable[str]) -> str:
    return "[" + "".join(f"\n  {_text(text)}," for text in texts) + "\n]" if texts else "[]"


def _text(text: str) -> str:
    # a JSON string is a TOML string as long as nothing beyond ASCII is escaped
    return json.dumps(text, ensure_ascii=False)
