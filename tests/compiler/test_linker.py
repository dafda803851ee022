"""Several translation units in one object: against bpftool's linker, and in the kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hatch_bpf.compiler import linker
from hatch_bpf.compiler.linker import link_objects
from hatch_bpf.errors import LinkError, ToolchainError
from hatch_bpf.runtime.errors import LibbpfNotFoundError
from hatch_bpf.runtime.libbpf import library
from tests.common import needs
from tests.common.libbpf_load import LIBRARY
from tests.common.projects import build_wheel, make_project, pip_wheel, wheel_files
from tests.compiler.test_clang import compile_text

SHARED = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct calls {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};
"""
FIRST = (
    SHARED
    + """
extern struct calls calls SEC(".maps");
extern int count(__u64 by);
const volatile __u64 step = 3;

SEC("raw_tp/sys_enter")
int enter(void *ctx)
{
	return count(step);
}

char LICENSE[] SEC("license") = "GPL";
"""
)
SECOND = (
    SHARED
    + """
struct calls calls SEC(".maps");
__u64 total = 0;

__hidden int count(__u64 by)
{
	__u32 zero = 0;
	__u64 *calls_so_far = bpf_map_lookup_elem(&calls, &zero);

	if (calls_so_far)
		__sync_fetch_and_add(calls_so_far, by);
	__sync_fetch_and_add(&total, by);
	return 0;
}

SEC("raw_tp/sys_exit")
int leave(void *ctx)
{
	return count(1);
}

char LICENSE[] SEC("license") = "GPL";
"""
)
OPTIONS = 'archs = ["x86_64"]\nlink = { both = ["src/demo/first.bpf.c", "src/demo/second.bpf.c"] }'
SOURCES = {"first.bpf.c": FIRST, "second.bpf.c": SECOND}
USES_IT = """\
import os
from demo.both_skel import Both

with Both.open() as bpf:
    bpf.rodata.step = 5
    with bpf.load() as skel:
        skel.attach()
        for _ in range(100):
            os.getppid()
        for link in skel.links[::-1]:
            link.detach()
        print(skel.maps.calls[0], skel.bss.total, skel.maps.calls[0] >= 100)
"""


def test_it_links_as_bpftool_does(tmp_path: Path) -> None:
    bpftool = needs.tool("bpftool")
    needs.libbpf()
    objects = []
    for name, text in SOURCES.items():
        data = compile_text(tmp_path / name, text).data
        (tmp_path / f"{name}.o").write_bytes(data)
        objects.append((name, data))
    inputs = [tmp_path / f"{name}.o" for name in SOURCES]
    subprocess.run([bpftool, "gen", "object", tmp_path / "theirs.o", *inputs], check=True)
    assert link_objects(objects, name="both.bpf.o") == (tmp_path / "theirs.o").read_bytes()


def test_one_skeleton_for_both_in_the_kernel(tmp_path: Path) -> None:
    needs.tool("clang")
    needs.root_bpf()
    wheel = build_wheel(make_project(tmp_path / "p", options=OPTIONS, sources=SOURCES), tmp_path / "out")
    names = {name for name in wheel_files(wheel) if name.endswith(("_skel.py", ".bpf.o"))}
    assert names == {"demo/both_skel.py", "demo/_bpf/x86_64/both.bpf.o"}
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", tmp_path / "site", wheel],
        check=True,
    )
    done = subprocess.run(
        [sys.executable, "-c", USES_IT], cwd=tmp_path / "site", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    counted, total, enough = done.stdout.split()
    assert (counted == total, enough) == (True, "True")


def test_it_links_with_hatch_bpfs_own_libbpf_or_else_with_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.own_libbpf()
    objects = [(f"{n}.bpf.c", compile_text(tmp_path / str(n), text).data) for n, text in enumerate((FIRST, SECOND))]
    monkeypatch.setattr(library, "find", _no_libbpf)
    linked = link_objects(objects, name="both")
    monkeypatch.setattr(linker, "own_library", lambda: None)
    monkeypatch.setattr(library, "_loaded", {})
    with pytest.raises(ToolchainError, match="linking several sources into one object needs libbpf: none here"):
        link_objects(objects, name="both")
    monkeypatch.setattr(library, "find", lambda: LIBRARY)
    assert link_objects(objects, name="both") == linked


def _no_libbpf() -> str:
    raise LibbpfNotFoundError("none here")


def test_objects_that_do_not_fit_are_told_in_libbpfs_words(tmp_path: Path) -> None:
    needs.libbpf()
    one = compile_text(tmp_path / "a", FIRST).data
    other = compile_text(tmp_path / "b", SECOND.replace("int count(__u64 by)", "int count(__u32 by)")).data
    with pytest.raises(LinkError, match=r"both\.bpf\.o: .*second\.bpf\.c cannot be linked with the others: .*count"):
        link_objects([("first.bpf.c", one), ("second.bpf.c", other)], name="both.bpf.o")


def test_files_that_libbpf_names_are_the_sources(tmp_path: Path) -> None:
    needs.libbpf()
    data = compile_text(tmp_path, FIRST).data
    with pytest.raises(LinkError) as caught:
        link_objects([("first.bpf.c", data), ("again.bpf.c", data)], name="both.bpf.o")
    assert "definition in 'again.bpf.c'" in str(caught.value)


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ('["src/demo/first.bpf.c", "src/demo/secnd.bpf.c"]', "did you mean 'src/demo/second.bpf.c'?"),
        ('["src/demo/first.bpf.c", "src/demo/first.bpf.c"]', "is linked already"),
        ('["src/demo/first.bpf.c"]', "must list two program sources or more"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, link: str, message: str) -> None:
    project = make_project(tmp_path / "p", options=f'archs = ["x86_64"]\nlink = {{ both = {link} }}', sources=SOURCES)
    done = pip_wheel(project, tmp_path / "out")
    assert done.returncode == 1
    assert message in done.stdout
    assert "Traceback" not in done.stdout
