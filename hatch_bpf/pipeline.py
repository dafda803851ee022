"""The whole flow, on one screen: `build(Project) -> Artifacts`. START READING HERE.

    Project ─► clang ─► objects ─┬► minimized BTFs ─► `_bpf` folder ─┐
    kernel matrix ─► kernel BTF ─┴► portability report               ├─► Artifacts
                                 └► skeletons ───────────────────────┘

Each stage is a module with one main function; this one only calls them in order. It reads the project and the BTF
archive and writes nothing: the front ends put the artifacts where their build system wants them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hatch_bpf import bpftool, layout, min_core_btf
from hatch_bpf.arch import Arch
from hatch_bpf.bpf_object import ObjectModel, read_object
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compile import compile_source
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import Matrix, resolve
from hatch_bpf.layout import Artifact
from hatch_bpf.project import ProgramSource, Project
from hatch_bpf.toolchain import find_toolchain

MINIMIZERS = {"builtin": min_core_btf.minimize, "bpftool": bpftool.minimize}
Notify = Callable[[str], None]
"""Told of progress and warnings, a line each."""


@dataclass(frozen=True)
class Artifacts:
    """What a build makes."""

    files: tuple[Artifact, ...]
    """Sorted by their place in the wheel."""


def build(project: Project, *, notify: Notify, environ: Mapping[str, str] = os.environ) -> Artifacts:
    """Make everything that the BPF programs of a project need. Raises the `HatchBpfError` of the stage that fails."""
    objects = compile_all(project, environ)
    matrix = find_kernels(project, notify)
    files: list[Artifact] = []
    for bpf_dir, sources in project.packages.items():
        models = {arch.name: [objects[source, arch] for source in sources] for arch in project.config.archs}
        minimized = minimize_all(models, matrix, MINIMIZERS[project.config.minimizer], notify)
        files += layout.bpf_folder(bpf_dir, sources[0].tree_bpf_dir, models, minimized)
        for source in sources:
            by_arch = {arch.name: objects[source, arch] for arch in project.config.archs}
            files.append(layout.skeleton(source, by_arch, project.config))
    return Artifacts(tuple(sorted(files, key=lambda file: file.wheel_path)))


def compile_all(project: Project, environ: Mapping[str, str]) -> dict[tuple[ProgramSource, Arch], ObjectModel]:
    """Every source for every architecture, as many at once as there are processors."""
    config, toolchain = project.config, find_toolchain(environ)

    def make(job: tuple[ProgramSource, Arch]) -> ObjectModel:
        source, arch = job
        made = compile_source(
            source.path, root=project.root, arch=arch, toolchain=toolchain, cflags=config.cflags, environ=environ
        )
        return read_object(made.data, path=f"{source.name}.bpf.o")

    jobs = [(source, arch) for source in project.sources for arch in config.archs]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(jobs, pool.map(make, jobs), strict=True))


def find_kernels(project: Project, notify: Notify) -> Matrix:
    """The kernel matrix; a package may declare none and rely on the kernel's own BTF alone."""
    config = project.config
    if not config.kernels:
        return Matrix((), ())
    matrix = resolve(config.kernels, archs=[arch.name for arch in config.archs], archive=config.btf_archive)
    for warning in matrix.warnings:
        notify(f"warning: {warning}")
    return matrix


def minimize_all(
    models: Mapping[str, Sequence[ObjectModel]],
    matrix: Matrix,
    minimize: Callable[[Sequence[ObjectModel], Btf], bytes],
    notify: Notify,
) -> dict[Kernel, bytes]:
    """The minimized BTF of every kernel, for the objects of its architecture together."""
    minimized = {}
    for number, source in enumerate(matrix.sources, 1):
        kernel_btf = Btf(source.read(), source=source.origin)
        made = minimized[source.kernel] = minimize(models[source.kernel.arch], kernel_btf)
        sizes = f"{len(kernel_btf.data):,} -> {len(made):,} bytes of BTF"
        notify(f"{source.kernel}: {sizes} ({number} of {len(matrix.sources)})")
    return minimized
