"""libbpf in the wheel: what is bundled, its tags, that it runs on other systems, and that it needs nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from hatch_bpf import arch
from hatch_bpf.compiler.toolchain import OWN_LIBBPF
from hatch_bpf.errors import ToolchainError
from hatch_bpf.wheel import bundled_libbpf
from tests.common import needs
from tests.common.projects import SETUPTOOLS_PYPROJECT, build_wheel, make_project, wheel_files
from tests.system.test_example import HIDE_LIBBPF

OPTIONS = 'libbpf = "bundle"\narchs = ["x86_64", "arm64"]'
USES_IT = """\
import sys
from demo.prog_skel import Prog
with Prog.open() as bpf:
    library = bpf._held.libbpf
    print(library.path, *library.version)
    {load}
print([line.split()[-1] for line in open("/proc/self/maps") if "libbpf.so" in line and "memfd" not in line])
"""
SMALL = 350 << 10
"""Bytes that a library may take in a wheel."""
OPENS = """\
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **paths)
{
	void *library = dlopen(paths[1], RTLD_NOW);
	if (!library)
		return puts(dlerror()), 1;
	return ((unsigned (*)(void))dlsym(library, "libbpf_major_version"))() == 1 ? 0 : 2;
}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.tool("clang")
    needs.own_libbpf()
    folder = tmp_path_factory.mktemp("bundle")
    return build_wheel(make_project(folder / "p", options=OPTIONS), folder / "out")


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    install(wheel, tmp_path / "site")
    return tmp_path / "site"


def install(wheel: Path, site: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site]
    subprocess.run([*command, *arguments, wheel], check=True)


def folder_of(files: dict[str, bytes]) -> dict[str, bytes]:
    prefix = "demo/_bpf/lib/"
    return {name.removeprefix(prefix): data for name, data in files.items() if name.startswith(prefix)}


def libraries() -> list[Path]:
    return sorted(OWN_LIBBPF.glob("lib/*/*/libbpf.so.1"))


def test_the_libraries_of_all_architectures_are_there_with_licenses_and_an_sbom(wheel: Path) -> None:
    files = folder_of(wheel_files(wheel))
    index = json.loads(files["libraries.json"])
    assert sorted((name, libc) for name in index for libc in index[name]) == [
        ("arm64", "glibc"), ("arm64", "musl"), ("x86_64", "glibc"), ("x86_64", "musl")
    ]  # fmt: skip
    for name, libcs in index.items():
        for libc, fitting in libcs.items():
            assert hashlib.sha256(files[f"{name}/{libc}/libbpf.so.1"]).hexdigest() == fitting["sha256"]
    assert {"licenses/libbpf/LICENSE.LGPL-2.1", "licenses/elfutils/COPYING-LGPLV3", "licenses/zlib/LICENSE"} <= set(
        files
    )
    assert b"open(libbpf=" in files["licenses/README"], "how to use another libelf"
    components = json.loads(files["sbom.cdx.json"])["components"]
    assert [(part["name"], part["purl"].partition("@")[0]) for part in components] == [
        ("libbpf", "pkg:github/libbpf/libbpf"),
        ("elfutils", "pkg:generic/elfutils"),
        ("zlib", "pkg:github/madler/zlib"),
    ]


def test_the_wheel_is_tagged_for_each_of_them_and_for_old_pips(wheel: Path) -> None:
    name, version, _, tags = parse_wheel_filename(wheel.name)
    assert (name, str(version)) == ("demo", "1")
    assert {(tag.interpreter, tag.abi) for tag in tags} == {("py3", "none")}
    assert {tag.platform for tag in tags} == {
        f"{system}_{machine}"
        for system in ("manylinux2014", "manylinux_2_17", "musllinux_1_1")
        for machine in ("x86_64", "aarch64")
    }


@pytest.mark.parametrize("platform", ["manylinux2014_aarch64", "manylinux_2_17_x86_64", "musllinux_1_1_aarch64"])
def test_pip_takes_it_for(wheel: Path, platform: str, tmp_path: Path) -> None:
    install(wheel, tmp_path / "site", "--platform", platform, "--only-binary=:all:")
    assert (tmp_path / "site" / "demo" / "prog_skel.py").is_file()


def test_the_libraries_need_nothing_but_an_old_c_library() -> None:
    needs.own_libbpf()
    readelf = needs.tool("readelf")
    assert libraries()
    for path in libraries():
        said = subprocess.run([readelf, "-W", "-d", "-V", path], capture_output=True, text=True, check=True).stdout
        needed = set(re.findall(r"\(NEEDED\)\s+Shared library: \[(.+?)\]", said))
        assert {name for name in needed if not name.startswith("ld-")} == (
            {"libc.so"} if path.parent.name == "musl" else {"libc.so.6"}
        )
        assert "[libbpf.so.1]" in said
        versions = {tuple(map(int, found)) for found in re.findall(r"GLIBC_(\d+)\.(\d+)", said)}
        assert max(versions, default=(2, 17)) <= (2, 17), path
        assert len(compressed(path)) <= SMALL


