"""docs/api.md: every public name of the runtime, from its signature, its docstring and an example.

Input: the runtime's classes and functions, and the page as it is, where the examples are written by hand. Output: the
page anew, with the same examples (`python -m tests.regenerate` writes it). tests/runtime/test_api_page.py runs them.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hatch_bpf import runtime
from hatch_bpf.runtime import enums, types

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
EXAMPLE = re.compile(r"^#{3,4} (.+)$(?:(?!^#).*\n)*?^```pycon\n((?:.*\n)*?)```$", re.MULTILINE)
"""A heading, and the example below it."""
INTRODUCTION = """\
# The runtime's names

Each package has the runtime as its `_bpf.runtime`, and imports from there whatever is not in the skeleton. This page
has every public name, with an example; [the skeleton](skeleton.md) and the other pages say how they belong together.

The examples are tests: they run as they stand, with a package `demo` that brings its own libbpf. Its skeleton `Demo` is
made from [demo.bpf.c](../tests/bpf/demo.bpf.c), which counts how often one process calls `getppid()`. They assume

    import os, select, socket, time
    from demo.demo_skel import *
    from demo._bpf.runtime import *

and that `skel` is what `Demo.run()` returned, with `rodata.pid` set to the own process, and `bpf` what `Demo.open()`
returned. Programs in `SEC("?...")` have been loaded where an example uses them.

In signatures `K` is the type of a map's keys, `V` that of its values, `E` that of a buffer's events, and `M` the class
of inner maps. Whatever fails raises one of the [errors](#errors)."""
DECLARED = "What generated skeletons declare"
"""The section whose names need no example."""
SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Skeletons": (
        "",
        ("Skeleton", "Opened", "OpenedMap", "OpenedProgram", "Loaded", "Choice", "Refusal", "BtfChoice"),
    ),
    "Maps": (
        "Maps behave as Python containers of their kind. Values are copies: to change one, store it again.",
        (
            *("Maps", "Map", "MapInfo", "HashMap", "PerCpuHashMap", "LpmTrie", "ArrayMap", "PerCpuArrayMap", "Queue"),
            *("BloomFilter", "ProgramArray", "MapOfMaps", "DescriptorMap", "LocalStorage", "StructOps"),
        ),
    ),
    "Events": ("", ("EventSource", "RingBuffer", "PerfBuffer", "UserRingBuffer", "wait")),
    "Structs and other C types": (
        "The structs, unions and enums of a skeleton derive from these classes of `_bpf.runtime.types` and "
        "`_bpf.runtime.enums`.",
        ("CStruct", "CUnion", "Chars", "ArrayView", "CEnum", "CFlag"),
    ),
    "Programs and links": (
        "[Attaching programs](attaching.md) has a table of the kinds of programs.",
        ("Programs", "Program", "Link", "TestRun"),
    ),
    "Targets": (
        "Patterns have `*` and `?`, as those of `attach_kprobe_multi()` and `attach_uprobe_multi()`.",
        ("functions_of", "usdts_of", "kernel_functions", "tracepoints"),
    ),
    "Pins": (
        "What is pinned in a BPF file system stays when its process ends; "
        "[a daemon restarts without a gap](attaching.md#pins-a-daemon-that-restarts-without-a-gap) in this way.",
        ("PinnedMap", "PinnedProgram", "PinnedLink"),
    ),
    "Stacks and symbols": (
        "",
        ("StackTraces", "BuildIdStacks", "BuildIdFrame", "Symbolizer", "Frame", "FoldedStacks"),
    ),
    "Histograms": ("", ("Histogram", "Log2Histogram", "LinearHistogram", "Bucket", "text_by_key")),
    "The system": (
        "",
        (
            *("loaded_programs", "ProgramInfo", "loaded_maps", "loaded_links", "LinkInfo", "loaded_btfs", "BtfInfo"),
            *("count_runs", "has_program_type", "has_map_type", "has_helper", "has_attach_type", "has_kfunc"),
            *("xdp_query", "tc_query", "tc_hook_destroy", "trace_pipe", "TraceLine", "read_stream", "syscall_name"),
        ),
    ),
    "Errors": (
        "All are subclasses of `BpfError`, and those that have a counterpart in Python are subclasses of that, too.",
        (
            *("BpfError", "LibbpfNotFoundError", "LibbpfTooOldError", "PackageError", "ArchitectureError"),
            *("KernelNotCoveredError", "PermissionDeniedError", "OpenError", "LoadError", "VerifierError"),
            *("AttachError", "MapError", "SymbolError", "ClosedError", "InvalidValueError", "InvalidTypeError"),
            "UnknownNameError",
        ),
    ),
    "Command-line tools": ("", ("as_command", "intervals")),
    DECLARED: (
        "Generated modules say by these what is in their object. Applications do not need them.",
        ("ObjectSpec", "MapSpec", "InnerMapSpec", "ProgramSpec", "SectionSpec", "GroupSpec"),
    ),
}
"""Heading -> introduction, and the names below it."""
INTERNAL = {"types", "for_shape"}
"""Members without an underscore that only the runtime itself uses."""
OPERATIONS = {
    "__getitem__": "[key]",
    "__setitem__": "[key] = value",
    "__delitem__": "del [key]",
    "__contains__": "in",
    "__iter__": "for",
    "__aiter__": "async for",
    "__len__": "len()",
    "__enter__": "with",
    "__str__": "str()",
}
"""Methods that are not called by name -> how they are used."""


