"""The project that a front end passes to the pipeline: its options and its program sources.

Input: the project's folder, its `Config` and where the wheel puts each source folder.
Output: a `Project`, or `ConfigError`.
"""

from __future__ import annotations

import keyword
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from hatch_bpf.arch import Arch
from hatch_bpf.errors import Fault, refuse
from hatch_bpf.kernels.locked import LOCK_NAME
from hatch_bpf.kernels.matrix import BtfFile, Host, resolve
from hatch_bpf.objects.names import object_name
from hatch_bpf.project.config import ARCH_PLACE, Config, parse_config
from hatch_bpf.project.forms import quoted, suggestion

SUFFIX = ".bpf.c"
"""The ending of the sources that a build finds by itself; the option `programs` may name any other C file."""
OBJECT_SUFFIX = ".o"
"""The ending of objects that `programs` names, which need no compiler."""
BPF_DIR = "_bpf"
"""Folder of a package that holds objects, minimized BTFs and the runtime."""
MOST_ANY_DEPTH = 3
"""Most `**` in a pattern of `programs`: each is tried at every depth, so that the time grows with their power."""
_TOP = PurePosixPath()


@dataclass(frozen=True, order=True)
class ProgramSource:
    """One program source, or several that are linked into one object, and where the build puts what it makes."""

    path: PurePosixPath
    """The source, relative to the project; for a linked object, where a single source would be. An object that there is
    for each architecture has `{arch}` in its name."""
    wheel_dir: PurePosixPath
    """The folder of the wheel that the skeleton goes to."""
    depth: int
    """How many folders above the skeleton's own the package's `_bpf` lies: 0 if the source is in the package itself."""
    linked: tuple[PurePosixPath, ...] = ()
    """The sources of a linked object, in the order given; empty for a single one."""
    object_dir: PurePosixPath = _TOP
    """A folder for the object in its architecture's, if another source of the package has the same name."""

    @property
    def parts(self) -> tuple[PurePosixPath, ...]:
        """The translation units, relative to the project."""
        return self.linked or (self.path,)

    @property
    def name(self) -> str:
        """libbpf's name for the object, from the stem of the file's name; the skeleton's module is `NAME_skel`."""
        return object_name(self.path.name)

    @property
    def object_name(self) -> str:
        """The object's file, relative to its architecture's folder."""
        return str(self.object_dir / f"{self.name}.bpf.o")

    @property
    def bpf_dir(self) -> PurePosixPath:
        """The package's `_bpf` folder in the wheel."""
        return _above(self.wheel_dir, self.depth) / BPF_DIR

    @property
    def tree_bpf_dir(self) -> PurePosixPath:
        """The package's `_bpf` folder in the source tree, relative to the project: where an editable build writes."""
        return _above(self.path.parent, self.depth) / BPF_DIR


@dataclass(frozen=True)
class Package:
    """The program sources that share a `_bpf` folder."""

    sources: tuple[ProgramSource, ...]
    """Sorted by path; at least one."""

    @property
    def wheel_dir(self) -> PurePosixPath:
        """Its `_bpf` folder in the wheel."""
        return self.sources[0].bpf_dir

    @property
    def tree_dir(self) -> PurePosixPath:
        """Its `_bpf` folder in the source tree, relative to the project."""
        return self.sources[0].tree_bpf_dir


@dataclass(frozen=True)
class Project:
    """A package with BPF programs in it."""

    root: Path
    """The folder of pyproject.toml."""
    config: Config
    sources: tuple[ProgramSource, ...]
    """Sorted by path."""
    folders: Mapping[PurePosixPath, PurePosixPath]
    """The wheel's packages: folders of the source tree, relative to the project, and where the wheel has them."""
    commands: Mapping[PurePosixPath, tuple[str, ...]]
    """The commands that compile sources in place of clang, by the source's path."""

    def is_clangs(self, part: PurePosixPath) -> bool:
        """Whether clang compiles a translation unit."""
        return part not in self.commands and part.suffix != OBJECT_SUFFIX

    def files_of(self, source: ProgramSource) -> list[PurePosixPath]:
        """The files of a source's translation units, relative to the project."""
        return list(dict.fromkeys(for_arch(part, arch) for part in source.parts for arch in self.config.archs))

    @property
    def parts(self) -> list[PurePosixPath]:
        """The translation units of all sources."""
        return [part for source in self.sources for part in source.parts]

    def wheel_path(self, name: str) -> PurePosixPath:
        """Where the wheel has a file of one of its packages, given relative to the project."""
        path = PurePosixPath(name)
        folder = next(parent for parent in path.parents if parent in self.folders)
        return self.folders[folder] / path.relative_to(folder)

    @property
    def lock(self) -> Path:
        """The path of the lock of its kernels, whether or not it exists."""
        return self.root / LOCK_NAME

    def without_host(self) -> Project:
        """The project as an sdist ships it: without anything of the machine that makes the sdist."""
        kernels = tuple(entry for entry in self.config.kernels if not isinstance(entry, Host))
        return replace(self, config=replace(self.config, kernels=kernels, libbpf="system"))

    @property
    def packages(self) -> tuple[Package, ...]:
        """The sources, grouped by the `_bpf` folder that they share."""
        by_folder: dict[PurePosixPath, list[ProgramSource]] = {}
        for source in self.sources:
            by_folder.setdefault(source.bpf_dir, []).append(source)
        return tuple(Package(tuple(sources)) for sources in by_folder.values())


