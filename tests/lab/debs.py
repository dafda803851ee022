"""A Debian package -> everything that it installs, by dpkg's own tool."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path


def deb_files(package: Path) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """In the package's order; with each comes what reads a regular file, to be called before the next is asked for."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as unpacking:
        assert unpacking.stdout is not None
        with tarfile.open(fileobj=unpacking.stdout, mode="r|") as tar:
            for member in tar:
                yield member, partial(_content, tar, member)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    assert content is not None
    return content.read()
