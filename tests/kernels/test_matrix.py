"""kernels/matrix.py: what patterns, files and the host select, and every fault of every entry at once."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import identity, matrix
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import BtfFile, Entry, Host, Matrix, Newest, Pattern
from tests.common import kernel_images

KERNELS = (
    "centos/7/x86_64/3.10.0-1160.el7.x86_64",
    "debian/11/x86_64/5.10.0-32-cloud-amd64",
    "debian/12/arm64/6.1.0-50-cloud-arm64",
    "debian/12/x86_64/6.1.0-9-cloud-amd64",
    "debian/12/x86_64/6.1.0-47-cloud-amd64",
    "debian/12/x86_64/6.1.0-50-cloud-amd64",
    "debian/12/x86_64/6.12.95+deb12-cloud-amd64",
    "ubuntu/18.04/x86_64/5.4.0-42-generic",
    "ubuntu/20.04/x86_64/5.4.0-42-generic",
    "ubuntu/20.04/x86_64/5.8.0-63-generic",
)
HOST = Kernel("debian", "12", "x86_64", "6.1.0-50-cloud-amd64")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernel_images.archive(tmp_path_factory.mktemp("archive"), KERNELS)


@pytest.fixture(autouse=True)
def the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host of our own: its identity is HOST, and its BTF where the fixture says, once a test writes it."""
    monkeypatch.setattr(identity, "host", lambda: HOST)
    monkeypatch.setattr(matrix, "HOST_BTF", tmp_path / "vmlinux")
    return tmp_path / "vmlinux"


def resolve(archive: Path | None, *entries: Entry | str, archs: tuple[str, ...] = ("x86_64",)) -> Matrix:
    """Resolve entries; a text is a pattern."""
    return matrix.resolve(
        [Pattern(entry) if isinstance(entry, str) else entry for entry in entries], archs=archs, archive=archive
    )


