"""Completion scripts, by the shells that read them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from hatch_bpf.cli.main import main
from tests.common import needs
from tests.common.projects import make_project


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def complete(text: str, *words: str, cwd: Path) -> set[str]:
    """What bash would offer for the last word."""
    line = " ".join(f"'{word}'" for word in ("hatch-bpf", *words))
    code = f'{text}\nCOMP_WORDS=({line})\nCOMP_CWORD={len(words)}\n_hatch_bpf\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=cwd)
    return set(done.stdout.split())


def test_bash_offers_commands_options_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs.tool("bash")
    text = script("bash", capsys)
    (tmp_path / "prog.bpf.o").write_bytes(b"")
    assert {"build", "check", "init", "kernels"} <= complete(text, "", cwd=tmp_path)
    assert complete(text, "ch", cwd=tmp_path) == {"check"}
    assert complete(text, "check", "--js", cwd=tmp_path) == {"--json"}
    assert complete(text, "check", "prog", cwd=tmp_path) == {"prog.bpf.o"}
    assert complete(text, "completion", "fi", cwd=tmp_path) == {"fish"}
    assert {"list", "add", "lock", "verify"} <= complete(text, "kernels", "", cwd=tmp_path)


def test_bash_offers_the_values_of_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs.tool("bash")
    text = script("bash", capsys)
    (tmp_path / "prog.bpf.o").write_bytes(b"")
    assert complete(text, "init", "x", "--backend", "", cwd=tmp_path) == {"hatchling", "setuptools"}
    assert complete(text, "init", "x", "--backend", "s", cwd=tmp_path) == {"setuptools"}
    assert complete(text, "init", "x", "--backend", "=", cwd=tmp_path) == {"hatchling", "setuptools"}
    assert complete(text, "init", "x", "--backend", "=", "h", cwd=tmp_path) == {"hatchling"}
    assert {"x86_64", "s390x"} <= complete(text, "skeleton", "prog.bpf.o", "--arch", "", cwd=tmp_path)
    assert complete(text, "kernels", "add", "x", "--arch", "arm6", cwd=tmp_path) == {"arm64"}
    assert complete(text, "check", "--match", "", cwd=tmp_path) == {"host"}
    # a file, and no command or option
    assert complete(text, "check", "--html", "", cwd=tmp_path) == {"prog.bpf.o"}
    assert complete(text, "vmlinux-h", "-o", "", cwd=tmp_path) == {"prog.bpf.o"}
    # an option without a value
    assert {"--html", "--match"} <= complete(text, "check", "--json", "--", cwd=tmp_path)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_itself_reads_its_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "script"
    path.write_text(script(shell, capsys))
    done = subprocess.run(
        [needs.tool(shell), "--no-execute" if shell == "fish" else "-n", path], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("before", ["", "autoload -Uz compinit; compinit -i -D\n"], ids=["bare", "set up"])
def test_zsh_takes_it_however_it_is_set_up(before: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zsh = needs.tool("zsh")
    path = tmp_path / "script"
    path.write_text(before + script("zsh", capsys))
    done = subprocess.run(
        [zsh, "-f", "-c", f"source {path}; print $_comps[hatch-bpf]"],
        capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stderr == ""
    assert "_hatch_bpf" in done.stdout


def test_fish_offers_commands_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fish = needs.tool("fish")
    path = tmp_path / "script"
    path.write_text(script("fish", capsys))

    def offered(line: str) -> set[str]:
        command = f"source {path}; complete --do-complete '{line}'"
        done = subprocess.run(
            [fish, "--no-config", "-c", command], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        return {row.split("\t")[0] for row in done.stdout.splitlines()}

    assert {"build", "cache", "check", "init", "kernels"} <= offered("hatch-bpf ")
    assert offered("hatch-bpf ch") == {"check"}
    assert offered("hatch-bpf check --js") == {"--json"}
    assert {"list", "add", "lock", "verify"} <= offered("hatch-bpf kernels ")
    assert {"info", "clear"} <= offered("hatch-bpf cache ")


def test_editors_learn_the_command_that_builds(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p")
    assert main(["compile-commands", str(project)]) == 0
    (entry,) = json.loads((project / "compile_commands.json").read_text())
    assert (entry["directory"], entry["file"]) == (str(project), "src/demo/prog.bpf.c")
    arguments = [*entry["arguments"], "-o", str(tmp_path / "out.o")]
    subprocess.run(arguments, cwd=entry["directory"], check=True)
    assert (tmp_path / "out.o").stat().st_size > 0
