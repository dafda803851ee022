"""pyproject.toml -> its tables, for every front end.

Input: the folder of a project. Output: parsed TOML, or `ConfigError`; and what it says of hatch-bpf.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_bpf.errors import ConfigError, Fault
from hatch_bpf.support.toml import parse_toml

SETUPTOOLS_KEY = "tool.hatch-bpf"
"""Where a project that setuptools builds has the table."""
SETUPTOOLS_MINIMUM = "70.1"
"""The first setuptools that makes wheels by itself."""


def read_pyproject(root: Path) -> dict[str, Any]:
    """The tables of a project's pyproject.toml. Raises `ConfigError`."""
    path = root / "pyproject.toml"
    if not path.is_file():
        raise ConfigError([Fault(str(path), "is not there: run this in the folder of a project")])
    try:
        return parse_toml(path.read_bytes())
    except (OSError, ValueError) as error:
        rule = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise ConfigError([Fault(str(path), rule)]) from error


def value_at(tables: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    found: Any = tables
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def build_backend(pyproject: Mapping[str, Any]) -> str:
    """The package of the build backend; empty where the file names none."""
    backend = value_at(pyproject, "build-system.build-backend")
    return backend.partition(".")[0] if isinstance(backend, str) else ""


def requires_hatch_bpf(pyproject: Mapping[str, Any]) -> bool:
    """Whether the build requires hatch-bpf, however that is spelled."""
    required = value_at(pyproject, "build-system.requires")
    return isinstance(required, list) and any(_project_of(text) == "hatch-bpf" for text in required)


def _project_of(requirement: Any) -> str:
    """The name of the project that is required; empty for what is no requirement."""
    with suppress(InvalidRequirement):
        return canonicalize_name(Requirement(str(requirement)).name)
    return ""


def setuptools_table(pyproject: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a project that setuptools builds. Raises `ConfigError` where there is no such table."""
    table = value_at(pyproject, SETUPTOOLS_KEY)
    if table is None:
        rule = "is missing: the project requires hatch-bpf, whose options setuptools has there; it may be empty"
        raise ConfigError([Fault(SETUPTOOLS_KEY, rule)])
    if not isinstance(table, Mapping):
        raise ConfigError([Fault(SETUPTOOLS_KEY, "must be a table")])
    return table


def name_and_version(tables: Mapping[str, Any]) -> str:
    """`tcprtt 1.2`; only the name where the version is dynamic."""
    found = (value_at(tables, f"project.{key}") for key in ("name", "version"))
    return " ".join(text for text in found if isinstance(text, str))
