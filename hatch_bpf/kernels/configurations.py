"""A kernel of the matrix -> the configuration that it was built with, if there is one.

Input: a `KernelSource`, or a kernel's package. Output: the configuration as libbpf reads it, plain or gzipped. An
archive has it beside the BTF and the image, as `distro/version/arch/release.config`; the running kernel's is where its
distribution has it. Raises `KernelError`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.companions import beside, check_locked, first_file, of_host, places
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.images import KernelImage
from hatch_bpf.kernels.matrix import KernelSource
from hatch_bpf.support.budget import CONFIG_BYTES
from hatch_bpf.support.files import read_regular

CONFIG_SUFFIX = ".config"
_OF_HOST = ("/boot/config-{}", "/lib/modules/{}/config")


def config_beside(btf: Path) -> Path:
    """Where an archive has the configuration of the kernel whose BTF is at a path of it."""
    return beside(btf, CONFIG_SUFFIX)


@dataclass(frozen=True)
class ConfigFile:
    """Where a kernel's configuration is."""

    path: Path
    sha256: str | None
    """`KernelSource.config_sha256`."""

    def read(self, kernel: Kernel) -> bytes:
        """The configuration of that kernel. Raises `KernelError` if it is not the locked one."""
        data = self._data()
        check_locked(f"this configuration of {kernel}", data, self.sha256, source=self.path, kernel=kernel)
        return data

    def digest(self) -> str:
        """Its sha256, for the lock."""
        return hashlib.sha256(self._data()).hexdigest()

    def _data(self) -> bytes:
        try:
            return read_regular(self.path, CONFIG_BYTES.most)
        except OSError as error:
            raise KernelError(f"cannot be read: {error.strerror}", source=self.path) from error


def find_config(source: KernelSource, folder: Path | None = None) -> ConfigFile | None:
    """A kernel's configuration, in the archive `folder` or where the kernel's BTF is; None if there is none."""
    found = first_file(places(source, folder, suffix=CONFIG_SUFFIX, host_patterns=_OF_HOST))
    return ConfigFile(found, source.config_sha256) if found else None


def config_to_keep(image: KernelImage, host: Kernel | None = None) -> bytes:
    """The configuration in the image's package; with `host`, that of the running kernel. Empty if there is none."""
    if host:
        found = first_file(of_host(_OF_HOST, host.release))
        return ConfigFile(found, None).read(host) if found else b""
    return image.holds.packaged.config if image.holds.packaged else b""
