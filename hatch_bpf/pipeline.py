"""The whole flow, on one screen. START READING HERE.

    Project ─► clang ─► objects ─┬► minimized BTFs ─► `_bpf` folder ─┐
    kernel matrix ─► kernel BTF ─┴► portability report               ├─► Artifacts
                                 └► skeletons ───────────────────────┘

Every front end calls one of these three: `build()` makes all that goes into a wheel, `check()` only the report, and
`skeleton()` serves an object that was built elsewhere. Each stage is a room with one main function, called here in
order. Nothing is written: the front ends put the artifacts where their build system wants them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from hatch_bpf.compiler.packages import CompiledPackage, compile_packages
from hatch_bpf.kernels.matrix import Matrix
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.per_kernel import PerKernel, fit
from hatch_bpf.portability.text import render_failures, render_summary, render_warnings
from hatch_bpf.portability.verdicts import PortabilityError, Report, joined
from hatch_bpf.project.config import Config
from hatch_bpf.project.declared_kernels import find_kernels
from hatch_bpf.project.sources import Package, ProgramSource, Project
from hatch_bpf.reuse.shipped import Shipped, find_shipped
from hatch_bpf.support.context import Context, ignore
from hatch_bpf.support.own_libbpf import own_version
from hatch_bpf.wheel.artifacts import Artifact, Artifacts
from hatch_bpf.wheel.bundled_libbpf import bundle
from hatch_bpf.wheel.contents import lay_out


def build(project: Project, context: Context, *, use_shipped: bool = True) -> Artifacts:
    """Make everything that the BPF programs of a project need. Raises the `HatchBpfError` of the stage that fails.

    With `use_shipped`, objects and minimized BTFs that came with the sources serve if they still fit.
    """
    config = project.config
    bundled = bundle(config.archs) if config.libbpf == "bundle" else None
    packages = _objects(project, context, use_shipped=use_shipped)
    matrix = find_kernels(
        config, context.notify, lock=project.lock, only_host=all(package.shipped for package in packages)
    )
    matrix.download(context.notify, context.meter.downloads)
    fitted = _fit([package.compiled for package in packages], config, matrix, context)
    judge(joined(package.report for package in fitted), project, context)
    programs = [model for package in packages for model in package.compiled.models]
    files: list[Artifact] = []
    for package, made in zip(packages, fitted, strict=True):
        minimized = {**(package.shipped.minimized if package.shipped else {}), **made.minimized}
        files += lay_out(package.sources, package.compiled, minimized, config, bundled, programs=programs)
    in_order = tuple(sorted(files, key=lambda file: file.wheel_path))
    return Artifacts(in_order, bundled.platform if bundled else "any")


def check(project: Project, context: Context, *, matrix: Matrix | None = None) -> Report:
    """The verdict for every program of a project on its kernels, or on those of `matrix`. Raises as `build()`."""
    packages = _objects(project, context, use_shipped=True)
    matrix = matrix or find_kernels(project.config, context.notify, lock=project.lock)
    matrix.download(ignore, context.meter.downloads)
    fitted = _fit([package.compiled for package in packages], project.config, matrix, context)
    return joined(package.report for package in fitted)


def check_objects(objects: Sequence[ObjectModel], config: Config, matrix: Matrix, context: Context) -> Report:
    """The same for objects that belong to no project; `config` has the architectures to take them for."""
    config.alternatives.check(objects)
    compiled = CompiledPackage({arch.name: tuple(objects) for arch in config.archs}, inputs={}, compiler="")
    matrix.download(ignore, context.meter.downloads)
    # whatever libbpf loads them
    return _fit([compiled], replace(config, libbpf="system"), matrix, context)[0].report


def skeleton(model: ObjectModel, config: Config) -> list[Artifact]:
    """The skeleton of an object that was built elsewhere, with the `_bpf` folder that it needs."""
    config.alternatives.check([model])
    source = ProgramSource(PurePosixPath(f"{model.name}.bpf.c"), PurePosixPath(), 0)
    own = replace(model, path=source.object_name)
    compiled = CompiledPackage({config.archs[0].name: (own,)}, inputs={}, compiler="")
    return lay_out(Package((source,)), compiled, {}, config, None, programs=[own])


@dataclass(frozen=True)
class _PackageObjects:
    """A package's objects, and where they are from."""

    sources: Package
    compiled: CompiledPackage
    shipped: Shipped | None


def _objects(project: Project, context: Context, *, use_shipped: bool) -> list[_PackageObjects]:
    """The objects of every package: shipped ones that fit, and the rest compiled."""
    shipped = {p: find_shipped(p, project, context) for p in project.packages} if use_shipped else {}
    missing = [package for package in project.packages if not shipped.get(package)]
    compiled = dict(zip(missing, compile_packages(missing, project, context), strict=True))
    found = ((package, shipped.get(package)) for package in project.packages)
    packages = [_PackageObjects(p, serves.compiled if serves else compiled[p], serves) for p, serves in found]
    project.config.alternatives.check([model for package in packages for model in package.compiled.models])
    return packages


def _fit(compiled: Sequence[CompiledPackage], config: Config, matrix: Matrix, context: Context) -> list[PerKernel]:
    """Every kernel's minimized BTF and verdicts, for each package."""
    objects = [package.objects for package in compiled]
    libbpf = own_version() if config.libbpf == "bundle" else None
    return fit(objects, matrix, context, minimizer=config.minimizer, alternatives=config.alternatives, libbpf=libbpf)


def judge(report: Report, project: Project, context: Context) -> None:
    """Report the verdicts, and treat failures as `on-unportable` says. Raises `PortabilityError`."""
    if project.config.on_unportable == "ignore" or not report.kernels:
        return
    context.notify(render_summary(report).rstrip())
    for warning in render_warnings(report).splitlines():
        context.notify(warning)
    if report.exit_status:
        failures = render_failures(report).rstrip()
        if project.config.on_unportable == "error":
            raise PortabilityError(f'{failures}\n(the option on-unportable = "warn" builds all the same)', report)
        context.warn(failures)
