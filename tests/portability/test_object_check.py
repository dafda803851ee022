"""Verdicts: against what each small program is made to show, and against what the running kernel says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.minimize import minimize
from hatch_bpf.kernels.identity import Kernel, host
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from hatch_bpf.runtime.sections import parse_section
from tests.common import kernel_btfs, needs, objects
from tests.common.checked import (
    SOURCES,
    btf_of,
    model,
    verdicts_on,
)
from tests.common.on_kernels import KernelTypes, check_kernel, check_on
from tests.common.rewritten_btf import rewrite
from tests.lab.steps.verdicts import loads_with_libbpf

FILES = sorted(path.name for path in SOURCES.glob("*.bpf.c"))

CPUS = ("v1", "v3")

"""Instruction sets to compile for: v3 has 32-bit arithmetic and jumps, so that guards take other forms."""

EXPECTED = {
    "loads": Verdict.LOADS,
    "fails": Verdict.FAILS,
    "conditional": Verdict.CONDITIONAL,
    "kernel_btf": Verdict.NEEDS_KERNEL_BTF,
}

EPERM = 1


@pytest.mark.thorough
@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_every_program_gets_the_verdict_that_its_name_says(kernel: str) -> None:
    models = [model(file, cpu) for file in FILES for cpu in CPUS]
    wrong = []
    for (path, program), found in verdicts_on(kernel, *models).items():
        prefix, separator, _ = program.partition("__")
        kinds = {reason.kind for reason in found.reasons}
        if ReasonKind.ATTACH_UNSUPPORTED in kinds:
            assert "/arm64/5.10." in kernel or "/arm64/6.1." in kernel
            assert found.verdict in (Verdict.CANNOT_ATTACH, Verdict.FAILS)
        elif "callback" in program and ReasonKind.CALLBACKS_MISSING in kinds:
            # there, what calls back cannot load at all
            assert "/5.10." in kernel
            assert found.verdict is Verdict.FAILS
        elif ReasonKind.KERNEL_WITHOUT_BTF in kinds:
            # it has BTF, which its list of functions does not show
            assert "/arm64/5.10." in kernel
            assert found.verdict is Verdict.NEEDS_KERNEL_BTF
        elif separator and found.verdict is not EXPECTED[prefix]:
            wrong.append((path, program, found.verdict.value, [reason.message for reason in found.reasons]))
    assert wrong == []


def test_the_running_kernel_agrees(subtests_failed: list[str]) -> None:
    """A program that fails is refused, one that loads is taken, and a condition's other half tells which it is."""
    needs.root_bpf()
    libbpf, kernel, btf = needs.libbpf(), host(), Btf(needs.host_btf().read_bytes(), source="host")
    compared = 0
    for file in FILES:
        for cpu in CPUS:
            obj = model(file, cpu)
            report = check_on([obj], [KernelTypes(kernel, btf, Btf(minimize([obj], btf), source="minimized"))])
            by_name = {found.program: found for found in report.kernels[0].programs}
            for loaded in libbpf.load_each(obj.elf):
                found = by_name[loaded.program]
                if _depends_on_the_machine(found, obj, loaded.error):
                    continue
                compared += 1
                loads = loads_with_libbpf(found, has_flavors=libbpf.version >= (1, 3))
                fails = found.verdict is Verdict.FAILS or any("globals it is)" in r.what for r in found.reasons)
                fails = fails if loads is None else not loads
                if fails != bool(loaded.error):
                    subtests_failed.append(f"{obj.path} {found}: errno {loaded.error}\n{loaded.log[-500:]}")
    assert compared > 130


@pytest.fixture
def subtests_failed() -> object:
    """Collect what differs, and tell of all of it at once."""
    failed: list[str] = []
    yield failed
    assert not failed, "\n".join(failed)


def _depends_on_the_machine(found: ProgramVerdict, obj: ObjectModel, error: int) -> bool:
    """Refusals that say nothing of the program: those of this machine, and what only the application can supply."""
    program = next(program for program in obj.programs if program.name == found.program)
    section = parse_section(program.section)
    assert section is not None or found.verdict is Verdict.FAILS
    if section is None:
        return False
    # a locked-down machine loads no tracing program that changes kernel code, nor an LSM program
    if error == EPERM and (
        section.program_type == "LSM" or section.attach_type in ("BPF_TRACE_FENTRY", "BPF_TRACE_FEXIT")
    ):
        return True
    unset = section.needs_kernel_btf and (not section.target or bool(section.module))
    return unset or any(reason.kind is ReasonKind.MAP_UNSIZED for reason in found.reasons)


