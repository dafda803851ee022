"""libbpf in the wheel: what is bundled, its tag against pip's and auditwheel's, and that nothing else is needed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging._musllinux import _parse_musl_version
from packaging.tags import sys_tags

from hatch_bpf import arch
from hatch_bpf.errors import ToolchainError
from hatch_bpf.runtime.errors import LibbpfNotFoundError
from hatch_bpf.wheel import bundled_libbpf
from tests.common import needs
from tests.common.projects import SETUPTOOLS_PYPROJECT, build_wheel, make_project, wheel_files
from tests.system.test_example import HIDE_LIBBPF

MACHINE = arch.build_machine()
USES_IT = """\
import sys
from demo.prog_skel import Prog
with Prog.open() as bpf:
    library = bpf._held.libbpf
    print(library.path, *library.version)
    {load}
print([line.split()[-1] for line in open("/proc/self/maps") if "libbpf.so" in line and "memfd" not in line])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.tool("clang")
    folder = tmp_path_factory.mktemp("bundle")
    return build_wheel(make_project(folder / "p", options='libbpf = "bundle"'), folder / "out")


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        tmp_path / "site",
    ]
    subprocess.run([*command, wheel], check=True)
    return tmp_path / "site"


def folder_of(files: dict[str, bytes]) -> dict[str, bytes]:
    assert MACHINE is not None
    prefix = f"demo/_bpf/lib/{MACHINE.name}/"
    return {name.removeprefix(prefix): data for name, data in files.items() if name.startswith(prefix)}


def test_libbpf_and_what_it_needs_are_there_with_licenses_and_an_sbom(wheel: Path) -> None:
    files = folder_of(wheel_files(wheel))
    index = json.loads(files["libraries.json"])
    assert list(index)[-1].startswith("libbpf.so.")
    assert any(soname.startswith("libelf.so.") for soname in index)
    assert {soname: hashlib.sha256(files[soname]).hexdigest() for soname in index} == index
    assert not [soname for soname in index if soname.startswith(("libc.", "ld-"))]
    assert [name for name in files if name.startswith("licenses/")]
    sbom = json.loads(files["sbom.cdx.json"])
    listed = {
        component["properties"][0]["value"]: component["hashes"][0]["content"] for component in sbom["components"]
    }
    assert listed == index
    assert all("version" in component for component in sbom["components"])


def test_pip_accepts_the_tag_here_and_it_is_no_wider_than_needed(wheel: Path) -> None:
    name, version, *tag = wheel.stem.split("-")
    assert (name, version, tag[:2]) == ("demo", "1", ["py3", "none"])
    assert tag[2] in {supported.platform for supported in sys_tags()}
    objdump = needs.tool("objdump")
    newest = (0, 0)
    for soname, data in folder_of(wheel_files(wheel)).items():
        if ".so." in soname:
            library = wheel.parent / soname
            library.write_bytes(data)
            said = subprocess.run([objdump, "-T", library], capture_output=True, text=True, check=True).stdout
            versions = [v.split(")")[0].split(".") for v in said.split("GLIBC_")[1:]]
            newest = max([newest, *((int(v[0]), int(v[1])) for v in versions)])
    assert tag[2].startswith(f"manylinux_{newest[0]}_{max(newest[1], 17)}_")


def test_it_is_the_packages_own_that_is_loaded(installed: Path) -> None:
    done = run(installed, "pass")
    path, *version = done.stdout.splitlines()[0].split()
    assert path.startswith(str(installed / "demo" / "_bpf" / "lib"))
    assert (int(version[0]), int(version[1])) >= (0, 6)
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


def test_a_library_that_was_changed_is_not_loaded(installed: Path) -> None:
    assert MACHINE is not None
    (path,) = (installed / "demo" / "_bpf" / "lib" / MACHINE.name).glob("libbpf.so.*")
    path.write_bytes(path.read_bytes() + b"\0")
    done = run(installed, "pass", check=False)
    assert done.returncode == 1
    assert "libbpf.so.1 is not the file that was built" in done.stderr


def test_setuptools_makes_the_same(tmp_path: Path, wheel: Path) -> None:
    project = make_project(tmp_path / "p", options='libbpf = "bundle"', pyproject=SETUPTOOLS_PYPROJECT)
    other = build_wheel(project, tmp_path / "out")
    assert other.name == wheel.name
    assert folder_of(wheel_files(other)) == folder_of(wheel_files(wheel))
    assert b"Root-Is-Purelib: false" in wheel_files(other)["demo-1.dist-info/WHEEL"]
    assert b"Root-Is-Purelib: false" in wheel_files(wheel)["demo-1.dist-info/WHEEL"]


def test_what_hatch_bpfs_own_wheel_carries_serves_where_the_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MACHINE is not None
    made = bundled_libbpf.bundle(MACHINE)
    monkeypatch.setattr(bundled_libbpf, "find", _no_libbpf)
    monkeypatch.setattr(bundled_libbpf, "OWN_LIBBPF", tmp_path)
    with pytest.raises(ToolchainError, match="takes the libbpf of this machine, and there is none: none here"):
        bundled_libbpf.bundle(MACHINE)
    for name, data in made.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert bundled_libbpf.bundle(MACHINE) == made


def _no_libbpf() -> str:
    raise LibbpfNotFoundError("none here")


