"""The command `hatch-bpf`: the pipeline, and each stage by itself.

Input: a command line. Output: an exit status: 0 for success, 1 for failure, 2 for a command line that cannot be used
(and for `check`, where 1 is a verdict, any input), 130 when interrupted, 141 when nobody reads on. Each command maps
its options to a status.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_bpf import __version__
from hatch_bpf.cli import cache, kernels
from hatch_bpf.cli.common import HelpFormatter, load_project, named_archive, say
from hatch_bpf.cli.terminal import Meter, colours, console, meter, shows_progress
from hatch_bpf.errors import HatchBpfError, KernelError, ObjectError, OutputError
from hatch_bpf.support.files import disk_errors

if TYPE_CHECKING:  # each command imports what it needs, so that --help stays quick
    from hatch_bpf.kernels.matrix import Entry
    from hatch_bpf.objects.model import ObjectModel
    from hatch_bpf.portability.verdicts import Report

EXAMPLES = """examples:
  hatch-bpf init my-tool                                  a new package to start from
  hatch-bpf build                                         write the skeletons beside the program sources
  hatch-bpf check                                         will this project's programs load on its kernels?
  hatch-bpf check prog.bpf.o --kernels archive --match 'debian/12/*/*'
  hatch-bpf kernels lock                                  accept no other BTF than today's from now on
  hatch-bpf min-core-btf host minimized.btf prog.bpf.o    what `bpftool gen min_core_btf` makes
  hatch-bpf vmlinux-h host --prune prog.bpf.c -o vmlinux.h

exit status:
  0 success; 1 failure; 2 a command line that cannot be used, and with check input that cannot be read; 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # who ran this closed it: then nobody wants to know
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):  # names out of objects may be no text at all
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        with _output_errors(), disk_errors():
            status = command(options)
            sys.stdout.flush()
            return status
    except BrokenPipeError:
        return 141  # what a shell says of a program that SIGPIPE ended, as it ends most
    except HatchBpfError as error:
        print(f"hatch-bpf: {error}", file=sys.stderr)
        return int(options.error_status)
    except KeyboardInterrupt:
        print("hatch-bpf: interrupted", file=sys.stderr)
        return 130


