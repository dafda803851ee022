"""The command `hatch-bpf completion`: argparse parser -> a completion script for bash, zsh or fish.

Input: the command's parser. Output: a script that offers commands and options, and file names everywhere else.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hatch_bpf.cli.common import examples

_ZSH = """\
(( $+functions[compdef] )) || { autoload -U +X compinit && compinit -i; }
autoload -U +X bashcompinit && bashcompinit
"""
"""zsh reads bash's completions through a layer of its own, above its own completions, which not everybody sets up."""


@dataclass(frozen=True)
class _Level:
    """What can follow one sequence of commands."""

    path: tuple[str, ...]
    commands: tuple[tuple[str, str], ...]
    """Name and help."""
    options: tuple[tuple[str, str], ...]
    words: tuple[str, ...]
    """What a positional argument may be, where it is one of a few words."""


def add_completion(commands: Any, parser: argparse.ArgumentParser) -> None:
    """Add `completion` to the commands of an argument parser, whose words it completes."""
    command = commands.add_parser(
        "completion",
        help="print a script that completes this command's words, for a shell to read",
        **examples(
            "completion bash > ~/.local/share/bash-completion/completions/hatch-bpf",
            "completion zsh >> ~/.zshrc",
            "completion fish > ~/.config/fish/completions/hatch-bpf.fish",
        ),
    )
    command.add_argument("shell", choices=("bash", "zsh", "fish"))
    command.set_defaults(command=_completion, parser=parser)


def _completion(options: argparse.Namespace) -> int:
    print(script(options.parser, options.shell), end="")
    return 0


def script(parser: argparse.ArgumentParser, shell: Literal["bash", "zsh", "fish"]) -> str:
    """The script for one shell."""
    levels = list(_levels(parser, ()))
    if shell == "fish":
        return _fish(parser.prog, levels)
    return (_ZSH if shell == "zsh" else "") + _bash(parser.prog, levels)


def _levels(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[_Level]:
    commands: list[tuple[str, str]] = []
    options: list[tuple[str, str]] = []
    words: list[str] = []
    inner: list[tuple[str, argparse.ArgumentParser]] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                commands.append((name, helps.get(name, "")))
                inner.append((name, child))
        elif action.option_strings:
            options += [(text, action.help or "") for text in action.option_strings if text.startswith("--")]
        elif action.choices:
            words += map(str, action.choices)
    yield _Level(path, tuple(commands), tuple(options), tuple(words))
    for name, child in inner:
        yield from _levels(child, (*path, name))


def _bash(prog: str, levels: list[_Level]) -> str:
    function = "_" + prog.replace("-", "_")
    known = " | ".join(f'"{" ".join(level.path)}"' for level in levels if level.path)
    cases = []
    for level in levels:
        names = [name for name, _ in (*level.commands, *level.options)]
        cases.append(f'    "{" ".join(level.path)}") words={shlex.quote(" ".join([*names, *level.words]))} ;;')
    return "\n".join(
        [
            f"{function}() {{",
            '  local current="${COMP_WORDS[COMP_CWORD]}" path="" words="" candidate i',
            "  for ((i = 1; i < COMP_CWORD; i++)); do",
            '    candidate="${path:+$path }${COMP_WORDS[i]}"',
            f'    case "$candidate" in {known}) path="$candidate" ;; esac',
            "  done",
            '  case "$path" in',
            *cases,
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
            '  if [[ -n "$path" && "$current" != -* ]]; then COMPREPLY+=($(compgen -f -- "$current")); fi',
            "}",
            f"complete -o filenames -F {function} {prog}",
            "",
        ]
    )


def _fish(prog: str, levels: list[_Level]) -> str:
    lines = []
    for level in levels:
        condition = _fish_condition(level)
        for name, text in level.commands:
            lines.append(f"complete -c {prog} -n {condition} -f -a {name} -d {_fish_quote(text)}")
        for name, text in level.options:
            lines.append(f"complete -c {prog} -n {condition} -l {name[2:]} -d {_fish_quote(text)}")
        for word in level.words:
            lines.append(f"complete -c {prog} -n {condition} -f -a {word}")
    return "\n".join([*lines, ""])


def _fish_condition(level: _Level) -> str:
    if not level.path:
        return "__fish_use_subcommand"
    below = [name for name, _ in level.commands]
    tests = [f"__fish_seen_subcommand_from {name}" for name in level.path]
    if below:
        tests.append(f"not __fish_seen_subcommand_from {' '.join(below)}")
    return _fish_quote("; and ".join(tests))


def _fish_quote(text: str) -> str:
    escaped = text.replace("%%", "%").replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
