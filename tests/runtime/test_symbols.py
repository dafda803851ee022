"""Addresses to names: as the kernel, the dynamic linker and nm name them, wherever a process has its code from."""

from __future__ import annotations

import ctypes
import lzma
import mmap
import os
import pickle
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import BuildIdFrame, FoldedStacks, Frame, Symbolizer, errors
from hatch_bpf.runtime.symbols import demangle, kernel_symbols, process_symbols, symbol_files
from hatch_bpf.runtime.symbols.elf_image import SHT_SYMTAB, ElfImage
from hatch_bpf.runtime.symbols.function_table import FunctionTable
from hatch_bpf.runtime.symbols.symbol_files import SymbolFile
from tests.common import needs
from tests.common.skeleton_package import load_skeleton

PROGRAM = """
    extern long read(int, void *, unsigned long), write(int, const void *, unsigned long);
    extern int execv(const char *, char *const *);
    #define KEPT __attribute__((noinline, used))
    static KEPT long inner(void) { char c[1]; long got = read(0, c, 1); __asm__ volatile("" ::: "memory"); return got; }
    static KEPT long outer(void) { long got = inner(); __asm__ volatile("" ::: "memory"); return got; }
    int main(int argc, char **argv) {
        void *places[] = { (void *)inner, (void *)outer };
        write(1, places, sizeof(places));
        while (outer() == 1) if (argc > 1) execv(argv[1], argv + 1);
        return 0;
    }
"""


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("symbols", tmp_path_factory.mktemp("symbols"))


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.Symbols.open() as bpf, bpf.load() as loaded:
        yield loaded


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that writes where its functions are, and then waits in them for bytes."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "waiting.c").write_text(PROGRAM)
    compile_ = [needs.tool("clang"), "-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-Wl,--build-id"]
    subprocess.run([*compile_, folder / "waiting.c", "-o", folder / "waiting"], check=True)
    return folder / "waiting"


@contextmanager
def running(command: Sequence[str | Path]) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A process of it, and the addresses of `inner` and `outer`."""
    with subprocess.Popen([*command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process, places_of(process)
        finally:
            process.kill()


def places_of(process: subprocess.Popen[bytes]) -> list[int]:
    assert process.stdout is not None
    data = process.stdout.read(16)
    return [int.from_bytes(data[at : at + 8], "little") for at in (0, 8)]


def stripped(program: Path, folder: Path) -> tuple[Path, Path]:
    """A copy without symbols, and the file that has them."""
    copy, debug = folder / "stripped", folder / "separate.debug"
    subprocess.run([needs.tool("llvm-objcopy"), "--only-keep-debug", program, debug], check=True)
    subprocess.run([needs.tool("llvm-objcopy"), "--strip-all", program, copy], check=True)
    return copy, debug


def names(command: Sequence[str | Path], symbolizer: Symbolizer | None = None) -> list[str]:
    """How the functions of a running program are named."""
    with running(command) as (process, places):
        return [(symbolizer or Symbolizer()).user(place + 3, process.pid).name for place in places]


# --- the kernel -----------------------------------------------------------------------------------------------------


def test_kernel_functions_as_the_kernel_names_them(skel: Any) -> None:
    symbolizer = Symbolizer()
    lines = [line.split() for line in Path("/proc/kallsyms").read_text().splitlines()]
    starts = [int(words[0], 16) for words in lines if words[1] in "tT" and len(words) == 3]
    chosen = random.Random(1)
    for start in chosen.sample(starts, 200):
        place = start + chosen.randrange(16)
        skel.bss.address = place
        skel.programs.name_of.test_run(bytes(64))
        frame = symbolizer.kernel(place)
        name, _, rest = str(skel.bss.text).partition("+")
        offset = int(rest.split("/")[0], 16)
        theirs = symbolizer.kernel_address(name)
        # of several names for one address either may be taken
        assert frame.offset == offset, f"{frame}, {skel.bss.text}"
        assert frame.name == name or theirs == place - offset or theirs is None
        assert (frame.module, frame.address) == ("[kernel]", place)


def test_a_function_by_its_name(skel: Any) -> None:
    del skel
    symbolizer = Symbolizer()
    place = symbolizer.kernel_address("schedule")
    assert place is not None
    assert str(symbolizer.kernel(place + 4)) == "schedule+0x4 [kernel]"
    assert symbolizer.kernel_address("no_such_function") is None
    assert symbolizer.kernel(0x1234).name == "[unknown]"


def test_bpf_programs_have_names(skeleton: Any) -> None:
    needs.root_bpf()
    symbolizer = Symbolizer()
    symbolizer.kernel_address("schedule")  # read before the program is there
    with skeleton.Symbols.open() as bpf, bpf.load():
        lines = Path("/proc/kallsyms").read_text().splitlines()
        place = next(int(line.split()[0], 16) for line in lines if line.endswith("_take_stacks\t[bpf]"))
        symbolizer.refresh_kernel()
        frame = symbolizer.kernel(place + 9)
        assert frame.name.startswith("bpf_prog_")
        assert frame.name.endswith("_take_stacks")
        assert (frame.offset, frame.module) == (9, "[bpf]")


def test_modules_and_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kallsyms"
    text = "0000 A zero\n1000 T first\n1000 t alias\n1010 T second\n2000 D data\n2100 t third\n"
    path.write_text(text + "90000 t module_one\t[mod]\n90010 d module_data\t[mod]\n")
    monkeypatch.setattr(kernel_symbols, "KALLSYMS", str(path))
    symbolizer = Symbolizer()
    found = [symbolizer.kernel(place) for place in (0xFFF, 0x100F, 0x1FFF, 0x2050, 0x2100, 0x90005, 0x90011)]
    names_ = ["[unknown]", "first", "second", "[unknown]", "third", "module_one", "[unknown]"]
    assert [frame.name for frame in found] == names_
    assert found[5].module == "[mod]"
    assert symbolizer.kernel(0x2100 + kernel_symbols.LONGEST).name == "[unknown]", "too far from any"


def test_hidden_addresses_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 T first\n0000000000000000 T second\n")
    monkeypatch.setattr(kernel_symbols, "KALLSYMS", str(path))
    with pytest.raises(
        errors.SymbolError, match=r"shows no addresses to this process: it needs CAP_SYSLOG.*kptr_restr"
    ):
        Symbolizer().kernel(1)
    path.unlink()
    with pytest.raises(errors.SymbolError, match="can't be read: No such file"):
        Symbolizer().kernel(1)


# --- processes ------------------------------------------------------------------------------------------------------


class DlInfo(ctypes.Structure):
    """`Dl_info`."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("start", ctypes.c_void_p),
    )


