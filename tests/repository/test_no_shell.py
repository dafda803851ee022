"""What hatch-bpf starts, and how: no shell, no code made of data, and every program by a list of arguments."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.common.projects import REPOSITORY

SOURCES = [*sorted((REPOSITORY / "hatch_bpf").rglob("*.py")), REPOSITORY / "hatch_build.py"]

FORBIDDEN = {
    *(f"os.{name}" for name in ("system", "popen", "startfile", "fork", "forkpty")),
    *(
        f"os.{kind}{suffix}"
        for kind in ("exec", "spawn")
        for suffix in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")
    ),
    *(f"subprocess.{name}" for name in ("getoutput", "getstatusoutput")),
    *("eval", "exec", "compile", "__import__", "input", "breakpoint"),
    *(f"{module}.{name}" for module in ("pickle", "marshal", "shelve") for name in ("load", "loads", "open")),
}
"""Calls that run what a string says."""
STARTERS = {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call by the dotted name that it is written with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def faults(text: str) -> list[str]:
    found = []
    for name, call in calls(ast.parse(text)):
        if name in FORBIDDEN:
            found.append(f"line {call.lineno}: {name}")
        if any(keyword.arg == "shell" for keyword in call.keywords):
            found.append(f"line {call.lineno}: shell=")
        if name in STARTERS and not isinstance(call.args[0], (ast.List, ast.Name)):
            found.append(f"line {call.lineno}: {ast.unparse(call.args[0])} is not a list of arguments")
    return found


ALLOWED = {
    "hatch_bpf/skeleton/generate.py": ["exec", "compile"],
    "hatch_bpf/runtime/host/digest.py": ["__import__"],
    "hatch_bpf/lab/guest/init.py": ["os.fork"],
    "hatch_bpf/lab/compiled.py": ["compile"],
}
"""The build tries a skeleton out, once `declarations.py` has seen that it does nothing but declare; the runtime imports
one of Python's own modules by a name that depends on Python's version;
a guest's first process is alone there, and keeps away from what libbpf may do to a process;
modules for a guest are compiled here, and run only there."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_runs_what_a_string_says(path: Path) -> None:
    found = [fault.split(": ")[1] for fault in faults(path.read_text())]
    assert found == ALLOWED.get(str(path.relative_to(REPOSITORY)), [])


@pytest.mark.parametrize(
    "text",
    [
        "os.system('x')",
        "subprocess.run(['x'], shell=True)",
        "subprocess.run('x y')",
        "subprocess.check_output(f'{x} y')",
        "eval(x)",
        "pickle.loads(x)",
        "os.execvp(x, y)",
    ],
)
def test_what_would_be_found(text: str) -> None:
    assert len(faults(text)) == 1
