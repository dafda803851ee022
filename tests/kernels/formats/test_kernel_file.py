"""kernels/sources.py: every form a kernel's BTF comes in, told by content, and files that are none of them."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import HOST_BTF
from hatch_bpf.kernels.formats.kernel_file import read_btf
from tests.common import kernel_images, needs
from tests.common.kernel_images import compressed_by, member, tar

BTF = kernel_images.btf("u64", "u32", "task_struct")
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "zstd": lambda data: compressed_by("zstd", "-c", data=data),
    "lz4": lambda data: compressed_by("lz4", "-l", "-c", data=data),
}


def write(folder: Path, content: bytes) -> Path:
    # no suffix: the form is told by the content
    path = folder / "file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("endian", ["little", "big"])
def test_raw(endian: str, tmp_path: Path) -> None:
    data = kernel_images.btf("int", endian=endian)
    assert read_btf(write(tmp_path, data)) == data


def test_the_running_kernels_own() -> None:
    assert read_btf(needs.host_btf()) == HOST_BTF.read_bytes()


def test_elf(tmp_path: Path) -> None:
    assert read_btf(write(tmp_path, kernel_images.elf(BTF))) == BTF


def test_an_elf_that_llvm_made(tmp_path: Path) -> None:
    """A .BTF section that a real tool put into a real ELF file."""
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    (tmp_path / "btf").write_bytes(BTF)
    subprocess.run([needs.tool("clang"), "-c", "main.c", "-o", "main.o"], cwd=tmp_path, check=True)
    subprocess.run([needs.tool("objcopy"), "--add-section", ".BTF=btf", "main.o", "vmlinux"], cwd=tmp_path, check=True)
    assert read_btf(tmp_path / "vmlinux") == BTF


@pytest.mark.parametrize("name", COMPRESS)
def test_compressed_tar(name: str, tmp_path: Path) -> None:
    assert read_btf(write(tmp_path, COMPRESS[name](tar(member("5.4.0.btf", BTF))))) == BTF


@pytest.mark.parametrize("name", COMPRESS)
def test_compressed_btf_and_elf(name: str, tmp_path: Path) -> None:
    assert read_btf(write(tmp_path, COMPRESS[name](BTF))) == BTF
    assert read_btf(write(tmp_path, COMPRESS[name](kernel_images.elf(BTF)))) == BTF


@pytest.mark.parametrize("name", COMPRESS)
def test_vmlinuz_of_x86(name: str, tmp_path: Path) -> None:
    assert read_btf(write(tmp_path, kernel_images.bz_image(COMPRESS[name](kernel_images.image(BTF))))) == BTF


@pytest.mark.parametrize("name", COMPRESS)
def test_efi_zboot(name: str, tmp_path: Path) -> None:
    payload = COMPRESS[name](kernel_images.image(BTF))
    assert read_btf(write(tmp_path, kernel_images.zboot_image(payload, name.encode()))) == BTF


@pytest.mark.parametrize("name", COMPRESS)
def test_image_compressed_as_a_whole(name: str, tmp_path: Path) -> None:
    """arm64's Image.gz and the like, also with an EFI zboot inside."""
    assert read_btf(write(tmp_path, COMPRESS[name](kernel_images.image(BTF)))) == BTF


def test_plain_image(tmp_path: Path) -> None:
    assert read_btf(write(tmp_path, kernel_images.image(BTF))) == BTF


def test_packages(tmp_path: Path) -> None:
    image = kernel_images.bz_image(lzma.compress(kernel_images.image(BTF)))
    assert read_btf(write(tmp_path, kernel_images.deb(member("./boot/vmlinuz-6.1", image)))) == BTF
    assert read_btf(write(tmp_path, kernel_images.rpm({"./lib/modules/6.1/vmlinuz": gzip.compress(image)}))) == BTF


def xz_bz(content: bytes) -> bytes:
    return kernel_images.bz_image(lzma.compress(content))


