"""`python -m tests.lab.tried`: `hatch-bpf try` on the example, on an example with fentry, and on own programs.

The last project is made of tests/lab/programs and tests/bpf/portability, of which many must fail somewhere: only what
a kernel does otherwise than its verdict says is wrong. Prints a line for each kernel. Exit status: 0 when nothing is
wrong, 1 when something is, 2 when the lab failed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.archive import path_of
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.images import image_beside
from tests.common.projects import REPOSITORY
from tests.lab.__main__ import HERE, KERNELS, _chosen
from tests.lab.debian import CACHE, Apt
from tests.lab.guest import SUITES, root_tar
from tests.lab.lab import LabError

IMAGES = CACHE / "images"
FENTRY = REPOSITORY / "examples" / "tcprtt_fentry"
"""Its tests run in the guests."""
MAIN = "import sys; from hatch_bpf.cli.main import main; sys.exit(main())"
BEYOND_BTF = {"loads__kprobe_inside"}
"""Programs that some kernels refuse to attach, of which BTF says nothing: no instruction begins at that offset."""
PYPROJECT = """\
[build-system]
requires = ["hatchling", "hatch-bpf"]
build-backend = "hatchling.build"

[project]
name = "own-programs"
version = "1"

[tool.hatch.build.targets.wheel]
packages = ["src/own_programs"]

[tool.hatch.build.hooks.bpf]
archs = ["x86_64", "arm64"]
btf-archive = "{kernels}"
kernels = ["*/*/*/*"]
on-unportable = "ignore"
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.tried", description=__doc__)
    parser.add_argument("kernels", nargs="*", default=["*/x86_64/*"])
    options = parser.parse_args(arguments)
    apt = Apt()
    kernels = _chosen(options.kernels)
    for kernel in kernels:
        add_image(kernel, apt)
    more = ["--images", str(IMAGES)]
    if any(kernel.arch == "arm64" for kernel in kernels):
        more += ["--root", str(root_tar(SUITES["bookworm"], "arm64", apt))]
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-lab-") as folder:
        for project in (KERNELS.parent, FENTRY, own_programs(Path(folder))):
            for line in tried(project, [*map(str, kernels), *more]):
                wrong += line.startswith("WRONG")
                print(f"{project.name}: {line}", flush=True)
    return int(wrong > 0)


def add_image(kernel: Kernel, apt: Apt) -> None:
    """Put a kernel and its image into the archive of images, if it is not there."""
    if image_beside(IMAGES / path_of(kernel)).exists():
        return
    parts = ["--distro", kernel.distro, "--version", kernel.version]
    _hatch_bpf("kernels", "add", str(apt.fetch(kernel)), "--image", "--archive", str(IMAGES), *parts)


def own_programs(folder: Path) -> Path:
    """A project with the repository's own programs."""
    project = folder / "own-programs"
    package = project / "src/own_programs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for source in (HERE / "programs", HERE.parent / "bpf/portability"):
        for path in [*source.glob("*.bpf.c"), *source.glob("*.h")]:
            shutil.copyfile(path, package / path.name)
    (project / "pyproject.toml").write_text(PYPROJECT.format(kernels=KERNELS))
    return project


def tried(project: Path, arguments: Sequence[str]) -> Iterator[str]:
    """What became of a project's programs: a line for each kernel, and one with WRONG for each thing that is wrong."""
    done = _hatch_bpf("try", *arguments, "--json", cwd=project)
    told: dict[str, Any] = json.loads(done.stdout)
    for kernel in told["kernels"]:
        programs = kernel["programs"]
        yield f"{kernel['kernel']}: {len(programs)} programs in {kernel['seconds']} s ({kernel['accelerator']})"
        if kernel["fault"]:
            yield f"WRONG, {kernel['fault']}\n{kernel['last_lines']}"
        if kernel["command"] and kernel["command"]["status"] != 0:
            yield f"WRONG, the command: {kernel['command']}"
        for program in programs:
            if not program["agrees"] and program["program"] not in BEYOND_BTF:
                yield f"WRONG, {json.dumps(program)}"


def _hatch_bpf(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; status 1, which is a verdict, is not an error."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise LabError(f"hatch-bpf {' '.join(arguments)} ends with status {done.returncode}")
    return done


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (HatchBpfError, LabError) as error:
        print(error)
        sys.exit(2)
