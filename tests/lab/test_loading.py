"""What a guest does with each program, done here."""

from __future__ import annotations

import ctypes
import errno
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.lab.guest import loading
from hatch_bpf.lab.guest_files import how_to_attach
from hatch_bpf.runtime.libbpf import library
from tests.common import needs
from tests.common.namespaces import own_cgroup
from tests.common.skeleton_package import BPF, model_of


def test_a_program_of_a_cgroup_is_attached_without_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels before 5.7 answer EINVAL when they are asked for a link: they do not know the command of bpf()."""
    needs.root_bpf()
    model = model_of(BPF / "old_attach.bpf.c", tmp_path)
    names = [program.name for program in model.programs]
    (section,) = (program.section for program in model.programs if program.name == "on_egress")
    libbpf = _WithoutLinks(library.load())
    with own_cgroup() as cgroup:
        libbpf.cgroup = cgroup
        monkeypatch.setattr(loading, "CGROUP", str(cgroup))
        how = how_to_attach(section)
        there: Any = libbpf
        record = loading.load_alone(there, model.elf, "old_attach", "on_egress", names, btf=None, attach=how)
        assert record == {"happened": "attaches", "errno": "", "log": ""}
        assert libbpf.seen == ["on_egress"]
        assert attached(cgroup) == []


class _WithoutLinks:
    """libbpf where the kernel has no links for cgroups; it notes what is attached just before it is detached."""

    def __init__(self, libbpf: Any) -> None:
        self._real = libbpf
        self.cgroup = Path()
        self.seen: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def bpf_program__attach_cgroup(self, _program: int, _cgroup: int) -> None:
        ctypes.set_errno(errno.EINVAL)

    def bpf_prog_detach2(self, *arguments: int) -> int:
        self.seen = attached(self.cgroup)
        return int(self._real.bpf_prog_detach2(*arguments))


def attached(cgroup: Path) -> list[str]:
    said = subprocess.run(
        [needs.tool("bpftool"), "-j", "cgroup", "show", cgroup], capture_output=True, text=True, check=True
    ).stdout
    return [item["name"] for item in json.loads(said.strip() or "[]")]
