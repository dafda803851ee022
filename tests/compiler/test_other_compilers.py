"""Programs that clang does not compile: by a command that the project names, or objects that are there already."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_bpf import pipeline
from hatch_bpf.cli.main import main
from hatch_bpf.compiler.packages import compile_packages
from hatch_bpf.errors import CompileError, ConfigError, HatchBpfError, ObjectError, ToolchainError
from hatch_bpf.hatch_plugin import load_hatch_project
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.project.sources import Project, source_files
from hatch_bpf.support.context import Context
from hatch_bpf.wheel import source_tree
from tests.common import c_programs, needs
from tests.common.front_ends import FRONT_ENDS, FrontEnd
from tests.common.projects import make_project

COUNTER = """
struct {
	int (*type)[2];
	int (*max_entries)[1];
	u32 *key;
	u64 *value;
} hits SEC(".maps");
static void *(*lookup)(void *, const void *) = (void *)1;
SEC("raw_tp/sys_enter") int count(void *ctx)
{
	u32 key = 0;
	u64 *hit = lookup(&hits, &key);
	if (hit)
		*hit += 1;
	return 0;
}
"""
GCC_PROGRAM = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "only.h"

struct event {
	__u32 pid;
	char tag[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

__u32 only = ONLY;

SEC("raw_tp/sys_enter")
int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 key = 0, pid = bpf_get_current_pid_tgid() >> 32;
	struct event *event;
	__u64 *hit;

	if (pid != only)
		return 0;
	hit = bpf_map_lookup_elem(&hits, &key);
	if (hit)
		*hit += 1;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->pid = pid;
	event->tag[0] = 'g', event->tag[1] = 'c', event->tag[2] = 'c', event->tag[3] = 0;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""
GCC_FLAGS = ["-O2", "-gbtf", "-mco-re", "-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"]
RUN = """
import os
from demo.tool_skel import Tool

with Tool.open() as opened:
    opened.data.only = os.getpid()
    with opened.load() as tool:
        tool.attach()
        for _ in range(100):
            os.getppid()
        events = tool.maps.events.poll(1000)
        print(tool.maps.hits[0] >= 100, tool.data.only == os.getpid())
"""


def project_with(folder: Path, options: str, **files: str | bytes) -> Project:
    """A project whose package `demo` has these files, with _ for the dots of their names but the last."""
    root = make_project(folder, options=options, sources={})
    for name, content in files.items():
        path = root / "src" / "demo" / name.replace("_", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    project = load_hatch_project(root)
    assert project is not None
    return project


def script(folder: Path, body: str) -> Path:
    """A compiler that is a shell script."""
    path = folder / "compile.sh"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def command(*words: str, pattern: str = "src/demo/*.rs", archs: str = '["x86_64"]') -> str:
    """The options of a project with a command."""
    listed = ", ".join(f'"{word}"' for word in words)
    return f'archs = {archs}\ncommands = {{ "{pattern}" = [{listed}] }}'


def compiled(project: Project, path: str = "/usr/bin:/bin") -> dict[str, ObjectModel]:
    """The object of a project with one program, by architecture; without clang on PATH unless `path` has it."""
    (package,) = compile_packages(project.packages, project, Context(environ={"PATH": path}))
    return {arch: of_arch[0] for arch, of_arch in package.objects.items()}


def refusal(project: Project) -> HatchBpfError:
    with pytest.raises(HatchBpfError) as caught:
        compiled(project)
    return caught.value


def test_gcc_builds_a_package_that_runs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    needs.root_bpf()
    gcc = needs.tool("bpf-gcc")
    words = [gcc, *GCC_FLAGS, "-c", "{source}", "-o", "{output}"]
    options = command(*words, pattern="src/demo/*.gcc.c") + '\nkernels = ["host"]\nevents = { events = "event" }'
    project = project_with(tmp_path, options, tool_gcc_c=GCC_PROGRAM, only_h="#define ONLY 1\n")
    monkeypatch.chdir(project.root)
    assert main(["build"]) == 0
    assert main(["check"]) == 0
    assert "tool.on_enter  loads" in capfd.readouterr().out
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={"PYTHONPATH": str(project.root / "src"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True True\n", "")


def test_the_assemblers_double_offsets_are_refused(tmp_path: Path) -> None:
    """binutils 2.40 has the fault, and others may not. Where it is, bpftool's program returns another variable."""
    text = GCC_PROGRAM.replace("__u32 only = ONLY;", "__u32 other = 7, only = ONLY;").replace(
        "pid != only", "pid != only + other"
    )
    words = [needs.tool("bpf-gcc"), *GCC_FLAGS, "-c", "{source}", "-o", "{output}"]
    project = project_with(
        tmp_path, command(*words, pattern="src/demo/*.gcc.c"), tool_gcc_c=text, only_h="#define ONLY 1\n"
    )
    version = subprocess.run(["bpf-as", "--version"], capture_output=True, text=True, check=True).stdout
    if "2.40" in version.splitlines()[0]:
        assert 'give other a section of its own, SEC(".data.other")' in str(refusal(project)) or (
            'give only a section of its own, SEC(".data.only")' in str(refusal(project))
        )
    else:
        assert compiled(project)


