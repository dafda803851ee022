"""What kernels run with in the lab: this machine's Python, or a root file system made of Debian's packages.

Input: a kernel. Output: a tar for `hatch-bpf try --root`, kept in apt's folder, or None for this machine's Python.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hatch_bpf.arch import build_machine
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.lab import cpio
from tests.lab.debian import Apt
from tests.lab.debs import deb_files


@dataclass(frozen=True)
class Suite:
    """A Debian release to take Python and libbpf from."""

    name: str
    packages: tuple[str, ...]


_PYTHON = ("python3-minimal", "libpython3-stdlib")
SUITES = {
    "11": Suite("bullseye", (*_PYTHON, "python3-pip")),
    "12": Suite("bookworm", (*_PYTHON, "libbpf1")),
    "13": Suite("trixie", (*_PYTHON, "libbpf1")),
}
"""By Debian's version: Python 3.9 with its pip, and without libbpf, whose 0.3 is too old; Python 3.11 with libbpf 1.1;
Python 3.13 with libbpf 1.5."""
OWN = "12"
"""The version whose kernels run with this machine's Python, as users' do."""

KEPT = ("usr/bin/python3", "usr/lib", "usr/lib64", "usr/share/python-wheels", "etc/ssl")
"""What of the packages goes in, by the start of its path."""
DROPPED = ("usr/lib/dpkg", "usr/lib/apt", "usr/lib/systemd", "usr/lib/mime", "gconv", "perl")
"""What of that is left out, wherever it stands in the path: nothing here needs it."""


def has_pip(kernel: Kernel) -> bool:
    """Whether the kernel's guest has Debian's pip."""
    return "python3-pip" in SUITES[kernel.version].packages


def has_libbpf(kernel: Kernel) -> bool:
    """Whether the kernel's guest has a libbpf of its own."""
    return kernel.version != "11"


def root_tar(kernel: Kernel, apt: Apt) -> Path | None:
    """What the kernel's guest runs with; made once for each set of package versions."""
    own = build_machine()
    if kernel.version == OWN and own is not None and own.name == kernel.arch:
        return None
    suite = SUITES[kernel.version]
    packages = apt.fetch_all(suite.packages, suite=suite.name, arch=kernel.arch)
    recipe = repr((sorted(path.name for path in packages), KEPT, DROPPED, Path(__file__).read_bytes()))
    kept = apt.folder / "roots" / f"{suite.name}-{kernel.arch}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.tar"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        _write(partial, _nodes(packages))
        partial.rename(kept)
    return kept


def _nodes(packages: list[Path]) -> dict[str, cpio.Node]:
    nodes = {name: cpio.link(f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")}
    nodes["usr/lib64"] = cpio.folder()
    for package in packages:
        for member, read in deb_files(package):
            path = _merged(member.name)
            if not path.startswith(KEPT) or any(part in path for part in DROPPED):
                continue
            if member.isdir():
                nodes.setdefault(path, cpio.folder())
            elif member.issym():
                nodes[path] = cpio.link(member.linkname)
            elif member.isreg():
                nodes[path] = cpio.Node(stat.S_IFREG | member.mode, read())
    # Debian's maintainer scripts would have written this
    nodes["etc/passwd"] = cpio.file("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    return nodes


def _merged(name: str) -> str:
    """A package's path with /bin, /lib and their like under /usr, as Debian has them today."""
    path = PurePosixPath(name.removeprefix("./").lstrip("/"))
    return (
        str(PurePosixPath("usr") / path) if path.parts[:1] in (("bin",), ("sbin",), ("lib",), ("lib64",)) else str(path)
    )


def _write(path: Path, nodes: Mapping[str, cpio.Node]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, node in sorted(nodes.items()):
            member = tarfile.TarInfo(name)
            member.mode = stat.S_IMODE(node.mode)
            if node.is_link:
                member.type, member.linkname = tarfile.SYMTYPE, node.content.decode()
            elif stat.S_ISDIR(node.mode):
                member.type = tarfile.DIRTYPE
            else:
                member.size = len(node.content)
            tar.addfile(member, io.BytesIO(node.content) if member.isreg() else None)
