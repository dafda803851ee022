"""The upstream releases that the libraries are made of: pinned, fetched, unpacked.

Input: the table `RELEASES`. Output: a folder with the unpacked sources, whose archives had the pinned sha256.
Nothing of them is in the repository. Debian's source packages carry the archives too, where upstream is out of reach.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

SUITE = "trixie"
"""Debian's suite that has the source packages; apt knows a mirror."""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Release:
    """One upstream release."""

    name: str
    version: str
    purl: str
    license: str
    """SPDX expression of what goes into the library."""
    url: str
    """The archive upstream."""
    debian: tuple[str, str]
    """Debian's source package with its version, and the name of the archive in it."""
    sha256: tuple[str, ...]
    """Of the archive: upstream's and Debian's, where these differ."""
    folder: str
    """The folder in the archive."""
    licenses: tuple[str, ...]
    """Files in that folder."""


RELEASES = (
    Release(
        name="libbpf",
        version="1.5.0",
        purl="pkg:github/libbpf/libbpf@v1.5.0",
        license="LGPL-2.1-only OR BSD-2-Clause",
        url="https://github.com/libbpf/libbpf/archive/refs/tags/v1.5.0.tar.gz",
        debian=("libbpf=1.5.0-3", "libbpf_1.5.0.orig.tar.gz"),
        sha256=("53492aff6dd47e4da04ef5e672d753b9743848bdb38e9d90eafbe190b7983c44",),
        folder="libbpf-1.5.0",
        licenses=("LICENSE", "LICENSE.BSD-2-Clause", "LICENSE.LGPL-2.1"),
    ),
    Release(
        name="elfutils",
        version="0.192",
        purl="pkg:generic/elfutils@0.192?download_url=https://sourceware.org/elfutils/ftp/0.192/elfutils-0.192.tar.bz2",
        license="LGPL-3.0-or-later OR GPL-2.0-or-later",
        url="https://sourceware.org/elfutils/ftp/0.192/elfutils-0.192.tar.bz2",
        debian=("elfutils=0.192-4", "elfutils_0.192.orig.tar.bz2"),
        sha256=("616099beae24aba11f9b63d86ca6cc8d566d968b802391334c91df54eab416b4",),
        folder="elfutils-0.192",
        licenses=("COPYING-LGPLV3", "COPYING-GPLV2"),
    ),
    Release(
        name="zlib",
        version="1.3.1",
        purl="pkg:github/madler/zlib@v1.3.1",
        license="Zlib",
        url="https://zlib.net/fossils/zlib-1.3.1.tar.gz",
        debian=("zlib=1:1.3.dfsg+really1.3.1-1", "zlib_1.3.dfsg+really1.3.1.orig.tar.gz"),
        sha256=(
            "9a93b2b7dfdac77ceba5a558a580e74667dd6fede4585b91eefb60f03b72df23",
            "60dd315c07f616887caa029408308a018ace66e3d142726a97db164b3b8f69fb",
        ),
        folder="zlib-1.3.1",
        licenses=("LICENSE",),
    ),
)


ZIG = "ziglang==0.17.1"
"""The compiler, on PyPI."""


class SourcesError(Exception):
    """The sources cannot be had."""


def fetch(folder: Path) -> Path:
    """Fetch and unpack all releases into a folder. Raises `SourcesError`, which names the archive."""
    for release in RELEASES:
        archive = _from_upstream(release, folder) or _from_debian(release, folder)
        if archive is None:
            raise SourcesError(
                f"{release.url} cannot be fetched, and apt has no source package {release.debian[0]}: libbpf cannot be "
                f'built on this machine, so packages need the option libbpf = "system" here'
            )
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else packed.extractall(folder)
    return folder


def install_zig(folder: Path) -> None:
    """Install the compiler into a folder of its own. Raises `SourcesError`."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), ZIG]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SourcesError(
            f"pip cannot install {ZIG}, which compiles libbpf, so packages need the option "
            f'libbpf = "system" here: {done.stderr.strip()}'
        )


def _from_upstream(release: Release, folder: Path) -> Path | None:
    path = folder / release.url.rpartition("/")[2]
    try:
        with urllib.request.urlopen(release.url, timeout=20) as response, path.open("wb") as file:
            shutil.copyfileobj(response, file)
    except (urllib.error.URLError, OSError):
        return None
    return _checked(release, path)


def _from_debian(release: Release, folder: Path) -> Path | None:
    """From apt, with lists of its own, so that the machine's configuration stays as it is."""
    mirror = _mirror() if shutil.which("apt-get") else ""
    if not mirror:
        return None
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    package, name = release.debian
    options = [
        f"-oDir::Etc::sourcelist={sources}",
        "-oDir::Etc::sourceparts=/dev/null",
        f"-oDir::State::lists={lists}",
        "-oDir::Cache::pkgcache=",
        "-oDir::Cache::srcpkgcache=",
    ]
    commands = [["apt-get", *options, "-qq", "source", "--download-only", package]]
    if not sources.exists():
        sources.write_text(f"deb-src [signed-by={KEYRING}] {mirror} {SUITE} main\n")
        commands.insert(0, ["apt-get", *options, "-qq", "update"])
    for command in commands:
        if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
            return None
    return _checked(release, folder / name)


def _mirror() -> str:
    """The mirror of Debian that this machine uses; empty if it uses none."""
    said = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)|$(ORIGIN)"], capture_output=True, text=True, check=False
    ).stdout
    sites = (line.partition("|") for line in said.splitlines())
    own = (site for site, _, origin in sites if origin == "Debian" and "security" not in site)
    return next(own, "").rstrip("/")


def _checked(release: Release, path: Path) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest not in release.sha256:
        raise SourcesError(
            f"{path.name} of {release.name} {release.version} has another sha256 than is pinned: {digest}"
        )
    return path
