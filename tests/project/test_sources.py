"""Finding program sources, and where what is made of them goes."""

from __future__ import annotations

import os
import time
from pathlib import Path, PurePosixPath

import pytest

from hatch_bpf.errors import ConfigError
from hatch_bpf.project.sources import ProgramSource, Project, find_project, walk

KEY = "tool.hatch-bpf"


def find(root: Path, *files: str, packages: tuple[str, ...] = ("src/pkg",), programs: tuple[str, ...] = ()) -> Project:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return find_project(
        {"archs": ["x86_64"], "programs": list(programs)},
        root=root,
        environ={},
        key=KEY,
        packages=packages,
        wheel_path=lambda path: path.removeprefix("src/"),
    )


def fault(root: Path, *files: str, **options: tuple[str, ...]) -> str:
    with pytest.raises(ConfigError) as caught:
        find(root, *files, **options)
    return str(caught.value)


def test_every_program_in_the_packages_sorted(tmp_path: Path) -> None:
    project = find(
        tmp_path, "src/pkg/__init__.py", "src/pkg/b.bpf.c", "src/pkg/a.bpf.c", "other/c.bpf.c", "src/pkg/n.c"
    )
    assert [str(source.path) for source in project.sources] == ["src/pkg/a.bpf.c", "src/pkg/b.bpf.c"]


def test_one_bpf_folder_in_the_outermost_package(tmp_path: Path) -> None:
    files = ("src/pkg/__init__.py", "src/pkg/sub/__init__.py", "src/pkg/sub/bpf/http-conn.bpf.c", "src/pkg/a.bpf.c")
    deep, shallow = sorted(find(tmp_path, *files).sources, key=lambda source: -source.depth)
    assert deep == ProgramSource(PurePosixPath("src/pkg/sub/bpf/http-conn.bpf.c"), PurePosixPath("pkg/sub/bpf"), 2)
    assert (deep.name, str(deep.bpf_dir), str(deep.tree_bpf_dir)) == ("http_conn", "pkg/_bpf", "src/pkg/_bpf")
    assert (shallow.depth, shallow.bpf_dir, shallow.tree_bpf_dir) == (0, deep.bpf_dir, deep.tree_bpf_dir)


def test_a_namespace_package_is_nobodys(tmp_path: Path) -> None:
    """Two distributions may share `ns`, so neither may put its `_bpf` there."""
    project = find(tmp_path, "src/ns/pkg/__init__.py", "src/ns/pkg/bpf/a.bpf.c", packages=("src/ns",))
    assert str(project.sources[0].bpf_dir) == "ns/pkg/_bpf"


def test_a_folder_that_is_no_package_keeps_its_own(tmp_path: Path) -> None:
    assert str(find(tmp_path, "src/pkg/a.bpf.c").sources[0].bpf_dir) == "pkg/_bpf"


def test_named_programs_are_taken_and_no_others(tmp_path: Path) -> None:
    files = ("src/pkg/a.bpf.c", "src/pkg/b.bpf.c", "src/pkg/lib/x.bpf.c")
    project = find(tmp_path, *files, programs=("src/pkg/lib/*.bpf.c", "*/*/b.bpf.c"))
    assert [str(source.path) for source in project.sources] == ["src/pkg/b.bpf.c", "src/pkg/lib/x.bpf.c"]


@pytest.mark.parametrize("packages", [("src/pkg",), (), (".",)])
def test_a_program_outside_of_the_packages(tmp_path: Path, packages: tuple[str, ...]) -> None:
    """What would lie at the top of site-packages, every such project would have there."""
    text = fault(tmp_path, "src/pkg/__init__.py", "a.bpf.c", packages=packages, programs=("*.bpf.c",))
    assert text.startswith("tool.hatch-bpf.programs has a.bpf.c, which is in none of the wheel's packages (")
    assert text.endswith("): move it into one, from which its skeleton can be imported")
    beside = {"packages": packages, "programs": ("bpf/*.bpf.c",)}
    if packages == (".",):
        assert str(find(tmp_path, "bpf/a.bpf.c", **beside).sources[0].bpf_dir) == "bpf/_bpf"
    else:
        assert "has bpf/a.bpf.c, which is in none" in fault(tmp_path, "bpf/a.bpf.c", **beside)


