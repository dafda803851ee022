"""The budget of a file: spent step by step and byte by byte, more for larger files, and its error names the file."""

from __future__ import annotations

import pytest

from hatch_bpf.errors import BtfError, KernelError
from hatch_bpf.support.budget import BYTES, LISTED_KERNELS, SIZE, STEPS, Budget


def test_work_is_charged_until_none_is_left() -> None:
    budget = Budget("a.deb")
    budget.work(STEPS - 1)
    budget.work()
    with pytest.raises(KernelError, match=r"^a\.deb: takes more work") as raised:
        budget.work()
    assert raised.value.source == "a.deb"


def test_bytes_are_charged_until_none_are_left() -> None:
    budget = Budget("vmlinux", error=BtfError)
    budget.unpack(BYTES)
    with pytest.raises(BtfError, match=r"^vmlinux: unpacks to more"):
        budget.unpack(1)


@pytest.mark.parametrize(("size", "scale"), [(0, 1), (SIZE, 1), (3 * SIZE, 3)])
def test_a_larger_file_may_cost_more_and_a_small_one_no_less(size: int, scale: int) -> None:
    budget = Budget("vmlinux", size)
    budget.unpack(scale * BYTES)
    with pytest.raises(KernelError):
        budget.unpack(1)
    budget = Budget("vmlinux", size)
    budget.work(scale * STEPS)
    with pytest.raises(KernelError):
        budget.work()


def test_a_limit_says_what_real_files_have() -> None:
    assert LISTED_KERNELS.check(LISTED_KERNELS.most, source="index.txt") == LISTED_KERNELS.most
    with pytest.raises(KernelError, match=r"^index\.txt: more than 32,768 kernels in a list, where BTFHub's"):
        LISTED_KERNELS.check(LISTED_KERNELS.most + 1, source="index.txt")
