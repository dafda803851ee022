"""What the errors of a load say where the kernel itself says nothing, or libbpf too much."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.version import version_bounds
from hatch_bpf.objects.uapi import MapFlag
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.runtime import errors, privileges, since
from hatch_bpf.runtime.host import kernel
from hatch_bpf.runtime.load_errors import load_error
from hatch_bpf.runtime.maps.of_maps import MapOfMaps
from hatch_bpf.runtime.maps.shapes import MAP_TYPES, refused_map
from hatch_bpf.runtime.spec import MapSpec, ObjectSpec, ProgramSpec, SectionSpec
from hatch_bpf.runtime.system.objects import PROGRAM_TYPES
from hatch_bpf.runtime.types import CStruct
from tests.common import kernel_btfs, needs
from tests.common.skeleton_package import BPF, Package, load_skeleton, make_package
from tests.runtime.test_load import HIDE_BTF


@pytest.mark.parametrize("name", kernel_btfs.EXAMPLES)
def test_when_types_came(name: str) -> None:
    """Debian backports no types, so that a kernel has exactly those that came with its version or before."""
    bounds = version_bounds(Kernel.parse(name))
    assert bounds is not None
    version = (bounds[0] >> 16, bounds[0] >> 8 & 0xFF)
    features = KernelFeatures(Btf(kernel_btfs.read(name), source=name))
    for kind, came in since.PROGRAM_TYPES.items():
        assert kind in PROGRAM_TYPES
        assert features.has_program_type(kind) == (came <= version), kind
    for kind, came in since.MAP_TYPES.items():
        assert features.has_map_type(MAP_TYPES.index(kind)) == (came <= version), kind
    for kind, came in since.ATTACH_TYPES.items():
        assert features.has_attach_type(kind) == (came <= version), kind
    for bit in since.MAP_FLAGS:
        assert features.has_map_flag(bit) == (since.MAP_FLAGS[bit][1] <= version), bit


def test_flags_have_the_kernels_names() -> None:
    assert {bit: name for bit, (name, _) in since.MAP_FLAGS.items()} == {
        flag.value: f"BPF_F_{flag.name}" for flag in MapFlag if flag.value in since.MAP_FLAGS
    }


class _KnowsNothing:
    """libbpf on a kernel that refuses every type that it tries: for EINVAL its answer is 0."""

    def has(self, name: str) -> bool:
        return name.startswith("libbpf_probe_")

    def libbpf_probe_bpf_prog_type(self, number: int, _options: None) -> int:
        assert 0 < number < len(PROGRAM_TYPES)
        return 0


class _KnowsAll(_KnowsNothing):
    def libbpf_probe_bpf_prog_type(self, _number: int, _options: None) -> int:
        return 1


def spec_with(**declared: Any) -> ObjectSpec:
    """What a skeleton declares of an object that is never opened."""
    return ObjectSpec(name="x", source="x.bpf.c", file="", bpf_dir="", objects={}, kernels=("", ""), **declared)


def said_of(section: str, libbpf: Any, *before: str) -> str:
    """The message for a program that a kernel refuses without a word: such a program has no verifier's log."""
    held: Any = type("Held", (), {"libbpf": libbpf})
    program = ProgramSpec("p", section)
    spec = spec_with(programs=[program])
    # as libbpf's format strings have it
    lines = [*before, "prog 'p': BPF program load failed: Invalid argument", "prog 'p': failed to load: -22"]
    error = load_error(held, spec, errno.EINVAL, lines, [program])
    assert isinstance(error, errors.LoadError)
    assert error.log == "\n".join(lines)
    return str(error)


def test_an_unknown_program_type_is_named() -> None:
    said = said_of("cgroup/getsockopt", _KnowsNothing())
    last = "program p is a BPF_PROG_TYPE_CGROUP_SOCKOPT, which this kernel does not know: it came with Linux 5.3"
    assert said.splitlines()[-1] == last


