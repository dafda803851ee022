"""The files that a kernel has beside its BTF, and where each can be.

Input: a `KernelSource`, or the path of its BTF. Output: paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hatch_bpf.kernels.archive import path_of, suffix_of
from hatch_bpf.kernels.matrix import KernelSource


@dataclass(frozen=True)
class Companion:
    """A kind of file that a kernel can have beside its BTF."""

    suffix: str
    """The ending of its name in an archive, in place of the BTF's."""
    host_patterns: tuple[str, ...]
    """Where distributions have the running kernel's, with {} for its release."""

    def beside(self, btf: Path) -> Path:
        """Where an archive has the file of the kernel whose BTF is at a path of it."""
        return btf.with_name(btf.name.removesuffix(suffix_of(btf.name)) + self.suffix)

    def places_of_host(self, release: str) -> list[Path]:
        """Where the running kernel's can be."""
        return [Path(pattern.format(release)) for pattern in self.host_patterns]

    def find_of_host(self, release: str) -> Path | None:
        """The running kernel's; None if there is none."""
        return _first_file(self.places_of_host(release))

    def find(self, source: KernelSource, folder: Path | None) -> Path | None:
        """A kernel's, in the archive `folder` or where the kernel's BTF is; None if there is none."""
        places = [self.beside(folder / path_of(source.kernel))] if folder else []
        if source.is_host:
            places += self.places_of_host(source.kernel.release)
        elif not source.url:
            places.append(self.beside(source.path))
        return _first_file(places)


def _first_file(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


IMAGE = Companion(".vmlinuz", ("/boot/vmlinuz-{}", "/lib/modules/{}/vmlinuz"))
CONFIG = Companion(".config", ("/boot/config-{}", "/lib/modules/{}/config"))
