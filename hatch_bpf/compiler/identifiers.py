"""A C source -> the identifiers that it and the headers it includes name: what a pruned vmlinux.h has to declare.

Input: the source, and the folders to search for headers. Output: `SourceNames`. Nothing is preprocessed: comments and
strings are removed, and every remaining word counts, on both sides of every #if.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HEADER = "vmlinux.h"

# strings come first, so that `//` inside one does not start a comment
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|//[^\n]*|/\*.*?\*/', re.DOTALL)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]+)[">].*$', re.MULTILINE)
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_MACRO = re.compile(r"^[ \t]*#[ \t]*define(?:\\\n|[^\n])*", re.MULTILINE)
_FORWARD = re.compile(r"\b(?:struct|union)\s+(\w+)\s*;", re.ASCII)
_TAG = re.compile(r"\b(?:struct|union)\s+(\w+)", re.ASCII)
_SEARCH_FLAG = re.compile(r"(-I|-iquote|-isystem|-idirafter)(.*)")


@dataclass(frozen=True)
class SourceNames:
    """The names in a source and its headers."""

    names: frozenset[str]
    includes_header: bool
    """Whether it includes a vmlinux.h that the project does not have as a file."""


def names_in(source: Path, *, root: Path, cflags: Sequence[str], system_includes: Iterable[Path]) -> SourceNames:
    """The names in a source. `root` is the project's folder, where clang runs; headers outside it are the system's.

    A file that is missing or unreadable adds no names: clang will report it.
    """
    folders = [*search_folders(root, cflags), *system_includes]
    names = set(_WORD.findall(" ".join(cflags)))
    includes_header = HEADER in cflags
    seen: set[Path] = set()
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        text = _STRING_OR_COMMENT.sub(lambda found: " " if found[0].startswith("/") else found[0], _read(path))
        for quote, included in _INCLUDE.findall(text):
            places = [path.parent, *folders] if quote == '"' else folders
            found = next((place / included for place in places if (place / included).is_file()), None)
            if found:
                waiting.append(found)
            elif included == HEADER:
                includes_header = True
        names.update(_words(text, of_project=path.is_relative_to(root)))
    return SourceNames(frozenset(names), includes_header)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="latin-1")
    except OSError:
        return ""


def _words(text: str, *, of_project: bool) -> Iterator[str]:
    text = _STRING_OR_COMMENT.sub(" ", text)
    if not of_project:
        # libbpf's headers declare the structs that helpers take pointers to, and need no more of them,
        # except in their macros
        macros, plain = " ".join(_MACRO.findall(text)), _MACRO.sub("", text)
        forward = set(_FORWARD.findall(plain))
        text = macros + _TAG.sub(lambda found: "" if found[1] in forward else found[0], plain)
    return (found[0] for found in _WORD.finditer(text))


def search_folders(root: Path, cflags: Sequence[str]) -> Iterator[Path]:
    """The folders that cflags tells clang to search for headers, by `-I folder` or `-Ifolder`."""
    flags = iter(cflags)
    for flag in flags:
        found = _SEARCH_FLAG.fullmatch(flag)
        if found:
            yield root / (found[2] or next(flags, ""))
