"""The declared types behave as C's: bitfields, unions, anonymous members, char arrays, names that Python won't have."""

from __future__ import annotations

import copy
import ctypes
import pickle
import sys
from typing import Any

import pytest

from hatch_bpf.runtime import types as t
from hatch_bpf.runtime.errors import UnknownNameError
from hatch_bpf.runtime.globals import Mirror
from tests.common.skeleton_package import load_skeleton


@pytest.fixture(scope="module")
def skel(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("ctypes", tmp_path_factory.mktemp("types"), types=("flexible",))


def test_bitfields_are_read_as_clang_laid_them_out(skel: Any) -> None:
    with skel.Ctypes.open() as bpf:
        bits = bpf.data.bits
        assert (bits.wide, bits.negative, bits.state, bits.far, bits.near, bits.last) == (
            5,
            -3,
            skel.state.STATE_BUSY,
            0x123456789A,
            77,
            1,
        )


def test_bitfields_are_written_without_touching_their_neighbours(skel: Any) -> None:
    bits = skel.bits(first=1, wide=(1 << 23) - 1, negative=-16, far=3, near=(1 << 24) - 1)
    bits.far = (1 << 40) - 1
    bits.wide = 0
    assert (bits.first, bits.wide, bits.negative, bits.far, bits.near, bits.last) == (
        1,
        0,
        -16,
        (1 << 40) - 1,
        (1 << 24) - 1,
        0,
    )


@pytest.mark.parametrize(("name", "value"), [("wide", 1 << 23), ("wide", -1), ("negative", 16), ("negative", -17)])
def test_bitfields_refuse_what_does_not_fit(skel: Any, name: str, value: int) -> None:
    with pytest.raises(ValueError, match="does not fit a bitfield"):
        setattr(skel.bits(), name, value)


def test_anonymous_members_are_members_of_the_struct(skel: Any) -> None:
    value = skel.everything(number=0x01020304)
    assert value.tag == 4
    assert value.deep == 0x0102
    value.flag = 5
    assert value.number == 0x01020504
    value.deeper = b"ab"
    assert bytes(value.deeper) == b"ab"


def test_char_arrays_are_bytes_and_text(skel: Any) -> None:
    value = skel.everything(text="héllo", mac=b"\x02\x00\x00\x00\x00\x01", words=["one", b"two"])
    assert bytes(value.text) == "héllo".encode().ljust(12, b"\0")
    assert str(value.text) == "héllo"
    assert f"[{value.text:>7}]" == "[  héllo]"
    assert value.mac == b"\x02\0\0\0\0\x01"
    assert [str(word) for word in value.words] == ["one", "two"]
    with pytest.raises(ValueError, match=r"do not fit char\[12\]"):
        value.text = "x" * 13
    with pytest.raises(ValueError, match="exactly 6"):
        value.mac = b"short"


def test_wide_integers_floats_and_bools(skel: Any) -> None:
    value = skel.everything(huge=-(1 << 100), half=0.5, whole=1e300, yes=True, pointer=0xFFFF888000000000)
    assert (value.huge, value.half, value.whole, value.yes, value.pointer) == (
        -(1 << 100),
        0.5,
        1e300,
        True,
        0xFFFF888000000000,
    )


def test_arrays_are_live_views(skel: Any) -> None:
    value = skel.everything(matrix=[(1, 2, 3), (4, 5, 6)])
    value.matrix[1][2] = 60
    value.points[1].x = -7
    assert value.matrix == [[1, 2, 3], [4, 5, 60]]
    assert value.matrix[0][1:] == [2, 3]
    assert value.points[1] == skel.point(x=-7)
    with pytest.raises(ValueError, match="exactly 2"):
        value.points = [skel.point()]


def test_members_named_like_types_do_not_hide_them(skel: Any) -> None:
    value = skel.shadow(point=skel.point(x=1), previous=skel.address(v4=5), state=5, states=[0, 5, 9])
    assert isinstance(value.point, skel.point)
    assert isinstance(value.others[1], skel.point)
    assert value.previous.v6[0] == 5
    assert value.state is skel.state.STATE_BUSY
    assert value.states[2] == 9
    assert str(value.states[2]) == "9"


def test_enums_and_flags(skel: Any) -> None:
    value = skel.everything(access=3, color=skel.color_t.COLOR_BLUE)
    assert value.access == skel.access.ACCESS_READ | skel.access.ACCESS_WRITE
    assert skel.access.ACCESS_WRITE in value.access
    assert value.color is skel.color_t.COLOR_BLUE
    assert str(value.color) == "COLOR_BLUE"


def test_names_python_reserves_get_an_underscore(skel: Any) -> None:
    value = skel.keywords(from_=1, class_=2, def_=3, _private=4, to_dict_=5, None_=skel.awkward.name_)
    assert value.to_dict() == {
        "from_": 1,
        "import_": 0,
        "class_": 2,
        "def_": 3,
        "self": 0,
        "_class__": 0,
        "_fields__": 0,
        "to_dict_": 5,
        "_private": 4,
        "None_": skel.awkward.name_,
    }


def test_a_member_that_is_not_there_is_an_error_not_a_new_attribute(skel: Any) -> None:
    with pytest.raises(TypeError, match="has no member 'z'; it has x, y"):
        skel.point(z=1)
    with pytest.raises(AttributeError):
        skel.point().z = 1


def test_repr_equality_hash_and_dict(skel: Any) -> None:
    one, same, other = skel.point(x=1, y=2), skel.point(x=1, y=2), skel.point(x=2)
    assert repr(one) == "point(x=1, y=2)"
    assert one == same
    assert one != other
    assert {one: "a"}[same] == "a"
    assert one.to_dict() == {"x": 1, "y": 2}
    assert skel.address(v4=1) == skel.address(v6=b"\x01" + bytes(15))
    padded = ctypes.create_string_buffer(b"\xff" * ctypes.sizeof(skel.bits))
    assert skel.bits.from_buffer(padded) == skel.bits.from_buffer_copy(padded), "padding takes no part"


def test_equality_ignores_padding(skel: Any) -> None:
    raw = bytearray(bytes(skel.everything(letter=1)))
    raw[3] = 99  # between `small` and `aligned`
    assert skel.everything.from_buffer(raw) == skel.everything(letter=1)


def test_flexible_arrays_hold_what_a_record_brings(skel: Any) -> None:
    record = b"\x02\0\0\0" + bytes(skel.point(x=1, y=2)) + bytes(skel.point(x=3, y=4))
    value = t.read_record(skel.flexible, record)
    assert value.count == 2
    assert value.items == [skel.point(x=1, y=2), skel.point(x=3, y=4)]
    assert t.read_record(skel.flexible, record[:4]).items == []
    assert t.read_record(skel.point, b"\x05\0").to_dict() == {"x": 5, "y": 0}, "what is missing is zero"


@pytest.mark.parametrize(
    ("codec", "value"), [(t.U8, 256), (t.U32, -1), (t.S16, 1 << 15), (t.U64, 1 << 64), (t.S64, -(1 << 63) - 1)]
)
def test_scalars_refuse_what_does_not_fit(codec: t.Codec[int], value: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        codec.encode(value)


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        (t.U8, 255),
        (t.S64, -(1 << 63)),
        (t.BOOL, True),
        (t.F64, 0.25),
        (t.Bytes(3), b"abc"),
        (t.Wide(16, signed=False), 1 << 127),
        (t.ArrayOf(t.U16, 2), [1, 2]),
    ],
)
def test_codecs_give_back_what_they_took(codec: t.Codec[Any], value: Any) -> None:
    storage = codec.encode(value)
    assert len(bytes(storage)) == codec.size
    assert codec.decode(storage) == value
    assert codec.read(b"\0" + bytes(storage), 1) == value


