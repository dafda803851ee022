"""Maps behave as Python containers of their kind, and hold what bpftool says they hold."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from tests.common import needs
from tests.common.skeleton_package import load_skeleton


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("mapkinds", tmp_path_factory.mktemp("maps"))


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.Mapkinds.open() as bpf, bpf.load() as loaded:
        yield loaded


def test_hash_is_a_mutable_mapping(skeleton: Any, skel: Any) -> None:
    flows: Any = skel.maps.flows
    key, other = skeleton.flow(addr=1, port=80, proto=6), skeleton.flow(addr=2)
    assert isinstance(skel.maps.flows, MutableMapping)
    assert len(flows) == 0
    assert not flows
    flows[key] = skeleton.counter(packets=1, bytes=100)
    assert flows[key].bytes == 100
    assert key in flows
    assert other not in flows
    assert dict(flows) == {key: skeleton.counter(packets=1, bytes=100)}
    assert list(flows.items()) == [(key, skeleton.counter(packets=1, bytes=100))]
    assert (key, skeleton.counter(packets=1, bytes=100)) in flows.items()
    assert flows.get(other) is None
    assert flows.setdefault(other, skeleton.counter(packets=9)).packets == 9
    assert flows.pop(other).packets == 9
    assert flows.add(key, skeleton.counter()) is False
    assert flows.replace(other, skeleton.counter()) is False
    assert flows.replace(key, skeleton.counter(packets=2)) is True
    assert flows[key].packets == 2
    with pytest.raises(KeyError):
        flows[other]
    with pytest.raises(KeyError):
        del flows[other]
    flows.update({other: skeleton.counter()})
    flows.clear()
    assert len(flows) == 0


def test_scalars_are_plain_ints(skel: Any) -> None:
    skel.maps.recent[5] = -7
    assert dict(skel.maps.recent) == {5: -7}
    with pytest.raises(ValueError, match="does not fit"):
        skel.maps.recent[1 << 32] = 0


def test_values_are_copies(skeleton: Any, skel: Any) -> None:
    key = skeleton.flow(addr=1)
    skel.maps.flows[key] = skeleton.counter(packets=1)
    skel.maps.flows[key].packets = 5
    assert skel.maps.flows[key].packets == 1


def test_the_kernel_holds_what_was_stored(skel: Any) -> None:
    skel.maps.numbers[2] = 0x01020304
    command = [needs.tool("bpftool"), "-j", "map", "dump", "id", str(skel.maps.numbers.info().id)]
    dumped = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert dumped[2]["formatted"] == {"key": 2, "value": 0x01020304}


def test_a_full_map_says_so(skel: Any) -> None:
    def fill() -> None:
        for i in range(100):
            skel.maps.untyped[bytes([i, 0, 0])] = b"12345"

    with pytest.raises(errors.MapError, match=r"map untyped can't be written: E2BIG.*the map is full"):
        fill()
    assert len(skel.maps.untyped) == 4
    assert all(value == b"12345" for value in skel.maps.untyped.values())


def test_all_items_of_a_large_map(skeleton: Any, skel: Any) -> None:
    expected = {skeleton.flow(addr=i): skeleton.counter(packets=i) for i in range(1000)}
    skel.maps.flows.update(expected)
    assert dict(skel.maps.flows.items()) == expected


@pytest.mark.parametrize("has_batches", [True, False], ids=["batches", "one by one"])
@pytest.mark.parametrize("name", ["flows", "recent", "cpu_counters", "untyped", "routes"])
def test_many_at_once(skeleton: Any, skel: Any, monkeypatch: pytest.MonkeyPatch, name: str, has_batches: bool) -> None:
    """The same whether or not the kernel has batch operations for the map."""
    if not has_batches:
        for function in ("lookup", "update", "delete"):
            monkeypatch.setattr(
                skel.maps.flows._libbpf, f"bpf_map_{function}_batch", lambda *_: ctypes.set_errno(22) or -1
            )
    cpus = len(skel.maps.cpu_numbers[0])
    items: dict[Any, Any] = {
        "flows": {skeleton.flow(addr=i): skeleton.counter(packets=i) for i in range(900)},
        "recent": {i: -i for i in range(50)},
        "cpu_counters": {b"%08d" % i: [skeleton.counter(bytes=i)] * cpus for i in range(40)},
        "untyped": {bytes([i, 1, 2]): b"%05d" % i for i in range(4)},
        "routes": {skeleton.prefix(prefixlen=32, addr=bytes([10, 0, 0, i])): i for i in range(9)},
    }[name]
    container = skel.maps[name]
    container.update_many(items)
    assert dict(container.items()) == items
    assert list(container.values()) == [value for _, value in container.items()]
    assert len(container.values()) == len(items)
    assert next(iter(items.values())) in container.values()
    gone = list(items)[: len(items) // 2]
    container.delete_many(gone)
    assert dict(container.items()) == {key: value for key, value in items.items() if key not in gone}
    container.delete_many([*gone, *items])
    assert dict(container.items()) == {}
    container.update_many(list(items.items())[:2])
    container.clear()
    assert len(container) == 0


@pytest.mark.parametrize("has_batches", [True, False], ids=["batches", "one by one"])
def test_numpy_reads_whole_maps(skeleton: Any, skel: Any, monkeypatch: pytest.MonkeyPatch, has_batches: bool) -> None:
    pytest.importorskip("numpy")
    if not has_batches:
        monkeypatch.setattr(skel.maps.flows._libbpf, "bpf_map_lookup_batch", lambda *_: ctypes.set_errno(22) or -1)
    assert [len(part) for part in skel.maps.flows.read_arrays()] == [0, 0]
    skel.maps.flows.update_many({skeleton.flow(addr=i, port=80): skeleton.counter(packets=i) for i in range(900)})
    keys, values = skel.maps.flows.read_arrays()
    assert sorted(keys["addr"].tolist()) == list(range(900))
    assert (values["packets"] == keys["addr"]).all()
    assert set(keys["port"].tolist()) == {80}
    values["packets"] += 1  # a copy, to work on
    assert skel.maps.flows[skeleton.flow(addr=7, port=80)].packets == 7
    cpus = len(skel.maps.cpu_numbers[0])
    skel.maps.cpu_counters["some"] = [skeleton.counter(bytes=cpu) for cpu in range(cpus)]
    names, counters = skel.maps.cpu_counters.read_arrays()
    assert names.tolist() == [b"some"]
    assert counters["bytes"].tolist() == [list(range(cpus))]
    skel.maps.untyped[b"abc"] = b"12345"
    assert [bytes(part[0]) for part in skel.maps.untyped.read_arrays()] == [b"abc", b"12345"]
    skel.maps.recent[5] = -7
    assert [part.tolist() for part in skel.maps.recent.read_arrays()] == [[5], [-7]]


def test_items_survives_concurrent_change(skeleton: Any, skel: Any) -> None:
    flows = skel.maps.flows
    kept = {skeleton.flow(addr=i) for i in range(300)}
    for key in kept:
        flows[key] = skeleton.counter(packets=1)
    stop = threading.Event()

    def churn() -> None:
        turn = 0
        while not stop.is_set():
            key = skeleton.flow(addr=10_000 + turn % 300)
            flows[key] = skeleton.counter()
            flows.pop(key, None)
            turn += 1

    worker = threading.Thread(target=churn)
    worker.start()
    try:
        for _ in range(10):
            seen = [key for key, _ in flows.items()]
            assert len(seen) == len(set(seen)), "no key comes twice"
            assert kept <= set(seen), "no key that was there all the time is missed"
    finally:
        stop.set()
        worker.join()


def test_deleting_while_iterating(skeleton: Any, skel: Any) -> None:
    flows = skel.maps.flows
    for i in range(100):
        flows[skeleton.flow(addr=i)] = skeleton.counter()
    seen = 0
    for key in flows:
        del flows[key]
        seen += 1
    assert (seen, len(flows)) == (100, 0)


def test_array_is_a_sequence(skeleton: Any, skel: Any) -> None:
    numbers = skel.maps.numbers
    assert len(numbers) == 5
    assert list(numbers) == [0] * 5
    numbers[1] = 10
    numbers[-1] = 50
    assert numbers[:] == [0, 10, 0, 0, 50]
    assert numbers[-1] == 50
    assert list(reversed(numbers)) == [50, 0, 0, 10, 0]
    assert dict(numbers.items())[1] == 10
    assert 50 in numbers
    with pytest.raises(IndexError, match="map numbers has 5 elements; there is no index 5"):
        numbers[5]
    skel.maps.counters[0] = skeleton.counter(packets=3)
    assert skel.maps.counters[0].packets == 3


def test_per_cpu_values_are_lists(skeleton: Any, skel: Any) -> None:
    cpus = len(skel.maps.cpu_numbers[0])
    assert cpus >= (os.cpu_count() or 1)
    skel.maps.cpu_numbers[1] = list(range(cpus))
    assert skel.maps.cpu_numbers[1] == list(range(cpus))
    skel.maps.cpu_counters["name"] = [skeleton.counter(packets=cpu) for cpu in range(cpus)]
    assert [counter.packets for counter in skel.maps.cpu_counters[b"name"]] == list(range(cpus))
    ((key, values),) = skel.maps.cpu_counters.items()
    assert (str(key), len(values)) == ("name", cpus)
    with pytest.raises(ValueError, match="must have a value for each of"):
        skel.maps.cpu_numbers[0] = [1] * (cpus + 1)


def test_lpm_trie_finds_the_longest_prefix(skeleton: Any, skel: Any) -> None:
    routes = skel.maps.routes
    routes[skeleton.prefix(prefixlen=8, addr=b"\x0a\0\0\0")] = 1
    routes[skeleton.prefix(prefixlen=24, addr=b"\x0a\x01\x02\0")] = 2
    assert routes[skeleton.prefix(prefixlen=32, addr=b"\x0a\x01\x02\x03")] == 2
    assert routes[skeleton.prefix(prefixlen=32, addr=b"\x0a\x09\x09\x09")] == 1
    assert len(routes) == 2


def test_queue_and_stack(skeleton: Any, skel: Any) -> None:
    queue, stack = skel.maps.queue, skel.maps.stack
    for i in (1, 2, 3):
        queue.push(i)
        stack.push(skeleton.counter(packets=i))
    assert queue.peek() == 1
    with pytest.raises(errors.MapError, match="the map is full"):
        queue.push(4)
    queue.push(4, replace=True)
    assert list(queue) == [2, 3, 4]
    assert [counter.packets for counter in stack] == [3, 2, 1]
    with pytest.raises(IndexError, match="map queue is empty"):
        queue.pop()


def test_bloom_filter(skel: Any) -> None:
    skel.maps.bloom.add(7)
    assert 7 in skel.maps.bloom
    assert sum(i in skel.maps.bloom for i in range(1000, 1100)) < 50


def test_prog_array_and_tail_call(skel: Any) -> None:
    entry = skel.programs.entry
    assert entry.test_run(b"x" * 64).result == 2, "XDP_PASS without a target"
    skel.maps.jumps[2] = skel.programs.target
    assert 2 in skel.maps.jumps
    assert entry.test_run(b"x" * 64).result == 1, "XDP_DROP is the target's"
    del skel.maps.jumps[2]
    assert 2 not in skel.maps.jumps
    assert skel.maps.numbers[1] == 2
    with pytest.raises(IndexError):
        del skel.maps.jumps[2]


def test_map_in_map(skel: Any) -> None:
    outer = skel.maps.by_tenant
    outer[7] = skel.maps.numbers
    assert outer[7] == skel.maps.numbers.info().id
    assert list(outer) == [7]
    with pytest.raises(errors.MapError, match="by_tenant can't be written"):
        outer[8] = skel.maps.counters  # not like the template
    del outer[7]
    assert 7 not in outer


def test_stack_traces(skel: Any) -> None:
    with skel.programs.take_stack.attach():
        os.getppid()
    ids = list(skel.maps.stacks)
    assert skel.maps.numbers[0] in ids
    assert all(address >> 63 for address in skel.maps.stacks[ids[0]]), "kernel addresses"
    del skel.maps.stacks[ids[0]]
    with pytest.raises(KeyError):
        skel.maps.stacks[ids[0]]


def test_local_storage(skeleton: Any, skel: Any) -> None:
    fd = os.pidfd_open(os.getpid())
    try:
        assert fd not in skel.maps.per_task
        skel.maps.per_task[fd] = skeleton.counter(bytes=5)
        assert skel.maps.per_task[fd].bytes == 5
        del skel.maps.per_task[fd]
        assert skel.maps.per_task.get(fd) is None
    finally:
        os.close(fd)
    with socket.socket() as sock:
        skel.maps.per_socket[sock] = 9
        assert skel.maps.per_socket[sock] == 9


def test_sockets_by_key(skel: Any) -> None:
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        skel.maps.sockets[1] = client
        del skel.maps.sockets[1]
        with pytest.raises(KeyError):
            del skel.maps.sockets[1]


def test_maps_by_name_and_in_a_loop(skel: Any) -> None:
    assert skel.maps["flows"] is skel.maps.flows
    assert len(list(skel.maps)) == len(skel.maps) == 17
    with pytest.raises(AttributeError):
        skel.maps.nope  # noqa: B018


def test_sizes_can_be_changed_before_the_load(skeleton: Any) -> None:
    needs.root_bpf()
    with skeleton.Mapkinds.open() as bpf:
        bpf.maps.numbers.max_entries = 3
        bpf.maps.recent.type = 1
        assert bpf.maps.numbers.max_entries == 3
        with bpf.load() as skel:
            assert len(skel.maps.numbers) == 3
            assert skel.maps.recent.info().type == 1


def test_a_map_that_user_space_may_not_write_says_so(skeleton: Any) -> None:
    needs.root_bpf()
    bpf_f_rdonly = 1 << 3
    with skeleton.Mapkinds.open() as bpf:
        bpf.maps.recent.flags |= bpf_f_rdonly
        with bpf.load() as skel:
            assert dict(skel.maps.recent) == {}
            with pytest.raises(
                errors.MapError, match=r"can't be written: EPERM: .* its flags forbid that to user space"
            ):
                skel.maps.recent[1] = 1


def test_a_map_can_be_left_out(skeleton: Any) -> None:
    needs.root_bpf()
    with skeleton.Mapkinds.open() as bpf:
        assert bpf.maps.bloom.autocreate
        bpf.maps.bloom.autocreate = False
        with bpf.load() as skel, pytest.raises(errors.ClosedError, match="map bloom was not created"):
            skel.maps.bloom.add(1)


def test_pinning_and_reuse(skeleton: Any, tmp_path: Path) -> None:
    needs.root_bpf()
    if subprocess.run(["mount", "-t", "bpf", "bpf", str(tmp_path)], check=False).returncode:
        pytest.skip("no BPF file system can be mounted")
    try:
        path = str(tmp_path / "numbers")
        with skeleton.Mapkinds.open() as bpf:
            bpf.maps.numbers.pin_path = path
            assert bpf.maps.numbers.pin_path == path
            with bpf.load() as first:
                first.maps.numbers[0] = 42
                with skeleton.Mapkinds.open() as other:
                    other.maps.numbers.pin_path = path
                    with other.load() as second:
                        assert second.maps.numbers[0] == 42, "the pinned map was taken"
                with skeleton.Mapkinds.open() as other:
                    other.maps.numbers.reuse(first.maps.numbers.fd)
                    with other.load() as third:
                        assert third.maps.numbers[0] == 42
        with skeleton.Mapkinds.open() as bpf, bpf.load() as skel:
            skel.maps.queue.pin(str(tmp_path / "queue"))
            assert (tmp_path / "queue").exists()
        with skeleton.Mapkinds.pinned("numbers", path) as numbers:
            assert numbers[0] == 42
            numbers[1] = 7
        with pytest.raises(errors.ClosedError):
            numbers[0]
        with skeleton.Mapkinds.pinned("numbers", path) as numbers:
            assert numbers[:2] == [42, 7]
        with pytest.raises(errors.MapError, match="no map can be opened at"):
            skeleton.Mapkinds.pinned("numbers", path + "x")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_closed_map_says_so(skeleton: Any) -> None:
    needs.root_bpf()
    with skeleton.Mapkinds.open() as bpf, bpf.load() as skel:
        numbers = skel.maps.numbers
    for use in (lambda: numbers[0], numbers.info, lambda: list(skel.maps.flows), lambda: numbers.fd):
        with pytest.raises(errors.ClosedError, match="the skeleton is closed"):
            use()
