"""Build libbpf.so.1, with libelf and zlib inside, for every target, and lay out `_libbpf`.

Input: the unpacked sources. Output: a folder with `lib/ARCH/LIBC/libbpf.so.1`, licenses, an SBOM, `libraries.json`,
which lists the libraries, and the headers for BPF programs. The same sources give the same bytes on any machine, since
`zig cc` brings the compiler, the linker and the C libraries' headers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from tools.libbpf.sources import RELEASES

HERE = Path(__file__).parent
SONAME = "libbpf.so.1"
HEADERS = ("bpf_core_read.h", "bpf_endian.h", "bpf_helper_defs.h", "bpf_helpers.h", "bpf_tracing.h", "usdt.bpf.h")
"""Those for BPF programs; libbpf's others are for programs that link with it."""
ZLIB = "adler32 compress crc32 deflate gzclose gzlib gzread gzwrite inffast inflate inftrees trees uncompr zutil"


@dataclass(frozen=True)
class Target:
    """One library."""

    arch: str
    """As BTFHub names it."""
    libc: str
    zig: str
    """zig's name of the target, with the oldest glibc that will do."""
    tags: tuple[str, ...]
    """Platform tags without the machine. pip before 20.3 knows only the older names."""
    machine: str
    """As platform tags name the architecture."""
    has_reallocarray: bool = True
    """glibc has it from 2.26 on."""


def _glibc(arch: str, machine: str, minor: int, zig: str = "") -> Target:
    tags = (*(("manylinux2014",) if minor == 17 else ()), f"manylinux_2_{minor}")
    return Target(arch, "glibc", f"{zig or machine}-linux-gnu.2.{minor}", tags, machine, minor >= 26)


def _musl(arch: str, machine: str, zig: str = "") -> Target:
    return Target(arch, "musl", f"{zig or machine}-linux-musl", ("musllinux_1_1",), machine)


TARGETS = (
    _glibc("x86_64", "x86_64", 17),
    _musl("x86_64", "x86_64"),
    _glibc("arm64", "aarch64", 17),
    _musl("arm64", "aarch64"),
    _glibc("riscv64", "riscv64", 27),
    _musl("riscv64", "riscv64"),
    _glibc("s390x", "s390x", 17),
    _musl("s390x", "s390x"),
    # zig has no libintl.h for older ones
    _glibc("ppc64le", "ppc64le", 32, "powerpc64le"),
    _musl("ppc64le", "ppc64le", "powerpc64le"),
)


class BuildError(Exception):
    """zig cannot build a library."""


def build(sources: Path, out: Path, archs: Collection[str], zig: Path, notify: Callable[[str], None]) -> None:
    """Build the libraries of some architectures into a folder that does not exist yet. Raises `BuildError`.

    `zig` is the folder that PyPI's ziglang is installed in.
    """
    folders = {release.name: sources / release.folder for release in RELEASES}
    listed: dict[str, dict[str, dict[str, object]]] = {}
    for target in TARGETS:
        if target.arch not in archs:
            continue
        notify(f"building libbpf for {target.arch}, {target.libc}")
        path = out / "lib" / target.arch / target.libc / SONAME
        path.parent.mkdir(parents=True)
        _compile(target, sources, path, zig)
        listed.setdefault(target.arch, {})[target.libc] = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "tags": [f"{tag}_{target.machine}" for tag in target.tags],
        }
    for header in HEADERS:
        _copy(folders["libbpf"] / "src" / header, out / "include" / "bpf" / header)
    for release in RELEASES:
        for name in release.licenses:
            _copy(folders[release.name] / name, out / "lib" / "licenses" / release.name / name)
    (out / "lib" / "licenses" / "README").write_text(_readme(), encoding="utf-8")
    (out / "lib" / "libraries.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    (out / "lib" / "sbom.cdx.json").write_text(json.dumps(_sbom(), indent=1) + "\n", encoding="utf-8")


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)


def _compile(target: Target, sources: Path, path: Path, zig: Path) -> None:
    libbpf, elfutils, zlib = (release.folder for release in RELEASES)
    makefile = (sources / elfutils / "libelf" / "Makefile.am").read_text(encoding="utf-8")
    listed = re.search(r"^libelf_a_SOURCES = ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)
    assert listed is not None, "the sha256 of this Makefile is pinned"
    files = [f"{libbpf}/src/{file.name}" for file in sorted((sources / libbpf / "src").glob("*.c"))]
    files += [f"{elfutils}/libelf/{name}" for name in listed[1].replace("\\", " ").split()]
    files += [f"{elfutils}/lib/eu-search.c", f"{elfutils}/lib/next_prime.c"]
    files += [f"{zlib}/{name}.c" for name in ZLIB.split()]
    shutil.copyfile(HERE / "config.h", sources / "config.h")
    includes = (f"{libbpf}/include", f"{libbpf}/include/uapi", f"{elfutils}/libelf", f"{elfutils}/lib", zlib)
    command = [
        *(sys.executable, "-m", "ziglang", "cc", "-target", target.zig, "-shared", "-o", str(path)),
        *("-O2", "-fPIC", "-g0", "-w", "-s", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"),
        *("-fno-sanitize=all", "-fmerge-all-constants", "-std=gnu11"),
        # what a configure script would find; config.h has the rest
        *("-D_GNU_SOURCE", "-DHAVE_CONFIG_H", "-DHAVE_UNISTD_H", "-D_LARGEFILE64_SOURCE", "-D_FILE_OFFSET_BITS=64"),
        f"-DHAVE_DECL_REALLOCARRAY={int(target.has_reallocarray)}",
        f"-DHAVE_DECL_RAWMEMCHR={int(target.libc == 'glibc')}",
        *("-I.", *(f"-I{folder}" for folder in includes)),
        *files,
        f"-Wl,-soname,{SONAME},--version-script={libbpf}/src/libbpf.map,--gc-sections,--no-undefined,--build-id=none",
    ]
    environment = {**os.environ, "PYTHONPATH": str(zig)}
    done = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"zig cannot build libbpf for {target.zig}: {done.stderr.strip()[-2000:]}")


def _readme() -> str:
    lines = [f"{r.name} {r.version} ({r.license}): {r.url}" for r in RELEASES]
    return (
        f"{SONAME} is made of these releases, unchanged; the text of their licenses is beside this file.\n\n"
        + "\n".join(lines)
        + "\n\nhatch-bpf's tools/libbpf builds the library from them. To use another libelf, build a libbpf.so.1 with "
        "it in the same way,\nor link libbpf with a shared libelf, and open the skeleton with that library: "
        'open(libbpf="/path/to/libbpf.so.1").\n'
    )


def _sbom() -> dict[str, object]:
    """A CycloneDX 1.5 document. It has no time or serial number, so that every build makes the same one."""
    components = [
        {
            "type": "library",
            "name": release.name,
            "version": release.version,
            "purl": release.purl,
            "licenses": [{"expression": release.license}],
            "externalReferences": [
                {
                    "type": "source-distribution",
                    "url": release.url,
                    "hashes": [{"alg": "SHA-256", "content": release.sha256[0]}],
                }
            ],
        }
        for release in RELEASES
    ]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}
