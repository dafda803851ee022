"""A file that holds a kernel's BTF -> texts that are others when the file is another.

Input: a `KernelSource`. Output: texts to remember it by, without unpacking it. Raises nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from hatch_bpf.kernels import running_kernel
from hatch_bpf.kernels.matrix import KernelSource
from hatch_bpf.reuse.unchanged import SETTLED
from hatch_bpf.support.files import signature
from hatch_bpf.support.templating import FOLDERS


def identity_of(source: KernelSource) -> str | None:
    """A text that is another when the file of a kernel is another; None where nobody can tell."""
    return next(identities(source), None)


def identities(source: KernelSource) -> Iterator[str]:
    """The cheapest first: what the file system says of the file, then its contents, which may have been copied."""
    try:
        if source.is_host:
            yield f"{engine_digest()} host {running_kernel()}"
            return
        now = signature(source.path)
        modified = int(now.split()[3]) / 1e9
        if modified < time.time() - SETTLED:
            yield f"{engine_digest()} {source.path} {now}"
        # an archive's file has to hold what its name says
        contents = hashlib.sha256(source.path.read_bytes()).hexdigest()
        yield f"{engine_digest()} {source.path.name} {contents}"
    except OSError:
        return


@lru_cache(maxsize=1)
def engine_digest() -> str:
    """Another for another version of hatch-bpf, which may read the same kernel in another way."""
    digest = hashlib.sha256()
    for path in engine_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def engine_files() -> list[Path]:
    """hatch-bpf's own code and templates, sorted."""
    own = [*Path(__file__).parents[1].rglob("*.py"), *(path for folder in FOLDERS for path in folder.rglob("*.*"))]
    return sorted(own)