@contextmanager
def _output_errors() -> Iterator[None]:
    """Where standard output can't be written, drop the rest: Python would try again as it ends, and say so itself."""
    try:
        yield
    except (OSError, HatchBpfError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _examples(*lines: str, status: str = "") -> dict[str, Any]:
    """What an argument parser shows below its options."""
    text = "examples:\n" + "".join(f"  hatch-bpf {line}\n" for line in lines)
    text += f"\nexit status: {status}\n" * bool(status)
    return {"epilog": text, "formatter_class": HelpFormatter}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hatch-bpf",
        description="Compile and bundle portable BPF programs into Python packages.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hatch-bpf {__version__}")
    parser.set_defaults(error_status=1)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "build",
        help="compile a project's programs and write skeletons, objects and BTFs beside their sources",
        **_examples(
            "build                          what is written is what the wheel would carry, to commit or to run from",
            "build ../my-tool               of the project in another folder",
        ),
    )
    command.add_argument("project", nargs="?", type=Path, default=Path(), help="folder of pyproject.toml (default: .)")
    command.set_defaults(command=_build)

    cache.add_parser(commands)

    command = commands.add_parser(
        "check",
        help="tell for every program and kernel whether it loads there, and why not",
        description="Tell whether BPF programs will load on kernels, from the kernels' BTF alone. "
        "Without OBJECT, the project in the current folder is compiled and checked on its own kernel matrix.",
        **_examples(
            "check                          this project, on its kernel matrix",
            "check --match 'debian/12/*/*'  this project, on other kernels of its archive",
            "check prog.bpf.o --kernels ARCHIVE --json",
            "check prog.bpf.o --match host --alternatives on_close=fentry_close,kprobe_close",
            "check --html report.html       and a page to look at",
            status="0 when every program loads, 1 when some fail, 2 when something cannot be read or written",
        ),
    )
    command.add_argument("objects", metavar="OBJECT", type=Path, nargs="*", help="BPF object")
    command.add_argument("--kernels", metavar="ARCHIVE", help="BTF archive, a folder or URL (default: BTFHUB_ARCHIVE)")
    command.add_argument(
        "--match", metavar="PATTERN", action="append", help="distro/version/arch/release, or host (default: all of it)"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--html", metavar="FILE", type=Path, help="write a page to look at, besides what is printed")
    _add_alternatives(command)
    command.set_defaults(command=_check, error_status=2)

    command = commands.add_parser(
        "compile-commands",
        help="write compile_commands.json, from which editors learn how programs are compiled",
        description="Write how clang compiles a project's programs, for clangd and other tools.",
        **_examples("compile-commands"),
    )
    command.add_argument("project", nargs="?", type=Path, default=Path(), help="folder of pyproject.toml (default: .)")
    command.set_defaults(command=_compile_commands)

    command = commands.add_parser(
        "completion",
        help="print a script that completes this command's words, for a shell to read",
        **_examples(
            "completion bash > ~/.local/share/bash-completion/completions/hatch-bpf",
            "completion zsh >> ~/.zshrc",
            "completion fish > ~/.config/fish/completions/hatch-bpf.fish",
        ),
    )
    command.add_argument("shell", choices=("bash", "zsh", "fish"))
    command.set_defaults(command=_completion)

    command = commands.add_parser(
        "init",
        help="make a new package with a BPF program in it",
        description="Make a new package that builds, runs and passes its own test, to start from.",
        **_examples("init my-tool", "init my-tool tools/my-tool --backend setuptools"),
    )
    command.add_argument("name", metavar="NAME", help="name of the project")
    command.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="where to make it (default: NAME)")
    command.add_argument("--backend", choices=("hatchling", "setuptools"), default="hatchling", help="build system")
    command.set_defaults(command=_init)

    command = commands.add_parser(
        "inspect",
        help="show an object's programs, maps, globals, helpers, and CO-RE relocations with their source lines",
        **_examples("inspect src/my_tool/_bpf/x86_64/prog.bpf.o", "inspect prog.bpf.o --json"),
    )
    command.add_argument("object", metavar="OBJECT", type=Path, help="BPF object")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=_inspect)

    kernels.add_parser(commands)

    command = commands.add_parser(
        "min-core-btf",
        help="minimize a kernel's BTF for BPF objects",
        description="Write the part of a kernel's BTF that the CO-RE relocations of BPF objects need. "
        "The arguments are in the order of `bpftool gen min_core_btf`.",
        **_examples(
            "min-core-btf host minimized.btf prog.bpf.o",
            "min-core-btf kernels/debian/12/x86_64/6.1.0-50-amd64.btf.tar.xz minimized.btf a.bpf.o b.bpf.o",
        ),
    )
    command.add_argument("kernel", metavar="KERNEL", help="raw BTF, vmlinux, vmlinuz, .btf.tar.xz, or host")
    command.add_argument("out", metavar="OUT", type=Path, help="file to write")
    command.add_argument("objects", metavar="OBJECT", type=Path, nargs="+", help="BPF object")
    command.set_defaults(command=_min_core_btf)

    command = commands.add_parser(
        "skeleton",
        help="generate a skeleton, with the runtime it needs, for an object that is built already",
        description="Write NAME_skel.py and a folder _bpf with the object and the runtime, ready to be imported.",
        **_examples("skeleton prog.bpf.o --out src/my_tool --event events=event"),
    )
    command.add_argument("object", metavar="OBJECT", type=Path, help="BPF object")
    command.add_argument("--out", metavar="FOLDER", type=Path, default=Path(), help="package to write to (default: .)")
    command.add_argument("--arch", help="architecture the object was compiled for (default: this machine's)")
    command.add_argument(
        "--event", metavar="MAP=STRUCT", action="append", default=[], help="what a ring or perf buffer carries"
    )
    command.add_argument("--type", metavar="TYPE", action="append", default=[], help="declare this type, too")
    _add_alternatives(command)
    command.set_defaults(command=_skeleton)

    command = commands.add_parser(
        "vmlinux-h",
        help="write a kernel's types as a C header",
        description="Write vmlinux.h, a kernel's types as a C header, to standard output or a file.",
        **_examples("vmlinux-h host -o vmlinux.h", "vmlinux-h linux-image-6.1.deb --prune prog.bpf.c -o vmlinux.h"),
    )
    command.add_argument(
        "source", metavar="SOURCE", help="raw BTF, vmlinux, vmlinuz, kernel package, kernel of BTFHUB_ARCHIVE, or host"
    )
    command.add_argument(
        "--prune", metavar="FILE", type=Path, nargs="+", help="only the types that these program sources can use"
    )
    command.add_argument("-o", "--output", metavar="OUT", type=Path, help="file to write")
    command.set_defaults(command=_vmlinux_h)
    return parser


def _add_alternatives(command: argparse.ArgumentParser) -> None:
    """What a project says under `alternatives` and `optional`, for objects that belong to none."""
    command.add_argument(
        "--alternatives",
        metavar="NAME=A,B",
        action="append",
        default=[],
        help="programs, or ring and perf buffers, of an OBJECT, of which the first that the machine takes is used",
    )
    command.add_argument(
        "--optional", metavar="PROGRAM", action="append", default=[], help="an OBJECT's program that may be left out"
    )