@pytest.mark.parametrize("name", ["1a", "", "2-b"])
def test_a_skeleton_that_cannot_be_imported(name: str, tmp_path: Path) -> None:
    text = fault(tmp_path, f"src/pkg/{name}.bpf.c")
    assert text.startswith(f"tool.hatch-bpf.programs has src/pkg/{name}.bpf.c, whose skeleton ")
    assert text.endswith("no import statement can name: rename it, to begin with a letter")


def test_nothing_there(tmp_path: Path) -> None:
    assert fault(tmp_path, "src/pkg/a.c") == (
        "tool.hatch-bpf.programs is needed: there is no *.bpf.c in the wheel's packages (src/pkg)"
    )


def test_patterns_that_are_wrong_are_told_together(tmp_path: Path) -> None:
    text = fault(tmp_path, "src/pkg/a.h", programs=("/etc/*.bpf.c", "../x.bpf.c", "src/*/*.h", "none/*.bpf.c"))
    assert text.splitlines() == [
        "tool.hatch-bpf.programs[0] must stay inside the project (got '/etc/*.bpf.c')",
        "tool.hatch-bpf.programs[1] must stay inside the project (got '../x.bpf.c')",
        "tool.hatch-bpf.programs[2] matches src/pkg/a.h, whose name does not end in .c or .o: let "
        "tool.hatch-bpf.commands say how it is compiled",
        f"tool.hatch-bpf.programs[3] matches no file (got 'none/*.bpf.c', searched in {tmp_path})",
    ]


@pytest.mark.parametrize(
    "pattern",
    [".", "**x.bpf.c", "***/x.bpf.c", "[z-a]*.bpf.c", "x" * 5000, "*/" * 5000 + "x.c", "**/" * 5000 + "x.c"],
    ids=["dot", "two stars", "three stars", "range", "long name", "deep", "deep stars"],
)
def test_a_pattern_that_pathlib_refuses_is_a_fault(tmp_path: Path, pattern: str) -> None:
    text = fault(tmp_path, "src/pkg/a.h", programs=(pattern,))
    assert text.startswith("tool.hatch-bpf.programs[0] ")
    assert f"got {pattern[:100]!r}"[:-1] in text
    assert len(text) < 1000


def test_folders_that_link_to_each_other_are_read_once(tmp_path: Path) -> None:
    """Twelve folders with a link to every other one have 12! paths through them."""
    folders = [tmp_path / f"f{number:02}" for number in range(12)]
    for folder in folders:
        folder.mkdir()
        (folder / "x.c").touch()
    for folder in folders:
        for other in folders:
            (folder / f"to-{other.name}").symlink_to(f"../{other.name}")
    (tmp_path / "a-link").symlink_to("f11")
    assert [path.parent.name for path in walk(tmp_path) if path.name == "x.c"] == [folder.name for folder in folders]


def test_a_link_to_a_folder_above_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "src" / "pkg").mkdir(parents=True)
    (tmp_path / "src" / "pkg" / "again").symlink_to(".")
    (tmp_path / "other").mkdir()
    (tmp_path / "src" / "pkg" / "linked").symlink_to(tmp_path / "other")
    project = find(tmp_path, "src/pkg/a.bpf.c", "other/b.bpf.c")
    assert [str(source.path) for source in project.sources] == ["src/pkg/a.bpf.c", "src/pkg/linked/b.bpf.c"]


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "nowhere"])
def test_what_is_no_regular_file(tmp_path: Path, kind: str) -> None:
    """Neither found nor named: reading a pipe would wait forever, and a device may never end."""
    (tmp_path / "src/pkg").mkdir(parents=True)
    path = tmp_path / "src/pkg/odd.bpf.c"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "loop": "odd.bpf.c", "nowhere": "nowhere"}[kind])
    assert fault(tmp_path, "src/pkg/a.bpf.c") == f"{KEY}.programs has src/pkg/odd.bpf.c, which is not a regular file"
    assert "programs[0] matches no file" in fault(tmp_path, programs=("src/pkg/odd*",))