def find_project(
    table: Mapping[str, Any],
    *,
    key: str,
    root: Path,
    packages: Sequence[str],
    wheel_path: Callable[[str], str],
    environ: Mapping[str, str] = os.environ,
) -> Project:
    """Read a project's table of options, and find its program sources.

    `key` is the table's dotted path, for messages. `packages` are the folders, relative to `root`, that are searched
    when the table names no programs; `wheel_path` says where the wheel has a file. Raises `ConfigError` if nothing is
    found, if two sources clash, or if a skeleton could not be imported from where its source lies.
    """
    config = parse_config(table, key=key, root=root, environ=environ)
    commands = _commands(root, config, key)
    if config.programs:
        paths = _named(root, config, commands, key)
    else:
        paths = _in_packages(root, packages, key, may_be_none=bool(commands))
    paths |= commands.keys()
    _check_links(config, paths, key)
    links = {parts[0].with_name(name + SUFFIX): parts for name, parts in config.link.items()}
    paths = paths.difference(*links.values()) | links.keys()
    found = (_source(root, path, PurePosixPath(wheel_path(str(path))), links.get(path, ())) for path in sorted(paths))
    sources = _name_apart(_share_folders(list(found), root))
    folders = {}
    for package in packages:
        folder = PurePosixPath(os.path.relpath(root / package, root))
        folders[folder] = PurePosixPath(wheel_path(f"{folder}/_")).parent
    for wrong in (
        _without_names(sources),
        _clashes(sources),
        _inside_ours(sources),
        _outside(sources, list(folders.values())),
        _unimportable(sources),
    ):
        refuse(Fault(f"{key}.programs", message) for message in wrong)
    return Project(root, config, sources, folders, commands)


def _check_links(config: Config, paths: set[PurePosixPath], key: str) -> None:
    faults = []
    users: dict[PurePosixPath, str] = {}
    for name, parts in config.link.items():
        for i, part in enumerate(parts):
            where = f"{key}.link.{name}[{i}]"
            if part not in paths:
                near = suggestion(str(part), sorted(map(str, paths)))
                faults.append(Fault(where, f"is not one of the project's program sources (got '{part}'{near})"))
            elif users.setdefault(part, name) != name or parts.index(part) != i:
                faults.append(Fault(where, f"is linked already (got '{part}')"))
        target = parts[0].with_name(name + SUFFIX)
        if target in paths and target not in parts:
            faults.append(Fault(f"{key}.link.{name}", f"would make the skeleton of {target}; choose another name"))
    refuse(faults)


def _named(root: Path, config: Config, commands: Collection[PurePosixPath], key: str) -> set[PurePosixPath]:
    found: set[PurePosixPath] = set()
    faults: list[Fault] = []
    for i, given in enumerate(config.programs):
        where = f"{key}.programs[{i}]"
        if ARCH_PLACE in given:
            found |= _for_each_arch(root, given, config.archs, where, faults)
            continue
        matches = _matches(root, given, where, faults)
        wrong = sorted(path for path in matches.difference(commands) if path.suffix not in (".c", OBJECT_SUFFIX))
        if wrong:
            rule = f"whose name does not end in .c or {OBJECT_SUFFIX}: let {key}.commands say how it is compiled"
            faults.append(Fault(where, f"matches {wrong[0]}, {rule}"))
        found |= matches
    refuse(faults)
    return found


def _commands(root: Path, config: Config, key: str) -> dict[PurePosixPath, tuple[str, ...]]:
    """The sources that the option `commands` is about, with their commands."""
    found: dict[PurePosixPath, tuple[str, ...]] = {}
    faults: list[Fault] = []
    for given, command in config.commands.items():
        where = f"{key}.commands.{quoted(given)}"
        for path in sorted(_matches(root, given, where, faults)):
            if found.setdefault(path, command) != command:
                faults.append(Fault(where, f"matches {path}, which another pattern gives another command"))
    refuse(faults)
    return found


