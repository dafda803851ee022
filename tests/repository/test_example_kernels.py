"""The kernels that the repository carries in example_project/kernels: what is promised of them, and that they read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hatch_bpf.arch import ARCHES
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import Kind
from hatch_bpf.kernels.archive import ArchivedKernel, list_kernels, path_of, read_archived
from hatch_bpf.kernels.identity import Kernel
from tests.common import needs

FOLDER = Path(__file__).parents[2] / "example_project/kernels"
KERNELS = list_kernels(FOLDER)


def test_what_is_there() -> None:
    series = {(entry.kernel.arch, ".".join(entry.kernel.release.split(".")[:2])) for entry in KERNELS}
    assert {("x86_64", number) for number in ("5.10", "6.1", "6.12", "6.18")} <= series
    assert any(arch == "x86_64" and number.startswith("7.") for arch, number in series)
    assert any(arch == "arm64" for arch, _ in series)
    assert sum(entry.path.stat().st_size for entry in KERNELS) < 7_000_000


@pytest.mark.parametrize("entry", KERNELS, ids=lambda entry: str(entry.kernel))
def test_each_reads(entry: ArchivedKernel) -> None:
    kernel = entry.kernel
    btf = Btf(read_archived(entry.path), source=str(kernel))
    assert btf.endian == ARCHES[kernel.arch].endian
    (task,) = btf.find("task_struct", Kind.STRUCT)
    assert btf.size_of(task) > 1000
    # the file is of the architecture it stands under: only arm64 has this struct
    assert bool(btf.find("user_pt_regs", Kind.STRUCT)) == (kernel.arch == "arm64")


def test_the_readme_tells_where_each_is_from() -> None:
    rows = re.findall(
        r"^\| (\S+/\S+) \| (\S+) \| \S+ \| \S+ \| ([0-9,]+) \| ([0-9,]+) \|$", (FOLDER / "README.md").read_text(), re.M
    )
    assert {row[0] for row in rows} == {str(entry.kernel) for entry in KERNELS}
    for name, package, size, packed in rows:
        kernel = Kernel.parse(name)
        assert package in (f"linux-image-{kernel.release}", f"linux-binary-{kernel.release}")
        assert int(size.replace(",", "")) == len(read_archived(FOLDER / path_of(kernel)))
        assert int(packed.replace(",", "")) == (FOLDER / path_of(kernel)).stat().st_size


def test_equal_to_an_archive_that_has_them_too() -> None:
    archive = needs.archive()
    for entry in KERNELS:
        other = archive / path_of(entry.kernel)
        if other.exists():
            assert read_archived(entry.path) == read_archived(other)
