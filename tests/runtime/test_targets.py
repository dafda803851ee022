"""What there is to attach to is what nm, readelf, kallsyms and the folders of tracefs say."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

from hatch_bpf.runtime import errors, functions_of, kernel_functions, tracepoints, usdts_of
from hatch_bpf.runtime.host import mounts
from hatch_bpf.runtime.programs.elfsyms import full_path
from tests.common import needs, tracefs

LIBRARY = "libc.so.6"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    source = (
        "static int one(void) { return 1; } int two(void) { return one(); } int data; int main(void) { return two(); }"
    )
    binary = tmp_path / "program"
    command = [needs.tool("clang"), "-O0", "-x", "c", "-", "-o", binary]
    subprocess.run(command, input=source, text=True, check=True)
    return binary


def test_functions_are_those_of_nm(program: Path) -> None:
    listed = subprocess.run([needs.tool("nm"), "--defined-only", program], capture_output=True, text=True, check=True)
    told = {words[2] for words in map(str.split, listed.stdout.splitlines()) if words[1] in "tT"}
    assert {"one", "two", "main"} <= set(functions_of(program)) <= told
    assert functions_of(program, "t?o") == ["two"]


def test_functions_of_a_library_by_its_short_name() -> None:
    command = [needs.tool("readelf"), "--dyn-syms", "--wide", full_path(LIBRARY)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [words for words in map(str.split, lines) if len(words) > 7 and words[3] == "FUNC" and words[6] != "UND"]
    told = {words[7].partition("@")[0] for words in rows}
    assert len(told) > 1000
    assert set(fnmatch.filter(told, "getp*")) <= set(functions_of(LIBRARY, "getp*"))


def test_stripped_functions_are_listed(program: Path) -> None:
    copy, debug = program.with_name("copy"), program.with_name("program.debug")
    tool = needs.tool("llvm-objcopy")
    subprocess.run([tool, "--only-keep-debug", program, debug], check=True)
    subprocess.run([tool, "--strip-all", program, copy], check=True)
    assert "one" not in functions_of(copy)
    subprocess.run([tool, f"--add-gnu-debuglink={debug}", copy], cwd=program.parent, check=True)
    assert "one" in functions_of(copy)


def test_usdts_are_those_of_readelf() -> None:
    path = full_path("libstdc++.so.6")
    if path == "libstdc++.so.6":
        needs.missing("libstdc++ is not installed")
    notes = subprocess.run([needs.tool("readelf"), "--notes", path], capture_output=True, text=True, check=True).stdout
    told = {f"{provider}:{name}" for provider, name in re.findall(r"Provider: (\S+)\s+Name: (\S+)", notes)}
    assert usdts_of("libstdc++.so.6") == sorted(told)


def test_a_file_that_is_no_program_says_so(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    for ask in (functions_of, usdts_of):
        with pytest.raises(errors.SymbolError, match="text is not an ELF file"):
            ask(tmp_path / "text")
        with pytest.raises(errors.SymbolError, match="nothing can't be read: ENOENT"):
            ask(tmp_path / "nothing")


def test_kernel_functions_are_those_of_kallsyms() -> None:
    lines = [line.split() for line in Path("/proc/kallsyms").read_text().splitlines()]
    told = {words[2] for words in lines if words[1] in "tTwW"}
    found = kernel_functions("vfs_re*")
    assert "vfs_read" in found
    assert set(found) <= {name for name in told if name.startswith("vfs_re")}


def test_functions_that_ftrace_lists_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "available_filter_functions").write_text("vfs_read\next4_open [ext4]\n")
    monkeypatch.setattr(mounts, "TRACEFS", (str(tmp_path),))
    assert kernel_functions() == ["ext4_open", "vfs_read"]


def test_tracepoints_are_the_folders_of_tracefs() -> None:
    tracefs.mounted()
    folder = Path(mounts.in_tracefs("events"))
    told = {f"{path.parent.parent.name}:{path.parent.name}" for path in folder.glob("*/*/id")}
    found = tracepoints()
    assert set(found) <= told
    assert tracepoints("sched:sched_s*") == [name for name in found if name.startswith("sched:sched_s")] != []


def test_tracepoints_without_tracefs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TRACEFS", (str(tmp_path),))
    with pytest.raises(errors.SymbolError, match="mount -t tracefs"):
        tracepoints()
