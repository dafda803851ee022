"""pyproject table -> `Config`: one dataclass describes every option, and one parser serves every front end.

Input: the table under `[tool.hatch.build.hooks.bpf]` or `[tool.hatch-bpf]`, as parsed TOML. Output: a frozen `Config`
with every default filled in, or a `ConfigError` that lists all faults, each with the key's full path and a suggestion.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from hatch_bpf import arch
from hatch_bpf.errors import Fault, KernelError, refuse
from hatch_bpf.kernels import HOST
from hatch_bpf.kernels.any_archive import Archive, parse_archive
from hatch_bpf.kernels.archive import ARCHIVE_VARIABLE
from hatch_bpf.kernels.matrix import BtfFile, Entry, Newest, Pattern, named_entry
from hatch_bpf.project.alternatives import Alternatives
from hatch_bpf.project.forms import (
    ARCH,
    TEXT,
    TEXTS,
    ChoiceForm,
    CommandForm,
    CountForm,
    EitherForm,
    ListForm,
    NameForm,
    Option,
    RecordForm,
    TableForm,
    described,
)

Minimizer = Literal["builtin", "bpftool"]
OnUnportable = Literal["error", "warn", "ignore"]
LibbpfSource = Literal["bundle", "system"]

SOURCE_PLACE, OUTPUT_PLACE, ARCH_PLACE = "{source}", "{output}", "{arch}"
"""What a command's words have in place of the source's path, the object's, and the architecture's name."""

_BTF_FILE = RecordForm(
    {"btf": TEXT, "release": TEXT, "arch": ARCH, "distro": TEXT, "version": TEXT}, ("btf", "release")
)
_NEWEST = RecordForm({"newest": CountForm(), "of": TEXT}, ("newest", "of"))


@dataclass(frozen=True)
class Config:
    """What a package declares about its BPF programs.

    Each field that is an option says here what the option is: the parser, the JSON schema and the table in the docs
    are derived from it. The names are the options' own, with - for _.
    """

    programs: tuple[str, ...] = field(
        metadata=described(
            TEXTS,
            "C files in the wheel's packages, as globs relative to the project; and BPF objects (`*.o`) that are there "
            "already, with `{arch}` in the name if there is one for each architecture",
            "every `*.bpf.c` in the packages",
        )
    )
    commands: Mapping[str, tuple[str, ...]] = field(
        metadata=described(
            TableForm(CommandForm(OUTPUT_PLACE)),
            "the program sources that another compiler than clang translates, as globs like those of `programs`, and "
            f"the command for each; its words may hold `{SOURCE_PLACE}`, `{OUTPUT_PLACE}` and `{ARCH_PLACE}` "
            "([other compilers](#other-compilers))",
            "none",
        )
    )
    """By glob, as written."""
    archs: tuple[arch.Arch, ...] = field(
        metadata=described(
            ListForm(ARCH), "architectures to build objects for, and whose kernels to support", "the build machine's"
        )
    )
    btf_archive: Archive | None = field(
        metadata=described(
            TEXT,
            "folder or https URL of an archive in BTFHub's layout, `distro/version/arch/release.btf.tar.xz`; the "
            "variable `BTFHUB_ARCHIVE` overrides it",
            "none",
            shapes_build=False,
        )
    )
    kernels: tuple[Entry, ...] = field(
        metadata=described(
            ListForm(EitherForm(f"a pattern, a table or {HOST!r}", (_BTF_FILE, _NEWEST))),
            "the kernel matrix: patterns over the archive, the newest of a pattern, single files in any form (raw BTF, "
            "vmlinux, vmlinuz, `.deb`, ...), and `host`",
            "none: only kernels that have BTF of their own",
        )
    )
    cflags: tuple[str, ...] = field(
        metadata=described(TEXTS, "further arguments for clang, after the default flags below", "none")
    )
    vmlinux_h: Mapping[str, str] = field(
        metadata=described(
            EitherForm("a string or a table", (TableForm(TEXT, ARCH),)),
            "where `vmlinux.h` comes from: BTF in any form, a kernel of the archive, `host`, or a header; or a table "
            'with one for each architecture: `{ x86_64 = "host", arm64 = "debian/12/arm64/6.1.0-50-arm64" }`',
            "none",
        )
    )
    """By architecture's name, as written; empty where the option is absent."""
    link: Mapping[str, tuple[PurePosixPath, ...]] = field(
        metadata=described(
            TableForm(
                ListForm(TEXT, at_least_two="program sources"),
                NameForm("an object: letters, digits, - and _, not a digit first", "[A-Za-z_][A-Za-z0-9_-]*"),
            ),
            'program sources that are linked into one object, with one skeleton: `{ name = ["a.bpf.c", "b.bpf.c"] }`',
            "none: an object for each source",
        )
    )
    events: Mapping[str, str] = field(
        metadata=described(
            TableForm(TEXT),
            "the struct that a ring buffer or perf buffer carries, by the map's name, or by `SOURCE.MAP` if several "
            'sources have a map of that name: `{ "exec.events" = "exec_event" }`',
            "none: `bytes`",
        )
    )
    alternatives: Alternatives = field(metadata={"options": Alternatives})
    """The options `alternatives` and `optional`."""
    types: tuple[str, ...] = field(
        metadata=described(TEXTS, "more structs, unions and enums for the skeletons to declare", "none")
    )
    minimizer: Minimizer = field(
        metadata=described(
            ChoiceForm(get_args(Minimizer)), "`builtin`, or `bpftool` for `bpftool gen min_core_btf`", "`builtin`"
        )
    )
    on_unportable: OnUnportable = field(
        metadata=described(
            ChoiceForm(get_args(OnUnportable)),
            "what the build does about a program that does not load, or cannot be attached, on a kernel of the matrix: "
            "`error`, `warn` or `ignore`",
            "`error`",
            shapes_build=False,
        )
    )
    libbpf: LibbpfSource = field(
        metadata=described(
            ChoiceForm(get_args(LibbpfSource)),
            "what loads on the target host: hatch-bpf's libbpf, which then is in the wheel for all of `archs` "
            "(`bundle`), or the host's own (`system`)",
            "`bundle`",
            shapes_build=False,
        )
    )
    digest: str
    """sha256 of the options that shape what is built. A build with other options has another digest."""


