"""Artifacts in the source tree: writes them for editable builds and `hatch-bpf build`, and removes them again.

Input: `Artifacts`. Output: files beside the program sources. Only what hatch-bpf generated is overwritten or removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath

from hatch_bpf.errors import OutputError
from hatch_bpf.project.sources import BPF_DIR, Project
from hatch_bpf.support.files import alone_in, disk_errors, remove_leftovers, write_whole
from hatch_bpf.wheel.artifacts import GENERATED, Artifact, Artifacts


def write(files: Iterable[Artifact], *, root: Path, alone: bool = True) -> None:
    """Write every artifact, each whole or not at all, and remove what earlier builds left. Raises `OutputError`.

    Builds in the same tree wait for each other, since each removes leftovers. Files that are not `alone` share their
    folders with others, so nothing is removed.
    """
    targets = {root / file.tree_path: file.data for file in files}
    folders = sorted({path.parent for path in targets if path.name == "__init__.py"})
    with disk_errors(), alone_in(root):
        for path in targets:
            _refuse_foreign(path)
        for folder in folders:
            if folder.name == BPF_DIR:
                _refuse_strays(folder, targets)
        for path, data in targets.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
            if path.name.endswith("_skel.py"):
                remove_leftovers(path)
        for folder in folders if alone else ():
            # a program that was renamed or removed left its skeleton
            for path in (*sorted(folder.rglob("*")), *_skeletons(folder.parent)):
                if path.is_file() and path not in targets:
                    path.unlink()


def _skeletons(package: Path) -> list[Path]:
    return [path for path in sorted(package.rglob("*_skel.py")) if _is_generated(path)]


def remove(project: Project) -> None:
    """Remove everything that `write()` wrote or began to write. Raises `OutputError`."""
    with disk_errors(), alone_in(project.root):
        for source in project.sources:
            skeleton = project.root / source.path.parent / f"{source.name}_skel.py"
            if _is_generated(skeleton):
                skeleton.unlink()
            if skeleton.parent.is_dir():
                remove_leftovers(skeleton)
            folder = project.root / source.tree_bpf_dir
            if folder.is_dir():
                remove_leftovers(folder / "__init__.py")
                if _is_generated(folder / "__init__.py"):
                    _remove_folder(folder)
                elif not any(folder.iterdir()):
                    folder.rmdir()


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


def reject_leftovers(artifacts: Artifacts, *, project: Project, goes_in: Callable[[str], bool]) -> None:
    """Refuse to build a wheel that would also contain leftovers of an editable build, or lack a user's own file.

    `goes_in` says whether the build system takes a file, given relative to the project. Raises `OutputError`.
    """
    reject_foreign(artifacts, root=project.root)
    made = {file.tree_path for file in artifacts.files}
    with alone_in(project.root):
        for folder in sorted({source.tree_bpf_dir for source in project.sources}):
            for path in sorted((project.root / folder).rglob("*")):
                name = PurePosixPath(path.relative_to(project.root).as_posix())
                if path.is_file() and "__pycache__" not in name.parts and name not in made and goes_in(str(name)):
                    raise OutputError(
                        f"{name} is left from an editable build and would go into the wheel: "
                        f"remove the folder {folder}, and let .gitignore name it so that this cannot happen"
                    )


def reject_foreign(artifacts: Artifacts, *, root: Path) -> None:
    """Refuse to replace a file that hatch-bpf did not generate. Raises `OutputError`."""
    for file in artifacts.files:
        _refuse_foreign(root / file.tree_path)


def _refuse_foreign(path: Path) -> None:
    if path.suffix == ".py" and path.parent.name != "runtime" and path.exists() and not _is_generated(path):
        raise OutputError(f"{path} is not a file that hatch-bpf generated, and it is in the way: rename or remove it")


def _refuse_strays(folder: Path, targets: Collection[Path]) -> None:
    """Refuse to empty a `_bpf` folder that does not carry our mark."""
    mark = folder / "__init__.py"
    if _is_generated(mark) or not folder.is_dir():
        return
    remove_leftovers(mark)  # the mark is written first
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in targets and "__pycache__" not in path.parts:
            raise OutputError(
                f"{path} is not a file that hatch-bpf generated, and {folder} is the folder that it fills: "
                "move the file to another folder"
            )


def _is_generated(path: Path) -> bool:
    return path.is_file() and path.read_text(errors="replace").startswith(GENERATED)
