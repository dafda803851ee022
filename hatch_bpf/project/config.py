"""pyproject table -> `Config`: one schema and one parser for both front ends.

Input: the table under `[tool.hatch.build.hooks.bpf]` or `[tool.hatch-bpf]`, as parsed TOML. Output: a frozen `Config`
with every default filled in, or a `ConfigError` that lists all faults, each with the key's full path and a suggestion.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, cast

from hatch_bpf import arch
from hatch_bpf.errors import ConfigError, Fault, KernelError
from hatch_bpf.kernels import ARCHIVE_VARIABLE
from hatch_bpf.kernels.matrix import BtfFile, Entry, Host, Newest, Pattern
from hatch_bpf.kernels.remote.archive_url import Archive, parse_archive
from hatch_bpf.project import options

SETUPTOOLS_KEY = "tool.hatch-bpf"
"""Where a project that setuptools builds has the table."""
HOST = "host"
"""The entry of `kernels` that stands for the machine that builds."""

Minimizer = Literal["builtin", "bpftool"]
OnUnportable = Literal["error", "warn", "ignore"]
LibbpfSource = Literal["system", "bundle"]


@dataclass(frozen=True)
class Config:
    """What a package declares about its BPF programs."""

    programs: tuple[str, ...]
    """`programs`: globs of program sources in the wheel's packages, relative to the project; empty: every *.bpf.c."""
    archs: tuple[arch.Arch, ...]
    """`archs`: architectures to build objects for, and to take kernels of; by default the build machine's."""
    btf_archive: Archive | None
    """`btf-archive`: folder or URL in BTFHub's layout that patterns select from; BTFHUB_ARCHIVE overrides it."""
    kernels: tuple[Entry, ...]
    """`kernels`: the kernel matrix: patterns, the newest of a pattern, single BTF files, and `host`."""
    cflags: tuple[str, ...]
    """`cflags`: more arguments for clang, behind hatch-bpf's own; it runs in the project's folder."""
    vmlinux_h: Mapping[str, str]
    """`vmlinux-h`: what `#include "vmlinux.h"` gives: a BTF in any form, a kernel of the archive, `host`, or a header;
    or a table of one for each architecture. By architecture's name, as written; empty where the option is absent."""
    link: Mapping[str, tuple[PurePosixPath, ...]]
    """`link`: program sources that are linked into one object, under one skeleton, by the object's name."""
    events: Mapping[str, str]
    """`events`: the struct that a ring buffer or perf buffer carries, by `MAP` or `PROGRAM.MAP`."""
    alternatives: Mapping[str, tuple[str, ...]]
    """`alternatives`: programs, or ring and perf buffers, of which the first that a machine takes is used, by group."""
    optional: tuple[str, ...]
    """`optional`: programs that are left out where they can't be loaded."""
    types: tuple[str, ...]
    """`types`: more structs, unions and enums that the skeletons should declare."""
    minimizer: Minimizer
    """`minimizer`: what makes the minimized BTFs; `bpftool` runs `bpftool gen min_core_btf` instead of our own."""
    on_unportable: OnUnportable
    """`on-unportable`: what a program that will not load on a kernel of the matrix does to the build."""
    libbpf: LibbpfSource
    """`libbpf`: what loads on the target host: its own libbpf.so, or the build machine's, bundled into the wheel."""
    digest: str
    """sha256 of the options that what is built depends on, as they are written: an earlier build's tells a change."""


_NOT_BUILT_FROM = ("btf-archive", "on-unportable", "libbpf")
"""Options that leave objects, BTFs and skeletons as they are."""
_FILE_KEYS = ("btf", "release", "arch", "distro", "version")
_NEWEST_KEYS = ("newest", "of")
_T = TypeVar("_T")


