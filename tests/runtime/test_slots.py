"""Maps with empty slots as mappings, and sums and growth of all numbers in a value."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from hatch_bpf.runtime import MapError, UnknownNameError
from tests.common import needs
from tests.common.namespaces import own_loopback
from tests.common.skeleton_package import load_skeleton


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("slots", tmp_path_factory.mktemp("slots"))


@pytest.fixture
def maps(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.Slots.open() as opened, opened.load() as loaded:
        yield loaded.maps


def test_empty_slots_are_no_keys(maps: Any) -> None:
    with own_loopback() as name:
        index, devices = socket.if_nametoindex(name), maps.devices
        assert not devices
        assert (len(devices), list(devices), dict(devices)) == (0, [], {})
        devices[2] = index
        dumped = subprocess.run(
            ["bpftool", "map", "dump", "id", str(devices.info().id)], capture_output=True, text=True, check=False
        )
        assert dumped.stdout.count("<no entry>") == 3
        assert devices
        assert (len(devices), list(devices), dict(devices)) == (1, [2], {2: index})
        assert (devices.add(2, index), devices.add(1, index), devices.add(1, index)) == (False, True, False)
        assert (devices.setdefault(1, index), devices.setdefault(0, index)) == (index, index)
        assert sorted(devices.items()) == [(0, index), (1, index), (2, index)]
        assert (devices.pop(0), devices.pop(0, None)) == (index, None)
        assert dict([devices.popitem(), devices.popitem()]) == {1: index, 2: index}
        with pytest.raises(KeyError):
            devices.popitem()


def test_a_socket_that_is_not_there(maps: Any) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        maps.sockets[1] = one
        del maps.sockets[1]
        for missing in (1, 2, 9):
            with pytest.raises(KeyError):
                del maps.sockets[missing]
        with open("/dev/null") as file, pytest.raises(MapError, match=r"ENOTSOCK: .*; store a socket"):
            maps.sockets[1] = file


def test_a_name_that_is_not_there(skeleton: Any, maps: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"^record has no member 'cuont'; it has count, slots, "):
        skeleton.record().cuont  # noqa: B018
    assert not hasattr(skeleton.record(), "cuont")
    with pytest.raises(UnknownNameError, match=r"^<HashMap devices> has no 'udpate'; it has add, .*, update, "):
        maps.devices.udpate({})
    assert not hasattr(maps.devices, "poll")


def test_each_number_in_a_struct_is_added_up(skeleton: Any, maps: Any) -> None:
    records, possible = maps.records, len(maps.records[0])
    cpus = min(possible, 2)  # so that all sums fit
    record = skeleton.record(
        count=1, slots=[1, 2, 3], wide=1 << 100, bits=3, signed_bits=-2, level=2, on=True, real=1.5, name="ab", inner=7
    )
    record.part.count, record.part.slots[1], record.parts[1].slots[0] = 4, 5, 6
    record.mac, record.number.whole = b"abc", 9
    records[0] = [record] * cpus + [skeleton.record()] * (possible - cpus)
    (found,) = records.sums()
    assert (found.count, list(found.slots)) == (cpus, [cpus, 2 * cpus, 3 * cpus])
    assert (found.part.count, list(found.part.slots)) == (4 * cpus, [0, 5 * cpus])
    assert list(found.parts[1].slots) == [6 * cpus, 0]
    assert (found.wide, found.inner, found.real) == (cpus << 100, 7 * cpus, 1.5 * cpus)
    assert (found.bits, found.signed_bits) == (3 * cpus, -2 * cpus)
    assert (found.level, found.on, found.name, found.mac, found.number.whole) == (2, True, "ab", b"abc", 9)
    assert records.maxima() == [record]


def test_growth_of_each_number_in_a_struct(skeleton: Any, maps: Any) -> None:
    records, cpus = maps.records, len(maps.records[0])
    records[0] = [skeleton.record(slots=[1, 2, 3], wide=5, bits=9)] * cpus
    records.drain()
    records[0] = [skeleton.record(slots=[1, 4, 3], wide=7, bits=2)] * cpus
    ((found, *_),) = records.drain()
    assert (list(found.slots), found.wide, found.bits) == ([0, 2, 0], 2, 9), "4 bits have passed 15"


def test_arrays_and_wide_numbers(maps: Any) -> None:
    cpus = len(maps.records[0])
    maps.histograms[7] = [[1, 2, index] for index in range(cpus)]
    assert maps.histograms.sums() == {7: [cpus, 2 * cpus, sum(range(cpus))]}
    assert maps.histograms.maxima() == {7: [1, 2, cpus - 1]}
    for count, grown in ((5, 5), (7, 2), (1, (1 << 128) - 6)):
        maps.totals[0] = count
        assert maps.totals.drain() == [grown]
