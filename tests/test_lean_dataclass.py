"""hatch_bpf/lean_dataclass.py against the standard library: the same classes, decorated by both."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Callable
from dataclasses import field
from functools import cached_property
from typing import Any, NamedTuple

import pytest

from hatch_bpf.btf.types import Member
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.lean_dataclass import dataclass


class Classes(NamedTuple):
    """What is compared."""

    Point: Any
    Slotted: Any
    Version: Any
    Positive: Any
    Empty: Any


def declare(decorate: Callable[..., Any]) -> Classes:
    """Classes with everything that hatch-bpf uses of dataclasses."""

    @decorate(frozen=True)
    class Point:
        """Has defaults, and a field that is neither compared nor shown."""

        x: int
        y: tuple[int, ...] = ()
        names: dict[str, int] = field(default_factory=dict)
        note: str = field(default="", compare=False, repr=False)

        @cached_property
        def total(self) -> int:
            return self.x + sum(self.y)

    @decorate(frozen=True, slots=True)
    class Slotted(Point):
        z: int = 3

    @decorate(frozen=True, order=True, kw_only=True)
    class Version:
        major: int
        minor: int = 0

    @decorate(frozen=True, order=True)
    class Positive:
        """Looks at its values when it is made."""

        number: int = 1

        def __post_init__(self) -> None:
            if self.number < 1:
                raise TypeError(f"{self.number} is not positive")

    @decorate(frozen=True)
    class Empty:
        def __eq__(self, other: object) -> bool:
            return other == "empty"

        def __repr__(self) -> str:
            return "nothing"

    return Classes(Point, Slotted, Version, Positive, Empty)


LEAN, STANDARD = declare(dataclass), declare(dataclasses.dataclass)

USES: dict[str, Callable[[Classes], object]] = {
    "shown": lambda c: [
        repr(c.Point(1)),
        repr(c.Slotted(1, (2,), note="n")),
        repr(c.Version(major=1)),
        repr(c.Empty()),
    ],
    "positions and names": lambda c: dataclasses.astuple(c.Slotted(1, z=5, y=(7,), note="n")),
    "another default each time": lambda c: c.Point(1).names is c.Point(1).names,
    "default factory overridden": lambda c: c.Point(1, names={"a": 1}).names,
    "equal": lambda c: [
        c.Point(1) == c.Point(1, note="n"),
        c.Point(1) == c.Point(2),
        c.Point(1) != c.Point(1),
        c.Point(1) == c.Slotted(1),
        c.Point(1) == 1,
    ],
    "own equality": lambda c: [c.Empty() == "empty", c.Empty() == c.Empty()],
    "as a key": lambda c: [
        {c.Version(major=1): "first"}[c.Version(major=1)],
        hash(c.Version(major=1)) == hash(c.Version(major=2)),
        hash(c.Empty()),
    ],
    "not hashable": lambda c: hash(c.Point(1)),
    "ordered": lambda c: [
        str(i.minor) for i in sorted([c.Version(major=1, minor=2), c.Version(major=1), c.Version(major=0, minor=7)])
    ],
    "compared": lambda c: [
        c.Version(major=1) <= c.Version(major=1),
        c.Version(major=1) < c.Version(major=1),
        c.Version(major=2) > c.Version(major=1),
    ],
    "order among others": lambda c: c.Version(major=1) < 1,
    "no order": lambda c: c.Point(1) < c.Point(2),
    "set": lambda c: setattr(c.Point(1), "x", 2),
    "set in slots": lambda c: setattr(c.Slotted(1), "z", 2),
    "delete": lambda c: delattr(c.Point(1), "x"),
    "cached": lambda c: c.Point(1, (2, 3)).total,
    "one too few": lambda c: c.Point(),
    "one too many": lambda c: c.Empty(1),
    "by position": lambda c: c.Version(1),
    "replace": lambda c: repr(dataclasses.replace(c.Slotted(1, (2,)), x=9)),
    "refused when it is made": lambda c: c.Positive(0),
    "refused as a replacement": lambda c: dataclasses.replace(c.Positive(), number=-1),
    "fields": lambda c: [[f.name for f in dataclasses.fields(each)] for each in c],
    "as a dict": lambda c: dataclasses.asdict(c.Point(1)),
    "copied": lambda c: [repr(copy.copy(c.Point(1, (2,)))), repr(copy.deepcopy(c.Slotted(1)))],
    "matched": lambda c: [each.__match_args__ for each in c],
}


@pytest.mark.parametrize("use", USES)
def test_does_as_the_standard_library(use: str) -> None:
    assert outcome(USES[use], LEAN) == outcome(USES[use], STANDARD)


def outcome(use: Callable[..., object], classes: Classes) -> object:
    """What a use gives, or its error. The standard library's names the class that lacks an argument; ours does not."""
    try:
        return use(classes)
    except (AttributeError, TypeError) as error:
        return type(error), re.sub(r"\S*__init__", "__init__", str(error))


@pytest.mark.parametrize(
    "sent", [Member("srtt_us", 4, 32, 0), Kernel("debian", "12", "x86_64", "6.1.0")], ids=["slots", "dict"]
)
def test_goes_to_another_process(sent: object) -> None:
    got = pickle.loads(pickle.dumps(sent))
    assert got == sent
    assert repr(got) == repr(sent)
