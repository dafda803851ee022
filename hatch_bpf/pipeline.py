"""The whole flow, on one screen: `build(Project) -> Artifacts`. START READING HERE.

    Project ─► clang ─► objects ─┬► minimized BTFs ─► `_bpf` folder ─┐
    kernel matrix ─► kernel BTF ─┴► portability report               ├─► Artifacts
                                 └► skeletons ───────────────────────┘

Each stage is a module with one main function; this one only calls them in order. It reads the project and the BTF
archive and writes nothing: the front ends put the artifacts where their build system wants them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from hatch_bpf.compiler.clang import CompiledPackage, compile_package
from hatch_bpf.kernels.matrix import Matrix
from hatch_bpf.kernels.remote.fetch import Progress
from hatch_bpf.per_kernel import Watch, fit_all
from hatch_bpf.portability.text import render_failures, render_summary
from hatch_bpf.portability.verdicts import PortabilityError, Report, joined
from hatch_bpf.project.declared_kernels import Notify, find_kernels
from hatch_bpf.project.sources import Package, Project
from hatch_bpf.reuse import shipped
from hatch_bpf.support.progress import PacedLines
from hatch_bpf.wheel.artifacts import Artifact, Artifacts
from hatch_bpf.wheel.bundled_libbpf import bundle
from hatch_bpf.wheel.contents import lay_out


def build(
    project: Project,
    *,
    notify: Notify,
    environ: Mapping[str, str] = os.environ,
    reuse: bool = True,
    downloads: Callable[[Progress], None] = lambda _: None,
    watch: Watch | None = None,
    known: Matrix | None = None,
) -> Artifacts:
    """Make everything that the BPF programs of a project need. Raises the `HatchBpfError` of the stage that fails.

    With `reuse`, objects and minimized BTFs that an earlier build left in the source tree serve if they still fit.
    `downloads` and `watch` are for who can show how far it has come; without `watch` there is a line now and then.
    `known` are the project's kernels, where somebody has just found them.
    """
    config, told = project.config, Told(notify)
    bundled = bundle(config.archs[0]) if config.libbpf == "bundle" else None
    packages: list[tuple[Package, CompiledPackage, shipped.Prebuilt | None]] = []
    for package in project.packages:
        earlier = shipped.find(package, project, notify) if reuse else None
        compiled = earlier.compiled if earlier else compile_package(package, project, environ)
        packages.append((package, compiled, earlier))
    objects = [compiled.objects for _, compiled, _ in packages]
    programs = [model for of_package in objects for models in of_package.values() for model in models]
    config.alternatives.check(programs)
    is_prebuilt = [earlier is not None for _, _, earlier in packages]
    matrix = known or find_kernels(config, lock=project.lock, only_host=all(is_prebuilt))
    matrix.warn(told)
    matrix.download(notify, downloads)
    shown = watch or PacedLines(notify, "kernels")
    fitted = fit_all(objects, matrix, minimizer=config.minimizer, watch=shown, alternatives=config.alternatives)
    judge(joined(of_package.report for of_package in fitted), project, told)
    files: list[Artifact] = []
    for (package, compiled, earlier), made in zip(packages, fitted, strict=True):
        minimized = {**(earlier.minimized if earlier else {}), **made.minimized}
        files += lay_out(package, compiled, minimized, config, bundled, programs=programs)
    in_order = tuple(sorted(files, key=lambda file: file.wheel_path))
    read = {path for _, compiled, _ in packages for path in compiled.read}
    whole = not bundled and not any(is_prebuilt)
    platform = bundled.platform if bundled else "any"
    return Artifacts(in_order, platform, tuple(told.lines), tuple(sorted(read)) if whole else None)


class Told:
    """Passes lines on, and keeps them."""

    def __init__(self, notify: Notify) -> None:
        self.lines: list[str] = []
        self._notify = notify

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._notify(line)


def judge(report: Report, project: Project, notify: Notify) -> None:
    """Tell the verdicts, and do about them what `on-unportable` says. Raises `PortabilityError`."""
    if project.config.on_unportable == "ignore" or not report.kernels:
        return
    notify(render_summary(report).rstrip())
    if report.exit_status:
        failures = render_failures(report).rstrip()
        if project.config.on_unportable == "error":
            raise PortabilityError(f'{failures}\n(the option on-unportable = "warn" builds all the same)', report)
        notify(f"warning: {failures}")