@pytest.mark.parametrize("pattern", ["**/*/" * 40 + "*.c", "a/" * 3000 + "*.c", "*" * 3000 + ".c", "[" * 3000])
def test_a_pattern_made_to_take_long(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "src/pkg/deep/deep/deep/deep").mkdir(parents=True)
    (tmp_path / "src/pkg/deep/up").symlink_to("..")
    start = time.process_time()
    assert f"{KEY}.programs[0]" in fault(tmp_path, programs=(pattern,))
    assert time.process_time() - start < 2


def test_a_program_in_the_folder_that_is_filled(tmp_path: Path) -> None:
    files = ("src/pkg/__init__.py", "src/pkg/_bpf/a.bpf.c", "src/pkg/_bpf/sub/b.bpf.c")
    assert fault(tmp_path, *files).splitlines() == [
        f"tool.hatch-bpf.programs has {path}, and src/pkg/_bpf is the folder that hatch-bpf fills: move it to another"
        for path in files[1:]
    ]


def test_two_programs_with_one_skeleton_name(tmp_path: Path) -> None:
    text = fault(tmp_path, "src/pkg/__init__.py", "src/pkg/x-y.bpf.c", "src/pkg/x_y.bpf.c")
    assert text == (
        "tool.hatch-bpf.programs has two sources for the skeleton x_y_skel: src/pkg/x-y.bpf.c and src/pkg/x_y.bpf.c; "
        "rename one"
    )


def test_one_name_in_two_sub_packages_is_two_objects(tmp_path: Path) -> None:
    files = ("src/pkg/__init__.py", "src/pkg/a.bpf.c", "src/pkg/sub/a.bpf.c", "src/pkg/sub/b.bpf.c")
    found = {str(source.path): source.object_name for source in find(tmp_path, *files).sources}
    assert found == {
        "src/pkg/a.bpf.c": "a.bpf.o",
        "src/pkg/sub/a.bpf.c": "sub/a.bpf.o",
        "src/pkg/sub/b.bpf.c": "b.bpf.o",
    }


def test_folders_that_are_no_packages_share_one_bpf_folder(tmp_path: Path) -> None:
    project = find(tmp_path, *(f"src/pkg/tools/tool{number}/t{number}.bpf.c" for number in range(5)))
    (package,) = project.packages
    assert (str(package.wheel_dir), str(package.tree_dir)) == ("pkg/tools/_bpf", "src/pkg/tools/_bpf")
    assert {source.depth for source in project.sources} == {1}


@pytest.mark.parametrize("name", ["my-tool", "class", "2nd"])
def test_a_folder_that_python_cannot_import_from(tmp_path: Path, name: str) -> None:
    text = fault(tmp_path, f"src/{name}/__init__.py", f"src/{name}/a.bpf.c", packages=(f"src/{name}",))
    assert text == (
        f"tool.hatch-bpf.programs has src/{name}/a.bpf.c, whose package would be {name}: Python cannot import "
        f"from a folder called '{name}'; rename it"
    )
    assert find(tmp_path, "src/pkg/__init__.py", f"src/pkg/{name}/a.bpf.c").sources[0].depth == 1


def test_any_c_file_may_be_named(tmp_path: Path) -> None:
    project = find(tmp_path, "src/pkg/prog.c", "src/pkg/other.bpf.c", programs=("src/pkg/prog.c",))
    (source,) = project.sources
    assert (source.name, source.object_name) == ("prog", "prog.bpf.o")
    text = fault(tmp_path, "src/pkg/prog.bpf.c", programs=("src/pkg/prog*.c",))
    assert "has two sources for the skeleton prog_skel" in text


def test_the_same_name_in_two_packages_is_fine(tmp_path: Path) -> None:
    files = ("src/pkg/__init__.py", "src/pkg/a.bpf.c", "src/two/__init__.py", "src/two/a.bpf.c")
    project = find(tmp_path, *files, packages=("src/pkg", "src/two"))
    assert sorted(str(package.wheel_dir) for package in project.packages) == ["pkg/_bpf", "two/_bpf"]
