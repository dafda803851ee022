"""Functions by address. Input: the functions' starts, ends and names. Output: the function that an address is in."""

from __future__ import annotations

from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Generic, Optional, TypeVar

    LabelT = TypeVar("LabelT")

    class _Labelled(Generic[LabelT]):
        pass
else:

    class _Labelled:
        def __class_getitem__(cls, item):
            return cls


NOWHERE = -1
"""Below every address."""


class FunctionTable(_Labelled["LabelT"]):
    """Functions, of which some may lie inside others: an address is in the innermost."""

    def __init__(self, functions: Iterable[tuple[int, int, LabelT]]) -> None:
        """`functions` are starts, ends and what stands for their names, sorted by their starts; a start comes once."""
        self._starts = [NOWHERE]
        """Where a function begins, or goes on after one inside it, or ends and no other begins."""
        self._owners: list[Optional[tuple[LabelT, int]]] = [None]
        """For each of these the function that begins or goes on there, and where it began."""
        self.functions: list[tuple[LabelT, int]] = []
        """Each function and where it begins."""
        open_ones: list[tuple[int, Optional[tuple[LabelT, int]]]] = []
        for start, end, label in functions:
            self._close(open_ones, start)
            function = label, start
            self._cut(start, function)
            open_ones.append((end, function))
            self.functions.append(function)
        self._close(open_ones, None)

    def _close(self, open_ones: list[tuple[int, Optional[tuple[LabelT, int]]]], until: Optional[int]) -> None:
        """End the functions that end up to an address, the innermost first."""
        while open_ones and (until is None or open_ones[-1][0] <= until):
            end, _ = open_ones.pop()
            while open_ones and open_ones[-1][0] <= end:
                open_ones.pop()
            self._cut(end, open_ones[-1][1] if open_ones else None)

    def _cut(self, at: int, owner: Optional[tuple[LabelT, int]]) -> None:
        if self._starts[-1] >= at:
            self._owners[-1] = owner
        else:
            self._starts.append(at)
            self._owners.append(owner)

    def find(self, address: int) -> Optional[tuple[LabelT, int]]:
        """The function that an address is in, and where it begins."""
        return self._owners[bisect_right(self._starts, address) - 1]
