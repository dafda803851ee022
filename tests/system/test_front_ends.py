"""Every way to build a project does the same: wheels, sdists and editable builds of both back ends, and the command.

One project, one set of expectations, held against each of them. What only one of them has is in
test_hatch_plugin.py and test_setuptools_plugin.py.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.common import needs
from tests.common.front_ends import COMMAND, FRONT_ENDS, NO_TOOLS, Built, FrontEnd
from tests.common.projects import KERNELS, PROGRAM, REPOSITORY, make_project, tree_of

OPTIONS = 'archs = ["x86_64", "arm64"]\nbtf-archive = "kernels"\nkernels = ["debian/12/*/6.1.*"]\n'
RUNTIME = {
    path.relative_to(REPOSITORY / "hatch_bpf").as_posix(): path.read_bytes()
    for path in (REPOSITORY / "hatch_bpf" / "runtime").rglob("*.py")
}
BESIDE_SOURCES = [front_end for front_end in FRONT_ENDS if front_end.kind in ("editable", "command")]
"""Those that write beside the sources; the others leave the source tree as it was."""

PRINT_TRACEBACKS = [front_end for front_end in FRONT_ENDS if front_end.name == "setuptools, editable"]
"""Old versions of setuptools print one for whatever fails in an editable build."""
TAKEN = "taking the objects in src/demo/_bpf, which fit the sources"

each = pytest.mark.parametrize("front_end", FRONT_ENDS, ids=lambda front_end: front_end.name)


def project_for(front_end: FrontEnd, folder: Path, options: str = OPTIONS, **sources: str) -> Path:
    """A project that keeps its own archive of kernels."""
    files = {f"{name}.bpf.c": text for name, text in sources.items()} or None
    project = make_project(folder, options=options, sources=files, pyproject=front_end.pyproject)
    shutil.copytree(KERNELS / "debian" / "12", project / "kernels" / "debian" / "12")
    return project


def own(tree: dict[str, bytes]) -> dict[str, bytes]:
    """A source tree without what setuptools itself leaves in it."""
    return {name: data for name, data in tree.items() if "egg-info/" not in name and not name.startswith("build/")}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """What the command writes."""
    needs.tool("clang")
    folder = tmp_path_factory.mktemp("reference")
    built = COMMAND.build(project_for(COMMAND, folder / "p"), folder / "out")
    assert built.status == 0, built.said
    return built


def test_what_is_built(reference: Built) -> None:
    assert {name for name in reference.files if not name.startswith("demo/_bpf/runtime/")} == {
        "demo/__init__.py",
        "demo/prog.bpf.c",
        "demo/prog_skel.py",
        "demo/_bpf/__init__.py",
        "demo/_bpf/build.json",
        "demo/_bpf/kernels.btfs",
        "demo/_bpf/x86_64/prog.bpf.o",
        "demo/_bpf/arm64/prog.bpf.o",
    }
    runtime = {name.partition("/_bpf/")[2]: data for name, data in reference.files.items() if "/runtime/" in name}
    assert runtime == RUNTIME


@each
def test_the_same_files_byte_for_byte(tmp_path: Path, reference: Built, front_end: FrontEnd) -> None:
    project = project_for(front_end, tmp_path / "p")
    before = tree_of(project)
    built = front_end.build(project, tmp_path / "out")
    assert built.status == 0, built.said
    assert (TAKEN in built.said) == (front_end.kind == "sdist, then wheel")
    generated = {name: data for name, data in built.files.items() if name.endswith("_skel.py") or "/_bpf/" in name}
    assert generated == {name: data for name, data in reference.files.items() if name in generated}
    assert reference.files.keys() - generated.keys() == {"demo/__init__.py", "demo/prog.bpf.c"}
    if front_end in BESIDE_SOURCES:
        assert {name.removeprefix("src/") for name in own(tree_of(project)).keys() - before.keys()} == generated.keys()
    else:
        assert own(tree_of(project)) == before
        assert built.wheel is not None
        assert built.wheel.name == "demo-1-py3-none-any.whl"
        with zipfile.ZipFile(built.wheel) as archive:
            text = archive.read("demo-1.dist-info/WHEEL").decode()
        assert "Root-Is-Purelib: true\n" in text
        assert "Tag: py3-none-any\n" in text


@each
def test_an_unknown_option_is_one_message(tmp_path: Path, front_end: FrontEnd) -> None:
    project = project_for(front_end, tmp_path / "p", 'kernel = ["host"]')
    before = tree_of(project)
    built = front_end.build(project, tmp_path / "out")
    assert built.status == 1
    assert re.search(r"hatch-bpf: tool\.hatch\S*bpf\.kernel is not an option, did you mean 'kernels'\?", built.said)
    assert "Traceback" not in built.said or front_end in PRINT_TRACEBACKS
    assert own(tree_of(project)) == before
    assert list((tmp_path / "out").iterdir()) == []


@each
def test_a_program_that_does_not_compile_leaves_nothing(tmp_path: Path, front_end: FrontEnd) -> None:
    needs.tool("clang")
    project = project_for(front_end, tmp_path / "p", prog="not C")
    before = tree_of(project)
    built = front_end.build(project, tmp_path / "out")
    assert built.status == 1
    assert "hatch-bpf: src/demo/prog.bpf.c does not compile" in built.said
    assert "Traceback" not in built.said or front_end in PRINT_TRACEBACKS
    assert own(tree_of(project)) == before
    assert list((tmp_path / "out").iterdir()) == []


@each
def test_a_file_of_the_users_own_is_left_alone(tmp_path: Path, front_end: FrontEnd) -> None:
    needs.tool("clang")
    project = project_for(front_end, tmp_path / "p")
    (project / "src" / "demo" / "prog_skel.py").write_text("mine = True\n")
    before = tree_of(project)
    built = front_end.build(project, tmp_path / "out")
    assert built.status == 1
    assert "src/demo/prog_skel.py is not a file that hatch-bpf generated, and it is in the way" in built.said
    assert own(tree_of(project)) == before


@pytest.mark.parametrize("front_end", BESIDE_SOURCES, ids=lambda front_end: front_end.name)
def test_what_an_earlier_build_left_is_removed(tmp_path: Path, front_end: FrontEnd) -> None:
    needs.tool("clang")
    project = project_for(front_end, tmp_path / "p")
    assert front_end.build(project, tmp_path / "first").status == 0
    stale = project / "src" / "demo" / "_bpf" / "stale.btf"
    stale.write_bytes(b"left by an earlier build")
    assert front_end.build(project, tmp_path / "second").status == 0
    assert not stale.exists()


@each
def test_the_skeleton_of_a_deleted_source_does_not_ship(tmp_path: Path, front_end: FrontEnd) -> None:
    needs.tool("clang")
    project = project_for(front_end, tmp_path / "p", kept=PROGRAM, gone=PROGRAM)
    assert COMMAND.build(project, tmp_path / "first").status == 0
    (project / "src" / "demo" / "gone.bpf.c").unlink()
    built = front_end.build(project, tmp_path / "out")
    if front_end in BESIDE_SOURCES:
        assert built.status == 0, built.said
        assert "demo/kept_skel.py" in built.files
        assert [name for name in built.files if "gone" in name] == []
    else:
        assert built.status == 1
        left = r"src/demo/\S*gone\S* is left from an editable build and would go into the wheel"
        assert re.search(left, built.said), built.said
        assert [path.suffix for path in (tmp_path / "out").iterdir()] == []


@pytest.mark.parametrize("front_end", FRONT_ENDS[:-1], ids=lambda front_end: front_end.name)
def test_what_is_built_already_needs_no_compiler(tmp_path: Path, reference: Built, front_end: FrontEnd) -> None:
    """As in a project that commits what `hatch-bpf build` writes."""
    project = project_for(front_end, tmp_path / "p")
    for name, data in reference.files.items():
        path = project / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    built = front_end.build(project, tmp_path / "out", env=NO_TOOLS)
    assert built.status == 0, built.said
    assert TAKEN in built.said
    assert {name: data for name, data in built.files.items() if name in reference.files} == reference.files


@each
def test_zigs_clang_is_as_good(tmp_path: Path, zig_python: Path, front_end: FrontEnd) -> None:
    project = project_for(front_end, tmp_path / "p")
    built = front_end.build(project, tmp_path / "out", env=NO_TOOLS, python=str(zig_python))
    assert built.status == 0, built.said
    assert "demo/_bpf/x86_64/prog.bpf.o" in built.files


def test_the_table_in_the_documentation_is_this_matrix() -> None:
    text = (REPOSITORY / "docs" / "publishing.md").read_text()
    rows = re.findall(r"^\| (\w+, [a-z, ]+) \| ([a-z ]+) \| ([a-z ]+) \| ([a-z ]+) \|$", text, re.M)
    assert [row[0] for row in rows] == [front_end.name for front_end in FRONT_ENDS[:-1]]
    for front_end, (_, clang, zig, neither) in zip(FRONT_ENDS, rows, strict=False):
        is_from_sdist = front_end.kind == "sdist, then wheel"
        assert clang == zig == ("prebuilt" if is_from_sdist else "compiled")
        assert neither == ("prebuilt" if is_from_sdist else "if built files are committed")
