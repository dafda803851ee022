"""The BTF writer: round trips, strings stored once, split BTF, against libbpf's own reading."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.writer import BtfBuilder, rewrite
from hatch_bpf.errors import BtfError
from tests.btf.test_reader import EVERY_KIND, every_kind
from tests.common import kernel_btfs, needs, objects
from tests.common.btf_builder import RawBtf


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


def test_a_module_uses_its_bases_strings_and_ids() -> None:
    base = RawBtf()
    base.struct("common", 4, ("a", base.integer(), 0))
    base_btf = Btf(base.build())
    builder = BtfBuilder(base=base_btf)
    assert builder.add(t.Struct("module_only", 8, (t.Member("a", 1, 0, 0), t.Member("b", 2, 32, 0)))) == 3
    data = builder.build()
    module = Btf(data, base=base_btf)
    assert module.strings == b"module_only\0b\0"
    assert module[3] == t.Struct("module_only", 8, (t.Member("a", 1, 0, 0), t.Member("b", 2, 32, 0)))
    assert rewrite(module) == data


def test_bpftool_reads_a_module_on_its_base(tmp_path: Path) -> None:
    base = RawBtf()
    base.struct("common", 4, ("a", base.integer(), 0))
    builder = BtfBuilder(base=Btf(base.build()))
    builder.add(t.Struct("module_only", 8, (t.Member("a", 1, 0, 0), t.Member("b", 2, 32, 0))))
    (tmp_path / "base.btf").write_bytes(base.build())
    (tmp_path / "module.btf").write_bytes(builder.build())
    command = [needs.tool("bpftool"), "--json", "btf", "dump", "file", "module.btf", "-B", "base.btf"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    (dumped,) = json.loads(done.stdout)["types"]
    assert (dumped["id"], dumped["name"]) == (3, "module_only")
    assert [member["name"] for member in dumped["members"]] == ["a", "b"]


def test_what_cannot_be_written() -> None:
    with pytest.raises(BtfError, match="void is type 0"):
        BtfBuilder().add(t.Void())
    too_many = (t.Param("p", 1),) * (1 << 24)
    with pytest.raises(BtfError, match="16777216 members"):
        BtfBuilder().add(t.FuncProto(1, too_many))