@pytest.mark.parametrize("what", ["text", "object", "lacking"])
def test_a_libbpf_that_cannot_be_bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    assert MACHINE is not None
    path, source = tmp_path / "libbpf.so.1", tmp_path / "source.c"
    source.write_text("int bpf(void) { return 0; }")
    clang = [needs.tool("clang"), "-fPIC", "-nostdlib", source]
    if what == "text":
        path.write_text("not a library")
        message = f"{path} is not a shared library: "
    elif what == "object":
        subprocess.run([*clang, "-c", "-o", path], check=True)
        message = f"{path} is not a shared library"
    else:
        lacking = tmp_path / "libhatch_bpf_never.so.1"
        subprocess.run([*clang, "-shared", f"-Wl,-soname,{lacking.name}", "-o", lacking], check=True)
        subprocess.run([*clang, "-shared", "-Wl,--no-as-needed", lacking, "-o", path], check=True)
        lacking.unlink()
        message = f"{path} needs libhatch_bpf_never.so.1, which is in none of {tmp_path}, "
    monkeypatch.setattr(bundled_libbpf, "find", lambda: str(path))
    with pytest.raises(ToolchainError) as caught:
        bundled_libbpf.bundle(MACHINE)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("tool", "said", "name", "version"),
    [
        ("rpm", "libbpf 1.4.7-1.fc41\nlibbpf 1.4.7-1.fc41", "libbpf", "1.4.7-1.fc41"),
        ("apk", "/usr/lib/libbpf.so.1 is owned by libbpf-1.5.0-r0", "libbpf", "1.5.0-r0"),
    ],
)
def test_what_other_distributions_package_managers_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, said: str, name: str, version: str
) -> None:
    """What rpm and apk print, for this machine has neither."""
    (tmp_path / tool).write_text(f"#!/bin/sh\necho '{said}'\n")
    (tmp_path / tool).chmod(0o755)
    monkeypatch.setattr(bundled_libbpf, "_SYSTEM_PATH", str(tmp_path))
    owner = bundled_libbpf._owner(Path("/usr/lib64/libbpf.so.1"))
    assert owner is not None
    assert (owner.name, owner.version) == (name, version)


OPENS = """\
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **paths)
{
	void *last = NULL;
	for (int i = 1; i < count; i++)
		if (!(last = dlopen(paths[i], RTLD_NOW | RTLD_GLOBAL)))
			return puts(dlerror()), 1;
	return ((int (*)(void))dlsym(last, "bpf"))();
}
"""


@dataclass(frozen=True)
class Musl:
    """Libraries that need each other, as Alpine's do, and a program that loads them by their paths."""

    opens: Path
    libbpf: Path


@pytest.fixture
def musl(tmp_path: Path) -> Musl:
    compiler = needs.tool("musl-gcc")
    assert MACHINE is not None

    def make(name: str, text: str, *arguments: object) -> Path:
        (tmp_path / f"{name}.c").write_text(text)
        subprocess.run([compiler, tmp_path / f"{name}.c", "-o", tmp_path / name, *map(str, arguments)], check=True)
        return tmp_path / name

    def library(name: str, text: str, *needed: Path) -> Path:
        return make(name, text, "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{name}", "-Wl,--no-as-needed", *needed)

    libc = library(f"libc.musl-{MACHINE.machines[0]}.so.1", "")
    libz = library("libz.so.1", "int z(void) { return 3; }", libc)
    libelf = library("libelf.so.1", "int z(void); int elf(void) { return z() + 4; }", libz, libc)
    text = "int z(void); int elf(void); int bpf(void) { return elf() * 10 + z(); }"
    libbpf = library("libbpf.so.1", text, libelf, libz, libc)
    return Musl(make("opens", OPENS), libbpf)


def test_a_bundle_for_musl(musl: Musl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each library is loaded by its path after those it needs; what musl makes of that, its own dynamic linker says."""
    assert MACHINE is not None
    monkeypatch.setattr(bundled_libbpf, "find", lambda: str(musl.libbpf))
    made = bundled_libbpf.bundle(MACHINE)
    loader = subprocess.run([f"/lib/ld-musl-{MACHINE.machines[0]}.so.1"], capture_output=True, text=True, check=False)
    version = _parse_musl_version(loader.stderr)
    assert version is not None
    assert made.platform == f"musllinux_{version.major}_{version.minor}_{MACHINE.machines[0]}"
    folder = f"lib/{MACHINE.name}"
    order = list(json.loads(made.files[f"{folder}/libraries.json"]))
    assert order == ["libz.so.1", "libelf.so.1", "libbpf.so.1"]
    for name in order:
        (tmp_path / "bundled").mkdir(exist_ok=True)
        (tmp_path / "bundled" / name).write_bytes(made.files[f"{folder}/{name}"])

    def load(source: Path) -> subprocess.CompletedProcess[str]:
        paths = [source / name for name in order]
        return subprocess.run([musl.opens, *paths], capture_output=True, text=True, check=False, cwd="/")

    assert "libz.so.1: No such file or directory (needed by" in load(tmp_path).stdout, (
        "as they are they can't be loaded"
    )
    done = load(tmp_path / "bundled")
    assert (done.returncode, done.stdout) == (73, "")
    sbom = json.loads(made.files[f"{folder}/sbom.cdx.json"])
    changed = [component["name"] for component in sbom["components"] if len(component["properties"]) > 1]
    assert changed == ["libelf.so.1", "libbpf.so.1"]


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
