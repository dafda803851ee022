"""A kernel of the matrix -> the configuration that it was built with, if there is one.

Input: a `KernelSource`, or a kernel's package. Output: the configuration as libbpf reads it, plain or gzipped. An
archive has it beside the BTF and the image, as `distro/version/arch/release.config`; the running kernel's is where its
distribution has it. Raises `KernelError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.companions import CONFIG
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.images import KernelImage
from hatch_bpf.kernels.locked import check_locked
from hatch_bpf.kernels.matrix import KernelSource
from hatch_bpf.support.budget import CONFIG_BYTES
from hatch_bpf.support.files import read_regular


@dataclass(frozen=True)
class ConfigFile:
    """Where a kernel's configuration is."""

    path: Path
    sha256: str | None
    """`KernelSource.config_sha256`."""

    def read(self, kernel: Kernel) -> bytes:
        """The configuration of that kernel. Raises `KernelError` if it is not the locked one."""
        try:
            data = read_regular(self.path, CONFIG_BYTES.most)
        except OSError as error:
            raise KernelError(f"cannot be read: {error.strerror}", source=self.path) from error
        check_locked(f"this configuration of {kernel}", data, self.sha256, source=self.path, kernel=kernel)
        return data


def find_config(source: KernelSource, folder: Path | None = None) -> ConfigFile | None:
    """A kernel's configuration, in the archive `folder` or where the kernel's BTF is; None if there is none."""
    found = CONFIG.find(source, folder)
    return ConfigFile(found, source.config_sha256) if found else None


def config_to_keep(image: KernelImage, host: Kernel | None = None) -> bytes:
    """The configuration in the image's package; with `host`, that of the running kernel. Empty if there is none."""
    if host:
        found = CONFIG.find_of_host(host.release)
        return ConfigFile(found, None).read(host) if found else b""
    return image.holds.packaged.config if image.holds.packaged else b""
