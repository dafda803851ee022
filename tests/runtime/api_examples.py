"""Run the examples of docs/api.md.

Input: the examples by name, as JSON, the path of a libbpf, and the package `demo` with tests/bpf/demo.bpf.c, to be
imported. Output: a line of JSON for each example: its name, and what it did otherwise than it shows. It wants a BPF
file system of its own. Standard library only, besides what the package brings.
"""

from __future__ import annotations

import doctest
import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

OPTIONS = doctest.ELLIPSIS
STRUCT_OPS = ("congestion", "ssthresh", "cong_avoid", "undo_cwnd")
"""A struct_ops map and its programs, which are left out where an example does not name the map."""
PINS = Path("/sys/fs/bpf/demo")
"""For the examples' pins."""
CGROUP = "/sys/fs/cgroup/demo"
"""The examples' cgroup. All processes see the same cgroups, so each uses one of its own instead."""


def names(*modules: str) -> dict[str, Any]:
    """What `from module import *` gives."""
    found: dict[str, Any] = {"os": os}
    for name in modules:
        module = importlib.import_module(name)
        public = getattr(module, "__all__", None) or [key for key in vars(module) if not key.startswith("_")]
        found.update((key, getattr(module, key)) for key in public)
    return found


def run(name: str, example: str) -> str:
    """What an example does otherwise than it is shown; empty if nothing."""
    given = names("os", "select", "socket", "time", "demo.demo_skel", "demo._bpf.runtime")
    given |= {module: importlib.import_module(module) for module in ("select", "socket", "time")}
    with ExitStack() as stack:
        if re.search(r"\bbpf\.", example) and not re.search(r"as bpf:", example):
            given["bpf"] = opened(given["Demo"], example, stack)
        if re.search(r"\bskel\b|getppid\(\)", example) and not re.search(r"as skel:|skel = ", example):
            given["skel"] = stack.enter_context(opened(given["Demo"], example, stack).load())
            given["skel"].attach()
        PINS.mkdir()
        stack.callback(shutil.rmtree, PINS)
        test = doctest.DocTestParser().get_doctest(example, given, name, None, 0)
        lines: list[str] = []
        doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(test, out=lines.append, clear_globs=False)
        if not test.examples:
            lines.append("there is nothing to run")
        return "".join(lines)


def opened(demo: Any, example: str, stack: ExitStack) -> Any:
    """The skeleton, with the programs that an example names, counting what this process does."""
    bpf = stack.enter_context(demo.open())
    bpf.rodata.pid = os.getpid()
    for name in set(re.findall(r"skel\.programs\.(\w+)", example)):
        bpf.programs[name].autoload = True
    if "congestion" not in example:
        bpf.maps.congestion.autocreate = False
    for name in STRUCT_OPS[1:]:
        bpf.programs[name].autoload = "congestion" in example
    return bpf


@contextmanager
def own_cgroup() -> Iterator[Path]:
    """A cgroup."""
    folder = Path(CGROUP).with_name(f"hatch-bpf-test-{os.getpid()}")
    folder.mkdir()
    try:
        yield folder
    finally:
        folder.rmdir()


def main(libbpf: str) -> None:
    """Run every example."""
    library: Any = importlib.import_module("demo._bpf.runtime.libbpf.library")
    library.find = lambda: libbpf
    with own_cgroup() as cgroup:
        for name, example in json.load(sys.stdin).items():
            try:
                said = run(name, example.replace(CGROUP, str(cgroup)))
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
            print(json.dumps({"name": name, "said": said}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
