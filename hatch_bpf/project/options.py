"""The JSON schema of the options. Input: the fields of `Config`. Output: `schema()`, for validate-pyproject."""

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
