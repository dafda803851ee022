"""Bad input through the front door, pip: one clear message, exit status 1, no traceback, and nothing written."""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from tests.common import needs
from tests.common.projects import (
    KERNELS,
    PROGRAM,
    REPOSITORY,
    make_project,
    pip_wheel,
    tree_of,
)
from tests.compiler.test_toolchain import fake_clang

X86 = 'archs = ["x86_64"]\n'


def refusal(project: Path, **options: object) -> str:
    """Build a project that must be refused, and return what hatch-bpf said."""
    before = tree_of(project)
    done = pip_wheel(project, project.parent / "out", **options)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert tree_of(project) == before
    assert not list(project.parent.glob("out/*"))
    assert "hatch-bpf: " in done.stdout, done.stdout
    return done.stdout.split("hatch-bpf: ", 1)[1]


def archive_with(folder: Path, data: bytes) -> Path:
    """An archive whose one kernel has these bytes for its `.btf.tar.xz`."""
    path = folder / "debian" / "12" / "x86_64" / "6.1.0-1.btf.tar.xz"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return folder


def a_kernel() -> bytes:
    path = next(KERNELS.glob("debian/12/x86_64/6.1.*.btf.tar.xz"))
    return path.read_bytes()


def test_no_clang(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    said = refusal(make_project(tmp_path / "p"), env={"PATH": str(tmp_path / "bin")})
    assert said.startswith("clang is not on PATH; it compiles the BPF programs. Debian, Ubuntu: apt install clang")


def test_clang_too_old(tmp_path: Path) -> None:
    old = fake_clang(tmp_path / "bin", version="9.0.1")
    said = refusal(make_project(tmp_path / "p"), env={"CLANG": str(old)})
    assert f"{old} is clang 9.0; 12.0 is the minimum, the first with CO-RE's type and enum relocations" in said


def test_libbpf_headers_missing(tmp_path: Path) -> None:
    """Really missing: the folder is hidden behind an empty one, in a mount namespace of pip's own."""
    needs.tool("clang")
    needs.private_mounts()
    project = make_project(tmp_path / "p")
    own = OWN_LIBBPF if OWN_LIBBPF.is_dir() else "/usr/include/bpf"
    hide = f'mount -t tmpfs none /usr/include/bpf && mount -t tmpfs none {own} && exec "$@"'
    said = refusal(project, prefix=("unshare", "--mount", "sh", "-c", hide, "sh"))
    assert said.startswith("src/demo/prog.bpf.c includes <bpf/bpf_core_read.h>, which is not on this system")
    assert "apt install libbpf-dev; Fedora: dnf install libbpf-devel; Alpine: apk add libbpf-dev" in said


@pytest.mark.parametrize("what", ["staging folder", "source tree"])
def test_a_full_disk(tmp_path: Path, what: str) -> None:
    """A real file system that is too small, in a mount namespace of the build's own."""
    needs.tool("clang")
    needs.private_mounts()
    if what == "staging folder":
        small = tmp_path / "small"
        small.mkdir()
        full = 'mount -t tmpfs -o size=24k none "$0" && TMPDIR="$0" exec "$@"'
        prefix = ("unshare", "--mount", "sh", "-c", full, str(small))
        said = refusal(make_project(tmp_path / "p"), prefix=prefix)
        assert said.startswith(f"{small}/hatch-bpf-")
    else:
        project = make_project(tmp_path / "p")
        script = "import sys; from hatch_bpf.cli.main import main; sys.exit(main())"
        full = 'mount -t tmpfs -o size=100k none "$0" && cp -r src pyproject.toml "$0" && cd "$0" && exec "$@"'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", full, "/mnt", sys.executable, "-c", script, "build"],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        said = done.stderr.split("hatch-bpf: ", 1)[1]
        assert said.startswith("/mnt/src/demo/")
    assert "cannot be written: No space left on device; make room there" in said


def test_compile_error(tmp_path: Path) -> None:
    needs.tool("clang")
    broken = PROGRAM.replace("BPF_CORE_READ(task, pid)", "BPF_CORE_READ(task, pidd)")
    said = refusal(make_project(tmp_path / "p", sources={"prog.bpf.c": broken}))
    assert said.startswith("src/demo/prog.bpf.c does not compile for x86_64:\n")
    assert "no member named 'pidd' in 'struct task_struct'" in said


def test_a_pattern_that_matches_no_kernel(tmp_path: Path) -> None:
    needs.tool("clang")
    options = f'{X86}btf-archive = "{KERNELS}"\nkernels = ["debian/12/x86_64/6.2.*"]'
    said = refusal(make_project(tmp_path / "p", options=options))
    assert '"debian/12/x86_64/6.2.*" matches no kernel' in said
    assert "nearest" in said
    assert "6.1.0-" in said


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    needs.tool("clang")
    options = f'{X86}btf-archive = "no-such-folder"\nkernels = ["debian/*/*/*"]'
    said = refusal(make_project(tmp_path / "p", options=options))
    assert str(tmp_path / "p" / "no-such-folder") in said
    assert "btf-archive" in said


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: data[:5000] + bytes(100) + data[5100:], "corrupt"),
        (lambda _: lzma.compress(b"x" * 10240), ""),
        (lambda _: b"", ""),
    ],
    ids=["truncated", "corrupt", "no tar", "empty"],
)
def test_a_bad_archive_file(tmp_path: Path, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    needs.tool("clang")
    archive = archive_with(tmp_path / "archive", spoil(a_kernel()))
    options = f'{X86}btf-archive = "{archive}"\nkernels = ["debian/*/*/*"]'
    said = refusal(make_project(tmp_path / "p", options=options))
    assert "debian/12/x86_64/6.1.0-1.btf.tar.xz" in said
    assert message in said


def test_a_btf_file_that_is_not_btf(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p", options=f'{X86}kernels = [{{ btf = "my.btf", release = "5.4.0-custom" }}]')
    (project / "my.btf").write_bytes(b"this is not BTF" * 100)
    said = refusal(project)
    assert str(project / "my.btf") in said
    assert "BTF" in said


def test_unknown_and_mistyped_keys_all_at_once(tmp_path: Path) -> None:
    options = 'archs = ["x86-64"]\nkernel = ["host"]\nminimizer = 7\non-unportable = "warm"'
    said = refusal(make_project(tmp_path / "p", options=options))
    key = "tool.hatch.build.hooks.bpf"
    assert f"{key}.kernel is not an option, did you mean 'kernels'?" in said
    assert f"{key}.archs[0] must be one of" in said
    assert "did you mean 'x86_64'?" in said
    assert f"{key}.minimizer must be a string that is not empty (got 7)" in said
    assert f"{key}.on-unportable must be one of error, warn, ignore (got 'warm', did you mean 'warn'?)" in said


def test_a_source_without_a_program_is_named_by_its_path(tmp_path: Path) -> None:
    needs.tool("clang")
    said = refusal(make_project(tmp_path / "p", sources={"prog.bpf.c": "// nothing\n"}, options=X86))
    assert "src/demo/prog.bpf.c: has no .BTF section" in said


def test_a_project_in_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    """clang tells its folders in bytes. pip takes no such folder."""
    needs.tool("clang")
    project = make_project(tmp_path / os.fsdecode(b"caf\xe9"), sources={"prog.bpf.c": "oops"}, options=X86)
    command = [sys.executable, "-m", "hatch_bpf", "build"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 1
    assert "src/demo/prog.bpf.c:1:1: error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_programs_with_one_skeleton_name(tmp_path: Path) -> None:
    said = refusal(make_project(tmp_path / "p", sources={"a-b.bpf.c": PROGRAM, "a_b.bpf.c": PROGRAM}))
    assert "two sources for the skeleton a_b_skel: src/demo/a-b.bpf.c and src/demo/a_b.bpf.c; rename one" in said


def test_an_event_type_that_is_not_there(tmp_path: Path) -> None:
    needs.tool("clang")
    ring = PROGRAM.replace("BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_RINGBUF").replace("max_entries, 16", "max_entries, 4096")
    ring = ring.replace("\t__type(key, __u32);\n\t__type(value, struct event);\n", "").replace(
        "bpf_map_update_elem(&events, &key, &event, BPF_ANY)", "bpf_ringbuf_output(&events, &event, sizeof(event), key)"
    )
    options = f'{X86}events = {{ events = "evnt" }}'
    assert "evnt" in refusal(make_project(tmp_path / "p", options=options, sources={"prog.bpf.c": ring}))


def test_a_folder_of_the_users_own_is_not_emptied(tmp_path: Path) -> None:
    """The same for a folder `_bpf` that hatch-bpf did not make: what is in it stays, and the message names it."""
    needs.tool("clang")
    from hatch_bpf.cli.main import main

    project = make_project(tmp_path / "p")
    mine = project / "src" / "demo" / "_bpf" / "notes" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    before = tree_of(project)
    assert main(["build", str(project)]) == 1
    assert tree_of(project) == before
    mine.unlink()
    assert main(["build", str(project)]) == 0