def _options(cls: type) -> Iterator[tuple[str, Option]]:
    """The options of a dataclass, and of those that its fields hold, by key."""
    for item in fields(cls):
        if "options" in item.metadata:
            yield from _options(item.metadata["options"])
        elif "option" in item.metadata:
            option: Option = item.metadata["option"]
            yield option.name or item.name.replace("_", "-"), option


OPTIONS = dict(_options(Config))
"""Every option by its key, in the order in which the docs list them."""
TABLE = RecordForm({name: option.form for name, option in OPTIONS.items()})
"""The whole table."""


def parse_config(table: Mapping[str, Any], *, key: str, root: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read a table. `key` is its dotted path, for messages; relative paths are against `root`.

    Raises `ConfigError` with every fault there is.
    """
    faults: list[Fault] = []
    values = TABLE.read(table, key, faults)
    alternatives = Alternatives(values.pop("alternatives"), values.pop("optional"))
    faults += alternatives.duplicates(key)
    archs = _archs(values["archs"], f"{key}.archs", faults)
    values |= {
        "archs": archs,
        "btf-archive": _archive(values["btf-archive"], f"{key}.btf-archive", root, environ, faults),
        "kernels": tuple(
            _entry(item, f"{key}.kernels[{i}]", root, archs, faults) for i, item in enumerate(values["kernels"])
        ),
        "vmlinux-h": _vmlinux_h(values["vmlinux-h"], f"{key}.vmlinux-h", archs, faults),
        "link": {name: tuple(map(PurePosixPath, parts)) for name, parts in values["link"].items()},
    }
    refuse(faults)
    by_field = {name.replace("-", "_"): value for name, value in values.items()}
    return Config(**by_field, alternatives=alternatives, digest=_digest(table, archs))


def _digest(table: Mapping[str, Any], archs: Sequence[arch.Arch]) -> str:
    chosen = {name: value for name, value in table.items() if OPTIONS[name].shapes_build}
    text = json.dumps([chosen, [target.name for target in archs]], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _archs(names: Sequence[str], key: str, faults: list[Fault]) -> tuple[arch.Arch, ...]:
    if names:
        # in a fixed order and each once, so that the order in the table does not change the wheel
        return tuple(value for name, value in arch.ARCHES.items() if name in names)
    machine = arch.build_machine()
    if machine is None:
        rule = "must be given: this machine's architecture is not one that BPF objects can be built for"
        faults.append(Fault(key, rule))
        return ()
    return (machine,)


def _vmlinux_h(
    written: str | Mapping[str, str], key: str, archs: Sequence[arch.Arch], faults: list[Fault]
) -> dict[str, str]:
    if isinstance(written, str):
        return {target.name: written for target in archs} if written else {}
    missing = [target.name for target in archs if target.name not in written]
    if missing:
        rule = f"must name a source for every architecture in archs ({', '.join(missing)} missing)"
        faults.append(Fault(key, rule))
    return {target.name: written.get(target.name, "") for target in archs}


def _archive(written: str, key: str, root: Path, environ: Mapping[str, str], faults: list[Fault]) -> Archive | None:
    named = environ.get(ARCHIVE_VARIABLE)
    try:
        if named:
            return parse_archive(named, root=Path.cwd())
        return parse_archive(written, root=root) if written else None
    except KernelError as error:
        faults.append(Fault(ARCHIVE_VARIABLE if named else key, f"cannot be used: {error}"))
        return None


def _entry(item: Any, key: str, root: Path, archs: Sequence[arch.Arch], faults: list[Fault]) -> Entry:
    """An entry of `kernels`. After a fault its value does not matter, since the table is refused."""
    if isinstance(item, str):
        return named_entry(item)
    if "newest" in item:
        return Newest(item["newest"], Pattern(item["of"]))
    name = item["arch"]
    if not name and len(archs) > 1:
        rule = "must be given, since the package is built for more than one architecture"
        faults.append(Fault(f"{key}.arch", rule))
    return BtfFile(
        root / item["btf"],
        item["release"],
        name or next((target.name for target in archs), ""),
        item["distro"],
        item["version"],
    )