def _matches(root: Path, given: str, where: str, faults: list[Fault]) -> set[PurePosixPath]:
    """The files that a pattern of an option matches; a fault if there is none."""
    # several ** in a row mean the same as one, and take exponentially long
    pattern = re.sub(r"(\*\*/)+", "**/", given)
    if _leaves_project(pattern):
        faults.append(Fault(where, f"must stay inside the project (got {given!r})"))
        return set()
    if pattern.count("**/") > MOST_ANY_DEPTH:
        why = f"more than {MOST_ANY_DEPTH} times **"
        faults.append(Fault(where, f"is not a pattern of file names (got {quoted(given)}: {why})"))
        return set()
    try:
        found = [path for path in root.glob(pattern) if path.is_file()]
    except (ValueError, IndexError, NotImplementedError, RecursionError, OSError, re.error) as error:
        # which patterns pathlib refuses, and how, differs between Pythons
        said = error.strerror if isinstance(error, OSError) else error
        faults.append(Fault(where, f"is not a pattern of file names (got {quoted(given)}: {said})"))
        return set()
    if not found:
        faults.append(Fault(where, f"matches no file (got {quoted(given)}, searched in {root})"))
    return {PurePosixPath(path.relative_to(root).as_posix()) for path in found}


def _for_each_arch(
    root: Path, given: str, archs: Iterable[Arch], where: str, faults: list[Fault]
) -> set[PurePosixPath]:
    """The object of which there is one for each architecture."""
    path = PurePosixPath(given)
    if _leaves_project(given):
        faults.append(Fault(where, f"must stay inside the project (got {given!r})"))
    elif path.suffix != OBJECT_SUFFIX or re.search(r"[*?[]", given):
        faults.append(Fault(where, f"must be the name of an object, without wildcards, to have {ARCH_PLACE} in it"))
    else:
        files = [for_arch(path, arch) for arch in archs]
        missing = ", ".join(str(file) for file in files if not (root / file).is_file())
        faults += [Fault(where, f"names files that are missing: {missing}")] * bool(missing)
    return {path}


