"""An archive that is a repository on GitHub: where its files are, and which kernels it has.

Input: a URL of the repository as a browser shows it, or of its raw files. Output: the URL that its files are downloaded
from; and its kernels, as GitHub's API lists a commit's files. Raises `KernelError`.

The API cuts a listing off after 100,000 files or 7 MB, and says so: then folder by folder is asked for. Who does not
say who they are is answered 60 times an hour.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from hatch_bpf import arch as arches
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import SUFFIX, path_of
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.remote.download import NotThereError, RefusedError, download

API = "https://api.github.com"
RAW = "https://raw.githubusercontent.com"
HOSTS = ("github.com", "www.github.com", "raw.githubusercontent.com")
MAX_LISTING = 64 << 20
"""Largest answer taken, in bytes."""
_LEVELS = ("distro", "version", "arch", "file")
"""What the parts of a path in the archive are."""
_TOKEN = "A line `machine api.github.com login x-access-token password TOKEN` in ~/.netrc says who asks."
"""Remedy for what only a user of GitHub may do."""


@dataclass(frozen=True)
class Repository:
    """A folder of a repository, at one commit, branch or tag."""

    owner: str
    name: str
    ref: str
    """`HEAD` for the default branch."""
    folder: str
    """From the repository's root on, without slashes around it; empty for the root itself."""

    @property
    def files(self) -> str:
        """The URL that the archive's paths are added to."""
        return "/".join(
            [RAW, *map(quote, (self.owner, self.name, self.ref)), *([quote(self.folder)] * bool(self.folder))]
        )

    @property
    def is_fixed(self) -> bool:
        """Whether it can never have other files than now."""
        return bool(re.fullmatch(r"[0-9a-f]{40}", self.ref))


def parse_repository(url: str) -> Repository | None:
    """The repository that a URL is of; None for a URL of anything else."""
    parts = urlsplit(url)
    if parts.hostname not in HOSTS:
        return None
    names = [unquote(part) for part in parts.path.split("/") if part]
    if len(names) < 2:
        raise KernelError(f'"{url}" is not a repository: write https://github.com/OWNER/NAME')
    owner, name, *rest = names
    if parts.hostname != "raw.githubusercontent.com" and rest:
        if rest[0] != "tree" or len(rest) < 2:
            raise KernelError(
                f'"{url}" is not a folder of a repository: write https://github.com/{owner}/{name}, '
                f"or https://github.com/{owner}/{name}/tree/BRANCH/FOLDER"
            )
        rest = rest[1:]
    if rest[:1] == ["refs"] and len(rest) > 2:
        rest = rest[2:]
    ref, *folder = rest or ["HEAD"]
    return Repository(owner, name.removesuffix(".git"), ref, "/".join(folder))


def list_repository(repository: Repository, scratch: Path) -> list[Kernel]:
    """The kernels of an archive, sorted. What is downloaded for that goes through the folder `scratch`.

    Only files count whose place follows from the kernel. Raises `KernelError`.
    """
    found = set()
    for path in _paths(repository, scratch):
        kernel = _kernel(path)
        if kernel is not None and PurePosixPath(path_of(kernel)) == path:
            found.add(kernel)
    return sorted(found)


def _kernel(path: PurePosixPath) -> Kernel | None:
    if len(path.parts) != len(_LEVELS) or not path.name.endswith(SUFFIX) or arches.by_machine(path.parts[2]) is None:
        return None
    try:
        return Kernel.parse(str(path).removesuffix(SUFFIX))
    except KernelError:  # a name that no kernel can have
        return None


def _paths(repository: Repository, scratch: Path) -> Iterator[PurePosixPath]:
    """The files below the archive's folder, relative to it."""
    root = PurePosixPath(repository.folder)
    pending = [(PurePosixPath(), repository.ref)]
    while pending:
        above, tree = pending.pop()
        entries, is_whole = _list(repository, tree, scratch, recursive=True)
        if not is_whole:
            entries, _ = _list(repository, tree, scratch, recursive=False)
        for entry in entries:
            path = above / entry["path"]
            is_inside = path.is_relative_to(root) and len(path.parts) - len(root.parts) < len(_LEVELS)
            if entry["type"] == "blob" and path.is_relative_to(root):
                yield path.relative_to(root)
            elif entry["type"] == "tree" and not is_whole and (is_inside or root.is_relative_to(path)):
                pending.append((path, entry["sha"]))


def _list(repository: Repository, tree: str, scratch: Path, *, recursive: bool) -> tuple[list[dict[str, str]], bool]:
    """What is in a tree, and whether that is all of it. Raises `KernelError`."""
    names = "/".join(
        quote(name, safe="") for name in ("repos", repository.owner, repository.name, "git", "trees", tree)
    )
    url = f"{API}/{names}{'?recursive=1' * recursive}"
    try:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="listing-") as folder:
            path = Path(folder, "tree.json")
            download(url, path, limit=MAX_LISTING)
            document = json.loads(path.read_bytes())
        entries = [{key: str(entry[key]) for key in ("path", "type", "sha")} for entry in document["tree"]]
        return entries, document.get("truncated") is False
    except NotThereError as error:
        raise NotThereError(
            f"{error}: GitHub knows no repository {repository.owner}/{repository.name} with a {repository.ref}; look "
            f"whether btf-archive is right. {_TOKEN}"
        ) from error
    except RefusedError as error:
        raise RefusedError(
            f"GitHub does not list {repository.owner}/{repository.name} ({error.status}): who does not say who they "
            f"are may ask 60 times an hour. {_TOKEN} `hatch-bpf kernels lock` makes the list needless",
            error.status,
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KernelError(f"{url} is not a list of files as GitHub gives it ({error!r}); try again later") from error
