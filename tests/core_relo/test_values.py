"""The values of relocations, spelled out; they are what the rules of C layout give on both sides."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.ext import CoreRelo
from hatch_bpf.btf.ext import CoreReloKind as K
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.resolve import Matcher
from hatch_bpf.errors import RelocationError
from tests.common.btf_builder import RawBtf
from tests.common.c_programs import kernel, model
from tests.core_relo.relocations import KERNEL, LOCAL, resolve_alone, resolve_one


@pytest.mark.parametrize(
    ("body", "kind", "values"),
    [
        ("return ((struct thing *)ctx)->moved;", K.FIELD_BYTE_OFFSET, (0, 8)),
        ("return ((struct thing *)ctx)->in_anonymous;", K.FIELD_BYTE_OFFSET, (4, 24)),
        ("return ((struct thing *)ctx)->nested.x;", K.FIELD_BYTE_OFFSET, (8, 44)),
        ("return ((struct thing *)ctx)->array[2];", K.FIELD_BYTE_OFFSET, (32, 60)),
        ("return bpf_core_field_size(((struct thing *)0)->array);", K.FIELD_BYTE_SIZE, (16, 32)),
        ("return bpf_core_field_size(((struct thing *)0)->shrinks);", K.FIELD_BYTE_SIZE, (4, 2)),
        ("return bpf_core_field_exists(((struct thing *)0)->moved);", K.FIELD_EXISTS, (1, 1)),
        ("return bpf_core_field_exists(((struct thing *)0)->gone);", K.FIELD_EXISTS, (1, 0)),
        ("return bpf_core_field_signed(((struct thing *)ctx)->bits);", K.FIELD_SIGNED, (0, 0)),
        ("return bpf_core_field_signed(((struct thing *)ctx)->signed_bits);", K.FIELD_SIGNED, (1, 1)),
        # 3 bits at bit 0, then 4 bits at bit 7
        ("return bpf_core_field_lshift(((struct thing *)ctx)->bits);", K.FIELD_LSHIFT_U64, (61, 53)),
        ("return bpf_core_field_rshift(((struct thing *)ctx)->bits);", K.FIELD_RSHIFT_U64, (61, 60)),
        ("return bpf_core_type_exists(struct thing);", K.TYPE_EXISTS, (1, 1)),
        ("return bpf_core_type_size(struct thing);", K.TYPE_SIZE, (64, 96)),
    ],
)
def test_a_kind(body: str, kind: K, values: tuple[int, int]) -> None:
    resolution = resolve_one(body)
    assert resolution.kind is kind
    assert (resolution.local_value, resolution.target_value) == values
    assert not resolution.poisoned


def test_a_big_endian_bitfield_is_shifted_from_the_other_end() -> None:
    source = 'SEC("socket") u64 program(struct thing *t) { return bpf_core_field_lshift(t->bits); }'
    obj = model(LOCAL + source, endian="big")
    resolution = resolve_alone(Matcher(kernel(KERNEL, endian="big")), obj.btf, obj.core_relos[0][1])
    # a 32-bit load puts bit 0 of a big-endian word at bit 32 of 64
    assert (resolution.local_value, resolution.target_value) == (32, 32 + 7)


def test_a_bitfield_of_something_else_than_a_number() -> None:
    btf = RawBtf()
    found = btf.struct("thing", 8, ("a", btf.ptr(btf.integer()), 0, 3))
    read = Btf(btf.build())
    with pytest.raises(RelocationError, match="a ptr cannot be a bitfield"):
        resolve_alone(Matcher(read), read, CoreRelo(0, found, "0:0", K.FIELD_BYTE_OFFSET))