def test_an_attach_type_that_may_be_unknown_is_named() -> None:
    last = "program p attaches as BPF_CGROUP_INET4_GETPEERNAME, which this kernel may be too old for: it came with "
    assert said_of("cgroup/getpeername4", _KnowsAll()).splitlines()[-1] == f"{last}Linux 5.8"
    for section in ("xdp", "xdp/devmap", "tc/ingress", "sk_skb/verdict"):
        assert said_of(section, _KnowsAll()).splitlines()[-1] == "  prog 'p': failed to load: -22"


@pytest.mark.parametrize(
    ("section", "last"),
    [
        ("xdp/devmap", "is loaded for an attach type, BPF_XDP_DEVMAP, as Linux 4.17 is the first to do"),
        (
            "tc/ingress",
            'is loaded for an attach type, BPF_TCX_INGRESS, as Linux 4.17 is the first to do: write SEC("tc")',
        ),
        ("xdp", ""),
        ("sk_skb/verdict", ""),
    ],
)
def test_before_linux_4_17_a_program_is_loaded_for_no_attach_type(
    monkeypatch: pytest.MonkeyPatch, section: str, last: str
) -> None:
    monkeypatch.setattr(privileges, "linux_version", lambda: (4, 15))
    expected = f"program p {last}" if last else "  prog 'p': failed to load: -22"
    assert said_of(section, _KnowsAll()).splitlines()[-1] == expected


def test_a_declared_inner_map_on_a_kernel_that_takes_no_dots() -> None:
    libbpf = _KnowsAll()
    held: Any = type("Held", (), {"libbpf": libbpf})
    spec = spec_with(maps=[MapSpec("outer", MapOfMaps)])
    # as libbpf 1.5 says it on Linux 4.15
    lines = ["map 'outer': failed to create inner map: -22", "map 'outer': failed to create: Invalid argument(-22)"]
    said = str(load_error(held, spec, errno.EINVAL, lines, []))
    assert said.splitlines()[-1] == (
        "libbpf names the inner map of outer `outer.inner`, and before Linux 5.2 no name has a dot: turn off the map's "
        "autocreate there, or declare no inner map"
    )


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (
            "extern 'CONFIG_NEVER' (strong): not resolved",
            "This kernel's configuration does not set CONFIG_NEVER: declare it __weak",
        ),
        ("failed to open system Kconfig", f"/proc/config.gz nor /boot/config-{os.uname().release}: install that file"),
        ("extern 'variable' (strong): not resolved", ""),
    ],
)
def test_what_libbpf_misses_of_the_kernels_configuration(line: str, hint: str) -> None:
    held: Any = type("Held", (), {"libbpf": _KnowsAll()})
    spec = spec_with()
    said = str(load_error(held, spec, errno.ESRCH, [line, "failed to load object 'x'"], [])).splitlines()
    assert said[-1].endswith(hint or "failed to load object 'x'")


@pytest.mark.parametrize(
    ("refusal", "hint"),
    [
        ("invalid func unknown#125", "This kernel does not have the helper of this number in enum bpf_func_id: "),
        ("unknown func bpf_get_socket_uid#47", "This kernel lets no program of this type call the helper: "),
        ("R0 invalid mem access 'inv'", ""),
    ],
)
def test_what_the_verifier_says_of_helpers_is_explained(refusal: str, hint: str) -> None:
    """As Linux 5.4 has it."""
    held: Any = type("Held", (), {"libbpf": _LeavesOutGlobals(autocreate=True)})
    spec = spec_with()
    lines = ["prog 'p': -- BEGIN PROG LOAD LOG --", refusal, "-- END PROG LOAD LOG --"]
    said = str(load_error(held, spec, errno.EINVAL, lines, []))
    assert hint in said
    assert ("helper" in said) == bool(hint)


