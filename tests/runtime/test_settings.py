"""What an application sets is checked: names that do not exist, values that do not fit. Errors name the field."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hatch_bpf.runtime import BpfError, InvalidTypeError, InvalidValueError, UnknownNameError, wait
from hatch_bpf.runtime.events.source import deadline_of
from tests.common import needs
from tests.common.skeleton_package import load_skeleton

SIZES = ("max_entries", "key_size", "value_size", "flags")


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("right_values", tmp_path_factory.mktemp("settings"), types=("record",))


@pytest.fixture
def bpf(skeleton: Any) -> Iterator[Any]:
    with skeleton.RightValues.open() as opened:
        yield opened


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.RightValues.open() as opened, opened.load() as loaded:
        yield loaded


@pytest.mark.parametrize("field", [*SIZES, "type"])
@pytest.mark.parametrize("value", [-1, -5, 1 << 32, 1 << 64, "8", 8.0, None])
def test_numbers_of_a_map(bpf: Any, field: str, value: Any) -> None:
    before = getattr(bpf.maps.counts, field)
    with pytest.raises(BpfError, match=f"map counts: {field} ") as caught:
        setattr(bpf.maps.counts, field, value)
    assert isinstance(caught.value, ValueError if isinstance(value, int) else TypeError)
    assert getattr(bpf.maps.counts, field) == before


def test_the_largest_numbers_are_taken(bpf: Any) -> None:
    for field in SIZES:
        setattr(bpf.maps.counts, field, (1 << 32) - 1)
        assert getattr(bpf.maps.counts, field) == (1 << 32) - 1


@pytest.mark.parametrize(
    ("set_it", "error", "message"),
    [
        (lambda b: setattr(b.maps.counts, "autocreate", "no"), InvalidTypeError, "map counts: autocreate must be"),
        (lambda b: setattr(b.maps.counts, "autocreate", 2), InvalidTypeError, "map counts: autocreate must be"),
        (lambda b: setattr(b.maps.counts, "autoattach", True), InvalidValueError, "map counts: autoattach can't"),
        (lambda b: setattr(b.maps.counts, "pin_path", 5), InvalidTypeError, "map counts: pin_path must be a str"),
        (lambda b: setattr(b.maps.counts, "pin_path", "a\0b"), InvalidValueError, "map counts: pin_path can't be"),
        (lambda b: b.maps.counts.reuse(1 << 32), InvalidValueError, "to reuse: .* is no descriptor"),
        (lambda b: b.maps.counts.reuse(-1), InvalidValueError, "to reuse: .* is no descriptor"),
        (lambda b: setattr(b.maps.counts, "max_entry", 1), UnknownNameError, "max_entry can't be set; .*max_entries"),
        (lambda b: setattr(b.maps.counts, "name", "x"), UnknownNameError, "name can't be set"),
        (lambda b: setattr(b.maps, "foo", 1), UnknownNameError, "'foo' can't be set"),
        (lambda b: setattr(b.maps, "counts", {}), UnknownNameError, "'counts' can't be set"),
        (lambda b: b.maps.foo, UnknownNameError, "counts.*there is no 'foo'"),
        (lambda b: b.maps["foo"], UnknownNameError, "there is no 'foo'; there are .*counts"),
        (lambda b: b.programs.foo, UnknownNameError, "look_inside.*there is no 'foo'"),
        (lambda b: setattr(b.programs, "look_inside", 1), UnknownNameError, "'look_inside' can't be set"),
        (lambda b: setattr(b.programs.look_inside, "autoatach", False), UnknownNameError, "autoatach can't.*attach"),
        (lambda b: setattr(b.programs.look_inside, "section", "tc"), UnknownNameError, "section can't be set"),
        (lambda b: setattr(b.programs.look_inside, "autoload", "no"), InvalidTypeError, "look_inside: autoload must"),
        (lambda b: setattr(b.programs.look_inside, "autoattach", "no"), InvalidTypeError, "autoattach must"),
        (lambda b: b.programs.look_inside.set_log_level(1 << 32), InvalidValueError, "the log level can't be"),
        (lambda b: b.programs.look_inside.set_attach_target(5), InvalidTypeError, "the attach target must be a str"),
        (lambda b: setattr(b, "rodata", {"number": 5}), UnknownNameError, "rodata can't be replaced; .*rodata.NAME"),
        (lambda b: setattr(b, "foo", 1), UnknownNameError, "foo can't be set"),
        (lambda b: setattr(b, "maps", {}), UnknownNameError, "maps can't be set"),
        (lambda b: b.foo, UnknownNameError, "has no 'foo'"),
        (lambda b: setattr(b.rodata, "numbr", 1), UnknownNameError, "has no member 'numbr'; it has .*number"),
        (lambda b: setattr(b.rodata, "number", -1), InvalidValueError, "^number: -1 does not fit"),
        (lambda b: setattr(b.rodata, "number", 1 << 32), InvalidValueError, "^number: "),
        (lambda b: setattr(b.rodata, "number", "5"), InvalidTypeError, "^number: must be an int, not str"),
        (lambda b: setattr(b.rodata, "number", 1.5), InvalidTypeError, "^number: "),
        (lambda b: setattr(b.rodata, "number", None), InvalidTypeError, "^number: "),
        (lambda b: setattr(b.rodata, "small", -129), InvalidValueError, "^small: -129 does not fit"),
        (lambda b: setattr(b.rodata, "is_on", "no"), InvalidTypeError, "^is_on: must be True or False, not 'no'"),
        (lambda b: setattr(b.rodata, "is_on", 2), InvalidTypeError, "^is_on: "),
        (lambda b: setattr(b.rodata, "is_on", None), InvalidTypeError, "^is_on: "),
        (lambda b: setattr(b.rodata, "is_on", []), InvalidTypeError, "^is_on: "),
        (lambda b: setattr(b.rodata, "ratio", "1"), InvalidTypeError, "^ratio: must be a float, not str"),
        (lambda b: setattr(b.rodata, "ratio", 1e300), InvalidValueError, "^ratio: 1e.300 does not fit"),
        (lambda b: setattr(b.rodata, "ratio", 10**400), InvalidValueError, "^ratio: "),
        (lambda b: setattr(b.rodata, "limits", {"strict": True}), InvalidTypeError, "^limits: must be a limits, not"),
        (lambda b: setattr(b.rodata.limits, "strict", "no"), InvalidTypeError, "^strict: "),
        (lambda b: setattr(b.rodata.limits, "level", "HIGH"), InvalidTypeError, "^level: "),
        (lambda b: setattr(b.rodata.limits, "level", 1 << 32), InvalidValueError, "^level: "),
        (lambda b: setattr(b.rodata.limits, "level", 1.0), InvalidTypeError, "^level: "),
        (lambda b: setattr(b.rodata.limits, "name", "too long a name"), InvalidValueError, r"^name: .* char\[8\]"),
        (lambda b: setattr(b.rodata.limits, "name", 5), InvalidTypeError, "^name: must be bytes, not int"),
        (lambda b: setattr(b.rodata.limits, "name", "\udcff"), InvalidValueError, "^name: "),
        (lambda b: setattr(b.rodata.limits, "mac", b"short"), InvalidValueError, "^mac: must be exactly 6 bytes"),
        (lambda b: setattr(b.rodata.limits, "mac", 6), InvalidTypeError, "^mac: "),
        (lambda b: setattr(b.rodata.limits, "wide", 32), InvalidValueError, "^wide: 32 does not fit a bitfield of 5"),
        (lambda b: setattr(b.rodata.limits, "wide", "1"), InvalidTypeError, "^wide: "),
        (lambda b: setattr(b.rodata.limits, "wide", 1.5), InvalidTypeError, "^wide: "),
        (lambda b: setattr(b.rodata.limits, "ports", [1, 2]), InvalidValueError, "^ports: must have exactly 3"),
        (lambda b: setattr(b.rodata.limits, "ports", 7), InvalidTypeError, "^ports: must be a sequence, not int"),
        (lambda b: setattr(b.rodata.limits, "ports", [1, 2, 70000]), InvalidValueError, r"^ports\[2\]: 70000 does not"),
        (lambda b: b.rodata.limits.ports.__setitem__(1, -1), InvalidValueError, r"^ports\[1\]: -1 does not fit"),
        (lambda b: b.rodata.limits.ports.__setitem__(1, "1"), InvalidTypeError, r"^ports\[1\]: must be an int"),
    ],
)  # fmt: skip
def test_what_is_set_before_the_load(
    bpf: Any, set_it: Callable[[Any], object], error: type[BpfError], message: str
) -> None:
    constants, counts = bytes(bpf.rodata), bpf.maps.counts.max_entries
    with pytest.raises(error, match=message) as caught:
        set_it(bpf)
    assert isinstance(caught.value, BpfError)
    assert (bytes(bpf.rodata), bpf.maps.counts.max_entries) == (constants, counts)


def test_what_fits_is_taken(bpf: Any, skeleton: Any) -> None:
    rodata = bpf.rodata
    for value in (True, False, 1, 0):
        rodata.is_on = value
        assert rodata.is_on is bool(value)
    rodata.ratio = 2
    rodata.ratio = float("inf")
    rodata.number = (1 << 32) - 1
    rodata.limits = skeleton.limits(ports=(7, 8, 9), level=skeleton.level.HIGH, name="eightchr", mac=bytearray(6))
    rodata.limits.ports[2] = 65535
    assert list(rodata.limits.ports) == [7, 8, 65535]
    assert rodata.limits.level is skeleton.level.HIGH
    bpf.maps.counts.pin_path = pathlib.Path("/sys/fs/bpf/counts")
    assert bpf.maps.counts.pin_path == "/sys/fs/bpf/counts"


def test_numpy_numbers_are_numbers(bpf: Any) -> None:
    numpy = pytest.importorskip("numpy")
    bpf.rodata.number, bpf.rodata.is_on, bpf.rodata.ratio = numpy.uint64(9), numpy.bool_(False), numpy.float32(0.25)
    assert (bpf.rodata.number, bpf.rodata.is_on, bpf.rodata.ratio) == (9, False, 0.25)
    with pytest.raises(InvalidValueError, match=r"^number: "):
        bpf.rodata.number = numpy.uint64(1 << 40)


@pytest.mark.parametrize(
    ("set_it", "error", "message"),
    [
        (lambda s: setattr(s.maps.counts, "max_entries", 5), UnknownNameError, "map counts: max_entries can't be set"),
        (lambda s: setattr(s.maps, "foo", 1), UnknownNameError, "'foo' can't be set"),
        (lambda s: setattr(s.maps, "counts", {}), UnknownNameError, "'counts' can't be set"),
        (lambda s: setattr(s.programs.look_inside, "autoload", False), UnknownNameError, "look_inside: autoload can't"),
        (lambda s: setattr(s, "data", {}), UnknownNameError, "data can't be replaced"),
        (lambda s: setattr(s, "foo", 1), UnknownNameError, "foo can't be set"),
        (lambda s: setattr(s.data, "com", b""), UnknownNameError, "has no member 'com'"),
        (lambda s: setattr(s.rodata, "number", 1), UnknownNameError, "read-only once the object is loaded"),
        (lambda s: setattr(s.bss, "nowhere", 1), UnknownNameError, "nowhere"),
        (lambda s: s.maps.counts.__setitem__(-1, 0), InvalidValueError, "map counts: key: -1 does not fit"),
        (lambda s: s.maps.counts.__setitem__(0, 1 << 32), InvalidValueError, "map counts: value: "),
        (lambda s: s.maps.counts.__setitem__("a", 0), InvalidTypeError, "map counts: key: must be an int, not str"),
        (lambda s: s.maps.by_name.__setitem__("too long a name", None), InvalidValueError, "map by_name: key: "),
        (lambda s: s.maps.by_name.__setitem__("name", None), InvalidTypeError, "map by_name: value: must be a limits"),
        (lambda s: s.maps.counts.update_many({1: -1}), InvalidValueError, "map counts: value: -1 does not fit"),
        (lambda s: s.maps.counts.delete_many([1 << 32]), InvalidValueError, "map counts: key: "),
        (lambda s: s.maps.jumps.__setitem__(1 << 32, s.programs.look_inside), InvalidValueError, "map jumps: index: "),
        (lambda s: s.maps.jumps.__setitem__(-1, s.programs.look_inside), InvalidValueError, "map jumps: index: "),
        (lambda s: s.maps.jumps.__setitem__(0, 1 << 32), InvalidValueError, "map jumps: descriptor: "),
        (lambda s: s.maps.jumps.__delitem__(1 << 32), InvalidValueError, "map jumps: index: "),
        (lambda s: s.programs.take_stacks.attach_kprobe("f", cookie=1 << 64), InvalidValueError, "^cookie: "),
        (lambda s: s.programs.take_stacks.attach_kprobe("f", cookie=-1), InvalidValueError, "^cookie: "),
        (lambda s: s.programs.take_stacks.attach_kprobe("f", retprobe="no"), InvalidTypeError, "^retprobe: must be"),
        (lambda s: s.programs.take_stacks.attach_uprobe("/x", "f", pid=1 << 32), InvalidValueError, "^pid: "),
        (lambda s: s.programs.take_stacks.attach_uprobe("/x", offset=1 << 64), InvalidValueError, "^offset: "),
        (lambda s: s.programs.take_stacks.attach_usdt("/x", "a", "b", pid=-1 << 31 << 1), InvalidValueError, "^pid: "),
        (lambda s: s.programs.take_stacks.attach_iter(pid=1 << 32), InvalidValueError, "^pid: "),
        (lambda s: s.programs.look_inside.attach_xdp(1 << 32), InvalidValueError, "^interface: "),
        (lambda s: s.programs.look_inside.attach_tc("lo", handle=1 << 32), InvalidValueError, "^handle: "),
    ],
)  # fmt: skip
def test_what_is_set_after_the_load(
    skel: Any, set_it: Callable[[Any], object], error: type[BpfError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        set_it(skel)
    assert isinstance(caught.value, BpfError)
    assert 0 not in skel.maps.jumps
    assert not skel.maps.counts
    assert 1 << 32 not in skel.maps.jumps
    skel.maps.jumps[0] = skel.programs.look_inside
    assert 0 in skel.maps.jumps
    assert 1 << 32 not in skel.maps.jumps


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda b: b.maps.counts.items(), "<map counts, not loaded yet> has no items yet: use that of what load"),
        (lambda b: b.maps.counts.poll(), "<map counts, not loaded yet> has no 'poll'"),
        (lambda b: b.programs.look_inside.attach_xdp("lo"), "look_inside, not loaded yet> has no attach_xdp yet: use"),
        (lambda b: b.programs.look_inside.atach(), "look_inside, not loaded yet> has no 'atach'"),
    ],
)
def test_what_is_used_before_the_load(bpf: Any, use: Callable[[Any], object], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        use(bpf)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"btf": 5}, InvalidTypeError, "btf must be a path, not int"),
        ({"libbpf": 5}, InvalidTypeError, "libbpf must be a path, not int"),
        ({"kconfig": b"CONFIG_HZ=1"}, InvalidTypeError, "kconfig must be a str, not bytes"),
        *(
            ({name: value}, InvalidValueError, rf"^{name} can't be '.*': {told}")
            for name in ("btf", "libbpf", "token", "kconfig")
            for value, told in (("a\0b", "C strings end at a NUL"), ("a\ud800", "surrogates not allowed"))
        ),
    ],
)
def test_arguments_of_open(skeleton: Any, options: dict[str, Any], error: type[BpfError], message: str) -> None:
    with pytest.raises(error, match=message):
        skeleton.RightValues.open(**options)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (5, InvalidTypeError, "path must be a path, not int"),
        ("a\0b", InvalidValueError, "path can't be .*: C strings end at a NUL"),
        ("a\ud800", InvalidValueError, "path can't be .*: surrogates not allowed"),
    ],
)
def test_the_path_of_a_pinned_map(skeleton: Any, path: Any, error: type[BpfError], message: str) -> None:
    with pytest.raises(error, match=message):
        skeleton.RightValues.pinned("counts", path)


def test_a_skeleton_is_opened_or_run(skeleton: Any) -> None:
    with pytest.raises(InvalidTypeError, match=r"call RightValues.open\(\) to set it up first, or RightValues.run\(\)"):
        skeleton.RightValues()


def test_an_unknown_map_of_a_pin(skeleton: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"has no map 'conts'; it has .*counts"):
        skeleton.RightValues.pinned("conts", "/sys/fs/bpf/x")


@pytest.mark.parametrize("name", ["foo", "target", "attached"])
def test_a_link_takes_no_values(skel: Any, name: str) -> None:
    with skel.programs.take_stacks.attach() as link:
        with pytest.raises(UnknownNameError, match=f"link of take_stacks, .*: {name} can't be set; nothing can be set"):
            setattr(link, name, 1)
        assert link.attached


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda b: b.attach(), UnknownNameError, "has no attach yet: call load.. first"),
        (lambda b: b.links, UnknownNameError, "has no links yet"),
        (
            lambda b: iter(b.maps.counts),
            UnknownNameError,
            "map counts, .*has no elements yet: use that of",
        ),
        (lambda b: b.maps.counts[1], UnknownNameError, "has no elements yet"),
        (lambda b: b.maps.counts.__setitem__(1, 1), UnknownNameError, "has no elements yet"),
        (lambda b: 1 in b.maps.counts, UnknownNameError, "has no elements yet"),
    ],
)
def test_what_there_is_only_once_it_is_loaded(bpf: Any, use: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        use(bpf)
    assert bpf.maps.counts


@pytest.mark.parametrize(
    ("timeout", "error"), [("1", InvalidTypeError), (b"", InvalidTypeError), (float("nan"), InvalidValueError)]
)
def test_a_timeout_that_is_none(timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^timeout "):
        wait([], timeout)


@pytest.mark.parametrize("timeout", [0, -5, -1e300, float("-inf")])
def test_a_timeout_that_is_over(timeout: float) -> None:
    wait([], timeout)


@pytest.mark.parametrize("timeout", [1e300, float("inf"), 10**400])
def test_a_timeout_of_any_length(timeout: float) -> None:
    now = time.monotonic()
    assert now + (1 << 30) <= (deadline_of(timeout) or 0) < now + (1 << 31)


def test_a_pin_without_a_folder_or_over_another(skel: Any, tmp_path: pathlib.Path) -> None:
    with pytest.raises(BpfError, match=f"there is no folder {tmp_path}/no: make it first"):
        skel.maps.counts.pin(tmp_path / "no" / "x")
    (tmp_path / "x").touch()
    with pytest.raises(BpfError, match="there is a file already: remove it, or open what is pinned there"):
        skel.programs.look_inside.pin(tmp_path / "x")
