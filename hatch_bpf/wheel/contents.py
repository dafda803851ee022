"""Objects, skeletons and minimized BTFs -> `Artifact`s: every file that goes into the wheel, and where.

Input: the results of the earlier stages. Output: artifacts, each with its path in the wheel and in the source tree.
This module decides the layout of the folder `_bpf`, which `runtime/` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hatch_bpf import __version__
from hatch_bpf.compiler.packages import CompiledPackage
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.project.config import Config
from hatch_bpf.project.sources import Package
from hatch_bpf.runtime.host.digest import sha256
from hatch_bpf.wheel.artifacts import GENERATED, RUNTIME, Artifact
from hatch_bpf.wheel.bundled_libbpf import Bundle
from hatch_bpf.wheel.embedded_btfs import pack_btfs
from hatch_bpf.wheel.record import RECORD_NAME, Record
from hatch_bpf.wheel.skeletons import skeleton_text

KERNELS_NAME = "kernels.btfs"
"""The file of minimized BTFs and the kernels they are for."""


def lay_out(
    package: Package,
    compiled: CompiledPackage,
    minimized: Mapping[Kernel, bytes],
    config: Config,
    bundled: Bundle | None,
    *,
    programs: Sequence[ObjectModel],
) -> list[Artifact]:
    """All files of a package: its `_bpf` folder, and a skeleton for each program source. Raises `SkeletonError`.

    `programs` are the objects of all packages: every name in `events` and `types` must be in one of them.
    """
    embedded = pack_btfs(minimized)
    folder = _bpf_folder(package, config, compiled, embedded, bundled)
    kernels, libraries = (KERNELS_NAME, sha256(embedded)), sha256(bundled.index) if bundled else ""
    skeletons = []
    for number, source in enumerate(package.sources):
        models = {arch: of_arch[number] for arch, of_arch in compiled.objects.items()}
        text = skeleton_text(source, models, config, programs, kernels=kernels, libraries=libraries)
        name = f"{source.name}_skel.py"
        skeletons.append(Artifact(source.wheel_dir / name, source.path.parent / name, text.encode()))
    return folder + skeletons


def _bpf_folder(
    package: Package,
    config: Config,
    compiled: CompiledPackage,
    embedded: bytes,
    bundled: Bundle | None,
) -> list[Artifact]:
    """Objects by architecture, minimized BTFs, the record of the build, libraries, the runtime."""
    made = {
        **{f"{arch}/{model.path}": model.elf for arch, models in compiled.objects.items() for model in models},
        KERNELS_NAME: embedded,
    }
    outputs = {name: sha256(data) for name, data in made.items()}
    record = Record(compiled.compiler, config.digest, compiled.inputs, outputs)
    files: dict[str, bytes | Path] = {
        "__init__.py": f'{GENERATED} {__version__}; do not edit.\n"""BPF objects and what loads them."""\n'.encode(),
        **made,
        RECORD_NAME: record.encode(),
        **(bundled.files if bundled else {}),
        **{path.relative_to(RUNTIME.parent).as_posix(): path for path in sorted(RUNTIME.rglob("*.py"))},
    }
    return [Artifact(package.wheel_dir / name, package.tree_dir / name, content) for name, content in files.items()]
