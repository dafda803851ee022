"""What docs/ says: its files, options, methods and messages are those of the code."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hatch_bpf import runtime
from hatch_bpf.cli import main
from hatch_bpf.compiler.clang import DEFAULT_FLAGS
from hatch_bpf.project.config import OPTIONS, parse_config
from hatch_bpf.runtime.alternatives import Choice, Refusal, explain
from hatch_bpf.runtime.host.kernel import BtfChoice
from tests.common.projects import REPOSITORY
from tools import api_page

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
PAGES = [*DOCS, *sorted(REPOSITORY.glob("*.md"))]
PAGES += [page for folder in ("example_project", "examples") for page in sorted((REPOSITORY / folder).rglob("*.md"))]
CODE = "".join(path.read_text() for path in sorted((REPOSITORY / "hatch_bpf").rglob("*.py")))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_modules_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:\w+/)*\w+\.py)`", page.read_text()):
        if name.endswith("_skel.py") or name in ("setup.py", "src/exec_watch/__main__.py"):  # users' own
            continue
        assert any((folder / name).exists() for folder in (REPOSITORY, REPOSITORY / "hatch_bpf", page.parent)), name


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.stem)
def test_options_shown_are_accepted(page: Path, tmp_path: Path) -> None:
    for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
        tool = tomllib.loads(text)["tool"]
        if "hatch" in tool:
            parse_config(tool["hatch"]["build"]["hooks"]["bpf"], key="k", root=tmp_path, environ={})


def test_the_messages_explained_are_the_codes() -> None:
    text = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"\*\*`([^`]+)`\*\*", text)
    assert len(messages) > 30
    joined = re.sub(r'"\s*\n\s*f?"', "", CODE)  # literals that go on in the next line
    for message in messages:
        assert message in joined, message


METHODS = [
    call
    for page in DOCS
    if page != api_page.PAGE  # which has signatures, and examples that run
    for call in re.findall(r"(?<!b\.)(?<!BPF\.)\b((?:attach|read_iter|test_run)\w*\([^)`]*\))", page.read_text())
]


@pytest.mark.parametrize("call", sorted(set(METHODS)))
def test_methods_shown_take_the_arguments_shown(call: str) -> None:
    parsed = ast.parse(call, mode="eval").body
    assert isinstance(parsed, ast.Call)
    assert isinstance(parsed.func, ast.Name)
    method = getattr(runtime.Program, parsed.func.id)
    arguments = {word.arg: None for word in parsed.keywords if word.arg}
    inspect.signature(method).bind_partial(None, *parsed.args, **arguments)


def test_phases_shown_exist() -> None:
    text = (REPOSITORY / "docs" / "porting.md").read_text()
    assert len(METHODS) > 30
    for cls, method in (
        (runtime.Skeleton, "open"),
        (runtime.Skeleton, "run"),
        (runtime.Opened, "load"),
        (runtime.Loaded, "attach"),
    ):
        assert f"{method}(" in text
        assert hasattr(cls, method)


REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text()
SKELETON = (REPOSITORY / "docs" / "skeleton.md").read_text()


def test_the_option_table_is_the_options() -> None:
    rows = (f"| `{name}` | {option.doc} | {option.default} |" for name, option in OPTIONS.items())
    table = "\n".join(["| option | what it is | default |", "|---|---|---|", *rows, ""])
    assert table in REFERENCE, f"docs/reference.md lacks this table:\n{table}"


def test_the_default_flags_of_clang_are_told() -> None:
    assert f"with the flags `{' '.join(DEFAULT_FLAGS)}`, which `cflags` may override" in REFERENCE


def test_the_alternatives_shown_are_accepted(tmp_path: Path) -> None:
    shown = re.findall(r"^    ((?:alternatives|optional) = .*)$", SKELETON, re.MULTILINE)
    parsed = parse_config(tomllib.loads("\n".join(shown)), key="k", root=tmp_path, environ={})
    assert parsed.alternatives.groups["events"] == ("ring", "perf")
    assert parsed.alternatives.optional


def test_what_explain_is_shown_to_print_is_what_it_prints() -> None:
    library = SimpleNamespace(version=(1, 1), path="/usr/lib/x86_64-linux-gnu/libbpf.so.1")
    eperm = "EPERM: Operation not permitted: prog 'fentry_close': BPF program load failed: Operation not permitted"
    choices = (
        Choice("programs", "on_close", "kprobe_close", (Refusal("fentry_close", eperm),)),
        Choice("maps", "events", "ring"),
        Choice("optional", "count_retransmits", "count_retransmits"),
    )
    btf = BtfChoice(source="kernel", path="/sys/kernel/btf/vmlinux", kernel="", size=6117374)
    printed = explain("src/demo/demo.bpf.c", choices, btf=str(btf), libbpf=cast(Any, library))
    assert textwrap.indent(printed, "    ") in SKELETON


COMMAND_LINES = [
    (page, line)
    for page in PAGES
    for line in re.findall(r"^ +(hatch-bpf .+)$", page.read_text(), re.MULTILINE)
    + re.findall(r"`(hatch-bpf [a-z][^`]*)`", page.read_text())
]


@pytest.mark.parametrize(("page", "line"), COMMAND_LINES, ids=lambda value: getattr(value, "stem", value))
def test_command_lines_shown_are_accepted(page: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the parser; a command may also be named alone, without the arguments it needs."""
    words = shlex.split(line, comments=True)[1:]
    if "|" in words or "[" in line:
        pytest.fail(f"{page.name}: {line}: show a command that can be typed")
    try:
        main._parser().parse_args(words)
    except SystemExit:
        assert "the following arguments are required" in capsys.readouterr().err, line


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser of every command that is run, rather than one that only has others below it."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield parser
    for action in inner:
        for child in action.choices.values():
            yield from parsers(child)


