"""Program source -> BPF object: one run of clang, then DWARF is stripped.

Input: a `NAME.bpf.c` and an architecture. Output: a `CompiledObject`, with the same bytes wherever the project lies.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from hatch_bpf.arch import Arch
from hatch_bpf.compiler.identifiers import HEADER, names_in
from hatch_bpf.compiler.inputs import inside
from hatch_bpf.compiler.strip import strip_debug
from hatch_bpf.compiler.toolchain import INSTALL_LIBBPF_HEADERS, Toolchain, find_toolchain, tool_environment
from hatch_bpf.compiler.vmlinux_h import Header, find_header, versions
from hatch_bpf.errors import CompileError, ToolchainError
from hatch_bpf.kernels.formats.elf import MAGIC
from hatch_bpf.project.sources import Project
from hatch_bpf.support.context import Context
from hatch_bpf.support.files import disk_errors, write_whole
from hatch_bpf.support.scratch import Scratch
from hatch_bpf.support.store import INCLUDE, RESULTS, Store, cache_dir

DEFAULT_FLAGS = (
    "-O2",  # the verifier expects optimized code, and the kernel's developers test nothing else
    "-mcpu=v1",  # every kernel runs this instruction set; clang's default depends on its version
    "-Wall",  # shown, and no reason to fail: other people's sources have warnings and load
    "-fno-stack-protector",  # some distributions switch it on, and BPF has no __stack_chk_fail
)
"""Flags that `cflags` may override."""

REQUIRED_FLAGS = (
    "-g",  # BTF is made from debug information
    "-c",
    "-fno-ident",  # the compiler's name and version don't belong in the object
    "-fno-addrsig",  # a table for linkers, in terms of symbol numbers that stripping changes
    "-fno-asynchronous-unwind-tables",  # libbpf warns of .eh_frame, which some clangs add
    "-fno-unwind-tables",
    "-fdebug-compilation-dir=.",  # no absolute path in the object
)
"""Flags that the rest of hatch-bpf relies on: they follow `cflags`."""
CRASH = "PLEASE submit a bug report"
"""clang prints this before its own stack trace when it crashes, after naming the line that it could not translate.
Before clang 18 a signed division does that, for example."""


@dataclass(frozen=True)
class CompiledObject:
    """One translation unit's object for one architecture."""

    source: PurePosixPath
    """The program source, relative to the project."""
    data: bytes
    """The ELF, without DWARF."""
    warnings: str
    """The compiler's output, if it said anything."""
    dependencies: tuple[PurePosixPath, ...]
    """The project's own files that went into the object, the source among them; relative to the project, sorted."""


def compile_commands(project: Project, context: Context) -> bytes:
    """How each translation unit is compiled for the first architecture, as a JSON compilation database.

    The vmlinux.h that a build would generate goes to the cache folder, unpruned, since an edited program may use more
    types. Raises `OutputError` if it cannot be written.
    """
    config, environ = project.config, context.environ
    toolchain = find_toolchain(environ)
    jobs = [(config.archs[0], part) for part in project.parts if project.is_clangs(part)]
    folders = {
        part: _write_header(header.whole(), environ)
        for (_, part), header, _ in _who_includes(jobs, project, toolchain, environ)
    }
    entries = [
        {
            "directory": str(project.root),
            "file": str(part),
            "arguments": [
                *command(part, root=project.root, arch=arch, toolchain=toolchain, cflags=config.cflags),
                *(("-isystem", str(folders[part])) if part in folders else ()),
            ],
        }
        for arch, part in jobs
    ]
    return json.dumps(entries, indent=2).encode() + b"\n"


def _write_header(text: str, environ: Mapping[str, str]) -> Path:
    """Write a vmlinux.h and return its folder; the same text always has the same folder."""
    data = text.encode()
    folder = cache_dir(environ) / INCLUDE / sha256(data).hexdigest()[:16]
    with disk_errors():
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / HEADER, data)
    return folder


