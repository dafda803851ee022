"""The life of a skeleton in the running kernel: open, load, close; the BTF chosen; what goes wrong and what is said."""

from __future__ import annotations

import copy
import ctypes
import gc
import logging
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from hatch_bpf.runtime.host import kernel
from hatch_bpf.runtime.libbpf import library as libbpf_module
from hatch_bpf.runtime.libbpf import messages
from tests.common import needs, tracefs
from tests.common.skeleton_package import BPF, Package, import_skeleton, load_skeleton, make_package, skeleton_text
from tests.objects.test_model import PADDED

HIDE_BTF = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh")


@pytest.fixture(scope="module")
def attachments(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("attachments", tmp_path_factory.mktemp("attachments"))


@pytest.fixture(scope="module")
def sockrtt(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(BPF / "sockrtt.bpf.c", tmp_path_factory.mktemp("sockrtt"), events={"rtt_events": "rtt_event"})


@pytest.fixture
def minimized(sockrtt: Package, tmp_path: Path) -> bytes:
    """What bpftool makes of the running kernel's BTF for the object."""
    output = tmp_path / "min.btf"
    (built,) = sockrtt.bpf_dir.glob("*/sockrtt.bpf.o")
    command = [needs.tool("bpftool"), "gen", "min_core_btf", str(needs.host_btf()), str(output), str(built)]
    subprocess.run(command, check=True)
    return output.read_bytes()


def descriptors() -> list[str]:
    """What this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # the listing's own
    return sorted(found)


# --- phases ---------------------------------------------------------------------------------------------------------


def test_globals_set_before_the_load_are_what_the_program_sees(attachments: Any) -> None:
    tracefs.mounted()
    with attachments.Attachments.open() as bpf:
        assert str(bpf.rodata.word) == "hello"
        assert bpf.rodata_tuned.scale == 3
        assert (bpf.data.pair.a, bpf.data.pair.b) == (1, 2)
        bpf.bss.caller = os.getpid()
        bpf.rodata_tuned.scale = 100
        bpf.data.pair.a = 40
        bpf.data_odd.odd = 1
        with bpf.load() as skel:
            with skel.programs.on_tracepoint.attach():
                os.getppid()
            assert skel.bss.tracepoints == 100
            assert skel.data.pair.a == 41
            assert skel.data.table == [10, 20, 30, 40]
            assert skel.data_odd.odd == 2
            assert skel.rodata_tuned.scale == 100


def test_globals_are_live_both_ways(attachments: Any) -> None:
    tracefs.mounted()
    with attachments.Attachments.open().load() as skel, skel.programs.on_tracepoint.attach():
        skel.bss.caller = os.getpid()
        skel.bss.tracepoints = 1000
        skel.data.pair.a = 7
        os.getppid()
        assert skel.bss.tracepoints == 1003
        assert skel.data.pair.a == 8


def test_globals_without_mmap_go_through_the_map(attachments: Any) -> None:
    """Kernels before 5.5 cannot map them; taking the flag from the maps makes this kernel such a one."""
    tracefs.mounted()
    with attachments.Attachments.open() as bpf:
        held = bpf._held
        for name in (".data", ".bss"):
            assert held.libbpf.bpf_map__set_map_flags(held.find_map(name), 0) == 0
        with bpf.load() as skel, skel.programs.on_tracepoint.attach():
            skel.bss.caller = os.getpid()
            skel.bss.tracepoints = 1000
            skel.data.pair.a = 7
            skel.data.table[2] = 33
            os.getppid()
            assert skel.bss.tracepoints == 1003
            assert skel.data.pair.a == 8
            assert skel.data.pair.to_dict() == {"a": 8, "b": 2}
            assert skel.data.table == [10, 20, 33, 40]
            assert repr(skel.data.pair) == "group(a=8, b=2)"
            copied = copy.deepcopy(skel.data.pair)
            assert (type(copied), copied.a) == (attachments.group, 8)
            assert copy.copy(skel.data.table) == [10, 20, 33, 40]
            bss = skel.bss
        with pytest.raises(errors.ClosedError):
            bss.tracepoints  # noqa: B018


def test_read_only_globals_are_read_only_once_loaded(attachments: Any) -> None:
    needs.root_bpf()
    with attachments.Attachments.open().load() as skel:
        with pytest.raises(AttributeError, match=r"\.rodata\.tuned is read-only once the object is loaded"):
            skel.rodata_tuned.scale = 1
        assert skel.rodata_tuned.scale == 3


def test_static_variables_are_not_declared(attachments: Any) -> None:
    assert "hidden" not in attachments.AttachmentsBss._names_


def test_what_is_kept_of_globals_from_before_the_load_is_over_with_it(attachments: Any) -> None:
    """A value that is set there would reach no program."""
    needs.root_bpf()
    with attachments.Attachments.open() as bpf:
        kept = bpf.rodata, bpf.data, bpf.data.table
        kept[1].table[3] = 44
        with bpf.load() as skel:
            assert list(skel.data.table) == [10, 20, 30, 44]
            for use in (
                lambda: setattr(kept[0], "word", b"x"),
                lambda: kept[0].word,
                lambda: kept[1].table,
                lambda: kept[2][0],
                lambda: kept[2].__setitem__(0, 1),
            ):
                with pytest.raises(errors.ClosedError, match="the skeleton is loaded; use that of what load"):
                    use()
    with attachments.Attachments.open() as bpf:
        data = bpf.data
    with pytest.raises(errors.ClosedError, match="data: the skeleton is closed"):
        data.table = [0, 0, 0, 0]


def test_one_section_may_be_given_to_another(attachments: Any) -> None:
    with attachments.Attachments.open() as bpf, attachments.Attachments.open() as other:
        other.data.table = [1, 2, 3, 4]
        bpf.data.table = other.data.table
        assert list(bpf.data.table) == [1, 2, 3, 4]
        assert bpf.data.table == other.data.table


def test_what_was_opened_is_over_once_loaded(attachments: Any) -> None:
    needs.root_bpf()
    with attachments.Attachments.open() as bpf, bpf.load():
        with pytest.raises(errors.ClosedError, match="loaded; use rodata of what load"):
            bpf.rodata.word = b"x"
        with pytest.raises(errors.ClosedError, match="is loaded"):
            bpf.programs.on_xdp.autoload = False
        with pytest.raises(errors.ClosedError, match="is loaded already"):
            bpf.load()
        with pytest.raises(AttributeError, match="has no 'nonsense'"):
            bpf.nonsense  # noqa: B018


def test_closing_twice_is_harmless_and_use_after_close_is_an_error(attachments: Any) -> None:
    tracefs.mounted()
    bpf = attachments.Attachments.open()
    skel = bpf.load()
    link = skel.programs.on_tracepoint.attach()
    bss = skel.bss
    skel.close()
    skel.close()
    bpf.close()
    link.detach()
    assert not link.attached
    assert repr(skel) == "<AttachmentsLoaded: closed>"
    assert bss.tracepoints >= 0, "a mapping outlives the skeleton as long as somebody holds it"
    for use in (
        skel.attach,
        skel.programs.on_tracepoint.attach,
        lambda: skel.programs.on_xdp.fd,
        lambda: link.fd,
        lambda: link.pin("/sys/fs/bpf/x"),
        lambda: skel.bss,
        bpf.load,
        skel.__enter__,
    ):
        with pytest.raises(errors.ClosedError):
            use()


def test_everything_is_released(attachments: Any) -> None:
    tracefs.mounted()
    attachments.Attachments.run().close()
    before = descriptors()
    for _ in range(20):
        with attachments.Attachments.run() as skel:
            skel.programs.on_xdp.attach_xdp("lo", mode="skb")
        attachments.Attachments.open().close()
    assert descriptors() == before


def test_a_skeleton_nobody_closed_is_released_when_collected(attachments: Any) -> None:
    tracefs.mounted()
    attachments.Attachments.run().close()
    gc.collect()
    before = descriptors()
    attachments.Attachments.run()
    attachments.Attachments.open()
    gc.collect()
    assert descriptors() == before


def test_a_program_can_be_left_out(attachments: Any) -> None:
    needs.root_bpf()
    with attachments.Attachments.open() as bpf:
        assert not bpf.programs.optional.autoload, 'SEC("?...") is left out unless asked for'
        assert bpf.programs.on_xdp.autoload
        bpf.programs.on_xdp.autoload = False
        with bpf.load() as skel:
            assert not skel.programs.on_xdp.loaded
            with pytest.raises(errors.ClosedError, match="left out of the load"):
                skel.programs.on_xdp.attach_xdp("lo")


def test_run_attaches_what_says_where_to(attachments: Any) -> None:
    tracefs.mounted()
    with attachments.Attachments.run() as skel:
        assert {link.program.name for link in skel.links} == {"on_tracepoint", "on_raw_tracepoint"}
        skel.attach()
        assert len(skel.links) == 2, "what is attached is not attached again"


def test_autoattach_can_be_turned_off(attachments: Any) -> None:
    tracefs.mounted()
    with attachments.Attachments.open() as bpf:
        bpf.programs.on_raw_tracepoint.autoattach = False
        with bpf.load() as skel:
            skel.attach()
            assert [link.program.name for link in skel.links] == ["on_tracepoint"]


# --- BTF ------------------------------------------------------------------------------------------------------------

OPEN_AND_TELL = """
    from demo.sockrtt_skel import Sockrtt
    with Sockrtt.open() as bpf, bpf.load() as skel:
        print(skel.btf.source, skel.btf.kernel, skel.btf.size)
        print(skel.btf)
"""


def test_the_kernels_own_btf(sockrtt: Package) -> None:
    needs.root_bpf()
    size = needs.host_btf().stat().st_size
    assert sockrtt.run(OPEN_AND_TELL).stdout.splitlines() == [
        f"kernel {kernel.running_kernel()} {size}",
        f"the kernel's own BTF, /sys/kernel/btf/vmlinux ({size} bytes)",
    ]


def test_the_embedded_btf_where_the_kernel_has_none(sockrtt: Package, minimized: bytes) -> None:
    needs.root_bpf()
    name = str(kernel.running_kernel())
    sockrtt.embed({name: minimized, "debian/12/arm64/6.1.0-1-arm64": kernel.EMPTY_BTF})
    first, second = sockrtt.run(OPEN_AND_TELL, prefix=HIDE_BTF).stdout.splitlines()
    assert first == f"embedded {name} {len(minimized)}"
    assert second.startswith(f"the BTF embedded in the package for {name}, ")


def test_an_explicit_btf(sockrtt: Package, minimized: bytes, tmp_path: Path) -> None:
    needs.root_bpf()
    path = tmp_path / "mine.btf"
    path.write_bytes(minimized)
    code = f"""
        from demo.sockrtt_skel import Sockrtt
        with Sockrtt.open(btf={str(path)!r}) as bpf, bpf.load() as skel:
            print(skel.btf)
    """
    sockrtt.embed({})
    assert sockrtt.run(code, prefix=HIDE_BTF).stdout == (
        f"the BTF file that was asked for, {path} ({len(minimized)} bytes)\n"
    )


def test_an_explicit_btf_as_bytes(sockrtt: Package, minimized: bytes) -> None:
    needs.root_bpf()
    code = f"""
        from demo.sockrtt_skel import Sockrtt
        with Sockrtt.open(btf={minimized!r}) as bpf, bpf.load() as skel:
            print(skel.btf)
            print(skel.btf.source, skel.btf.path == "", len(skel.btf.data))
    """
    sockrtt.embed({})
    told, fields = sockrtt.run(code, prefix=HIDE_BTF).stdout.splitlines()
    assert told == f"the BTF that was given ({len(minimized)} bytes)"
    assert fields == f"explicit True {len(minimized)}"


def test_a_kernel_that_the_package_does_not_cover(sockrtt: Package, minimized: bytes) -> None:
    needs.root_bpf()
    sockrtt.embed({"debian/12/x86_64/6.1.0-1-amd64": minimized})
    code = """
        from demo.sockrtt_skel import Sockrtt, _bpf
        with Sockrtt.open() as bpf:
            try:
                bpf.load()
            except _bpf.KernelNotCoveredError as error:
                print(error)
    """
    message = sockrtt.run(code, prefix=HIDE_BTF).stdout
    assert f"looked for {kernel.running_kernel()}; it embeds 1: debian/12/x86_64/6.1.0-1-amd64" in message


def test_without_the_programs_that_need_it_no_btf_is_asked_for(sockrtt: Package) -> None:
    needs.root_bpf()
    sockrtt.embed({})
    code = """
        from demo.sockrtt_skel import Sockrtt
        with Sockrtt.open() as bpf:
            bpf.programs.watch.autoload = False
            with bpf.load() as skel:
                skel.maps.calls[1] = 2
                print(skel.btf, dict(skel.maps.calls))
    """
    assert sockrtt.run(code, prefix=HIDE_BTF).stdout == "None {1: 2}\n"


def test_an_object_without_co_re_relocations_needs_no_btf(tmp_path: Path) -> None:
    needs.root_bpf()
    package = make_package(BPF / "mapkinds.bpf.c", tmp_path)
    code = """
        from demo.mapkinds_skel import Mapkinds
        with Mapkinds.open() as bpf, bpf.load() as skel:
            print(skel.btf)
    """
    assert package.run(code).stdout == "None\n"


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_verifier_rejection(tmp_path: Path) -> None:
    needs.root_bpf()
    rejected = load_skeleton("rejected", tmp_path)
    with pytest.raises(errors.VerifierError) as caught, rejected.Rejected.open() as bpf:
        bpf.load()
    error = caught.value
    assert error.program == "careless"
    assert "the kernel rejects program careless: EACCES: Permission denied" in str(error)
    assert "invalid mem access 'map_value_or_null'" in str(error)
    assert "invalid mem access 'map_value_or_null'" in error.verifier_log
    assert "processed" in error.verifier_log.splitlines()[-1]
    assert error.verifier_log in error.log


def skeleton_of(text: str, folder: Path) -> Any:
    """The skeleton class of a program's text, behind the headers."""
    (folder / "given.bpf.c").write_text(f"#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n{text}")
    skeleton = skeleton_text(folder / "given.bpf.c", folder, runtime="hatch_bpf.runtime")
    return import_skeleton("given_skel", skeleton, folder).Given


def test_a_program_without_a_license(tmp_path: Path) -> None:
    needs.root_bpf()
    given = skeleton_of('SEC("raw_tp/sys_enter") int p(void *ctx) { return bpf_trace_printk("", 1); }', tmp_path)
    with pytest.raises(errors.VerifierError, match=r'The object says no license .* SEC\("license"\) = "GPL";'):
        given.open().load()


def test_a_map_that_the_kernel_does_not_take_is_described(tmp_path: Path) -> None:
    needs.root_bpf()
    text = (
        'struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, __u64); } sizeless SEC(".maps");'
    )
    given = skeleton_of(text, tmp_path)
    told = "map sizeless is of type HASH, with keys of 4 bytes, values of 8 bytes, 0 for max_entries, and flags 0x0"
    with pytest.raises(errors.LoadError, match=told):
        given.open().load()
    with given.open() as bpf:
        bpf.maps.sizeless.max_entries = 3
        with bpf.load() as skel:
            skel.maps.sizeless[1] = 2


def test_sizes_set_before_the_load(tmp_path: Path) -> None:
    needs.root_bpf()
    text = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, int); __type(value, long); }
	m SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 4); __uint(key_size, 4); } stacks SEC(".maps");