def packed_elf(*, kind: int = 1, flags: int = 0) -> bytes:
    """An ELF whose .BTF, of a few bytes, says that it has 1 TiB."""
    elf = bytearray(kernel_images.elf(struct.pack("<IIQQ", 1, 0, 1 << 40, 1) + BTF))
    struct.pack_into("<IQQQQ", elf, len(elf) - 60, kind, flags, 0, 64 + 16, 1 << 40 if kind == 8 else 24 + len(BTF))
    return bytes(elf)


BAD = {
    "empty": (b"", "no BTF in it"),
    "text": (b"<html>404 Not Found</html>", "no BTF in it"),
    "BTF cut off": (BTF[:-1], "cut off"),
    "vmlinuz without BTF": (xz_bz(b"\x90" * 9000), "without CONFIG_DEBUG_INFO_BTF"),
    "vmlinuz cut off": (xz_bz(kernel_images.image(BTF))[:-260], "image is cut off: of [0-9,]+ bytes it has"),
    "vmlinuz cut off before its payload": (xz_bz(kernel_images.image(BTF))[:0x300], "this kernel image is cut off"),
    "EFI zboot cut off": (kernel_images.zboot_image(gzip.compress(BTF), b"gzip")[:-201], "kernel image is cut off"),
    "vmlinuz of an unknown compression": (kernel_images.bz_image(b"\x89LZO"), r"payload is not known .* known are"),
    "vmlinuz cut off in its header": (xz_bz(kernel_images.image(BTF))[:0x230], "no BTF in it"),
    "ELF without BTF": (kernel_images.elf(None), "no .BTF section.*pahole --btf_encode_detached vmlinux.btf"),
    "a BPF object": (kernel_images.elf(BTF, machine=247), "a BPF object, not a kernel"),
    "ELF cut off": (kernel_images.elf(BTF)[:40], "broken ELF"),
    "ELF cut off later": (kernel_images.elf(BTF)[:-70], "broken ELF|no .BTF section"),
    "ELF with a compressed BTF": (packed_elf(flags=0x800), "section .BTF is compressed"),
    "ELF with a BTF that is not in it": (packed_elf(kind=8), "section .BTF is not in the file"),
    "EFI zboot cut off in its header": (b"MZ\0\0zimg\0\0\0\0\0\0", "no BTF in it"),
    "compressed three times": (gzip.compress(gzip.compress(gzip.compress(BTF))), "no BTF in it"),
    "two members": (lzma.compress(tar(member("a", BTF), member("b", BTF))), "holds more than one member"),
    "deb without a kernel": (kernel_images.deb(member("./usr/a", b"a")), "no kernel image"),
    "deb with a kernel without BTF": (kernel_images.deb(member("vmlinuz-6", xz_bz(b"\x90" * 99))), "no BTF in it"),
}  # fmt: skip


@pytest.mark.parametrize("defect", BAD)
def test_bad_files(defect: str, tmp_path: Path) -> None:
    content, message = BAD[defect]
    path = write(tmp_path, content)
    with pytest.raises(KernelError, match=message) as caught:
        read_btf(path)
    assert str(path) in str(caught.value)


def test_a_pipe_or_a_device_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(KernelError, match=f"{name}: cannot be read: it is not a regular file"):
            read_btf(tmp_path / name)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(KernelError, match="cannot be read"):
            read_btf(path)


@pytest.mark.thorough
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["elf", "x86", "zboot", "tar"]), st.data())
def test_damage_is_our_error_or_a_btf(tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject) -> None:
    whole = {
        "elf": kernel_images.elf(BTF),
        "x86": xz_bz(kernel_images.image(BTF)),
        "zboot": kernel_images.zboot_image(gzip.compress(kernel_images.image(BTF)), b"gzip"),
        "tar": bz2.compress(tar(member("5.4.btf", BTF))),
    }[kind]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(damaged))
    with contextlib.suppress(KernelError):
        assert read_btf(path)[:2] in (b"\x9f\xeb", b"\xeb\x9f")