def compressed(path: Path) -> bytes:
    import zlib

    return zlib.compress(path.read_bytes(), 6)


def test_they_export_what_libbpfs_version_script_says() -> None:
    needs.own_libbpf()
    readelf = needs.tool("readelf")
    exported = []
    for path in libraries():
        said = subprocess.run([readelf, "-W", "--dyn-syms", path], capture_output=True, text=True, check=True).stdout
        symbols = [line.split() for line in said.splitlines()]
        exported.append({s[7] for s in symbols if len(s) == 8 and s[6] not in ("UND", "ABS")})
    names = {name.partition("@")[0] for name in exported[0] if name[0].isalpha()}
    assert all(found == exported[0] for found in exported)
    assert {"bpf_object__open_mem", "bpf_linker__new", "ring_buffer__poll", "bpf_token_create"} <= names
    assert not {name for name in names if name.startswith(("elf", "gelf", "inflate", "deflate", "gz"))}


def test_it_is_the_packages_own_that_is_loaded(installed: Path) -> None:
    done = run(installed, "pass")
    path, *version = done.stdout.splitlines()[0].split()
    assert path.startswith(str(installed / "demo" / "_bpf" / "lib"))
    assert version == ["1", "5"]
    assert done.stdout.splitlines()[1] == "[]", "no libbpf.so of the system's is mapped"


def test_it_loads_where_the_system_has_no_libbpf(installed: Path, tmp_path: Path) -> None:
    needs.root_bpf()
    needs.private_mounts()
    (system,) = {path.parent for path in Path("/usr/lib").glob("*/libbpf.so.1")} or {None}
    if system is None:
        needs.missing("libbpf.so.1 is not in a multiarch folder")
    (tmp_path / "scratch").mkdir()
    hide = HIDE_LIBBPF.format(folder=system, scratch=tmp_path / "scratch")
    done = run(installed, "bpf.load().close()", before=hide)
    assert str(installed) in done.stdout


def test_musls_loader_takes_its_library(tmp_path: Path) -> None:
    needs.own_libbpf()
    machine = arch.build_machine()
    assert machine is not None
    (tmp_path / "opens.c").write_text(OPENS)
    subprocess.run([needs.tool("musl-gcc"), tmp_path / "opens.c", "-o", tmp_path / "opens"], check=True)
    library = OWN_LIBBPF / "lib" / machine.name / "musl" / "libbpf.so.1"
    done = subprocess.run([tmp_path / "opens", library], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_library_that_was_changed_is_not_loaded(installed: Path) -> None:
    machine = arch.build_machine()
    assert machine is not None
    (path,) = (installed / "demo" / "_bpf" / "lib" / machine.name).glob("glibc/libbpf.so.1")
    path.write_bytes(path.read_bytes() + b"\0")
    done = run(installed, "pass", check=False)
    assert done.returncode == 1
    assert "libbpf.so.1 is not the file that was built" in done.stderr


def test_another_machine_is_told_what_the_wheel_has(installed: Path) -> None:
    code = (
        "from demo._bpf.runtime.libbpf import bundled; bundled.running_name = lambda: 'riscv64';"
        "from demo.prog_skel import Prog; Prog.open()"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, env={"PYTHONPATH": installed}
    )
    told = "has no libbpf for riscv64 with glibc: the package brings it for arm64 with glibc or musl, x86_64 with glibc"
    assert told in done.stderr
    assert "LibbpfNotFoundError" in done.stderr


def test_setuptools_makes_the_same(tmp_path: Path, wheel: Path) -> None:
    project = make_project(tmp_path / "p", options=OPTIONS, pyproject=SETUPTOOLS_PYPROJECT)
    other = build_wheel(project, tmp_path / "out")
    assert other.name == wheel.name
    assert folder_of(wheel_files(other)) == folder_of(wheel_files(wheel))
    assert b"Root-Is-Purelib: false" in wheel_files(other)["demo-1.dist-info/WHEEL"]
    assert b"Root-Is-Purelib: false" in wheel_files(wheel)["demo-1.dist-info/WHEEL"]


def test_a_checkout_without_libraries_is_told_how_to_make_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_libbpf, "OWN_LIBBPF", tmp_path)
    with pytest.raises(ToolchainError, match=r"this one has none: in a checkout, python -m tools\.libbpf makes them"):
        bundled_libbpf.bundle([arch.X86_64])


def test_an_architecture_that_there_is_no_library_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libraries.json").write_text('{"x86_64": {}}')
    monkeypatch.setattr(bundled_libbpf, "OWN_LIBBPF", tmp_path)
    with pytest.raises(ToolchainError, match="has no libbpf for arm64, only for x86_64: leave the others out of archs"):
        bundled_libbpf.bundle([arch.X86_64, arch.ARM64])


def run(site: Path, load: str, *, before: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-c", USES_IT.format(load=load)]
    if before:
        command = ["unshare", "--mount", "sh", "-e", "-c", f'{before}\nexec "$@"', "sh", *command]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=check,
        env={"PYTHONPATH": str(site), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
