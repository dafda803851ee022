"""The configuration table: defaults, values, and every fault at once."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from hatch_bpf import arch
from hatch_bpf.errors import ConfigError
from hatch_bpf.kernels.matrix import BtfFile, Host, Newest, Pattern
from hatch_bpf.project.alternatives import Alternatives
from hatch_bpf.project.config import Config, parse_config

ROOT = Path("/project")


def parse(environ: dict[str, str] | None = None, **table: Any) -> Config:
    options = {name.replace("_", "-"): value for name, value in table.items()}
    return parse_config(options, key="tool.hatch-bpf", root=ROOT, environ=environ or {})


def faults(**table: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(**table)
    return [str(fault) for fault in caught.value.faults]


def deep_list(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def test_an_empty_table_means_the_defaults() -> None:
    machine = arch.build_machine()
    assert machine is not None
    assert parse() == Config(
        programs=(),
        commands={},
        archs=(machine,),
        btf_archive=None,
        kernels=(),
        cflags=(),
        vmlinux_h={},
        link={},
        events={},
        alternatives=Alternatives(),
        types=(),
        minimizer="builtin",
        on_unportable="error",
        libbpf="bundle",
        digest=parse().digest,
    )


def test_the_digest_tells_what_changes_the_artifacts() -> None:
    base = parse(archs=["x86_64"])
    assert parse(archs=["x86_64"], btf_archive="elsewhere", on_unportable="warn").digest == base.digest
    assert parse(archs=["x86_64"], kernels=["host"]).digest != base.digest
    assert parse(archs=["arm64"]).digest != base.digest


def test_every_form_of_kernel() -> None:
    config = parse(
        archs=["x86_64"],
        kernels=[
            "debian/12/*/6.1.*",
            {"btf": "vendor/custom.btf", "release": "5.4.0-custom"},
            {"btf": "/a/b.btf", "release": "5.4", "arch": "arm64", "distro": "acme", "version": "1"},
            {"newest": 3, "of": "debian/12/*/*"},
            "host",
        ],
    )
    assert config.kernels == (
        Pattern("debian/12/*/6.1.*"),
        BtfFile(ROOT / "vendor/custom.btf", "5.4.0-custom", "x86_64"),
        BtfFile(Path("/a/b.btf"), "5.4", "arm64", "acme", "1"),
        Newest(3, Pattern("debian/12/*/*")),
        Host(),
    )


def test_architectures_come_in_one_order_and_once() -> None:
    assert parse(archs=["arm64", "x86_64", "arm64"]).archs == (arch.X86_64, arch.ARM64)


def test_the_environment_overrides_the_archive() -> None:
    assert parse(btf_archive="kernels").btf_archive == ROOT / "kernels"
    assert parse({"BTFHUB_ARCHIVE": "/archive"}, btf_archive="kernels").btf_archive == Path("/archive")
    assert parse({"BTFHUB_ARCHIVE": ""}, btf_archive="kernels").btf_archive == ROOT / "kernels"


def test_all_faults_are_told_at_once_each_with_its_path() -> None:
    assert faults(
        archs=["x86-64"],
        kernels=["host", 5, {"btf": "x", "relase": "5.4"}],
        minimizer="bpftol",
        cflags="-O1",
        events={"ring": 1},
        on_unportable="errr",
        programs=[""],
    ) == [
        "tool.hatch-bpf.programs[0] must be a string that is not empty (got '')",
        "tool.hatch-bpf.archs[0] must be one of x86_64, arm64, arm, i386, ppc64le, riscv64, s390x, loongarch64 "
        "(got 'x86-64', did you mean 'x86_64'?)",
        "tool.hatch-bpf.kernels[1] must be a pattern, a table or 'host' (got 5)",
        "tool.hatch-bpf.kernels[2].relase is not an option, did you mean 'release'?; "
        "the options are btf, release, arch, distro, version",
        "tool.hatch-bpf.kernels[2].release is missing",
        "tool.hatch-bpf.cflags must be a list (got '-O1')",
        "tool.hatch-bpf.events.ring must be a string that is not empty (got 1)",
        "tool.hatch-bpf.minimizer must be one of builtin, bpftool (got 'bpftol', did you mean 'bpftool'?)",
        "tool.hatch-bpf.on-unportable must be one of error, warn, ignore (got 'errr', did you mean 'error'?)",
    ]


def test_an_unknown_key_gets_a_suggestion_where_one_is_near() -> None:
    options = (
        "programs, commands, archs, btf-archive, kernels, cflags, vmlinux-h, link, events, alternatives, optional, "
        "types, minimizer, on-unportable, libbpf"
    )
    assert faults(kernel=[]) == [
        f"tool.hatch-bpf.kernel is not an option, did you mean 'kernels'?; the options are {options}"
    ]
    assert faults(zzz=[]) == [f"tool.hatch-bpf.zzz is not an option; the options are {options}"]


def test_one_vmlinux_h_serves_all_architectures_or_each_has_its_own() -> None:
    both = ["x86_64", "arm64"]
    assert parse(archs=both, vmlinux_h="host").vmlinux_h == {"x86_64": "host", "arm64": "host"}
    own = {"arm64": "a.btf", "x86_64": "debian/12/x86_64/6.1", "s390x": "unused.btf"}
    assert parse(archs=both, vmlinux_h=own).vmlinux_h == {"x86_64": "debian/12/x86_64/6.1", "arm64": "a.btf"}


def test_faults_of_vmlinux_h() -> None:
    assert faults(archs=["x86_64", "arm64"], vmlinux_h={"x86-64": "host", "arm64": 3}) == [
        "tool.hatch-bpf.vmlinux-h.x86-64 must be one of x86_64, arm64, arm, i386, ppc64le, riscv64, s390x, loongarch64 "
        "(got 'x86-64', did you mean 'x86_64'?)",
        "tool.hatch-bpf.vmlinux-h.arm64 must be a string that is not empty (got 3)",
        "tool.hatch-bpf.vmlinux-h must name a source for every architecture in archs (x86_64 missing)",
    ]
    assert faults(vmlinux_h=5) == ["tool.hatch-bpf.vmlinux-h must be a string or a table (got 5)"]


@pytest.mark.parametrize("count", [0, -1, True, "3", 1.5])
def test_newest_needs_a_whole_number(count: object) -> None:
    assert faults(kernels=[{"newest": count, "of": "a/b/c/d"}]) == [
        f"tool.hatch-bpf.kernels[0].newest must be a whole number above 0 (got {count!r})"
    ]


def test_half_a_newest_is_told_what_it_lacks() -> None:
    assert faults(kernels=[{"of": "a/b/c/d"}, {"newest": 2}]) == [
        "tool.hatch-bpf.kernels[0].newest is missing",
        "tool.hatch-bpf.kernels[1].of is missing",
    ]


@pytest.mark.parametrize(
    ("spelling", "ours"), [("amd64", "x86_64"), ("aarch64", "arm64"), ("X86-64", "x86_64"), ("armhf", "arm")]
)
def test_another_name_of_an_architecture_is_told_ours(spelling: str, ours: str) -> None:
    told = f"(got {spelling!r}, did you mean {ours!r}?)"
    (archs,) = faults(archs=[spelling])
    (of_file,) = faults(archs=["x86_64"], kernels=[{"btf": "a", "release": "1", "arch": spelling}])
    assert archs.startswith("tool.hatch-bpf.archs[0] must be one of x86_64, arm64, ")
    assert archs.endswith(told)
    assert of_file.endswith(told)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (int("f" * 5000, 16), "an int that is too large to show"),
        ("x" * 5000 + "\0", f"'{'x' * 199}..."),
        (deep_list(100_000), "a list that is too large to show"),
    ],
    ids=["digits", "length", "depth"],
)
def test_a_wrong_value_is_told_however_large_it_is(value: object, told: str) -> None:
    assert faults(btf_archive=value) == [f"tool.hatch-bpf.btf-archive must be a string that is not empty (got {told})"]


def test_one_fault_is_told_once() -> None:
    assert faults(archs=[7, ""], cflags=["\0"], alternatives={"a": "x"}) == [
        "tool.hatch-bpf.archs[0] must be a string that is not empty (got 7)",
        "tool.hatch-bpf.archs[1] must be a string that is not empty (got '')",
        "tool.hatch-bpf.cflags[0] must be a string that is not empty (got '\\x00')",
        "tool.hatch-bpf.alternatives.a must be a list (got 'x')",
    ]


def test_a_btf_file_needs_its_architecture_when_there_are_two() -> None:
    assert faults(archs=["x86_64", "arm64"], kernels=[{"btf": "a", "release": "1"}]) == [
        "tool.hatch-bpf.kernels[0].arch must be given, since the package is built for more than one architecture"
    ]


def test_libbpf_may_be_the_hosts() -> None:
    assert parse(libbpf="system", archs=["x86_64", "arm64"]).libbpf == "system"


def test_alternatives_are_groups_of_their_own() -> None:
    assert parse(alternatives={"b": ["x", "y"], "a": ["v", "w"]}, optional=["z"]).alternatives == Alternatives(
        {"a": ("v", "w"), "b": ("x", "y")}, ("z",)
    )
    assert faults(
        alternatives={"a b": ["x", "y"], "b": ["z"], "c": ["q", "q"], "d": ["x", "p"], "e": ["o", 3]}, optional=["o"]
    ) == [
        "tool.hatch-bpf.alternatives.a b must be the name of a group: letters, digits and _, not a digit first "
        "(got 'a b')",
        "tool.hatch-bpf.alternatives.b must list two programs or buffers or more (got 1)",
        "tool.hatch-bpf.alternatives.e[1] must be a string that is not empty (got 3)",
        "tool.hatch-bpf.alternatives.c[1] is in tool.hatch-bpf.alternatives.c already (got 'q')",
        "tool.hatch-bpf.alternatives.d[0] is in tool.hatch-bpf.alternatives.a b already (got 'x')",
        "tool.hatch-bpf.alternatives.e[0] is in tool.hatch-bpf.optional already (got 'o')",
    ]
    assert faults(alternatives=["x"]) == ["tool.hatch-bpf.alternatives must be a table (got ['x'])"]


def test_a_machine_that_no_object_can_be_built_for_names_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arch, "build_machine", lambda: None)
    assert faults() == [
        "tool.hatch-bpf.archs must be given: this machine's architecture is not one that BPF objects can be built for"
    ]
    assert parse(archs=["arm64"]).archs == (arch.ARM64,)


def test_links_name_their_sources() -> None:
    assert parse(link={"one": ["a.bpf.c", "src/b.bpf.c"]}).link == {
        "one": (PurePosixPath("a.bpf.c"), PurePosixPath("src/b.bpf.c"))
    }
    assert faults(link={"a b": ["x", "y"], "one": ["x"], "two": "x", "three": ["x", 3]}) == [
        "tool.hatch-bpf.link.a b must be the name of an object: letters, digits, - and _, not a digit first "
        "(got 'a b')",
        "tool.hatch-bpf.link.one must list two program sources or more (got 1)",
        "tool.hatch-bpf.link.three[1] must be a string that is not empty (got 3)",
        "tool.hatch-bpf.link.two must be a list (got 'x')",
    ]
    assert faults(link=[1]) == ["tool.hatch-bpf.link must be a table (got [1])"]
