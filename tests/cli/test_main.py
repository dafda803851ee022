"""The command `hatch-bpf`, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.common import needs
from tests.common.projects import (
    KERNELS,
    PROGRAM,
    SETUPTOOLS_PYPROJECT,
    bare_environment,
    build_wheel,
    make_project,
    tree_of,
    wheel_files,
)
from tests.compiler.test_clang import compile_text

MISSING_FIELD = PROGRAM.replace("int pid;", "int no_such_field;").replace("task, pid)", "task, no_such_field)")


def run(
    *arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the console script's function in a process of its own, without this process' archive."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from hatch_bpf.cli.main import main; sys.exit(main())",
            *map(str, arguments),
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=bare_environment(**{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})}),
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "prog.bpf.o"
    path.write_bytes(compile_text(tmp_path / "compiled", PROGRAM).data)
    return path


def test_help_names_every_command_and_shows_examples() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert {"build", "check", "min-core-btf"} <= set(done.stdout.split())
    assert "examples:" in done.stdout


def test_the_package_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "hatch_bpf", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run("--version").stdout


@pytest.mark.parametrize("arguments", [(), ("frobnicate",), ("check", "--nope")])
def test_a_wrong_command_line_is_status_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage: hatch-bpf" in done.stderr


LIST = (sys.executable, "-m", "hatch_bpf", "kernels", "list", str(KERNELS))


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_reads_the_output_may_go(unbuffered: str) -> None:
    environment = bare_environment(PYTHONUNBUFFERED=unbuffered)
    process = subprocess.Popen(LIST, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    process.stdout.close()
    _, told = process.communicate()
    assert (process.returncode, told) == (141, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_has_no_room(unbuffered: str) -> None:
    environment = bare_environment(PYTHONUNBUFFERED=unbuffered)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(LIST, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr == "hatch-bpf: No space left on device; make room there\n"


def test_output_that_is_closed() -> None:
    done = subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", *LIST], check=False, env=bare_environment())
    assert done.returncode == 0


def test_build_writes_what_a_wheel_would_carry(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p")
    wheel = wheel_files(build_wheel(project, tmp_path / "out"))
    done = run("build", project)
    assert done.returncode == 0, done.stderr
    written = {f"demo/{name}": data for name, data in tree_of(project / "src" / "demo").items()}
    assert {name: data for name, data in wheel.items() if name.startswith("demo/")} == written
    assert done.stdout == f"src/demo/prog_skel.py, and {len(written) - 3} files in src/demo/_bpf\n"


def test_min_core_btf_is_a_drop_in_for_bpftool(tmp_path: Path, program: Path) -> None:
    bpftool = needs.tool("bpftool")
    kernel = next(KERNELS.glob("debian/12/x86_64/6.1.*"))
    assert run("min-core-btf", kernel, tmp_path / "ours.btf", program).returncode == 0
    subprocess.run(["tar", "-xJf", kernel, "-C", tmp_path], check=True)
    (raw,) = tmp_path.glob("6.1.*.btf")
    subprocess.run([bpftool, "gen", "min_core_btf", raw, tmp_path / "theirs.btf", program], check=True)
    assert (tmp_path / "ours.btf").read_bytes() == (tmp_path / "theirs.btf").read_bytes()


def test_min_core_btf_of_the_host(tmp_path: Path, program: Path) -> None:
    needs.host_btf()
    done = run("min-core-btf", "host", tmp_path / "out.btf", program)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.btf").stat().st_size < 1000


@pytest.mark.parametrize(
    ("kernel", "out", "obj", "message"),
    [
        ("/etc/passwd", "x", "prog.bpf.o", "no BTF in it"),
        ("no-such-file", "x", "prog.bpf.o", "no-such-file: cannot be read"),
        ("prog.bpf.o", "x", "/etc/passwd", "/etc/passwd is not a BPF object"),
        ("{kernel}", "no/such/folder/x", "prog.bpf.o", "no/such/folder/x cannot be written"),
    ],
)
def test_min_core_btf_refuses(tmp_path: Path, program: Path, kernel: str, out: str, obj: str, message: str) -> None:
    assert program.exists()
    archive_file = next(KERNELS.glob("debian/12/x86_64/6.1.*"))
    done = run("min-core-btf", kernel.format(kernel=archive_file), out, obj, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("hatch-bpf: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()


def test_check_says_what_loads(program: Path) -> None:
    done = run("check", program, "--kernels", KERNELS)
    assert done.returncode == 0, done.stderr
    assert "prog.on_switch" in done.stdout
    assert "1 program on 7 kernels: loads everywhere" in done.stdout


def test_check_says_what_fails_where_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "prog.bpf.o"
    path.write_bytes(compile_text(tmp_path / "compiled", MISSING_FIELD).data)
    done = run("check", path, "--kernels", KERNELS, "--match", "debian/12/x86_64/*")
    assert done.returncode == 1
    line = MISSING_FIELD.splitlines().index(next(x for x in MISSING_FIELD.splitlines() if "BPF_CORE_READ(" in x)) + 1
    assert f"src/prog.bpf.c:{line}" in done.stdout
    assert "task_struct.no_such_field is not in this kernel" in done.stdout
    assert "guard it with bpf_core_field_exists" in done.stdout


def test_check_as_json(program: Path) -> None:
    done = run("check", program, "--kernels", KERNELS, "--match", "debian/12/x86_64/6.1.*", "--json")
    assert done.returncode == 0
    (kernel,) = json.loads(done.stdout)["kernels"]
    assert kernel["kernel"].startswith("debian/12/x86_64/6.1.")
    assert [(p["object"], p["program"], p["verdict"], p["reasons"]) for p in kernel["programs"]] == [
        (str(program), "on_switch", "loads", [])
    ]


def test_check_in_a_project_uses_its_matrix(tmp_path: Path) -> None:
    needs.tool("clang")
    options = f'archs = ["x86_64"]\nbtf-archive = "{KERNELS}"\nkernels = ["debian/13/*/*"]'
    project = make_project(tmp_path / "p", options=options, sources={"prog.bpf.c": MISSING_FIELD})
    before = tree_of(project)
    done = run("check", cwd=project)
    assert done.returncode == 1, done.stderr
    assert "no_such_field is not in this kernel" in done.stdout
    assert tree_of(project) == before
    assert run("check", "--match", "debian/11/x86_64/*", "--json", cwd=project).stdout.count('"kernel"') == 1
    done = run("check", "--kernels", "/no/such/archive", "--match", "host", cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert "/no/such/archive: is not a folder: let --kernels name a BTF archive" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "/etc/passwd", "--kernels", KERNELS), "/etc/passwd is not a BPF object: name what `clang"),
        (("check", "/etc", "--kernels", KERNELS), "/etc is a folder: name BPF objects, or run this in a project"),
        (("check", "{program}"), "which kernels? Let --kernels"),
        (("check", "{program}", "--match", "debian/12/*/*"), "there is no archive to look in"),
        (("check", "{program}", "--kernels", "/no/such/archive"), "/no/such/archive"),
        (("check", "{program}", "--kernels", KERNELS, "--match", "debian/99/*/*"), "matches no kernel"),
        (("check",), "pyproject.toml is not there: run this in the folder of a project"),
        (("check", "--optional", "p"), "--alternatives and --optional are for an OBJECT"),
        (("chekc",), "did you mean check?"),
        (("check", "{program}", "--kernls=x"), "did you mean --kernels?"),
    ],
)
def test_check_refuses_with_status_2(
    tmp_path: Path, program: Path, arguments: tuple[object, ...], message: str
) -> None:
    done = run(*(str(argument).format(program=program) for argument in arguments), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_two_tables_at_once_are_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    with (project / "pyproject.toml").open("a") as file:
        file.write('\n[tool.hatch-bpf]\narchs = ["x86_64"]\n')
    done = run("build", project)
    assert done.returncode == 1
    assert "has two tables for hatch-bpf: keep one" in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("tool.hatch.build.hooks.bpf", "tool.hatch-bpf", "which hatchling does not read: call the table [tool.hatch.b"),
        ("hatchling.build", "setuptools.build_meta", "which setuptools does not read: call the table [tool.hatch-bpf]"),
        ("[build-system]", "\ufeff[build-system]", "begins with a byte order mark"),
        ("archs = [", "archs = \udce9[", "is not UTF-8"),
        ("archs = [", "archs = ][", "is not TOML: "),
        ("archs = [", f"cflags = {'[' * 50_000}\narchs = [", ""),
        ("archs = [", f"x = {'9' * 5000}\narchs = [", ""),
        ("archs = [", f"archs = {'[' * 20}", "is not TOML: "),
        ("build.hooks.bpf]", "build.hooks]\nbpf = 3\n[tool.x]", "Field `tool.hatch.build.hooks.bpf` must be a table"),
        ('name = "demo"', "", "Missing required field `project.name`"),
    ],
)
def test_a_pyproject_that_is_none(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = make_project(tmp_path / "p") / "pyproject.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after), errors="surrogateescape")
    done = run("build", path.parent)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(f"hatch-bpf: {path} ")
    assert message in done.stderr


def test_setuptools_is_asked_for_only_where_it_builds(tmp_path: Path) -> None:
    """Virtual environments have none since Python 3.12, and hatch-bpf does not bring it."""
    code = "import sys; sys.modules['setuptools'] = None; from hatch_bpf.cli.main import main; sys.exit(main())"
    options = f'archs = ["x86_64"]\nbtf-archive = "{KERNELS}"\nkernels = ["debian/12/*/6.1.*"]'

    def kernels_of(project: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "kernels", "list"]
        environment = bare_environment()
        return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=environment)

    done = kernels_of(make_project(tmp_path / "hatchling", options=options))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("debian/12/x86_64/6.1.")
    done = kernels_of(make_project(tmp_path / "setuptools", options=options, pyproject=SETUPTOOLS_PYPROJECT))
    assert done.returncode == 1
    assert done.stderr == (
        "hatch-bpf: the project is built by setuptools, which is not installed here: pip install setuptools\n"
    )


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('name = "demo"', "name = 3", "project.name"),
        ('version = "1"', 'dynamic = ["version"]\n[tool.setuptools.dynamic]\nversion.attr = "demo.none"', "'none'"),
        ("[tool.hatch-bpf]", '[tool.setuptools.cmdclass]\nsdist = "none.None"\n[tool.hatch-bpf]', "none"),
        ("[tool.hatch-bpf]", "[tool]\nsetuptools = 3\n[tool.hatch-bpf]", "setuptools"),
    ],
)
def test_what_setuptools_says_of_a_pyproject(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in SETUPTOOLS_PYPROJECT
    pyproject = SETUPTOOLS_PYPROJECT.replace(before, after)
    path = make_project(tmp_path / "p", pyproject=pyproject) / "pyproject.toml"
    done = run("build", path.parent)
    assert done.returncode == 1
    assert f"hatch-bpf: {path} cannot be used: " in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", [f"x = {'[' * 50_000}", f"x = {'9' * 5000}", "build = 3\n"])
def test_a_hatch_toml_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    project = make_project(tmp_path / "p")
    (project / "hatch.toml").write_text(text)
    done = run("build", project)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"{project}/pyproject.toml (or hatch.toml beside it) cannot be used: " in done.stderr


@pytest.mark.parametrize(("choice", "status"), [("error", 1), ("warn", 0), ("ignore", 0)])
def test_what_an_unportable_program_does_to_a_build(tmp_path: Path, choice: str, status: int) -> None:
    needs.tool("clang")
    options = f'archs = ["x86_64"]\nbtf-archive = "{KERNELS}"\nkernels = ["debian/13/*/*"]\non-unportable = "{choice}"'
    project = make_project(tmp_path / "p", options=options, sources={"prog.bpf.c": MISSING_FIELD})
    before = tree_of(project)
    done = run("build", project)
    assert done.returncode == status, done.stderr
    assert ("prog.on_switch fails on 2 of 2 kernels" in done.stderr) == (choice != "ignore")
    assert (tree_of(project) == before) == (status == 1)


def test_a_skeleton_for_an_object_that_is_built_already(tmp_path: Path, program: Path) -> None:
    out = tmp_path / "pkg"
    done = run("skeleton", program, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}/prog_skel.py, and {len(tree_of(out)) - 1} files in {out}/_bpf\n"
    assert {"_bpf/x86_64/prog.bpf.o", "prog_skel.py", "_bpf/runtime/__init__.py"} <= set(tree_of(out))
    ran = subprocess.run(
        [sys.executable, "-c", "from pkg.prog_skel import Prog; print(Prog.__name__)"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.stdout, ran.stderr) == ("Prog\n", "")
    # another beside it, and none in place of what a build made
    second = program.rename(tmp_path / "second.bpf.o")
    assert run("skeleton", second, "--out", out).returncode == 0
    assert {"_bpf/x86_64/prog.bpf.o", "_bpf/x86_64/second.bpf.o", "prog_skel.py", "second_skel.py"} <= set(tree_of(out))
    program = second
    (out / "_bpf" / "kernels.btfs").write_bytes(b"a build's")
    before = tree_of(out)
    assert "name another folder by --out" in run("skeleton", second, "--out", out).stderr
    assert tree_of(out) == before
    assert "'nope'" in run("skeleton", program, "--out", out, "--type", "nope").stderr
    assert "must be one of" in run("skeleton", program, "--out", out, "--arch", "vax").stderr


def test_names_out_of_a_file_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    """A function whose name would colour what follows, and one that is no UTF-8: told as they are spelled, as is a name
    in an error."""
    data = compile_text(tmp_path / "compiled", PROGRAM.replace("on_switch", "on_switch_xxxx")).data
    for name in (b"a\x1b[31mb\x07\xff\x9b1m", b"ab\xe2\x80\xae\r\n\tcdefg"):
        path = tmp_path / "prog.bpf.o"
        path.write_bytes(data.replace(b"on_switch_xxxx", name.ljust(14, b"_")))
        for command in (("inspect", path), ("check", path, "--kernels", KERNELS), ("inspect", path, "--json")):
            done = run(*command)
            assert done.returncode == 0, done.stderr
            shown = done.stdout.replace("\n", "")
            assert shown.isprintable() or command[-1] == "--json"
            assert not set(shown) & {chr(code) for code in (*range(32), *range(127, 160))}
    (tmp_path / "not\x1b[31man.o").write_bytes(b"x")
    done = run("inspect", tmp_path / "not\x1b[31man.o")
    assert (done.returncode, "not\\x1b[31man.o is not a BPF object" in done.stderr) == (1, True)


def test_a_build_of_many_programs_says_how_many(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p", sources={f"p{number}.bpf.c": PROGRAM for number in range(4)})
    done = run("build", project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 skeletons, and ")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


LONG = "a" * 5000


@pytest.mark.parametrize(
    "arguments",
    [
        ("kernels", "add", "host", "--archive", "archive", "--release", LONG, "--distro", "-", "--version", "-"),
        ("kernels", "add", LONG, "--archive", "archive"),
        ("kernels", "add", "host", "--archive", LONG),
        ("kernels", "list", LONG),
        ("kernels", "list", str(KERNELS), "--match", "**/" * 3000),
        ("kernels", "list", str(KERNELS), "--match", LONG),
        ("check", LONG, "--kernels", str(KERNELS)),
        ("min-core-btf", LONG, "out", "object"),
        ("vmlinux-h", LONG),
        ("skeleton", LONG),
        ("inspect", LONG),
        ("build", LONG),
        ("init", LONG),
        ("init", "x", LONG),
    ],
    ids=lambda arguments: " ".join(word for word in arguments if len(word) < 20),
)
def test_an_argument_of_any_length_is_one_message(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("hatch-bpf: ")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
