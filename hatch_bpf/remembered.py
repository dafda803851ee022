"""`pipeline.build()`, unless nothing has changed since a build of the same: then what that one made.

Input: a `Project`. Output: `Artifacts`. A build is remembered with the sha256 of every file that the compiler read,
with the compiler, the options, the kernels and hatch-bpf itself; it serves as long as all of these are what they were.
It cannot notice a new header outside of the project, in a folder searched before the one where another of its name is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hatch_bpf.artifacts import RECORD_NAME, Artifact, Artifacts
from hatch_bpf.cache import Store
from hatch_bpf.declared import Notify, find_kernels
from hatch_bpf.project import Project
from hatch_bpf.source_identity import engine_digest, identity_of
from hatch_bpf.toolchain import clang_identity
from hatch_bpf.verdicts import Report

if TYPE_CHECKING:
    from hatch_bpf.fit import Watch
    from hatch_bpf.kernels.fetch import Progress

KIND = "builds"


def build(
    project: Project,
    *,
    notify: Notify,
    environ: Mapping[str, str] = os.environ,
    reuse: bool = True,
    downloads: Callable[[Progress], None] = lambda _: None,
    watch: Watch | None = None,
) -> Artifacts:
    """As `pipeline.build()`."""
    store, key = Store(), _key(project, environ)
    remembered = _recall(store, key) if key else None
    if remembered is not None:
        for line in remembered.told:
            notify(line)
        notify("nothing has changed since the last build: its results serve")
        return remembered
    from hatch_bpf import pipeline  # with all the stages, which take longer to import than all of the above

    made = pipeline.build(project, notify=notify, environ=environ, reuse=reuse, downloads=downloads, watch=watch)
    if key and made.read is not None:
        _keep(store, key, project, made)
    return made


def _key(project: Project, environ: Mapping[str, str]) -> str | None:
    """What a build depends on that can be told before it; None if it depends on more."""
    config, clang = project.config, clang_identity(environ)
    is_built = any((project.root / package.tree_dir / RECORD_NAME).exists() for package in project.packages)
    # what an archive at a URL has now, and what libraries there are to bundle, only a build finds out
    if clang is None or is_built or config.libbpf == "bundle" or not isinstance(config.btf_archive, (Path, type(None))):
        return None
    kernels = [
        [str(source.kernel), identity_of(source), source.sha256]
        for source in find_kernels(config, _ignore, lock=project.lock).sources
    ]
    if not all(identity for _, identity, _ in kernels):
        return None
    headers = sorted(
        str(path.relative_to(project.root))
        for folder in {(project.root / part).parent for source in project.sources for part in source.parts}
        for path in folder.rglob("*.h")
    )
    depends = [engine_digest(), str(project.root), config.digest, repr(project.sources), clang, kernels, headers]
    return sha256(json.dumps(depends).encode()).hexdigest()


def _recall(store: Store, key: str) -> Artifacts | None:
    kept = store.get(KIND, key)
    if kept is None:
        return None
    head, _, data = kept.partition(b"\n")
    table: dict[str, Any] = json.loads(head)
    if any(_digest(Path(path)) != digest for path, digest in table["read"].items()):
        return None
    files, at = [], 0
    for wheel_path, tree_path, size in table["files"]:
        files.append(Artifact(PurePosixPath(wheel_path), PurePosixPath(tree_path), data[at : at + size]))
        at += size
    return Artifacts(tuple(files), "any", Report(()), tuple(table["told"]), None)


def _keep(store: Store, key: str, project: Project, made: Artifacts) -> None:
    read = [*(made.read or ()), *([project.lock] if project.lock.is_file() else [])]
    table = {
        "read": {str(path): _digest(path) for path in read},
        "files": [(str(file.wheel_path), str(file.tree_path), len(file.data)) for file in made.files],
        "told": made.told,
    }
    store.put(KIND, key, json.dumps(table).encode() + b"\n" + b"".join(file.data for file in made.files))
    store.prune()


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _ignore(_line: str) -> None:
    """The build tells it."""