Job = tuple[Arch, PurePosixPath]
"""An architecture, and a source to compile for it."""


@dataclass(frozen=True)
class Headers:
    """The generated vmlinux.h of each program that includes one."""

    texts: Mapping[Job, Iterable[str]]
    """Texts to try in turn, by architecture and source."""
    made_of: Sequence[Path]


def find_headers(jobs: Sequence[Job], project: Project, toolchain: Toolchain, environ: Mapping[str, str]) -> Headers:
    """The headers that the option `vmlinux-h` asks for, each pruned to its program."""
    texts, made_of = dict[Job, Iterable[str]](), dict[Path, None]()
    for job, header, names in _who_includes(jobs, project, toolchain, environ):
        texts[job] = versions(header, names)
        made_of[header.path] = None
    return Headers(texts, list(made_of))


def _who_includes(
    jobs: Sequence[Job], project: Project, toolchain: Toolchain, environ: Mapping[str, str]
) -> Iterator[tuple[Job, Header, Set[str]]]:
    """The jobs whose source includes a generated vmlinux.h, with that header and the names that the source uses.

    A kernel's BTF is read only if some program needs it.
    """
    config, found, store = project.config, dict[str, Header](), Store(cache_dir(environ) / RESULTS)
    for arch, part in jobs if config.vmlinux_h else ():
        names = names_in(
            project.root / part,
            root=project.root,
            cflags=config.cflags,
            system_includes=toolchain.includes,
        )
        if names.includes_header:
            kernel = config.vmlinux_h[arch.name]
            if kernel not in found:
                found[kernel] = find_header(kernel, root=project.root, archive=config.btf_archive, store=store)
            yield (arch, part), found[kernel], names.names


def command(source: PurePosixPath, *, root: Path, arch: Arch, toolchain: Toolchain, cflags: Sequence[str]) -> list[str]:
    """The clang command, except for where the output goes. Run it in `root`."""
    return [
        *toolchain.clang,
        "-target",
        arch.clang_target + toolchain.target_suffix,
        f"-D__TARGET_ARCH_{arch.target_macro}",
        *DEFAULT_FLAGS,
        f"-ffile-prefix-map={root}=.",
        *cflags,
        *REQUIRED_FLAGS,
        # the name of the folder must not get into the object
        *(flag for own in toolchain.own_includes for flag in ("-isystem", str(own), f"-ffile-prefix-map={own}=libbpf")),
        # after all others, so that they only fill gaps such as asm/types.h
        *(flag for folder in toolchain.system_includes for flag in ("-idirafter", str(folder))),
        operand(source),
    ]


def operand(source: PurePosixPath) -> str:
    """A source's path in a form that no compiler reads as an option: an option could load a plugin."""
    return f"./{source}" if str(source).startswith("-") else str(source)


