"""The build machine's libbpf.so and the libraries it needs -> files for the wheel, and the wheel's platform tag.

Input: the build machine's library folders. Output: a `Bundle`, or `ToolchainError`. The C library is left out; the tag
says which versions of it will do. `runtime/libbpf/library.py` loads the libraries in the order given here.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from hatch_bpf import __version__
from hatch_bpf.arch import Arch
from hatch_bpf.compiler.toolchain import OWN_LIBBPF
from hatch_bpf.errors import ToolchainError
from hatch_bpf.runtime.errors import LibbpfNotFoundError
from hatch_bpf.runtime.libbpf.library import find, library_folders

INDEX_NAME = "libraries.json"
"""Which files to load, in order, and their sha256; read by the runtime."""
SBOM_NAME = "sbom.cdx.json"

_C_LIBRARY = re.compile(r"^(ld-(linux|musl)[\w.-]*|lib(c|m|dl|rt|pthread)\.so\.\d+|libc\.musl-[\w.-]+)$")
_MUSL = re.compile(r"^(ld-musl|libc\.musl)-")
_SYSTEM_PATH = "/usr/bin:/bin:/sbin"
"""Where the distribution's package manager is. Another one on PATH would not know this machine's libraries."""
_CHANGED = "entries DT_NEEDED about the other bundled libraries are left out"
"""The SBOM's note on a library that differs from the distribution's."""


@dataclass(frozen=True)
class Library:
    """One shared library of the build machine."""

    soname: str
    path: Path
    data: bytes
    needed: tuple[str, ...]
    """sonames of the libraries it needs, including the C library."""
    glibc: tuple[int, int]
    """The newest version of glibc symbols that it uses; (0, 0) for none."""
    is_changed: bool = False
    """Whether `data` differs from the file at `path`."""


@dataclass(frozen=True)
class SystemPackage:
    """The distribution's package that contains a library."""

    name: str
    version: str
    licenses: tuple[Path, ...]


@dataclass(frozen=True)
class Bundle:
    """libbpf and its companions, ready for a wheel."""

    files: Mapping[str, bytes]
    """By name relative to the `_bpf` folder: libraries, their licenses, an index and an SBOM."""
    platform: str
    """Platform tag of the wheel: `manylinux_2_33_x86_64`."""

    @property
    def index(self) -> bytes:
        """The list of the libraries, for whose sha256 skeletons vouch."""
        return next(data for name, data in self.files.items() if name.endswith(f"/{INDEX_NAME}"))


def bundle(arch: Arch) -> Bundle:
    """Collect libbpf and the libraries it needs. `arch` must be the build machine's. Raises `ToolchainError`."""
    folder = f"lib/{arch.name}"
    try:
        first = Path(find())
    except LibbpfNotFoundError as error:
        own = _own(folder, arch)
        if own is not None:
            return own
        raise ToolchainError(
            f'libbpf = "bundle" takes the libbpf of this machine, and there is none: {error}'
        ) from error
    libraries = list(_collect(first))
    if _is_musl(libraries):
        libraries = _without_needs(libraries)
    files = {f"{folder}/{library.soname}": library.data for library in libraries}
    packages = {library.soname: _owner(library.path) for library in libraries}
    for package in sorted({p for p in packages.values() if p}, key=lambda p: p.name):
        for path in package.licenses:
            files[f"{folder}/licenses/{package.name}/{path.name}"] = path.read_bytes()
    files[f"{folder}/{INDEX_NAME}"] = _json(
        {library.soname: hashlib.sha256(library.data).hexdigest() for library in libraries}
    )
    files[f"{folder}/{SBOM_NAME}"] = _json(_sbom(libraries, packages))
    return Bundle(files, _platform(libraries, arch))


def _own(folder: str, arch: Arch) -> Bundle | None:
    """The libraries that hatch-bpf's own wheel may carry, which `bundle()` collected where that wheel was built."""
    index = OWN_LIBBPF / folder / INDEX_NAME
    if not index.is_file():
        return None
    libraries = [_read(OWN_LIBBPF / folder / soname) for soname in json.loads(index.read_bytes())]
    paths = sorted(path for path in (OWN_LIBBPF / folder).rglob("*") if path.is_file())
    files = {path.relative_to(OWN_LIBBPF).as_posix(): path.read_bytes() for path in paths}
    return Bundle(files, _platform(libraries, arch))


def _collect(first: Path) -> Iterator[Library]:
    """libbpf and the libraries it needs except the C library, each after those that it needs."""
    done: set[str] = set()

    def visit(path: Path) -> Iterator[Library]:
        library = _read(path)
        done.add(library.soname)
        for soname in library.needed:
            if soname not in done and not _C_LIBRARY.match(soname):
                yield from visit(_locate(soname, library))
        yield library

    yield from visit(first)


def _locate(soname: str, needed_by: Library) -> Path:
    folders = [needed_by.path.parent, *map(Path, library_folders())]
    for folder in folders:
        if (folder / soname).exists():
            return folder / soname
    raise ToolchainError(f"{needed_by.path} needs {soname}, which is in none of {', '.join(map(str, folders))}")


def _read(path: Path) -> Library:
    data = path.read_bytes()
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            dynamic = elf.get_section_by_name(".dynamic")
            if not isinstance(dynamic, DynamicSection):
                raise ToolchainError(f"{path} is not a shared library")
            sonames = [str(tag.soname) for tag in dynamic.iter_tags("DT_SONAME")]  # type: ignore[attr-defined]
            needed = tuple(str(tag.needed) for tag in dynamic.iter_tags("DT_NEEDED"))  # type: ignore[attr-defined]
            return Library(sonames[0] if sonames else path.name, path, data, needed, _newest_glibc(elf))
    except ELFError as error:
        raise ToolchainError(f"{path} is not a shared library: {error}") from error