def test_a_kernel_that_is_locked_down_also_calls_a_helper_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux 5.10 and 6.1 have it, of bpf_probe_read_kernel()."""
    monkeypatch.setattr(privileges, "narrows_verifier", lambda: "the kernel is locked down")
    held: Any = type("Held", (), {"libbpf": _LeavesOutGlobals(autocreate=True)})
    spec = spec_with()
    lines = ["prog 'p': -- BEGIN PROG LOAD LOG --", "unknown func bpf_probe_read#4", "-- END PROG LOAD LOG --"]
    assert str(load_error(held, spec, errno.EINVAL, lines, [])).splitlines()[-1] == "the kernel is locked down"


def test_a_program_without_a_target_is_told_how_to_get_one() -> None:
    said = said_of("freplace", _KnowsAll(), "prog 'p': no BTF-based attach target is specified, use ...")
    last = "name it before the load: programs.p.set_attach_target(...) of what open() returned"
    assert said.splitlines()[-1] == last


@pytest.mark.parametrize(
    ("section", "what"),
    [
        ("uprobe.s", "may sleep, which this kernel may be too old for: it came with Linux 6.0"),
        ("fentry.s/vfs_read", "may sleep, which this kernel may be too old for: it came with Linux 5.10"),
        ("xdp.frags", "needs BPF_F_XDP_HAS_FRAGS, which this kernel may be too old for: it came with Linux 5.18"),
    ],
)
def test_a_flag_that_may_be_unknown_is_named(section: str, what: str) -> None:
    needs.host_btf()
    assert said_of(section, _KnowsAll()).splitlines()[-1] == f"program p {what}"


def test_a_type_that_cannot_be_tried_is_not_called_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """libbpf can only try a program of tracing where the kernel has BTF: elsewhere its answer is 0 in any case."""
    monkeypatch.setattr(kernel, "KERNEL_BTF", str(tmp_path / "none"))
    said = said_of("fentry/vfs_read", _KnowsNothing())
    assert "does not know" not in said
    assert "and p can't be loaded without it" in said


class _LeavesOutGlobals:
    """libbpf from 1.4 on, where the kernel has no global variables."""

    def __init__(self, *, autocreate: bool) -> None:
        self._autocreate = autocreate

    def has(self, name: str) -> bool:
        return name == "bpf_map__autocreate"

    def bpf_map__autocreate(self, _pointer: int) -> bool:
        return self._autocreate


@pytest.mark.parametrize("has_globals", [False, True])
def test_a_global_variable_where_the_kernel_has_none(*, has_globals: bool) -> None:
    """4.15 has this to say about the address of one. Newer kernels say it of other addresses, such as functions'."""
    libbpf = _LeavesOutGlobals(autocreate=has_globals)
    held: Any = type("Held", (), {"libbpf": libbpf, "find_map": lambda _: 1})
    program = ProgramSpec("p", "kprobe")
    section = SectionSpec(".bss", "bss", CStruct)
    spec = spec_with(programs=[program], sections=[section])
    lines = [
        "prog 'p': BPF program load failed: Invalid argument",
        "prog 'p': -- BEGIN PROG LOAD LOG --",
        "unrecognized bpf_ld_imm64 insn",
        "-- END PROG LOAD LOG --",
        "prog 'p': failed to load: -22",
    ]
    error = load_error(held, spec, errno.EINVAL, lines, [program])
    assert isinstance(error, errors.VerifierError)
    assert error.verifier_log.strip() == "unrecognized bpf_ld_imm64 insn"
    remedy = "The program uses a global variable, and this kernel has none: they came with Linux 5.2."
    assert (remedy in str(error)) is not has_globals


BTF_LOG = (
    "BTF loading error: -22",
    "-- BEGIN BTF LOAD LOG ---",
    "magic: 0xeb9f",
    *(f"[{n}] INT int size=4 bits_offset=0 nr_bits=32 encoding=SIGNED" for n in range(1, 40)),
    "[40] ENUM (anon) size=4 vlen=2 Invalid btf_info kind_flag",
    "-- END BTF LOAD LOG --",
)


def test_btf_that_the_kernel_does_not_need_is_not_what_went_wrong() -> None:
    """4.18 refuses kinds of BTF that came later, and libbpf goes on without."""
    ignored = "Error loading .BTF into kernel: -22. BTF is optional, ignoring."
    said = said_of("xdp", _KnowsAll(), ignored, *BTF_LOG, "something else")
    assert said.splitlines()[1:] == [
        "  something else",
        "  prog 'p': BPF program load failed: Invalid argument",
        "  prog 'p': failed to load: -22",
    ]
    said = said_of(
        "xdp", _KnowsAll(), *BTF_LOG, "Error loading .BTF into kernel: -22. BTF is mandatory, can't proceed."
    )
    assert "[40] ENUM" in said


