"""The kernels of a matrix -> those that can be booted here, with their images; and why the others cannot.

Input: a matrix, and what guests run on. Output: a `Selection`, which has the kernels' configurations too, or `LabError`
if there are none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hatch_bpf.errors import LabError
from hatch_bpf.kernels.configurations import ConfigFile, find_config
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.images import ImageFile, find_image
from hatch_bpf.kernels.matrix import Matrix, matching
from hatch_bpf.lab.machine import MACHINES, find_qemu

NO_IMAGE = "there is no image of it: get its package, then `hatch-bpf kernels add PACKAGE --image --archive FOLDER`"


@dataclass(frozen=True)
class Selection:
    """Which kernels are tried."""

    images: Mapping[Kernel, ImageFile]
    configs: Mapping[Kernel, ConfigFile]
    """The configurations of those kernels that have one."""
    left_out: Mapping[Kernel, str]


def narrow(matrix: Matrix, patterns: Sequence[str]) -> Matrix:
    """The kernels that patterns match; all without patterns. Raises `LabError` if there are none."""
    if not patterns:
        return matrix
    sources = matching(matrix.sources, patterns)
    if not sources:
        raise LabError(f"{' '.join(patterns)} matches none of the {len(matrix.sources)} kernels of the matrix")
    return replace(matrix, sources=sources)


def select(matrix: Matrix, folder: Path | None, archs: Collection[str]) -> Selection:
    """The kernels that have an image, in the archive `folder` or beside their BTF, and are of one of `archs`."""
    images, configs, left_out = {}, {}, {}
    for source in matrix.sources:
        arch = source.kernel.arch
        image = find_image(source, folder)
        if arch not in MACHINES:
            left_out[source.kernel] = f"kernels of {arch} cannot be booted: those of {' and '.join(MACHINES)} can"
        elif image is None:
            left_out[source.kernel] = NO_IMAGE
        elif arch not in archs:
            left_out[source.kernel] = f"its guest needs a Python of {arch}: name a root file system with --root"
        else:
            find_qemu(arch)
            images[source.kernel] = image
            if config := find_config(source, folder):
                configs[source.kernel] = config
    if not images:
        why = next(iter(left_out.values()), "the matrix is empty")
        raise LabError(f"none of the {len(matrix.sources)} kernels can be tried: {why}")
    return Selection(images, configs, left_out)
