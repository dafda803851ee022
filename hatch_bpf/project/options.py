"""Derived from the options: their JSON schema, and their table in the docs.

Input: the fields of `Config`. Output: `schema()` for validate-pyproject, and `markdown_table()`.
"""

from __future__ import annotations

from typing import Any

from hatch_bpf.project.config import OPTIONS, TABLE


def schema(tool_name: str = "hatch-bpf") -> dict[str, Any]:
    """JSON schema of `[tool.hatch-bpf]`: the entry point `validate_pyproject.tool_schema`."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "urn:hatch-bpf:options",
        "title": f"[tool.{tool_name}]",
        **TABLE.schema,
        "properties": {name: {"description": option.doc, **option.form.schema} for name, option in OPTIONS.items()},
    }


def markdown_table() -> str:
    """The options as the docs show them."""
    rows = (f"| `{name}` | {option.doc} | {option.default} |" for name, option in OPTIONS.items())
    return "\n".join(["| option | what it is | default |", "|---|---|---|", *rows, ""])
