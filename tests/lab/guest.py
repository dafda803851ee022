"""What runs inside the lab's virtual machines: a root file system out of Debian's packages.

Input: a suite and an architecture. Output: a cpio archive with busybox, a Python with its standard library, libbpf and
what these need. Nothing of the machine the lab runs on goes in, so every machine tests the same.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hatch_bpf.lab import cpio
from tests.lab.debian import Apt
from tests.lab.debs import deb_files


@dataclass(frozen=True)
class Suite:
    """A Debian release to take Python and libbpf from."""

    name: str
    packages: tuple[str, ...]


_COMMON = ("python3-minimal", "libpython3-stdlib", "busybox-static")
SUITES = {
    suite.name: suite
    for suite in (
        Suite("bullseye", (*_COMMON, "libbpf0")),
        Suite("bookworm", (*_COMMON, "libbpf1")),
        Suite("bookworm-backports", (*_COMMON, "libbpf1")),
        Suite("trixie", (*_COMMON, "libbpf1")),
        Suite("forky", (*_COMMON, "libbpf1")),
    )
}
"""Python 3.9 with libbpf 0.3; Python 3.11 with libbpf 1.1, and with 1.4; Python 3.13 with libbpf 1.5; Python 3.14 with
libbpf 1.7."""

KEPT = ("usr/bin/busybox", "usr/bin/python3", "usr/lib", "usr/lib64", "etc/ssl", "etc/os-release", "etc/debian_version")
"""What of the packages goes in, by the start of its path."""
DROPPED = (
    "usr/lib/python3/dist-packages",
    "usr/lib/dpkg",
    "usr/lib/apt",
    "usr/lib/systemd",
    "usr/lib/mime",
    "gconv",
    "perl",
)
"""What of that is left out, wherever it stands in the path: nothing here needs it."""

INIT = """\
#!/usr/bin/busybox sh
# The first and only process: set the machine up, run the command, say how it went, and switch off.
/usr/bin/busybox --install -s /usr/bin
export PATH=/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs tmpfs /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
ip link set lo up
grep -qw lab.hide-btf /proc/cmdline && mount -t tmpfs none /sys/kernel/btf
dmesg -n 1
stty -opost
cd /lab
echo
echo "$(cat begin)"
sh ./command 2>&1 </dev/null
status=$?
echo
echo "$(cat end) $status"
[ $status = 0 ] || dmesg | tail -n 30
poweroff -f
"""


def root(suite: Suite, arch: str, apt: Apt) -> bytes:
    """The packed root file system; made once for each set of package versions, then kept in apt's folder."""
    packages = apt.fetch_all(suite.packages, suite=suite.name, arch=arch)
    recipe = repr((sorted(path.name for path in packages), KEPT, DROPPED, INIT, Path(__file__).read_bytes()))
    kept = apt.folder / "roots" / f"{suite.name}-{arch}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.cpio"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_bytes(cpio.pack(_nodes(packages)))
        partial.rename(kept)
    return kept.read_bytes()


def _nodes(packages: list[Path]) -> dict[str, cpio.Node]:
    nodes = {name: cpio.link(f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")}
    for name in ("dev", "proc", "root", "sys", "tmp", "run", "etc", "usr/bin", "usr/sbin", "usr/lib64"):
        nodes[name] = cpio.folder()
    nodes["init"] = cpio.file(INIT, executable=True)
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
    # Debian's maintainer scripts would have written these
    nodes["etc/passwd"] = cpio.file("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    nodes["etc/hosts"] = cpio.file("127.0.0.1 localhost\n")
    return nodes


def _merged(name: str) -> str:
    """A package's path with /bin, /lib and their like under /usr, as Debian has them today."""
    path = PurePosixPath(name.removeprefix("./").lstrip("/"))
    return (
        str(PurePosixPath("usr") / path) if path.parts[:1] in (("bin",), ("sbin",), ("lib",), ("lib64",)) else str(path)
    )


def root_tar(suite: Suite, arch: str, apt: Apt) -> Path:
    """The same as a tar, for `hatch-bpf try --root`."""
    packages = apt.fetch_all(suite.packages, suite=suite.name, arch=arch)
    recipe = repr((sorted(path.name for path in packages), KEPT, DROPPED, Path(__file__).read_bytes()))
    kept = apt.folder / "roots" / f"{suite.name}-{arch}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.tar"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        with tarfile.open(partial, "w") as tar:
            for name, node in sorted(_nodes(packages).items()):
                _add(tar, name, node)
        partial.rename(kept)
    return kept


def _add(tar: tarfile.TarFile, name: str, node: cpio.Node) -> None:
    member = tarfile.TarInfo(name)
    member.mode = stat.S_IMODE(node.mode)
    if node.is_link:
        member.type, member.linkname = tarfile.SYMTYPE, node.content.decode()
    elif stat.S_ISDIR(node.mode):
        member.type = tarfile.DIRTYPE
    else:
        member.size = len(node.content)
    tar.addfile(member, io.BytesIO(node.content) if member.isreg() else None)
