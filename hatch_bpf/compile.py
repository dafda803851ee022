"""Program source -> BPF object: one run of clang, with DWARF taken out.

Input: a `NAME.bpf.c` and an architecture. Output: a `CompiledObject`; the same bytes wherever the project lies.
`compile_package()` does so for all of a package and reads the objects.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path, PurePosixPath

from hatch_bpf.arch import Arch
from hatch_bpf.bpf_object import ObjectModel, read_object
from hatch_bpf.elf_strip import strip_debug
from hatch_bpf.errors import CompileError, ToolchainError
from hatch_bpf.project import Package, ProgramSource, Project
from hatch_bpf.toolchain import INSTALL_LIBBPF_HEADERS, Toolchain, find_toolchain, tool_environment

DEFAULT_FLAGS = (
    "-O2",  # the verifier expects optimised code: nothing else is tested with it
    "-mcpu=v1",  # the instruction set of every kernel; clang's own default changes with its version
    "-Wall",
    "-Werror",  # a warning in BPF code is nearly always a program that the verifier rejects
    "-fno-stack-protector",  # some distributions switch it on, and BPF has no __stack_chk_fail
)
"""What `cflags` may override."""

REQUIRED_FLAGS = (
    "-g",  # BTF is made from debug information
    "-c",
    "-fno-ident",  # the compiler's name and version don't belong in the object
    "-fno-addrsig",  # a table for linkers, in terms of symbol numbers that stripping changes
    "-fno-asynchronous-unwind-tables",  # libbpf warns of .eh_frame, which some clangs add
    "-fno-unwind-tables",
    "-fdebug-compilation-dir=.",  # no absolute path in the object
)
"""What the rest of hatch-bpf relies on."""


@dataclass(frozen=True)
class CompiledObject:
    """What one run of clang made."""

    source: PurePosixPath
    """The program source, relative to the project."""
    arch: Arch
    data: bytes
    """The ELF, without DWARF."""
    warnings: str
    """clang's output, if it said anything."""
    dependencies: tuple[PurePosixPath, ...]
    """The files of the project that the object was made of, relative to it, sorted; the source is one."""


@dataclass(frozen=True)
class CompiledPackage:
    """A package's objects and what they were made of."""

    objects: Mapping[str, tuple[ObjectModel, ...]]
    """By architecture's name, in the order of the package's sources."""
    inputs: Mapping[str, str]
    """sha256 of the sources and of the project's own headers, by path relative to the project."""
    compiler: str
    """What made them: the first line of `clang --version`."""


def compile_package(package: Package, project: Project, environ: Mapping[str, str]) -> CompiledPackage:
    """Every source for every architecture, as many at once as there are processors. Raises as `compile_source()`."""
    config, toolchain = project.config, find_toolchain(environ)

    def make(job: tuple[Arch, ProgramSource]) -> CompiledObject:
        arch, source = job
        return compile_source(
            source.path, root=project.root, arch=arch, toolchain=toolchain, cflags=config.cflags, environ=environ
        )

    jobs = list(product(config.archs, package.sources))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = dict(zip(jobs, pool.map(make, jobs), strict=True))
    dependencies = sorted({path for compiled in made.values() for path in compiled.dependencies})
    return CompiledPackage(
        objects={
            arch.name: tuple(
                read_object(made[arch, source].data, path=source.object_name) for source in package.sources
            )
            for arch in config.archs
        },
        inputs={str(path): sha256((project.root / path).read_bytes()).hexdigest() for path in dependencies},
        compiler=toolchain.version_text,
    )


def command(source: PurePosixPath, *, root: Path, arch: Arch, toolchain: Toolchain, cflags: Sequence[str]) -> list[str]:
    """The whole clang command but for its output, to be run in `root`."""
    return [
        *toolchain.clang,
        "-target",
        arch.clang_target + toolchain.target_suffix,
        f"-D__TARGET_ARCH_{arch.target_macro}",
        *DEFAULT_FLAGS,
        f"-ffile-prefix-map={root}=.",
        *cflags,
        *REQUIRED_FLAGS,
        # behind all others, so that they only fill gaps such as asm/types.h
        *(flag for folder in toolchain.system_includes for flag in ("-idirafter", str(folder))),
        str(source),
    ]


def compile_source(
    source: PurePosixPath,
    *,
    root: Path,
    arch: Arch,
    toolchain: Toolchain,
    cflags: Sequence[str],
    environ: Mapping[str, str],
) -> CompiledObject:
    """Compile `root / source`. Raises `CompileError` with clang's own lines; `ToolchainError` where headers miss."""
    argv = command(source, root=root, arch=arch, toolchain=toolchain, cflags=cflags)
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-") as folder:
        made, rule = Path(folder, "object"), Path(folder, "dependencies")
        done = subprocess.run(
            [*argv, "-MD", "-MF", str(rule), "-o", str(made)],
            cwd=root,
            capture_output=True,
            check=False,
            env=tool_environment(environ),
        )
        stderr = done.stderr.decode("utf-8", "replace")
        if done.returncode:
            raise _refusal(source, argv, stderr)
        data, dependencies = made.read_bytes(), rule.read_text(errors="surrogateescape")
    return CompiledObject(source, arch, strip_debug(data, path=str(source)), stderr, tuple(_inside(root, dependencies)))


def _refusal(source: PurePosixPath, argv: Sequence[str], stderr: str) -> CompileError | ToolchainError:
    missing = re.search(r"fatal error: '((?:bpf|linux|asm)/[\w./-]+)' file not found", stderr)
    if missing:
        return ToolchainError(
            f"{source} includes <{missing[1]}>, which is not on this system. It comes with libbpf's development "
            f"package. {INSTALL_LIBBPF_HEADERS}"
        )
    return CompileError(str(source), argv, stderr)


def _inside(root: Path, rule: str) -> list[PurePosixPath]:
    """The files of a make rule that lie in the project, by their resolved names."""
    words = re.split(r"(?<!\\)\s+", rule.replace("\\\n", " ").split(":", 1)[1].strip())
    home = root.resolve()
    paths = {(root / word.replace("\\ ", " ")).resolve() for word in words}
    return sorted(PurePosixPath(path.relative_to(home).as_posix()) for path in paths if path.is_relative_to(home))