@dataclass(frozen=True)
class Attribute:
    """Something that has a value and takes no call: a field or a property."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True)
class Entry:
    """A function, a class or a method of the page."""

    name: str
    signature: str
    doc: str
    attributes: tuple[Attribute, ...] = ()
    operations: tuple[tuple[str, str], ...] = ()
    """How each is used, and its docstring."""

    @property
    def heading(self) -> str:
        return f"{'####' if '.' in self.name else '###'} {self.name}"


def page() -> str:
    """The text of docs/api.md."""
    examples = read_examples(PAGE.read_text(encoding="utf-8") if PAGE.exists() else "")
    parts = [INTRODUCTION]
    for title, (introduction, names) in SECTIONS.items():
        parts += [f"## {title}", introduction] if introduction else [f"## {title}"]
        for name in names:
            for entry in entries(name):
                parts += [entry.heading, f"`{entry.signature}`", entry.doc, _members(entry)]
                if entry.name in examples:
                    parts.append(f"```pycon\n{examples[entry.name]}```")
    return "\n\n".join(filter(None, parts)) + "\n"


def read_examples(text: str) -> dict[str, str]:
    """The examples on the page, by the names that they are for."""
    return dict(EXAMPLE.findall(text))


@cache
def entries(name: str) -> tuple[Entry, ...]:
    """A function, or a class and its methods."""
    item = public_names()[name]
    if not isinstance(item, type):
        return (Entry(name, name + _signature(item), _doc(item)),)
    attributes, operations, methods = [], [], []
    seen = set(INTERNAL)
    for cls in _classes(item):
        for member in _attributes(cls):
            if member.name not in seen and not _is_inherited(item, member.name):
                seen.add(member.name)
                attributes.append(member)
        for key, value in vars(cls).items():
            function = inspect.unwrap(getattr(value, "__func__", value))
            if key in seen or not inspect.isfunction(function):
                continue
            if key in OPERATIONS:
                operations.append((OPERATIONS[key], _doc(function)))
            elif name in SECTIONS[DECLARED][1]:
                continue
            elif not key.startswith("_") and not (_is_inherited(item, key) and not function.__doc__):
                static = "@classmethod " if isinstance(value, classmethod) else ""
                methods.append(Entry(f"{name}.{key}", f"{static}{key}{_signature(function)}", _doc(function)))
            seen.add(key)
    top = Entry(name, _class_signature(item), _doc(item), tuple(attributes), tuple(operations))
    return (top, *methods)


@cache
def public_names() -> dict[str, Any]:
    """Everything that is on the page, by name."""
    named = {name: getattr(runtime, name) for name in dir(runtime)}
    for module, names in ((types, ("CStruct", "CUnion", "Chars", "ArrayView")), (enums, ("CEnum", "CFlag"))):
        named.update((name, getattr(module, name)) for name in names)
    return named


def _public_bases(item: type) -> list[type]:
    """The bases of a class that are on the page, and theirs, nearest first."""
    public = set(filter(inspect.isclass, public_names().values()))
    return [cls for cls in item.__mro__[1:] if cls in public]


def _classes(item: type) -> list[type]:
    """The class, and those of its bases whose members no class on the page has shown already."""
    shown = {cls for base in _public_bases(item) for cls in base.__mro__}
    return [cls for cls in item.__mro__ if cls.__module__.startswith(runtime.__name__) and cls not in shown]


def _is_inherited(item: type, name: str) -> bool:
    """Whether a base that is on the page has a member of this name."""
    return any(name in vars(cls) or any(a.name == name for a in _attributes(cls)) for cls in _public_bases(item))


def _bases(item: type) -> Iterator[type]:
    """The bases of a class that are on the page or Python's own; those of the bases that are the runtime's own."""
    for base in item.__bases__:
        if base in public_names().values() or (base.__module__ == "builtins" and base is not object):
            yield base
        elif base.__module__.startswith(runtime.__name__):
            yield from _bases(base)


def _class_signature(item: type) -> str:
    """With the arguments, if applications make such objects: then `__init__` has a docstring."""
    bases = list(_bases(item))
    shown = [base.__name__ for base in bases if not any(issubclass(cls, base) for cls in bases if cls is not base)]
    init: Any = next((vars(cls)["__init__"] for cls in _classes(item) if "__init__" in vars(cls)), None)
    if init is not None and init.__doc__:
        return f"{item.__name__}{_signature(init).removesuffix(' -> None')}"
    return f"class {item.__name__}({', '.join(shown)})" if shown else f"class {item.__name__}"


_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def _signature(function: Any) -> str:
    """`(key: K, value: V) -> bool`"""
    signature = inspect.signature(function)
    shown, after_star = [], False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not after_star:
            after_star = True
            shown.append("*")
        text = _STARS.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {parameter.annotation}"
        if parameter.default is not parameter.empty:
            text += f" = {_default(parameter.default)}"
        shown.append(text)
    result = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    return f"({', '.join(shown)}){result}".replace("'", "")


def _default(value: object) -> str:
    if isinstance(value, type):
        return value.__name__
    return "..." if type(value) is object else repr(value).replace("'", '"')


def _attributes(cls: type) -> list[Attribute]:
    """Fields and properties, in the order of the source."""
    tree = _source(cls)
    if tree is None:
        return []
    found: list[Attribute] = []
    for statement, doc in _with_docs(tree.body):
        if isinstance(statement, ast.AnnAssign):
            found += _named([statement.target], ast.unparse(statement.annotation), doc)
        elif isinstance(statement, ast.Assign):
            found += _named(statement.targets, "int", doc)
        elif isinstance(statement, ast.FunctionDef):
            decorators = [ast.unparse(decorator) for decorator in statement.decorator_list]
            if decorators == ["property"] and not statement.name.startswith("_"):
                returns = ast.unparse(statement.returns) if statement.returns else ""
                found.append(Attribute(statement.name, returns, _one_line(ast.get_docstring(statement) or "")))
            if statement.name == "__init__":
                found += _set_by(statement)
    return found


def _set_by(init: ast.FunctionDef) -> Iterator[Attribute]:
    """What `__init__` stores in public attributes."""
    arguments = {a.arg: ast.unparse(a.annotation) for a in (*init.args.args, *init.args.kwonlyargs) if a.annotation}
    for statement, doc in _with_docs(init.body):
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            given = ast.unparse(statement.annotation) if isinstance(statement, ast.AnnAssign) else ""
            for target in targets:
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    yield from _named([ast.Name(target.attr)], given or arguments.get(target.attr, ""), doc)


def _named(targets: list[Any], kind: str, doc: str) -> Iterator[Attribute]:
    for target in targets:
        for name in target.elts if isinstance(target, ast.Tuple) else [target]:
            if isinstance(name, ast.Name) and not name.id.startswith("_"):
                yield Attribute(name.id, kind, doc)


def _with_docs(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """Each statement, and the text that follows it if it is a docstring of an attribute."""
    for statement, following in zip(body, [*body[1:], None], strict=True):
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        text = following.value.value if is_text else ""  # type: ignore[union-attr]
        yield statement, _one_line(text) if isinstance(text, str) else ""


@cache
def _source(cls: type) -> ast.ClassDef | None:
    if not cls.__module__.startswith(runtime.__name__):
        return None
    (statement,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(statement, ast.ClassDef)
    return statement


def _members(entry: Entry) -> str:
    plain = [f"`{used}`" for used, doc in entry.operations if not doc]
    lines = [f"- supports {', '.join(plain)}"] if plain else []
    lines += [f"- `{used}`: {_one_line(doc)}" for used, doc in entry.operations if doc]
    for item in entry.attributes:
        kind = f": {item.type}" if item.type else ""
        lines.append(f"- `{item.name}{kind}`".replace("'", "") + (f": {item.doc}" if item.doc else ""))
    return "\n".join(lines)


def _doc(item: Any) -> str:
    return inspect.cleandoc(item.__doc__ or "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