def test_the_running_kernel_agrees_on_libbpf_tools(subtests_failed: list[str]) -> None:
    needs.root_bpf()
    libbpf, kernel, btf = needs.libbpf(), host(), Btf(needs.host_btf().read_bytes(), source="host")
    models = objects.models()
    report = check_kernel(Checker(list(models.values())), KernelTypes(kernel, btf))
    by_name = {(found.object, found.program): found for found in report.programs}
    compared = 0
    for obj in models.values():
        for loaded in libbpf.load_each(obj.elf):
            found = by_name[obj.path, loaded.program]
            if _depends_on_the_machine(found, obj, loaded.error):
                continue
            compared += 1
            # none of these programs hangs on a global that is set in the object
            if (found.at_load is Verdict.FAILS) != bool(loaded.error):
                subtests_failed.append(f"{obj.path} {found}: errno {loaded.error}\n{loaded.log[-500:]}")
    assert compared > 180


def test_an_optional_program_fails_no_build() -> None:
    obj = model("targets.bpf.c")
    kernel = kernel_btfs.EXAMPLES[0]
    report = check_on([obj], [KernelTypes(Kernel.parse(kernel), btf_of(kernel))])
    assert report.exit_status == 1
    only_optional = tuple(found for found in report.kernels[0].programs if found.program == "fails__optional")
    (found,) = only_optional
    assert found.verdict is Verdict.FAILS
    assert ReasonKind.OPTIONAL in {reason.kind for reason in found.reasons}
    assert replace(report, kernels=(replace(report.kernels[0], programs=only_optional),)).exit_status == 0


def test_a_minimized_btf_of_something_else_is_noticed() -> None:
    kernel = kernel_btfs.EXAMPLES[0]
    obj, other = model("guards.bpf.c"), model("ringbuf.bpf.c")
    wrong = Btf(minimize([other], btf_of(kernel)), source="minimized")
    found = check_on([obj], [KernelTypes(Kernel.parse(kernel), btf_of(kernel), wrong)]).kernels[0].programs
    by_name = {program.program: program for program in found}
    assert by_name["loads__guarded"].verdict is Verdict.FAILS
    assert ReasonKind.MINIMIZED_DIFFERS in {reason.kind for reason in by_name["loads__guarded"].reasons}
    assert ReasonKind.MINIMIZED_DIFFERS not in {
        reason.kind for reason in by_name["fails__helper_without_guard"].reasons
    }


def test_a_copy_of_the_whole_btf_does_as_well_as_a_minimized_one() -> None:
    kernel = kernel_btfs.EXAMPLES[0]
    obj = model("guards.bpf.c")
    copy = Btf(rewrite(btf_of(kernel)), source="copy")
    full = check_on([obj], [KernelTypes(Kernel.parse(kernel), btf_of(kernel))])
    assert check_on([obj], [KernelTypes(Kernel.parse(kernel), btf_of(kernel), copy)]) == full


def test_kernels_are_looked_at_one_by_one_or_together_alike() -> None:
    obj = model("globals.bpf.c")
    kernels = [KernelTypes(Kernel.parse(name), btf_of(name)) for name in kernel_btfs.EXAMPLES[:3]]
    together = check_on([obj], kernels)
    assert together.kernels == tuple(check_on([obj], [kernel]).kernels[0] for kernel in kernels)


def test_a_reason_in_json_has_the_keys_that_were_promised() -> None:
    from hatch_bpf.portability.text import render_json

    kernel = kernel_btfs.EXAMPLES[0]
    obj = model("guards.bpf.c")
    document = json.loads(render_json(check_on([obj], [KernelTypes(Kernel.parse(kernel), btf_of(kernel))])))
    assert list(document) == ["kernels", "not_checked"]
    (entry,) = document["kernels"]
    assert list(entry) == ["kernel", "programs"]
    assert entry["kernel"] == kernel
    for program in entry["programs"]:
        assert list(program) == ["object", "program", "verdict", "reasons"]
        assert program["verdict"] in {verdict.value for verdict in Verdict}
        for reason in program["reasons"]:
            assert list(reason) == ["kind", "message", "source"]