def compile_source(
    source: PurePosixPath,
    *,
    root: Path,
    arch: Arch,
    toolchain: Toolchain,
    cflags: Sequence[str],
    environ: Mapping[str, str],
    headers: Iterable[str] = (),
) -> CompiledObject:
    """Compile `root / source`. `headers` are texts for vmlinux.h, tried in turn until one compiles without a warning.

    Raises `CompileError` with clang's own lines, or `ToolchainError` if system headers are missing.
    """
    argv = command(source, root=root, arch=arch, toolchain=toolchain, cflags=cflags)
    if source.name.startswith("@"):  # even inside a path, since clang passes the bare name to itself
        said = "clang takes a name that starts with @ for a list of options: rename it"
        raise CompileError(str(source), said, archs=[arch.name])
    with Scratch() as folder:
        made, rule, include = Path(folder, "object"), Path(folder, "dependencies"), Path(folder, "include")
        include.mkdir()
        # the name of a temporary folder must not get into the object
        inclusion = ("-isystem", str(include), f"-ffile-prefix-map={include}=.")

        def run() -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                [*argv, *inclusion, "-MD", "-MT", "object", "-MF", str(rule), "-o", str(made)],
                cwd=root,
                capture_output=True,
                check=False,
                env=tool_environment(environ),
            )

        done = None
        for text in headers:
            (include / HEADER).write_text(text, encoding="utf-8")
            done = run()
            if not done.returncode and not done.stderr:
                break
        done = done or run()
        stderr = done.stderr.decode("utf-8", "replace").replace(f"{include}/", "")
        if done.returncode:
            raise _refusal(source, arch, stderr)
        data = made.read_bytes() if made.is_file() else b""
        if not data.startswith(MAGIC):
            raise CompileError(str(source), f"{stderr}clang made no object{_why_none(cflags)}", archs=[arch.name])
        dependencies = rule.read_text(errors="surrogateescape")
    aside = (Path(folder), *toolchain.own_includes)  # hatch-bpf itself may be installed inside the project
    read = [path for path in _files_of_rule(root, dependencies) if not any(map(path.is_relative_to, aside))]
    for path in read:
        if not path.is_file():
            said = f"includes {path}, whose real name clang does not tell: rename it"
            raise CompileError(str(source), said, archs=[arch.name])
    return CompiledObject(source, strip_debug(data, path=str(source)), stderr, tuple(inside(root, read)))


_OTHER_OUTPUT = re.compile(
    r"-E|-S|-MM?|-fsyntax-only|-emit-(llvm|ast)|-flto.*|--analyze|--precompile|--?(version|help)|-###|-(print|dump).*"
)
"""Flags that make clang stop before it has an object, or write something else."""


def _why_none(cflags: Sequence[str]) -> str:
    flags = [flag for flag in cflags if _OTHER_OUTPUT.fullmatch(flag)] or cflags
    return f": the option cflags has {' '.join(flags)}, which asks it for something else: remove it" if flags else ""


_MISSING_TYPE = re.compile(
    r"error: (?:.*incomplete (?:definition of )?type '(?:const )?(?:struct|union|enum) "
    r"|no member named '\w+' in '(?:struct|union) |unknown type name ')"
)
_DEFINED_TWICE = re.compile(r"error: (?:redefinition of (?:enumerator )?'|typedef redefinition )")


def _refusal(source: PurePosixPath, arch: Arch, stderr: str) -> CompileError | ToolchainError:
    missing = re.search(r"fatal error: '((?:bpf|linux|asm)/[\w./-]+)' file not found", stderr)
    if missing:
        return ToolchainError(
            f"{source} includes <{missing[1]}>, which is not on this system. It comes with libbpf's development "
            f"package. {INSTALL_LIBBPF_HEADERS}"
        )
    if f"'{HEADER}' file not found" in stderr:
        stderr += f"The option vmlinux-h makes {HEADER} of a kernel's BTF.\n"
    said, crash, _ = stderr.partition(CRASH)
    if crash:
        stderr = f"{said}clang itself broke off here.\n"
    elif _DEFINED_TWICE.search(stderr):
        stderr += (
            f"A type is defined twice. {HEADER} has the kernel's types: a source that includes it must include no "
            "<linux/...> header that defines them too, and give its own types other names.\n"
        )
    elif _MISSING_TYPE.search(stderr):
        stderr += (
            f"If this is the kernel's: the option vmlinux-h makes {HEADER} of a kernel's BTF. Types differ between "
            f"architectures, and `host` has this machine's: name a BTF of {arch.name} for {arch.name}.\n"
        )
    return CompileError(str(source), stderr, archs=[arch.name])


def _files_of_rule(root: Path, rule: str) -> Iterator[Path]:
    """The files that a make rule depends on. clang turns backslashes in names into slashes."""
    words = re.split(r"(?<!\\)\s+", rule.replace("\\\n", " ").split(":", 1)[1].strip())
    return (root / word.replace("\\ ", " ").replace("\\#", "#").replace("$$", "$") for word in words)
