"""docs/api.md: it has every public name of the runtime, and its examples do what it shows."""

from __future__ import annotations

import ast
import doctest
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hatch_bpf import runtime
from hatch_bpf.arch import build_machine
from hatch_bpf.project.alternatives import Alternatives
from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from tests.common import needs
from tests.common.namespaces import IN_OWN_NAMESPACES
from tests.common.skeleton_package import BPF, make_package
from tests.runtime import api_examples
from tools import api_page

EXAMPLES = api_page.read_examples(api_page.PAGE.read_text(encoding="utf-8"))
ENTRIES = [
    (entry, title)
    for title, (_, names) in api_page.SECTIONS.items()
    for name in names
    for entry in api_page.entries(name)
]
REFUSED: dict[str, Callable[[], None]] = {
    "Program.attach_freplace": lambda: needs.program_kind("fentry/vfs_fsync"),
    "Program.attach_kprobe": needs.kprobes,
    "Program.attach_kprobe_multi": needs.kprobes,
    "Program.attach_ksyscall": needs.kprobes,
    "Program.attach_netkit": needs.netkit,
}
"""Examples that some kernels refuse -> what finds that out."""
PROCESSES = 4
"""Processes that run the examples side by side: the kernel makes each wait long, for little work."""


def test_every_public_name_is_on_the_page_once() -> None:
    named = [name for _, names in api_page.SECTIONS.values() for name in names]
    assert sorted(named) == sorted(api_page.public_names()), "give new names a place in SECTIONS of tools/api_page.py"


@pytest.mark.parametrize(("entry", "title"), ENTRIES, ids=lambda value: getattr(value, "name", ""))
def test_it_has_a_sentence_and_an_example(entry: api_page.Entry, title: str) -> None:
    assert entry.doc, f"{entry.name} has no docstring"
    if title == api_page.DECLARED:
        return
    assert entry.name in EXAMPLES, f"write an example for {entry.name} into docs/api.md, below its text"
    shown = "".join(text for name, text in EXAMPLES.items() if name.partition(".")[0] == entry.name.partition(".")[0])
    assert not [a.name for a in entry.attributes if not re.search(rf"\b{a.name}\b", shown)], "the example lacks these"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each example did otherwise than it shows."""
    needs.root_bpf()
    needs.own_libbpf()
    needs.cgroup2()
    needs.tool("ip")
    machine = build_machine()
    assert machine is not None
    package = make_package(
        BPF / "demo.bpf.c",
        tmp_path_factory.mktemp("api"),
        events={"events": "event", "perf_events": "event", "orders": "order"},
        types=("task",),
        alternatives=Alternatives(groups={}, optional=("on_getppid2",)),
    )
    library = OWN_LIBBPF / "lib" / machine.name / "glibc" / "libbpf.so.1"
    command = [*IN_OWN_NAMESPACES, sys.executable, str(Path(api_examples.__file__)), str(library)]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package.root), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(part: dict[str, str]) -> dict[str, str]:
        text = json.dumps(part)
        done = subprocess.run(command, env=env, input=text, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return {record["name"]: record["said"] for record in map(json.loads, done.stdout.splitlines())}

    names = list(EXAMPLES)
    size = -(-len(names) // PROCESSES)
    parts = [{name: EXAMPLES[name] for name in names[at : at + size]} for at in range(0, len(names), size)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        return {name: text for result in pool.map(run, parts) for name, text in result.items()}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_example_does_what_it_shows(said: dict[str, str], name: str) -> None:
    if said[name] and name in REFUSED:
        REFUSED[name]()
    assert not said[name], said[name]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_example_that_cannot_run_here_takes_the_arguments_shown(name: str) -> None:
    method = name.partition(".")[2]
    lines = [each.source for each in doctest.DocTestParser().get_examples(EXAMPLES[name])]
    calls = [node for node in ast.walk(ast.parse("".join(lines))) if isinstance(node, ast.Call)]
    (call,) = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == method]
    arguments = {word.arg: None for word in call.keywords if word.arg}
    inspect.signature(getattr(runtime.Program, method)).bind(None, *call.args, **arguments)