def _alternatives(options: argparse.Namespace) -> dict[str, Any]:
    """The same as a project's table has it."""
    groups = dict(group.partition("=")[::2] for group in options.alternatives)
    return {
        "alternatives": {name: members.split(",") for name, members in groups.items()},
        "optional": options.optional,
    }


def _build(options: argparse.Namespace) -> int:
    from hatch_bpf.reuse.remembered import build
    from hatch_bpf.wheel import source_tree

    project = load_project(options.project.absolute())
    with meter() as shown:
        watch = partial(shown.step, "checking") if shows_progress() else None
        artifacts = build(project, notify=say, reuse=False, downloads=shown.downloads, watch=watch)
    source_tree.write(artifacts.files, root=project.root)
    for file in artifacts.files:
        print(file.tree_path)
    return 0


def _check(options: argparse.Namespace) -> int:
    from hatch_bpf.portability.text import render_json, render_text

    with meter() as shown:
        report = _check_objects(options, shown) if options.objects else _check_project(options, shown)
    here = console(sys.stdout)
    if options.html:
        from hatch_bpf.portability.html import render_html
        from hatch_bpf.support.files import write_whole

        write_whole(options.html, render_html(report).encode())
    if options.json:
        print(render_json(report), end="")
    elif here is not None:
        from hatch_bpf.cli.tables import show_report

        show_report(here, report)
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        print(render_text(report, width=width, colour=colours(sys.stdout)), end="")
    return report.exit_status


def _check_project(options: argparse.Namespace, shown: Meter) -> Report:
    from dataclasses import replace

    from hatch_bpf.compiler.clang import compile_package
    from hatch_bpf.per_kernel import fit_all
    from hatch_bpf.portability.verdicts import joined
    from hatch_bpf.project import alternatives
    from hatch_bpf.project.declared_kernels import find_kernels

    project = load_project(Path.cwd())
    config = project.config
    if options.kernels:
        config = replace(config, btf_archive=named_archive(options.kernels))
    if options.match:
        config = replace(config, kernels=_entries(options.match))
    # the lock is about the project's own kernels
    lock = None if options.kernels or options.match else project.lock
    matrix = find_kernels(config, say, lock=lock)
    matrix.download(_quiet, shown.downloads)
    either = alternatives.Alternatives(config.alternatives, config.optional)
    packages = [compile_package(package, project, os.environ).objects for package in project.packages]
    alternatives.check([model for objects in packages for models in objects.values() for model in models], either)
    watch = partial(shown.step, "checking")
    fitted = fit_all(packages, matrix, minimizer=config.minimizer, watch=watch, alternatives=either)
    return joined(of_package.report for of_package in fitted)


def _check_objects(options: argparse.Namespace, shown: Meter) -> Report:
    from hatch_bpf.arch import ARCHES
    from hatch_bpf.kernels.matrix import resolve
    from hatch_bpf.per_kernel import fit
    from hatch_bpf.project import alternatives
    from hatch_bpf.project.config import parse_config

    config = parse_config(_alternatives(options), key="check", root=Path.cwd(), environ={})
    either = alternatives.Alternatives(config.alternatives, config.optional)
    objects = [_read_object(path) for path in options.objects]
    alternatives.check(objects, either)
    archive = named_archive(options.kernels)
    if archive is None and not options.match:
        raise KernelError(
            "which kernels? Let --kernels (or the environment's BTFHUB_ARCHIVE) name an archive, a folder or URL, or "
            "say --match host for the running one"
        )
    matrix = resolve(_entries(options.match or ["*/*/*/*"]), archs=ARCHES, archive=archive)
    matrix.warn(say)
    matrix.download(_quiet, shown.downloads)
    by_arch, watch = dict.fromkeys(ARCHES, objects), partial(shown.step, "checking")
    return fit(by_arch, matrix, minimizer="builtin", watch=watch, alternatives=either).report


def _quiet(_text: str) -> None:
    """What a bar shows needs no line."""


def _entries(patterns: Sequence[str]) -> tuple[Entry, ...]:
    from hatch_bpf.kernels.matrix import Host, Pattern
    from hatch_bpf.project.config import HOST

    return tuple(Host() if pattern == HOST else Pattern(pattern) for pattern in patterns)


def _compile_commands(options: argparse.Namespace) -> int:
    from hatch_bpf.compiler.clang import compile_commands
    from hatch_bpf.support.files import write_whole

    project = load_project(options.project.absolute())
    path = project.root / "compile_commands.json"
    write_whole(path, compile_commands(project, os.environ))
    print(path)
    return 0


def _completion(options: argparse.Namespace) -> int:
    from hatch_bpf.cli.completion import script

    print(script(_parser(), options.shell), end="")
    return 0


