"""kernels/packages.py: Debian packages against dpkg-deb's own, RPMs, and every way a package can be wrong."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.formats import packages
from hatch_bpf.support.budget import IMAGE_BYTES, Budget
from tests.common import kernel_images, needs
from tests.common.kernel_images import member

IMAGE = b"vmlinuz " * 1000
RELEASE = "6.1.0-50-cloud-amd64"
BOOT = member(f"./boot/vmlinuz-{RELEASE}", IMAGE)
BEFORE = member("./boot/config-6.1", b"CONFIG_BPF=y\n" * 99)
LINK = member("./vmlinuz", type=tarfile.SYMTYPE, linkname=f"boot/vmlinuz-{RELEASE}")


def of_deb(content: bytes) -> bytes:
    return packages.image_of_deb(io.BytesIO(content), Budget("FILE")).data


def of_rpm(content: bytes) -> bytes:
    return packages.image_of_rpm(io.BytesIO(content), Budget("FILE")).data


@pytest.mark.parametrize("style", ["none", "gzip", "xz", "zstd"])
def test_what_dpkg_makes(style: str, tmp_path: Path) -> None:
    (tmp_path / "linux/DEBIAN").mkdir(parents=True)
    (tmp_path / "linux/DEBIAN/control").write_text(
        "Package: linux-image\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a\n"
    )
    (tmp_path / "linux/boot").mkdir()
    (tmp_path / "linux/boot/System.map-6.1").write_text("odd")
    (tmp_path / f"linux/boot/vmlinuz-{RELEASE}").write_bytes(IMAGE)
    subprocess.run(
        [needs.tool("dpkg-deb"), f"-Z{style}", "--root-owner-group", "-b", "linux", "linux.deb"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert of_deb((tmp_path / "linux.deb").read_bytes()) == IMAGE


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress), (".bz2", bz2.compress), ("", bytes)]
)
def test_every_compression_of_a_deb(suffix: str, pack: Callable[[bytes], bytes]) -> None:
    assert of_deb(kernel_images.deb(LINK, BEFORE, BOOT, suffix=suffix, pack=pack)) == IMAGE


def test_the_image_of_newer_debian_packages() -> None:
    assert of_deb(kernel_images.deb(BEFORE, member("./usr/lib/modules/7.3.4/vmlinuz", IMAGE))) == IMAGE


@pytest.mark.parametrize(
    "pack", [lzma.compress, gzip.compress, bz2.compress, lambda data: lzma.compress(data, lzma.FORMAT_ALONE)]
)
def test_every_compression_of_an_rpm(pack: Callable[[bytes], bytes]) -> None:
    files = {"./boot/": b"", "./boot/config": b"odd", "./lib/modules/5.14.0/vmlinuz": IMAGE, "./z": b"z"}
    assert of_rpm(kernel_images.rpm(files, pack)) == IMAGE


def test_packages_without_a_kernel() -> None:
    with pytest.raises(KernelError, match=r"FILE: no kernel image .*linux-binary"):
        of_deb(kernel_images.deb(LINK, BEFORE))
    with pytest.raises(KernelError, match=r"FILE: no kernel image .*kernel-core"):
        of_rpm(kernel_images.rpm({"./boot/config": b"odd"}))


def test_an_image_of_absurd_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "IMAGE_BYTES", IMAGE_BYTES._replace(most=1000))
    with pytest.raises(KernelError, match="FILE: more than 1,000 bytes of kernel image"):
        of_deb(kernel_images.deb(BOOT))
    with pytest.raises(KernelError, match="FILE: more than 1,000 bytes of kernel image"):
        of_rpm(kernel_images.rpm({"vmlinuz": IMAGE}))


@pytest.mark.parametrize("kind", ["deb", "plain deb", "rpm"])
def test_cut_off(kind: str) -> None:
    whole = {
        "deb": kernel_images.deb(BOOT),
        "plain deb": kernel_images.deb(BOOT, suffix="", pack=bytes),
        "rpm": kernel_images.rpm({"vmlinuz": IMAGE}),
    }[kind]
    read = of_rpm if kind == "rpm" else of_deb
    # up to the last bytes, which only close what is already complete
    for length in range(8, len(whole) - 60, len(whole) // 150):
        with contextlib.suppress(KernelError):
            assert read(whole[:length]) == IMAGE
    with pytest.raises(KernelError, match="FILE"):
        read(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"!<arch>\n", "no data.tar"),
        (b"!<arch>\n" + b"x" * 60, "no data.tar"),
        (b"!<arch>\n" + b"data.tar.xz".ljust(48) + b"many      `\n", "broken header in this Debian package"),
        (b"!<arch>\n" + b"data.tar.xz".ljust(48) + b"4         `\n" + b"junk" * 300, "data.tar is corrupt"),
    ],
)
def test_broken_debs(content: bytes, message: str) -> None:
    with pytest.raises(KernelError, match=f"FILE: .*{message}"):
        of_deb(content)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_of_gigabytes_is_not_read(kind: bytes) -> None:
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = kind, 4 << 30
    promised = name.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)
    with pytest.raises(KernelError, match="FILE: more than 4,096 bytes of file name"):
        of_deb(kernel_images.deb(suffix="", pack=lambda _: promised))


def test_a_name_of_gigabytes_is_not_read() -> None:
    whole = kernel_images.rpm({"vmlinuz": IMAGE}, pack=lambda data: lzma.compress(data[:94] + b"f" * 8 + data[102:]))
    with pytest.raises(KernelError, match="FILE: more than 4,096 bytes of file name"):
        of_rpm(whole)


def test_broken_rpms() -> None:
    whole = kernel_images.rpm({"vmlinuz": IMAGE}, bytes)
    cases = {
        "headers of this RPM are broken": whole[:96] + b"x" + whole[97:],
        "compression of this RPM's payload is not known": whole,
        "not the cpio archive": kernel_images.rpm({}, lambda _data: lzma.compress(b"x" * 500)),
        "broken header in this RPM's payload": kernel_images.rpm(
            {}, lambda _data: lzma.compress(b"070701" + b"x" * 500)
        ),
        "payload is corrupt or cut off": kernel_images.rpm({"vmlinuz": IMAGE}, lambda data: lzma.compress(data[:400])),
    }
    for message, content in cases.items():
        with pytest.raises(KernelError, match=f"FILE: .*{message}"):
            of_rpm(content)


@pytest.mark.thorough
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["deb", "rpm"]), st.data())
def test_damage_is_our_error_or_nothing(kind: str, data: st.DataObject) -> None:
    whole = kernel_images.deb(BOOT, suffix="", pack=bytes) if kind == "deb" else kernel_images.rpm({"vmlinuz": IMAGE})
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, min(1200, len(damaged) - 1)))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(KernelError):
        (of_deb if kind == "deb" else of_rpm)(bytes(damaged))
