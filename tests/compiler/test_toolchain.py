"""Finding clang: by variable, by name, by number; and what is said when there is none that will do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hatch_bpf.compiler.toolchain import MINIMUM, find_toolchain, tool_environment
from hatch_bpf.errors import ToolchainError
from tests.common import needs

TOLD = """\
{first_line}
Target: x86_64-pc-linux-gnu
 (in-process)
 "{path}" -cc1 -triple x86_64-pc-linux-gnu -E -v -resource-dir {own} -internal-isystem {own}/include -x c /dev/null
clang -cc1 version 99.0 based upon LLVM
#include "..." search starts here:
#include <...> search starts here:
 {own}/include
 {system}
 {system}/missing
End of search list.
 {elsewhere}
"""


def fake_clang(
    folder: Path, name: str = "clang", version: str = "14.0.6", first_line: str = "", own: str = "own"
) -> Path:
    """A program that answers what is asked of clang. Its folders: `own` is the compiler's, `system` the system's."""
    for path in (f"{own}/include", "system", "elsewhere"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    quoted = f'"{folder / own}"' if " " in own else folder / own
    told = TOLD.format(
        first_line=first_line or f"Distro clang version {version}",
        path=folder / name,
        own=folder / own,
        system=folder / "system",
        elsewhere=folder / "elsewhere",
    ).replace(f"-resource-dir {folder / own}", f"-resource-dir {quoted}")
    script = folder / name
    script.write_text(f"#!/bin/sh\necho '{told}' >&2\n")
    script.chmod(0o755)
    return script


@pytest.fixture(autouse=True)
def without_own_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hatch-bpf's own, which have a field to themselves, whether or not they were built."""
    monkeypatch.setattr("hatch_bpf.compiler.toolchain.OWN_LIBBPF", tmp_path / "none")


def test_the_real_one() -> None:
    clang = needs.tool("clang")
    toolchain = find_toolchain({"PATH": os.environ["PATH"]})
    assert toolchain.clang == (clang,)
    assert toolchain.version >= MINIMUM
    assert all(folder.is_dir() for folder in toolchain.system_includes)
    assert any((folder / "asm" / "types.h").exists() for folder in toolchain.system_includes)


def test_system_folders_are_clangs_own_list_without_its_own(tmp_path: Path) -> None:
    """On Fedora the list ends with /usr/include, on Debian the multiarch folder stands before it."""
    fake_clang(tmp_path / "bin")
    toolchain = find_toolchain({"PATH": f"{tmp_path}/bin"})
    assert toolchain.system_includes == (tmp_path / "bin" / "system",)
    assert (toolchain.version, toolchain.version_text) == ((14, 0), "Distro clang version 14.0.6")


def test_clangs_own_folder_may_have_a_space_in_its_name(tmp_path: Path) -> None:
    fake_clang(tmp_path / "bin", own="own headers")
    assert find_toolchain({"PATH": os.environ["PATH"], "CLANG": str(tmp_path / "bin" / "clang")}).system_includes == (
        tmp_path / "bin" / "system",
    )


def test_the_real_one_is_asked_once_for_what_it_tells_one_by_one() -> None:
    clang = needs.tool("clang")
    toolchain = find_toolchain({"PATH": os.environ["PATH"]})

    def told(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([clang, *arguments], capture_output=True, text=True, check=True, env=tool_environment())

    assert toolchain.version_text == told("--version").stdout.splitlines()[0]
    own = told("-print-resource-dir").stdout.strip()
    listed = [
        line.strip() for line in told("-E", "-Wp,-v", "-x", "c", os.devnull).stderr.splitlines() if line[0] == " "
    ]
    assert f"{own}/include" in listed
    assert list(map(str, toolchain.system_includes)) == [folder for folder in listed if not folder.startswith(own)]


def test_the_variable_comes_first(tmp_path: Path) -> None:
    fake_clang(tmp_path / "a")
    chosen = fake_clang(tmp_path / "b", "my-clang")
    environ = {"PATH": f"{tmp_path}/a", "CLANG": str(chosen)}
    assert find_toolchain(environ).clang == (str(chosen),)


def test_a_numbered_clang_when_the_plain_one_is_too_old(tmp_path: Path) -> None:
    for name, version in (("clang", "11.1.0"), ("clang-9", "9.0.0"), ("clang-16", "16.0.6"), ("clang-tidy-99", "99.0")):
        fake_clang(tmp_path / "bin", name, version)
    assert find_toolchain({"PATH": f"{tmp_path}/bin"}).clang == (str(tmp_path / "bin" / "clang-16"),)


def test_too_old_says_the_minimum_and_why(tmp_path: Path) -> None:
    old = fake_clang(tmp_path / "bin", version="10.0.1")
    with pytest.raises(ToolchainError) as caught:
        find_toolchain({"PATH": "/nowhere", "CLANG": str(old)})
    assert str(caught.value) == (
        f"{old} is clang 10.0; 12.0 is the minimum, the first with CO-RE's type and enum relocations. Install a newer "
        "one (Debian, Ubuntu: apt install clang; Fedora: dnf install clang; Alpine: apk add clang; or from "
        "PyPI: require hatch-bpf[zig]) or set CLANG"
    )


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"clang is not on PATH.*apt install clang.*dnf install.*apk add"):
        find_toolchain({"PATH": str(tmp_path)})


def test_a_variable_that_names_nothing(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="CLANG names 'no-such-clang', which is not a program"):
        find_toolchain({"PATH": str(tmp_path), "CLANG": "no-such-clang"})


def test_something_else_under_the_name(tmp_path: Path) -> None:
    gcc = fake_clang(tmp_path / "bin", first_line="gcc (GCC) 12.2.0")
    with pytest.raises(ToolchainError, match="does not say `clang version`"):
        find_toolchain({"PATH": "/nowhere", "CLANG": str(gcc)})


def test_a_file_that_cannot_be_run(tmp_path: Path) -> None:
    broken = tmp_path / "clang"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    with pytest.raises(ToolchainError, match="cannot be run: Exec format error"):
        find_toolchain({"PATH": str(tmp_path)})


def test_little_of_the_environment_reaches_the_compiler() -> None:
    environ = {"PATH": "/bin", "HOME": "/h", "CPATH": "/evil", "C_INCLUDE_PATH": "/evil", "TOKEN": "secret"}
    assert tool_environment(environ) == {"LC_ALL": "C.UTF-8", "PATH": "/bin", "HOME": "/h"}