def test_a_command_gets_source_output_and_architecture(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    for arch, endian in (("x86_64", "little"), ("s390x", "big")):
        (tmp_path / "made" / f"tool.rs.{arch}.o").write_bytes(c_programs.compile_bpf(COUNTER, endian=endian))
    body = f'test "$(pwd)" = {tmp_path}/project && cp {tmp_path}/made/"$(basename "$1")".$2.o "$3"'
    words = ("./compile.sh", "{source}", "{arch}", "{output}")
    script(tmp_path / "project", body)
    project = project_with(tmp_path / "project", command(*words, archs='["x86_64", "s390x"]'), tool_rs="")
    made = compiled(project)
    assert [(arch, model.endian, model.maps[0].name) for arch, model in made.items()] == [
        ("x86_64", "little", "hits"),
        ("s390x", "big", "hits"),
    ]
    assert project.sources[0].name == "tool"


def test_what_the_command_says_is_shown(tmp_path: Path) -> None:
    (tmp_path / "made.o").write_bytes(c_programs.compile_bpf(COUNTER))
    run = script(tmp_path / "bin", f'echo "tool.rs:3: odd" >&2; cp {tmp_path}/made.o "$1"')
    project = project_with(tmp_path / "project", command(str(run), "{output}"), tool_rs="")
    told: list[str] = []
    compile_packages(project.packages, project, Context(told.append, environ={"PATH": "/usr/bin:/bin"}))
    assert told == [f"warning: src/demo/tool.rs, by {run}:\ntool.rs:3: odd"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo wrong; exit 3", "src/demo/tool.rs does not compile for x86_64:\nwrong\n{run} ended with status 3."),
        ("kill -9 $$", "{run} was ended by signal 9."),
        ("true", "{run} ended well, and wrote no object to {{output}}: No such file or directory."),
        ('mkfifo "$1"', "wrote no object to {{output}}: it is not a regular file."),
    ],
)
def test_a_command_that_fails(tmp_path: Path, body: str, message: str) -> None:
    run = script(tmp_path / "bin", body)
    error = refusal(project_with(tmp_path / "project", command(str(run), "{output}"), tool_rs=""))
    assert isinstance(error, CompileError)
    assert message.format(run=run) in str(error)


def test_only_the_end_of_a_long_output_is_shown(tmp_path: Path) -> None:
    run = script(tmp_path / "bin", "yes | head -c 50000000; echo the reason; exit 1")
    text = str(refusal(project_with(tmp_path / "project", command(str(run), "{output}"), tool_rs="")))
    assert len(text) < 20_000
    assert f"y\ny\nthe reason\n{run} ended with status 1." in text


def test_a_compiler_that_is_not_installed(tmp_path: Path) -> None:
    error = refusal(project_with(tmp_path, command("no-such-compiler", "{output}"), tool_rs=""))
    assert isinstance(error, ToolchainError)
    assert str(error) == (
        "src/demo/tool.rs is compiled by no-such-compiler, which cannot be run: No such file or directory. Install it, "
        "or mend the option commands"
    )


def test_an_object_serves_as_it_is(tmp_path: Path) -> None:
    """Without its DWARF, for every architecture of its byte order, and with no compiler on PATH."""
    data = c_programs.compile_bpf(COUNTER)
    options = 'archs = ["x86_64", "arm64"]\nprograms = ["src/demo/*.o"]'
    project = project_with(tmp_path, options, tool_bpf_o=data)
    made = compiled(project, "/nonexistent")
    assert made["x86_64"] is made["arm64"]
    assert made["x86_64"].programs == read_object(data, path="tool.bpf.o").programs
    assert len(made["x86_64"].elf) < len(data)
    (package,) = compile_packages(project.packages, project, Context(environ={}))
    assert "src/demo/tool.bpf.o" in package.inputs


