"""kernels/archive.py: BTFHub's layout, and every way its files can be wrong."""

from __future__ import annotations

import contextlib
import lzma
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import archive
from hatch_bpf.kernels.formats.tar import only_member
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.support import budget
from hatch_bpf.support.budget import Budget
from tests.common import kernel_images, needs
from tests.common.kernel_images import member, tar

NAME = "5.8.0-63-generic"
KERNEL = f"ubuntu/20.04/x86_64/{NAME}"
BTF = kernel_images.btf("u64", "u32")


def write(folder: Path, content: bytes) -> Path:
    path = folder / f"{NAME}.btf.tar.xz"
    path.write_bytes(content)
    return path


def test_list_is_sorted_and_reads_back(tmp_path: Path) -> None:
    names = [f"debian/12/x86_64/6.1.0-{number}-amd64" for number in (50, 9, 47)] + ["-/-/arm64/5.4.0-custom", KERNEL]
    listed = archive.list_kernels(kernel_images.archive(tmp_path, names))
    assert [entry.kernel for entry in listed] == sorted(Kernel.parse(name) for name in names)
    for entry in listed:
        assert archive.read_archived(entry.path) == kernel_images.btf(str(entry.kernel))
        assert entry.path == tmp_path / archive.path_of(entry.kernel)


def test_other_files_and_architectures_are_passed_over(tmp_path: Path) -> None:
    kernel_images.archive(tmp_path, [KERNEL])
    for other in (
        "README.md",
        "ubuntu/20.04/x86_64/5.8.txt",
        "ubuntu/20.04/vax/5.8.btf.tar.xz",
        "a.btf.tar.xz",
        f"ubuntu/20.04/x86_64/._{NAME}.btf.tar.xz",
        "ubuntu/20.04/x86_64/.btf.tar.xz",
        f"ubuntu/.old/x86_64/{NAME}.btf.tar.xz",
        f".git/20.04/x86_64/{NAME}.btf",
    ):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_bytes(b"")
    assert [str(entry.kernel) for entry in archive.list_kernels(tmp_path)] == [KERNEL]


def test_a_name_that_cannot_be_a_kernels_is_told_with_its_place(tmp_path: Path) -> None:
    kernel_images.archive(tmp_path, [KERNEL])
    (tmp_path / "ubuntu/20.04/x86_64/5.8\n.btf.tar.xz").write_bytes(b"")
    with pytest.raises(KernelError) as caught:
        archive.list_kernels(tmp_path)
    assert f"{tmp_path}/ubuntu/20.04/x86_64/5.8\\n.btf.tar.xz" in str(caught.value)
    assert "cannot be the release of a kernel" in str(caught.value)


def test_aliases_of_architectures(tmp_path: Path) -> None:
    kernel_images.archive(tmp_path, ["debian/12/arm64/6.1.0-1-arm64"])
    (tmp_path / "debian/12/arm64").rename(tmp_path / "debian/12/aarch64")
    (entry,) = archive.list_kernels(tmp_path)
    assert str(entry.kernel) == "debian/12/arm64/6.1.0-1-arm64"
    assert archive.read_archived(entry.path)


@pytest.mark.parametrize("what", ["nothing", "a file"])
def test_no_archive(what: str, tmp_path: Path) -> None:
    path = tmp_path / "kernels"
    if what == "a file":
        path.write_text("")
    with pytest.raises(KernelError, match=r"kernels: there is no BTF archive here: let btf-archive .*BTFHUB_ARCHIVE"):
        archive.list_kernels(path)


def test_what_tar_and_xz_make_is_read(tmp_path: Path) -> None:
    """As BTFHub's own scripts pack: `tar -cJf`, with and without a leading `./`."""
    (tmp_path / f"{NAME}.btf").write_bytes(BTF)
    for name in (f"{NAME}.btf", f"./{NAME}.btf"):
        for style in ("gnu", "posix", "ustar"):
            path = tmp_path / f"{NAME}.btf.tar.xz"
            subprocess.run([needs.tool("tar"), f"--format={style}", "-cJf", path, name], cwd=tmp_path, check=True)
            assert archive.read_archived(path) == BTF


