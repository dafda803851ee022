"""An archive that is a repository on GitHub: where its files are, and which kernels it has.

Input: a URL of the repository as a browser shows it, or of its raw files. Output: the URL that its files are downloaded
from; and its kernels, from the list of a commit's files that GitHub's API gives. Raises `KernelError`.

The API cuts a list off after 100,000 files or 7 MB, and says so; then the folders are listed one by one. GitHub allows
60 anonymous API requests an hour; listing a large repository takes about a dozen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import kernel_at, path_of
from hatch_bpf.kernels.identity import Kernel, in_order
from hatch_bpf.support.budget import LIST_BYTES, LISTED_KERNELS

API = "https://api.github.com"
RAW = "https://raw.githubusercontent.com"
HOSTS = ("github.com", "www.github.com", "raw.githubusercontent.com")
_LEVELS = ("distro", "version", "arch", "file")
"""The parts of a path in the archive."""
_TOKEN = "To log in, add a line `machine api.github.com login x-access-token password TOKEN` to ~/.netrc."
"""Remedy for requests that GitHub answers its users only."""


@dataclass(frozen=True)
class GitHubFolder:
    """A folder of a repository on GitHub, at one commit, branch or tag."""

    owner: str
    name: str
    ref: str
    """`HEAD` for the default branch."""
    folder: str
    """Relative to the repository's root, without slashes around it; empty for the root itself."""

    @property
    def files(self) -> str:
        """The URL that the archive's paths are added to."""
        return "/".join(
            [RAW, *map(quote, (self.owner, self.name, self.ref)), *([quote(self.folder)] * bool(self.folder))]
        )

    @property
    def is_fixed(self) -> bool:
        """Whether its files can never change."""
        return bool(re.fullmatch(r"[0-9a-f]{40}", self.ref))


def parse_repository(url: str) -> GitHubFolder | None:
    """The repository that a URL names; None if it names none on GitHub. Raises `KernelError`."""
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
    return GitHubFolder(owner, name.removesuffix(".git"), ref, "/".join(folder))


def list_repository(repository: GitHubFolder) -> list[Kernel]:
    """The kernels of an archive, sorted. Files that are not where an archive has its kernels are passed over.

    Raises `KernelError`.
    """
    found = set()
    for path in _paths(repository):
        kernel = None
        with suppress(KernelError):  # a name that no kernel can have
            kernel = kernel_at(path) if len(path.parts) == len(_LEVELS) else None
        if kernel is not None and PurePosixPath(path_of(kernel)) == path:
            found.add(kernel)
            LISTED_KERNELS.check(len(found), source=repository.files)
    return in_order(found)


def _paths(repository: GitHubFolder) -> Iterator[PurePosixPath]:
    """The files below the archive's folder, relative to it."""
    root = PurePosixPath(repository.folder)
    pending = [(PurePosixPath(), repository.ref)]
    while pending:
        above, tree = pending.pop()
        entries, is_whole = _list(repository, tree, recursive=True)
        if not is_whole:
            entries, _ = _list(repository, tree, recursive=False)
        for entry in entries:
            path = above / entry["path"]
            is_inside = path.is_relative_to(root) and len(path.parts) - len(root.parts) < len(_LEVELS)
            if entry["type"] == "blob" and path.is_relative_to(root):
                yield path.relative_to(root)
            elif entry["type"] == "tree" and not is_whole and (is_inside or root.is_relative_to(path)):
                pending.append((path, entry["sha"]))


def _list(repository: GitHubFolder, tree: str, *, recursive: bool) -> tuple[list[dict[str, str]], bool]:
    """What is in a tree, and whether that is all of it. Raises `KernelError`."""
    from hatch_bpf.kernels.remote.download import NotThereError, RefusedError, download

    names = "/".join(
        quote(name, safe="") for name in ("repos", repository.owner, repository.name, "git", "trees", tree)
    )
    url = f"{API}/{names}{'?recursive=1' * recursive}"
    try:
        document = json.loads(download(url, limit=LIST_BYTES))
        entries = [{key: str(entry[key]) for key in ("path", "type", "sha")} for entry in document["tree"]]
        return entries, document.get("truncated") is False
    except NotThereError as error:
        raise NotThereError(
            f"{error}: GitHub knows no repository {repository.owner}/{repository.name} with a {repository.ref}; check "
            f"btf-archive. A private repository needs a login. {_TOKEN}"
        ) from error
    except RefusedError as error:
        raise RefusedError(
            f"GitHub does not list {repository.owner}/{repository.name} ({error.status}): it allows 60 anonymous API "
            f"requests an hour, and listing a large repository takes about a dozen. {_TOKEN} With a lock, made by "
            f"`hatch-bpf kernels lock`, no list is needed",
            status=error.status,
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KernelError(
            f"this is not the list of files that GitHub sends ({error!r}); try again later", source=url
        ) from error