def test_an_object_for_each_architecture(tmp_path: Path) -> None:
    options = 'archs = ["x86_64", "s390x"]\nprograms = ["src/demo/tool.{arch}.bpf.o"]'
    files = {
        f"tool_{arch}_bpf_o": c_programs.compile_bpf(COUNTER, endian=endian)
        for arch, endian in (("s390x", "big"), ("x86-64", "little"))
    }
    root = make_project(tmp_path, options=options, sources={})
    for name, data in files.items():
        path = root / "src" / "demo" / name.replace("_", ".").replace("-", "_")
        path.write_bytes(data)
    project = load_hatch_project(root)
    assert project is not None
    assert {arch: model.endian for arch, model in compiled(project).items()} == {"x86_64": "little", "s390x": "big"}
    assert project.sources[0].name == "tool"
    assert [str(path) for path in source_files(project)] == [
        "src/demo/tool.s390x.bpf.o",
        "src/demo/tool.x86_64.bpf.o",
    ]


def test_an_object_can_be_linked_with_a_source(tmp_path: Path) -> None:
    needs.tool("clang")
    options = 'archs = ["x86_64"]\nlink = { both = ["src/demo/tool.bpf.o", "src/demo/more.bpf.c"] }'
    more = '#define SEC(x) __attribute__((section(x), used))\nSEC("xdp") int more(void *ctx) { return 2; }\n'
    project = project_with(
        tmp_path,
        options + '\nprograms = ["src/demo/*.bpf.*"]',
        tool_bpf_o=c_programs.compile_bpf(COUNTER),
        more_bpf_c=more,
    )
    model = compiled(project, os.environ["PATH"])["x86_64"]
    assert sorted(program.name for program in model.programs) == ["count", "more"]


def native_object(folder: Path) -> bytes:
    """An object for the CPU of this machine."""
    source, made = folder / "native.c", folder / "native.o"
    source.write_text("int f(void) { return 0; }\n")
    subprocess.run([needs.tool("clang"), "-c", str(source), "-o", str(made)], check=True)
    return made.read_bytes()


def without_btf(source: str) -> bytes:
    with_btf = c_programs.compile_bpf(source)
    assert b".BTF\0" in with_btf
    return with_btf.replace(b".BTF\0", b".XXX\0")


OLD_MAPS = 'struct { u32 a, b, c, d, e; } old SEC("maps") = { 2, 4, 4, 1 };\nSEC("xdp") int f(void *ctx) { return 2; }'
NOT_DESCRIBED = (
    'asm(".section .maps,\\"aw\\",@progbits\\n.zero 8\\n.text"); int x; SEC("xdp") int f(void *ctx) { return x; }'
)


def object_that_lacks(kind: str, folder: Path) -> bytes:
    match kind:
        case "text":
            return b"// no object\n"
        case "empty":
            return b""
        case "native":
            return native_object(folder)
        case "cut":
            return c_programs.compile_bpf(COUNTER)[:-1000]
        case "big":
            return c_programs.compile_bpf(COUNTER, endian="big")
        case "no BTF":
            return without_btf(COUNTER)
        case "old maps":
            return c_programs.compile_bpf(OLD_MAPS)
        case _:
            return c_programs.compile_bpf(NOT_DESCRIBED)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "src/demo/tool.bpf.o for x86_64: not an ELF file that can be read"),
        ("empty", "src/demo/tool.bpf.o for x86_64: not an ELF file that can be read"),
        ("native", "src/demo/tool.bpf.o for x86_64: not a BPF object: its ELF machine is EM_"),
        ("cut", "src/demo/tool.bpf.o for x86_64: not an ELF file that can be read"),
        ("big", "src/demo/tool.bpf.o for x86_64: the object is big-endian, and its architecture little-endian"),
        ("no BTF", "tool.bpf.o: has no .BTF section: it holds no program, map or global, or was compiled without -g"),
        ("old maps", "src/demo/tool.bpf.o for x86_64: its section maps has definitions as they were before libbpf 1.0"),
        ("not described", "tool.bpf.o: BTF does not describe its section .maps"),
    ],
)
def test_objects_that_lack_something(tmp_path: Path, kind: str, message: str) -> None:
    data = object_that_lacks(kind, tmp_path)
    options = 'archs = ["x86_64"]\nprograms = ["src/demo/tool.bpf.o"]'
    error = refusal(project_with(tmp_path / "project", options, tool_bpf_o=data))
    assert isinstance(error, ObjectError)
    assert message in str(error)


