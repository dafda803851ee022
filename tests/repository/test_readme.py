"""What the README claims: its commands exist, its options are accepted, its pictures show what is printed today."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_bpf.cli.main import main
from hatch_bpf.project.config import parse_config
from tests.common import needs
from tests.common.projects import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

README = (REPOSITORY / "README.md").read_text()
PICTURES = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)


def code_block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(text)


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_pyproject_shown_is_accepted(tmp_path: Path) -> None:
    document = tomllib.loads(code_block("toml"))
    parsed = parse_config(document["tool"]["hatch"]["build"]["hooks"]["bpf"], key="k", root=tmp_path, environ={})
    assert len(parsed.kernels) == 4


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^    make ([a-z-]+)", README, re.MULTILINE))))
def test_the_make_targets_exist(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?:`|^    )hatch-bpf ([a-z-]+)", README, re.MULTILINE))))
def test_the_commands_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"hatch-bpf {command}" in capsys.readouterr().out


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\((docs/[a-z-]+\.md)\)", README))
    assert linked == {f"docs/{page.name}" for page in (REPOSITORY / "docs").glob("*.md")}


def test_the_pictures_are_there_and_small() -> None:
    """Paths are relative, so that they show in a clone as well as on the web."""
    assert len(PICTURES) == 3
    for name in PICTURES:
        assert 0 < (REPOSITORY / name).stat().st_size < 150_000, name


def shown_in(picture: Path) -> list[str]:
    """What a picture of a terminal shows, without its spacing."""
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", picture.read_text())
    words = (" ".join(html.unescape(text).split()) for text in texts)
    return [line for line in words if line]


@pytest.mark.thorough
def test_the_picture_of_check_is_what_it_prints(tmp_path: Path) -> None:
    needs.tool("clang")
    remake = [sys.executable, REPOSITORY / "tools" / "pictures.py", "check"]
    subprocess.run([*remake, "--out", tmp_path], check=True, capture_output=True)
    assert shown_in(REPOSITORY / "docs/pictures/check.svg") == shown_in(tmp_path / "check.svg"), "run tools/pictures.py"


def test_the_picture_of_events_is_the_examples_output() -> None:
    """tests/system/test_example.py runs it."""
    prompt, command, btf, header, *events = shown_in(REPOSITORY / "docs/pictures/events.svg")[1:]
    assert (prompt, command.split()[0]) == ("$", "tcprtt")
    assert btf.startswith("Types: the kernel's own BTF, /sys/kernel/btf/vmlinux (")
    assert header == "Src addr Port -> Dest addr Port RTT (ms)"
    assert events
    assert all(re.fullmatch(r"127\.0\.0\.1 \d+ -> 127\.0\.0\.1 \d+ \d+\.\d{3}", event) for event in events)
