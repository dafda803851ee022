"""Histograms: the buckets of what programs counted, printed as bcc prints them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hatch_bpf.runtime import Bucket, InvalidTypeError, LinearHistogram, Log2Histogram, text_by_key
from tests.common import needs
from tests.common.skeleton_package import RUNTIME, load_skeleton

SYSTEM_PYTHON = "/usr/bin/python3"
"""That for which Debian packages bcc."""
LOG2 = """\
     usecs               : count     distribution
         0 -> 1          : 1        |*                                       |
         2 -> 3          : 0        |                                        |
         4 -> 7          : 40       |****************************************|
         8 -> 15         : 13       |*************                           |"""
LINEAR = """\
     value         : count     distribution
        0          : 0        |                                        |
        1          : 5        |********************                    |
        2          : 10       |****************************************|"""


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("counters", tmp_path_factory.mktemp("histograms"))


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.Counters.open() as bpf, bpf.load() as loaded:
        yield loaded


def test_text() -> None:
    assert Log2Histogram([1, 0, 40, 13, 0, 0]).text("usecs") == LOG2
    assert Log2Histogram({1: 1, 3: 40, 4: 13}, first_slot=1).text("usecs") == LOG2
    assert str(LinearHistogram([0, 5, 10])) == LINEAR
    assert LinearHistogram([0, 5, 10]).text(strip_leading_zeros=True) == "\n".join(
        [LINEAR.splitlines()[0], *LINEAR.splitlines()[2:]]
    )
    assert Log2Histogram([0, 0]).text() == LinearHistogram({}).text() == ""


def test_buckets() -> None:
    assert Log2Histogram([1, 0, 40, 0]).buckets == [Bucket(0, 1, 1), Bucket(2, 3, 0), Bucket(4, 7, 40)]
    assert Log2Histogram({1: 2}, first_slot=1).buckets == [Bucket(0, 1, 2)]
    assert Log2Histogram({63: 1}).buckets[-1] == Bucket(1 << 63, (1 << 64) - 1, 1)
    assert LinearHistogram([2, 3], low=100, step=10).buckets == [Bucket(100, 109, 2), Bucket(110, 119, 3)]
    assert Log2Histogram([]).buckets == []
    assert repr(Bucket(0, 1, 2)) == "Bucket(low=0, high=1, count=2)"


def by_bcc(function: str, counts: Sequence[int], *, strip: bool) -> str:
    """What bcc's own function prints for these counts."""
    code = f"from bcc import table; table.{function}({list(counts)}, 'nsecs', {strip})"
    return subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(
    subprocess.run([SYSTEM_PYTHON, "-c", "import bcc"], capture_output=True, check=False).returncode != 0
    if Path(SYSTEM_PYTHON).exists()
    else True,
    reason="bcc (python3-bpfcc) is not installed",
)
@pytest.mark.parametrize("highest", [0, 1, 2, 20, 32, 33, 64])
@pytest.mark.parametrize("strip", [True, False])
def test_bcc_prints_the_same(highest: int, strip: bool) -> None:
    random = Random(highest)
    counts = [0, *(random.choice([0, 1, random.randrange(1 << 20)]) for _ in range(highest))]
    ours = Log2Histogram(counts, first_slot=1).text("nsecs", strip_leading_zeros=strip)
    assert by_bcc("_print_log2_hist", counts, strip=strip) == (f"{ours}\n" if ours else "")
    ours = LinearHistogram(counts).text("nsecs", strip_leading_zeros=strip)
    assert by_bcc("_print_linear_hist", counts, strip=strip) == (f"{ours}\n" if ours else "")


def test_of_maps(skeleton: Any, skel: Any) -> None:
    cpus = len(skel.maps.cpu_slots[0])
    skel.maps.slots[2] = 40
    skel.maps.cpu_slots[2] = [20] * cpus
    assert Log2Histogram(skel.maps.slots).buckets == [Bucket(0, 1, 0), Bucket(2, 3, 0), Bucket(4, 7, 40)]
    assert Log2Histogram(skel.maps.cpu_slots).buckets[-1] == Bucket(4, 7, 20 * cpus)
    skel.maps.counts.update_many({1: 5, 2: 10})
    assert str(LinearHistogram(skel.maps.counts)) == LINEAR
    assert isinstance(skel.maps.cpu_slots[2], list), "a tuple would be taken for a slot and its count"
    assert LinearHistogram(skel.maps.cpu_slots.drain()).buckets[-1] == Bucket(2, 2, 20 * cpus)
    assert str(LinearHistogram(skel.maps.counts.drain())) == LINEAR
    assert LinearHistogram(skel.maps.counts.drain()).buckets == []
    skel.maps.by_size[4096] = skeleton.slots(sum=3, slots=[1, 0, 2] + [0] * 24)
    ((size, histogram),) = skel.maps.by_size.items()
    assert (size, Log2Histogram(histogram.slots).buckets[-1]) == (4096, Bucket(4, 7, 2))


def test_one_for_each_key(skeleton: Any, skel: Any) -> None:
    for disk, slot, count in ((8, 1, 5), (7, 1, 5), (7, 2, 10)):
        skel.maps.by_disk[skeleton.histogram_key(disk=disk, slot=slot)] = count
    found = LinearHistogram.by_key(skel.maps.by_disk)
    assert list(found) == [7, 8]
    assert found[8].buckets == [Bucket(0, 0, 0), Bucket(1, 1, 5)]
    assert LinearHistogram.by_key(skel.maps.by_disk.drain())[8].buckets == found[8].buckets
    text = text_by_key(found, section="disk", show_key=lambda disk: f"sd{disk}")
    assert text.startswith(f"\ndisk = sd7\n{LINEAR}\n\ndisk = sd8\n     value ")


def test_what_is_no_map() -> None:
    for wrong in (8, "text", [8, "text"]):
        with pytest.raises(InvalidTypeError):
            Log2Histogram(wrong)
        with pytest.raises(InvalidTypeError):
            Log2Histogram.by_key(wrong)


def test_importing_the_runtime_does_not_import_it() -> None:
    code = f"import sys; sys.path.insert(0, {str(RUNTIME.parent)!r}); import runtime; " + (
        "assert 'runtime.maps.histograms' not in sys.modules; assert 'Log2Histogram' in dir(runtime); "
        "missing = set(runtime.__all__) - {name for name in runtime.__all__ if hasattr(runtime, name)}; "
        "assert not missing, missing; assert 'runtime.maps.histograms' in sys.modules"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
