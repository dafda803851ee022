"""The command `hatch-bpf completion`: argparse parser -> a completion script for bash, zsh or fish.

Input: the command's parser. Output: a script that suggests commands, options with their values, and file names.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hatch_bpf.cli.common import examples

_ZSH = """\
(( $+functions[compdef] )) || { autoload -U +X compinit && compinit -i; }
autoload -U +X bashcompinit && bashcompinit
"""
"""zsh can use bash completions, once its own completion system has been set up, which is not the default."""


@dataclass(frozen=True)
class _Flag:
    """An option of a command line."""

    name: str
    help: str
    takes_value: bool
    values: tuple[str, ...]
    """Suggested values; empty where a file name or any text may stand."""


@dataclass(frozen=True)
class _Level:
    """The words that can follow one sequence of commands."""

    path: tuple[str, ...]
    commands: tuple[tuple[str, str], ...]
    """Name and help."""
    options: tuple[_Flag, ...]
    words: tuple[str, ...]
    """Suggested values of a positional argument."""


def add_completion(commands: Any, parser: argparse.ArgumentParser) -> None:
    """Add `completion` to the commands of an argument parser. It completes the command lines of `parser`."""
    command = commands.add_parser(
        "completion",
        help="print a completion script for a shell",
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
    options: list[_Flag] = []
    words: list[str] = []
    inner: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            inner |= action.choices
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands += [(name, helps.get(name, "")) for name in action.choices]
        elif action.option_strings:
            takes_value, values = action.nargs != 0, _values(action)
            options += [_Flag(name, action.help or "", takes_value, values) for name in action.option_strings]
        else:
            words += _values(action)
    yield _Level(path, tuple(commands), tuple(options), tuple(words))
    for name, child in inner.items():
        yield from _levels(child, (*path, name))


def _values(action: argparse.Action) -> tuple[str, ...]:
    """The values to suggest for an argument."""
    offered: Iterable[object] = action.choices or getattr(action, "offered", None) or ()
    return tuple(map(str, offered))


def _bash(prog: str, levels: list[_Level]) -> str:
    function = "_" + prog.replace("-", "_")
    known = " | ".join(f'"{" ".join(level.path)}"' for level in levels if level.path)
    cases, values = [], []
    for level in levels:
        path = " ".join(level.path)
        long = [flag.name for flag in level.options if flag.name.startswith("--")]
        words = [*(name for name, _ in level.commands), *long, *level.words]
        cases.append(f'    "{path}") words={shlex.quote(" ".join(words))} ;;')
        for flag in level.options:
            if flag.takes_value:
                values.append(f'    "{path} {flag.name}") values={shlex.quote(" ".join(flag.values))} ;;')
    return "\n".join(
        [
            f"{function}() {{",
            '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD - 1]}"',
            '  local path="" words="" values=none candidate i',
            "  for ((i = 1; i < COMP_CWORD; i++)); do",
            '    candidate="${path:+$path }${COMP_WORDS[i]}"',
            f'    case "$candidate" in {known}) path="$candidate" ;; esac',
            "  done",
            # bash splits --option=value into three words
            '  if [[ "$current" == "=" ]]; then current=""',
            '  elif [[ "$before" == "=" ]]; then before="${COMP_WORDS[COMP_CWORD - 2]}"; fi',
            '  case "$path $before" in',
            *values,
            "  esac",
            '  if [[ -n "$values" && "$values" != none ]]; then',
            '    COMPREPLY=($(compgen -W "$values" -- "$current"))',
            "    return",
            "  fi",
            '  if [[ -z "$values" ]]; then COMPREPLY=($(compgen -f -- "$current")); return; fi',
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
        for flag in level.options:
            name = f"-l {flag.name[2:]}" if flag.name.startswith("--") else f"-s {flag.name[1:]}"
            values = f" -x -a {_fish_quote(' '.join(flag.values))}" if flag.values else " -r" * flag.takes_value
            lines.append(f"complete -c {prog} -n {condition} {name}{values} -d {_fish_quote(flag.help)}")
        for word in level.words:
            lines.append(f"complete -c {prog} -n {condition} -f -a {word}")
    return "\n".join([*lines, ""])


def _fish_condition(level: _Level) -> str:
    if not level.path:
        return "__fish_use_subcommand"
    tests = [f"__fish_seen_subcommand_from {name}" for name in level.path]
    if level.commands:
        tests.append(f"not __fish_seen_subcommand_from {' '.join(name for name, _ in level.commands)}")
    return _fish_quote("; and ".join(tests))


def _fish_quote(text: str) -> str:
    escaped = text.replace("%%", "%").replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