def test_functions_of_a_library_begin_where_the_linker_says() -> None:
    libc = ctypes.CDLL(None)
    libc.dladdr.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    symbolizer = Symbolizer()
    for name in ("malloc", "qsort", "fopen", "regexec", "getaddrinfo", "pthread_create", "strtod", "printf"):
        place = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value
        assert place is not None
        info = DlInfo()
        assert libc.dladdr(place + 2, ctypes.byref(info))
        frame = symbolizer.user(place + 2, 0)
        assert (frame.address - frame.offset, frame.offset) == (info.start, 2), (frame, info.name)
        assert os.path.samefile(frame.module, os.fsdecode(info.file or b""))


def test_every_function_of_a_program(program: Path) -> None:
    """Also its static ones; at the place where they end they are over."""
    with running([program]) as (process, (inner, outer)):
        symbolizer = Symbolizer()
        frame = symbolizer.user(inner + 5, process.pid)
        assert frame == Frame("inner", 5, str(program), inner + 5)
        assert str(frame) == "inner+0x5 [waiting]"
        assert symbolizer.user(outer, process.pid).name == "outer"
        command = [needs.tool("llvm-nm"), "-S", program]
        sizes = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        size = next(int(line.split()[1], 16) for line in sizes.splitlines() if line.endswith(" t inner"))
        assert symbolizer.user(inner + size - 1, process.pid).name == "inner"
        assert symbolizer.user(inner + size, process.pid).name != "inner"
        assert symbolizer.user(8, process.pid) == Frame("[unknown]", 8, "[unknown]", 8)
        process.kill()
        process.wait()
        time.sleep(2 * process_symbols.PAUSE)
        assert symbolizer.user(inner + 6, process.pid).name == "inner", "what was read stays"
        assert Symbolizer().user(inner, process.pid).name == "[unknown]"


@pytest.mark.parametrize(
    "options", [["-no-pie"], ["-static-pie"], ["-Wl,-z,separate-code"], ["-Wl,-z,noseparate-code"]]
)
def test_layouts(program: Path, tmp_path: Path, options: list[str]) -> None:
    command = [needs.tool("clang"), "-O1", "-fno-optimize-sibling-calls", *options, program.with_suffix(".c")]
    subprocess.run([*command, "-o", tmp_path / "other"], check=True)
    assert names([tmp_path / "other"]) == ["inner", "outer"]


