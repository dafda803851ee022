"""Histograms that programs have counted. Input: a map of counts by slot. Output: buckets, or text as bcc prints it.

Nothing here is imported before it is used, so that skeletons import fast.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arguments import elements
from ..errors import InvalidTypeError, InvalidValueError
from ..types import S64, U8, U64, named, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeVar, Union

    Counts = Union[Mapping[int, Any], Iterable[Any]]
    SelfT = TypeVar("SelfT", bound="Histogram")

STARS = 40
"""Stars of the bucket with the highest count."""
MOST_BITS = 128
"""Bits of the widest integers."""
WIDE = 1 << 32
"""Buckets from here on need more room for their numbers, and have half as many stars."""


class Bucket(NamedTuple):
    """The values from `low` to `high`, and how many there were: (low, high, count)."""

    low: int
    high: int
    count: int  # type: ignore[assignment]


class Histogram:
    """Counts by slot. `buckets` has them as data; `print(histogram)` shows them, and `text()` with a unit."""

    _first: int = 0
    """The first slot that is in use."""

    def __init__(self, counts: Counts) -> None:
        """`counts` is a map or dict from slot to count, what `drain()` returned, or a list with a count for each slot.

        Per-CPU counts are added up.
        """
        items = _items(counts)
        self.counts: dict[int, int] = {named("slot", U64.put, slot): _number(count) for slot, count in items}
        """The count of each slot that there is."""

    @classmethod
    def by_key(
        cls: type[SelfT],
        counts: Union[Mapping[Any, Any], Iterable[tuple[Any, Any]]],
        *,
        slot: str = "slot",
        **options: Any,
    ) -> dict[Any, SelfT]:
        """One histogram for each key, of a map whose keys are structs with the slot as a member, or of its `drain()`.

        The rest of the struct is the key: its only other member, or a tuple of them. `options` are the class's own.
        """
        found: dict[Any, dict[int, Any]] = {}
        for key, count in _items(counts):
            if not hasattr(key, slot):
                raise InvalidTypeError(f"a key must be a struct with the member {slot!r}, not {shown(key)}")
            rest = tuple(getattr(key, name) for name in key._names_ if name != slot)
            found.setdefault(rest[0] if len(rest) == 1 else rest, {})[getattr(key, slot)] = count
        try:
            keys = sorted(found)
        except TypeError:  # structs have no order
            keys = list(found)
        return {key: cls(found[key], **options) for key in keys}

    @property
    def buckets(self) -> list[Bucket]:
        """All buckets up to the last one that is not empty; none if all are."""
        last = max((slot for slot, count in self.counts.items() if count), default=-1)
        slots = range(self._first, last + 1)
        return [Bucket(*self._range(slot), self.counts.get(slot, 0)) for slot in slots]

    def _range(self, slot: int) -> tuple[int, int]:
        """The least and the greatest value of a slot."""
        raise NotImplementedError

    def _layout(self, highest: int) -> tuple[str, str, int]:
        """Formats of the heading and of a line, and the number of stars, for values up to `highest`."""
        raise NotImplementedError

    def text(self, unit: str = "value", *, strip_leading_zeros: bool = False) -> str:
        """What bcc's `print_log2_hist()` and `print_linear_hist()` print; empty if all buckets are."""
        buckets = self.buckets
        if not buckets:
            return ""
        heading, line, stars = self._layout(buckets[-1].high)
        most = max(bucket.count for bucket in buckets)
        while strip_leading_zeros and not buckets[0].count:
            del buckets[0]
        lines = [line % {**bucket._asdict(), "stars": "*" * (stars * bucket.count // most)} for bucket in buckets]
        return "\n".join([heading % unit, *lines])

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.counts})"


class Log2Histogram(Histogram):
    """Counts by the power of two that a value is in."""

    def __init__(self, counts: Counts, *, first_slot: int = 0) -> None:
        """`first_slot` is where values 0 and 1 are counted: 0 by libbpf-tools' `log2l()`, 1 by bcc's `bpf_log2l()`."""
        super().__init__(counts)
        self._first = self.first_slot = named("first_slot", U8.put, first_slot)

    def _range(self, slot: int) -> tuple[int, int]:
        power = slot - self.first_slot
        if power >= MOST_BITS:
            raise InvalidValueError(f"slot {slot} is no power of two of a value: a histogram of powers has {MOST_BITS}")
        return (1 << power if power else 0), (2 << power) - 1

    def _layout(self, highest: int) -> tuple[str, str, int]:
        heading, digits, stars = "     %-19s", 10, STARS
        if highest >= WIDE:
            heading, digits, stars = "               %-29s", 20, STARS // 2
        line = f"%(low){digits}d -> %(high)-{digits}d : %(count)-8d |%(stars)-{stars}s|"
        return f"{heading} : count     distribution", line, stars


class LinearHistogram(Histogram):
    """Counts by value, or by steps of values."""

    def __init__(self, counts: Counts, *, low: int = 0, step: int = 1) -> None:
        """Slot 0 counts the values from `low` on, and each slot `step` of them."""
        super().__init__(counts)
        self.low = named("low", S64.put, low)
        self.step = named("step", U64.put, step)
        if self.step < 1:
            raise InvalidValueError(f"step must be at least 1, not {shown(step)}")

    def _range(self, slot: int) -> tuple[int, int]:
        low = self.low + slot * self.step
        return low, low + self.step - 1

    def _layout(self, highest: int) -> tuple[str, str, int]:
        del highest  # bcc prints all numbers alike
        line = f"        %(low)-10d : %(count)-8d |%(stars)-{STARS}s|"
        return "     %-13s : count     distribution", line, STARS


def text_by_key(
    histograms: Mapping[Any, Histogram],
    unit: str = "value",
    *,
    section: str = "key",
    show_key: Callable[[Any], str] = str,
    strip_leading_zeros: bool = False,
) -> str:
    """Several histograms as bcc prints them, each below its key: `section = KEY`."""
    return "".join(
        f"\n{section} = {show_key(key)}\n{histogram.text(unit, strip_leading_zeros=strip_leading_zeros)}\n"
        for key, histogram in histograms.items()
    )


def _items(counts: Any) -> Iterable[tuple[Any, Any]]:
    """The pairs of a map, of what was drained from a hash map, or of a list of counts by slot."""
    if hasattr(counts, "items"):
        return counts.items()  # type: ignore[no-any-return]
    given = elements("counts", counts)
    return given if given and all(isinstance(each, tuple) and len(each) == 2 for each in given) else enumerate(given)


def _number(count: Any) -> int:
    try:
        return int(sum(count) if hasattr(count, "__len__") else count)
    except (TypeError, ValueError, OverflowError):
        raise InvalidTypeError(f"a count must be a number, or a list of one for each CPU, not {shown(count)}") from None
