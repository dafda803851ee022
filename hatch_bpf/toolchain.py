"""Find the compiler: PATH and environment -> `Toolchain`.

Input: the environment. Output: a clang that can make CO-RE objects, its version, and the header folders of this system
that clang does not search for a BPF target; or a `ToolchainError` that says what to install.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hatch_bpf.errors import ToolchainError

CLANG_VARIABLE = "CLANG"
"""Environment variable that names the clang to use, as in the kernel's own makefiles."""

MINIMUM = (12, 0)
"""The first clang with all of CO-RE: type relocations and enum value relocations came with LLVM 12."""

INSTALL_CLANG = "Debian, Ubuntu: apt install clang; Fedora: dnf install clang; Alpine: apk add clang"
INSTALL_LIBBPF_HEADERS = (
    "Debian, Ubuntu: apt install libbpf-dev; Fedora: dnf install libbpf-devel; Alpine: apk add libbpf-dev linux-headers"
)

_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
"""What of the environment reaches a tool. Variables such as CPATH would change the object without leaving a trace."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler for BPF."""

    clang: Path
    version: tuple[int, int]
    """Major and minor."""
    version_text: str
    """First line of `clang --version`."""
    system_includes: tuple[Path, ...]
    """Folders that clang searches when it compiles for this machine itself, without clang's own."""


def find_toolchain(environ: Mapping[str, str] = os.environ) -> Toolchain:
    """The clang that CLANG names, else `clang`, else the newest `clang-N` on PATH. Raises `ToolchainError`."""
    named = environ.get(CLANG_VARIABLE)
    if named:
        path = shutil.which(named, path=environ.get("PATH"))
        if path is None:
            raise ToolchainError(f"{CLANG_VARIABLE} names {named!r}, which is not a program that can be run")
        return _inspect(Path(path), environ)
    candidates = list(_candidates(environ))
    if not candidates:
        raise ToolchainError(f"clang is not on PATH; it compiles the BPF programs. {INSTALL_CLANG}")
    too_old = []
    for candidate in candidates:
        toolchain = _inspect(candidate, environ, refuse_old=False)
        if toolchain.version >= MINIMUM:
            return toolchain
        too_old.append(toolchain)
    raise _too_old(too_old[0])


def tool_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The whole environment that clang and bpftool are run with."""
    return {"LC_ALL": "C.UTF-8", **{name: environ[name] for name in _PASSED_ON if name in environ}}


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    search = environ.get("PATH", os.defpath)
    plain = shutil.which("clang", path=search)
    if plain:
        yield Path(plain)
    numbered = {}
    for folder in search.split(os.pathsep):
        for path in Path(folder or ".").glob("clang-*"):
            number = path.name.removeprefix("clang-")
            if number.isdecimal() and os.access(path, os.X_OK):
                numbered.setdefault(int(number), path)
    yield from (path for _, path in sorted(numbered.items(), reverse=True))


def _inspect(clang: Path, environ: Mapping[str, str], *, refuse_old: bool = True) -> Toolchain:
    output = _run(clang, ["--version"], environ).stdout
    found = re.search(r"clang version (\d+)\.(\d+)", output)
    if not found:
        raise ToolchainError(f"{clang} --version does not say `clang version`; set {CLANG_VARIABLE} to a clang")
    toolchain = Toolchain(
        clang, (int(found[1]), int(found[2])), output.splitlines()[0], tuple(_system_includes(clang, environ))
    )
    if refuse_old and toolchain.version < MINIMUM:
        raise _too_old(toolchain)
    return toolchain


def _too_old(toolchain: Toolchain) -> ToolchainError:
    version, minimum = (".".join(map(str, v)) for v in (toolchain.version, MINIMUM))
    return ToolchainError(
        f"{toolchain.clang} is clang {version}; {minimum} is the minimum, the first with CO-RE's type and enum "
        f"relocations. Install a newer one ({INSTALL_CLANG}) or set {CLANG_VARIABLE}"
    )


def _system_includes(clang: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Ask clang for its search list, as libbpf-bootstrap does: with `-target bpf` it leaves out Debian's multiarch
    folder, where asm/types.h is, and whatever the distribution added."""
    lines = _run(clang, ["-E", "-Wp,-v", "-x", "c", os.devnull], environ).stderr.splitlines()
    resource_dir = _run(clang, ["-print-resource-dir"], environ).stdout.strip()
    for line in lines:
        # the list is the indented part; clang's own headers are found for every target
        if line.startswith(" ") and not (resource_dir and line.strip().startswith(resource_dir)):
            path = Path(line.strip())
            if path.is_dir():
                yield path


def _run(clang: Path, arguments: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [clang, *arguments], capture_output=True, text=True, check=False, env=tool_environment(environ)
        )
    except OSError as error:
        raise ToolchainError(f"{clang} cannot be run: {error.strerror}") from error
