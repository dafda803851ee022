"""Compiling: the same bytes wherever the project lies, and clang's own words when it refuses."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path, PurePosixPath

import pytest
from elftools.elf.elffile import ELFFile

from hatch_bpf import arch
from hatch_bpf.compiler.clang import CompiledObject, compile_source
from hatch_bpf.compiler.packages import compile_packages
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.errors import CompileError, ToolchainError
from hatch_bpf.hatch_plugin import load_hatch_project
from hatch_bpf.objects.model import read_object
from hatch_bpf.support.context import Context
from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from tests.common import needs
from tests.common.projects import PROGRAM, make_project
from tests.common.skeleton_package import BPF


def compile_text(
    root: Path, text: str, *, arch: arch.Arch = arch.X86_64, cflags: tuple[str, ...] = ()
) -> CompiledObject:
    needs.tool("clang")
    source = PurePosixPath("src/prog.bpf.c")
    (root / source).parent.mkdir(parents=True, exist_ok=True)
    (root / source).write_text(text)
    return compile_source(
        source, root=root, arch=arch, toolchain=find_toolchain(), cflags=cflags, environ=dict(os.environ)
    )


def test_the_object_does_not_depend_on_where_it_was_built(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "some where else" / "deeper"
    one, two = compile_text(first, PROGRAM), compile_text(second, PROGRAM)
    assert one.data == two.data
    assert str(tmp_path).encode() not in one.data
    lines = read_object(one.data, path="prog.bpf.o").ext.lines["raw_tp/sched_switch"]
    assert {lines[number].file for number in range(len(lines))} == {"./src/prog.bpf.c"}


def test_libbpfs_headers_are_our_own_wherever_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may have another version. Those in a project's own virtual environment are no files of the project."""
    installed = OWN_LIBBPF / "include"
    assert find_toolchain().own_includes == (installed,)
    text = (BPF / "usdt.bpf.c").read_text()
    objects = [compile_text(tmp_path / "project", text)]
    copy = tmp_path / "project" / ".venv" / "hatch_bpf"
    shutil.copytree(installed, copy / "include")
    monkeypatch.setattr("hatch_bpf.compiler.toolchain.OWN_LIBBPF", copy)
    objects.append(compile_text(tmp_path / "project", text))
    assert objects[0].data == objects[1].data
    tables = read_object(objects[0].data, path="prog.bpf.o").ext.lines.values()
    files = {lines[number].file for lines in tables for number in range(len(lines))}
    assert {"./src/prog.bpf.c", "./libbpf/bpf/usdt.bpf.h"} <= files
    assert objects[1].dependencies == (PurePosixPath("src/prog.bpf.c"),)
    with (copy / "include" / "bpf" / "bpf_helpers.h").open("a") as header:
        header.write("#error it was read\n")
    with pytest.raises(CompileError, match="it was read"):
        compile_text(tmp_path / "project", text)


def test_a_projects_own_copy_of_libbpfs_headers_comes_first(tmp_path: Path) -> None:
    header = tmp_path / "include" / "bpf" / "bpf_helpers.h"
    header.parent.mkdir(parents=True)
    header.write_text("#error it was read\n")
    with pytest.raises(CompileError, match="it was read"):
        compile_text(tmp_path, PROGRAM, cflags=("-Iinclude",))


def test_btf_is_kept_and_dwarf_is_not(tmp_path: Path) -> None:
    data = compile_text(tmp_path, PROGRAM).data
    assert [relo.access_str for _, relo in read_object(data, path="prog.bpf.o").core_relos] == ["0:0"]
    names = {section.name for section in ELFFile(io.BytesIO(data)).iter_sections()}
    assert {".BTF", ".BTF.ext"} < names
    assert not [name for name in names if "debug" in name or name == ".eh_frame"]


@pytest.mark.parametrize("name", ["x86_64", "arm64", "s390x"])
def test_each_architecture_is_told_apart(tmp_path: Path, name: str) -> None:
    target = arch.ARCHES[name]
    text = f"#ifndef __TARGET_ARCH_{target.target_macro}\n#error wrong target\n#endif\n" + PROGRAM
    model = read_object(compile_text(tmp_path, text, arch=target).data, path="prog.bpf.o")
    assert model.endian == target.endian


@pytest.mark.parametrize(("more", "is_one"), [("", True), ("#ifdef __TARGET_ARCH_x86\nint number = 1;\n#endif", False)])
def test_what_is_the_same_for_two_architectures_is_one_model(tmp_path: Path, more: str, is_one: bool) -> None:
    needs.tool("clang")
    root = make_project(tmp_path, options='archs = ["x86_64", "arm64"]', sources={"prog.bpf.c": PROGRAM + more})
    project = load_hatch_project(root)
    assert project is not None
    objects = compile_packages(project.packages, project, Context())[0].objects
    assert (objects["x86_64"][0] is objects["arm64"][0]) == is_one