def test_negative_enumerators_are_negative(skel: Any) -> None:
    assert skel.state.STATE_GONE == -1
    bits, shadow = skel.bits(), skel.shadow()
    bits.state = shadow.states[1] = skel.state.STATE_GONE
    assert bits.state is skel.state.STATE_GONE
    assert bytes(shadow.states._raw) == bytes(4) + b"\xff" * 4 + bytes(4)
    assert shadow.states[1] is skel.state.STATE_GONE


def test_integer_members_refuse_what_does_not_fit(skel: Any) -> None:
    point, everything = skel.point(x=-(1 << 15), y=(1 << 15) - 1), skel.everything()
    for value in (1 << 15, -(1 << 15) - 1, 1 << 64):
        with pytest.raises(ValueError, match="does not fit c_short: -32768 to 32767"):
            point.x = value
    for name, value in (("aligned", -1), ("aligned", 1 << 64), ("pointer", -1), ("small", 128), ("huge", 1 << 127)):
        with pytest.raises(ValueError, match="does not fit"):
            setattr(everything, name, value)
    for name in ("aligned", "huge"):
        with pytest.raises(TypeError, match="must be an int, not str"):
            setattr(everything, name, "1")
    with pytest.raises(TypeError, match="must be an int, not float"):
        everything.aligned = 1.5
    assert (point.x, point.y, bytes(everything)) == (-(1 << 15), (1 << 15) - 1, bytes(len(bytes(everything))))
    with pytest.raises(AttributeError, match="nowhere"):
        point.nowhere = 1


