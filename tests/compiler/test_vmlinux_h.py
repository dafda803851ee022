"""vmlinux.h for programs: its sources, what pruning keeps, and that programs compile to the same with less."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from hatch_bpf import arch
from hatch_bpf.btf.c_dump import dump_c
from hatch_bpf.btf.reader import Btf
from hatch_bpf.cli import main
from hatch_bpf.cli.common import load_project
from hatch_bpf.compiler.clang import compile_source
from hatch_bpf.compiler.identifiers import names_in
from hatch_bpf.compiler.packages import compile_packages
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.compiler.vmlinux_h import HeaderFile, KernelHeader, find_header, versions
from hatch_bpf.core_relo.spec import parse_spec
from hatch_bpf.errors import CompileError, HatchBpfError, KernelError
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.support.context import Context
from hatch_bpf.support.store import CACHE_VARIABLE, Store
from tests.common import kernel_btfs, needs
from tests.common.btf_builder import RawBtf
from tests.common.projects import KERNELS, build_wheel, make_project, pip_wheel, wheel_files

PROGRAMS = Path(__file__).parents[1] / "bpf" / "vmlinux"
KERNEL = "debian/12/x86_64/6.1.0-50-cloud-amd64"
EVERY = ("opens.bpf.c", "slowrun.bpf.c", "tcpstate.bpf.c")
ARM = "debian/12/arm64/6.1.0-50-cloud-arm64"


def header(raw: RawBtf) -> KernelHeader:
    return KernelHeader(Path("kernel.btf"), raw.build(), "kernel.btf")


def defined(text: str) -> set[str]:
    """What a header defines, and what it only declares (`struct s;`)."""
    tags = re.findall(r"^((?:struct|union|enum) \w+(?= \{)|(?:struct|union) \w+;)", text, re.MULTILINE)
    return {*tags, *re.findall(r"^typedef .*?(\w+)(?:\[\d+\])?;$", text, re.MULTILINE)}


def compiled(source: str, text: str, folder: Path, target: arch.Arch) -> ObjectModel:
    made = compile_source(
        PurePosixPath(source),
        root=folder,
        arch=target,
        toolchain=find_toolchain(),
        cflags=(),
        environ=dict(os.environ),
        headers=[text],
    )
    return read_object(made.data, path=source)


def relocations(model: ObjectModel) -> list[tuple[object, ...]]:
    """Each relocation by its spec, without the id of the type, which counts what else there is."""
    return [
        (section, relo.insn_off, relo.kind, re.sub(r"\[\d+\]", "", str(parse_spec(model.btf, relo))))
        for section, relo in model.core_relos
    ]


# --- the same programs


@pytest.mark.thorough
@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES if kernel_btfs.FULL else kernel_btfs.EXAMPLES[::3])
@pytest.mark.parametrize("program", sorted(path.name for path in PROGRAMS.glob("*.bpf.c")))
def test_pruning_changes_no_program(program: str, kernel: str) -> None:
    needs.tool("clang")
    made_of = KernelHeader(Path(kernel), kernel_btfs.read(kernel), kernel)
    target = arch.ARCHES[kernel.split("/")[2]]
    includes = find_toolchain().includes
    names = names_in(PROGRAMS / program, root=PROGRAMS, cflags=(), system_includes=includes)
    assert names.includes_header
    whole, pruned = made_of.whole(), made_of.pruned(names.names)
    assert len(pruned) < len(whole) / 15
    first, second = (compiled(program, text, PROGRAMS, target) for text in (whole, pruned))
    assert [function.insns for function in first.functions] == [function.insns for function in second.functions]
    assert relocations(first) == relocations(second)
    assert len(relocations(first)) >= 7


# --- what is kept


def linked() -> tuple[RawBtf, int]:
    """Structs that point to each other: a -> b -> c, and d with no link."""
    raw = RawBtf()
    number = raw.integer()
    a, to_b, b, to_c, c = 2, 3, 4, 5, 6
    assert raw.struct("a", 24, ("to_b", to_b, 0), ("held", 8, 64), ("number", number, 128)) == a
    assert (raw.ptr(b), raw.struct("b", 8, ("to_c", to_c, 0))) == (to_b, b)
    assert (raw.ptr(c), raw.struct("c", 8, ("number", number, 0), ("end", number, 32))) == (to_c, c)
    raw.struct("d", 4, ("number", number, 0))
    raw.struct("held", 8, ("to_c", to_c, 0))
    return raw, number


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ({"a"}, {"struct a", "struct held", "struct b;", "struct c;"}),
        ({"a", "to_b"}, {"struct a", "struct held", "struct b", "struct b;", "struct c;"}),
        ({"a", "to_b", "to_c"}, {"struct a", "struct held", "struct b", "struct b;", "struct c", "struct c;"}),
        ({"d", "to_b"}, {"struct d"}),
        ({"unknown"}, set()),
    ],
)
def test_members_that_are_named_lead_on(names: set[str], kept: set[str]) -> None:
    assert defined(header(linked()[0]).pruned(names)) == kept


def test_typedefs_enumerators_and_forward_declarations_are_kept_by_name() -> None:
    raw, number = linked()
    raw.typedef("d_ptr", raw.ptr(7))
    raw.enum("named", ONE=1)
    raw.enum("", TWO=2)
    raw.fwd("unknown")
    made = header(raw)
    assert defined(made.pruned({"d_ptr"})) == {"struct d", "d_ptr"}
    assert defined(made.pruned({"ONE"})) == {"enum named"}
    assert "enum {\n\tTWO = 2,\n};" in made.pruned({"TWO"})
    assert defined(made.pruned({"unknown"})) == {"struct unknown;"}
    raw.typedef("u8", number)
    raw.typedef("u8", number)
    assert defined(header(raw).pruned({"u8"})) == {"u8", "u8___2"}


def test_a_name_of_two_types_is_not_pruned() -> None:
    raw, number = linked()
    raw.struct("c", 4, ("number", number, 0))
    made = header(raw)
    assert made.pruned({"c"}) == made.whole()
    assert made.pruned({"a"}) != made.whole()


def test_what_a_source_names(tmp_path: Path) -> None:
    project, system = tmp_path / "project", tmp_path / "system"
    (project / "include").mkdir(parents=True)
    (system / "bpf").mkdir(parents=True)
    (project / "include" / "own.h").write_text('#include "own.h"\nstruct from_own;\n')
    (system / "bpf" / "defs.h").write_text(
        "struct only_declared;\nlong helper(struct only_declared *, __u32);\n"
        "#define CAST(x) \\\n\t((struct only_in_macro *)x)\nstruct only_in_macro;\n"
    )
    source = project / "p.bpf.c"
    source.write_text(
        '#include "vmlinux.h"\n#include <bpf/defs.h>\n#include "own.h"\n#include <nowhere.h>\n'
        '/* in_comment */ int used; // in_line "\nchar *s = "in_string // still";\nint after;\n'
    )
    found = names_in(source, root=project, cflags=("-Iinclude", "-DTYPE=by_flag"), system_includes=[system])
    assert found.includes_header
    assert {"used", "after", "helper", "__u32", "only_in_macro", "from_own", "by_flag"} <= found.names
    assert not found.names & {"in_comment", "in_line", "in_string", "still", "only_declared"}
    apart = names_in(source, root=project, cflags=("-iquote", "include", "-I"), system_includes=[system])
    assert apart.names >= {"helper", "from_own"}
    (project / "vmlinux.h").write_text("struct its_own;\n")
    found = names_in(source, root=project, cflags=(), system_includes=[])
    assert not found.includes_header
    assert "its_own" in found.names


# --- sources


def test_every_form_of_source(tmp_path: Path) -> None:
    raw = kernel_btfs.read(KERNEL)
    (tmp_path / "kernel.btf").write_bytes(raw)
    (tmp_path / "own.h").write_text("struct s {};\n")
    archived = next(path for path in KERNELS.glob(KERNEL + "*"))
    for source in ("kernel.btf", str(tmp_path / "kernel.btf"), str(archived), KERNEL):
        found = find_header(source, root=tmp_path, archive=KERNELS)
        assert isinstance(found, KernelHeader)
        assert found.data == raw
    assert find_header("own.h", root=tmp_path, archive=None) == HeaderFile(tmp_path / "own.h")
    host = find_header("host", root=tmp_path, archive=None) if needs.host_btf() else None
    assert host is not None
    assert host.path == needs.HOST_BTF


def test_a_header_is_included_whole(tmp_path: Path) -> None:
    path = tmp_path / "own.h"
    assert list(versions(HeaderFile(path), {"a"})) == [f'#include "{path}"\n']


def test_a_source_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(KernelError) as caught:
        find_header("debian/12/x86_64/1.0", root=tmp_path, archive=KERNELS)
    assert str(caught.value) == (
        f'vmlinux.h cannot be made of "debian/12/x86_64/1.0": {tmp_path}/debian/12/x86_64/1.0 is not a file, nor is it '
        f"a kernel of the archive {KERNELS}. Name a raw BTF, a vmlinux or vmlinuz, a kernel package, a kernel of "
        'btf-archive as distro/version/arch/release, a header, or "host"'
    )
    (tmp_path / "text.btf").write_text("no BTF")
    for source in ("text.btf", ".", "nothing.h"):
        with pytest.raises(HatchBpfError):
            find_header(source, root=tmp_path, archive=None)


# --- in a build

PASTED = """\
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define TASK(suffix) struct task_##suffix