def names(found: Matrix) -> list[str]:
    return [str(source.kernel) for source in found.sources]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("debian/12/x86_64/6.1.0-50-cloud-amd64", [5]),
        ("debian/12/*/6.1.*", [3, 4, 5]),
        ("debian/1?/x86_64/*-cloud-*", [1, 3, 4, 5, 6]),
        ("ubuntu/[12]8.04/*/*", [7]),
        ("ubuntu/[!1]*/*/*", [8, 9]),
        ("ubuntu/[^1]*/*/*", [8, 9]),
        ("*/*/*/5.4.0-42-generic", [7, 8]),
        ("*/*/amd64/3.10.*", [0]),
        ("*/*/*/*", [0, 1, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_patterns(archive: Path, pattern: str, expected: list[int]) -> None:
    found = resolve(archive, pattern)
    assert names(found) == [KERNELS[index] for index in expected]
    assert not found.warnings


@pytest.mark.parametrize("name", ["arm64", "aarch64"])
def test_archs_filter_and_aliases(archive: Path, name: str) -> None:
    assert names(resolve(archive, f"debian/12/{name}/*", archs=("arm64",))) == [KERNELS[2]]
    assert names(resolve(archive, "debian/12/*/*-50-*", archs=("arm64", "x86_64"))) == [KERNELS[2], KERNELS[5]]


def test_a_kernel_named_twice_counts_once(archive: Path) -> None:
    assert names(resolve(archive, "debian/12/*/*", "debian/*/*/6.1.0-50-*")) == list(KERNELS[3:7])


def test_newest(archive: Path) -> None:
    assert names(resolve(archive, Newest(2, Pattern("debian/*/*/*")))) == [KERNELS[1], KERNELS[5], KERNELS[6]]
    assert names(resolve(archive, Newest(1, Pattern("*/*/*/*")), archs=("x86_64", "arm64"))) == [
        KERNELS[index] for index in (0, 1, 2, 6, 7, 9)
    ]


def test_each_source_reads_its_own_btf(archive: Path) -> None:
    for source in resolve(archive, "*/*/*/*").sources:
        assert source.read() == kernel_images.btf(str(source.kernel))
        assert source.origin == str(source.path)
        assert pickle.loads(pickle.dumps(source)) == source


def test_order_of_entries_does_not_matter(archive: Path) -> None:
    patterns = ["ubuntu/*/*/*", "debian/*/*/*", "centos/*/*/*"]
    assert resolve(archive, *patterns) == resolve(archive, *reversed(patterns))


def test_a_file(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.btf"
    path.write_bytes(kernel_images.btf("own"))
    found = resolve(archive, BtfFile(path, release="5.4.0-custom", arch="x86_64"), "centos/*/*/*")
    assert names(found) == ["-/-/x86_64/5.4.0-custom", KERNELS[0]]
    assert found.sources[0].read() == kernel_images.btf("own")


def test_files_need_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "own.btf"
    path.write_bytes(kernel_images.btf("own"))
    entry = BtfFile(path, release="5.4.0", arch="x86_64", distro="acme", version="1")
    assert names(resolve(None, entry)) == ["acme/1/x86_64/5.4.0"]
    assert names(resolve(tmp_path / "absent", entry)) == ["acme/1/x86_64/5.4.0"]


def test_the_same_kernel_from_two_places(archive: Path, tmp_path: Path) -> None:
    entry = BtfFile(tmp_path / "own.btf", release=HOST.release, arch="x86_64", distro="debian", version="12")
    entry.path.write_bytes(kernel_images.btf(KERNELS[5]))
    assert names(resolve(archive, "debian/12/*/*-50-*", entry)) == [KERNELS[5]]
    entry.path.write_bytes(kernel_images.btf("other"))
    with pytest.raises(KernelError, match=rf"{KERNELS[5]} is there twice, with different BTF: .*own.btf"):
        resolve(archive, "debian/12/*/*-50-*", entry)


def test_two_folders_for_one_architecture(archive: Path, tmp_path: Path) -> None:
    kernel_images.archive(tmp_path / "kernels", [KERNELS[2]])
    twin = tmp_path / "kernels/debian/12/aarch64" / f"{Kernel.parse(KERNELS[2]).release}.btf.tar.xz"
    twin.parent.mkdir()
    twin.write_bytes((archive / f"{KERNELS[2]}.btf.tar.xz").read_bytes())
    assert names(resolve(tmp_path / "kernels", "*/*/*/*", archs=("arm64",))) == [KERNELS[2]]


def test_the_host(archive: Path, the_host: Path) -> None:
    the_host.write_bytes(kernel_images.btf(KERNELS[5]))
    found = resolve(archive, Host(), "debian/12/*/6.1.0-*")
    assert names(found) == list(KERNELS[3:6])
    assert not found.warnings
    assert names(resolve(None, Host())) == [KERNELS[5]]


def test_a_host_without_btf_is_left_out(archive: Path, the_host: Path) -> None:
    found = resolve(archive, Host(), "centos/*/*/*")
    assert names(found) == [KERNELS[0]]
    (warning,) = found.warnings
    assert str(HOST) in warning
    assert str(the_host) in warning


def test_a_host_of_another_architecture_is_left_out(archive: Path) -> None:
    found = resolve(archive, Host(), "debian/12/*/*", archs=("arm64",))
    assert names(found) == [KERNELS[2]]
    assert found.warnings == (f"{HOST}, the running kernel, is left out: it is x86_64, and archs is arm64",)


FAULTS: dict[str, tuple[Entry, str]] = {
    "distro": (Pattern("debain/12/*/6.1.*"), r'matches no kernel .*no distro is "debain".*debian'),
    "version": (Pattern("ubuntu/22.04/*/*"), r'no version in ubuntu is "22.04"; the nearest of 2 are 20.04, 18.04'),
    "arch": (Pattern("debian/12/amd46/*"), r'no arch in debian/12 is "amd46"'),
    "release": (Pattern("debian/12/x86_64/6.1.0-49-cloud-amd64"), r"no release in .*; the nearest of 4 are 6.1.0-"),
    "arch filter": (Pattern("debian/12/arm64/*"), r"only kernels of arm64, and archs is x86_64: add the architecture"),
    "few parts": (Pattern("debian/12"), r'too few parts: .* so write "debian/12/\*/\*"'),
    "many parts": (Pattern("a/b/c/d/e"), r"write the four parts distro/version/arch/release"),
    "empty part": (Pattern("debian//x86_64/*"), r"write the four parts"),
    "empty": (Pattern(""), r"write the four parts"),
    "newest": (Newest(3, Pattern("suse/*/*/*")), r'no distro is "suse"'),
    "no file": (BtfFile(Path("/absent.btf"), release="5.4", arch="x86_64"), r'"/absent.btf" is not a file'),
    "file's arch": (BtfFile(Path("/absent.btf"), release="5.4", arch="arm64"), "a kernel of arm64, and archs is x"),
    "file's release": (BtfFile(Path("/absent.btf"), release="a/b", arch="x86_64"), r'"/absent.btf": .*be the release'),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(archive: Path, fault: str) -> None:
    entry, message = FAULTS[fault]
    with pytest.raises(KernelError, match=message):
        resolve(archive, entry)


def test_all_faults_at_once(archive: Path) -> None:
    alone = []
    for entry, _ in FAULTS.values():
        with pytest.raises(KernelError) as caught:
            resolve(archive, entry)
        alone.append(str(caught.value))
    with pytest.raises(KernelError) as caught:
        resolve(archive, *(entry for entry, _ in FAULTS.values()), "centos/*/*/*")
    assert str(caught.value) == "\n".join(alone)


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"no archive to look in: let btf-archive .*BTFHUB_ARCHIVE"):
        resolve(None, "debian/12/*/*")
    with pytest.raises(KernelError) as caught:
        resolve(tmp_path / "absent", "debian/12/*/*", "ubuntu/*/*/*")
    # said once, not for each pattern
    assert str(caught.value).count("there is no BTF archive here") == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(KernelError, match="has no kernels: it should hold"):
        resolve(tmp_path / "empty", "debian/12/*/*")


def test_an_empty_matrix(archive: Path) -> None:
    with pytest.raises(KernelError, match="the kernel matrix is empty"):
        resolve(archive)
    with pytest.raises(KernelError, match=rf"{HOST.release}, the running kernel, is left out(.|\n)*matrix is empty"):
        resolve(archive, Host())


def test_entries_are_values() -> None:
    assert Pattern("a/b/c/d") == Pattern("a/b/c/d")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Host().name = "x"  # type: ignore[attr-defined]