def _init(options: argparse.Namespace) -> int:
    from hatch_bpf.cli.scaffold import create

    folder: Path = options.folder or Path(options.name)
    for path in create(options.name, folder=folder, backend=options.backend):
        print(folder / path)
    # without a slash pip would look for a project of that name on PyPI
    where = shlex.quote(str(folder) if folder.is_absolute() or folder == Path() else f"./{folder}")
    say(f'next: pip install {where}, then sudo "$(command -v {options.name})"; see {folder / "README.md"}')
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from hatch_bpf.cli.inspection import inspect, render, render_json

    document = inspect(_read_object(options.object))
    here = console(sys.stdout)
    if here is not None and not options.json:
        from hatch_bpf.cli.tables import show_inspection

        show_inspection(here, document)
    else:
        print(render_json(document) if options.json else render(document), end="")
    return 0


def _min_core_btf(options: argparse.Namespace) -> int:
    from hatch_bpf.btf.reader import Btf
    from hatch_bpf.core_relo.minimize import collect, extract
    from hatch_bpf.core_relo.resolve import Matcher
    from hatch_bpf.kernels.formats.kernel_file import HOST_BTF, read_btf
    from hatch_bpf.support.files import write_whole

    objects = [_read_object(path) for path in options.objects]
    path = HOST_BTF if options.kernel == "host" else Path(options.kernel)
    kernel = Btf(read_btf(path), source=str(path))
    needs = collect(objects, Matcher(kernel))
    for error in needs.errors:
        say(f"warning: libbpf will refuse a relocation on this kernel: {error}")
    write_whole(options.out, extract(kernel, needs))
    return 0


def _skeleton(options: argparse.Namespace) -> int:
    from dataclasses import replace
    from pathlib import PurePosixPath

    from hatch_bpf.compiler.clang import CompiledPackage
    from hatch_bpf.project.alternatives import Alternatives, check
    from hatch_bpf.project.config import parse_config
    from hatch_bpf.project.sources import Package, ProgramSource
    from hatch_bpf.wheel import source_tree
    from hatch_bpf.wheel.contents import KERNELS_NAME, lay_out

    model = _read_object(options.object)
    table = {
        **({"archs": [options.arch]} if options.arch else {}),
        "events": dict(event.partition("=")[::2] for event in options.event),
        "types": options.type,
        **_alternatives(options),
    }
    config = parse_config(table, key="skeleton", root=Path.cwd(), environ={})
    check([model], Alternatives(config.alternatives, config.optional))
    source = ProgramSource(PurePosixPath(f"{model.name}.bpf.c"), PurePosixPath(), 0)
    own = replace(model, path=source.object_name)
    compiled = CompiledPackage({config.archs[0].name: (own,)}, inputs={}, compiler="")
    files = lay_out(Package((source,)), compiled, {}, config, None, programs=[own])
    for file in files:  # other skeletons may be there, which hold the sha256 of this
        there = options.out / file.tree_path
        if file.tree_path.name == KERNELS_NAME and there.is_file() and there.read_bytes() != file.data:
            raise OutputError(f"{there.parent} is what a build made, for its kernels: name another folder by --out")
    source_tree.write(files, root=options.out.absolute(), alone=False)
    for file in files:
        print(options.out / file.tree_path)
    return 0


def _vmlinux_h(options: argparse.Namespace) -> int:
    from hatch_bpf.compiler.vmlinux_h import find_header
    from hatch_bpf.support.files import write_whole
    from hatch_bpf.support.store import Store

    # a file needs no archive, which takes long to import
    archive = None if options.source == "host" or Path(options.source).exists() else named_archive(None)
    header = find_header(options.source, root=Path.cwd(), archive=archive, store=Store())
    text = header.pruned(_names(options.prune)) if options.prune else header.whole()
    if options.output:
        write_whole(options.output, text.encode())
    else:
        print(text, end="")
    return 0


def _names(sources: Sequence[Path]) -> set[str]:
    """What program sources name, in them and in the headers they include."""
    from hatch_bpf.compiler.identifiers import names_in
    from hatch_bpf.compiler.toolchain import find_toolchain

    for path in sources:
        if not path.is_file():
            raise ObjectError(f"{path} is not a file: let --prune name program sources")
    system_includes = find_toolchain().system_includes
    found = (names_in(path, root=path.parent, cflags=(), system_includes=system_includes) for path in sources)
    return {name for names in found for name in names.names}


def _read_object(path: Path) -> ObjectModel:
    from hatch_bpf.objects.model import read_object

    try:
        return read_object(path.read_bytes(), path=str(path))
    except OSError as error:
        raise ObjectError(f"{path} cannot be read: {error.strerror}") from error