@pytest.mark.parametrize(
    ("probed", "which"), [(0, "this kernel does not know"), (-errno.EINVAL, "this kernel may be too old for")]
)
def test_an_unknown_map_type_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probed: int, which: str) -> None:
    """The kernel answers EINVAL as for a type that it does not know, here since ring buffers have no keys."""
    needs.root_bpf()
    bpf = load_skeleton("pins", tmp_path).Pins.open()
    bpf.maps.packets.type = MAP_TYPES.index("RINGBUF")
    monkeypatch.setattr(bpf._held.libbpf, "libbpf_probe_bpf_map_type", lambda _type, _options: probed, raising=False)
    said = f"map packets is of type RINGBUF, which {which}: it came with Linux 5.8"
    with pytest.raises(errors.LoadError) as caught:
        bpf.load()
    assert str(caught.value).splitlines()[-1] == said


def test_a_map_of_a_known_type_is_refused_for_its_sizes(tmp_path: Path) -> None:
    needs.root_bpf()
    bpf = load_skeleton("pins", tmp_path).Pins.open()
    bpf.maps.packets.key_size = 8
    with pytest.raises(errors.LoadError, match=r"keys of 8 bytes.*: the kernel does not take these together$"):
        bpf.load()


def test_what_may_be_newer_than_the_kernel_is_said_of_a_map_that_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 5.5 and 5.8 the flag and the width are refused like the keys here, which no kernel takes."""
    needs.root_bpf()
    bpf = load_skeleton("pins", tmp_path).Pins.open()
    packets = bpf.maps.packets
    packets.key_size, packets.value_size = 8, 8
    libbpf = bpf._held.libbpf
    monkeypatch.setattr(libbpf, "bpf_map__map_flags", lambda _: MapFlag.MMAPABLE.value, raising=False)
    monkeypatch.setattr(libbpf, "bpf_map__type", lambda _: MAP_TYPES.index("DEVMAP"), raising=False)
    assert refused_map(libbpf, bpf._held.find_map("packets")) == (
        "of type DEVMAP, with keys of 8 bytes, values of 8 bytes, 4 for max_entries, and flags 0x400: the kernel does "
        "not take these together; BPF_F_MMAPABLE came with Linux 5.5; values of 8 bytes came with Linux 5.8"
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    needs.root_bpf()
    return make_package(BPF / "attachments.bpf.c", tmp_path_factory.mktemp("attachments"))


def test_an_attach_target_that_is_not_found(package: Package) -> None:
    code = """
        from demo.attachments_skel import Attachments, _bpf
        with Attachments.open() as bpf:
            try:
                bpf.programs.optional.set_attach_target("there_is_no_such_function")
            except _bpf.OpenError as error:
                print(error.errno, error)
    """
    start = f"{errno.ESRCH} program optional: the attach target there_is_no_such_function can't be set: ESRCH: "
    said = package.run(code).stdout
    assert said.startswith(start)
    assert said.endswith("; the kernel's BTF has no such function\n")
    said = package.run(code, prefix=HIDE_BTF).stdout
    assert said.startswith(start)
    assert "this kernel has none (/sys/kernel/btf/vmlinux is not there)" in said


def test_only_programs_that_are_loaded_need_btf(package: Package) -> None:
    code = """
        from demo.attachments_skel import Attachments, _bpf
        with Attachments.open() as bpf:
            for program in bpf.programs:
                program.autoload = False
            bpf.programs.on_xdp.autoload = True
            bpf.programs.on_xdp.set_log_level(1000)  # which no kernel takes
            try:
                bpf.load()
            except _bpf.LoadError as error:
                print(error)
    """
    said = package.run(code, prefix=HIDE_BTF).stdout
    assert "can't be loaded: EINVAL" in said
    assert "has no BTF" not in said
