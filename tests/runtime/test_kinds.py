"""A program of every kind is attached on this machine, runs, and no longer does once its link is gone.

What this machine's kernel refuses runs in the kernel lab: `python -m tests.lab --step kinds`.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.arch import build_machine
from hatch_bpf.runtime import errors
from hatch_bpf.runtime.libbpf import library as libbpf
from hatch_bpf.runtime.programs.elfsyms import function_offsets
from hatch_bpf.runtime.programs.program import Program
from tests.common import needs
from tests.common.namespaces import IN_OWN_NAMESPACES
from tests.common.projects import REPOSITORY
from tests.common.skeleton_package import load_skeleton
from tests.kinds import exercises, project
from tests.lab.steps.kinds import NEEDS
from tests.seeds.project import install

PROBES = ("kprobe", "kprobe_offset", "kretprobe", "ksyscall", "kretsyscall", "kprobe_multi", "kprobe_session")
SECTIONS = {
    "fentry": "fentry/vfs_fsync",
    "fexit": "fexit/vfs_fsync",
    "fmod_ret": "fmod_ret/security_task_getpgid",
    "freplace": "fentry/vfs_fsync",  # itself it needs a program to replace a part of; both are made of trampolines
    "iterator": "iter/task",
    "lsm": "lsm/file_open",
    "lsm_cgroup": "lsm_cgroup/socket_post_create",
    "tp_btf": "tp_btf/sys_enter",
}
"""Exercise -> section of a program of its kind, where there are kernels that refuse it."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of each exercise."""
    needs.root_bpf()
    needs.cgroup2()
    needs.tool("ip")
    folder = tmp_path_factory.mktemp("kinds")
    machine = build_machine()
    assert machine is not None
    site = install(project.make_wheel(folder, arch=machine.name), folder / "site")
    script = Path(shutil.copy(project.EXERCISES, folder))
    project.compile_probe(folder / "libprobe.so")
    command = [*IN_OWN_NAMESPACES, sys.executable, str(script)]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    _, *records = map(json.loads, done.stdout.splitlines())
    return {record["exercise"]: record for record in records}


