"""libbpf in the wheel: what is bundled, its tags, that it runs on other systems, and that it needs nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from packaging.utils import parse_wheel_filename

from hatch_bpf import arch
from hatch_bpf.errors import ToolchainError
from hatch_bpf.kernels.formats import elf as elf_file
from hatch_bpf.support import own_libbpf
from hatch_bpf.support.own_libbpf import OWN_LIBBPF, own_libraries
from hatch_bpf.wheel import bundled_libbpf
from tests.common import needs
from tests.common.front_ends import FRONT_ENDS, FrontEnd
from tests.common.projects import build_wheel, make_project, wheel_files
from tests.system.test_example import HIDE_LIBBPF

OPTIONS = 'archs = ["x86_64", "arm64"]'
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
    return build_wheel(make_project(folder / "p", options=OPTIONS, libbpf=""), folder / "out")


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
    lines = [line.split() for line in files["libraries.txt"].decode().splitlines()]
    assert [(name, libc) for name, libc, _ in lines] == [
        ("x86_64", "glibc"), ("x86_64", "musl"), ("arm64", "glibc"), ("arm64", "musl")
    ]  # fmt: skip
    for name, libc, digest in lines:
        assert hashlib.sha256(files[f"{name}/{libc}/libbpf.so.1"]).hexdigest() == digest
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


def test_each_library_needs_nothing_but_the_c_library_that_its_tags_name() -> None:
    needs.own_libbpf()
    listed = own_libraries()
    assert listed.keys() >= {"x86_64", "arm64"}
    for name, libcs in listed.items():
        assert sorted(libcs) == ["glibc", "musl"]
        for libc, fitting in libcs.items():
            path = OWN_LIBBPF / "lib" / name / libc / "libbpf.so.1"
            assert arch.BY_ELF_MACHINE[elf_file.machine(path.read_bytes())] == name
            with path.open("rb") as file:
                elf = ELFFile(file)
                tags = list(elf.get_section_by_name(".dynamic").iter_tags())
                needed = {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"}
                assert {tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"} == {"libbpf.so.1"}
                newest = max(symbol_versions(elf), default=(0, 0))
            if libc == "musl":
                assert (needed, newest) == ({"libc.so"}, (0, 0))
                continue
            assert {other for other in needed if not other.startswith("ld")} == {"libc.so.6"}
            (oldest,) = {
                tuple(map(int, found)) for found in re.findall(r"manylinux_(\d+)_(\d+)_", str(fitting["tags"]))
            }
            assert newest <= oldest, path
            # the old name of the same promise, for pip before 20.3
            assert ("manylinux2014" in str(fitting["tags"])) == (oldest <= (2, 17))


def symbol_versions(elf: ELFFile) -> Iterator[tuple[int, ...]]:
    """The versions of glibc's symbols that a library asks for."""
    for section in elf.iter_sections("SHT_GNU_verneed"):
        assert isinstance(section, GNUVerNeedSection)
        for _, symbols in section.iter_versions():
            for symbol in symbols:
                yield tuple(map(int, symbol.name.removeprefix("GLIBC_").split(".")))


def test_each_library_is_small_in_a_wheel() -> None:
    needs.own_libbpf()
    sizes = {path: len(zlib.compress(path.read_bytes(), 6)) for path in libraries()}
    assert sizes
    assert {path: size for path, size in sizes.items() if size > SMALL} == {}


def test_they_export_what_libbpfs_version_script_says() -> None:
    needs.own_libbpf()
    exported = [exports(path) for path in libraries()]
    assert all(names == exported[0] for names in exported)
    assert {"bpf_object__open_mem", "bpf_linker__new", "ring_buffer__poll", "bpf_token_create"} <= exported[0]
    assert not {name for name in exported[0] if name.startswith(("elf", "gelf", "inflate", "deflate", "gz"))}


def exports(path: Path) -> set[str]:
    with path.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".dynsym").iter_symbols()
        # a version's own name is absolute
        return {symbol.name for symbol in symbols if symbol["st_shndx"] not in ("SHN_UNDEF", "SHN_ABS")}


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
    told = "has no libbpf for riscv64 with glibc: the package brings it for arm64 with glibc, arm64 with musl, x86_64"
    assert told in done.stderr
    assert "LibbpfNotFoundError" in done.stderr


def test_a_process_of_another_architecture_than_its_kernel_is_told_so(installed: Path) -> None:
    """As a Python of 32 bits, whose kernel says that it is x86_64."""
    machine = arch.build_machine()
    assert machine is not None
    other = "arm64" if machine.name == "x86_64" else "x86_64"
    code = (
        f"from demo._bpf.runtime.libbpf import bundled; bundled.running_name = lambda: {other!r};"
        "from demo.prog_skel import Prog; Prog.open()"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, env={"PYTHONPATH": installed}
    )
    assert f"lib/{other}/glibc/libbpf.so.1, which came with the package, cannot be loaded" in done.stderr
    assert "it is built for another architecture than this Python; give open() another libbpf" in done.stderr


