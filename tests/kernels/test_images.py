"""Kernel images: where they are, which are refused, and how `kernels add --image` and the lock treat them."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import path_of, read_archived
from hatch_bpf.kernels.companions import IMAGE, Companion
from hatch_bpf.kernels.identity import Kernel, host
from hatch_bpf.kernels.images import find_image
from hatch_bpf.kernels.matrix import BtfFile, Host, Pattern, resolve
from tests.cli.test_main import run
from tests.common import fake_qemu, kernel_images
from tests.common.projects import make_project

NAME = "debian/12/x86_64/6.1.0-50-amd64"
KERNEL = Kernel.parse(NAME)
OTHER = "debian/12/x86_64/6.1.0-51-amd64"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return kernel_images.archive(tmp_path / "kernels", [NAME, OTHER])


@pytest.fixture
def image(archive: Path) -> Path:
    path = IMAGE.beside(archive / path_of(KERNEL))
    path.write_bytes(fake_qemu.bzimage())
    return path


def test_an_image_is_beside_the_btf(archive: Path, image: Path) -> None:
    assert image.name == "6.1.0-50-amd64.vmlinuz"
    with_image, without = resolve([Pattern("debian/12/*/*")], archs=["x86_64"], archive=archive).sources
    found = find_image(with_image)
    assert found is not None
    assert found.path == image
    assert find_image(without) is None
    assert found.read(KERNEL).bootable == fake_qemu.bzimage()


def test_a_file_of_the_matrix_may_be_its_own_image(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(fake_qemu.bzimage())
    (source,) = resolve([BtfFile(path, "6.1.0-50-amd64", "x86_64")], archs=["x86_64"], archive=None).sources
    found = find_image(source)
    assert found is not None
    assert found.path == path


def test_an_image_that_another_folder_has(archive: Path, tmp_path: Path) -> None:
    other = IMAGE.beside(tmp_path / "others" / path_of(KERNEL))
    other.parent.mkdir(parents=True)
    other.write_bytes(fake_qemu.bzimage())
    source, _ = resolve([Pattern("debian/12/*/*")], archs=["x86_64"], archive=archive).sources
    found = find_image(source, tmp_path / "others")
    assert found is not None
    assert found.path == other


def test_list_says_which_kernels_have_an_image(archive: Path, image: Path) -> None:
    assert run("kernels", "list", archive).stdout.splitlines() == [f"{NAME}  image", OTHER]
    told = json.loads(run("kernels", "list", archive, "--json").stdout)["kernels"]
    assert [kernel["image"] for kernel in told] == [str(image), ""]


def test_add_an_image(tmp_path: Path) -> None:
    plain = kernel_images.bz_image(lzma.compress(kernel_images.image(kernel_images.btf("task_struct"))))
    vmlinuz = tmp_path / "vmlinuz"
    vmlinuz.write_bytes(plain)
    options = ("--release", "6.1.0-50-amd64", "--distro", "debian", "--version", "12", "--arch", "x86_64")
    done = run("kernels", "add", vmlinuz, "--image", "--archive", tmp_path / "a", *options)
    assert done.returncode == 0, done.stderr
    btf, image = (Path(line) for line in done.stdout.splitlines())
    assert read_archived(btf) == kernel_images.btf("task_struct")
    assert image.read_bytes() == plain
    assert image == IMAGE.beside(btf)


def test_add_an_image_without_btf(archive: Path, tmp_path: Path) -> None:
    vmlinuz = tmp_path / "vmlinuz"
    vmlinuz.write_bytes(fake_qemu.bzimage())
    options = ("--image", "--archive", archive, "--distro", "debian", "--version", "12", "--arch", "x86_64")
    done = run("kernels", "add", vmlinuz, *options, "--release", "6.1.0-50-amd64")
    assert done.returncode == 0, done.stderr
    assert IMAGE.beside(archive / path_of(KERNEL)).read_bytes() == fake_qemu.bzimage()
    done = run("kernels", "add", vmlinuz, *options, "--release", "6.1.0-99-amd64")
    assert done.returncode == 1
    assert "no BTF in it: add the kernel's BTF first, from another file" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (kernel_images.btf("x"), "this is no image that boots: name a vmlinuz, or the package that has it"),
        (fake_qemu.arm64_image(), "this image is of arm64, and debian/12/x86_64/6.1.0-50-amd64 is of x86_64"),
    ],
)
def test_what_is_refused_as_an_image(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    options = ("--release", "6.1.0-50-amd64", "--distro", "debian", "--version", "12", "--arch", "x86_64")
    done = run("kernels", "add", path, "--image", "--archive", tmp_path / "a", *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "a").exists()


def test_the_hosts_image_is_its_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatch_bpf.kernels.images.IMAGE", Companion(".vmlinuz", (f"{tmp_path}/vmlinuz-{{}}",)))
    monkeypatch.setattr("hatch_bpf.kernels.matrix.HOST_BTF", tmp_path)
    (source,) = resolve([Host()], archs=[host().arch], archive=None).sources
    assert find_image(source) is None
    (tmp_path / f"vmlinuz-{host().release}").write_bytes(b"")
    assert find_image(source) is not None


def test_the_lock_covers_images(archive: Path, image: Path, tmp_path: Path) -> None:
    options = f'archs = ["x86_64"]\nbtf-archive = "{archive}"\nkernels = ["debian/12/*/*"]\non-unportable = "ignore"'
    project = make_project(tmp_path / "p", options=options)
    assert run("kernels", "lock", cwd=project).returncode == 0
    text = (project / "bpf-kernels.lock").read_text()
    assert text.count(NAME) == 2
    assert text.count(OTHER) == 1
    # whoever has no images does not drop them from the lock
    kept = image.read_bytes()
    image.unlink()
    assert run("kernels", "lock", cwd=project).returncode == 0
    assert (project / "bpf-kernels.lock").read_text() == text
    image.write_bytes(kept + b"changed")
    refused = run("try", NAME, cwd=project, env={"PATH": fake_path(tmp_path)})
    assert refused.returncode == 1
    assert "is not the one that bpf-kernels.lock has: its sha256 is" in refused.stdout
    image.unlink()
    IMAGE.beside(archive / path_of(Kernel.parse(OTHER))).write_bytes(kept)
    refused = run("try", OTHER, cwd=project, env={"PATH": fake_path(tmp_path)})
    assert "is not the one that bpf-kernels.lock has: it is not there" in refused.stdout


def fake_path(folder: Path) -> str:
    """A PATH with a qemu that must not be started."""
    with pytest.MonkeyPatch.context() as patch:
        return fake_qemu.install(folder / "bin", "sys.exit('started')", patch)


def test_a_digest_outside_of_a_table_is_no_lock(tmp_path: Path) -> None:
    from hatch_bpf.kernels.lock import read_lock

    path = tmp_path / "bpf-kernels.lock"
    path.write_text(f'patterns = []\narchs = []\n"{NAME}" = "{"0" * 64}"\n[btf-sha256]\n')
    with pytest.raises(KernelError, match="line 3 is in no table"):
        read_lock(path)
