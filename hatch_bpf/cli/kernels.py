"""The command `hatch-bpf kernels`: lists kernels, and puts them into archives and locks.

Input: a command line. Output: an exit status: 0 for success, 1 for failure or, with `verify`, for faults found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_bpf.arch import ARCHES
from hatch_bpf.cli.common import examples, kernels_of, load_project, named_archive, offer, say
from hatch_bpf.cli.terminal import console, meter
from hatch_bpf.errors import HatchBpfError, KernelError
from hatch_bpf.kernels import HOST, HOST_BTF
from hatch_bpf.support.context import ignore
from hatch_bpf.support.progress import Meter

if TYPE_CHECKING:  # each command imports what it needs, so that --help stays quick
    from hatch_bpf.kernels.any_archive import Archive
    from hatch_bpf.kernels.identify import Clues
    from hatch_bpf.kernels.matrix import Matrix
    from hatch_bpf.project.sources import Project

TABLE_LIMIT = 1000
"""Most kernels that are listed as a table on a terminal. Longer lists are printed as plain lines, which is faster."""


def add_kernels(commands: Any) -> None:
    """Add `kernels` to the commands of an argument parser."""
    parser = commands.add_parser(
        "kernels",
        help="list, add, lock and verify the kernels that programs are built for",
        **examples(
            "kernels list                                  the kernels this project is built for",
            "kernels list ARCHIVE --match 'debian/12/*/*'  the kernels of an archive, a folder or URL",
            "kernels list FOLDER --write-index             write the list that a served archive needs",
            "kernels add linux-image-*.deb --archive kernels",
            "kernels add linux-image-*.deb --image --archive kernels   also keep what boots, for hatch-bpf try",
            "kernels add host --archive kernels",
            "kernels add vmlinux --archive kernels --release 5.4.0-custom --distro - --version -",
            "kernels lock                                  from now on accept only the BTF of today",
            "kernels verify                                check that every BTF is there, intact, and as locked",
        ),
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    action = actions.add_parser("list", help="list the kernels of an archive, or those this project is built for")
    action.add_argument("archive", metavar="ARCHIVE", nargs="?", help="folder or URL (default: this project's matrix)")
    match = action.add_argument(
        "--match", metavar="PATTERN", action="append", help="distro/version/arch/release, or host"
    )
    offer(match, [HOST])
    action.add_argument(
        "--write-index", action="store_true", help="write the list as index.txt into the folder ARCHIVE, to be served"
    )
    action.add_argument("--json", action="store_true", help="print JSON")
    action.set_defaults(command=_list)

    action = actions.add_parser(
        "add",
        help="put kernels into an archive",
        description="Put the BTF of kernels into an archive. Options give what a file does not say about its kernel.",
    )
    action.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="raw BTF, .btf.tar.xz, vmlinux, vmlinuz, .deb or .rpm kernel package, or host",
    )
    action.add_argument(
        "--archive", metavar="FOLDER", type=Path, required=True, help="the archive; created if it does not exist"
    )
    action.add_argument(
        "--image",
        action="store_true",
        help="also keep the kernel image and configuration beside the BTF, for `hatch-bpf try`",
    )
    for name, what in (
        ("distro", "os-release's ID, or - for none"),
        ("version", "os-release's VERSION_ID, or - for none"),
        ("arch", "architecture"),
        ("release", "`uname -r` of the kernel"),
    ):
        part = action.add_argument(f"--{name}", metavar=name.upper(), default="", help=what)
        offer(part, ARCHES if name == "arch" else ())
    action.set_defaults(command=_add)

    action = actions.add_parser(
        "lock",
        help="write bpf-kernels.lock, the sha256 of every BTF of this project's matrix",
        description="Write bpf-kernels.lock beside pyproject.toml. A build then accepts no other kernels and BTFs.",
    )
    action.set_defaults(command=_lock)

    action = actions.add_parser(
        "verify",
        help="read every BTF of an archive, or of this project's matrix, and report what is wrong",
        epilog="exit status: 0 when all is well, 1 otherwise",
    )
    action.add_argument("archive", metavar="ARCHIVE", nargs="?", help="folder or URL (default: this project's matrix)")
    action.add_argument("--json", action="store_true", help="print JSON")
    action.set_defaults(command=_verify)


def _list(options: argparse.Namespace) -> int:
    if options.write_index:
        archive = named_archive(options.archive)
        if not isinstance(archive, Path):
            raise KernelError("--write-index writes into a folder: name the folder that is served, not its URL")
        print(_write_index(archive))
        return 0
    from hatch_bpf.kernels.images import find_image

    sources = _matrix(_project(options.archive), options.archive, options.match).sources
    images = {source.kernel: find_image(source) for source in sources}
    if options.json:
        kernels = [
            {
                "kernel": str(source.kernel),
                **asdict(source.kernel),
                "btf": source.origin,
                "image": str(image.path) if (image := images[source.kernel]) else "",
            }
            for source in sources
        ]
        print(json.dumps({"kernels": kernels}, indent=2))
    elif len(sources) <= TABLE_LIMIT and (here := console(sys.stdout)) is not None:
        from hatch_bpf.cli.tables import show_kernels

        show_kernels(here, sources, images)
    else:
        for source in sources:
            print(f"{source.kernel}{'  image' if images[source.kernel] else ''}")
    return 0


def _write_index(archive: Path) -> Path:
    from hatch_bpf.kernels.remote.archive_url import INDEX, index_of
    from hatch_bpf.support.files import write_whole

    path = archive / INDEX
    write_whole(path, index_of(archive).encode())
    return path


def _project(archive: str | None) -> Project | None:
    """The project in this folder, unless an archive is named instead."""
    return None if archive or not Path("pyproject.toml").exists() else load_project(Path.cwd())


def _matrix(project: Project | None, archive: str | None, match: list[str] | None = None) -> Matrix:
    """The matching kernels of a project, or else of an archive."""
    from hatch_bpf.kernels.matrix import matching
    from hatch_bpf.project.declared_kernels import find_kernels

    if project:
        matrix = find_kernels(project.config, say, lock=project.lock)
        return replace(matrix, sources=matching(matrix.sources, match)) if match else matrix
    named = named_archive(archive)
    if named is None:
        raise KernelError(
            "which kernels? Run this in the folder of a project, name an archive (a folder or URL), or let the "
            "environment's BTFHUB_ARCHIVE name one"
        )
    return kernels_of(named, match, say)


def _add(options: argparse.Namespace) -> int:
    from hatch_bpf.kernels.identify import Clues
    from hatch_bpf.kernels.remote.archive_url import INDEX

    given = Clues(options.distro, options.version, options.arch, options.release)
    if options.release and len(options.files) > 1:
        raise KernelError(f"--release {options.release} names one kernel: give one FILE with it")
    try:
        for name in options.files:
            for path in _add_file(name, given, options.archive, with_image=options.image):
                print(path)
    finally:
        if (options.archive / INDEX).exists():
            _write_index(options.archive)
    return 0


def _add_file(name: str, given: Clues, archive: Path, *, with_image: bool) -> list[Path]:
    """Put one kernel into an archive, and return the paths of its files there."""
    from hatch_bpf.kernels import identity
    from hatch_bpf.kernels.archive import pack_archived, path_of
    from hatch_bpf.kernels.companions import CONFIG, IMAGE
    from hatch_bpf.kernels.configurations import config_to_keep
    from hatch_bpf.kernels.formats.kernel_file import read_kernel
    from hatch_bpf.kernels.identify import Clues, identify
    from hatch_bpf.kernels.images import image_to_keep
    from hatch_bpf.kernels.matrix import find_archived
    from hatch_bpf.support.files import write_whole

    path = HOST_BTF if name == HOST else Path(name)
    host = identity.host() if name == HOST else None
    image = image_to_keep(path, host) if with_image else None
    found = image.holds if image and not host else read_kernel(path)
    clues = Clues(*str(host).split("/")) if host else identify(path, found)
    kernel = given.over(clues).kernel(name)
    if image:
        image.check(kernel)
    known = find_archived(archive, kernel) if archive.is_dir() else None
    if known is None and not found.btf:
        raise KernelError("no BTF in it: add the kernel's BTF first, from another file", source=path, kernel=kernel)
    if known and found.btf and known.read() != found.btf:
        raise KernelError(f"{kernel} is in the archive already, with another BTF: delete {known.path} to replace it")
    target = known.path if known else archive / path_of(kernel)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KernelError(f"{error.filename} cannot be made a folder of the archive: {error.strerror}") from error
    if not known:
        write_whole(target, pack_archived(found.btf, kernel))
    if image is None:
        return [target]
    files = {IMAGE.beside(target): image.data, CONFIG.beside(target): config_to_keep(image, host)}
    written = {path: data for path, data in files.items() if data}
    for path, data in written.items():
        write_whole(path, data)
    return [target, *written]


def _lock(options: argparse.Namespace) -> int:  # noqa: ARG001
    from hatch_bpf.kernels.lock import NO_LOCK, make_lock, read_lock, render_lock
    from hatch_bpf.project.declared_kernels import find_kernels
    from hatch_bpf.support.files import write_whole

    project = load_project(Path.cwd()).without_host()
    config = project.config
    if not config.kernels:
        raise KernelError("there is nothing to lock: kernels names none, or only the host's")
    try:
        old = read_lock(project.lock) or NO_LOCK
    except KernelError as error:
        say(f"replacing a lock that cannot be read: {error}")
        old = NO_LOCK
    matrix = find_kernels(config, say)
    with meter() as shown:
        matrix.download(ignore, shown.downloads)
        lock = make_lock(config.kernels, [arch.name for arch in config.archs], matrix, shown, old)
    write_whole(project.lock, render_lock(lock).encode())
    before, after = old.digests.keys(), lock.digests.keys()
    new, gone = after - before, before - after
    changed = [kernel for kernel in after & before if lock.digests_of(kernel) != old.digests_of(kernel)]
    for sign, kernels in (("+", new), ("-", gone), ("!", changed)):
        for kernel in sorted(kernels):
            print(f"{sign} {kernel}")
    say(f"{project.lock}: {len(after)} kernels, {len(new)} new, {len(gone)} gone, {len(changed)} changed")
    return 0


def _verify(options: argparse.Namespace) -> int:
    project = _project(options.archive)
    matrix = _matrix(project, options.archive)
    with meter() as shown:
        faults = list(_faults(matrix, shown))
    if project is None:
        faults += _index_faults(named_archive(options.archive))
    if options.json:
        print(json.dumps({"kernels": len(matrix.sources), "faults": faults}, indent=2))
    else:
        print("".join(f"{fault}\n" for fault in faults), end="")
    say(f"{len(matrix.sources)} kernels read, {len(faults)} faults{_locked(project)}")
    return 1 if faults else 0


def _faults(matrix: Matrix, shown: Meter) -> Iterator[str]:
    """What is wrong with each kernel's BTF, down to its last type."""
    from hatch_bpf.btf.reader import Btf
    from hatch_bpf.kernels.remote.download import NotThereError

    # files that the server lacks are reported below, with the other faults
    with suppress(NotThereError):
        matrix.download(ignore, shown.downloads)
    for number, source in enumerate(matrix.sources, 1):
        try:
            Btf(source.read(), source=source.origin)
        except HatchBpfError as error:
            yield str(error)
        shown.step("reading", number, len(matrix.sources), source.kernel)


def _index_faults(archive: Archive | None) -> Iterator[str]:
    from hatch_bpf.kernels.remote.archive_url import INDEX, index_of

    if not isinstance(archive, Path):
        return
    path = archive / INDEX
    if path.exists() and path.read_text(errors="replace") != index_of(archive):
        yield f"{path} does not match the folder: run `hatch-bpf kernels list {archive} --write-index`"


def _locked(project: Project | None) -> str:
    if project is None:
        return ""
    return f"; held to {project.lock.name}" if project.lock.exists() else f"; there is no {project.lock.name}"