BUILD_AT_ONCE = [front_end for front_end in FRONT_ENDS if front_end.kind != "sdist, then wheel"]
"""An sdist has no libraries, so that it can be made without."""
each = pytest.mark.parametrize("front_end", FRONT_ENDS, ids=lambda front_end: front_end.name)


@each
def test_every_way_to_build_bundles(tmp_path: Path, wheel: Path, front_end: FrontEnd) -> None:
    project = make_project(tmp_path / "p", options=OPTIONS, libbpf="", pyproject=front_end.pyproject)
    built = front_end.build(project, tmp_path / "out")
    assert built.status == 0, built.said
    assert folder_of(built.files) == folder_of(wheel_files(wheel)), "beside the sources, too, if that is what is run"
    assert built.files["demo/prog_skel.py"] == wheel_files(wheel)["demo/prog_skel.py"], "it vouches for the libraries"
    if front_end.kind in ("wheel", "sdist, then wheel"):
        assert built.wheel.name == wheel.name
        tags = re.findall("^Tag: (.+)$", wheel_files(built.wheel)["demo-1.dist-info/WHEEL"].decode(), re.MULTILINE)
        assert {str(tag) for tag in parse_wheel_filename(wheel.name)[3]} == set(tags)
        assert b"Root-Is-Purelib: false" in wheel_files(built.wheel)["demo-1.dist-info/WHEEL"]
    elif front_end.kind == "editable":
        assert built.wheel.name.endswith("-none-any.whl"), "what it links to is not in it"
    for sdist in (tmp_path / "out").glob("*.tar.gz"):
        with tarfile.open(sdist) as archive:
            assert not [name for name in archive.getnames() if "/lib/" in name], "who builds from it bundles their own"


@pytest.mark.parametrize("front_end", BUILD_AT_ONCE, ids=lambda front_end: front_end.name)
def test_an_architecture_without_a_library_is_one_message(tmp_path: Path, front_end: FrontEnd) -> None:
    needs.own_libbpf()
    options = 'archs = ["x86_64", "loongarch64"]'
    project = make_project(tmp_path / "p", options=options, libbpf="", pyproject=front_end.pyproject)
    built = front_end.build(project, tmp_path / "out")
    assert built.status == 1
    assert "this hatch-bpf has no libbpf for loongarch64, only for x86_64, " in built.said
    assert 'take the others out of archs, or set libbpf = "system"' in built.said


OTHER_HOOK = """\
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
class Compiled(BuildHookInterface):
    def initialize(self, version, build_data):
        build_data.update(pure_python=False, infer_tag=True)
"""
OTHER_DISTRIBUTION = """\
from setuptools import Distribution, setup
class Compiled(Distribution):
    def has_ext_modules(self):
        return True
setup(distclass=Compiled)
"""


@pytest.mark.parametrize(
    "front_end", [f for f in FRONT_ENDS if f.kind == "wheel"], ids=lambda front_end: front_end.name
)
def test_a_wheel_with_compiled_modules_is_for_this_python_and_platform(tmp_path: Path, front_end: FrontEnd) -> None:
    """Built by another hook, or by setuptools: the libraries make it no more portable."""
    needs.own_libbpf()
    pyproject = front_end.pyproject.replace(
        "[tool.hatch.build.hooks.bpf]", "[tool.hatch.build.hooks.custom]\n\n[tool.hatch.build.hooks.bpf]"
    )
    project = make_project(tmp_path / "p", options=OPTIONS, libbpf="", pyproject=pyproject)
    (project / "hatch_build.py").write_text(OTHER_HOOK)
    if front_end.backend.startswith("setuptools"):
        (project / "setup.py").write_text(OTHER_DISTRIBUTION)
    built = front_end.build(project, tmp_path / "out")
    assert built.status == 0, built.said
    (tag,) = parse_wheel_filename(built.wheel.name)[3]
    assert tag.interpreter == "cp{}{}".format(*sys.version_info)
    assert tag.platform.startswith("linux_")
    assert folder_of(built.files)


def test_a_checkout_without_libraries_is_told_how_to_make_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_libbpf, "OWN_LIBBPF", tmp_path)
    told = r'sources without it: run python -m tools\.libbpf in its checkout, or set libbpf = "system", and the wheel'
    with pytest.raises(ToolchainError, match=told):
        bundled_libbpf.bundle([arch.X86_64])


def test_an_architecture_that_there_is_no_library_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libraries.json").write_text('{"x86_64": {}}')
    monkeypatch.setattr(own_libbpf, "OWN_LIBBPF", tmp_path)
    with pytest.raises(ToolchainError, match="has no libbpf for arm64, only for x86_64: take the others out of archs"):
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
