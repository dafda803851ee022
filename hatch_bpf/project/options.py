"""The options as a table: what `config.py` accepts, the README shows and the JSON schema says comes from here.

Input: nothing. Output: `OPTIONS`, and `schema()` for validate-pyproject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hatch_bpf.arch import ARCHES

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _TEXT}
_ARCH = {"enum": list(ARCHES)}


@dataclass(frozen=True)
class Option:
    """One key of the table."""

    name: str
    doc: str
    """What it is, in Markdown."""
    default: str
    """What stands for it when it is left out, in Markdown."""
    schema: Mapping[str, Any]
    """JSON schema of its value."""

    @property
    def choices(self) -> tuple[str, ...]:
        """The strings that it may be; the first is the default."""
        return tuple(self.schema["enum"])


def _table(properties: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}


KERNEL = {
    "oneOf": [
        _TEXT,
        _table({"btf": _TEXT, "release": _TEXT, "arch": _ARCH, "distro": _TEXT, "version": _TEXT}, ["btf", "release"]),
        _table({"newest": {"type": "integer", "minimum": 1}, "of": _TEXT}, ["newest", "of"]),
    ]
}

OPTIONS = (
    Option(
        "programs",
        "globs of program sources in the wheel's packages, relative to the project",
        "every `*.bpf.c` in them",
        _TEXTS,
    ),
    Option(
        "archs",
        "architectures to build objects for, and to take kernels of",
        "the build machine's",
        {"type": "array", "items": _ARCH},
    ),
    Option(
        "btf-archive",
        "folder or https URL of an archive in BTFHub's layout, `distro/version/arch/release.btf.tar.xz`; the variable "
        "`BTFHUB_ARCHIVE` overrides it",
        "none",
        _TEXT,
    ),
    Option(
        "kernels",
        "the kernel matrix: patterns over the archive, the newest of a pattern, single files in any form (raw BTF, "
        "vmlinux, vmlinuz, `.deb`, ...), and `host`",
        "none: only kernels that have BTF of their own",
        {"type": "array", "items": KERNEL},
    ),
    Option("cflags", "more arguments for clang, behind hatch-bpf's own", "none", _TEXTS),
    Option(
        "vmlinux-h",
        'what `#include "vmlinux.h"` gives: a BTF in any form, a kernel of the archive, `host`, or a header; or a '
        "table of one per architecture",
        "none",
        {"oneOf": [_TEXT, _table(dict.fromkeys(ARCHES, _TEXT), [])]},
    ),
    Option(
        "link",
        'program sources that are linked into one object, with one skeleton: `{ name = ["a.bpf.c", "b.bpf.c"] }`',
        "none: an object for each source",
        {"type": "object", "additionalProperties": {"type": "array", "items": _TEXT, "minItems": 2}},
    ),
    Option(
        "events",
        "the struct that a ring buffer or perf buffer carries, by the map's name; with the program source's name before"
        ' it where several have a map of that name: `{ "exec.events" = "exec_event" }`',
        "none: `bytes`",
        {"type": "object", "additionalProperties": _TEXT},
    ),
    Option(
        "alternatives",
        "programs, or ring and perf buffers, of which the first that the machine takes is used, by a name for the "
        'group: `{ on_close = ["fentry_close", "kprobe_close"] }`',
        "none: all are loaded",
        {"type": "object", "additionalProperties": {"type": "array", "items": _TEXT, "minItems": 2}},
    ),
    Option("optional", "programs that are left out where they can't be loaded", "none", _TEXTS),
    Option("types", "more structs, unions and enums for the skeletons to declare", "none", _TEXTS),
    Option(
        "minimizer",
        "`builtin`, or `bpftool` for `bpftool gen min_core_btf`",
        "`builtin`",
        {"enum": ["builtin", "bpftool"]},
    ),
    Option(
        "on-unportable",
        "what a program that will not load on a kernel of the matrix does to the build: `error`, `warn` or `ignore`",
        "`error`",
        {"enum": ["error", "warn", "ignore"]},
    ),
    Option(
        "libbpf",
        "what loads on the target host: its own libbpf (`system`), or the build machine's, bundled into the wheel "
        "(`bundle`)",
        "`system`",
        {"enum": ["system", "bundle"]},
    ),
)
NAMES = tuple(option.name for option in OPTIONS)
BY_NAME = {option.name: option for option in OPTIONS}


def schema(tool_name: str = "hatch-bpf") -> dict[str, Any]:
    """JSON schema of `[tool.hatch-bpf]`: the entry point `validate_pyproject.tool_schema`."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "urn:hatch-bpf:options",
        "title": f"[tool.{tool_name}]",
        "type": "object",
        "additionalProperties": False,
        "properties": {option.name: {"description": option.doc, **option.schema} for option in OPTIONS},
    }


def markdown_table() -> str:
    """The options as the README shows them."""
    rows = (f"| `{option.name}` | {option.doc} | {option.default} |" for option in OPTIONS)
    return "\n".join(["| option | what it is | default |", "|---|---|---|", *rows, ""])
