"""Packages in the installed layout, in a temporary folder: a compiled test program, its skeleton, the runtime."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import hatch_bpf.runtime
from hatch_bpf.arch import build_machine
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.project.alternatives import NONE, Alternatives
from hatch_bpf.skeleton.generate import SkeletonOptions, class_name, generate
from hatch_bpf.wheel.contents import KERNELS_NAME
from hatch_bpf.wheel.embedded_btfs import pack_btfs
from tests.common import needs

BPF = Path(__file__).parents[1] / "bpf"
RUNTIME = Path(hatch_bpf.runtime.__file__).parent


def compile_bpf(source: Path, folder: Path) -> Path:
    """The object of a test program, compiled by clang alone."""
    arch = build_machine()
    assert arch is not None
    output = folder / source.name.replace(".bpf.c", ".bpf.o")
    command = [needs.tool("clang"), "-g", "-O2", "-Wall", "-target", "bpf"]
    command += [flag for include in find_toolchain().system_includes for flag in ("-idirafter", str(include))]
    command += [f"-D__TARGET_ARCH_{arch.target_macro}", "-c", os.fspath(source), "-o", os.fspath(output)]
    subprocess.run(command, check=True)
    return output


def model_of(source: Path, folder: Path) -> ObjectModel:
    """The model of a test program."""
    path = compile_bpf(source, folder)
    return read_object(path.read_bytes(), path=path.name)


@dataclass(frozen=True)
class Package:
    """A package `demo` with one skeleton, importable with its folder on PYTHONPATH."""

    root: Path
    module: str

    @property
    def bpf_dir(self) -> Path:
        return self.root / "demo" / "_bpf"

    def run(
        self, code: str, *arguments: str, check: bool = True, prefix: tuple[str, ...] = (), python: str = sys.executable
    ) -> subprocess.CompletedProcess[str]:
        """Run Python code that can import the package, but not hatch_bpf."""
        result = subprocess.run(
            [*prefix, python, "-c", textwrap.dedent(code), *arguments],
            cwd=self.root,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.fspath(self.root), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check and result.returncode:
            raise AssertionError(f"exit status {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result

    def embed(self, kernels: Mapping[str, bytes]) -> None:
        """Replace the minimized BTFs by these, by kernel."""
        skeleton = self.root.joinpath(*self.module.split(".")).with_suffix(".py")
        text = skeleton.read_text()
        earlier = hashlib.sha256((self.bpf_dir / KERNELS_NAME).read_bytes()).hexdigest()
        assert earlier in text
        skeleton.write_text(text.replace(earlier, embed(self.bpf_dir, kernels)))


def embed(bpf_dir: Path, kernels: Mapping[str, bytes]) -> str:
    """Write the file of embedded BTFs; returns its sha256."""
    data = pack_btfs({Kernel.parse(kernel): btf for kernel, btf in kernels.items()})
    (bpf_dir / KERNELS_NAME).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def skeleton_text(
    source: Path,
    folder: Path,
    *,
    events: Mapping[str, str] | None = None,
    types: tuple[str, ...] = (),
    alternatives: Alternatives = NONE,
    runtime: str = "._bpf.runtime",
    bpf_dir: str = "_bpf",
) -> str:
    """Compile a test program into a package's folder, without kernels, and generate its skeleton."""
    arch = build_machine()
    assert arch is not None
    (folder / "_bpf" / arch.name).mkdir(parents=True, exist_ok=True)
    built = compile_bpf(source, folder / "_bpf" / arch.name)
    data = built.read_bytes()
    options = SkeletonOptions(
        source=f"src/demo/{source.name}",
        class_name=class_name(source.name.split(".")[0]),
        runtime=runtime,
        bpf_dir=bpf_dir,
        objects={arch.name: (f"{arch.name}/{built.name}", hashlib.sha256(data).hexdigest())},
        kernels=(KERNELS_NAME, embed(folder / "_bpf", {})),
        events=events or {},
        types=types,
        alternatives=alternatives,
    )
    return generate({arch.name: read_object(data, path=built.name)}, options=options)


def load_skeleton(
    name: str,
    folder: Path,
    *,
    events: Mapping[str, str] | None = None,
    types: tuple[str, ...] = (),
    alternatives: Alternatives = NONE,
) -> ModuleType:
    """The skeleton of tests/bpf/NAME.bpf.c, imported here, with the runtime in the repository."""
    text = skeleton_text(
        BPF / f"{name}.bpf.c",
        folder,
        events=events,
        types=types,
        alternatives=alternatives,
        runtime="hatch_bpf.runtime",
    )
    return import_skeleton(f"{name}_skel", text, folder)


def import_skeleton(name: str, text: str, folder: Path) -> ModuleType:
    """Write a skeleton into a folder, and import it."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_package(
    source: Path,
    root: Path,
    *,
    events: Mapping[str, str] | None = None,
    types: tuple[str, ...] = (),
    alternatives: Alternatives = NONE,
) -> Package:
    """A package holding one test program, as an installed wheel would have it."""
    stem = source.name.removesuffix(".bpf.c")
    bpf_dir = root / "demo" / "_bpf"
    text = skeleton_text(source, root / "demo", events=events, types=types, alternatives=alternatives)
    (root / "demo" / "__init__.py").touch()
    (root / "demo" / f"{stem}_skel.py").write_text(text)
    (bpf_dir / "__init__.py").touch()
    shutil.copytree(RUNTIME, bpf_dir / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    return Package(root, f"demo.{stem}_skel")