def test_stripped_with_a_debug_link(program: Path, tmp_path: Path) -> None:
    copy, debug = stripped(program, tmp_path)
    assert "inner" not in names([copy])
    subprocess.run([needs.tool("llvm-objcopy"), f"--add-gnu-debuglink={debug}", copy], cwd=tmp_path, check=True)
    assert names([copy]) == ["inner", "outer"]
    (tmp_path / ".debug").mkdir()
    debug.rename(tmp_path / ".debug" / debug.name)
    assert names([copy]) == ["inner", "outer"]
    other = tmp_path / ".debug" / debug.name
    other.write_bytes(Path("/bin/true").read_bytes())
    assert "inner" not in names([copy]), "the file of another program is not believed"


def test_stripped_without_a_build_id(program: Path, tmp_path: Path) -> None:
    """Then the debug link's checksum counts."""
    plain = tmp_path / "plain"
    subprocess.run([needs.tool("llvm-objcopy"), "--remove-section=.note.gnu.build-id", program, plain], check=True)
    copy, debug = stripped(plain, tmp_path)
    subprocess.run([needs.tool("llvm-objcopy"), f"--add-gnu-debuglink={debug}", copy], cwd=tmp_path, check=True)
    assert names([copy]) == ["inner", "outer"]
    with debug.open("ab") as file:
        file.write(b"more")
    assert "inner" not in names([copy])


