"""Stacks that were counted, as flame graph tools read them. Input: frames and counts. Output: lines of text."""

from __future__ import annotations

import os

from ..arguments import c_string
from ..types import as_int, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .frame import Frame


class FoldedStacks:
    """Counts of stacks, by the names of their functions: `print(folded)` for flamegraph.pl, speedscope and the like."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], int] = {}
        """The count of each stack, by its names, outermost first."""

    def add(self, count: int, name: str, user: Iterable[Frame] = (), kernel: Iterable[Frame] = ()) -> None:
        """Count a stack of a command or thread. Frames come innermost first, as stack maps and `symbolize()` have them.

        The kernel was called by the user's code, so its frames come behind those.
        """
        count, name = named("count", as_int, count), os.fsdecode(c_string("name", name))
        names = [frame.name for frame in (*kernel, *user)]
        stack = (name, *reversed(names))
        self.counts[stack] = self.counts.get(stack, 0) + count

    def lines(self) -> Iterator[str]:
        """`command;outermost;...;innermost count`, sorted."""
        for stack in sorted(self.counts):
            # what separates names and lines can't be in a name
            names = (name.replace(";", ":").replace("\n", " ") for name in stack)
            yield f"{';'.join(names)} {self.counts[stack]}"

    def __str__(self) -> str:
        return "\n".join(self.lines())