def test_an_object_that_refers_to_nothing(tmp_path: Path) -> None:
    """It has no relocation, and no map."""
    data = c_programs.compile_bpf('SEC("xdp") int pass(void *ctx) { return 2; }')
    assert b".rel" not in data.replace(b".rel.", b"").replace(b".rela", b"")
    options = 'archs = ["x86_64"]\nprograms = ["src/demo/tool.bpf.o"]'
    model = compiled(project_with(tmp_path, options, tool_bpf_o=data))["x86_64"]
    assert ([program.name for program in model.programs], model.maps, model.relocations) == (["pass"], (), ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('commands = { "src/demo/*.rs" = ["rustc"] }', "must say by {output} where the object goes (got ['rustc'])"),
        ('commands = { "src/demo/*.go" = ["x", "{output}"] }', "commands.'src/demo/*.go' matches no file"),
        ('commands = { "../*.rs" = ["x", "{output}"] }', "must stay inside the project"),
        (
            'commands = { "src/demo/*.rs" = ["x", "{output}"], "src/demo/tool.rs" = ["y", "{output}"] }',
            "matches src/demo/tool.rs, which another pattern gives another command",
        ),
        (
            'programs = ["src/demo/*.rs"]',
            "whose name does not end in .c or .o: let tool.hatch.build.hooks.bpf.commands",
        ),
        ('programs = ["src/demo/*.{arch}.o"]', "must be the name of an object, without wildcards, to have {arch} in"),
        ('programs = ["src/demo/tool.{arch}.c"]', "must be the name of an object, without wildcards, to have {arch}"),
        ('programs = ["../tool.{arch}.o"]', "must stay inside the project"),
        ('programs = ["src/demo/tool.{arch}.o"]', "names files that are missing: src/demo/tool.x86_64.o"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        project_with(tmp_path, f'archs = ["x86_64"]\n{options}', tool_rs="")
    assert message in str(caught.value)


def test_a_source_with_a_command_is_no_longer_clangs(tmp_path: Path) -> None:
    """Also one that a build would find by itself; the others beside it stay clang's."""
    needs.tool("clang")
    (tmp_path / "made.o").write_bytes(c_programs.compile_bpf(COUNTER))
    run = script(tmp_path / "bin", f'cp {tmp_path}/made.o "$1"')
    options = command(str(run), "{output}", pattern="src/demo/tool.bpf.c")
    plain = '__attribute__((section("xdp"), used)) int pass(void *ctx) { return 2; }\n'
    project = project_with(tmp_path / "project", options, tool_bpf_c="no C", plain_bpf_c=plain)
    (package,) = compile_packages(project.packages, project, Context())
    assert [model.programs[0].name for model in package.objects["x86_64"]] == ["pass", "count"]
    assert package.compiler.endswith(f"; {run}")


def test_only_an_sdist_ships_what_a_command_made(tmp_path: Path) -> None:
    """Nobody knows what a command reads, so that in a checkout it runs each time."""
    (tmp_path / "made.o").write_bytes(c_programs.compile_bpf(COUNTER))
    run = script(tmp_path / "bin", f'cp {tmp_path}/made.o "$1"')
    project = project_with(tmp_path / "project", command(str(run), "{output}"), tool_rs="")
    told: list[str] = []
    first = pipeline.build(project, Context(told.append, environ={"PATH": "/usr/bin:/bin"}))
    source_tree.write_to_tree(first, project)
    (tmp_path / "made.o").write_bytes(c_programs.compile_bpf(COUNTER.replace("+= 1", "+= 2")))
    second = pipeline.build(project, Context(told.append, environ={"PATH": "/usr/bin:/bin"}))
    assert [file.data for file in first.files] != [file.data for file in second.files]
    assert told[-1] == (
        "building anew what is in src/demo/_bpf: what the command for src/demo/tool.rs reads may have changed; only an "
        "sdist ships objects"
    )


@pytest.mark.parametrize(
    "front_end", [front_end for front_end in FRONT_ENDS if "sdist" in front_end.kind], ids=lambda each: each.name
)
def test_an_sdist_installs_without_the_compiler(tmp_path: Path, front_end: FrontEnd) -> None:
    (tmp_path / "made.o").write_bytes(c_programs.compile_bpf(COUNTER))
    run = script(tmp_path / "bin", f'cp {tmp_path}/made.o "$1"')
    options = command(str(run), "{output}") + '\nprograms = ["src/demo/other.o"]'
    project = make_project(
        tmp_path / "project", options=options, sources={"tool.rs": ""}, pyproject=front_end.pyproject
    )
    (project / "src" / "demo" / "other.o").write_bytes(c_programs.compile_bpf(COUNTER))
    built = front_end.build(project, tmp_path / "out")
    assert built.status == 0, built.said
    assert "taking the objects in src/demo/_bpf, which fit the sources" in built.said
    assert {"demo/tool_skel.py", "demo/other_skel.py", "demo/_bpf/x86_64/tool.bpf.o"} <= built.files.keys()
