"""Names in a BPF object -> Python identifiers and literals.

Input: any text. Output: text that is safe in Python code.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable

from hatch_bpf.errors import SkeletonError
from hatch_bpf.support.budget import NAMESAKES


def identifier(name: str) -> str:
    """A Python identifier close to a C name.

    Keywords get a trailing underscore. Two leading underscores become one, since Python mangles such names in classes.
    Characters that C does not allow in a name become underscores.
    """
    plain = "".join(char if char.isascii() and (char.isalnum() or char == "_") else "_" for char in name)
    if plain.startswith("__"):
        plain = "_" + plain.lstrip("_")
    if not plain or plain[0].isdigit():
        plain = f"_{plain}"
    return f"{plain}_" if keyword.iskeyword(plain) else plain


class Scope:
    """A scope, which gives out each identifier once and never a reserved one."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = set(reserved)
        self._clashes: dict[str, int] = {}
        """How many underscores an identifier last needed."""

    def take(self, name: str) -> str:
        """The identifier for a C name, with underscores appended until it is free. Raises `SkeletonError`."""
        plain = found = identifier(name)
        while found in self._taken:
            more = self._clashes[plain] = self._clashes.get(plain, 0) + 1
            NAMESAKES.check(more, source=f"the name {name}", error=SkeletonError, remedy="rename some of them")
            found = plain + "_" * more
        self._taken.add(found)
        return found


def quote(text: str) -> str:
    """A Python string literal on one line, in ASCII, double-quoted unless that needs more escapes."""
    literal = ascii(text)
    if literal[0] == "'" and '"' not in literal:
        return f'"{literal[1:-1]}"'
    return literal
