"""What the README claims: its commands exist, its options are the options, its code runs."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hatch_bpf.cli.main import main
from hatch_bpf.project import config, options
from hatch_bpf.project.config import parse_config
from hatch_bpf.runtime.alternatives import Choice, Refusal, explain
from hatch_bpf.runtime.kernel import BtfChoice
from tests.common.projects import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

README = (REPOSITORY / "README.md").read_text()


def code_block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(text)


def test_the_option_table_is_the_options() -> None:
    assert options.markdown_table() in README, "paste what hatch_bpf.project.options.markdown_table() returns"
    declared = [field.name.replace("_", "-") for field in fields(config.Config) if field.name != "digest"]
    assert list(options.NAMES) == declared


def test_the_pyproject_shown_is_accepted(tmp_path: Path) -> None:
    document = tomllib.loads(code_block("toml"))
    parsed = parse_config(document["tool"]["hatch"]["build"]["hooks"]["bpf"], key="k", root=tmp_path, environ={})
    assert len(parsed.kernels) == 4


def test_the_alternatives_shown_are_accepted(tmp_path: Path) -> None:
    shown = re.findall(r"^    ((?:alternatives|optional) = .*)$", README, re.MULTILINE)
    parsed = parse_config(tomllib.loads("\n".join(shown)), key="k", root=tmp_path, environ={})
    assert parsed.alternatives["events"] == ("ring", "perf")
    assert parsed.optional


def test_what_explain_is_shown_to_tell_is_what_it_tells() -> None:
    library = SimpleNamespace(version=(1, 1), path="/usr/lib/x86_64-linux-gnu/libbpf.so.1")
    eperm = "EPERM: Operation not permitted: prog 'fentry_close': BPF program load failed: Operation not permitted"
    choices = (
        Choice("programs", "on_close", "kprobe_close", (Refusal("fentry_close", eperm),)),
        Choice("maps", "events", "ring"),
        Choice("optional", "count_retransmits", "count_retransmits"),
    )
    btf = BtfChoice(source="kernel", path="/sys/kernel/btf/vmlinux", kernel="", size=6117374)
    told = explain("src/demo/demo.bpf.c", choices, btf=str(btf), libbpf=cast(Any, library))
    assert textwrap.indent(told, "    ") in README


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
