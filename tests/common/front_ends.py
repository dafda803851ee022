"""The ways to build a project: by hatchling, by setuptools or by the command, and what each leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tests.common.projects import PYPROJECT, SETUPTOOLS_PYPROJECT, bare_environment, tree_of, wheel_files

BACKENDS = {"hatchling": ("hatchling.build", PYPROJECT), "setuptools": ("setuptools.build_meta", SETUPTOOLS_PYPROJECT)}
"""Back end -> its module, and a pyproject.toml for it."""
KINDS = ("wheel", "sdist, then wheel", "editable")
NO_TOOLS = {"PATH": "/nonexistent"}


@dataclass(frozen=True)
class Built:
    """What one build left."""

    status: int
    said: str
    files: Mapping[str, bytes]
    """By name: of a wheel all, else what is beside the package's sources."""
    wheel: Path | None = None


@dataclass(frozen=True)
class FrontEnd:
    """One way to build a project whose sources lie in src/."""

    name: str
    backend: str
    pyproject: str
    kind: str

    def build(self, project: Path, out: Path, *, env: Mapping[str, str] | None = None, python: str = "") -> Built:
        """Build into the new folder `out`. A wheel made from an sdist is made where there are no tools."""
        out.mkdir(parents=True)
        code = f"import {self.backend} as b; b.{{}}({str(out)!r})"  # as pip does
        if self.kind == "command":
            code = "from hatch_bpf.cli.main import main; sys.exit(main(['build']))"
        elif self.kind == "editable":
            code = code.format("build_editable")
        elif self.kind == "wheel":
            code = code.format("build_wheel")
        else:
            done = _run(code.format("build_sdist"), project, env, python)
            if done.returncode:
                return self._built(done, project, out)
            (path,) = out.glob("*.tar.gz")
            with tarfile.open(path) as archive:
                archive.extractall(out, filter="data")
            project, env, code = out / path.name.removesuffix(".tar.gz"), NO_TOOLS, code.format("build_wheel")
        return self._built(_run(code, project, env, python), project, out)

    def _built(self, done: subprocess.CompletedProcess[str], project: Path, out: Path) -> Built:
        wheel = next(out.glob("*.whl"), None)
        is_packed = wheel is not None and self.kind != "editable"
        files = wheel_files(wheel) if wheel and is_packed else tree_of(project / "src")
        own = {name: data for name, data in files.items() if ".egg-info/" not in name and ".dist-info/" not in name}
        return Built(done.returncode, done.stdout, own, wheel)


def _run(code: str, project: Path, env: Mapping[str, str] | None, python: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a project's folder; the output holds both streams."""
    own = {} if python else bare_environment()
    return subprocess.run(
        [python or sys.executable, "-c", f"import sys; {code}"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**own, "HOME": os.fspath(project.parent), "PATH": os.environ["PATH"], **(env or {})},
    )


FRONT_ENDS = [
    *(FrontEnd(f"{name}, {kind}", *BACKENDS[name], kind) for name, kind in product(BACKENDS, KINDS)),
    FrontEnd("hatch-bpf build", "", PYPROJECT, "command"),
]
COMMAND = FRONT_ENDS[-1]