def _leaves_project(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts


def for_arch(path: PurePosixPath, arch: Arch) -> PurePosixPath:
    """The file of an architecture, if the path names one for each."""
    return PurePosixPath(str(path).replace(ARCH_PLACE, arch.name)) if path.suffix == OBJECT_SUFFIX else path


def _in_packages(root: Path, packages: Iterable[str], key: str, *, may_be_none: bool) -> set[PurePosixPath]:
    """The sources that are found without being named; `may_be_none` says whether that may be nothing."""
    searched = sorted(packages)
    found = {
        PurePosixPath(path.relative_to(root).as_posix())
        for package in searched
        for path in walk(root / package)
        if path.name.endswith(SUFFIX)
    }
    if not found and not may_be_none:
        places = ", ".join(searched) or "no package"
        refuse([Fault(f"{key}.programs", f"is needed: there is no *{SUFFIX} in the wheel's packages ({places})")])
    # reading a pipe or a device would never end
    odd = [path for path in sorted(found) if not (root / path).is_file()]
    refuse(Fault(f"{key}.programs", f"has {path}, which is not a regular file") for path in odd)
    return found


def walk(folder: Path) -> list[Path]:
    """All files below a folder, except in hidden folders.

    Links are followed, but each folder is read once: by its own path if that is below `folder`.
    """
    found, seen = list[Path](), set[Path]()
    pending, links = [folder], list[Path]()
    while pending or links:
        one = pending.pop() if pending else links.pop()
        if not one.is_dir() or one.resolve() in seen:
            continue
        seen.add(one.resolve())
        for path in sorted(one.iterdir(), reverse=True):
            if not path.is_dir():
                found.append(path)
            elif not path.name.startswith((".", "__pycache__")):
                (links if path.is_symlink() else pending).append(path)
    return sorted(found)


def _source(
    root: Path, path: PurePosixPath, wheel_path: PurePosixPath, linked: tuple[PurePosixPath, ...]
) -> ProgramSource:
    """The package is the outermost folder with an `__init__.py`. A namespace package above it may have other owners."""
    levels = range(len(wheel_path.parent.parts))
    depth = max((level for level in levels if _is_package(root, path, level)), default=0)
    return ProgramSource(path, wheel_path.parent, depth, linked)


def _is_package(root: Path, path: PurePosixPath, level: int) -> bool:
    return (root / _above(path.parent, level) / "__init__.py").is_file()


def _share_folders(sources: Iterable[ProgramSource], root: Path) -> list[ProgramSource]:
    """One `_bpf` folder for all sources in a top-level folder where no folder has an `__init__.py`.

    It is put into the folder that they have in common, rather than into each of their folders.
    """
    bare: dict[str, list[ProgramSource]] = {}
    for source in sources:
        if source.wheel_dir.parts and not _is_package(root, source.path, source.depth):
            bare.setdefault(source.wheel_dir.parts[0], []).append(source)
    depths: dict[ProgramSource, int] = {}
    for beside in bare.values():
        common = PurePosixPath(os.path.commonpath([source.wheel_dir for source in beside]))
        depths |= {source: len(source.wheel_dir.relative_to(common).parts) for source in beside}
    return [replace(source, depth=depths.get(source, source.depth)) for source in sources]


def _name_apart(sources: Iterable[ProgramSource]) -> tuple[ProgramSource, ...]:
    """Give sources with the same name, in different folders of a package, objects in different folders."""
    users: dict[tuple[PurePosixPath, str], set[PurePosixPath]] = {}
    for source in sources:
        users.setdefault((source.bpf_dir, source.name), set()).add(source.wheel_dir)
    return tuple(
        sorted(
            replace(source, object_dir=source.wheel_dir.relative_to(source.bpf_dir.parent))
            if len(users[source.bpf_dir, source.name]) > 1
            else source
            for source in sources
        )
    )


def _above(folder: PurePosixPath, levels: int) -> PurePosixPath:
    for _ in range(levels):
        folder = folder.parent
    return folder


def _without_names(sources: Iterable[ProgramSource]) -> Iterator[str]:
    for source in sources:
        skeleton = f"{source.name}_skel"
        if not source.name or not skeleton.isidentifier():
            why = f"whose skeleton {skeleton} no import statement can name"
            yield f"has {source.path}, {why}: rename it, to begin with a letter"


def _clashes(sources: Iterable[ProgramSource]) -> Iterator[str]:
    taken: dict[tuple[PurePosixPath, str], ProgramSource] = {}
    for source in sources:
        other = taken.setdefault((source.wheel_dir, source.name), source)
        if other is not source:
            both = f"{other.path} and {source.path}"
            yield f"has two sources for the skeleton {source.name}_skel: {both}; rename one"


def _inside_ours(sources: Sequence[ProgramSource]) -> Iterator[str]:
    folders = {source.tree_bpf_dir for source in sources}
    for source in sources:
        for part in source.parts:
            for folder in folders.intersection(part.parents):
                yield f"has {part}, and {folder} is the folder that hatch-bpf fills: move it to another"


def _outside(sources: Iterable[ProgramSource], homes: Sequence[PurePosixPath]) -> Iterator[str]:
    """`homes` are the wheel's packages. The top of site-packages belongs to no project."""
    tops = {home.parts[:1] for home in homes}
    why = f"which is in none of the wheel's packages ({', '.join(map(str, homes)) or 'there are none'})"
    for source in sources:
        if len(source.bpf_dir.parts) == 1 or tops.isdisjoint({(), source.bpf_dir.parts[:1]}):
            yield f"has {source.path}, {why}: move it into one, from which its skeleton can be imported"


def _unimportable(sources: Iterable[ProgramSource]) -> Iterator[str]:
    """Only packages: from a folder of any name below one, `importlib` imports a skeleton."""
    for source in sources:
        package = source.bpf_dir.parent
        wrong = next((part for part in package.parts if not part.isidentifier() or keyword.iskeyword(part)), None)
        if wrong is not None:
            why = f"Python cannot import from a folder called {wrong!r}"
            yield f"has {source.path}, whose package would be {package}: {why}; rename it"


def headers_beside(root: Path, source: PurePosixPath) -> list[PurePosixPath]:
    """The headers in a source's folder, relative to the project."""
    return sorted(source.with_name(path.name) for path in (root / source.parent).glob("*.h"))


def source_files(project: Project) -> list[PurePosixPath]:
    """The files that a build reads, relative to the project: program sources, headers beside them, the lock of its
    kernels, and BTF that the project keeps itself. Raises `KernelError`."""
    root, config = project.root, project.config
    own = {file for source in project.sources for file in project.files_of(source)}
    paths = {root / file for file in own.union(*(headers_beside(root, file) for file in own))}
    if project.lock.is_file():
        paths.add(project.lock)
    # an archive at a URL has nothing in the project
    folder = config.btf_archive if isinstance(config.btf_archive, Path) else None
    entries = [
        entry
        for entry in config.kernels
        if isinstance(entry, BtfFile) or (folder is not None and not isinstance(entry, Host))
    ]
    if entries:
        archs = [arch.name for arch in config.archs]
        paths.update(kernel.path for kernel in resolve(entries, archs=archs, archive=folder).sources)
    inside = [path.relative_to(root) for path in paths if path.is_relative_to(root)]
    return sorted(PurePosixPath(path.as_posix()) for path in inside)
