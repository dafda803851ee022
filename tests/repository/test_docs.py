"""What docs/ says: its files, options, methods and messages are those of the code."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_bpf import runtime
from hatch_bpf.cli import main
from hatch_bpf.project.config import parse_config
from tests.common.projects import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
PAGES = [*DOCS, *sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "example_project").rglob("*.md"))]
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
        if name not in ("setup.py", "tcprtt_skel.py", "src/exec_watch/__main__.py"):  # users' own
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


def test_methods_shown_exist() -> None:
    text = (REPOSITORY / "docs" / "porting.md").read_text()
    shown = set(re.findall(r"skel\.programs\.p\.(\w+)", text))
    assert {"attach_cgroup", "attach_kprobe"} <= shown <= set(dir(runtime.Program))
    for cls, method in (
        (runtime.Skeleton, "open"),
        (runtime.Skeleton, "run"),
        (runtime.Opened, "load"),
        (runtime.Loaded, "attach"),
    ):
        assert f"{method}(" in text
        assert hasattr(cls, method)


REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text()


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
    told = set(re.findall(r"`([A-Z_]{4,})`", section))
    read = set(re.findall(r"""(?:environ(?:\.get\(|\[)|_VARIABLE = )"([A-Z_]+)\"""", CODE)) - {"HOME", "PATH"}
    assert {"HATCH_BPF_CACHE", "BTFHUB_ARCHIVE", "CLANG", "NETRC", "XDG_CACHE_HOME", "NO_COLOR"} <= read
    assert read <= told
    assert all(name in CODE or name in ("COLUMNS",) for name in told)


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


def test_exit_statuses_are_told() -> None:
    assert "exit status:" in main._parser().format_help()
    assert set(re.findall(r"^\| (\d+) \|", REFERENCE, re.MULTILINE)) == {"0", "1", "2", "130", "141"}
