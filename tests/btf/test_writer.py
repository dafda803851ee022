"""The BTF writer: round trips, strings stored once, against libbpf's own reading."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from tests.btf.test_reader import EVERY_KIND, every_kind
from tests.common import kernel_btfs, needs, objects
from tests.common.btf_builder import RawBtf
from tests.common.btf_of_types import BtfBuilder
from tests.common.rewritten_btf import rewrite


@pytest.mark.parametrize("name", sorted(kernel_btfs.FILES) if kernel_btfs.FULL else kernel_btfs.EXAMPLES[1::3])
def test_a_kernel_comes_back_as_it_was(name: str) -> None:
    data = kernel_btfs.read(name)
    assert rewrite(Btf(data, source=name)) == data


def test_every_real_object_comes_back_as_it_was() -> None:
    for program, model in objects.models().items():
        assert rewrite(model.btf) == model.btf.data, program


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("layout", [b"", struct.pack("<BBH", 4, 0, 0) * 20], ids=["24-bytes", "32-bytes"])
@pytest.mark.parametrize("tail", [b"", b"unknown!"], ids=["plain", "longer"])
def test_every_kind_comes_back_as_it_was(order: str, layout: bytes, tail: bytes) -> None:
    data = every_kind(order).build(layout=layout, flags=3, tail=tail if layout else b"")
    assert rewrite(Btf(data)) == data


def test_a_name_that_is_the_tail_of_another_comes_back() -> None:
    btf = RawBtf()
    offset = btf.string("something")
    btf.struct("something", 4)
    data = bytearray(btf.build())
    struct.pack_into("<I", data, 24, offset + len("some"))
    assert rewrite(Btf(bytes(data))) == bytes(data)


@pytest.mark.parametrize("endian", ["little", "big"])
def test_every_kind_built(endian: Literal["little", "big"]) -> None:
    builder = BtfBuilder(endian=endian)
    ids = [builder.add(item) for item in EVERY_KIND[1:]]
    assert ids == list(range(1, len(EVERY_KIND)))
    btf = Btf(builder.build())
    assert btf.endian == endian
    assert list(btf) == EVERY_KIND


def test_bpftool_reads_what_is_built(tmp_path: Path) -> None:
    builder = BtfBuilder()
    for item in EVERY_KIND[1:]:
        builder.add(item)
    path = tmp_path / "built.btf"
    path.write_bytes(builder.build())
    command = [needs.tool("bpftool"), "--json", "btf", "dump", "file", str(path)]
    dumped = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["types"]
    assert [item["kind"] for item in dumped] == [t.KIND_OF[type(item)].name for item in EVERY_KIND[1:]]


def test_each_string_is_stored_once_in_order_of_use() -> None:
    builder = BtfBuilder()
    builder.add(t.Int("b", 4, t.IntEncoding.SIGNED, 0, 32))
    builder.add(t.Struct("a", 8, (t.Member("b", 1, 0, 0), t.Member("c", 1, 32, 0))))
    assert Btf(builder.build()).strings == b"\0b\0a\0c\0"
    assert builder.string("c") == 5
    assert builder.string("") == 0
