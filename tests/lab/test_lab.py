"""The parts of the kernel lab that need no virtual machine; `python -m tests.lab` boots them."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.lab import cpio
from tests.common import needs
from tests.lab import debian, guest, lab
from tests.lab.__main__ import _chosen

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


def test_wheels_are_laid_out_as_pip_does(tmp_path: Path) -> None:
    path = tmp_path / "one-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("one/__init__.py", "X = 1\n")
        opened.writestr("one-1.dist-info/METADATA", "Name: one\n")
    nodes = lab.wheels([path], under="site")
    assert nodes["site/one/__init__.py"].content == b"X = 1\n"
    assert set(nodes) == {"site/one/__init__.py", "site/one-1.dist-info/METADATA"}


def console(text: str) -> lab.Outcome:
    return lab._outcome(KERNEL, text.replace("\n", "\r\n").encode(), begin="begin-1", end="end-1", seconds=1.0)


def test_an_outcome_is_what_stands_between_the_marks() -> None:
    outcome = console('booting begin\nbegin-1\nhello\n{"a": 1}\nno newline at the end\nend-1 3\n[9.9] powering off\n')
    assert outcome.status == 3
    assert outcome.output == 'hello\n{"a": 1}\nno newline at the end'
    assert outcome.records() == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Kernel panic - not syncing: No working init found\n", "did not come up(.|\n)*No working init"),
        ("begin-1\nhello\nKernel panic - Oops\n", "did not get through its command in 1 seconds(.|\n)*Oops"),
        ("", "did not come up"),
    ],
)
def test_a_machine_that_does_not_get_through(text: str, message: str) -> None:
    with pytest.raises(lab.LabError, match=message) as caught:
        console(text)
    assert str(KERNEL) in str(caught.value)


def test_where_packages_put_things() -> None:
    assert guest._merged("./lib/x86_64-linux-gnu/libc.so.6") == "usr/lib/x86_64-linux-gnu/libc.so.6"
    assert guest._merged("./usr/bin/python3") == "usr/bin/python3"
    assert guest._merged("./etc/os-release") == "etc/os-release"


def test_kernels_by_pattern_and_by_name() -> None:
    assert {kernel.arch for kernel in _chosen(["*/x86_64/*"])} == {"x86_64"}
    other = "debian/13/arm64/6.12.107+deb13-cloud-arm64"
    assert [str(kernel) for kernel in _chosen([other, other])] == [other]
    with pytest.raises(KernelError, match="distro/version/arch/release"):
        _chosen(["nothing-like-it"])


def test_a_fetched_package_needs_no_network(tmp_path: Path) -> None:
    apt = debian.Apt(tmp_path)
    apt.packages.mkdir()
    path = apt.packages / f"linux-image-{KERNEL.release}_6.1.176-1_amd64.deb"
    path.touch()
    assert apt.fetch(KERNEL) == path
    with pytest.raises(KernelError, match="fetched for x86_64, arm64 only"):
        apt.fetch(Kernel.parse("debian/12/riscv64/6.1"))