"""
    with skeleton_of(text, tmp_path).open() as bpf:
        bpf.maps.stacks.value_size = 8 * 40
        assert (bpf.maps.m.key_size, bpf.maps.m.value_size) == (4, 8)
        bpf.maps.m.key_size, bpf.maps.m.value_size = 2, 3
        with bpf.load() as skel:
            assert skel.maps.stacks.info().value_size == 8 * 40
            skel.maps.m[b"ab"] = b"xyz"
            assert dict(skel.maps.m) == {b"ab": b"xyz"}


def test_errors_of_libbpf_and_of_the_kernel_that_have_no_words_elsewhere() -> None:
    assert errors.reason(4005) == "LIBBPF_ERRNO__RELOC, an error of libbpf's own"
    assert errors.reason(4013) == "LIBBPF_ERRNO__NLPARSE, an error of libbpf's own"
    assert errors.reason(4014).startswith("4014: ")
    assert errors.reason(524) == "ENOTSUPP: Operation is not supported by this kernel"
    assert errors.reason(2) == "ENOENT: No such file or directory"


def test_programs_that_need_the_kernels_own_btf_are_named(tmp_path: Path) -> None:
    needs.root_bpf()
    package = make_package(BPF / "attachments.bpf.c", tmp_path)
    code = """
        from demo.attachments_skel import Attachments, _bpf
        with Attachments.open() as bpf:
            bpf.programs.optional.autoload = True
            try:
                bpf.load()
            except _bpf.LoadError as error:
                print(error)
    """
    assert (
        "(/sys/kernel/btf/vmlinux is not there), and optional can't be loaded"
        in package.run(code, prefix=HIDE_BTF).stdout
    )


def test_a_long_verifier_log_is_cut_at_its_beginning() -> None:
    lines = ["libbpf: prog 'x': -- BEGIN PROG LOAD LOG --", *(f"{i}: r0 = r1" for i in range(500)), "the reason"]
    ((program, log),) = messages.verifier_logs([*lines, "-- END PROG LOAD LOG --"])
    assert program == "x"
    assert log.splitlines()[0] == "0: r0 = r1"
    shown = errors.tail(log.splitlines(), 20)
    assert shown.splitlines()[0].strip() == "[481 earlier lines are in the exception]"
    assert shown.splitlines()[-1] == "  the reason"


def test_libbpfs_messages_go_to_logging(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    needs.root_bpf()
    rejected = load_skeleton("rejected", tmp_path)
    with caplog.at_level(logging.DEBUG, logger="libbpf"), pytest.raises(errors.VerifierError):
        rejected.Rejected.open().load()
    assert any("careless" in record.message and record.levelno == logging.WARNING for record in caplog.records)
    assert any(record.levelno == logging.DEBUG for record in caplog.records)


def test_nothing_is_printed_by_libbpf_itself(tmp_path: Path) -> None:
    needs.root_bpf()
    package = make_package(BPF / "rejected.bpf.c", tmp_path)
    code = """
        from demo.rejected_skel import Rejected, _bpf
        try:
            Rejected.open().load()
        except _bpf.VerifierError as error:
            print(len(str(error)) > 100)
    """
    result = package.run(code)
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_an_unprivileged_user_is_told_what_is_missing(sockrtt: Package) -> None:
    needs.root_bpf()
    code = """
        import os
        from demo.sockrtt_skel import Sockrtt, _bpf
        with Sockrtt.open() as bpf:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
            try:
                bpf.load()
            except _bpf.PermissionDeniedError as error:
                print(error)
    """
    assert "this process lacks CAP_BPF" in sockrtt.run(code).stdout


@pytest.mark.parametrize(
    ("machine", "remedy"),
    [("sparc64", "hatch-bpf compiles for no such machine"), ("armv7l", "Add arm to the package's `archs`")],
)
def test_a_machine_without_an_object(sockrtt: Package, machine: str, remedy: str) -> None:
    code = f"""
        import os
        from demo._bpf.runtime.libbpf import library as libbpf
        libbpf.load()
        uname = os.uname()
        os.uname = lambda: os.uname_result((*uname[:4], {machine!r}))
        from demo.sockrtt_skel import Sockrtt, _bpf
        try:
            Sockrtt.open()
        except _bpf.ArchitectureError as error:
            print(error)
    """
    told = sockrtt.run(code).stdout.replace("arm64", "x86_64")
    assert f"holds BPF objects for x86_64; this machine is {machine}. {remedy}" in told


@pytest.mark.parametrize("damage", [b"", b"\x7fELF", None], ids=["empty", "truncated", "gone"])
def test_a_damaged_object_never_reaches_libbpf(tmp_path: Path, damage: bytes | None) -> None:
    package = make_package(BPF / "rejected.bpf.c", tmp_path)
    (built,) = package.bpf_dir.glob("*/rejected.bpf.o")
    if damage is None:
        built.unlink()
    else:
        built.write_bytes(damage)
    code = """
        from demo.rejected_skel import Rejected, _bpf
        try:
            Rejected.open()
        except _bpf.PackageError as error:
            print(error)
    """
    assert "reinstall the package" in package.run(code).stdout


# --- libbpf itself --------------------------------------------------------------------------------------------------


def test_no_libbpf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(libbpf_module, "library_folders", lambda: [str(tmp_path)])
    monkeypatch.setattr(libbpf_module, "_loaded", {})
    with pytest.raises(errors.LibbpfNotFoundError) as caught:
        libbpf_module.load()
    for word in (str(tmp_path), "apt install libbpf1", "dnf install libbpf", "apk add libbpf"):
        assert word in str(caught.value)


def test_libbpf_comes_from_the_systems_own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libbpf.so.1").write_bytes(b"not a library")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert all(folder.startswith(("/usr/", "/lib")) for folder in libbpf_module.library_folders())
    assert not libbpf_module.find().startswith(str(tmp_path))


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    path = tmp_path / "libbpf.so.1"
    path.write_bytes(b"not a library")
    with pytest.raises(errors.LibbpfNotFoundError, match="cannot be loaded as libbpf"):
        libbpf_module.load(str(path))


def test_a_libbpf_that_is_too_old(tmp_path: Path) -> None:
    path = stub_library(tmp_path, "int bpf_object__load(void *object) { return 0; }")
    with pytest.raises(errors.LibbpfTooOldError, match=r"older than libbpf 0\.6"):
        libbpf_module.load(str(path))


def test_a_function_that_this_libbpf_lacks(tmp_path: Path) -> None:
    path = stub_library(
        tmp_path, "unsigned libbpf_major_version(void) { return 1; } unsigned libbpf_minor_version(void) { return 1; }"
    )
    library = libbpf_module.load(str(path))
    assert library.version == (1, 1)
    with pytest.raises(
        errors.LibbpfTooOldError, match=r"bpf_program__attach_tcx\(\) needs libbpf 1\.3 .* is libbpf 1\.1"
    ):
        library.bpf_program__attach_tcx  # noqa: B018
    assert not library.has("bpf_program__attach_tcx")


def test_libbpf_0_reports_errors_as_libbpf_1_does(tmp_path: Path) -> None:
    """By NULL and errno, and no pointer that holds an error number."""
    source = """
        unsigned libbpf_major_version(void) { return 0; }
        unsigned libbpf_minor_version(void) { return 7; }
        static int mode;
        int libbpf_set_strict_mode(int wanted) { if (wanted & ~3) return -22; mode = wanted; return 0; }
        int strict_mode(void) { return mode; }
    """
    library = libbpf_module.load(str(stub_library(tmp_path, source)))
    assert library._dll.strict_mode() == 3, "clean pointers and direct errors are asked for, whatever it knows beyond"


def stub_library(folder: Path, source: str) -> Path:
    """A library built from a few lines of C."""
    path = folder / "libstub.so"
    compiler = needs.tool("clang")
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)
    return path


def test_every_declared_function_is_in_libbpfs_header() -> None:
    """What ctypes is told of each function: as many arguments, and the same result, as the header says."""
    headers = "".join(
        Path(f"/usr/include/bpf/{name}.h").read_text()
        for name in ("libbpf", "bpf", "libbpf_legacy")
        if Path(f"/usr/include/bpf/{name}.h").exists()
    )
    if not headers:
        needs.missing("libbpf's headers are not installed")
    import re

    flat = re.sub(r"/\*.*?\*/", "", headers, flags=re.S)
    checked = 0
    for name, (_, result, arguments) in libbpf_module._FUNCTIONS.items():
        found = re.search(rf"(?:^|LIBBPF_API)([^;(){{}}]*?)\b{name}\(([^;]*?)\)\s*;", flat, flags=re.S | re.M)
        if found is None:
            continue  # newer than these headers
        parameters = [p for p in found[2].split(",") if p.strip() not in ("", "void")]
        assert len(parameters) == len(arguments), name
        assert ("*" in found[1]) == (result in (ctypes.c_void_p, ctypes.c_char_p)) or name == ("libbpf_set_print"), name
        for parameter, argument in zip(parameters, arguments, strict=True):
            is_pointer = "*" in parameter or "_fn" in parameter
            assert is_pointer == (argument not in _INTEGERS), (name, parameter)
            if "size_t" in parameter and not is_pointer:
                assert argument is ctypes.c_size_t, (name, parameter)
            if "__u64" in parameter and not is_pointer:
                assert argument is ctypes.c_uint64, (name, parameter)
        checked += 1
    assert checked > 60


_INTEGERS = (
    ctypes.c_int,
    ctypes.c_uint32,
    ctypes.c_uint64,
    ctypes.c_size_t,
    ctypes.c_bool,
)


def test_the_interpreter_may_end_with_live_links(tmp_path: Path) -> None:
    tracefs.mounted()
    package = make_package(BPF / "attachments.bpf.c", tmp_path)
    code = """
        from demo.attachments_skel import Attachments
        skel = Attachments.run()
        print(len(skel.links))
    """
    result = package.run(code)
    assert (result.stdout, result.stderr) == ("2\n", "")


def test_a_forked_child_leaves_the_parents_links_alone(attachments: Any) -> None:
    tracefs.mounted()
    with attachments.Attachments.run() as skel:
        skel.bss.caller = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                skel.close()
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        before = skel.bss.tracepoints
        os.getppid()
        assert skel.bss.tracepoints == before + 3


def test_threads_may_use_what_another_closes(attachments: Any) -> None:
    """They get `ClosedError`, or their work done; never a crash."""
    tracefs.mounted()
    for _ in range(10):
        skel = attachments.Attachments.open().load()
        failures: list[BaseException] = []

        def work(skel: Any = skel, failures: list[BaseException] = failures) -> None:
            try:
                while True:
                    with skel.programs.on_raw_tracepoint.attach():
                        assert skel.bss.tracepoints >= 0
            except errors.ClosedError:
                pass
            except BaseException as error:
                failures.append(error)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        time.sleep(0.02)
        skel.close()
        for worker in workers:
            worker.join(30)
            assert not worker.is_alive()
        assert failures == []


def test_zeros_that_clang_lists_in_the_wrong_place_are_live(tmp_path: Path) -> None:
    tracefs.mounted()
    (tmp_path / "padded.bpf.c").write_text(PADDED % "= 5")
    text = skeleton_text(tmp_path / "padded.bpf.c", tmp_path, runtime="hatch_bpf.runtime")
    with import_skeleton("padded_skel", text, tmp_path).Padded.run() as skel:
        os.getppid()
        assert skel.bss.zeros.first > 0
        assert skel.data.number > 5
