"""The parts of the kernel lab that need no virtual machine; `python -m tests.lab` boots them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hatch_bpf.cli.common import load_project
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.lab import cpio
from tests.common import needs
from tests.lab import debian, project, userland
from tests.lab.__main__ import chosen
from tests.lab.steps import verdicts

KERNEL = Kernel.parse("debian/12/x86_64/6.1.0-50-cloud-amd64")


def test_cpio_unpacks_to_what_was_packed(tmp_path: Path) -> None:
    nodes = {
        "a/b/text": cpio.file("some text\n"),
        "a/b/program": cpio.file(b"#!/bin/sh\n", executable=True),
        "a/empty": cpio.folder(),
        "a/link": cpio.link("b/text"),
        "odd": cpio.file(b"12345"),
    }
    subprocess.run([needs.tool("cpio"), "-id", "--quiet"], input=cpio.pack(nodes), cwd=tmp_path, check=True)
    assert (tmp_path / "a/link").readlink() == Path("b/text")
    assert (tmp_path / "a/link").read_text() == "some text\n"
    assert (tmp_path / "odd").read_bytes() == b"12345"
    assert (tmp_path / "a/empty").is_dir()
    assert os.access(tmp_path / "a/b/program", os.X_OK)
    assert not os.access(tmp_path / "a/b/text", os.X_OK)
    # what was unpacked, packed again, is the same
    assert cpio.pack(cpio.tree(tmp_path / "a", "a")) == cpio.pack({k: v for k, v in nodes.items() if k != "odd"})


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "test_x.py").touch()
    assert cpio.tree(tmp_path, "tests").keys() == {"tests", "tests/test_x.py"}


def test_the_repositorys_own_programs_and_the_examples_are_a_project(tmp_path: Path) -> None:
    sources = load_project(project.make_project(tmp_path / "p", [KERNEL])).sources
    paths = {str(source.path) for source in sources}
    assert {"src/own_programs/unlinks.bpf.c", "src/own_programs/targets.bpf.c", "src/tcprtt/tcprtt.bpf.c"} <= paths


def test_an_output_is_what_stands_between_its_lines() -> None:
    text = """
{"begins": "one"}
hello
{"a": 1}
no newline at the end
{"ends": "one", "status": 3, "seconds": 1.5}

{"begins": "two"}
cut short"""
    (one, first), (two, second) = project.outputs(text)
    assert (one, first.text, first.status, first.seconds) == ("one", 'hello\n{"a": 1}\nno newline at the end', 3, 1.5)
    assert first.records() == [{"a": 1}]
    assert (two, second.text, second.status) == ("two", "cut short", "the guest ended first")


def test_the_repositorys_own_programs_are_among_those_whose_verdicts_are_compared() -> None:
    assert {"guards-", "targets-", "globals-"} <= set(verdicts.OURS)


def test_where_packages_put_things() -> None:
    assert userland._merged("./lib/x86_64-linux-gnu/libc.so.6") == "usr/lib/x86_64-linux-gnu/libc.so.6"
    assert userland._merged("./usr/bin/python3") == "usr/bin/python3"
    assert userland._merged("./etc/os-release") == "etc/os-release"


def test_kernels_by_pattern_and_by_name() -> None:
    assert {kernel.arch for kernel in chosen(["*/x86_64/*"])} == {"x86_64"}
    other = "debian/13/arm64/6.12.107+deb13-cloud-arm64"
    assert [str(kernel) for kernel in chosen([other, other])] == [other]
    with pytest.raises(KernelError, match="distro/version/arch/release"):
        chosen(["nothing-like-it"])


def test_a_fetched_package_needs_no_network(tmp_path: Path) -> None:
    apt = debian.Apt(tmp_path)
    apt.packages.mkdir()
    path = apt.packages / f"linux-image-{KERNEL.release}_6.1.176-1_amd64.deb"
    path.touch()
    assert apt.fetch(KERNEL) == path
    with pytest.raises(KernelError, match="fetched for x86_64, arm64 only"):
        apt.fetch(Kernel.parse("debian/12/riscv64/6.1"))
