"""A project's packages -> their objects, read and ready for the later stages.

Input: packages, and for each of their program sources clang, the command that the project names, or an object as it is.
Output: a `CompiledPackage` for each package; or `CompileError` with every source that does not compile.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import PurePosixPath

from hatch_bpf.arch import Arch
from hatch_bpf.compiler.clang import CompiledObject, Headers, Job, compile_source, find_headers
from hatch_bpf.compiler.inputs import digests, inside
from hatch_bpf.compiler.linker import link_objects
from hatch_bpf.compiler.other_compilers import compile_by_command, take_object
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.errors import CompileError, ObjectError
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.project.sources import Package, ProgramSource, Project
from hatch_bpf.support.context import Context


@dataclass(frozen=True)
class CompiledPackage:
    """A package's objects and what they were made from."""

    objects: Mapping[str, tuple[ObjectModel, ...]]
    """By architecture's name, in the order of the package's sources. Where several architectures have the same bytes,
    they share one model."""
    inputs: Mapping[str, str]
    """sha256 of everything of the project's own that the objects depend on, by path: see `inputs.py`."""
    compiler: str
    """The first line of `clang --version`, and the other compilers' commands."""

    @property
    def models(self) -> list[ObjectModel]:
        """The objects of all architectures."""
        return [model for of_arch in self.objects.values() for model in of_arch]


def compile_packages(packages: Sequence[Package], project: Project, context: Context) -> list[CompiledPackage]:
    """Compile every source for every architecture, as many at once as there are processors.

    Raises `CompileError` with every source that does not compile, `ObjectError` or `ToolchainError`.
    """
    parts = [part for package in packages for source in package.sources for part in source.parts]
    jobs = list(product(project.config.archs, parts))
    compiler = _Compiler(jobs, project, context)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(compiler.compile, jobs))
    failed = [result for result in results if isinstance(result, CompileError)]
    if failed:
        raise CompileError.of_several(failed)
    made = {job: result for job, result in zip(jobs, results, strict=True) if isinstance(result, CompiledObject)}
    # most warnings are the same for every architecture
    for source, text in dict.fromkeys((result.source, result.warnings) for result in made.values()):
        if text:
            context.warn(f"{source}, by {compiler.name(source)}:\n{text.rstrip()}")
    return [_compiled_package(package, project, made, compiler) for package in packages]


class _Compiler:
    """Makes the object of one source for one architecture, by whatever compiles that source."""

    def __init__(self, jobs: Sequence[Job], project: Project, context: Context) -> None:
        self._project, self._environ = project, context.environ
        by_clang = [job for job in jobs if project.is_clangs(job[1])]
        # a project that needs no clang builds without one
        self._clang = find_toolchain(context.environ) if by_clang else None
        found = find_headers(by_clang, project, self._clang, context.environ) if self._clang else Headers({}, ())
        self._headers, self.headers_made_of = found.texts, found.made_of

    def compile(self, job: Job) -> CompiledObject | CompileError:
        """The object, or why there is none. Raises `ObjectError` or `ToolchainError`."""
        arch, part = job
        root, config = self._project.root, self._project.config
        try:
            if part in self._project.commands:
                return compile_by_command(
                    part, self._project.commands[part], root=root, arch=arch, environ=self._environ
                )
            if self._clang is None or not self._project.is_clangs(part):
                return take_object(part, root=root, arch=arch)
            return compile_source(
                part,
                root=root,
                arch=arch,
                toolchain=self._clang,
                cflags=config.cflags,
                environ=self._environ,
                headers=self._headers.get(job, ()),
            )
        except CompileError as error:
            return error

    def name(self, part: PurePosixPath) -> str:
        """What a source is compiled by, for messages."""
        return self._project.commands.get(part, ("clang",))[0]

    @property
    def text(self) -> str:
        """`CompiledPackage.compiler`."""
        commands = sorted({command[0] for command in self._project.commands.values()})
        return "; ".join([*([self._clang.version_text] if self._clang else ()), *commands])


def _compiled_package(
    package: Package, project: Project, made: Mapping[Job, CompiledObject], compiler: _Compiler
) -> CompiledPackage:
    models: dict[tuple[str, bytes], ObjectModel] = {}

    def model(source: ProgramSource, arch: Arch) -> ObjectModel:
        key = source.object_name, _linked(source, [made[arch, part] for part in source.parts])
        if key not in models:
            try:
                models[key] = read_object(key[1], path=key[0])
            except ObjectError as error:
                said = str(error).removeprefix(f"{key[0]}: ")
                raise ObjectError(said, source=str(source.path)) from error
        return models[key]

    archs = project.config.archs
    jobs = product(archs, (part for source in package.sources for part in source.parts))
    files = {path for job in jobs for path in made[job].dependencies}
    files.update(inside(project.root, compiler.headers_made_of))
    return CompiledPackage(
        objects={arch.name: tuple(model(source, arch) for source in package.sources) for arch in archs},
        inputs=digests(files, project),
        compiler=compiler.text,
    )


def _linked(source: ProgramSource, parts: Sequence[CompiledObject]) -> bytes:
    if len(parts) == 1:
        return parts[0].data
    return link_objects([(str(part.source), part.data) for part in parts], name=source.object_name)
