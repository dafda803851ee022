"""Everything that a package's objects depend on -> its sha256, so that a later build can tell if they still fit.

Input: the files of the project that clang read, and the options. Output: sha256 by path relative to the project. A path
that ends in `/` is a folder that clang searches for headers: its digest covers the names of the headers in it, since
clang may find a new one before another, or `__has_include()` may.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath

from hatch_bpf.compiler.identifiers import search_folders
from hatch_bpf.project.sources import Project

_INCBIN = re.compile(rb'\.incbin\s+\\?"([^"\\\0]+)')
"""The assembler's directive, in a C string. clang does not list the file that it names among those it read."""


def digests(files: Iterable[PurePosixPath], project: Project) -> dict[str, str]:
    """Digest all the project's files that objects compiled from these files depend on, sorted by path."""
    root, found = project.root, set(files)
    found.update(_response_files(root, project.config.cflags))
    for path in tuple(found):
        found.update(_incbins(root, path))
    searched = filter(Path.is_dir, search_folders(root, project.config.cflags))
    folders = {path.parent for path in found}.union(inside(root, searched))
    if project.lock.is_file():  # the minimized BTFs depend on it
        found.add(PurePosixPath(project.lock.name))
    names = [*map(str, sorted(found)), *(f"{folder}/" for folder in sorted(folders))]
    return {name: digest(root, name) for name in names}


def digest(root: Path, name: str) -> str:
    """The sha256 of a file, or of the names of a folder's headers. Raises `OSError`."""
    if not name.endswith("/"):
        return sha256((root / name).read_bytes()).hexdigest()
    headers = sorted(os.path.relpath(path, root / name) for path in _headers_below(root / name))
    return sha256("\0".join(headers).encode("utf-8", "surrogateescape")).hexdigest()


def _headers_below(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]  # such as a virtual environment
        yield from (os.path.join(parent, name) for name in names if name.endswith(".h"))


def inside(root: Path, paths: Iterable[Path]) -> list[PurePosixPath]:
    """The files that lie in the project, by their resolved names."""
    home = root.resolve()
    found = {path.resolve() for path in paths}
    return sorted(PurePosixPath(path.relative_to(home).as_posix()) for path in found if path.is_relative_to(home))


def _response_files(root: Path, words: Sequence[str]) -> list[PurePosixPath]:
    """Option files that `@file` names in cflags, and those that they name in turn."""
    found = set[Path]()
    pending = [root / word[1:] for word in words if word.startswith("@")]
    while pending:
        path = pending.pop()
        if path not in found and path.is_file():
            found.add(path)
            inner = (word.strip("\"'") for word in path.read_text(encoding="utf-8", errors="surrogateescape").split())
            pending += [root / word[1:] for word in inner if word.startswith("@")]
    return inside(root, found)


def _incbins(root: Path, path: PurePosixPath) -> list[PurePosixPath]:
    """Files that a source's inline assembly includes. clang looks for them in the project's folder, where it runs."""
    named = (match[1].decode("utf-8", "surrogateescape") for match in _INCBIN.finditer((root / path).read_bytes()))
    return inside(root, (root / name for name in named if (root / name).is_file()))
