"""Find the compiler: PATH and environment -> `Toolchain`.

Input: the environment. Output: a clang that can make CO-RE objects, its version, the folder of libbpf's headers that
hatch-bpf brings, and the header folders of this system that clang does not search for a BPF target; or a
`ToolchainError` that says what to install.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hatch_bpf.errors import ToolchainError
from hatch_bpf.support.own_libbpf import OWN_LIBBPF

CLANG_VARIABLE = "CLANG"
"""Environment variable that names the clang to use, as in the kernel's makefiles."""

MINIMUM = (12, 0)
"""The first clang with all of CO-RE: type relocations and enum value relocations came with LLVM 12."""

INSTALL_CLANG = (
    "Debian, Ubuntu: apt install clang; Fedora: dnf install clang; Alpine: apk add clang; "
    "or from PyPI: require hatch-bpf[zig]"
)
INSTALL_LIBBPF_HEADERS = (
    "Debian, Ubuntu: apt install libbpf-dev; Fedora: dnf install libbpf-devel; Alpine: apk add libbpf-dev linux-headers"
)

_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
"""Variables that are passed on to tools. Others, such as CPATH, would change the object without leaving a trace."""


class Toolchain(NamedTuple):
    """A compiler for BPF."""

    clang: tuple[str, ...]
    """How to run it: a path, or the command that runs the clang inside another program."""
    version: tuple[int, int]
    """Major and minor."""
    version_text: str
    """The line in which clang prints its version."""
    system_includes: tuple[Path, ...]
    """Folders that clang searches when it compiles for this machine, except clang's own."""
    own_includes: tuple[Path, ...]
    """The folder of libbpf's headers that hatch-bpf brings, if it has them. They come before the system's: each machine
    then makes the same object, and the headers fit the libbpf in the wheel."""
    target_suffix: str = ""
    """Appended to `bpfel` or `bpfeb` in the name of a target."""

    @property
    def includes(self) -> tuple[Path, ...]:
        """All folders of headers, in the order in which they are searched."""
        return (*self.own_includes, *self.system_includes)


def find_toolchain(environ: Mapping[str, str] = os.environ) -> Toolchain:
    """The clang that CLANG names, else `clang`, else the newest `clang-N` on PATH, else the one in PyPI's ziglang.

    Raises `ToolchainError`.
    """
    named = environ.get(CLANG_VARIABLE)
    if named:
        path = shutil.which(named, path=environ.get("PATH"))
        if path is None:
            raise ToolchainError(f"{CLANG_VARIABLE} names {named!r}, which is not a program that can be run")
        return _reject_old(_inspect(path, environ))
    found = []
    for candidate in _candidates(environ):
        found.append(_inspect(candidate, environ))
        if found[-1].version >= MINIMUM:
            return found[-1]
    zig = _zig(environ)
    if zig is not None:
        return zig
    if found:
        return _reject_old(found[0])
    raise ToolchainError(f"clang is not on PATH; it compiles the BPF programs. {INSTALL_CLANG}")


def tool_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The complete environment for clang and bpftool."""
    return {"LC_ALL": "C.UTF-8", **{name: environ[name] for name in _PASSED_ON if name in environ}}


def _candidates(environ: Mapping[str, str]) -> Iterator[str]:
    search = environ.get("PATH", os.defpath)
    plain = shutil.which("clang", path=search)
    if plain:
        yield plain
    numbered: dict[int, str] = {}
    for folder in search.split(os.pathsep):
        for path in Path(folder or ".").glob("clang-*"):
            number = path.name.removeprefix("clang-")
            if number.isdecimal() and os.access(path, os.X_OK):
                numbered.setdefault(int(number), str(path))
    yield from (path for _, path in sorted(numbered.items(), reverse=True))


def _inspect(clang: str, environ: Mapping[str, str]) -> Toolchain:
    # one run for all questions, since starting clang takes longer than answering them
    told = _run((clang,), ["-v", "-E", "-x", "c", os.devnull], environ).stderr
    return Toolchain((clang,), *_version((clang,), told), tuple(_system_includes(told)), _own_includes())


def _zig(environ: Mapping[str, str]) -> Toolchain | None:
    """The clang in the PyPI package ziglang, with the kernel's headers, if that is installed."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        return None
    clang = (sys.executable, "-m", "ziglang", "cc")
    headers = Path(spec.origin).parent / "lib" / "libc" / "include"
    # asm/ defines the same type sizes for every 64-bit target
    includes = (headers / "any-linux-any", headers / "x86-linux-any", Path("/usr/include"))
    existing = tuple(folder for folder in includes if folder.is_dir())
    told = _run(clang, ["--version"], environ).stdout
    return Toolchain(clang, *_version(clang, told), existing, _own_includes(), target_suffix="-freestanding-none")


def _version(clang: tuple[str, ...], told: str) -> tuple[tuple[int, int], str]:
    found = re.search(r"^.*clang version (\d+)\.(\d+).*", told, re.MULTILINE)
    if not found:
        raise ToolchainError(f"{' '.join(clang)} does not say `clang version`; set {CLANG_VARIABLE} to a clang")
    return (int(found[1]), int(found[2])), found[0]


def _reject_old(toolchain: Toolchain) -> Toolchain:
    if toolchain.version >= MINIMUM:
        return toolchain
    version, minimum = (".".join(map(str, v)) for v in (toolchain.version, MINIMUM))
    raise ToolchainError(
        f"{toolchain.clang[0]} is clang {version}; {minimum} is the minimum, the first with CO-RE's type and enum "
        f"relocations. Install a newer one ({INSTALL_CLANG}) or set {CLANG_VARIABLE}"
    )


def _system_includes(told: str) -> Iterator[Path]:
    """The folders on clang's search list, found as libbpf-bootstrap does: with `-target bpf`, clang leaves out Debian's
    multiarch folder, which has asm/types.h, and any that the distribution added."""
    command, _, listed = told.partition("search starts here:\n")
    own = _resource_dir(command)
    for line in listed.partition("End of search list.")[0].splitlines():
        path = Path(line.strip())
        # clang finds its own headers for every target
        if line.startswith(" ") and path.is_dir() and not (own and path.is_relative_to(own)):
            yield path


def _resource_dir(command: str) -> str:
    """The folder of clang's own headers, from its output; it quotes names that have a space."""
    found = re.search(r'-resource-dir"? (?:"((?:[^"\\]|\\.)*)"|(\S+))', command)
    if not found:
        return ""
    return found[2] or re.sub(r"\\(.)", r"\1", found[1])


def _own_includes() -> tuple[Path, ...]:
    folder = OWN_LIBBPF / "include"
    return (folder,) if folder.is_dir() else ()


def _run(clang: tuple[str, ...], arguments: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [*clang, *arguments],
            capture_output=True,
            text=True,
            errors="surrogateescape",  # it names folders
            check=False,
            env=tool_environment(environ),
        )
    except OSError as error:
        raise ToolchainError(f"{clang[0]} cannot be run: {error.strerror}") from error
