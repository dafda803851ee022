"""Relocations that a kernel cannot resolve, or not so: what is said of them, and whether libbpf agrees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hatch_bpf.kernels.identity import host
from hatch_bpf.portability.verdicts import ReasonKind, Weight
from tests.common import c_programs, kernel_btfs, libbpf_log
from tests.common.checked import (
    line_of,
    message_for,
    verdict,
)
from tests.common.on_kernels import KernelTypes, check_on
from tests.common.rewritten_btf import rewrite


def test_an_unguarded_field_is_told_with_its_line_and_a_guard() -> None:
    kernel = kernel_btfs.EXAMPLES[0]
    found = verdict(kernel, "guards.bpf.c", "fails__no_guard")
    (reason,) = found.reasons
    assert reason.kind is ReasonKind.CO_RE_MISSING
    line = line_of("guards.bpf.c", "return BPF_CORE_READ", after="fails__no_guard")
    assert reason.source == f"guards.bpf.c:{line}"
    assert message_for(reason, kernel) == (
        "struct task_struct___never.hatch_bpf_never is not in this kernel: guard it with "
        "bpf_core_field_exists(struct task_struct___never, hatch_bpf_never), "
        f"or remove {kernel} from the option `kernels`"
    )


def test_a_missing_type_may_be_a_modules() -> None:
    (reason,) = verdict(kernel_btfs.EXAMPLES[0], "guards.bpf.c", "fails__type_without_guard").reasons
    assert "whose BTF has no struct hatch_bpf_never (a module may define it, but no embedded BTF" in reason.message


def test_a_missing_enumerator_is_guarded_by_its_own_macro() -> None:
    (reason,) = verdict(kernel_btfs.EXAMPLES[0], "guards.bpf.c", "fails__enumerator_without_guard").reasons
    enum, value = "enum bpf_func_id___never", "BPF_FUNC_hatch_bpf_never___never"
    assert reason.remedy == f"guard it with bpf_core_enum_value_exists({enum}, {value})"


_FIELD = """
struct __attribute__((preserve_access_index)) thing { int before; TYPE field; };
SEC("socket") long program(struct thing *thing) { return thing->field; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize(
    ("kernel", "kind", "told"),
    [
        (
            "struct thing { char before[40000]; int field; } thing;",
            ReasonKind.CO_RE_REFUSED,
            "cannot have offset 40000",
        ),
        (
            "struct thing { long field; } thing;",
            ReasonKind.CO_RE_SIZE,
            "has 4 bytes in the object and 8 in this kernel",
        ),
        (
            "struct thing { int field; } thing; struct thing___2 { long before; int field; } more;",
            ReasonKind.CO_RE_REFUSED,
            "more than one struct thing.field, at bits 0 and 64",
        ),
        ("struct thing { int field; } thing;", None, ""),
    ],
)
def test_a_field_that_cannot_be_read_so(kernel: str, kind: ReasonKind | None, told: str, tmp_path: Path) -> None:
    """And libbpf, given this for the kernel's BTF, doesn't load it either."""
    obj, btf = c_programs.model(_FIELD.replace("TYPE", "int")), c_programs.kernel(kernel)
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    assert [reason.kind for reason in found.reasons if reason.weight is Weight.FAILS] == ([kind] if kind else [])
    assert told in " ".join(reason.what for reason in found.reasons)
    path = tmp_path / "kernel.btf"
    path.write_bytes(rewrite(btf))
    (said,) = libbpf_log.relocate(obj.elf, path)
    assert (said.error or said.actions == ["0: poison"]) == bool(kind)


def test_a_relocation_outside_of_any_function_harms_none() -> None:
    source = _FIELD.replace("TYPE", "int") + 'SEC("xdp") long other(struct thing *thing) { return thing->field; }'
    obj, btf = c_programs.model(source), c_programs.kernel("struct thing { long field; } thing;")
    without = replace(obj, programs=tuple(p for p in obj.programs if p.name == "program"))
    (found,) = check_on([without], [KernelTypes(host(), btf)]).kernels[0].programs
    assert found == check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs[0]


def test_a_namesake_in_the_minimized_btf_alone_is_noticed() -> None:
    obj, btf = c_programs.model(_FIELD.replace("TYPE", "int")), c_programs.kernel("struct thing { int field; } thing;")
    two = c_programs.kernel("struct thing { int field; } thing; struct thing___2 { long before; int field; } more;")
    (found,) = check_on([obj], [KernelTypes(host(), btf, two)]).kernels[0].programs
    assert [reason.kind for reason in found.reasons] == [ReasonKind.MINIMIZED_DIFFERS]