def parse_config(table: Mapping[str, Any], *, key: str, root: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read a table. `key` is its dotted path, for messages; relative paths are against `root`.

    Raises `ConfigError` with every fault there is.
    """
    reader = _Reader(table, key)
    reader.reject_unknown(options.NAMES)
    archs = _archs(reader)
    optional = reader.strings("optional")
    config = Config(
        programs=reader.strings("programs"),
        archs=archs,
        btf_archive=_archive(reader, root, environ),
        kernels=_kernels(reader, root, archs),
        cflags=reader.strings("cflags"),
        vmlinux_h=_vmlinux_h(reader, archs),
        link=_link(reader),
        events=reader.string_table("events"),
        alternatives=_alternatives(reader, optional),
        optional=optional,
        types=reader.strings("types"),
        minimizer=cast(Minimizer, reader.choice("minimizer")),
        on_unportable=cast(OnUnportable, reader.choice("on-unportable")),
        libbpf=_libbpf(reader, archs),
        digest=_digest(table, archs),
    )
    if reader.faults:
        raise ConfigError(reader.faults)
    return config


def _digest(table: Mapping[str, Any], archs: Sequence[arch.Arch]) -> str:
    chosen = {name: value for name, value in table.items() if name not in _NOT_BUILT_FROM}
    text = json.dumps([chosen, [target.name for target in archs]], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _archs(reader: _Reader) -> tuple[arch.Arch, ...]:
    names = reader.strings("archs")
    if names:
        known = (reader.arch(f"archs[{i}]", name) for i, name in enumerate(names) if name)
        # the table's order, and each once: the same archs in another order must give the same wheel
        chosen = {name for name in known if name}
        return tuple(value for name, value in arch.ARCHES.items() if name in chosen)
    machine = arch.build_machine()
    if machine is None:
        reader.fault("archs", "must be given: this machine's architecture is not one that BPF objects can be built for")
        return ()
    return (machine,)


def _link(reader: _Reader) -> dict[str, tuple[PurePosixPath, ...]]:
    inner = _Reader(reader.table_of("link"), reader.at("link"), reader.faults)
    links = {}
    for name in sorted(inner.table):
        parts = tuple(PurePosixPath(part) for part in inner.strings(name))
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            inner.fault(name, "is the name of an object: letters, digits, - and _")
        elif isinstance(inner.table[name], list) and len(parts) < 2:
            inner.fault(name, f"must list two program sources or more (got {len(parts)})")
        else:
            links[name] = parts
    return links


def _alternatives(reader: _Reader, optional: Sequence[str]) -> dict[str, tuple[str, ...]]:
    inner = _Reader(reader.table_of("alternatives"), reader.at("alternatives"), reader.faults)
    groups: dict[str, tuple[str, ...]] = {}
    users = dict.fromkeys(optional, "")
    for name in sorted(inner.table):
        members = groups[name] = inner.strings(name)
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            inner.fault(name, "is the name of a group: letters, digits and _")
        elif isinstance(inner.table[name], list) and len(members) < 2:
            inner.fault(name, f"must list two programs or buffers or more (got {len(members)})")
        for i, member in enumerate(members):
            other = users.setdefault(member, name)
            if other != name or members.index(member) != i:
                where = f"in {reader.at(f'alternatives.{other}' if other else 'optional')} already"
                inner.fault(f"{name}[{i}]", f"is {where} (got {member!r})")
    return groups


def _libbpf(reader: _Reader, archs: Sequence[arch.Arch]) -> LibbpfSource:
    chosen = cast(LibbpfSource, reader.choice("libbpf"))
    machine = arch.build_machine()
    if chosen == "bundle" and archs and [machine] != list(archs):
        name = machine.name if machine else "one that BPF objects can be built for"
        reader.fault(
            "libbpf",
            f"can be 'bundle' only where archs is the build machine's alone, whose libbpf.so it is ({name}): "
            "leave archs out, and build a wheel on each architecture",
        )
    return chosen


def _vmlinux_h(reader: _Reader, archs: Sequence[arch.Arch]) -> dict[str, str]:
    if not isinstance(reader.table.get("vmlinux-h"), Mapping):
        source = reader.string("vmlinux-h")
        return {target.name: source for target in archs} if source else {}
    sources = reader.string_table("vmlinux-h")
    for name in sources:
        reader.arch(f"vmlinux-h.{name}", name)
    missing = [target.name for target in archs if target.name not in sources]
    if missing:
        reader.fault("vmlinux-h", f"must name a source for every architecture in archs ({', '.join(missing)} missing)")
    return {target.name: sources.get(target.name, "") for target in archs}


def _archive(reader: _Reader, root: Path, environ: Mapping[str, str]) -> Archive | None:
    declared = reader.string("btf-archive")
    named = environ.get(ARCHIVE_VARIABLE)
    try:
        if named:
            return parse_archive(named, root=Path.cwd())
        return parse_archive(declared, root=root) if declared else None
    except KernelError as error:
        key = ARCHIVE_VARIABLE if named else reader.at("btf-archive")
        reader.faults.append(Fault(key, f"cannot be used: {error}"))
        return None


def _kernels(reader: _Reader, root: Path, archs: Sequence[arch.Arch]) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for i, item in enumerate(reader.list("kernels")):
        if item == HOST:
            entries.append(Host())
        elif isinstance(item, str):
            entries.append(Pattern(item))
        elif isinstance(item, Mapping):
            table = _Reader(item, reader.at(f"kernels[{i}]"), reader.faults)
            entries.extend(_newest(table) if item.keys() & set(_NEWEST_KEYS) else _btf_file(table, root, archs))
        else:
            reader.fault(f"kernels[{i}]", f"must be a pattern, a table or {HOST!r} (got {item!r})")
    return tuple(entries)


def _newest(reader: _Reader) -> list[Newest]:
    reader.reject_unknown(_NEWEST_KEYS)
    count, of = reader.table.get("newest"), reader.string("of", required=True)
    if count is None:
        reader.fault("newest", "is missing")
    elif not isinstance(count, int) or isinstance(count, bool) or count < 1:
        reader.fault("newest", f"must be a whole number above 0 (got {count!r})")
    else:
        return [Newest(count, Pattern(of))]
    return []


def _btf_file(reader: _Reader, root: Path, archs: Sequence[arch.Arch]) -> list[BtfFile]:
    reader.reject_unknown(_FILE_KEYS)
    path, release = reader.string("btf", required=True), reader.string("release", required=True)
    name = reader.string("arch")
    if name:
        name = reader.arch("arch", name)
    elif len(archs) == 1:
        name = archs[0].name
    elif archs:
        reader.fault("arch", "must be given, since the package is built for more than one architecture")
    if not (path and release and name):
        return []
    return [BtfFile(root / path, release, name, reader.string("distro"), reader.string("version"))]


class _Reader:
    """Takes typed values out of one table and collects what is wrong with them."""

    def __init__(self, table: Mapping[str, Any], key: str, faults: list[Fault] | None = None) -> None:
        self.table = table
        self.key = key
        self.faults: list[Fault] = [] if faults is None else faults

    def at(self, name: str) -> str:
        """Full path of a key of this table."""
        return f"{self.key}.{name}"

    def fault(self, name: str, message: str) -> None:
        self.faults.append(Fault(self.at(name), message))

    def reject_unknown(self, keys: Sequence[str]) -> None:
        for name in self.table:
            if name not in keys:
                self.fault(name, f"is not an option{suggestion(name, keys)}; the options are {', '.join(keys)}")

    def known(self, name: str, value: str, choices: Sequence[str]) -> str:
        """`value` if it is one of the choices; else a fault, and an empty string."""
        if value in choices:
            return value
        self.fault(name, f"must be one of {', '.join(choices)} (got {value!r}{suggestion(value, choices)})")
        return ""

    def arch(self, name: str, value: str) -> str:
        """The name of an architecture if it is one; where it is another's name for one, the fault tells ours."""
        other = arch.by_machine(value.lower().replace("-", "_"))
        if other is None or other.name == value:
            return self.known(name, value, tuple(arch.ARCHES))
        self.fault(name, f"must be one of {', '.join(arch.ARCHES)} (got {value!r}, did you mean {other.name!r}?)")
        return ""

    def choice(self, name: str) -> str:
        """One of an option's few strings, of which the first is the default."""
        choices = options.BY_NAME[name].choices
        value = self.string(name)
        return self.known(name, value, choices) if value else choices[0]

    def string(self, name: str, *, required: bool = False) -> str:
        """A string that is not empty; an absent one is empty."""
        if name not in self.table:
            if required:
                self.fault(name, "is missing")
            return ""
        text: str = self._typed(name, self.table[name], _is_string, "a string that is not empty", "")
        return text

    def strings(self, name: str) -> tuple[str, ...]:
        return tuple(
            self._typed(f"{name}[{i}]", item, _is_string, "a string that is not empty", "")
            for i, item in enumerate(self.list(name))
        )

    def list(self, name: str) -> Sequence[Any]:
        return self._typed(name, self.table.get(name, []), lambda value: isinstance(value, list), "a list", [])

    def table_of(self, name: str) -> Mapping[str, Any]:
        return self._typed(name, self.table.get(name, {}), lambda value: isinstance(value, Mapping), "a table", {})

    def string_table(self, name: str) -> dict[str, str]:
        table = self.table_of(name)
        return {
            item: self._typed(f"{name}.{item}", value, _is_string, "a string that is not empty", "")
            for item, value in sorted(table.items())
        }

    def _typed(self, name: str, value: _T, test: Callable[[Any], bool], what: str, otherwise: _T) -> _T:
        if test(value):
            return value
        self.fault(name, f"must be {what} (got {value!r})")
        return otherwise


def _is_string(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value  # which no path or argument can have


def suggestion(value: str, choices: Sequence[str]) -> str:
    """`, did you mean 'x'?` when a choice is near, else nothing."""
    near = difflib.get_close_matches(value, choices, n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""