def test_the_instruction_set_is_pinned_and_can_be_raised(tmp_path: Path) -> None:
    text = (
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        'SEC("socket") int p(struct __sk_buff *s) { int a = s->len; return a > 7 ? s->mark : 3; }\n'
    )
    jump32 = 0x06

    def classes(data: bytes) -> set[int]:
        insns = read_object(data, path="p.o").programs[0].insns
        return {insns[at] & 0x07 for at in range(0, len(insns), 8)}

    assert jump32 not in classes(compile_text(tmp_path, text).data)
    assert jump32 in classes(compile_text(tmp_path, text, cflags=("-mcpu=v3",)).data)


def test_a_header_beside_the_source_is_found(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shared.h").write_text("#define ANSWER 42\n")
    made = compile_text(tmp_path, '#include "shared.h"\nint answer = ANSWER;\n' + PROGRAM)
    assert made.dependencies == (PurePosixPath("src/prog.bpf.c"), PurePosixPath("src/shared.h"))


def test_clangs_own_lines_are_shown(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        compile_text(tmp_path, "int broken(void) { return undeclared; }\n")
    text = str(caught.value)
    assert text.startswith("src/prog.bpf.c does not compile for x86_64:\n")
    assert "src/prog.bpf.c:1:27: error: use of undeclared identifier 'undeclared'" in text


@pytest.mark.parametrize(
    "flag", ["-E", "-S", "-M", "-MM", "-fsyntax-only", "-emit-llvm", "-flto", "-flto=thin", "--version", "-###"]
)
def test_flags_that_make_no_object(tmp_path: Path, flag: str) -> None:
    rule = f"clang made no object: the option cflags has {flag}, which asks it for something else: remove it"
    with pytest.raises(CompileError, match=f"{rule}$"):
        compile_text(tmp_path, PROGRAM, cflags=("-DX", flag, "-Wextra"))


def test_no_object_for_a_reason_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="the option cflags has -Xclang -ast-dump, which asks it for"):
        compile_text(tmp_path, PROGRAM, cflags=("-Xclang", "-ast-dump"))


def test_warnings_are_no_errors_until_told_otherwise(tmp_path: Path) -> None:
    text = PROGRAM + "static int unused(void) { return 0; }\n"
    assert "unused function 'unused'" in compile_text(tmp_path, text).warnings
    with pytest.raises(CompileError, match="Wunused-function"):
        compile_text(tmp_path, text, cflags=("-Werror",))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("struct task_struct; int f(struct task_struct *t) { return t->pid; }\n", "name a BTF of x86_64 for x86_64."),
        ("struct pt_regs { int ip; }; int f(struct pt_regs *r) { return r->regs; }\n", "name a BTF of x86_64 for"),
        ("int f(bool_t b) { return b; }\n", "the option vmlinux-h makes vmlinux.h of a kernel's BTF."),
        ("struct a { int b; }; struct a { int c; };\n", "A type is defined twice. vmlinux.h has the kernel's types"),
        ("enum { A }; enum { A };\n", "A type is defined twice."),
    ],
)
def test_a_type_that_is_missing_or_there_twice_hints_at_vmlinux_h(tmp_path: Path, text: str, hint: str) -> None:
    with pytest.raises(CompileError) as caught:
        compile_text(tmp_path, text)
    assert hint in str(caught.value).splitlines()[-1]


