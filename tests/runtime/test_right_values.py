"""Values that were wrong without a word: stacks by build id, pins, atomic pops, char arrays, records of iterators."""

from __future__ import annotations

import collections
import copy
import io
import json
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import ItemsView, Iterator, ValuesView
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.objects.uapi import MapType
from hatch_bpf.runtime import BuildIdFrame, BuildIdStacks, MapError, errors
from hatch_bpf.runtime import types as t
from hatch_bpf.runtime.host import mounts
from hatch_bpf.runtime.maps import shapes as map_shapes
from hatch_bpf.skeleton.generate import _MAP_CLASSES
from tests.common import needs
from tests.common.skeleton_package import load_skeleton


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("right_values", tmp_path_factory.mktemp("right"), types=("record",))


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.RightValues.open() as opened, opened.load() as loaded:
        yield loaded


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    needs.root_bpf()
    folder = tmp_path / "bpf"
    folder.mkdir()
    subprocess.run(["mount", "-t", "bpf", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


# --- stacks -------------------------------------------------------------------------------------------------------


def build_id_of(path: str) -> str:
    """As readelf prints it."""
    notes = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Build ID: ([0-9a-f]+)", notes)
    assert found
    return found[1]


def mapped_files() -> list[tuple[int, int, int, str]]:
    """Start, end and file offset of what is mapped, and the file."""
    rows = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    return [
        (*(int(end, 16) for end in row[0].split("-")), int(row[2], 16), row[5])  # type: ignore[misc]
        for row in rows
        if len(row) > 5 and row[5].startswith("/")
    ]


def test_build_ids_are_those_of_the_files_at_the_addresses(skel: Any) -> None:
    """The plain stack of the same moment says where each frame is; readelf says which build id that file has."""
    skel.data.only_pid = os.getpid()
    with skel.programs.take_stacks.attach():
        os.getppid()
    build_id_stack, plain_stack = skel.data.build_id_stack, skel.data.plain_stack
    assert build_id_stack >= 0
    assert isinstance(skel.maps.build_ids, BuildIdStacks)
    frames, addresses = skel.maps.build_ids[build_id_stack], skel.maps.addresses[plain_stack]
    assert len(frames) == len(addresses)
    assert frames
    checked = 0
    for frame, address in zip(frames, addresses, strict=True):
        if frame.status != BuildIdFrame.VALID:
            assert (frame.status, frame.offset, frame.build_id) == (BuildIdFrame.IP, address, bytes(20))
            continue
        start, _, offset, path = next(row for row in mapped_files() if row[0] <= address < row[1])
        assert frame.offset == address - start + offset
        assert frame.build_id.hex() == build_id_of(path).ljust(40, "0")
        checked += 1
    assert checked
    assert tuple(frames[0]) == (frames[0].status, frames[0].build_id, frames[0].offset)
    assert copy.copy(frames[0]) == pickle.loads(pickle.dumps(frames[0])) == frames[0]


def test_the_flag_decides_even_when_it_is_set_before_the_load(skeleton: Any) -> None:
    needs.root_bpf()
    with skeleton.RightValues.open() as bpf:
        bpf.maps.addresses.value_size = 32 * 4
        bpf.maps.addresses.flags = 1 << 5
        with bpf.load() as skel:
            assert isinstance(skel.maps.addresses, BuildIdStacks)


@pytest.mark.parametrize("stack_id", [-14, 1 << 32, 99])
def test_no_stack_has_such_an_id(skel: Any, stack_id: int) -> None:
    for stacks in (skel.maps.build_ids, skel.maps.addresses):
        with pytest.raises(KeyError):
            stacks[stack_id]
        with pytest.raises(KeyError):
            del stacks[stack_id]


# --- pins ---------------------------------------------------------------------------------------------------------


def test_only_a_map_of_the_right_type_is_opened_by_its_pin(skeleton: Any, skel: Any, bpffs: Path) -> None:
    skel.maps.counts[1] = 2
    skel.maps.counts.pin(str(bpffs / "counts"))
    with skeleton.RightValues.pinned("counts", bpffs / "counts") as counts:
        assert dict(counts) == {1: 2}
    skel.maps.jumps.pin(str(bpffs / "jumps"))
    with pytest.raises(MapError, match=r"jumps is a map of type PROG_ARRAY, not HASH or LRU_HASH"):
        skeleton.RightValues.pinned("counts", bpffs / "jumps")
    with pytest.raises(MapError, match=r"counts is a map of type HASH, not STACK_TRACE"):
        skeleton.RightValues.pinned("addresses", str(bpffs / "counts"))
    assert skel._held.libbpf.bpf_obj_pin(skel.programs.look_inside.fd, os.fsencode(bpffs / "program")) == 0
    with pytest.raises(MapError, match=r"what is pinned at .*/program is a program, not a map"):
        skeleton.RightValues.pinned("counts", bpffs / "program")
    with skel.programs.take_stacks.attach() as link:
        link.pin(str(bpffs / "link"))
        with pytest.raises(MapError, match=r"what is pinned at .*/link is a link, not a map"):
            skeleton.RightValues.pinned("counts", bpffs / "link")
    with pytest.raises(MapError, match=r"no map can be opened at .*: ENOENT"):
        skeleton.RightValues.pinned("counts", bpffs / "nothing")


def test_a_pin_that_is_of_another_map_is_compared(skeleton: Any, skel: Any, bpffs: Path) -> None:
    skel.maps.counts.pin(bpffs / "counts")
    with skeleton.RightValues.open() as bpf:
        bpf.maps.counts.pin_path = str(bpffs / "counts")
        bpf.maps.counts.max_entries = 77
        bpf.maps.counts.value_size = 8
        told = (
            rf"map counts is not like the map pinned at {bpffs}/counts, which has value_size 4 \(not 8\), "
            r"max_entries 64 \(not 77\); remove that file, or make them alike"
        )
        with pytest.raises(errors.LoadError, match=told):
            bpf.load()


def test_what_is_pinned_outside_a_bpf_file_system(skeleton: Any, skel: Any, bpffs: Path, tmp_path: Path) -> None:
    told = rf"{tmp_path} is not in a BPF file system; there is one at .*{bpffs}"
    with pytest.raises(MapError, match=rf"map counts can't be pinned to {tmp_path}/x: {told}"):
        skel.maps.counts.pin(str(tmp_path / "x"))
    link = skel.programs.take_stacks.attach()
    with pytest.raises(errors.AttachError, match=rf"can't be pinned to {tmp_path}/x: {told}"):
        link.pin(tmp_path / "x")
    with pytest.raises(MapError, match=rf"no map can be opened at {tmp_path}/x: ENOENT: .*; {told}"):
        skeleton.RightValues.pinned("counts", str(tmp_path / "x"))
    with skeleton.RightValues.open() as bpf:
        bpf.maps.counts.pin_path = str(tmp_path / "x")
        with pytest.raises(errors.LoadError, match=rf"map counts is to be pinned at {tmp_path}/x, but {told}"):
            bpf.load()


ROOT = "1 0 0:1 / / rw - ext4 /dev/a rw\n"


@pytest.mark.parametrize(
    ("mounted", "told"),
    [
        (ROOT, "/sys/fs/bpf is not in a BPF file system; mount one: mount -t bpf bpf"),
        (ROOT + "2 1 0:2 / /sys/fs/bpf rw shared:1 - bpf bpf rw\n", ""),
        (ROOT + "2 1 0:2 / /sys/fs/b rw - bpf bpf rw\n", "there is one at /sys/fs/b"),
        (ROOT + "2 1 0:2 / /a\\040b rw - bpf bpf rw\n", "there is one at /a b"),
        (ROOT + "2 1 0:2 / /sys/fs/bpf rw - sysfs s rw\n3 2 0:3 / /sys/fs/bpf rw - bpf b rw\n", ""),
        (ROOT + "2 1 0:2 / /sys/fs/bpf rw - bpf b rw\n3 2 0:3 / /sys/fs/bpf rw - tmpfs t rw\n", "is not in"),
        (None, ""),
    ],
)
def test_where_bpf_file_systems_are_looked_for(
    mounted: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mounted is not None:
        (tmp_path / "mountinfo").write_text(mounted)
    monkeypatch.setattr(mounts, "MOUNTS", str(tmp_path / "mountinfo"))
    said = mounts.no_bpf_file_system("/sys/fs/bpf/x")
    assert told in said
    assert bool(told) == bool(said)


@pytest.mark.parametrize(
    ("mounted", "told"),
    [
        (
            ROOT + "2 1 0:2 / /sys/fs/cgroup rw - cgroup cpu rw\n",
            "v2 hierarchy; mount one: mount -t cgroup2 none",
        ),
        (
            ROOT + "2 1 0:2 / /sys/fs/cgroup rw - tmpfs t rw\n3 2 0:3 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n",
            "/sys/fs/cgroup/folder is not in a cgroup v2 hierarchy; there is one at /sys/fs/cgroup/unified",
        ),
        (ROOT + "2 1 0:2 / /sys/fs/cgroup rw - cgroup2 none rw\n", ""),
    ],
)
def test_where_cgroup_v2_is_looked_for(
    mounted: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(mounted)
    monkeypatch.setattr(mounts, "MOUNTS", str(tmp_path / "mountinfo"))
    said = mounts.no_cgroup2("/sys/fs/cgroup/folder")
    assert told in said
    assert bool(told) == bool(said)


def test_names_and_classes_of_map_types_are_the_builds() -> None:
    assert tuple(kind.name for kind in MapType) == map_shapes.MAP_TYPES
    from hatch_bpf import runtime

    classes = (getattr(runtime, name) for name in dir(runtime))
    declared = {number for cls in classes for number in (getattr(cls, "types", None) or ())}
    assert declared <= set(_MAP_CLASSES)


def test_only_a_map_of_the_right_type_is_reused(skeleton: Any, skel: Any) -> None:
    with skeleton.RightValues.open() as bpf:
        bpf.maps.counts.reuse(skel.maps.counts)
        for other, told in (
            (skel.programs.look_inside, "is a program, not a map"),
            (skel.maps.jumps, "is a map of type PROG_ARRAY, not HASH or LRU_HASH"),
            (0, "is something else, not a map"),
            (99999, "can't be looked up: ENOENT"),
        ):
            with pytest.raises(MapError, match=f"map counts can't be replaced: descriptor .* {told}"):
                bpf.maps.counts.reuse(other)
        skel.maps.counts[1] = 11
        with bpf.load() as again:
            assert dict(again.maps.counts) == {1: 11}


@pytest.mark.parametrize(
    ("number", "cls"), [(5, "PerCpuHashMap"), (9, "HashMap"), (2, "ArrayMap"), (6, "PerCpuArrayMap")]
)
def test_a_map_whose_type_was_changed_is_of_that_type(skeleton: Any, number: int, cls: str) -> None:
    """A hash's values would be overrun by a per-CPU map's."""
    needs.root_bpf()
    with skeleton.RightValues.open() as bpf:
        bpf.maps.counts.type = number
        with bpf.load() as skel:
            counts = skel.maps.counts
            assert type(counts).__name__ == cls
            value = [7] * skel._held.libbpf.libbpf_num_possible_cpus() if cls.startswith("PerCpu") else 7
            counts[3] = value
            assert counts[3] == value


# --- mappings -----------------------------------------------------------------------------------------------------


def test_pop_setdefault_and_popitem(skel: Any) -> None:
    counts = skel.maps.counts
    assert counts.pop(1, None) is None
    assert counts.pop(1, 5) == 5
    with pytest.raises(KeyError):
        counts.pop(1)
    with pytest.raises(KeyError):
        counts.popitem()
    assert counts.setdefault(1, 7) == 7
    assert counts.setdefault(1, 8) == 7
    assert counts.pop(1) == 7
    counts.update({2: 20, 3: 30})
    assert {counts.popitem(), counts.popitem()} == {(2, 20), (3, 30)}
    assert not counts


class Unatomic:
    """libbpf as before Linux 5.14: without the call that looks up and deletes in one step."""

    def __init__(self, libbpf: Any, code: int) -> None:
        self._libbpf, self._code = libbpf, code

    def bpf_map_lookup_and_delete_elem(self, *_arguments: Any) -> int:
        import ctypes

        ctypes.set_errno(self._code)
        return -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._libbpf, name)


@pytest.mark.parametrize("code", [None, 22, 95, 524])
def test_every_value_is_popped_once_whoever_else_pops(skel: Any, code: int | None) -> None:
    """Two threads pop all keys with a default: none of the values is lost or given twice, and nothing is raised."""
    counts = skel.maps.counts
    if code is not None:
        counts._libbpf = Unatomic(counts._libbpf, code)
    taken: list[int] = []
    raised: list[BaseException] = []

    def take() -> None:
        try:
            for _ in range(40):
                for key in range(16):
                    value = counts.pop(key, None)
                    if value is not None:
                        taken.append(value)
        except BaseException as error:
            raised.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=take) for _ in range(2)]
        for key in range(16):
            counts[key] = key + 100
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert raised == []
    assert sorted(taken) == [key + 100 for key in range(16)]


def test_a_key_that_goes_or_comes_in_between(skel: Any) -> None:
    """Each of the system calls that a method makes is preceded by what another process might do."""
    counts = skel.maps.counts
    real = counts._libbpf
    counts._libbpf = Unatomic(real, 95)
    calls = []

    class Meddling(Unatomic):
        def bpf_map_delete_elem(self, *arguments: Any) -> int:
            calls.append("delete")
            real.bpf_map_delete_elem(*arguments)
            return int(real.bpf_map_delete_elem(*arguments))

        def bpf_map_update_elem(self, *arguments: Any) -> int:
            calls.append("update")
            import ctypes

            real.bpf_map_update_elem(arguments[0], arguments[1], ctypes.byref(ctypes.c_uint32(77)), 0)
            return int(real.bpf_map_update_elem(*arguments))

    counts[1] = 10
    counts._libbpf = Meddling(real, 95)
    assert counts.pop(1, "gone") == "gone"
    counts._libbpf = real
    counts[1] = 10
    counts._libbpf = Meddling(real, 95)
    with pytest.raises(KeyError):
        counts.popitem()
    assert counts.setdefault(1, 5) == 77
    assert calls == ["delete", "delete", "update"]


def test_views_are_views(skel: Any) -> None:
    counts = skel.maps.counts
    counts.update({1: 10, 2: 20})
    assert isinstance(counts.items(), ItemsView)
    assert isinstance(counts.values(), ValuesView)
    assert sorted(counts.items()) == [(1, 10), (2, 20)]
    assert counts.items() & {(1, 10), (3, 3)} == {(1, 10)}
    assert (1, 11) not in counts.items()
    assert len(counts.values()) == 2


# --- maps of maps -------------------------------------------------------------------------------------------------


def test_an_inner_map_is_made_as_declared(skeleton: Any, skel: Any) -> None:
    outer, key = skel.maps.outer, skeleton.pair(a=1, b=2)
    assert skel.programs.look_inside.test_run(bytes(64)).result == 0
    inner = outer.create(key)
    inner[5] = skeleton.pair(a=9, b=77)
    assert skel.programs.look_inside.test_run(bytes(64)).result == 77
    assert outer[key] == inner.info().id
    assert (inner.type, inner.max_entries, inner.key_size, inner.value_size) == (1, 4, 4, 8)
    assert outer.create(key, max_entries=9).info().max_entries == 9
    assert 5 not in outer.create(key)
    with pytest.raises(errors.InvalidValueError, match="max_entries"):
        outer.create(key, max_entries=1 << 32)


def test_a_map_or_a_descriptor_is_an_inner_map(skeleton: Any, skel: Any) -> None:
    outer, key = skel.maps.outer, skeleton.pair(a=1, b=2)
    inner = outer.create(skeleton.pair(a=7))
    outer[key] = inner
    assert outer[key] == inner.info().id
    other = outer.create(skeleton.pair(a=8))
    outer[key] = os.dup(other.fd)
    assert outer[key] == other.info().id
    for wrong in (1 << 32, -1):
        with pytest.raises(errors.InvalidValueError, match="map outer: descriptor"):
            outer[key] = wrong
    assert outer[key] == other.info().id


# --- char arrays --------------------------------------------------------------------------------------------------


def test_a_char_array_is_text(skeleton: Any) -> None:
    with skeleton.RightValues.open() as bpf:
        comm = bpf.data.comm
        assert comm == "bash"
        assert comm == b"bash"
        assert comm == b"bash".ljust(16, b"\0")
        assert comm not in ("sh", b"sh", "bash\0", 5)
        assert comm != "sh"
        assert (str(comm), f"{comm}", f"{comm:>6}", repr(comm)) == ("bash", "bash", "  bash", "'bash'")
        assert comm.decode() == "bash"
        assert comm.decode("ascii", "replace") == "bash"
        assert type(str(comm)) is str
        assert json.loads(json.dumps(bpf.data.to_dict()))["comm"] == json.loads(json.dumps(comm)) == "bash"
        assert bytes(comm) == comm.raw == b"bash".ljust(16, b"\0")
        assert collections.Counter([comm])["bash"] == {"bash": 1}[comm] == 1
        assert comm.startswith("ba")
        bpf.data.comm = ""
        assert not bpf.data.comm
        assert bpf.data.comm == b"" == bytes(0)
        assert copy.deepcopy(comm).raw == pickle.loads(pickle.dumps(comm)).raw == comm.raw


def test_what_is_behind_the_nul_and_what_is_no_utf_8() -> None:
    text = t.Chars(b"ab\0cd\xff\0\0")
    assert text == "ab" == t.Chars(b"ab\0\0")
    assert bytes(text) == text.raw == b"ab\0cd\xff\0\0"
    broken = t.Chars(b"a\xffb\0")
    assert (str(broken), broken.raw, broken.decode("utf-8", "replace")) == ("a\\xffb", b"a\xffb\0", "a\ufffdb")
    with pytest.raises(UnicodeDecodeError):
        broken.decode()


def test_all_bytes_go_from_one_char_array_to_another(skeleton: Any) -> None:
    limits = skeleton.limits()
    limits.name = t.Chars(b"ab\0cd\xff\0\0")
    assert limits.name.raw == b"ab\0cd\xff\0\0"
    limits.name = t.Chars(b"ab".ljust(16, b"\0"))  # fits without its NULs
    assert limits.name.raw == b"ab".ljust(8, b"\0")
    assert skeleton.limits(name=b"a\0b") != skeleton.limits(name=b"a\0c"), "maps tell such keys apart"


def test_char_arrays_are_keys(skeleton: Any, skel: Any) -> None:
    names = skel.maps.by_name
    names["eth0"] = skeleton.limits(name="first")
    assert names[b"eth0"].name == "first"
    assert list(names) == ["eth0"]
    assert dict(names)["eth0"].name == "first"
    assert names[next(iter(names))].name == "first"


# --- iterators ----------------------------------------------------------------------------------------------------


@pytest.fixture
def writer(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.RightValues.open() as bpf:
        bpf.programs.write_records.autoload = True
        try:
            loaded = bpf.load()
        except errors.PermissionDeniedError as error:
            needs.missing(f"this kernel refuses iterators: {error}")
        with loaded as skel:
            skel.maps.counts.update({1: 0, 2: 0})
            yield skel


def test_an_iterator_writes_bytes(writer: Any, skeleton: Any) -> None:
    program, counts = writer.programs.write_records, writer.maps.counts
    tail = b"\xff\r\n\0"
    both = {key.to_bytes(4, sys.byteorder) + tail for key in (1, 2)}
    data = program.read_iter_bytes(map=counts)
    assert {data[:8], data[8:]} == both
    records = program.read_iter_records(skeleton.record, map=counts)
    assert sorted((record.key, bytes(record.raw)) for record in records) == [(1, tail), (2, tail)]
    with pytest.raises(errors.InvalidValueError, match="wrote 16 bytes: no records of 6 bytes"):
        program.read_iter_records(type("six", (t.CStruct,), {"_fields_": [("six", t.c_uint8 * 6)]}), map=counts)
    text = program.read_iter(map=counts)
    assert text.count("\\xff\r\n\0") == 2, "text as the program wrote it"
    assert writer.links == ()


def test_an_iterator_is_a_file(writer: Any) -> None:
    program, counts = writer.programs.write_records, writer.maps.counts
    with program.open_iter(map=counts) as file:
        assert isinstance(file, io.BufferedReader)
        assert writer.links == (), "the file does without the link"
        first = file.read(8)
        assert len(first) == 8
        rest = file.read()
        assert len(rest) == 8
        assert file.read() == b""
        fd = file.fileno()
    assert file.closed
    with pytest.raises(OSError):
        os.fstat(fd)
