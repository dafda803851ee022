"""Artifacts in a folder: what editable builds and `hatch-bpf build` write into the source tree, and its removal.

Input: the files of a build, and the folders of the wheel's packages. Output: the files, and nothing that earlier builds
left there. Only what hatch-bpf generated is overwritten or removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from hatch_bpf.errors import OutputError
from hatch_bpf.project.sources import BPF_DIR, Project, walk
from hatch_bpf.support.files import alone_in, disk_errors, final_name, remove_leftovers, write_whole
from hatch_bpf.wheel.artifacts import GENERATED, RUNTIME, Artifacts

_STAGING = "__pycache__"
"""Where files are until they are whole: a folder that no build system packs, at whatever moment it looks."""


def write(files: Mapping[PurePosixPath, bytes], *, root: Path, folders: Iterable[PurePosixPath]) -> None:
    """Write files below `root`, each whole or not at all. Raises `OutputError`.

    What earlier builds left in the packages `folders` is removed. Builds in the same tree wait for each other, since
    each removes what it takes for another's leftovers.
    """
    targets = {root / name: data for name, data in files.items()}
    with disk_errors(), alone_in(root):
        for folder in _bpf_folders(targets):
            _refuse_links(folder, targets)
            _refuse_strays(folder, targets)
        for path in targets:
            _refuse_foreign(path)
        for path, data in targets.items():
            _put(path, data)
        _clear(root, folders, targets)


def write_to_tree(artifacts: Artifacts, project: Project) -> None:
    """Write all that a build made beside the sources, as `write()` does."""
    write({file.tree_path: file.data for file in artifacts.files}, root=project.root, folders=_packages(project))


def remove(project: Project) -> None:
    """Remove everything that `write_to_tree()` wrote or began to write. Raises `OutputError`."""
    with disk_errors(), alone_in(project.root):
        _clear(project.root, _packages(project), ())
        for source in project.sources:
            # a build that was killed may have left nothing but temporary files
            folder = project.root / source.tree_bpf_dir
            skeleton = project.root / source.path.parent / f"{source.name}_skel.py"
            for path in (folder / "__init__.py", skeleton):
                _sweep(path)
            with suppress(OSError):
                folder.rmdir()


def reject_leftovers(artifacts: Artifacts, project: Project, goes_in: Callable[[str], bool]) -> None:
    """Refuse to build a wheel that would also contain leftovers of an earlier build, or lack a user's own file.

    `goes_in` says whether the build system takes a file, given relative to the project. Temporary files of builds that
    were killed are removed. Raises `OutputError`.
    """
    made = {project.root / file.tree_path for file in artifacts.files}
    with disk_errors(), alone_in(project.root):
        for path in made:
            _refuse_foreign(path)
        for folder in _bpf_folders(made):
            _refuse_links(folder, made)
        for path in sorted(set(_leftovers(project.root, _packages(project), made))):
            name = path.relative_to(project.root).as_posix()
            if not goes_in(name):
                continue
            if not final_name(path):
                raise OutputError(
                    f"{name} is left from an editable build and would go into the wheel: "
                    f"remove it, and let .gitignore name {BPF_DIR}/ and *_skel.py so that this cannot happen"
                )
            path.unlink()


def _packages(project: Project) -> list[PurePosixPath]:
    """The wheel's packages in the source tree. Where that is all of the project, only those that have programs: a
    virtual environment with others' packages may lie beside them."""
    if PurePosixPath() in project.folders:
        return sorted({source.tree_bpf_dir.parent for source in project.sources})
    return list(project.folders)


def _bpf_folders(paths: Iterable[Path]) -> list[Path]:
    """The `_bpf` folders among the parents of files."""
    return sorted({path.parent for path in paths if path.name == "__init__.py" and path.parent.name == BPF_DIR})


def _put(path: Path, data: bytes) -> None:
    staging = path.parent / _STAGING
    staging.mkdir(parents=True, exist_ok=True)
    write_whole(path, data, staging=staging)
    _sweep(path)


def _sweep(path: Path) -> None:
    """Remove what builds that were killed left of one file, whichever version of hatch-bpf they were by."""
    staging = path.parent / _STAGING
    remove_leftovers(path, path.parent)
    remove_leftovers(path, staging)
    with suppress(OSError):  # it is not empty, or not there
        staging.rmdir()


def _clear(root: Path, folders: Iterable[PurePosixPath], made: Collection[Path]) -> None:
    left = sorted(set(_leftovers(root, folders, made)))
    gone = _bpf_folders(left)
    for path in left:
        if path.parent not in gone or path.name != "__init__.py":
            path.unlink()
            _sweep(path)
    for folder in gone:
        _remove_folder(folder)


def _leftovers(root: Path, folders: Iterable[PurePosixPath], made: Collection[Path]) -> Iterator[Path]:
    """What earlier builds left in packages and this one does not make: skeletons, the files of `_bpf` folders, and
    temporary files."""
    for folder in folders:
        for path in walk(root / folder):
            if path in made:
                continue
            bpf = next((parent for parent in path.relative_to(root).parents if parent.name == BPF_DIR), None)
            if bpf is not None:
                ours = _is_generated(root / bpf / "__init__.py") and not _is_behind_link(path, root / bpf)
            else:
                temporary = final_name(path)
                is_skeleton = (temporary or path.name).endswith("_skel.py")
                ours = is_skeleton and (bool(temporary) or _is_generated(path))
            if ours:
                yield path


def _is_behind_link(path: Path, folder: Path) -> bool:
    """Whether a folder, or one between it and a path, is a link."""
    return any(parent.is_symlink() for parent in path.parents if parent.is_relative_to(folder))


def _remove_folder(folder: Path) -> None:
    """Remove a `_bpf` folder. The file that marks it as ours goes last, so that another attempt can finish."""
    mark = folder / "__init__.py"
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif path != mark:
            path.unlink()
    mark.unlink()
    folder.rmdir()


def _refuse_links(folder: Path, targets: Iterable[Path]) -> None:
    """What is written through a link would end up elsewhere, and what is removed would be gone there."""
    within = {parent for path in targets for parent in path.parents if parent.is_relative_to(folder)}
    for parent, names, _ in os.walk(folder):
        within.update(Path(parent, name) for name in names)
    for path in sorted(within):
        what = "" if path == folder else f", and {folder} is the folder that hatch-bpf fills"
        if path.is_symlink():
            raise OutputError(f"{path} is a symbolic link{what}: remove the link")
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is no folder, where hatch-bpf makes one: remove or rename it")


def _refuse_foreign(path: Path) -> None:
    of_runtime = f"/{BPF_DIR}/{RUNTIME.name}/" in path.as_posix()
    if path.suffix == ".py" and not of_runtime and path.exists() and not _is_generated(path):
        raise OutputError(f"{path} is not a file that hatch-bpf generated, and it is in the way: rename or remove it")


def _refuse_strays(folder: Path, targets: Collection[Path]) -> None:
    """Refuse to empty a `_bpf` folder that does not carry our mark."""
    mark = folder / "__init__.py"
    if _is_generated(mark) or not folder.is_dir():
        return
    _sweep(mark)  # the mark is written first
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in targets and _STAGING not in path.parts:
            raise OutputError(
                f"{path} is not a file that hatch-bpf generated, and {folder} is the folder that it fills: "
                "move the file to another folder"
            )


def _is_generated(path: Path) -> bool:
    return path.is_file() and path.read_text(errors="replace").startswith(GENERATED)