def test_globals_refuse_what_does_not_fit(skel: Any) -> None:
    with skel.Ctypes.open() as bpf:
        with pytest.raises(ValueError, match="does not fit c_int"):
            bpf.bss.keywords.import_ = 1 << 31
        assert bpf.bss.keywords.import_ == 0


def test_a_member_called_self(skel: Any) -> None:
    assert skel.keywords(self=7).self == 7


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_structs_are_copied_and_pickled(skel: Any, monkeypatch: pytest.MonkeyPatch, copied: Any) -> None:
    monkeypatch.setitem(sys.modules, skel.__name__, skel)  # where pickle looks for the class
    record = b"\x02\0\0\0" + bytes(skel.point(x=1, y=2)) + bytes(skel.point(x=3, y=4))
    flexible = copied(t.read_record(skel.flexible, record))
    assert (flexible.count, flexible.items) == (2, [skel.point(x=1, y=2), skel.point(x=3, y=4)])
    union = copied(skel.address(v4=7))
    assert union.v4 == 7
    shadow = skel.shadow(point=skel.point(x=5))
    inner = copied(shadow.point)
    inner.x = 6
    assert (type(inner), shadow.point.x) == (skel.point, 5)
    with skel.Ctypes.open() as bpf:
        bits = copied(bpf.data)
        bpf.data.bits.near = 0
        assert bits.bits.near == 77


def test_a_map_called_as_something_of_the_runtime(skel: Any) -> None:
    with skel.Ctypes.open() as bpf:
        assert bpf.maps["_by_name"] is bpf.maps._by_name_
        assert len(bpf.maps) == 3


class FakeSection:
    """A section of global variables that can't be mapped into memory."""

    name = ".data"

    def __init__(self, *, writable: bool) -> None:
        self.writable = writable
        self.flushed = 0

    def refresh(self) -> None: ...

    def flush(self) -> None:
        self.flushed += 1


def test_structs_in_a_slice_of_a_global_array_are_parts_of_the_global(skel: Any) -> None:
    section = FakeSection(writable=True)
    target = skel.everything()
    for point in Mirror(section, target).points[:]:
        point.x = 7
    assert ([point.x for point in target.points], section.flushed) == ([7, 7], 2)
    first, *_ = Mirror(FakeSection(writable=False), target).points[:1]
    with pytest.raises(UnknownNameError, match=r"\.data is read-only once the object is loaded"):
        first.x = 8
