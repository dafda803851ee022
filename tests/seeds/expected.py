"""What `bpftool btf dump` says of a kernel's types -> what tests/bpf/seeds/types.bpf.c must find there."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.common import needs

MEMBER = re.compile(r"^\t'([^']*)' type_id=(\d+) bits_offset=(\d+)(?: bitfield_size=(\d+))?$", re.MULTILINE)
ENUMERATOR = re.compile(r"^\t'([^']*)' val=(-?\d+)$", re.MULTILINE)
ARRAY = re.compile(r" type_id=(\d+) index_type_id=\d+ nr_elems=(\d+)")
CLANG_CAN_MATCH = 15
"""The first clang that bpf_core_type_matches() does not break."""


@dataclass(frozen=True)
class Dumped:
    """One type of a dump."""

    id: int
    text: str
    """Its first line without the number, and its members' lines."""

    @property
    def kind(self) -> str:
        return self.text.split(" ", 1)[0]

    def number(self, name: str) -> int:
        """`size=16`, `type_id=7`"""
        found = re.search(rf" {name}=(\d+)", self.text)
        assert found, f"no {name} in {self.text}"
        return int(found[1])

    def members(self) -> dict[str, tuple[int, int, int]]:
        """Type, offset in bits, and size as a bitfield, by name."""
        return {m[0]: (int(m[1]), int(m[2]), int(m[3] or 0)) for m in MEMBER.findall(self.text)}

    def values(self) -> dict[str, int]:
        """The enumerators of an enum, by name."""
        return {name: int(value) for name, value in ENUMERATOR.findall(self.text)}


class Dump:
    """The types of a BTF file, as bpftool prints them."""

    def __init__(self, path: Path) -> None:
        command = [needs.tool("bpftool"), "btf", "dump", "file", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        # each type starts a line with its number in brackets
        self.types = [Dumped(int(number), rest) for number, rest in (b.split("] ", 1) for b in text[1:].split("\n["))]

    def find(self, kind: str, name: str) -> Dumped | None:
        """The first type of a name."""
        start = f"{kind} '{name}'"
        return next((found for found in self.types if found.text.startswith(start)), None)

    def get(self, kind: str, name: str) -> Dumped:
        found = self.find(kind, name)
        assert found, f"no {kind} {name}"
        return found

    def resolved(self, type_id: int) -> Dumped:
        """A type without qualifiers and typedefs."""
        found = self.types[type_id - 1]
        while found.kind in ("TYPEDEF", "CONST", "VOLATILE"):
            found = self.types[found.number("type_id") - 1]
        return found

    def size(self, type_id: int) -> int:
        found = self.resolved(type_id)
        if array := ARRAY.search(found.text):
            return int(array[2]) * self.size(int(array[1]))
        return found.number("size")

    def is_signed(self, type_id: int) -> bool:
        return "encoding=SIGNED" in self.resolved(type_id).text


@cache
def kernel_types(btf: Path) -> dict[str, int]:
    """What a program must find on the kernel with this BTF."""
    dump = Dump(btf)
    task = dump.get("STRUCT", "task_struct")
    members = task.members()
    subsystems = dump.get("ENUM", "cgroup_subsys_id").values()
    helpers = dump.get("ENUM", "bpf_func_id").values()
    pid, flags, comm = (members[name] for name in ("pid", "flags", "comm"))
    state = members.get("__state") or members["state"]
    return {
        "task_exists": 1,
        "never_exists": 0,
        "union_exists": int(dump.find("UNION", "bpf_attr") is not None),
        "enum_exists": 1,
        "typedef_exists": int(dump.find("TYPEDEF", "pid_t") is not None),
        "task_size": task.number("size"),
        "never_size": 0,
        "memory_exists": int("memory_cgrp_id" in subsystems),
        "memory_value": subsystems.get("memory_cgrp_id", 0),
        "never_value_exists": 0,
        "tai_exists": int("BPF_FUNC_ktime_get_tai_ns" in helpers),
        "tai_value": helpers.get("BPF_FUNC_ktime_get_tai_ns", 0),
        "pid_exists": 1,
        "never_field_exists": 0,
        "state_exists": int("__state" in members),
        "old_state_exists": int("state" in members),
        "state_size": dump.size(state[0]),
        "comm_size": dump.size(comm[0]),
        "pid_offset": pid[1] // 8,
        "comm_offset": comm[1] // 8,
        "pid_signed": int(dump.is_signed(pid[0])),
        "flags_signed": int(dump.is_signed(flags[0])),
        **_nonagle(dump),
    }


def _nonagle(dump: Dump) -> dict[str, int]:
    """How a program gets at a bitfield: the bytes to load, and the shifts that leave nothing else of them."""
    type_id, bits, width = dump.get("STRUCT", "tcp_sock").members()["nonagle"]
    size = dump.size(type_id)
    start = bits // (size * 8) * size
    end = bits + width - start * 8
    shifts = {"nonagle_lshift": 64 - end, "nonagle_rshift": 64 - width}
    return {"nonagle_offset": start, "nonagle_size": size, **shifts}


def facts(btf: Path, bpf_object: Path, *, clang: int) -> dict[str, int]:
    """All that the program `learn` must find, given its own object and the major version of the clang that made it."""
    matches = {"can_match": 0, "task_matches": 0, "other_matches": 0}
    if clang >= CLANG_CAN_MATCH:
        matches = {"can_match": 1, "task_matches": 1, "other_matches": 0}
    local = Dump(bpf_object).get("STRUCT", "task_struct").id
    return {**kernel_types(btf), "task_local_id": local, **matches}


def task_id(btf: Path) -> int:
    """The number of struct task_struct among a kernel's types."""
    return Dump(btf).get("STRUCT", "task_struct").id
