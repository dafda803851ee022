"""Kernel configurations: where they are, and how `kernels add --image` and the lock treat them."""

from __future__ import annotations

import hashlib
import lzma
from pathlib import Path

import pytest

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import companions, configurations
from hatch_bpf.kernels.archive import path_of
from hatch_bpf.kernels.companions import Companion
from hatch_bpf.kernels.configurations import ConfigFile, config_to_keep, find_config
from hatch_bpf.kernels.identity import Kernel, host
from hatch_bpf.kernels.images import read_kernel_image
from hatch_bpf.kernels.lock import read_lock, resolve_locked
from hatch_bpf.kernels.matrix import Host, Pattern, resolve
from hatch_bpf.lab import selection
from hatch_bpf.support.budget import CONFIG_BYTES
from tests.cli.test_main import run
from tests.common import fake_qemu, kernel_images
from tests.common.kernel_images import member
from tests.common.projects import make_project

RELEASE = "6.1.0-50-amd64"
NAME = f"debian/12/x86_64/{RELEASE}"
KERNEL = Kernel.parse(NAME)
OTHER = "debian/12/x86_64/6.1.0-51-amd64"
CONFIG = b"CONFIG_HZ=250\n"
BTF = kernel_images.btf("task_struct")
VMLINUZ = kernel_images.bz_image(lzma.compress(kernel_images.image(BTF)))
OPTIONS = ("--release", RELEASE, "--distro", "debian", "--version", "12", "--arch", "x86_64")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = kernel_images.archive(tmp_path / "kernels", [NAME, OTHER])
    companions.CONFIG.beside(folder / path_of(KERNEL)).write_bytes(CONFIG)
    return folder


def test_a_configuration_is_beside_the_btf(archive: Path) -> None:
    with_config, without = resolve([Pattern("debian/12/*/*")], archs=["x86_64"], archive=archive).sources
    found = find_config(with_config)
    assert found is not None
    assert found.path == archive / f"{NAME}.config"
    assert found.read(KERNEL) == CONFIG
    assert find_config(without) is None


def test_a_guest_gets_the_configuration_of_the_folder_with_the_images(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "find_qemu", lambda _: "")
    images = tmp_path / "images"
    for name in (NAME, OTHER):
        path = companions.IMAGE.beside(images / path_of(Kernel.parse(name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fake_qemu.bzimage())
    other = companions.CONFIG.beside(images / path_of(KERNEL))
    other.write_bytes(b"CONFIG_HZ=1000\n")
    matrix = resolve([Pattern("debian/12/*/*")], archs=["x86_64"], archive=archive)
    assert selection.select(matrix, images, {"x86_64"}).configs == {KERNEL: ConfigFile(other, None)}


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("deb", f"./boot/config-{RELEASE}"),
        ("deb", f"./usr/lib/modules/{RELEASE}/config"),
        ("rpm", f"./lib/modules/{RELEASE}/config"),
    ],
)
def test_add_keeps_the_packages_configuration(kind: str, place: str, tmp_path: Path) -> None:
    vmlinuz = place.replace("config", "vmlinuz")
    package = tmp_path / f"linux.{kind}"
    # in the order in which package tools write them
    files = dict(
        sorted({place: CONFIG, vmlinuz: VMLINUZ, "./etc/config": b"another", "./boot/x/config-1": b"x"}.items())
    )
    members = (member(*item) for item in files.items())
    package.write_bytes(kernel_images.deb(*members) if kind == "deb" else kernel_images.rpm(files))
    done = run("kernels", "add", package, "--image", "--archive", tmp_path / "a", *OPTIONS)
    assert done.returncode == 0, done.stderr
    btf, image, config = (Path(line) for line in done.stdout.splitlines())
    assert (image, config) == (companions.IMAGE.beside(btf), companions.CONFIG.beside(btf))
    assert (image.read_bytes(), config.read_bytes()) == (VMLINUZ, CONFIG)
    # it is no kernel of the archive
    assert run("kernels", "list", tmp_path / "a").stdout == f"{NAME}  image\n"


