"""Verdicts that depend on libbpf's version: decided if the wheel brings libbpf, conditional if hosts have theirs."""

from __future__ import annotations

import ctypes
import io
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from hatch_bpf import pipeline
from hatch_bpf.btf.reader import Btf
from hatch_bpf.hatch_plugin import load_hatch_project
from hatch_bpf.kernels.identity import host
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.verdicts import ReasonKind, Verdict
from hatch_bpf.runtime.sections import parse_section, section_patterns
from hatch_bpf.support.context import Context
from hatch_bpf.support.own_libbpf import own_library, own_version
from tests.common import c_programs, needs
from tests.common.on_kernels import KernelTypes, check_kernel
from tests.common.projects import SYSTEM_LIBBPF, make_project

PROGRAMS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("netfilter") int known(void *ctx) { return 1; }
SEC("uprobe.session//bin/true:main") int newer(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
"""Sections of libbpf 1.3, which the bundled one is newer than, and of 1.6, which is newer than the bundled one."""


def test_the_bundled_libbpf_knows_the_sections_of_its_version_and_no_others() -> None:
    needs.own_libbpf()
    library, version = ctypes.CDLL(str(own_library())), own_version()
    assert version is not None
    library.libbpf_set_print(None)
    known = {}
    for pattern in section_patterns():
        name = pattern.replace("+", "/target") if pattern.endswith("+") else pattern
        section = parse_section(name)
        assert section is not None
        is_known = library.libbpf_prog_type_by_name(
            name.encode(), ctypes.byref(ctypes.c_int()), ctypes.byref(ctypes.c_int())
        )
        known[name] = (is_known == 0) == (section.since <= version)
    assert [name for name, agrees in known.items() if not agrees] == []


@pytest.mark.parametrize(
    ("libbpf", "verdicts"),
    [("", [Verdict.LOADS, Verdict.FAILS]), (SYSTEM_LIBBPF, [Verdict.CONDITIONAL, Verdict.CONDITIONAL])],
    ids=["bundle", "system"],
)
def test_sections_that_some_libbpfs_do_not_know(tmp_path: Path, libbpf: str, verdicts: list[Verdict]) -> None:
    needs.tool("clang")
    needs.host_btf()
    needs.own_libbpf()
    options = 'archs = ["x86_64"]\nkernels = ["host"]\n'
    project = load_hatch_project(
        make_project(tmp_path / "p", options=options, libbpf=libbpf, sources={"prog.bpf.c": PROGRAMS})
    )
    assert project is not None
    (kernel,) = pipeline.check(project, Context()).kernels
    assert [found.verdict for found in kernel.programs] == verdicts
    reasons = [reason for found in kernel.programs for reason in found.reasons]
    remedies = {reason.remedy for reason in reasons if reason.kind is ReasonKind.LIBBPF_TOO_OLD}
    assert remedies == (
        {'let the wheel bring a newer one: libbpf = "bundle"', "the hosts need libbpf 1.6 or newer"}
        if libbpf
        else {'set libbpf = "system", if all hosts have libbpf 1.6 or newer'}
    )


@pytest.mark.parametrize("is_the_wheels", [True, False])
def test_an_object_that_only_libbpf_itself_refuses(is_the_wheels: bool) -> None:
    """It has a section in a format that no compiler writes, so that no rule knows it."""
    needs.own_libbpf()
    obj = c_programs.model('SEC("socket") int f(void *ctx) { return 0; }')
    elf = ELFFile(io.BytesIO(obj.elf))
    at = elf["e_shoff"] + elf.get_section_index(".BTF") * elf["e_shentsize"] + 4
    broken = obj.elf[:at] + bytes([7, 0, 0, 0]) + obj.elf[at + 4 :]  # SHT_NOTE instead of SHT_PROGBITS
    kernel = KernelTypes(host(), Btf(needs.host_btf().read_bytes(), source="host"))
    checker = Checker([replace(obj, elf=broken)], libbpf=own_version() if is_the_wheels else None)
    (found,) = check_kernel(checker, kernel).programs
    (reason,) = found.reasons
    assert reason.kind is ReasonKind.LIBBPF_REFUSES
    assert found.verdict is (Verdict.FAILS if is_the_wheels else Verdict.CONDITIONAL)
    assert ("which the wheel brings" in reason.what) == is_the_wheels
