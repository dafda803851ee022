"""Access paths: how they are printed, and those that libbpf refuses."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.ext import CoreRelo
from hatch_bpf.btf.ext import CoreReloKind as K
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.resolve import Matcher
from hatch_bpf.core_relo.spec import KIND_NAMES, MAX_SPEC
from hatch_bpf.errors import RelocationError
from tests.common.btf_builder import RawBtf
from tests.core_relo.relocations import resolve_alone, resolve_one


def test_renderings_are_libbpfs() -> None:
    resolution = resolve_one("return ((struct thing *)ctx)->in_anonymous;")
    assert str(resolution.local).endswith("struct thing.in_anonymous (0:1:0 @ offset 4)")
    assert str(resolution.target).endswith("struct thing.in_anonymous (0:2:0:1 @ offset 24)")
    assert resolution.target is not None
    assert resolution.target.access == "struct thing.in_anonymous"
    bits = resolve_one("return bpf_core_field_signed(((struct thing *)ctx)->signed_bits);")
    assert str(bits.target).startswith("<signed> [")
    assert str(bits.target).endswith("@ offset 85.3)")
    assert set(KIND_NAMES) == set(K)


@pytest.mark.parametrize(
    ("access", "kind", "message"),
    [
        ("", K.FIELD_EXISTS, "malformed"),
        (":0", K.FIELD_EXISTS, "malformed"),
        ("0:", K.FIELD_EXISTS, "malformed"),
        ("0:x", K.FIELD_EXISTS, "malformed"),
        ("0:-1", K.FIELD_EXISTS, "malformed"),
        ("0:7", K.FIELD_EXISTS, "names no member of 'thing'"),
        ("0:0:0", K.FIELD_EXISTS, "goes into a int"),
        ("0:1:3", K.FIELD_EXISTS, "past the end of an array of 3"),
        ("0:1:0", K.FIELD_SIGNED, "an array element has no signed"),
        (":".join("0" * (MAX_SPEC + 1)), K.FIELD_EXISTS, "too long"),
        ("1", K.TYPE_EXISTS, "a type relocation has '0'"),
        ("0", K.ENUMVAL_VALUE, "names no enumerator"),
    ],
)
def test_a_malformed_record(access: str, kind: K, message: str) -> None:
    local = RawBtf()
    number = local.integer()
    found = local.struct("thing", 16, ("a", number, 0), ("b", local.array(number, 3), 32))
    btf = Btf(local.build(), source="object")
    with pytest.raises(RelocationError, match=rf"object: CO-RE relocation at byte 24 against kernel: .*{message}"):
        resolve_alone(Matcher(Btf(local.build(), source="kernel")), btf, CoreRelo(24, found, access, kind))


def test_anonymous_and_missing_types() -> None:
    local = RawBtf()
    anonymous = local.struct("", 4, ("a", local.integer(), 0))
    btf = Btf(local.build())
    with pytest.raises(RelocationError, match="anonymous type"):
        resolve_alone(Matcher(btf), btf, CoreRelo(0, anonymous, "0:0", K.FIELD_EXISTS))
    with pytest.raises(RelocationError, match="there is no type 99"):
        resolve_alone(Matcher(btf), btf, CoreRelo(0, 99, "0:0", K.FIELD_EXISTS))
