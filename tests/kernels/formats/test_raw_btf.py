"""kernels/raw_btf.py: telling BTF from what only looks like it, and finding it in an image."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.formats import raw_btf
from hatch_bpf.support.budget import Budget
from tests.common import kernel_images, needs


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("header", [24, 32])
def test_whole_btf(endian: str, header: int) -> None:
    data = kernel_images.btf("int", "long", endian=endian, header=header)
    assert raw_btf.check_btf(data, "FILE") == data
    assert [found.name for found in Btf(data)] == ["", "int", "long"]
    assert raw_btf.find_btf(kernel_images.image(data), Budget("FILE")) == data


def test_the_running_kernels() -> None:
    data = needs.host_btf().read_bytes()
    assert raw_btf.check_btf(data, "FILE") == data
    assert raw_btf.find_btf(b"\x9f" + data + b"\0", Budget("FILE")) == data


@pytest.mark.parametrize(
    "data", [b"", b"\x9f", b"\x9f\xeb", b"\x9f\xeb\x02\x00" + bytes(40), b"text, not BTF", b"\x7fELF"]
)
def test_not_btf(data: bytes) -> None:
    with pytest.raises(KernelError, match="FILE: not BTF: it starts with"):
        raw_btf.check_btf(data, "FILE")


def test_cut_off() -> None:
    data = kernel_images.btf("int", "long")
    for length in range(3, len(data)):
        with pytest.raises(KernelError, match="FILE: this BTF is cut off"):
            raw_btf.check_btf(data[:length], "FILE")


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (4, 20),  # header too short
        (4, 26),  # header not of whole words
        (4, 1 << 20),  # header too long
        (8, 2),  # types not on a word
        (12, 0),  # no types
        (12, 1 << 31),  # types that end beyond the file
        (16, 1 << 31),  # strings that start beyond the file
        (20, 0),  # no strings
    ],
)
def test_headers_that_are_not_a_kernels(at: int, value: int) -> None:
    data = bytearray(kernel_images.btf())
    struct.pack_into("<I", data, at, value)
    with pytest.raises(KernelError, match="cut off, or not of a whole kernel"):
        raw_btf.check_btf(bytes(data), "FILE")
    assert raw_btf.find_btf(bytes(data), Budget("FILE")) is None


def test_strings_without_an_end() -> None:
    data = kernel_images.btf("int")[:-1] + b"x"
    with pytest.raises(KernelError, match="cut off, or not of a whole kernel"):
        raw_btf.check_btf(data, "FILE")


def test_a_modules_btf_is_refused() -> None:
    data = bytearray(kernel_images.btf("int"))
    # a module's strings go on where the kernel's end, so they don't start with the empty string
    data[data.index(b"\0int\0")] = ord("x")
    with pytest.raises(KernelError, match="a module's only adds to vmlinux's"):
        raw_btf.check_btf(bytes(data), "FILE")


def test_the_largest_wins() -> None:
    small, large = kernel_images.btf("a"), kernel_images.btf("a", "b", "c")
    assert raw_btf.find_btf(b"..." + large + b"..." + small, Budget("FILE")) == large
    assert raw_btf.find_btf(b"..." + small + b"..." + large, Budget("FILE")) == large
    assert raw_btf.find_btf(b"nothing here", Budget("FILE")) is None


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes(before: bytes, after: bytes) -> None:
    data = kernel_images.btf("name")
    found = raw_btf.find_btf(before + data + after, Budget("FILE"))
    assert found is not None
    assert len(found) >= len(data)
