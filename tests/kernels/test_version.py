"""LINUX_KERNEL_VERSION from a release: what libbpf will say there, as far as the release tells."""

from __future__ import annotations

import pytest

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.version import kernel_version, version_bounds


@pytest.mark.parametrize(
    ("kernel", "low", "high"),
    [
        ("debian/12/x86_64/6.1.0-50-cloud-amd64", (6, 1, 0), (6, 1, 255)),
        ("debian/12/x86_64/6.12.95+deb12-cloud-amd64", (6, 12, 95), (6, 12, 95)),
        ("ubuntu/20.04/x86_64/5.8.0-63-generic", (5, 8, 0), (5, 8, 255)),
        ("ubuntu/24.04/x86_64/6.8.12-1-generic", (6, 8, 0), (6, 8, 255)),
        ("kylin/V10/arm64/4.19.90-52.22.v2207.ky10.aarch64", (4, 19, 90), (4, 19, 90)),
        ("-/-/x86_64/4.14.336-custom", (4, 14, 255), (4, 14, 255)),
        ("-/-/x86_64/6.9-rc3", (6, 9, 0), (6, 9, 255)),
    ],
)
def test_bounds(kernel: str, low: tuple[int, int, int], high: tuple[int, int, int]) -> None:
    assert version_bounds(Kernel.parse(kernel)) == (kernel_version(*low), kernel_version(*high))


def test_a_release_without_a_version() -> None:
    assert version_bounds(Kernel.parse("-/-/x86_64/custom")) is None


def test_the_macro() -> None:
    assert kernel_version(5, 10, 30) == 0x050A1E
    assert kernel_version(4, 19, 300) == 0x0413FF
