"""What docs/ says: its files, options, methods and messages are those of the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from hatch_bpf import runtime
from hatch_bpf.config import parse_config
from tests.projects import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
CODE = "".join(path.read_text() for path in sorted((REPOSITORY / "hatch_bpf").rglob("*.py")))


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.stem)
def test_options_shown_are_accepted(page: Path, tmp_path: Path) -> None:
    for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
        tool = tomllib.loads(text)["tool"]
        if "hatch" in tool:
            parse_config(tool["hatch"]["build"]["hooks"]["bpf"], key="k", root=tmp_path, environ={})


def test_the_messages_explained_are_the_codes() -> None:
    text = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"^\*\*`([^`]+)`", text, re.MULTILINE)
    assert len(messages) > 8
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