def test_stripped_with_a_folder_of_build_ids(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, debug = stripped(program, tmp_path)
    build_id = ElfImage(program.read_bytes()).build_id.hex()
    folder = tmp_path / "debug" / ".build-id" / build_id[:2]
    folder.mkdir(parents=True)
    debug.rename(folder / f"{build_id[2:]}.debug")
    monkeypatch.setattr(symbol_files, "DEBUG", str(tmp_path / "debug"))
    assert names([copy]) == ["inner", "outer"]


def test_stripped_with_symbols_inside(program: Path, tmp_path: Path) -> None:
    """`.gnu_debugdata`, as Fedora's packages have it."""
    copy, debug = stripped(program, tmp_path)
    (tmp_path / "packed").write_bytes(lzma.compress(debug.read_bytes()))
    add = ["--add-section", f".gnu_debugdata={tmp_path / 'packed'}"]
    subprocess.run([needs.tool("llvm-objcopy"), *add, copy], check=True)
    assert names([copy]) == ["inner", "outer"]


def test_a_deleted_file(program: Path, tmp_path: Path) -> None:
    copy = tmp_path / "deleted"
    shutil.copy2(program, copy)
    with running([copy]) as (process, places):
        copy.unlink()
        copy.write_bytes(b"something else")
        found = [Symbolizer().user(place, process.pid) for place in places]
    assert [frame.name for frame in found] == ["inner", "outer"]
    assert found[0].module == f"{copy} (deleted)"


def test_in_another_mount_namespace(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.private_mounts()
    script = 'mount -t tmpfs none "$1" && cp "$2" "$1/hidden" && exec "$1/hidden"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", tmp_path, program]
    assert names(command) == ["inner", "outer"]
    monkeypatch.setattr(process_symbols, "MAP_FILES", "nothing here")  # as for who has no right to read it
    assert names(command) == ["inner", "outer"]


def test_the_process_runs_another_program(program: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    text = program.with_suffix(".c").read_text().replace("inner", "within").replace("outer", "around")
    (tmp_path / "other.c").write_text(f"int padding[9]; void first(void) {{ padding[0]++; }}\n{text}")
    command = [needs.tool("clang"), "-O1", "-fno-optimize-sibling-calls", tmp_path / "other.c", "-o", other]
    subprocess.run(command, check=True)
    symbolizer = Symbolizer()
    with running([program, other]) as (process, (inner, _)):
        assert symbolizer.user(inner, process.pid).name == "inner"
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        within, around = places_of(process)
        time.sleep(2 * process_symbols.PAUSE)
        assert [symbolizer.user(place, process.pid).name for place in (within, around)] == ["within", "around"]


def test_libraries_that_are_loaded_later(program: Path, tmp_path: Path) -> None:
    del program
    (tmp_path / "late.c").write_text("int late(void) { return 1; }")
    command = [needs.tool("clang"), "-shared", "-fPIC", tmp_path / "late.c", "-o", tmp_path / "late.so"]
    subprocess.run(command, check=True)
    symbolizer = Symbolizer()
    symbolizer.user(1, 0)
    time.sleep(2 * process_symbols.PAUSE)
    place = ctypes.cast(ctypes.CDLL(str(tmp_path / "late.so")).late, ctypes.c_void_p).value
    assert place is not None
    assert symbolizer.user(place, 0).name == "late"


def in_file(path: Path, name: bytes) -> BuildIdFrame:
    """The third byte of a function, as a stack with build ids has it."""
    image = ElfImage(path.read_bytes())
    symbols = image.symbols(SHT_SYMTAB)
    (start,) = (value for at, _, _, value, _, strings in symbols if image.string(strings, at) == name)
    offset = image.offset_of(start)
    assert offset is not None
    return BuildIdFrame(BuildIdFrame.VALID, image.build_id.ljust(20, b"\0"), offset + 3)


def test_places_in_files_of_a_process_that_has_ended(program: Path) -> None:
    symbolizer = Symbolizer()
    with running([program]) as (process, _):
        assert symbolizer.symbolize([in_file(program, b"inner")], process.pid)[0].name == "inner"
    (frame,) = symbolizer.symbolize([in_file(program, b"outer")], process.pid)
    assert (frame.name, frame.offset, frame.module) == ("outer", 3, str(program))


@pytest.mark.parametrize("build_id", ["ab" * 19 + "00", "abcd00"])
def test_places_in_files_that_are_mapped_later(build_id: str, tmp_path: Path) -> None:
    """With build ids that end with a NUL, and that are shorter than others."""
    (tmp_path / "late.c").write_text("int late(void) { return 1; }")
    path = tmp_path / "late.so"
    command = [needs.tool("clang"), "-shared", "-fPIC", f"-Wl,--build-id=0x{build_id}", tmp_path / "late.c", "-o", path]
    subprocess.run(command, check=True)
    symbolizer = Symbolizer()
    symbolizer.user(1, 0)
    time.sleep(2 * process_symbols.PAUSE)
    ctypes.CDLL(str(path))
    (frame,) = symbolizer.symbolize([in_file(path, b"late")], 0)
    assert (frame.name, frame.offset, frame.module) == ("late", 3, str(path))


def test_the_library_that_the_kernel_maps() -> None:
    line = next(line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[vdso]"))
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    symbolizer = Symbolizer()
    found = {symbolizer.user(place, 0).name for place in range(start, end, 8)}
    assert any("clock_gettime" in name for name in found), found


def test_code_that_a_process_compiles(tmp_path: Path) -> None:
    del tmp_path
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        place = ctypes.addressof(ctypes.c_char.from_buffer(code))
        symbolizer = Symbolizer()
        assert symbolizer.user(place, 0).name == "[unknown]"
        try:
            path.write_text(f"{place:x} 10 py::first\n{place + 16:x} 10 two words\nnonsense\n{place + 32:x} 1")
            assert [symbolizer.user(place + at, 0).name for at in (0, 15, 16, 32)] == [
                *("py::first", "py::first", "two words", "[unknown]")
            ]
            with path.open("a") as file:
                file.write("0 third\n")
            assert symbolizer.user(place + 40, 0).name == "third"
        finally:
            path.unlink()


def test_files_are_read_once(program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By their identity and, for copies of one program in several containers, by their build ids."""
    read: list[str] = []

    class Counted(SymbolFile):
        def __init__(self, image: ElfImage, path: str, root: str = "") -> None:
            read.append(os.path.basename(path))
            super().__init__(image, path, root)

    monkeypatch.setattr(symbol_files, "SymbolFile", Counted)
    shutil.copy(program, tmp_path / "copy")
    symbolizer = Symbolizer()
    assert [names([path], symbolizer) for path in (program, program, tmp_path / "copy")] == [["inner", "outer"]] * 3
    assert read == ["waiting"]


# --- stacks ---------------------------------------------------------------------------------------------------------


def test_stacks_and_folded_lines(skel: Any, program: Path) -> None:
    symbolizer = Symbolizer()
    with running([program]) as (process, _):
        skel.bss.pid = process.pid
        with skel.programs.take_stacks.attach():
            assert process.stdin is not None
            process.stdin.write(b"xy")
            process.stdin.flush()
            until = time.monotonic() + 10
            while skel.data.kernel_stack == -1 and time.monotonic() < until:
                time.sleep(0.01)
        user = symbolizer.symbolize(skel.maps.stacks[skel.data.user_stack], process.pid)
        kernel = symbolizer.symbolize(skel.maps.kernel_stacks[skel.data.kernel_stack])
        by_build_id = symbolizer.symbolize(skel.maps.build_ids[skel.data.build_id_stack], process.pid)
    called = [frame.name for frame in user]
    assert called[1:3] in (["inner", "outer"], ["outer", "main"]), "a libc without frame pointers hides its caller"
    assert [(frame.name, frame.offset) for frame in by_build_id] == [(frame.name, frame.offset) for frame in user]
    assert "read" in user[0].name
    assert any("syscall" in frame.name for frame in kernel), kernel
    folded = FoldedStacks()
    for _ in range(3):
        folded.add(2, "wait;ing", user[:3], kernel[-1:])
    folded.add(1, "another")
    assert str(folded) == f"another 1\nwait:ing;{called[2]};{called[1]};{called[0]};{kernel[-1].name} 6"
    assert dict(skel.maps.stacks.items())[skel.data.user_stack] == skel.maps.stacks[skel.data.user_stack]
    assert skel.maps.stacks.get(-14, []) == []


def test_uprobes_find_stripped_functions(skel: Any, program: Path, tmp_path: Path) -> None:
    copy, debug = stripped(program, tmp_path)
    with pytest.raises(errors.AttachError, match="ENOENT"):
        skel.programs.on_call.attach_uprobe(copy, "inner")
    subprocess.run([needs.tool("llvm-objcopy"), f"--add-gnu-debuglink={debug}", copy], cwd=tmp_path, check=True)
    with skel.programs.on_call.attach_uprobe(copy, "inner"), running([copy]) as (process, _):
        assert process.stdin is not None
        process.stdin.write(b"xyz")
        process.stdin.close()
        assert process.wait(10) == 0
    assert skel.bss.hits == 4


# --- names ----------------------------------------------------------------------------------------------------------

MANGLED = {
    "main": "main",
    "_ZNSt6vectorIiSaIiEE9push_backERKi": "std::vector<int, std::allocator<int> >::push_back(int const&)",
    "_ZN4core3fmt5write17h0123456789abcdefE": "core::fmt::write",
    "_Znot a name": "_Znot a name",
}
OLD_RUST = "_ZN69_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$core..ops..drop..Drop$GT$4drop17h0123456789abcdefE"


@pytest.mark.parametrize("library", ["libbfd", "libstdc++.so.6"])
def test_names_are_readable(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [each for each in demangle._candidates() if library in each[0]]
    monkeypatch.setattr(demangle, "_candidates", lambda: iter(found))
    monkeypatch.setattr(demangle, "_demangler", demangle._demangler.__wrapped__)
    if demangle._demangler() is None:
        needs.missing(f"{library} is not installed")
    assert {name: demangle.demangled(name) for name in MANGLED} == MANGLED
    assert demangle.demangled(OLD_RUST) in (
        "<alloc::vec::Vec<T> as core::ops::drop::Drop>::drop",
        OLD_RUST,  # libbfd of binutils before 2.36
    )


@pytest.mark.parametrize(
    ("escaped", "readable"),
    [
        ("a$C$b$u2b$_$RF$c", "a,b+_&c"),
        ("$u7b$$u7d$", "{}"),
        ("_$LT$impl$u20$core..fmt", "<impl core::fmt"),
        *(
            (text, text)
            for text in ("$u110000$", "$uffffff$", "$uffffffffffffffffff$", "$ud800$", "$u1b$", "$XX$", "$")
        ),
    ],
)
def test_escapes_of_older_rust(escaped: str, readable: str) -> None:
    """A program may have any names: an escape of what is no character, or does not print, stays as it is."""
    assert demangle._without_hash(f"{escaped}::h0123456789abcdef") == readable


def test_without_a_library_names_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demangle, "_demangler", lambda: None)
    assert demangle.demangled(next(name for name in MANGLED if name.startswith("_Z"))).startswith("_Z")


def test_names_of_a_program_in_cpp(tmp_path: Path) -> None:
    text = PROGRAM.replace("extern", 'extern "C"').replace(", write(", '; extern "C" long write(')
    source = tmp_path / "waiting.cc"
    source.write_text(text)
    command = [needs.tool("clang"), "-O1", "-fno-optimize-sibling-calls", source, "-o", tmp_path / "cpp"]
    subprocess.run(command, check=True)
    assert names([tmp_path / "cpp"], Symbolizer(demangle=False)) == ["_ZL5innerv", "_ZL5outerv"]
    assert names([tmp_path / "cpp"]) in (["inner()", "outer()"], ["_ZL5innerv", "_ZL5outerv"])


# --- tables ---------------------------------------------------------------------------------------------------------


def test_a_function_inside_another() -> None:
    chosen = random.Random(5)
    for _ in range(200):
        starts = sorted(chosen.sample(range(60), chosen.randrange(1, 12)))
        functions = [(start, start + chosen.randrange(1, 25), str(start)) for start in starts]
        table = FunctionTable(functions)
        for place in range(-1, 90):
            around = [(start, name) for start, end, name in functions if start <= place < end]
            nested = table.find(place)
            if not around:
                assert nested is None
            elif len(around) == 1:
                assert nested == (around[0][1], around[0][0])
            else:
                assert nested is not None
                assert (nested[1], nested[0]) in around


@pytest.mark.parametrize("first", [0, 0xFFFFFFFF81000000, (1 << 64) - 5000])
def test_every_address_near_a_function(first: int) -> None:
    """Functions that lie far apart, or reach beyond the last address, are found as well as close ones."""
    functions = [(first, first + 10, "one"), (first + 10, first + 4000, "two"), (first + 4900, 1 << 65, "three")]
    functions += [(1 << 47, (1 << 47) + 3, "far")] if not first else []
    table = FunctionTable(sorted(functions))
    for start, end, name in functions:
        last = min(end, (1 << 64) - 1) - 1
        assert [table.find(place) for place in (start, last)] == [(name, start)] * 2
    assert table.find(first + 4900) == ("three", first + 4900)
    nowhere = [-1, first - 1, first + 4000, first + 4899, (1 << 64) - 1, 1 << 70]
    assert [table.find(place) for place in nowhere] == [None] * len(nowhere)
    assert FunctionTable(()).find(0) is None


def test_damaged_files_are_refused(program: Path) -> None:
    data = program.read_bytes()
    chosen = random.Random(7)
    headers = [*range(64), *range(len(data) - 64 * 40, len(data))]
    for _ in range(300):
        damaged = bytearray(data[: chosen.choice([len(data), chosen.randrange(len(data))])])
        for _ in range(chosen.randrange(1, 20)):
            at = chosen.choice(headers) if chosen.random() < 0.8 else chosen.randrange(len(data))
            if at < len(damaged):
                damaged[at] = chosen.randrange(256)
        try:
            image = ElfImage(bytes(damaged))
            image.debug_link  # noqa: B018
            file = SymbolFile(image, "/nowhere")
        except ValueError as error:
            assert str(error) in ("not an ELF file", "a damaged ELF file")  # noqa: PT017
        else:
            for place in (0, 0x1000, 0x1100, 1 << 63):
                file.bias(place)
                file.functions.find(place)


def test_forged_tables_take_no_time() -> None:
    """Sections by the thousand that all are the whole file, as symbols and as their names."""
    size, count = 1 << 20, 60000
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("=2HI3QI6H", 3, 62, 1, 0, 64, 64, 0, 64, 56, 0, 0, count, 0)
    section = struct.pack("=2I4Q2I2Q", 0, SHT_SYMTAB, 0, 0, 0, size, 0, 0, 1, 24)
    data = (header + section).ljust(size, b"\x22")
    start = time.process_time()
    with pytest.raises(ValueError, match="damaged"):
        SymbolFile(ElfImage(data), "/nowhere")
    assert time.process_time() - start < 10


def test_32_bit_files(tmp_path: Path) -> None:
    (tmp_path / "small.c").write_text("int first(void) { return 1; } static int second(void) { return 2; } int x = 1;")
    built = tmp_path / "small.o"
    command = [needs.tool("clang"), "-m32", "-c", "-O1", tmp_path / "small.c", "-o", built]
    subprocess.run(command, check=True)
    image = ElfImage(built.read_bytes())
    found = {image.string(strings, at) for at, _, _, _, _, strings in image.symbols(SHT_SYMTAB)}
    assert image.bits == 32
    assert {b"first", b"x"} <= found


def test_frames_are_plain_data() -> None:
    frame = Frame("name", 4, "/lib/libc.so.6", 0x1004)
    assert pickle.loads(pickle.dumps(frame)) == frame
    assert tuple(frame) == ("name", 4, "/lib/libc.so.6", 0x1004)
    assert frame.is_known
    assert repr(frame) == "Frame(name='name', offset=0x4, module='/lib/libc.so.6', address=0x1004)"
    assert not Frame("[unknown]", 0, "[unknown]", 0).is_known
