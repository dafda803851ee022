"""`pipeline.build()`, unless nothing has changed since a build of the same: then what that one made.

Input: a `Project`. Output: `Artifacts`. A build is remembered with the sha256 of every file that the compiler read,
with the compiler, the options, the kernels and hatch-bpf itself; it serves as long as all of these are what they were.
Where `unchanged` can ask first, the file system's word spares even that look.
It cannot notice a new header outside of the project, in a folder searched before the one where another of its name is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_bpf.compiler.toolchain import clang_identity
from hatch_bpf.kernels.matrix import Matrix
from hatch_bpf.project.declared_kernels import Notify, find_kernels
from hatch_bpf.project.sources import Project
from hatch_bpf.reuse import unchanged
from hatch_bpf.reuse.file_identity import engine_digest, engine_files, identity_of
from hatch_bpf.reuse.unchanged import BUILDS
from hatch_bpf.support.store import Store
from hatch_bpf.wheel.artifacts import RECORD_NAME, Artifacts, pack, unpack

if TYPE_CHECKING:
    from hatch_bpf.kernels.remote.fetch import Progress
    from hatch_bpf.per_kernel import Watch


def build(
    project: Project,
    *,
    notify: Notify,
    environ: Mapping[str, str] = os.environ,
    reuse: bool = True,
    downloads: Callable[[Progress], None] = lambda _: None,
    watch: Watch | None = None,
    name: str | None = None,
) -> Artifacts:
    """As `pipeline.build()`. With a `name`, `unchanged` will know what was made by it."""
    began, store = time.time(), Store()
    matrix = _kernels(project)
    key = _key(project, matrix, environ) if matrix else None
    made = _recall(store, key) if key else None
    if made is not None:
        unchanged.tell_again(made, notify)
    else:
        from hatch_bpf import pipeline  # with all the stages, which take longer to import than all of the above

        made = pipeline.build(
            project, notify=notify, environ=environ, reuse=reuse, downloads=downloads, watch=watch, known=matrix
        )
        if key and made.read is not None:
            _keep(store, key, project, made)
    if name and matrix and key and made.read is not None:
        unchanged.keep(name, key, [*made.read, *_places(project, matrix)], since=began)
    return made


def _kernels(project: Project) -> Matrix | None:
    """The kernel matrix, if all that a build depends on can be told before it."""
    config = project.config
    is_built = any((project.root / package.tree_dir / RECORD_NAME).exists() for package in project.packages)
    # what an archive at a URL has now, what libraries there are to bundle and which bpftool, only a build finds out
    by_others = config.libbpf == "bundle" or config.minimizer == "bpftool"
    if is_built or by_others or not isinstance(config.btf_archive, (Path, type(None))):
        return None
    return find_kernels(config, lock=project.lock)


def _key(project: Project, matrix: Matrix, environ: Mapping[str, str]) -> str | None:
    """What a build depends on that can be told before it; None if it depends on more."""
    clang = clang_identity(environ)
    kernels = [[str(source.kernel), identity_of(source), source.sha256] for source in matrix.sources]
    if clang is None or not all(identity for _, identity, _ in kernels):
        return None
    headers = sorted(
        str(path.relative_to(project.root))
        for folder in {(project.root / part).parent for source in project.sources for part in source.parts}
        for path in folder.rglob("*.h")
    )
    depends = [
        engine_digest(), str(project.root), project.config.digest, repr(project.sources), clang, kernels, headers
    ]  # fmt: skip
    return sha256(json.dumps(depends).encode()).hexdigest()


def _places(project: Project, matrix: Matrix) -> Iterator[Path]:
    """Everything that a build looks at besides what the compiler reads, and where it finds that there is nothing."""
    root = project.root
    yield from (root / "pyproject.toml", root / "hatch.toml", project.lock)
    yield from (root / package.tree_dir for package in project.packages)
    for folder in project.searched:
        yield from _folders(folder)
    for source in project.sources:
        # these say which folder is the package's
        yield from (root / folder / "__init__.py" for folder in source.path.parents)
    if isinstance(project.config.btf_archive, Path):
        archive = project.config.btf_archive
        yield from (archive, *archive.glob("*"), *archive.glob("*/*"), *archive.glob("*/*/*"))
    yield from (source.path for source in matrix.sources)
    for path in engine_files():
        yield from (path, path.parent)


def _folders(top: Path) -> Iterator[Path]:
    """A folder, there or not, and all below it that sources are looked for in."""
    yield top
    for parent, folders, _ in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        yield from (Path(parent, name) for name in folders)


def _recall(store: Store, key: str) -> Artifacts | None:
    kept = store.get(BUILDS, key)
    if kept is None:
        return None
    made, read = unpack(kept)
    if any(_digest(Path(path)) != digest for path, digest in read.items()):
        return None
    return made._replace(read=tuple(map(Path, read)))


def _keep(store: Store, key: str, project: Project, made: Artifacts) -> None:
    read = [*(made.read or ()), *([project.lock] if project.lock.is_file() else [])]
    # what takes the place of another needs no room to be made
    if store.put(BUILDS, key, pack(made, {str(path): _digest(path) for path in read})):
        store.prune()


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
