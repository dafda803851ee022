"""The markers of a test, worked out from what it calls, so that nobody has to remember them.

- `kernel`: it loads BPF programs into the running kernel, so it asks tests/common/needs.py for one that takes them.
- `packaging`: it writes a small project and builds it, by pip, a build back end, the command or the pipeline.
- `unit`: neither. Such a test may still run clang, bpftool or libbpf to compare with.

A test may be both `kernel` and `packaging`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from tests.common import needs, projects

KINDS: dict[str, frozenset[Callable[..., Any]]] = {
    "kernel": frozenset({needs.root_bpf, needs.private_mounts}),
    "packaging": frozenset({projects.make_project, projects.make_small, projects.pip_wheel, projects.build_scaffold}),
}
"""Marker -> the functions that a test with it calls, perhaps through others."""
REST = "unit"


def markers(item: pytest.Function) -> list[str]:
    """The markers of a test: of `KINDS`, or `REST`."""
    called = calls(item.function).union(*map(calls, fixtures(item)))
    return [name for name, functions in KINDS.items() if called & functions] or [REST]


def fixtures(item: pytest.Function) -> list[Callable[..., Any]]:
    """The fixtures that a test asks for, directly or through others."""
    definitions = item._fixtureinfo.name2fixturedefs
    return [found[-1].func for name, found in definitions.items() if not name.startswith("_")]


@cache
def calls(function: Callable[..., Any]) -> frozenset[Callable[..., Any]]:
    """The functions that a function of tests/ names, directly or through others, and itself."""
    pending, seen = [function], set[Callable[..., Any]]()
    while pending:
        one = inspect.unwrap(pending.pop())
        if isinstance(one, FunctionType) and one not in seen:
            seen.add(one)
            if one.__module__.startswith("tests."):
                pending += named(one)
    return frozenset(seen)


def named(function: FunctionType) -> Iterator[Any]:
    """What a function's code names: globals, and members of the modules of tests/ that are among them."""
    names = set(names_in(function.__code__))
    for name in names & set(function.__globals__):
        value = function.__globals__[name]
        if isinstance(value, ModuleType):
            yield from (
                vars(value)[member] for member in names & set(vars(value)) if value.__name__.startswith("tests.")
            )
        elif callable(value):
            yield value


def names_in(code: CodeType) -> Iterator[str]:
    """The globals and attributes that some code names, the functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)