def test_an_ordinary_mistake_gets_no_hint(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        compile_text(tmp_path, "int f(void) { return 0 }\n")
    assert "vmlinux" not in str(caught.value)


def test_clangs_own_stack_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clang = tmp_path / "clang"
    clang.write_text(
        "#!/bin/sh\necho 'Error at line 4: Unsupport signed division' >&2\n"
        "echo 'PLEASE submit a bug report to nobody' >&2\necho ' #0 0x0 llvm::sys()' >&2\nexit 70\n"
    )
    clang.chmod(0o755)
    broken = find_toolchain()._replace(clang=(str(clang),))
    monkeypatch.setattr("tests.compiler.test_clang.find_toolchain", lambda: broken)
    with pytest.raises(CompileError) as caught:
        compile_text(tmp_path, PROGRAM)
    assert str(caught.value).splitlines()[1:] == [
        "Error at line 4: Unsupport signed division",
        "clang itself broke off here.",
    ]


def test_missing_headers_name_the_package(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError) as caught:
        compile_text(tmp_path, "#include <bpf/not_in_libbpf.h>\n")
    assert str(caught.value) == (
        "src/prog.bpf.c includes <bpf/not_in_libbpf.h>, which is not on this system. It comes with libbpf's "
        "development package. Debian, Ubuntu: apt install libbpf-dev; Fedora: dnf install libbpf-devel; "
        "Alpine: apk add libbpf-dev linux-headers"
    )


def test_variables_that_steer_clang_do_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil" / "linux").mkdir(parents=True)
    (tmp_path / "evil" / "linux" / "bpf.h").write_text("#error taken from CPATH\n")
    monkeypatch.setenv("CPATH", str(tmp_path / "evil"))
    assert compile_text(tmp_path, PROGRAM).data


@pytest.mark.parametrize("name", ["-fplugin=evil.bpf.c", "-.bpf.c", "--version.bpf.c"])
def test_the_name_of_a_source_is_never_an_option(tmp_path: Path, name: str) -> None:
    """One could load a plugin into clang."""
    needs.tool("clang")
    (tmp_path / name).write_text(PROGRAM)
    made = compile_source(
        PurePosixPath(name), root=tmp_path, arch=arch.X86_64, toolchain=find_toolchain(), cflags=(), environ=os.environ
    )
    assert made.dependencies == (PurePosixPath(name),)
    assert read_object(made.data, path="x.bpf.o").programs


@pytest.mark.parametrize("name", ["@evil.bpf.c", "src/@evil.bpf.c"])
def test_the_name_of_a_source_is_never_a_list_of_options(tmp_path: Path, name: str) -> None:
    needs.tool("clang")
    (tmp_path / "src").mkdir()
    (tmp_path / name).write_text(PROGRAM)
    (tmp_path / "evil.bpf.c").write_text("-include /etc/passwd")
    with pytest.raises(CompileError, match="clang takes a name that starts with @ for a list of options: rename it"):
        compile_source(
            PurePosixPath(name),
            root=tmp_path,
            arch=arch.X86_64,
            toolchain=find_toolchain(),
            cflags=(),
            environ=os.environ,
        )


@pytest.mark.parametrize("name", ["with space.h", "a$b.h", "a#b.h", "ünï.h", "a'b.h", "a:b.h", "-x.h", "@x.h"])
def test_headers_of_any_name_are_recorded(tmp_path: Path, name: str) -> None:
    source = tmp_path / "src" / "prog.bpf.c"
    source.parent.mkdir()
    (source.parent / name).write_text("")
    made = compile_text(tmp_path, f'#include "{name}"\n{PROGRAM}')
    assert set(made.dependencies) == {PurePosixPath("src/prog.bpf.c"), PurePosixPath("src", name)}


def test_a_header_whose_name_clang_does_not_tell_is_refused(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a\\b.h").write_text("")
    with pytest.raises(CompileError, match="whose real name clang does not tell: rename it"):
        compile_text(tmp_path, f'#include "a\\b.h"\n{PROGRAM}')


def test_every_program_that_does_not_compile_is_told_once_for_all_architectures(tmp_path: Path) -> None:
    sources = {
        "a.bpf.c": "int a(void) { return x; }\n",
        "b.bpf.c": PROGRAM,
        "sub/c.bpf.c": "int c(void) { return y; }\n",
    }
    project = load_hatch_project(make_project(tmp_path / "p", options='archs = ["x86_64", "arm64"]', sources=sources))
    assert project is not None
    with pytest.raises(CompileError) as caught:
        compile_packages(project.packages, project, Context())
    told = [line for line in str(caught.value).splitlines() if "does not compile" in line]
    assert told == [
        "src/demo/a.bpf.c does not compile for x86_64, arm64:",
        "src/demo/sub/c.bpf.c does not compile for x86_64, arm64:",
    ]


def test_warnings_are_shown_once_for_all_architectures(tmp_path: Path) -> None:
    sources = {"a.bpf.c": PROGRAM + "static int unused(void) { return 0; }\n", "b.bpf.c": PROGRAM}
    project = load_hatch_project(make_project(tmp_path / "p", options='archs = ["x86_64", "arm64"]', sources=sources))
    assert project is not None
    told: list[str] = []
    compile_packages(project.packages, project, Context(told.append))
    (warning,) = told
    assert warning.startswith("warning: src/demo/a.bpf.c, by clang:\nsrc/demo/a.bpf.c:")
    assert "unused function 'unused'" in warning
