"""`hatch-bpf inspect`: what an object holds, against the source that it was made of, and against bpftool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.cli.main import main
from tests.common.btf_builder import EXIT, RawBtf, btf_ext, elf_object
from tests.common.projects import PROGRAM
from tests.compiler.test_clang import compile_text
from tests.objects.test_model import SOURCE


def test_everything_is_named_with_its_source_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prog.bpf.o"
    path.write_bytes(compile_text(tmp_path, PROGRAM).data)
    assert main(["inspect", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (program,) = document["programs"]
    line = 1 + next(i for i, text in enumerate(PROGRAM.splitlines()) if "BPF_CORE_READ(" in text)
    assert program["relocations"] == [
        {"insn": 0, "kind": "byte_off", "access": "struct task_struct.pid", "source": f"src/prog.bpf.c:{line}"}
    ]
    assert program["helpers"] == ["bpf_map_update_elem", "bpf_probe_read_kernel"]
    assert (program["name"], program["section"], program["type"]) == (
        "on_switch",
        "raw_tp/sched_switch",
        "raw_tracepoint",
    )
    assert document["maps"] == [
        {"name": "events", "type": "hash", "key": "__u32", "value": "event", "max_entries": 16, "flags": 0}
    ]
    assert [(v["section"], v["name"], v["size"]) for v in document["globals"]] == [(".rodata", "wanted", 4)]


def test_text_shows_each_kind_of_thing_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "whole.bpf.o"
    path.write_bytes(compile_text(tmp_path, SOURCE).data)
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    titles = ["programs", "maps", "globals", "externs", "helpers", "CO-RE relocations"]
    assert [line for line in text.splitlines() if line in titles] == titles
    for name in ("optional", "lru_hash", "hash_of_maps", "LINUX_KERNEL_VERSION", "hidden", "struct task_struct.pid"):
        assert name in text


def test_a_relocation_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    btf = RawBtf()
    thing = btf.struct("thing", 4, ("a", btf.integer(), 0))
    ext = btf_ext(btf, {"xdp": [(0, thing, "0:7", CoreReloKind.FIELD_BYTE_OFFSET)]})
    path = tmp_path / "odd.bpf.o"
    path.write_bytes(elf_object(btf.build(), ext, {"xdp": EXIT}))
    assert main(["inspect", str(path), "--json"]) == 0
    ((relocation,),) = (program["relocations"] for program in json.loads(capsys.readouterr().out)["programs"])
    assert relocation["access"].startswith("malformed: ")
    assert "names no member of 'thing'" in relocation["access"]


def test_what_is_no_object_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "/etc/passwd"]) == 1
    assert "/etc/passwd is not a BPF object" in capsys.readouterr().err
