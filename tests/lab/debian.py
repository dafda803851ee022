"""Debian's kernel packages, fetched through an apt of our own that leaves the machine's alone.

Input: a kernel's release and architecture. Output: the path of the package that has its vmlinuz, in a cache folder.
Needs apt and Debian's archive keyring; the machine's mirror, proxy and certificate settings for apt are taken over.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.identity import Kernel

CACHE = Path(os.environ.get("HATCH_BPF_LAB_CACHE") or Path("~/.cache/hatch-bpf-lab").expanduser())
"""Where packages and apt's lists are kept; may be deleted at any time."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LISTS_LAST = 24 * 3600
"""Seconds after which the package lists are fetched again."""
SUITES = (
    ("debian", "bullseye"),
    ("debian-security", "bullseye-security"),
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),
    ("debian", "bookworm-backports"),
    ("debian", "trixie"),
    ("debian-security", "trixie-security"),
    ("debian", "trixie-backports"),
    ("debian", "forky"),
)
"""Archive and suite: together they carry kernels from 5.10 to the newest."""
DEBIAN_ARCH = {"x86_64": "amd64", "arm64": "arm64"}
"""Debian's name of each architecture that kernels are fetched for."""


@dataclass(frozen=True)
class Package:
    """A kernel package in a suite."""

    name: str
    arch: str
    version: str
    suite: str

    @property
    def file_name(self) -> str:
        version = self.version.replace(":", "%3a")
        return f"{self.name}_{version}_{self.arch}.deb"


