"""kernels/identity.py; os-release files are in test_runtime_kernel.py."""

from __future__ import annotations

import os
import platform
import random
import subprocess
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_bpf.arch import ARCHES
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import identity
from hatch_bpf.kernels.identity import Kernel, natural
from hatch_bpf.runtime.host.arch import of_machine
from tests.common import needs


def test_host_agrees_with_python_and_uname() -> None:
    kernel = identity.host()
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    assert kernel.distro == platform.freedesktop_os_release()["ID"]
    known = of_machine(kernel.arch)
    assert known is not None
    assert machine in (kernel.arch, *known.machines)


def test_host_of_an_unknown_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*real[:4], "vax")))
    with pytest.raises(KernelError, match=r'"vax".*take "host" out of kernels'):
        identity.host()


@pytest.mark.parametrize(
    ("text", "arch"),
    [
        ("ubuntu/20.04/x86_64/5.8.0-63-generic", "x86_64"),
        ("debian/12/aarch64/6.1.0", "arm64"),
        ("a/1/amd64/5", "x86_64"),
    ],
)
def test_parse(text: str, arch: str) -> None:
    kernel = Kernel.parse(text)
    assert kernel.arch == arch
    assert str(kernel).split("/")[3] == text.split("/")[3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("debian/12/x86_64", "distro/version/arch/release"),
        ("debian/12/x86_64/a/b", "distro/version/arch/release"),
        ("debian/12/vax/6.1", '"vax" is not an architecture; write one of x86_64, arm64'),
        ("debian/12/x86_64/", "release"),
        ("debian/../x86_64/6.1", "version"),
        ("deb\nian/12/x86_64/6.1", "distro"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        Kernel.parse(text)


part = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/"), max_size=8).filter(
    lambda text: text not in (".", "..", "-")
)


@given(part, part, st.sampled_from(sorted(ARCHES)), part.filter(bool))
def test_text_round_trip(distro: str, version: str, arch: str, release: str) -> None:
    kernel = Kernel(distro, version, arch, release)
    assert Kernel.parse(str(kernel)) == kernel


def test_kernels_sort_as_people_count() -> None:
    rising = [
        Kernel.parse(f"debian/{text}")
        for text in (
            "9/x86_64/4.19.0-27-amd64",
            "12/arm64/6.1.0-9-arm64",
            "12/x86_64/6.1.0-9-amd64",
            "12/x86_64/6.1.0-50-amd64",
            "12/x86_64/6.1.0-50-cloud-amd64",
            "12/x86_64/6.12.9+deb12-amd64",
            "12/x86_64/6.12.95+deb12-amd64",
            "13/x86_64/6.9.1",
        )
    ]
    mixed = rising.copy()
    random.Random(0).shuffle(mixed)
    assert sorted(mixed) == rising


@given(part.filter(bool), part.filter(bool))
def test_order_is_total(first: str, second: str) -> None:
    a, b = Kernel("", "", "x86_64", first), Kernel("", "", "x86_64", second)
    assert [a < b, a == b, a > b].count(True) == 1


def test_release_candidates_come_before_what_they_become() -> None:
    """As dpkg has it for `~`; and for mainline's `-rc` alike."""
    in_order = [
        "5.15.0-rc7", "5.15.0-rc10", "5.15.0", "5.15.0-9-generic", "5.15.0-10-generic",
        "6.12~rc6-amd64", "6.12-amd64", "6.12.3-amd64", "6.12.10+deb13-amd64",
    ]  # fmt: skip
    kernels = [Kernel("debian", "13", "x86_64", release) for release in in_order]
    assert sorted(random.Random(1).sample(kernels, len(kernels))) == kernels


def test_versions_sort_as_dpkg_sorts_them() -> None:
    compare = [needs.optional_tool("dpkg"), "--compare-versions"]
    versions = [
        "5.10.0-9",
        "5.10.0-32",
        "6.1.0-50",
        "6.12.95+deb12",
        "6.18~rc4",
        "6.18",
        "6.18.15+deb13",
        "7.3~rc1",
        "7.3.1",
    ]
    for one, other in combinations(versions, 2):
        is_before = subprocess.run([*compare, one, "lt", other], check=False).returncode == 0
        assert (natural(one) < natural(other)) == is_before, (one, other)
