"""Skeletons of real objects load exactly where bpftool loads the object."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from hatch_bpf.arch import build_machine
from hatch_bpf.runtime import errors
from hatch_bpf.skeleton.generate import SkeletonOptions, generate
from tests.common import needs, objects
from tests.common.skeleton_package import import_skeleton

SAMPLE = 8


def chosen() -> list[str]:
    """Some of the objects, or all of them with HATCH_BPF_FULL=1."""
    names = sorted(objects._carve())
    return names if os.environ.get("HATCH_BPF_FULL") == "1" else names[:: max(len(names) // SAMPLE, 1)]


def loads_with_bpftool(path: Path) -> bool:
    """Whether bpftool loads an object, pinning its programs in a BPF file system that goes away with the command."""
    script = 'mount -t bpf bpf "$1" && exec bpftool prog loadall "$2" "$1/programs"'
    with tempfile.TemporaryDirectory() as folder:
        command = ["unshare", "-m", "sh", "-c", script, "sh", folder, str(path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", chosen() or ["libbpf-tools"])
def test_loads_exactly_where_bpftool_does(tmp_path: Path, name: str) -> None:
    needs.root_bpf()
    needs.tool("bpftool")
    model = objects.models().get(name)
    if model is None:
        needs.missing("libbpf-tools is not installed")
        raise AssertionError
    arch = build_machine()
    assert arch is not None
    (tmp_path / "_bpf").mkdir()
    path = tmp_path / "_bpf" / f"{name}.bpf.o"
    path.write_bytes(model.elf)
    options = SkeletonOptions(
        source=f"{name}.bpf.c",
        class_name="Real",
        runtime="hatch_bpf.runtime",
        objects={arch.name: (path.name, hashlib.sha256(model.elf).hexdigest())},
    )
    module = import_skeleton("real_skel", generate({arch.name: model}, options=options), tmp_path)
    try:
        with module.Real.open() as bpf, bpf.load() as skel:
            assert len(skel.programs) == len(model.programs)
            assert len(skel.maps) == len(model.maps)
        is_loaded = True
    except (errors.LoadError, errors.PermissionDeniedError):
        is_loaded = False
    assert is_loaded == loads_with_bpftool(path)
