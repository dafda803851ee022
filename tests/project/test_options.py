"""The JSON schema of the options, against what the parser accepts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from validate_pyproject import api, errors
from validate_pyproject.plugins import PluginWrapper

from hatch_bpf.errors import ConfigError
from hatch_bpf.project.config import OPTIONS, parse_config
from hatch_bpf.project.options import schema

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GOOD = """
programs = ["src/*.bpf.c"]
commands = { "src/*.rs" = ["sh", "build.sh", "{output}"] }
archs = ["x86_64"]
btf-archive = "kernels"
kernels = ["host", "a/b/c/d", { newest = 3, of = "a/*/*/*" }, { btf = "x", release = "y" }]
cflags = ["-DX"]
vmlinux-h = "host"
link = { both = ["a.bpf.c", "b.bpf.c"] }
events = { ring = "event" }
alternatives = { group = ["first", "second"] }
optional = ["program"]
types = ["point"]
minimizer = "bpftool"
on-unportable = "warn"
libbpf = "system"
"""


def by_schema(table: dict[str, Any]) -> bool:
    """What validate-pyproject says of `[tool.hatch-bpf]`, with the schema as it finds it by entry point."""
    validator = api.Validator(plugins=[PluginWrapper("hatch-bpf", schema)])
    try:
        validator({"project": {"name": "x", "version": "1"}, "tool": {"hatch-bpf": table}})
    except errors.ValidationError:
        return False
    return True


def by_parser(table: dict[str, Any]) -> bool:
    try:
        parse_config(table, key="tool.hatch-bpf", root=Path("/"), environ={})
    except ConfigError:
        return False
    return True


def test_every_option_is_in_the_good_table() -> None:
    assert set(tomllib.loads(GOOD)) == set(OPTIONS)
    assert by_schema(tomllib.loads(GOOD))
    assert by_parser(tomllib.loads(GOOD))


@pytest.mark.parametrize(
    "wrong",
    [
        'programs = "x"',
        'archs = ["x86-64"]',
        "btf-archive = 1",
        "kernels = [3]",
        'kernels = [{ btf = "x" }]',
        'kernels = [{ newest = 0, of = "a/b/c/d" }]',
        'kernels = [{ btf = "x", release = "y", nope = "z" }]',
        "cflags = [1]",
        'cflags = [""]',
        "events = { ring = 1 }",
        'minimizer = "other"',
        'on-unportable = "maybe"',
        'libbpf = "none"',
        "kernel = []",
        'alternatives = { one = ["a"] }',
        "optional = [1]",
        "optional = [[]]",
        'link = { one = ["a.bpf.c"] }',
        'link = { "a b" = ["a.bpf.c", "b.bpf.c"] }',
        'alternatives = { "a-b" = ["a", "b"] }',
        'kernels = [""]',
        'commands = { "a.rs" = "rustc" }',
        'commands = { "a.rs" = [] }',
        'commands = { "a.rs" = ["rustc"] }',
        'vmlinux-h = { amd64 = "host" }',
        "vmlinux-h = 3",
    ],
)
def test_schema_and_parser_refuse_alike(wrong: str) -> None:
    assert not by_schema(tomllib.loads(wrong))
    assert not by_parser(tomllib.loads(wrong))


def test_validate_pyproject_finds_it() -> None:
    from importlib.metadata import entry_points

    (found,) = [e for e in entry_points(group="validate_pyproject.tool_schema") if e.name == "hatch-bpf"]
    assert found.load() is schema