class Apt:
    """An apt whose configuration, lists and packages all lie in one folder."""

    def __init__(self, folder: Path = CACHE) -> None:
        self.folder = folder
        self.packages = folder / "packages"

    def fetch(self, kernel: Kernel) -> Path:
        """The package with the kernel's image; from the folder when it is there, else downloaded."""
        arch = _debian_arch(kernel)
        for name in _package_names(kernel):
            # `_` ends a package's name, so this finds no other package
            for path in sorted(self.packages.glob(f"{name}_*_{arch}.deb")):
                return path
        return self._download(self.find(kernel))

    def fetch_beside(self, kernel: Kernel) -> tuple[Path, ...]:
        """The packages with the kernel's modules and configuration: the image's own, or those that came out of it."""
        image = self.fetch(kernel)
        if not image.name.startswith("linux-binary-"):
            return (image,)
        return tuple(self._fetch_part(kernel, name) for name in ("linux-modules", "linux-base"))

    def _fetch_part(self, kernel: Kernel, prefix: str) -> Path:
        name = f"{prefix}-{kernel.release}"
        for path in sorted(self.packages.glob(f"{name}_*_{_debian_arch(kernel)}.deb")):
            return path
        return self._download(replace(self.find(kernel), name=name))

    def _download(self, package: Package) -> Path:
        self.packages.mkdir(parents=True, exist_ok=True)
        self._run("apt-get", "download", "-q", f"{package.name}:{package.arch}={package.version}", cwd=self.packages)
        return self.packages / package.file_name

    def fetch_all(self, names: Sequence[str], *, suite: str, arch: str) -> list[Path]:
        """Packages of a suite with all that they depend on, from the folder or downloaded."""
        options = ["-o", f"APT::Architecture={DEBIAN_ARCH[arch]}", "-t", suite, "-q", "-y", "--no-install-recommends"]
        # what the suite itself lacks comes from its own release, and not from the newest there is
        release = suite.split("-")[0]
        options += ["-o", f"Dir::Etc::sourcelist={self._write_sources(release)}"]
        simulated = self._run("apt-get", *options, "install", "--simulate", *names, cwd=self.folder)
        packages = [
            Package(name, package_arch, version, suite)
            for name, version, package_arch in re.findall(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", simulated, re.M)
        ]
        paths = [self.folder / "archives" / package.file_name for package in packages]
        if not all(path.exists() for path in paths):
            self._run("apt-get", *options, "install", "--download-only", *names, cwd=self.folder)
        return paths

    def _write_sources(self, release: str) -> Path:
        """The file that names the suites of a release, or all of them."""
        path = self.folder.resolve() / f"{release or 'all'}.list"
        mirrors = _mirrors()
        lines = [f"deb [signed-by={KEYRING}] {mirrors[a]} {s} main\n" for a, s in SUITES if s.startswith(release)]
        path.write_text("".join(lines))
        return path

    def find(self, kernel: Kernel) -> Package:
        """The package that has the kernel's image, in the newest version. Raises `KernelError` when Debian has none."""
        arch = _debian_arch(kernel)
        for name in _package_names(kernel):
            # one line per version and suite: "name | version | URI suite/component arch Packages", the newest first
            for line in self._query("madison", f"{name}:{arch}").splitlines():
                _, version, where = (field.strip() for field in line.split("|"))
                return Package(name, arch, version, where.split()[1].split("/")[0])
        there = {name.split("-", 2)[2] for name in self._query("pkgnames", "linux-").split() if _is_image(name)}
        near = difflib.get_close_matches(kernel.release, sorted(there), n=4)
        raise KernelError(
            f"{kernel}: Debian has this kernel no more; the nearest it has are {', '.join(near)}. "
            f"The example's kernels are listed in example_project/kernels/update.py: name another there and run it"
        )

    def _query(self, *arguments: str) -> str:
        return self._run("apt-cache", *arguments, cwd=self.folder)

    def _run(self, *command: str, cwd: Path) -> str:
        return _command(command, config=self._config, cwd=cwd)

    @cached_property
    def _config(self) -> Path:
        """Write the configuration and bring the package lists up to date, once for each object."""
        if not KEYRING.exists():
            raise KernelError(f"{KEYRING} is not there: install the package debian-archive-keyring")
        folder = self.folder.resolve()
        for part in ("lists/partial", "archives/partial", "preferences.d"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        sources = self._write_sources("")
        settings = {
            "Dir::Etc": folder,
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::parts": "-",
            "Dir::Etc::main": "-",
            "Dir::State": folder,
            "Dir::State::status": folder / "status",
            "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder,
            "Dir::Cache::archives": folder / "archives",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        # the machine's hooks must not run for our lists, so only its settings for downloading are taken over
        machine = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
        config = folder / "apt.conf"
        config.write_text(
            machine
            + "".join(f'{key} "{value}";\n' for key, value in settings.items())
            + "".join(f'APT::Architectures:: "{arch}";\n' for arch in sorted(set(DEBIAN_ARCH.values())))
        )
        stamp = folder / "updated"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > LISTS_LAST:
            _command(["apt-get", "update", "-q"], config=config, cwd=folder)
            stamp.touch()
        return config


@cache
def _mirrors() -> dict[str, str]:
    """Where this machine's apt has Debian's archives from, by their names; one that it doesn't use lies beside it."""
    done = subprocess.run(["apt-get", "update", "--print-uris"], capture_output=True, text=True, check=False)
    used = {base.rsplit("/", 1)[1]: base for base in re.findall(r"^'(\S+?)/+dists/", done.stdout, re.MULTILINE)}
    wanted = {archive for archive, _ in SUITES}
    known = sorted(base for name, base in used.items() if name in wanted)
    if not known:
        raise KernelError("this machine's apt names no mirror of Debian's archive, where the kernels are")
    return {archive: used.get(archive) or f"{known[0].rsplit('/', 1)[0]}/{archive}" for archive in wanted}


def _command(command: Sequence[str], *, config: Path, cwd: Path) -> str:
    environment = {**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KernelError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return done.stdout


def _debian_arch(kernel: Kernel) -> str:
    if kernel.arch not in DEBIAN_ARCH:
        raise KernelError(f"{kernel}: kernels are fetched for {', '.join(DEBIAN_ARCH)} only")
    return DEBIAN_ARCH[kernel.arch]


def _package_names(kernel: Kernel) -> tuple[str, ...]:
    """Where the image may be: from Linux 6.19 on linux-image-* only depends on linux-binary-*, which has it."""
    return f"linux-binary-{kernel.release}", f"linux-image-{kernel.release}"


def _is_image(name: str) -> bool:
    return name.startswith(("linux-image-", "linux-binary-")) and not name.endswith(("-dbg", "-unsigned"))
