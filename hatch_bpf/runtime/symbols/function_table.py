"""Functions by address. Input: the functions' starts, ends and names. Output: the function that an address is in."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Generic, Optional, TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LabelT = TypeVar("LabelT")
LAST_ADDRESS = (1 << 64) - 1
SHARE = 8
"""About how many cuts lie in a part of the index, so that a search ends after three steps."""


class FunctionTable(Generic[LabelT]):
    """Functions, of which some may lie inside others: an address is in the innermost.

    It has arrays and an index, since waiting for memory is what takes the time in millions of searches.
    """

    def __init__(self, functions: Iterable[tuple[int, int, LabelT]]) -> None:
        """`functions` are starts, ends and labels, such as names, sorted by their starts; each start comes once."""
        self._cuts = array("Q")
        """Where a function begins, or goes on after one inside it, or ends and no other begins."""
        self._starts = array("Q")
        """For each of these, where the function began."""
        self._labels: list[Optional[LabelT]] = []
        """For each of these, the function's label; None where there is no function."""
        open_ones: list[tuple[int, int, Optional[LabelT]]] = []
        for start, end, label in functions:
            if start >= LAST_ADDRESS:
                break
            self._close(open_ones, start)
            self._cut(start, start, label)
            open_ones.append((min(end, LAST_ADDRESS), start, label))
        self._close(open_ones, LAST_ADDRESS)
        self._first, self._end = (self._cuts[0], self._cuts[-1]) if self._cuts else (0, 0)
        self._shift = (SHARE * (self._end - self._first) // (len(self._cuts) or 1)).bit_length()
        parts = (self._end - self._first >> self._shift) + 2
        self._index = [bisect_left(self._cuts, self._first + (part << self._shift)) for part in range(parts)]
        """For each part of 2 ** `_shift` bytes, how many cuts come before it."""

    def _close(self, open_ones: list[tuple[int, int, Optional[LabelT]]], until: int) -> None:
        """End the functions that end up to an address, the innermost first."""
        while open_ones and open_ones[-1][0] <= until:
            end, _, _ = open_ones.pop()
            while open_ones and open_ones[-1][0] <= end:
                open_ones.pop()
            _, start, label = open_ones[-1] if open_ones else (0, 0, None)
            self._cut(end, start, label)

    def _cut(self, at: int, start: int, label: Optional[LabelT]) -> None:
        if self._cuts and self._cuts[-1] >= at:
            self._starts[-1], self._labels[-1] = start, label
        else:
            self._cuts.append(at)
            self._starts.append(start)
            self._labels.append(label)

    def find(self, address: int) -> Optional[tuple[LabelT, int]]:
        """The function that an address is in, and where it begins."""
        if not self._first <= address < self._end:
            return None
        part = address - self._first >> self._shift
        at = bisect_right(self._cuts, address, self._index[part], self._index[part + 1]) - 1
        label = self._labels[at]
        return None if label is None else (label, self._starts[at])

    def start_of(self, is_wanted: Callable[[LabelT], bool]) -> Optional[int]:
        """Where the first function begins whose label is wanted."""
        labelled = zip(self._labels, self._starts)
        return next((start for label, start in labelled if label is not None and is_wanted(label)), None)
