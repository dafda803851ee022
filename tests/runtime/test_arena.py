"""Global variables in an arena: set before the load, read and set while programs run, with old and new libbpfs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.uapi import MapType
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.project.alternatives import Alternatives
from hatch_bpf.runtime import errors
from hatch_bpf.runtime.host.arch import running_name
from hatch_bpf.runtime.libbpf import library as libbpf
from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from tests.common import needs
from tests.common.skeleton_package import load_skeleton

LIBRARY = str(OWN_LIBBPF / "lib" / running_name() / "glibc" / "libbpf.so.1")


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    needs.root_bpf()
    needs.own_libbpf()
    if not KernelFeatures(Btf(needs.host_btf().read_bytes(), source="host")).has_map_type(MapType.ARENA):
        pytest.skip("this kernel has no arenas, which came with Linux 6.9")
    return load_skeleton("arena", tmp_path_factory.mktemp("arena")).Arena


def test_initial_values_are_the_objects_or_the_applications(skeleton: Any) -> None:
    with skeleton.open(libbpf=LIBRARY) as opened:
        assert (list(opened.arena.steps), opened.arena.place.x, opened.arena.name) == ([1, 2, 3, 4], -1, "arena")
        opened.arena.counter = 1 << 40
        opened.arena.steps[1] = 5
        with opened.load() as bpf:
            assert bpf.arena.counter == 1 << 40
            bpf.programs.run.test_run()
            assert bpf.arena.counter == (1 << 40) + 5


def test_programs_and_the_application_see_each_other(skeleton: Any) -> None:
    with skeleton.open(libbpf=LIBRARY) as opened, opened.load() as bpf:
        for _ in range(3):
            bpf.programs.run.test_run()
        assert (bpf.arena.counter, list(bpf.arena.steps), bpf.arena.steps[1:3]) == (6, [1, 2, 3, 32], [2, 3])
        assert bpf.arena.place.to_dict() == {"x": 20, "y": 7}
        bpf.arena.counter, bpf.arena.steps[1], bpf.arena.place.y = 100, -1, 0
        bpf.arena.name = "other"
        bpf.programs.run.test_run()
        assert (bpf.arena.counter, bpf.arena.steps[3], bpf.arena.place.x, bpf.arena.name) == (99, 64, 20, "other")


def test_a_value_that_does_not_fit_changes_nothing(skeleton: Any) -> None:
    with skeleton.open(libbpf=LIBRARY) as opened, opened.load() as bpf:
        with pytest.raises(errors.InvalidValueError, match="counter"):
            bpf.arena.counter = -1
        with pytest.raises(errors.UnknownNameError, match="countr"):
            bpf.arena.countr = 1
        assert bpf.arena.counter == 0


def test_what_is_kept_outlives_the_arena(skeleton: Any) -> None:
    with skeleton.open(libbpf=LIBRARY) as opened, opened.load() as bpf:
        arena, place, name, steps = bpf.arena, bpf.arena.place, bpf.arena.name, list(bpf.arena.steps)
        copied = copy.copy(place)
    assert (name, steps, copied.x) == ("arena", [1, 2, 3, 4], -1)
    for use in (lambda: arena.counter, lambda: place.x, lambda: setattr(place, "x", 1), lambda: arena.steps[0]):
        with pytest.raises(errors.ClosedError, match=r"\.addr_space\.1: the skeleton is closed"):
            use()


@pytest.mark.usefixtures("skeleton")
def test_an_optional_program_with_variables_in_an_arena(tmp_path: Path) -> None:
    """Its trial has the values that the application has set."""
    optional = load_skeleton("arena", tmp_path, alternatives=Alternatives(groups={}, optional=("run",))).Arena
    with optional.open(libbpf=LIBRARY) as opened:
        opened.arena.counter = 7
        with opened.load() as bpf:
            assert [(choice.chosen, choice.refused) for choice in bpf.choices] == [("run", ())]
            bpf.programs.run.test_run()
            assert bpf.arena.counter == 9


def test_a_libbpf_that_is_too_old(skeleton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = libbpf.load(LIBRARY)
    monkeypatch.setattr(found, "version", (1, 3))
    with pytest.raises(errors.LibbpfTooOldError, match=r"an arena with global variables needs libbpf 1\.4 or later"):
        skeleton.open(libbpf=LIBRARY)
