"""What a skeleton may contain: declarations; whatever would run as more than that is refused before it does."""

from __future__ import annotations

import pytest

from hatch_bpf.errors import SkeletonError
from hatch_bpf.skeleton.declares_only import parse
from tests.common.projects import REPOSITORY

HEAD = "from __future__ import annotations\nfrom ._bpf import runtime as _bpf\nfrom ._bpf.runtime import types as _t\n"


def test_a_real_skeleton_is_taken() -> None:
    path = REPOSITORY / "tests" / "golden" / "ctypes_skel.py"
    assert parse(path.read_text(), source="x")


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "from os import system as _t",
        "from hatch_bpf.runtime import ctypes",
        "print(1)",
        "x = print(1)",
        "x = __import__('os')",
        "x = open('/etc/passwd')",
        "x = _t.c_uint8.__class__",
        "x = _t.__loader__",
        "x = _t.Text(1).decode()",
        "x = (lambda: 1)()",
        "x = [y for y in (1,)]",
        "x = f'{x}'",
        "x = (y := 1)",
        "x: int = 1",
        "_t.Text = 1",
        "x[0] = 1",
        "x, y = 1, 2",
        "del x",
        "if x: pass",
        "for x in (): pass",
        "def f(): pass",
        "class A(metaclass=_t.M): pass",
        "@_t.d\nclass A: x: int",
        "class A:\n    def f(self): pass",
        "class A:\n    print(1)",
        "class A(print(1)): x: int",
        "class A:\n    x: print(1)",
        "x = _t.Text(unknown)",
        "while x: pass",
        "assert x",
        "raise x",
        "try:\n    x = 1\nexcept: pass",
        "x = await y",
        "global x",
    ],
)
def test_more_than_declarations_is_refused(text: str) -> None:
    with pytest.raises(SkeletonError, match=r"demo.bpf.c: line \d+ of its skeleton would do more than declare"):
        parse(HEAD + text + "\n", source="demo.bpf.c")


@pytest.mark.parametrize("text", ["x = ", "\0", "x = " + "(" * 1000 + ")" * 1000, "class é(: pass"])
def test_what_is_not_python_is_refused(text: str) -> None:
    with pytest.raises(SkeletonError, match=r"demo.bpf.c: its skeleton is not Python"):
        parse(HEAD + text + "\n", source="demo.bpf.c")
