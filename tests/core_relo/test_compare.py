"""Types of an object against types of a target. Built by hand, since clang 14 crashes on TYPE_MATCHES."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.ext import CoreRelo
from hatch_bpf.btf.ext import CoreReloKind as K
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import Kind
from hatch_bpf.core_relo.resolve import Matcher, Resolution
from hatch_bpf.errors import RelocationError
from tests.common.btf_builder import RawBtf
from tests.core_relo.relocations import resolve_alone


def _matches(local: RawBtf, local_id: int, target: RawBtf) -> bool:
    resolution = resolve_alone(
        Matcher(Btf(target.build())), Btf(local.build()), CoreRelo(0, local_id, "0", K.TYPE_MATCHES)
    )
    assert resolution.target_value == int(resolution.found)
    return resolution.found


@pytest.mark.parametrize(
    ("same", "length", "signed", "extra", "matches"),
    [
        (True, 3, True, False, True),
        (True, 3, True, True, True),
        (False, 3, True, False, False),
        (True, 4, True, False, False),
        (True, 3, False, False, False),
    ],
    ids=["the-same", "target-has-more", "another-name", "another-length", "another-sign"],
)
def test_type_matches(same: bool, length: int, signed: bool, extra: bool, matches: bool) -> None:
    local, target = RawBtf(), RawBtf()
    number = local.integer()
    found = local.struct("thing", 16, ("a", number, 0), ("b", local.array(number, 3), 32))
    number = target.integer(signed=signed)
    members = [("a" if same else "z", number, 0), ("b", target.array(number, length), 32)]
    target.struct("thing", 32, *(([("new", number, 128)] if extra else []) + members))
    assert _matches(local, found, target) is matches


def test_type_matches_behind_a_pointer_goes_by_name_and_kind() -> None:
    for kind, matches in ((Kind.STRUCT, True), (Kind.FWD, True), (Kind.UNION, False)):
        local, target = RawBtf(), RawBtf()
        number = local.integer()
        pointed = local.struct("pointed", 8, ("only_here", number, 0))
        found = local.struct("thing", 8, ("p", local.ptr(pointed), 0))
        target.integer()
        there = target.fwd("pointed") if kind is Kind.FWD else target.struct("pointed", 8, kind=kind)
        target.struct("thing", 8, ("p", target.ptr(there), 0))
        assert _matches(local, found, target) is matches


def test_types_without_end_are_refused() -> None:
    def refused(btf: RawBtf, type_id: int, access: str, kind: K) -> str:
        read = Btf(btf.build())
        with pytest.raises(RelocationError) as info:
            resolve_alone(Matcher(read), read, CoreRelo(0, type_id, access, kind))
        return str(info.value)

    btf = RawBtf()
    loop = btf.typedef("loop", 1)
    assert "loop of typedefs" in refused(btf, loop, "0", K.TYPE_EXISTS)
    btf = RawBtf()
    btf.typedef("endless", btf.ptr(1))  # id 2 -> id 1 -> id 1
    assert "nest deeper than 32" in refused(btf, 2, "0", K.TYPE_EXISTS)
    assert "nest deeper than 32" in refused(btf, 2, "0", K.TYPE_MATCHES)
    btf = RawBtf()
    btf.struct("inside", 8, ("", 1, 0))
    btf.struct("outside", 8, ("wanted", btf.integer(), 0))
    local = Btf(btf.build())
    target = RawBtf()
    target.struct("outside", 8, ("", 1, 0))
    with pytest.raises(RelocationError, match="nests deeper than 64"):
        resolve_alone(Matcher(Btf(target.build())), local, CoreRelo(0, 3, "0:0", K.FIELD_EXISTS))


def test_a_search_that_would_take_for_ever_is_given_up() -> None:
    """Sixty levels of structs, each with the next one in it twice: 2 to the 60 places to look for a member."""
    target = RawBtf()
    number = target.integer()
    inner = target.struct("", 8, ("x", number, 0))
    for _ in range(60):
        inner = target.struct("", 8, ("", inner, 0), ("", inner, 64))
    target.struct("thing", 8, ("", inner, 0))
    local = RawBtf()
    found = local.struct("thing", 8, ("wanted", local.integer(), 0))
    with pytest.raises(RelocationError, match="takes more work to read than any real file"):
        resolve_alone(Matcher(Btf(target.build())), Btf(local.build()), CoreRelo(0, found, "0:0", K.FIELD_EXISTS))


def test_arrays_nested_deeper_than_types_are_compared() -> None:
    """Nothing is remembered of such a field under the name of another."""
    local = RawBtf()
    nested = local.integer()
    for _ in range(40):
        nested = local.array(nested, 1)
    thing = local.struct("thing", 4, ("a", nested, 0))
    number = local.struct("thing___2", 4, ("a", 1, 0))
    obj = Btf(local.build())
    matcher = Matcher(Btf(local.build()))
    records = [CoreRelo(8 * n, type_id, "0:0", K.FIELD_EXISTS) for n, type_id in enumerate((thing, number, thing))]
    found = list(matcher.resolve_all(obj, records))
    assert [resolution.target_value for resolution in found if isinstance(resolution, Resolution)] == [1, 1, 1]
