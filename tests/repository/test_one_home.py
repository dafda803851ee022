"""Values of the kernel's that several rooms need stand in one module each."""

from __future__ import annotations

from pathlib import Path

import pytest

import hatch_bpf

PACKAGE = Path(hatch_bpf.__file__).parent


@pytest.mark.parametrize(
    ("value", "home"),
    [
        ('"/sys/kernel/btf/vmlinux"', "runtime/host/kernel.py"),
        ("= 247\n", "kernels/formats/elf.py"),  # EM_BPF
    ],
)
def test_a_value_has_one_home(value: str, home: str) -> None:
    homes = [path for path in sorted(PACKAGE.rglob("*.py")) if value in path.read_text(encoding="utf-8")]
    assert homes == [PACKAGE / home]