SEC("raw_tp/sched_switch")
int on_switch(u64 *ctx)
{
	return ((TASK(struct) *)ctx[1])->pid;
}

char LICENSE[] SEC("license") = "GPL";
"""


def options(archs: str, source: str) -> str:
    return f'archs = {archs}\nbtf-archive = "kernels"\nvmlinux-h = {source}\n'


def project(folder: Path, archs: str, source: str, programs: tuple[str, ...] = ("slowrun.bpf.c",)) -> Path:
    needs.tool("clang")
    made = make_project(
        folder, options=options(archs, source), sources={name: (PROGRAMS / name).read_text() for name in programs}
    )
    shutil.copytree(KERNELS, made / "kernels")
    return made


def test_wheels_have_the_same_bytes_wherever_they_are_built(tmp_path: Path) -> None:
    source = f'{{ x86_64 = "{KERNEL}", arm64 = "{ARM}" }}'
    made = [
        build_wheel(project(tmp_path / name, '["x86_64", "arm64"]', source), tmp_path / f"{name}-out") for name in "ab"
    ]
    first, second = (wheel_files(wheel) for wheel in made)
    assert first == second
    objects = {name: data for name, data in first.items() if name.endswith(".bpf.o")}
    assert len(objects) == 2
    for data in objects.values():
        assert b"hatch-bpf-" not in data
        assert str(tmp_path).encode() not in data
    # each architecture has its own kernel's types
    assert len(set(objects.values())) == 2


def test_a_program_that_pastes_names_gets_the_whole_header(tmp_path: Path) -> None:
    needs.tool("clang")
    made_of = KernelHeader(Path(KERNEL), kernel_btfs.read(KERNEL), KERNEL)
    (tmp_path / "p.bpf.c").write_text(PASTED)
    names = names_in(tmp_path / "p.bpf.c", root=tmp_path, cflags=(), system_includes=find_toolchain().includes)
    texts = list(versions(made_of, names.names))
    with pytest.raises(CompileError, match="incomplete definition of type 'struct task_struct'"):
        compiled("p.bpf.c", texts[0], tmp_path, arch.X86_64)
    assert texts[1] == dump_c(Btf(made_of.data))
    folder = make_project(tmp_path / "p", options=options('["x86_64"]', f'"{KERNEL}"'), sources={"p.bpf.c": PASTED})
    shutil.copytree(KERNELS, folder / "kernels")
    assert "demo/_bpf/x86_64/p.bpf.o" in wheel_files(build_wheel(folder, tmp_path / "out"))


def test_the_option_is_named_where_it_misses(tmp_path: Path) -> None:
    needs.tool("clang")
    folder = make_project(tmp_path / "p", sources={"p.bpf.c": PASTED})
    done = pip_wheel(folder, tmp_path / "out")
    assert done.returncode != 0
    assert "'vmlinux.h' file not found" in done.stdout
    assert "The option vmlinux-h makes vmlinux.h of a kernel's BTF." in done.stdout


def test_a_source_that_is_nowhere_stops_the_build(tmp_path: Path) -> None:
    done = pip_wheel(project(tmp_path / "p", '["x86_64"]', '"nothing.btf"'), tmp_path / "out")
    assert done.returncode != 0
    assert 'vmlinux.h cannot be made of "nothing.btf"' in done.stdout
    assert "Traceback" not in done.stdout


# --- on the command line


def test_the_command_writes_whole_and_pruned_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needs.tool("clang")
    monkeypatch.setenv("BTFHUB_ARCHIVE", str(KERNELS))
    assert main.main(["vmlinux-h", KERNEL]) == 0
    whole, errors = capsys.readouterr()
    assert (whole, errors) == (dump_c(Btf(kernel_btfs.read(KERNEL))), "")
    out = tmp_path / "vmlinux.h"
    assert main.main(["vmlinux-h", KERNEL, "--prune", str(PROGRAMS / "slowrun.bpf.c"), "-o", str(out)]) == 0
    assert capsys.readouterr() == ("", "")
    text = out.read_text()
    assert len(text) < len(whole) / 15
    assert "struct task_struct {" in text


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["vmlinux-h", "nothing.btf"]) == 1
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith('hatch-bpf: vmlinux.h cannot be made of "nothing.btf"')
    assert main.main(["vmlinux-h", str(next(KERNELS.glob(KERNEL + "*"))), "--prune", "nothing.c"]) == 1
    assert capsys.readouterr().err == "hatch-bpf: nothing.c is not a file: let --prune name program sources\n"


# --- kept between builds


def test_what_was_made_once_is_read_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, names, store = kernel_btfs.read(KERNEL), {"task_struct", "mm", "BPF_ANY"}, Store(tmp_path)

    def texts(names: set[str], kept: Store | None) -> tuple[str, str]:
        made = KernelHeader(Path(KERNEL), data, KERNEL, kept)
        return made.pruned(names), made.whole()

    first = texts(names, store)
    assert first == texts(names, None)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes() + b"damaged")
    assert first == texts(names, store)
    with monkeypatch.context() as patch:
        patch.setattr(Btf, "__init__", no_btf)
        assert first == texts(names, store)
        for others in (names | {"sk_buff"}, {"whole"}, set[str]()):
            with pytest.raises(AssertionError, match="read again"):
                texts(others, store)
    assert texts({"whole"}, store) == texts({"whole"}, None)


def no_btf(*_: object, **__: object) -> None:
    raise AssertionError("the kernel's BTF is read again")


def test_another_kernel_gives_another_header(tmp_path: Path) -> None:
    store, texts = Store(tmp_path), []
    for members in (("a",), ("a", "b")):
        raw = RawBtf()
        number = raw.integer()
        raw.struct("s", 4 * len(members), *((name, number, 32 * at) for at, name in enumerate(members)))
        texts.append(KernelHeader(Path("kernel.btf"), raw.build(), "kernel.btf", store).whole())
    assert ["int b;" in text for text in texts] == [False, True]


def test_a_build_keeps_its_header(tmp_path: Path) -> None:
    made, cache = project(tmp_path / "p", '["x86_64"]', f'"{KERNEL}"'), tmp_path / "cache"
    environ = {**os.environ, CACHE_VARIABLE: str(cache)}
    loaded = load_project(made)
    objects = [compile_packages(loaded.packages, loaded, Context(environ=environ))[0].objects]
    (kept,) = [path for path in (cache / "results" / "vmlinux-h").rglob("*") if path.is_file()]
    objects.append(compile_packages(loaded.packages, loaded, Context(environ=environ))[0].objects)
    kept.unlink()
    objects.append(compile_packages(loaded.packages, loaded, Context(environ=environ))[0].objects)
    assert len({of["x86_64"][0].elf for of in objects}) == 1
    assert kept.is_file()


# --- for editors


@pytest.mark.parametrize("source", ["kernel", "header"])
def test_editors_find_the_header_that_a_build_makes(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    made = project(tmp_path / "p", '["x86_64", "arm64"]', f'"{KERNEL if source == "kernel" else "types/own.h"}"', EVERY)
    shutil.copy(PROGRAMS / "tcpstate.h", made / "src" / "demo")
    (made / "types").mkdir()
    (made / "types" / "own.h").write_text(KernelHeader(Path(), kernel_btfs.read(KERNEL), KERNEL).whole())
    assert main.main(["compile-commands", str(made)]) == 0
    entries = json.loads((made / "compile_commands.json").read_text())
    assert [entry["file"] for entry in entries] == sorted(f"src/demo/{name}" for name in EVERY)
    for entry in entries:
        subprocess.run([*entry["arguments"], "-fsyntax-only"], cwd=entry["directory"], check=True)
    # nothing but the file that was asked for is written to the project
    assert list(made.rglob("vmlinux.h")) == []


def test_editors_find_a_header_of_the_programs_own_where_it_is(tmp_path: Path) -> None:
    made = project(tmp_path / "p", '["x86_64"]', f'"{KERNEL}"')
    (made / "src" / "demo" / "vmlinux.h").write_text(KernelHeader(Path(), kernel_btfs.read(KERNEL), KERNEL).whole())
    assert main.main(["compile-commands", str(made)]) == 0
    (entry,) = json.loads((made / "compile_commands.json").read_text())
    folders = [Path(entry["arguments"][at + 1]) for at, flag in enumerate(entry["arguments"]) if flag == "-isystem"]
    assert not [folder for folder in folders if (folder / "vmlinux.h").exists()]
    subprocess.run([*entry["arguments"], "-fsyntax-only"], cwd=entry["directory"], check=True)


# --- kfuncs


def with_kfuncs() -> RawBtf:
    """A kernel with three kfuncs, one of which has the name of a typedef, and a function that is none."""
    raw = RawBtf()
    number = raw.integer()
    task = raw.ptr(raw.struct("task", 4, ("pid", number, 0)))
    hidden = raw.ptr(raw.fwd("hidden"))
    for name, proto in (
        ("bpf_task_from_pid", raw.func_proto(task, ("pid", number))),
        ("bpf_hide", raw.func_proto(0, ("what", hidden), ("", 0))),
        ("taken", raw.func_proto(0)),
    ):
        raw.decl_tag("bpf_kfunc", raw.func(name, proto))
    raw.func("schedule", raw.func_proto(0))
    raw.typedef("taken", number)
    return raw


def declared_kfuncs(text: str) -> list[str]:
    return re.findall(r"^extern .* __weak __ksym;$", text, re.MULTILINE)


def test_kfuncs_are_declared_as_bpftool_declares_them() -> None:
    made_of = header(with_kfuncs())
    from_pid = "extern struct task *bpf_task_from_pid(int pid) __weak __ksym;"
    assert declared_kfuncs(made_of.whole()) == [
        from_pid,
        "extern void bpf_hide(struct hidden *what, ...) __weak __ksym;",
    ]
    pruned = made_of.pruned({"bpf_task_from_pid", "pid"})
    assert declared_kfuncs(pruned) == [from_pid]
    assert defined(pruned) == {"struct task"}
    assert declared_kfuncs(made_of.pruned({"task"})) == []


CALLS_KFUNCS = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
SEC("syscall") int find(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(1);
	if (task)
		bpf_task_release(task);
	return 0;
}
"""


@pytest.mark.parametrize("is_pruned", [True, False])
def test_the_running_kernel_takes_calls_of_kfuncs_that_a_header_declares(tmp_path: Path, is_pruned: bool) -> None:
    needs.tool("clang")
    libbpf = needs.libbpf()
    made_of = find_header("host", root=tmp_path, archive=None)
    if "bpf_task_from_pid" not in made_of.whole():
        needs.missing("the kernel's BTF tags no kfuncs: it was made by a pahole before 1.27")
    source = tmp_path / "find.bpf.c"
    source.write_text(CALLS_KFUNCS)
    names = names_in(source, root=tmp_path, cflags=(), system_includes=find_toolchain().includes)
    machine = arch.build_machine()
    assert machine is not None
    model = compiled(source.name, made_of.pruned(names.names) if is_pruned else made_of.whole(), tmp_path, machine)
    assert [str(failed) for failed in libbpf.load_each(model.elf) if failed.error] == []
