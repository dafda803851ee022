"""kernels/identity.py, with real os-release files, and the shell as the reference for reading them."""

from __future__ import annotations

import os
import platform
import random
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_bpf.arch import ARCHES
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import identity
from hatch_bpf.kernels.identity import Kernel, natural
from tests import needs

OS_RELEASES = {
    # as the distributions ship them, the lines that matter and the ones that could be taken for them
    "debian/12": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
    'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\nHOME_URL="https://www.debian.org/"\n',
    "debian/": 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nNAME="Debian GNU/Linux"\nVERSION_CODENAME=forky\nID=debian\n',
    "ubuntu/20.04": 'NAME="Ubuntu"\nVERSION="20.04.6 LTS (Focal Fossa)"\nID=ubuntu\nID_LIKE=debian\n'
    'PRETTY_NAME="Ubuntu 20.04.6 LTS"\nVERSION_ID="20.04"\nUBUNTU_CODENAME=focal\n',
    "fedora/40": 'NAME="Fedora Linux"\nVERSION="40 (Server Edition)"\nID=fedora\nVERSION_ID=40\n'
    'VERSION_CODENAME=""\nPLATFORM_ID="platform:f40"\nANSI_COLOR="0;38;2;60;110;180"\nVARIANT_ID=server\n',
    "centos/7": 'NAME="CentOS Linux"\nVERSION="7 (Core)"\nID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="7"\n\n'
    'CENTOS_MANTISBT_PROJECT="CentOS-7"\nREDHAT_SUPPORT_PRODUCT_VERSION="7"\n',
    "rhel/8.6": 'NAME="Red Hat Enterprise Linux"\nID="rhel"\nID_LIKE="fedora"\nVERSION_ID="8.6"\n',
    "rocky/9.3": 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.3"\n',
    "almalinux/9.3": 'NAME="AlmaLinux"\nVERSION="9.3 (Shamrock Pampas Cat)"\nID="almalinux"\nVERSION_ID="9.3"\n',
    "amzn/2": 'NAME="Amazon Linux"\nVERSION="2"\nID="amzn"\nID_LIKE="centos rhel fedora"\nVERSION_ID="2"\n',
    "ol/8.9": 'NAME="Oracle Linux Server"\nVERSION="8.9"\nID="ol"\nVARIANT_ID="server"\nVERSION_ID="8.9"\n',
    "sles/15.5": 'NAME="SLES"\nVERSION="15-SP5"\nVERSION_ID="15.5"\nID="sles"\nID_LIKE="suse"\n',
    "opensuse-leap/15.5": 'NAME="openSUSE Leap"\nVERSION="15.5"\nID="opensuse-leap"\nVERSION_ID="15.5"\n',
    "arch/": 'NAME="Arch Linux"\nPRETTY_NAME="Arch Linux"\nID=arch\nBUILD_ID=rolling\n',
    "alpine/3.19.1": 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.19.1\nPRETTY_NAME="Alpine Linux v3.19"\n',
    "kylin/V10": 'NAME="Kylin Linux Advanced Server"\nVERSION="V10 (Tercel)"\nID="kylin"\nVERSION_ID="V10"\n',
    "bclinux/21.10U3": 'NAME="BigCloud Enterprise Linux"\nVERSION="21.10U3"\nID="bclinux"\nVERSION_ID="21.10U3"\n',
    "nixos/24.05": 'ANSI_COLOR="1;34"\nBUILD_ID="24.05.20240614"\nID=nixos\nNAME=NixOS\nVERSION_ID="24.05"\n',
    "linuxmint/21.3": "NAME='Linux Mint'\nID=linuxmint\nVERSION_ID='21.3'\n",
    "flatcar/3815.2.0": '# comment ID=no\nNAME="Flatcar\'s"\nID=flatcar\nID_LIKE=coreos\nVERSION_ID=3815.2.0\n',
}


@pytest.mark.parametrize("expected", OS_RELEASES)
def test_real_os_release_files(expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "os-release"
    path.write_text(OS_RELEASES[expected])
    monkeypatch.setattr(identity, "OS_RELEASE", (tmp_path / "absent", path))
    kernel = identity.host()
    assert f"{kernel.distro}/{kernel.version}" == expected
    assert kernel.release == os.uname().release


@pytest.mark.parametrize("name", OS_RELEASES)
def test_the_shell_reads_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text(OS_RELEASES[name])
    fields = identity.parse_os_release(OS_RELEASES[name])
    script = '. "$1"; ' + "".join(f'printf "%s\\n" "${{{field}}}"; ' for field in fields)
    printed = subprocess.run(["sh", "-c", script, "sh", str(path)], env={}, capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines() == list(fields.values())


def test_broken_lines_are_passed_over() -> None:
    text = 'ID="deb\nID_LIKE\n = \n\nVERSION_ID=12\nBAD="a\n'
    assert (
        identity.parse_os_release(text) == {"": "", "VERSION_ID": "12"}
        or identity.parse_os_release(text)["VERSION_ID"] == "12"
    )


def test_without_os_release_the_distro_is_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(identity, "OS_RELEASE", (tmp_path / "absent",))
    kernel = identity.host()
    assert (kernel.distro, kernel.version) == ("linux", "")


def test_host_agrees_with_python_and_uname() -> None:
    kernel = identity.host()
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    assert kernel.distro == platform.freedesktop_os_release()["ID"]
    assert machine in (kernel.arch, *ARCHES[kernel.arch].machines)


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