def test_the_commands_in_the_reference_are_the_commands() -> None:
    rows = re.findall(r"^\| `(hatch-bpf [a-z -]+)` \| .* \| (yes|) ?\|$", REFERENCE, re.MULTILINE)
    there = {parser.prog: "yes" if "--json" in parser.format_help() else "" for parser in parsers(main._parser())}
    assert dict(rows) == there


def test_the_variables_in_the_reference_are_those_that_are_read() -> None:
    section = REFERENCE.split("## Environment")[1].split("## ")[0]
    documented = set(re.findall(r"`([A-Z_]{4,})`", section))
    read = set(re.findall(r"""(?:environ(?:\.get\(|\[)|_VARIABLE = )"([A-Z_]+)\"""", CODE)) - {"HOME", "PATH"}
    assert {"HATCH_BPF_CACHE", "BTFHUB_ARCHIVE", "CLANG", "NETRC", "NO_COLOR"} <= read
    assert read <= documented
    assert all(name in CODE or name in ("COLUMNS", "XDG_CACHE_HOME") for name in documented)


@pytest.mark.parametrize("parser", list(parsers(main._parser())), ids=lambda parser: parser.prog)
def test_examples_in_the_help_can_be_run(parser: argparse.ArgumentParser) -> None:
    """Each command's help, or that of the command above it, has examples of it, and they are command lines."""
    above = main._parser()
    for word in parser.prog.split()[1:-1]:
        (inner,) = [action for action in above._actions if isinstance(action, argparse._SubParsersAction)]
        above = inner.choices[word]
    shown = parser.format_help() + (above.format_help() if parser.prog.count(" ") > 1 else "")
    lines = re.findall(rf"^  (?:[A-Z_]+=\S+ )?({parser.prog}(?: .*)?)$", shown, re.MULTILINE)
    assert lines
    for line in lines:
        command = re.split(r"  +| > | >> ", line)[0]
        options = main._parser().parse_args(shlex.split(command)[1:])
        # what the command itself refuses
        assert not (parser.prog == "hatch-bpf kernels add" and options.release and len(options.files) > 1)


@pytest.mark.parametrize("page", [*DOCS, REPOSITORY / "README.md", REPOSITORY / "templates/init/README.md.j2"], ids=str)
def test_sudo_is_given_the_path_of_what_is_in_a_virtual_environment(page: Path) -> None:
    for command in re.findall(r"^ *sudo (.+)$", page.read_text(), re.MULTILINE):
        assert command.startswith('"$(command -v '), command


@pytest.mark.parametrize("parser", list(parsers(main._parser())), ids=lambda parser: parser.prog)
def test_the_help_fits_a_terminal(parser: argparse.ArgumentParser, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the examples, which are to be copied."""
    monkeypatch.setenv("COLUMNS", "80")
    above = parser.format_help().split("examples:")[0]
    assert max(map(len, above.splitlines())) <= 80


def test_exit_statuses_are_documented() -> None:
    assert "exit status:" in main._parser().format_help()
    assert set(re.findall(r"^\| (\d+) \|", REFERENCE, re.MULTILINE)) == {"0", "1", "2", "130", "141"}


ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text()
ROOMS = re.findall(r"^\| (?:`([a-z_/]+)/`|the [a-z ]+) \| [^|]+ \| (.*) \|$", ARCHITECTURE, re.MULTILINE)


def test_every_module_has_its_place_in_the_rooms() -> None:
    """And every name there is a module's. Two rows name modules that lie directly in `hatch_bpf`."""
    package = REPOSITORY / "hatch_bpf"
    named = sorted(f"{room}/{name}".lstrip("/") for room, names in ROOMS for name in re.findall(r"`(\w+)`", names))
    modules = (path.relative_to(package).with_suffix("") for path in package.rglob("*.py"))
    assert named == sorted(str(path) for path in modules if not path.name.startswith("__"))


def test_the_rooms_are_in_the_order_of_imports() -> None:
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    layers = " | ".join(document["tool"]["importlinter"]["contracts"][0]["layers"])
    rooms = [room for room, _ in ROOMS if room and "/" not in room]
    assert rooms == [
        name for name in re.findall(r"hatch_bpf\.(\w+)", layers) if (REPOSITORY / "hatch_bpf" / name).is_dir()
    ]
