"""What kernels add to a wheel's size. Input: the example, and a BTF archive. Output: rows.

The archive is that of BTFHUB_ARCHIVE, else the example's own. Every wheel is built by hatchling from a copy of the
example. The reference's has no kernels of ours, but for each kernel a file that `bpftool gen min_core_btf` made of its
BTF for the example's object, under the kernel's name. Thousands of kernels are those of the archive under other names,
each with a BTF drawn at random: no real matrix has as little order.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hatch_bpf.compiler.bpftool import find_bpftool
from hatch_bpf.errors import ToolchainError
from hatch_bpf.kernels.archive import list_kernels, read_archived
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.runtime.host.embedded import Embedded
from hatch_bpf.wheel.contents import KERNELS_NAME
from hatch_bpf.wheel.embedded_btfs import pack_btfs
from hatch_bpf.wheel.record import RECORD_NAME

from .kernel_names import kernel_names
from .machine import ARCHIVE, EXAMPLE
from .table import Row, Skipped, ours_at_most, ratio_at_most

PACKAGE = Path("src", "tcprtt")
BPF_DIR = Path("tcprtt", "_bpf")
MANY = 4000
REFERENCE = "one bpftool gen min_core_btf file per kernel in the wheel"


def rows(quick: bool) -> Iterator[Row | Skipped]:
    """`quick` changes nothing: a size is the same every time."""
    del quick
    what = "bytes a wheel grows per kernel, index and all, {:,} kernels, example"
    try:
        bpftool = find_bpftool()
    except ToolchainError:
        yield Skipped(what=what.format(MANY), reason="there is no bpftool")
        return
    archive = ARCHIVE
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as scratch:
        folder = Path(scratch)
        none = wheel_of(folder / "none")
        all_of_archive = wheel_of(folder / "archive", archive=archive)
        minimized = with_bpftool(bpftool, archive, objects=none, folder=folder)
        if embedded_in(all_of_archive) != minimized:
            raise RuntimeError("what is embedded is not what bpftool makes")
        renamed = rename(minimized, MANY)
        ours = [
            growth(all_of_archive, none, minimized),
            growth(wheel_of(folder / "m", prebuilt=renamed), none, renamed),
        ]
        theirs = [
            growth(wheel_of(folder / f"theirs-{len(kernels)}", files=kernels), none, kernels)
            for kernels in (minimized, renamed)
        ]
    first, many = what.format(len(minimized)), what.format(MANY)
    yield Row(what=first, reference=REFERENCE, ours=ours[0], theirs=theirs[0], unit="bytes", target=ratio_at_most(0.1))
    yield Row(what=first, reference=REFERENCE, ours=ours[0], theirs=theirs[0], unit="bytes", target=ours_at_most(64))
    yield Row(what=many, reference=REFERENCE, ours=ours[1], theirs=theirs[1], unit="bytes", target=ours_at_most(16))


def growths(archive: Path, counts: Sequence[int]) -> list[float]:
    """Bytes a wheel grows per kernel, for each count of kernels that the archive's are renamed to."""
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as scratch:
        folder = Path(scratch)
        none = wheel_of(folder / "none")
        minimized = embedded_in(wheel_of(folder / "archive", archive=archive))
        matrices = [rename(minimized, count) for count in counts]
        return [
            growth(wheel_of(folder / str(number), prebuilt=matrix), none, matrix)
            for number, matrix in enumerate(matrices)
        ]


def wheel_of(
    folder: Path,
    *,
    archive: Path | None = None,
    prebuilt: Mapping[str, bytes] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Build the example: for the kernels of an archive, or those an sdist would bring, or with files of BTF."""
    project = folder / "example"
    made = shutil.ignore_patterns("kernels", "_bpf", "*_skel.py", "dist", "__pycache__")
    shutil.copytree(EXAMPLE, project, ignore=made)
    options = project / "pyproject.toml"
    wanted = f"kernels = {['*/*/*/*'] if archive else []}"
    text = re.sub(r"(?m)^kernels = .*$", f'{wanted}\non-unportable = "ignore"', options.read_text())
    options.write_text(text)
    for kernel, btf in (files or {}).items():
        path = project / PACKAGE / "btf" / f"{kernel}.btf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(btf)
    if prebuilt:
        _run(sys.executable, "-m", "hatch_bpf", "build", cwd=project)
        _put_in(project / PACKAGE / "_bpf", prebuilt)
    environ = {**os.environ, "BTFHUB_ARCHIVE": str(archive or "")}
    _run(
        sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=project, env=environ
    )
    (wheel,) = folder.glob("*.whl")
    if prebuilt and embedded_in(wheel) != prebuilt:
        raise RuntimeError("the build did not take the kernels that were there")
    return wheel


def _put_in(bpf_dir: Path, kernels: Mapping[str, bytes]) -> None:
    """Make it look as if an earlier build had found these kernels."""
    data = pack_btfs({Kernel.parse(kernel): btf for kernel, btf in kernels.items()})
    (bpf_dir / KERNELS_NAME).write_bytes(data)
    record = json.loads((bpf_dir / RECORD_NAME).read_bytes())
    record["outputs"][KERNELS_NAME] = hashlib.sha256(data).hexdigest()
    (bpf_dir / RECORD_NAME).write_text(json.dumps(record))


def with_bpftool(bpftool: Path, archive: Path, *, objects: Path, folder: Path) -> dict[str, bytes]:
    """What bpftool makes of each kernel of the archive for the object in a wheel."""
    made = {}
    whole, small, program = folder / "whole", folder / "small", folder / "program"
    with zipfile.ZipFile(objects) as wheel:
        for entry in list_kernels(archive):
            whole.write_bytes(read_archived(entry.path))
            program.write_bytes(wheel.read(str(BPF_DIR / entry.kernel.arch / "tcprtt.bpf.o")))
            _run(bpftool, "gen", "min_core_btf", whole, small, program, cwd=folder)
            made[str(entry.kernel)] = small.read_bytes()
    return made


def rename(kernels: Mapping[str, bytes], count: int) -> dict[str, bytes]:
    """`count` kernels with these BTFs, each with one of its architecture."""
    chance = random.Random(count)
    of_arch: dict[str, list[bytes]] = {}
    for kernel, btf in kernels.items():
        known = of_arch.setdefault(Kernel.parse(kernel).arch, [])
        if btf not in known:
            known.append(btf)
    return {kernel: chance.choice(of_arch[Kernel.parse(kernel).arch]) for kernel in kernel_names(count)}


def embedded_in(wheel: Path) -> dict[str, bytes]:
    """The kernels of a wheel, each with its BTF."""
    with zipfile.ZipFile(wheel) as archive:
        embedded = Embedded(archive.read(str(BPF_DIR / KERNELS_NAME)), KERNELS_NAME)
    return {kernel: embedded.btf(number) for kernel, number in embedded.kernels().items()}


def growth(wheel: Path, none: Path, kernels: Mapping[str, bytes]) -> float:
    """Bytes for each kernel by which a wheel is larger than the one without."""
    return (wheel.stat().st_size - none.stat().st_size) / len(kernels)


def _run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed: {done.stdout}{done.stderr}")
