"""What the README claims: its commands exist, its options are the options, its code runs."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from hatch_bpf import config, options
from hatch_bpf.cli import main
from hatch_bpf.config import parse_config
from tests.projects import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

README = (REPOSITORY / "README.md").read_text()


def code_block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(text)


def test_the_option_table_is_the_options() -> None:
    assert options.markdown_table() in README, "paste what hatch_bpf.options.markdown_table() returns"
    declared = [field.name.replace("_", "-") for field in fields(config.Config) if field.name != "digest"]
    assert list(options.NAMES) == declared


def test_the_pyproject_shown_is_accepted(tmp_path: Path) -> None:
    document = tomllib.loads(code_block("toml"))
    parsed = parse_config(document["tool"]["hatch"]["build"]["hooks"]["bpf"], key="k", root=tmp_path, environ={})
    assert len(parsed.kernels) == 4


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^    make ([a-z-]+)", README, re.MULTILINE))))
def test_the_make_targets_exist(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^    hatch-bpf ([a-z-]+)", README, re.MULTILINE))))
def test_the_commands_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"hatch-bpf {command}" in capsys.readouterr().out


def test_the_files_named_are_there() -> None:
    for name in re.findall(r"`((?:hatch_bpf|example_project|tests|docs)/[\w./-]+)`", README):
        assert (REPOSITORY / name).exists(), name