def _newest_glibc(elf: ELFFile) -> tuple[int, int]:
    versions = [(0, 0)]
    section = elf.get_section_by_name(".gnu.version_r")
    for _, auxiliaries in section.iter_versions() if isinstance(section, GNUVerNeedSection) else ():
        for auxiliary in auxiliaries:
            found = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(\.\d+)?", auxiliary.name)
            if found:
                versions.append((int(found[1]), int(found[2])))
    return max(versions)


def _is_musl(libraries: list[Library]) -> bool:
    """Whether their C library is musl."""
    return any(_MUSL.match(soname) for library in libraries for soname in library.needed)


def _without_needs(libraries: list[Library]) -> list[Library]:
    """The same libraries, without DT_NEEDED entries for each other.

    glibc accepts a library that is already loaded under the needed soname. musl searches its folders all the same, and
    fails. The runtime loads them in order, so that each finds the symbols of those before it.
    """
    bundled = {library.soname for library in libraries}
    dropped = [_drop_needed(library, bundled) for library in libraries]
    return [
        replace(library, data=data, is_changed=data != library.data)
        for library, data in zip(libraries, dropped, strict=True)
    ]


def _drop_needed(library: Library, names: Collection[str]) -> bytes:
    """A library's bytes without the DT_NEEDED entries for these names; the entries behind them move up."""
    elf = ELFFile(io.BytesIO(library.data))
    dynamic = elf.get_section_by_name(".dynamic")
    assert isinstance(dynamic, DynamicSection)  # `Library.needed` was read from it
    start, size, each = dynamic["sh_offset"], dynamic["sh_size"], dynamic["sh_entsize"]
    kept = b""
    for number, tag in enumerate(dynamic.iter_tags()):
        if tag.entry.d_tag != "DT_NEEDED" or tag.needed not in names:  # type: ignore[attr-defined]
            kept += library.data[start + number * each : start + (number + 1) * each]
    return library.data[:start] + kept.ljust(size, b"\0") + library.data[start + size :]


def _platform(libraries: list[Library], arch: Arch) -> str:
    """The platform tag. manylinux_X_Y needs glibc X.Y or newer (PEP 600); PEP 656 says the same for musl."""
    machine = arch.machines[0]
    if _is_musl(libraries):
        return f"musllinux_{'_'.join(map(str, _musl_version(machine)))}_{machine}"
    major, minor = max(library.glibc for library in libraries)
    # manylinux starts with glibc 2.5, and for other architectures than x86 with 2.17
    return f"manylinux_{major}_{max(minor, 17)}_{machine}"


def _musl_version(machine: str) -> tuple[int, int]:
    """This machine's musl version. musl's symbols have no versions, so older ones may not do."""
    loader = f"/lib/ld-musl-{machine}.so.1"
    try:
        said = subprocess.run([loader], capture_output=True, text=True, check=False).stderr
    except OSError as error:
        raise ToolchainError(
            f"{loader}, the C library that libbpf.so needs, cannot be run: {error.strerror}"
        ) from error
    found = re.search(r"^Version (\d+)\.(\d+)", said, re.MULTILINE)
    if not found:
        raise ToolchainError(f"{loader} does not tell its version")
    return int(found[1]), int(found[2])


def _owner(path: Path) -> SystemPackage | None:
    """The package that contains a file, if dpkg, rpm or apk knows it."""
    # if /lib is a link to /usr/lib, a package manager may know the file by either name
    names = [path, path.resolve()]
    names += [Path("/", *name.parts[2:]) for name in names if name.parts[:2] == ("/", "usr")]
    for name in names:
        said = _ask("dpkg-query", "--search", str(name))
        if said:
            package = said.split(":")[0]
            version = _ask("dpkg-query", "--show", "--showformat=${Version}", said.split(": ")[0])
            return SystemPackage(package, version, _existing(Path("/usr/share/doc", package, "copyright")))
        said = _ask("rpm", "--query", "--file", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE}\n", str(name))
        if said:
            package, version = said.splitlines()[0].split()
            return SystemPackage(package, version, tuple(sorted(Path("/usr/share/licenses", package).glob("*"))))
        found = re.search(r"is owned by (.+)-(\d[^-]*-r\d+)$", _ask("apk", "info", "--who-owns", str(name)))
        if found:
            return SystemPackage(found[1], found[2], ())
    return None


def _existing(path: Path) -> tuple[Path, ...]:
    return (path,) if path.is_file() else ()


def _ask(*command: str) -> str:
    """A package manager's answer; empty if it is not installed or has none."""
    if shutil.which(command[0], path=_SYSTEM_PATH) is None:
        return ""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"LC_ALL": "C", "PATH": _SYSTEM_PATH}
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _sbom(libraries: list[Library], packages: Mapping[str, SystemPackage | None]) -> dict[str, object]:
    """A CycloneDX 1.5 document. It has no time or serial number, so that every build makes the same one."""
    components = []
    for library in libraries:
        package = packages[library.soname]
        component: dict[str, object] = {
            "type": "library",
            "name": package.name if package else library.soname,
            **({"version": package.version} if package else {}),
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(library.data).hexdigest()}],
            "properties": [
                {"name": "hatch-bpf:file", "value": library.soname},
                *([{"name": "hatch-bpf:changed", "value": _CHANGED}] * library.is_changed),
            ],
        }
        components.append(component)
    tool = {"type": "application", "name": "hatch-bpf", "version": __version__}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"tools": {"components": [tool]}},
        "components": components,
    }


def _json(document: object) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"