BAD_TARS = {
    "two members": (tar(member(f"{NAME}.btf", BTF), member("5.4.0.btf", BTF)), "holds more than one member"),
    "the same twice": (tar(member(f"{NAME}.btf", BTF), member(f"{NAME}.btf", BTF)), "holds more than one member"),
    "no member": (tar(), "holds no member"),
    "a folder": (tar(member("folder", type=tarfile.DIRTYPE)), "not a regular file"),
    "a symlink": (tar(member(f"{NAME}.btf", type=tarfile.SYMTYPE, linkname="/etc/passwd")), "not a regular file"),
    "a hard link": (tar(member(f"{NAME}.btf", type=tarfile.LNKTYPE, linkname="/etc/passwd")), "not a regular file"),
    "a device": (tar(member(f"{NAME}.btf", type=tarfile.CHRTYPE, devmajor=1, devminor=5)), "not a regular file"),
    "a pipe": (tar(member(f"{NAME}.btf", type=tarfile.FIFOTYPE)), "not a regular file"),
    "a way out": (tar(member(f"../{NAME}.btf", BTF)), "leads to another folder"),
    "a way in": (tar(member(f"a/{NAME}.btf", BTF)), "leads to another folder"),
    "an absolute name": (tar(member(f"/{NAME}.btf", BTF)), "leads to another folder"),
    "another name": (tar(member("5.4.0-1-generic.btf", BTF)), 'holds "5.4.0-1-generic.btf" where its own name'),
    "not BTF": (tar(member(f"{NAME}.btf", b"BTF it is not")), "not BTF"),
    "empty BTF": (tar(member(f"{NAME}.btf", b"")), "not BTF: it starts with nothing"),
    "BTF cut off": (tar(member(f"{NAME}.btf", BTF[:-5])), "cut off"),
    "tar cut off in the header": (tar(member(f"{NAME}.btf", BTF))[:300], "tar is corrupt or cut off"),
    "tar cut off in the content": (tar(member(f"{NAME}.btf", BTF))[:550], "tar is corrupt or cut off"),
    "a checksum wrong": (b"x" + tar(member(f"{NAME}.btf", BTF))[1:], "tar is corrupt or cut off"),
    "not tar": (BTF * 20, "tar is corrupt or cut off"),
    "a size beyond the end": (tar(member(f"{NAME}.btf", BTF))[:124] + b"77777777777\0", "tar is corrupt or cut off"),
}  # fmt: skip


@pytest.mark.parametrize("defect", BAD_TARS)
def test_bad_tars(defect: str, tmp_path: Path) -> None:
    content, message = BAD_TARS[defect]
    path = write(tmp_path, lzma.compress(content))
    with pytest.raises(KernelError, match=message) as caught:
        archive.read_archived(path)
    assert str(path) in str(caught.value)


def test_a_sparse_member(tmp_path: Path) -> None:
    """Sparse files promise any size for a few bytes: GNU tar makes a real one."""
    with (tmp_path / f"{NAME}.btf").open("wb") as file:
        file.write(BTF)
        file.truncate(1 << 40)
    path = tmp_path / f"{NAME}.btf.tar.xz"
    for style in ("gnu", "posix"):
        subprocess.run([needs.tool("tar"), f"--format={style}", "-ScJf", path, f"{NAME}.btf"], cwd=tmp_path, check=True)
        with pytest.raises(KernelError, match=r"not a regular file|leads to another folder"):
            archive.read_archived(path)


@pytest.mark.parametrize("content", [b"", b"\xfd7z", BTF, b"<html>404</html>"])
def test_not_xz(content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(KernelError, match="not xz data") as caught:
        archive.read_archived(path)
    assert str(path) in str(caught.value)


def test_cut_off_anywhere(tmp_path: Path) -> None:
    whole = lzma.compress(tar(member(f"{NAME}.btf", BTF)))
    for length in range(6, len(whole)):
        path = write(tmp_path, whole[:length])
        with pytest.raises(KernelError, match="get the file anew") as caught:
            archive.read_archived(path)
        assert str(path) in str(caught.value)


def test_a_flipped_bit_anywhere(tmp_path: Path) -> None:
    whole = lzma.compress(tar(member(f"{NAME}.btf", BTF)))
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path = write(tmp_path, bytes(damaged))
        with pytest.raises(KernelError, match="anew") as caught:
            archive.read_archived(path)
        assert str(path) in str(caught.value)


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "BYTES", 4 << 20)
    path = write(tmp_path, lzma.compress(tar(member(f"{NAME}.btf", bytes(8 << 20))), preset=0))
    with pytest.raises(KernelError, match="unpacks to more than any real file of its size"):
        archive.read_archived(path)


def test_a_pipe_in_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.btf.tar.xz"
    os.mkfifo(path)
    with pytest.raises(KernelError, match=r"xz: cannot be read: it is not a regular file"):
        archive.read_archived(path)


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.btf.tar.xz"
    path.mkdir()
    with pytest.raises(KernelError, match="cannot be read"):
        archive.read_archived(path)


@pytest.mark.thorough
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_tars_are_our_error_or_nothing(data: st.DataObject) -> None:
    # a time with a fraction makes tarfile write a PAX header
    packed = bytearray(tar(member(f"{NAME}.btf", BTF, mtime=data.draw(st.sampled_from([0, 1.5])))))
    for _ in range(data.draw(st.integers(1, 6))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        # a checksum that fits again, so that the damage gets past it
        packed[148:156] = b"%06o\0 " % (sum(packed[:512]) - sum(packed[148:156]) + 8 * 32)
    with contextlib.suppress(KernelError):
        name, btf = only_member(bytes(packed), Budget("FILE"))
        assert "/" not in name
        assert btf[:2] in (b"\x9f\xeb", b"\xeb\x9f")


def test_the_whole_archive() -> None:
    """Every file of a real archive is read, and what comes out is indexed by the BTF reader."""
    listed = archive.list_kernels(needs.archive())
    assert listed
    for entry in listed[:: 1 if os.environ.get("HATCH_BPF_FULL") else 9]:
        assert len(Btf(archive.read_archived(entry.path), source=str(entry.kernel))) > 10_000
