"""What the lab takes from a kernel's packages: its modules, its configuration, and its image, with the BTF inside."""

from __future__ import annotations

import lzma
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from hatch_bpf.errors import LabError
from hatch_bpf.kernels.archive import path_of
from hatch_bpf.kernels.companions import CONFIG, IMAGE
from hatch_bpf.kernels.formats.kernel_file import read_btf
from hatch_bpf.kernels.identity import Kernel
from tests.lab.debian import CACHE, Apt
from tests.lab.debs import deb_files
from tests.lab.step import Booted

IMAGES = CACHE / "images"
"""An archive of the kernels that were booted: their BTF, and their images and configurations beside it."""
MODULES = ("sch_ingress", "cls_bpf")
"""What Debian's kernels need for tc, in the order of loading."""
_MAIN = "import sys; from hatch_bpf.cli.main import main; sys.exit(main())"


def hatch_bpf(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; status 1, which is a verdict, is not an error."""
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise LabError(f"hatch-bpf {' '.join(arguments)} ends with status {done.returncode}")
    return done


def fetch(kernel: Kernel, apt: Apt) -> tuple[Booted, dict[str, bytes]]:
    """A kernel, and its modules by file name; its image and configuration are in `IMAGES` afterwards."""
    if not IMAGE.beside(IMAGES / path_of(kernel)).exists():
        parts = ["--distro", kernel.distro, "--version", kernel.version]
        hatch_bpf("kernels", "add", str(apt.fetch(kernel)), "--image", "--archive", str(IMAGES), *parts)
    config, modules = _beside(apt.fetch_beside(kernel), kernel)
    # from Linux 6.19 on Debian has it in another package than the image
    CONFIG.beside(IMAGES / path_of(kernel)).write_text(config)
    return Booted(kernel, read_btf(apt.fetch(kernel)), config), modules


def _beside(packages: Sequence[Path], kernel: Kernel) -> tuple[str, dict[str, bytes]]:
    """The kernel's configuration, and its modules."""
    config, modules = "", {}
    for package in packages:
        for member, read in deb_files(package):
            path = PurePosixPath(member.name)
            stem = path.name.removesuffix(".xz").removesuffix(".ko")
            if stem in MODULES and ".ko" in path.suffixes:
                data = read()
                modules[f"{stem}.ko"] = lzma.decompress(data) if path.suffix == ".xz" else data
            elif path.name == f"config-{kernel.release}" or path.parts[-3:] == ("modules", kernel.release, "config"):
                config = read().decode()
    return config, modules