@pytest.mark.parametrize("name", exercises.EXERCISES)
def test_it_is_attached_and_runs(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    record = outcomes[name]
    if record["step"] == "old libbpf":
        assert name in NEEDS
        assert libbpf.load().version < NEEDS[name].libbpf
        pytest.skip(record["error"].split("; install")[0])
    if record["step"] == "no device":
        needs.netkit()
    if name in PROBES and record["step"] == "attach":
        needs.kprobes()
    if name in SECTIONS and record["step"] != "works":
        needs.program_kind(SECTIONS[name])
    assert record["step"] == "works", record["error"]


def test_a_struct_ops_map_can_be_left_out(tmp_path: Path) -> None:
    needs.root_bpf()
    with load_skeleton("struct_ops", tmp_path).StructOps.open() as bpf:
        bpf.maps.counting.autocreate = False
        for program in bpf.programs:
            program.autoload = False
        with bpf.load() as skel:
            skel.attach()
            assert skel.links == ()
            with pytest.raises(errors.AttachError, match="struct_ops map counting can't be attached"):
                skel.maps.counting.attach()


def test_the_documentation_has_every_method_and_the_right_versions() -> None:
    text = (REPOSITORY / "docs" / "attaching.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    shown = {name: row[4] for row in rows for name in re.findall(r"`(attach_\w+|read_iter|attach)\(", row[2])}
    methods = {name for name in dir(Program) if name.startswith("attach") or name == "read_iter"}
    assert set(shown) == methods
    for name, since in shown.items():
        functions = [f for f in (f"bpf_program__{name}", f"bpf_program__{name}_opts") if f in libbpf._FUNCTIONS]
        for version in (libbpf._FUNCTIONS[function][0] for function in functions):
            needed = tuple(map(int, version.split(".")[:2]))
            if needed > libbpf.MINIMUM and name != "attach_kprobe_multi":  # which has two rows
                assert since == version, name


def test_functions_lie_where_nm_says(tmp_path: Path) -> None:
    source = "int one(void) { return 1; } static int two(void) { return 2; } int three(void) { return one() + two(); }"
    library = tmp_path / "lib.so"
    compile_ = [needs.tool("clang"), "-O0", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-o", str(library)]
    subprocess.run(compile_, input=source, text=True, check=True)
    listed = subprocess.run([needs.tool("readelf"), "-lsW", library], capture_output=True, text=True, check=True).stdout
    segments = [line.split() for line in listed.splitlines() if line.split()[:1] == ["LOAD"]]

    def offset_of(address: int) -> int:
        for _, offset, start, _, size, *_ in segments:
            if int(start, 16) <= address < int(start, 16) + int(size, 16):
                return address - int(start, 16) + int(offset, 16)
        raise AssertionError

    wanted = {
        fields[7]: offset_of(int(fields[1], 16))
        for fields in map(str.split, listed.splitlines())
        if len(fields) == 8 and fields[3] == "FUNC"
    }
    names = ["three", "one", "two"]
    assert function_offsets(str(library), names) == [wanted[name] for name in names]
    subprocess.run([needs.tool("llvm-strip"), library], check=True)
    assert function_offsets(str(library), ["one"]) == [wanted["one"]]
    with pytest.raises(ValueError, match=r"there is no two$"):
        function_offsets(str(library), ["two"])
    library.write_bytes(library.read_bytes()[:500])
    with pytest.raises(ValueError, match="is a damaged ELF file"):
        function_offsets(str(library), ["one"])
    library.write_bytes(b"\x7fELF of no class")
    with pytest.raises(ValueError, match="is not an ELF file"):
        function_offsets(str(library), ["one"])


def dlsym_offset(library: str, name: str) -> int:
    """Where the dynamic linker finds a function, as an offset in the file: the default version."""
    address = ctypes.cast(getattr(ctypes.CDLL(library), name), ctypes.c_void_p).value
    assert address
    for line in Path("/proc/self/maps").read_text().splitlines():
        ends, _, offset, *rest = line.split()
        start, end = (int(part, 16) for part in ends.split("-"))
        if start <= address < end and rest[-1].startswith("/"):
            return address - start + int(offset, 16)
    raise AssertionError


@pytest.mark.parametrize("name", ["realpath", "pthread_cond_signal", "fopen", "posix_spawn", "regexec", "getpid"])
def test_the_default_version_of_a_function_is_taken(name: str) -> None:
    """As the dynamic linker does: libc keeps older versions of these functions (but of getpid) for old programs."""
    libc = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so.6" in line)
    assert function_offsets(libc, [name]) == [dlsym_offset(libc, name)]


def test_a_name_of_two_functions_is_ambiguous(tmp_path: Path) -> None:
    clang = needs.tool("clang")
    for part in ("one", "two"):
        (tmp_path / f"{part}.c").write_text(
            f"static __attribute__((noinline)) int helper(int x) {{ return x + {len(part)}; }}"
            f"__attribute__((noinline)) int {part}(int x) {{ return helper(x) * 2; }}"
            f"__attribute__((weak)) int either(void) {{ return {len(part)}; }}"
        )
    (tmp_path / "strong.c").write_text("int strong(void) { return 1; } int either(void) __attribute__((weak));")
    library = tmp_path / "lib.so"
    sources = [tmp_path / f"{part}.c" for part in ("one", "two", "strong")]
    subprocess.run([clang, "-O0", "-shared", "-fPIC", "-nostdlib", *sources, "-o", library], check=True)
    with pytest.raises(ValueError, match="helper is ambiguous: 2 functions of "):
        function_offsets(str(library), ["one", "helper"])
    assert len(set(function_offsets(str(library), ["one", "two", "either", "strong"]))) == 4


def test_sections_that_this_libbpf_does_not_know_are_named(outcomes: dict[str, dict[str, Any]]) -> None:
    if libbpf.load().version >= (1, 5):
        pytest.skip("this libbpf knows all of them")
    record = outcomes["kprobe_session"]
    assert record["step"] == "old libbpf"
    assert "SEC('kprobe.session') needs libbpf 1.5 or later; " in record["error"]