def test_add_without_an_image_keeps_no_configuration(tmp_path: Path) -> None:
    package = tmp_path / "linux.deb"
    members = member(f"./boot/config-{RELEASE}", CONFIG), member(f"./boot/vmlinuz-{RELEASE}", VMLINUZ)
    package.write_bytes(kernel_images.deb(*members))
    assert run("kernels", "add", package, "--archive", tmp_path / "a", *OPTIONS).returncode == 0
    assert [path.name for path in (tmp_path / "a").rglob("*.*") if path.is_file()] == [f"{RELEASE}.btf.tar.xz"]


def test_a_configuration_of_absurd_size(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatch_bpf.kernels.formats.packages.CONFIG_BYTES", CONFIG_BYTES._replace(most=5))
    monkeypatch.setattr(configurations, "CONFIG_BYTES", CONFIG_BYTES._replace(most=5))
    names = {f"./boot/config-{RELEASE}": CONFIG, f"./boot/vmlinuz-{RELEASE}": VMLINUZ}
    for content in (kernel_images.deb(*(member(*item) for item in names.items())), kernel_images.rpm(names)):
        (tmp_path / "package").write_bytes(content)
        with pytest.raises(KernelError, match="package: more than 5 bytes of kernel configuration"):
            read_kernel_image(tmp_path / "package")
    with pytest.raises(KernelError, match=r"\.config: cannot be read: it has more than 5 bytes"):
        ConfigFile(archive / f"{NAME}.config", None).read(KERNEL)


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="config: cannot be read: No such file or directory"):
        ConfigFile(tmp_path / "config", None).read(KERNEL)


def test_the_hosts_configuration_is_its_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configurations, "CONFIG", Companion(".config", (f"{tmp_path}/config-{{}}",)))
    monkeypatch.setattr("hatch_bpf.kernels.matrix.HOST_BTF", tmp_path)
    (source,) = resolve([Host()], archs=[host().arch], archive=None).sources
    (tmp_path / "vmlinuz").write_bytes(VMLINUZ)
    image = read_kernel_image(tmp_path / "vmlinuz")
    assert find_config(source) is None
    assert config_to_keep(image, host()) == b""
    (tmp_path / f"config-{host().release}").write_bytes(CONFIG)
    found = find_config(source)
    assert found is not None
    assert found.read(source.kernel) == config_to_keep(image, host()) == CONFIG


def test_the_lock_covers_configurations(archive: Path, tmp_path: Path) -> None:
    options = f'archs = ["x86_64"]\nbtf-archive = "{archive}"\nkernels = ["debian/12/*/*"]\non-unportable = "ignore"'
    project = make_project(tmp_path / "p", options=options)
    assert run("kernels", "lock", cwd=project).returncode == 0
    text = (project / "bpf-kernels.lock").read_text()
    assert text.endswith(f'\n[config-sha256]\n"{NAME}" = "{hashlib.sha256(CONFIG).hexdigest()}"\n')
    # whoever has no configurations does not drop them from the lock
    config = companions.CONFIG.beside(archive / path_of(KERNEL))
    config.unlink()
    assert run("kernels", "lock", cwd=project).returncode == 0
    assert (project / "bpf-kernels.lock").read_text() == text
    config.write_bytes(b"CONFIG_HZ=1000\n")
    assert run("kernels", "lock", cwd=project).stdout == f"! {NAME}\n"


def test_a_configuration_that_is_not_the_locked_one(archive: Path, tmp_path: Path) -> None:
    options = f'archs = ["x86_64"]\nbtf-archive = "{archive}"\nkernels = ["debian/12/*/*"]\non-unportable = "ignore"'
    project = make_project(tmp_path / "p", options=options)
    assert run("kernels", "lock", cwd=project).returncode == 0
    lock = read_lock(project / "bpf-kernels.lock")
    assert lock is not None
    matrix = resolve_locked(
        [Pattern("debian/12/*/*")], archs=["x86_64"], archive=archive, lock=lock, path=project / "bpf-kernels.lock"
    )
    companions.CONFIG.beside(archive / path_of(KERNEL)).write_bytes(b"CONFIG_HZ=1000\n")
    companions.CONFIG.beside(archive / path_of(Kernel.parse(OTHER))).write_bytes(CONFIG)
    for source, why in zip(matrix.sources, ("its sha256 is", "it is not there"), strict=True):
        found = find_config(source)
        assert found is not None
        with pytest.raises(KernelError, match=f"is not the one that bpf-kernels.lock has: {why}"):
            found.read(source.kernel)
