"""Every test has the markers of what it does, and what uses the kernel stays on one worker of pytest-xdist."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.common import needs
from tests.common.marks import markers
from tests.common.projects import REPOSITORY


def helper() -> None:
    needs.root_bpf()


@pytest.fixture
def root() -> None:
    """One of this module's fixtures, which asks for the kernel through a function."""
    helper()


def test_a_test_without_either_is_a_unit_test(request: pytest.FixtureRequest) -> None:
    assert markers(request.node) == ["unit"]
    assert request.node.get_closest_marker("unit")


@pytest.mark.usefixtures("root")
def test_one_that_asks_for_the_kernel_through_a_fixture(request: pytest.FixtureRequest) -> None:
    assert markers(request.node) == ["kernel"]
    assert request.node.get_closest_marker("xdist_group").args == ("kernel",)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        ("runtime/test_attach.py::test_test_run", "kernel"),
        ("cli/test_scaffold.py::test_the_package_works[hatchling]", "kernel and packaging"),
        ("wheel/test_contents.py::test_each_program_takes_its_own", "packaging and not kernel"),
        ("btf/test_reader.py::test_find_by_name_and_kind", "unit"),
    ],
)
def test_tests_of_each_kind_are_chosen(test: str, wanted: str) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", wanted, f"tests/{test}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert f"tests/{test}" in done.stdout.splitlines()
