"""Uprobes on stripped programs and libraries, whose functions only a separate debug file knows: each way to attach."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors, has_attach_type
from hatch_bpf.runtime.host.arch import running_name
from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from tests.common import needs
from tests.common.skeleton_package import import_skeleton, skeleton_text

LIBRARY = """
    #define KEPT __attribute__((noinline, used))
    static KEPT int hidden_one(int x) { __asm__ volatile(""); return x + 1; }
    static KEPT int hidden_two(int x) { __asm__ volatile(""); return x + 2; }
    int shown(int x) { return hidden_one(x) + hidden_two(x); }
"""
PROGRAMS = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    __u32 hits, told;
    __u64 cookies[4];
    #define COUNTING(section, name) SEC(section) int name(void *ctx) { __sync_fetch_and_add(&hits, 1); return 0; }
    COUNTING("?uprobe/PATH:hidden_one", by_name)
    COUNTING("?uprobe/PATH:hidden_one+0x0", by_offset)
    COUNTING("?uretprobe/PATH:hidden_two", at_return)
    COUNTING("?uprobe.multi/PATH:hidden_*", many)
    COUNTING("?uretprobe.multi/PATH:*", many_returns)
    COUNTING("?uprobe/PATH:hidden_none", absent)
    SEC("?uprobe.multi") int by_cookie(void *ctx) { cookies[told++ & 3] = bpf_get_attach_cookie(ctx); return 0; }
    char LICENSE[] SEC("license") = "GPL";
"""
NO_MULTI = "this kernel has no uprobe.multi, which came with Linux 6.6"
OWN = str(OWN_LIBBPF / "lib" / running_name() / "glibc" / "libbpf.so.1")


def stripped(text: str, path: Path, *options: str) -> Path:
    """Compile C, and leave only a debug link in the file; the debug file is beside it."""
    debug = path.with_suffix(".debug")
    compile_ = [needs.tool("clang"), "-O1", "-Wl,--build-id", *options, "-x", "c", "-", "-o", path]
    subprocess.run(compile_, input=text, text=True, check=True)
    objcopy = needs.tool("llvm-objcopy")
    subprocess.run([objcopy, "--only-keep-debug", path, debug], check=True)
    subprocess.run([objcopy, "--strip-all", f"--add-gnu-debuglink={debug}", path], check=True)
    return path


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stripped(LIBRARY, tmp_path_factory.mktemp("library") / "libstripped.so", "-shared", "-fPIC", "-nostdlib")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls each function once for each byte of its input."""
    main = "#include <unistd.h>\nint main(void) { char c; while (read(0, &c, 1) == 1) shown(1); return 0; }"
    return stripped(LIBRARY + main, tmp_path_factory.mktemp("program") / "reader")


@pytest.fixture(scope="module")
def skeleton(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    needs.root_bpf()
    folder = tmp_path_factory.mktemp("stripped")
    source = folder / "stripped.bpf.c"
    source.write_text(PROGRAMS.replace("PATH", str(library)))
    return import_skeleton("stripped_skel", skeleton_text(source, folder, runtime="hatch_bpf.runtime"), folder).Stripped


@pytest.fixture
def call(library: Path) -> Callable[[], object]:
    """Calls each of the library's three functions once."""
    opened = ctypes.CDLL(str(library))
    return lambda: opened.shown(1)


def hits(skeleton: Any, name: str, call: Callable[[], object], *, libbpf: str | None = None) -> int:
    """How often a program runs during a call, attached as its section says."""
    with skeleton.open(libbpf=libbpf) as bpf:
        bpf.programs[name].autoload = True
        with bpf.load() as skel:
            skel.attach()
            call()
            assert len(skel.links) == 1
            return int(skel.bss.hits)


@pytest.mark.parametrize("name", ["by_name", "by_offset", "at_return"])
def test_one_function(skeleton: Any, call: Callable[[], object], name: str) -> None:
    assert hits(skeleton, name, call) == 1


@pytest.mark.parametrize(("name", "times"), [("many", 2), ("many_returns", 3)])
def test_functions_by_a_pattern(skeleton: Any, call: Callable[[], object], name: str, times: int) -> None:
    """Those of the debug file along with those that were not stripped."""
    needs.own_libbpf()
    if not has_attach_type("BPF_TRACE_UPROBE_MULTI"):
        pytest.skip(NO_MULTI)
    assert hits(skeleton, name, call, libbpf=OWN) == times


def test_functions_with_a_cookie_each(skeleton: Any, library: Path, call: Callable[[], object]) -> None:
    needs.own_libbpf()
    with skeleton.open(libbpf=OWN) as bpf:
        bpf.programs.by_cookie.autoload = True
        with bpf.load() as skel:
            attach = skel.programs.by_cookie.attach_uprobe_multi
            with pytest.raises(errors.InvalidValueError, match="cookies can't be 1 numbers for 2 functions"):
                attach(library, functions=["hidden_one", "shown"], cookies=[1])
            with pytest.raises(errors.InvalidValueError, match=r"cookies\[0\]"):
                attach(library, functions=["shown"], cookies=[-1])
            if not has_attach_type("BPF_TRACE_UPROBE_MULTI"):
                pytest.skip(NO_MULTI)
            with attach(library, functions=["hidden_two", "shown", "hidden_one"], cookies=[2, 1 << 63, 1]):
                call()
            assert list(skel.bss.cookies) == [1 << 63, 1, 2, 0], "in the order of the calls"


@pytest.mark.parametrize("name", ["exe", "root", "link"])
def test_a_program_by_other_names(skeleton: Any, program: Path, tmp_path: Path, name: str) -> None:
    """The debug file is looked for where the program really is: that of a process, and behind a symbolic link."""
    (tmp_path / "link").symlink_to(program)
    with (
        skeleton.open() as bpf,
        subprocess.Popen([program], stdin=subprocess.PIPE) as process,
    ):
        bpf.programs.by_name.autoload = True
        proc = f"/proc/{process.pid}"
        path = {"exe": f"{proc}/exe", "root": f"{proc}/root{program}", "link": f"{tmp_path}/link"}[name]
        with bpf.load() as skel, skel.programs.by_name.attach_uprobe(path, "hidden_one"):
            process.communicate(b"xyz")
            assert skel.bss.hits == 3


def test_a_function_that_is_nowhere(skeleton: Any, library: Path, call: Callable[[], object]) -> None:
    with pytest.raises(errors.AttachError, match=f"uprobe {library}:hidden_none.*ENOENT"):
        hits(skeleton, "absent", call)
