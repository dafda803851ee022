"""Values of the kernel's that several rooms need stand in one module each, and no name means two things."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import hatch_bpf

PACKAGE = Path(hatch_bpf.__file__).parent


@pytest.mark.parametrize(
    ("value", "home"),
    [
        ('"/sys/kernel/btf/vmlinux"', "runtime/host/__init__.py"),
        ("= 247\n", "kernels/formats/elf.py"),  # EM_BPF
    ],
)
def test_a_value_has_one_home(value: str, home: str) -> None:
    homes = [path for path in sorted(PACKAGE.rglob("*.py")) if value in path.read_text(encoding="utf-8")]
    assert homes == [PACKAGE / home]


def test_a_public_name_means_one_thing() -> None:
    """Each class and function of a module; programs start at a function main()."""
    homes = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for item in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(item, (ast.ClassDef, ast.FunctionDef)) and not item.name.startswith("_"):
                homes[item.name].append(path.relative_to(PACKAGE).as_posix())
    assert len(homes) > 500
    assert {name: where for name, where in homes.items() if len(where) > 1} == {
        "main": ["cli/main.py", "lab/guest/init.py"]
    }


@pytest.mark.parametrize("adapter", ["hatch_plugin.py", "setuptools_plugin.py"])
def test_the_build_systems_adapters_stay_thin(adapter: str) -> None:
    assert len((PACKAGE / adapter).read_text(encoding="utf-8").splitlines()) < 120


def test_few_modules_are_in_no_room() -> None:
    assert len(list(PACKAGE.glob("[!_]*.py"))) <= 12
