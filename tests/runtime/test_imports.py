"""What ships in wheels stands alone: standard library only, every supported Python, nothing heavy at import."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_bpf import runtime
from tests.common import needs
from tests.common.pythons import PYTHONS, pythons
from tests.common.skeleton_package import BPF, RUNTIME, Package, make_package

MODULES = sorted(RUNTIME.rglob("*.py"))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(BPF / "sockrtt.bpf.c", tmp_path_factory.mktemp("imports"), events={"rtt_events": "rtt_event"})


def imports(path: Path) -> set[str]:
    """Top names of the absolute imports of a module; relative ones may not leave the runtime."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= len(path.relative_to(RUNTIME).parts), f"{path.name} imports from outside the runtime"
            if not node.level:
                found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(RUNTIME).as_posix())
def test_only_the_standard_library_is_imported(path: Path) -> None:
    # every type checker has typing_extensions; that nothing imports it at run time is tested below
    assert imports(path) - {"typing_extensions"} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(RUNTIME).as_posix())
def test_the_syntax_is_that_of_the_oldest_python(path: Path) -> None:
    """3.7 is older than what the build needs, but machines that only run a package may have it."""
    tree = ast.parse(path.read_text(), feature_version=(3, 7))
    newer = {"removeprefix", "removesuffix"}
    assert not {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & newer


def test_type_checkers_are_told_the_names_that_there_are() -> None:
    told = {
        (alias.name, alias.asname, node.module)
        for node in ast.walk(ast.parse((RUNTIME / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    modules = vars(runtime)["_MODULES"]
    assert told == {(name, name, module) for name, module in modules.items()}
    assert vars(runtime)["__all__"] == dir(runtime) == sorted(modules)


def test_a_skeleton_imports_with_nothing_else_installed(package: Package) -> None:
    code = f"import sys; sys.path.insert(0, {os.fspath(package.root)!r}); import demo.sockrtt_skel; " + (
        "print(sorted({name.split('.')[0] for name in sys.modules if 'site-packages' in "
        "(getattr(sys.modules[name], '__file__', None) or '')} | {n for n in sys.modules if n == 'hatch_bpf'}))"
    )
    result = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_what_is_heavy_is_not_imported_with_a_skeleton(package: Package) -> None:
    code = f"import sys; sys.path.insert(0, {os.fspath(package.root)!r}); import demo.sockrtt_skel; " + (
        "print([name for name in ('asyncio', 'dataclasses', 'hashlib', 'json', 'logging', 'numpy', 're', 'typing') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_only_the_kinds_of_maps_that_a_skeleton_has_are_imported(package: Package) -> None:
    """Its only map beside the ring buffer is a hash."""
    code = """
        import sys
        import demo.sockrtt_skel
        print(*sorted(name.rpartition(".")[2] for name in sys.modules if ".runtime.maps." in name))
    """
    assert package.run(code).stdout == "counting hashes map of_maps shapes\n"


def test_a_map_of_another_type_gets_its_class_though_no_map_had_it(package: Package) -> None:
    """Even if the process can't import any more when it loads, because it has given up its rights."""
    needs.root_bpf()
    code = """
        import sys
        from demo.sockrtt_skel import Sockrtt
        with Sockrtt.open() as bpf:
            bpf.maps.calls.type = 5  # BPF_MAP_TYPE_PERCPU_HASH
            sys.meta_path.clear()
            with bpf.load() as skel:
                print(type(skel.maps.calls).__name__)
    """
    assert package.run(code).stdout == "PerCpuHashMap\n"


@pytest.mark.parametrize("version", PYTHONS)
def test_every_python_imports_and_runs_it(package: Package, version: str) -> None:
    python = pythons().get(version)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    needs.root_bpf()
    code = """
        import warnings
        warnings.simplefilter("error")
        from demo.sockrtt_skel import Sockrtt, direction, rtt_event
        event = rtt_event(saddr=1, comm="x", direction=2)
        assert event.direction is direction.DIRECTION_PASSIVE and str(direction(9)) == "9", event
        assert event.comm == "x" == event.comm.decode() and bytes(event.comm)[:2] == b"x\\0"
        with Sockrtt.open() as bpf:
            bpf.rodata.min_rtt_us = 3
            with bpf.load() as skel:
                skel.maps.calls.update({1: 2, 3: 4})
                assert dict(skel.maps.calls.items()) == {1: 2, 3: 4}
                assert skel.maps.calls.pop(1) == 2 and skel.maps.calls.items() & {(3, 4)} == {(3, 4)}
                try:
                    skel.maps.calls.max_entries = 5
                except AttributeError as error:
                    assert "max_entries can't be set" in str(error), error
                assert skel.maps.rtt_events.poll(0) == []
                assert skel.rodata.min_rtt_us == 3
                skel.bss.seen = 9
                assert skel.bss.seen == 9
        print("ran")
    """
    assert package.run(code, python=python).stdout == "ran\n"
