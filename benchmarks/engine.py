"""What a build costs that has many kernels. Input: a BTF archive, the example, libbpf-tools' objects. Output: rows.

The archive is that of BTFHUB_ARCHIVE, else the example's own. Times are on the clock, of work that takes all
processors: let the machine be idle. BTFHub's way is what its scripts do: unpack each kernel's BTF with tar, then run
bpftool on it, by `xargs` with as many processes as there are processors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler.bpftool import find_bpftool
from hatch_bpf.compiler.packages import compile_packages
from hatch_bpf.core_relo.minimize import minimize as minimize_btf
from hatch_bpf.errors import ToolchainError
from hatch_bpf.hatch_plugin import load_hatch_project
from hatch_bpf.kernels.archive import list_kernels, read_archived
from hatch_bpf.kernels.matrix import KernelSource, Matrix, Pattern, resolve
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.per_kernel import fit
from hatch_bpf.pipeline import build
from hatch_bpf.project.sources import Project
from hatch_bpf.support.context import Context
from hatch_bpf.support.store import CACHE_VARIABLE, Store
from hatch_bpf.support.workers import run_all

from .machine import ARCHIVE, EXAMPLE, REPOSITORY
from .measure import interleaved, wall_of, wall_seconds
from .table import Row, Skipped, more_by_at_most, ratio_at_most

PROCESSES = str(len(os.sched_getaffinity(0)))
PROGRAM = Path("src", "tcprtt", "tcprtt.bpf.c")
ARCHS = ("x86_64", "arm64")
BTFHUB = "tar -xJf, then bpftool gen min_core_btf, by xargs"
ONE_MORE_FIELD = {
    "__u32 srtt_us; /*": "__u32 snd_cwnd; __u32 srtt_us; /*",
    "if (srtt_us < min_rtt_us)": "if (srtt_us < min_rtt_us || !BPF_CORE_READ(tcp, snd_cwnd))",
}
ONE_MORE_STRUCT = {
    "struct rtt_event {": "struct task_struct { int pid; } __attribute__((preserve_access_index));\nstruct rtt_event {",
    "if (srtt_us < min_rtt_us)": "if (srtt_us < min_rtt_us || "
    "!BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), pid))",
}


def rows(quick: bool) -> Iterator[Row | Skipped]:
    rounds, many = (1, 200) if quick else (3, 4000)
    try:
        find_bpftool()
    except ToolchainError:
        yield Skipped(what="builds over many kernels", reason="there is no bpftool")
        return
    matrix = resolve([Pattern("*/*/*/*")], archs=ARCHS, archive=ARCHIVE)
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as scratch:
        folder = Path(scratch)
        os.environ[CACHE_VARIABLE] = str(folder / "cache")
        yield from _all_objects(matrix, rounds)
        project = example_project(folder)
        example = objects_of(project)
        yield _against_the_limit(matrix, example, rounds)
        yield from _after_a_change(matrix, example, folder, rounds)
        yield _code_changed(project, rounds)
        yield from _nothing_changed(project, ARCHIVE, folder, rounds)
        yield from _nothing_changed(project, large_archive(folder, many), folder, rounds)
        yield _report(matrix, example, rounds)
    yield Row(
        what=f"peak memory of a build over {many:,} kernels",
        reference="over 40 kernels",
        ours=_peak_memory(many),
        theirs=_peak_memory(40),
        unit="bytes",
        target=ratio_at_most(1.5),
        note="largest process; kernels of the archive under other names, nothing cached",
    )


def example_project(folder: Path, changes: Mapping[str, str] = {}) -> Project:
    """A copy of the example for all of the archive's kernels, on some of which it does not load."""
    copy = folder / f"example-{len(list(folder.iterdir()))}"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("_bpf", "*_skel.py", "__pycache__", "dist"))
    table = (copy / "pyproject.toml").read_text(encoding="utf-8")
    table = table.replace('btf-archive = "kernels"', f'btf-archive = "{ARCHIVE}"\non-unportable = "warn"')
    table = table.replace('kernels = ["debian/*/*/*", "host"]', 'kernels = ["*/*/*/*"]')
    (copy / "pyproject.toml").write_text(table, encoding="utf-8")
    _change(copy, changes)
    project = load_hatch_project(copy)
    assert project is not None
    return project


def _change(root: Path, changes: Mapping[str, str]) -> None:
    text = (root / PROGRAM).read_text(encoding="utf-8")
    for old, new in changes.items():
        if old not in text:
            raise RuntimeError(f"{PROGRAM} has no {old!r} any more")
        text = text.replace(old, new)
    (root / PROGRAM).write_text(text, encoding="utf-8")


def objects_of(project: Project) -> dict[str, tuple[ObjectModel, ...]]:
    return dict(compile_packages(project.packages, project, Context())[0].objects)


def minimize_all(matrix: Matrix, of: Mapping[str, Sequence[ObjectModel]]) -> list[bytes]:
    """The archive to minimized BTFs, and nothing else."""
    return list(run_all(partial(_minimize, of), matrix.sources))


def _minimize(of: Mapping[str, Sequence[ObjectModel]], source: KernelSource) -> bytes:
    return minimize_btf(of[source.kernel.arch], Btf(source.read(), source=source.origin))


def _xargs(matrix: Matrix, command: Sequence[str]) -> float:
    files = "\0".join(str(source.path) for source in matrix.sources)
    xargs = ["xargs", "-0", "-P", PROCESSES, "-n", "1", *command]
    return wall_of(lambda: subprocess.run(xargs, input=files.encode(), stdout=subprocess.DEVNULL, check=True))


def _btfhub(matrix: Matrix, of: Mapping[str, Sequence[ObjectModel]]) -> float:
    """BTFHub's way, for all kernels with the objects of the first architecture: the others' are as many."""
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as scratch:
        paths = []
        for number, model in enumerate(next(iter(of.values()))):
            paths.append(f"{scratch}/{number}.bpf.o")
            Path(paths[-1]).write_bytes(model.elf)
        minimize = f"bpftool gen min_core_btf $d/*.btf $d/out {' '.join(paths)}"
        script = f'd={scratch}/$$; mkdir $d && tar -xJf "$0" -C $d && {minimize} && rm -r $d'
        return _xargs(matrix, ["sh", "-c", script])


def _all_objects(matrix: Matrix, rounds: int) -> Iterator[Row | Skipped]:
    what = "cold: archive to minimized BTFs, all kernels, libbpf-tools' objects"
    from tests.common import objects  # which takes BTFHUB_ARCHIVE out of the environment

    try:
        models = tuple(objects.models().values())
    except BaseException as error:  # a test's way to say that they are not there
        yield Skipped(what=what, reason=str(error))
        return
    of = dict.fromkeys(ARCHS, models)
    ours, theirs = interleaved(
        lambda: wall_of(lambda: minimize_all(matrix, of)), lambda: _btfhub(matrix, of), rounds=rounds
    )
    kernels = f"{len(models)} objects, {len(matrix.sources)} kernels"
    yield Row(what=what, reference=BTFHUB, ours=ours, theirs=theirs, unit="s", target=ratio_at_most(0.8), note=kernels)


def _against_the_limit(matrix: Matrix, of: Mapping[str, Sequence[ObjectModel]], rounds: int) -> Row:
    ours, theirs = interleaved(
        lambda: wall_of(lambda: minimize_all(matrix, of)),
        lambda: _xargs(matrix, ["xz", "-dc"]),
        rounds=rounds,
    )
    return Row(
        what="cold: archive to minimized BTFs, all kernels, the example's objects",
        reference="xz -dc of the same files to nowhere, by xargs",
        ours=ours,
        theirs=theirs,
        unit="s",
        target=ratio_at_most(1.25),
    )


def _after_a_change(
    matrix: Matrix, example: Mapping[str, Sequence[ObjectModel]], folder: Path, rounds: int
) -> Iterator[Row]:
    """Both start with a cache that a build of the example left."""
    for what, changes, target in (
        ("one field read added, archive seen before", ONE_MORE_FIELD, ratio_at_most(0.05)),
        ("one struct read added that was not read before, archive seen before", ONE_MORE_STRUCT, None),
    ):
        changed = objects_of(example_project(folder, changes))

        def ours(changed: Mapping[str, Sequence[ObjectModel]] = changed) -> float:
            with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as scratch:
                store = Store(Path(scratch))
                fit_all(matrix, example, store)
                return wall_of(lambda: fit_all(matrix, changed, store))

        figures = interleaved(ours, lambda: _btfhub(matrix, example), rounds=rounds)
        yield Row(what=what, reference=BTFHUB, ours=figures[0], theirs=figures[1], unit="s", target=target)


def fit_all(matrix: Matrix, of: Mapping[str, Sequence[ObjectModel]], store: Store) -> None:
    fit([of], matrix, Context(), store=store)


def _code_changed(project: Project, rounds: int) -> Row:
    build(project, Context())
    turn = 0

    def changed() -> float:
        nonlocal turn
        turn += 1
        _change(
            project.root,
            {"srtt_us < min_rtt_us": f"srtt_us + {turn} < min_rtt_us"}
            if turn == 1
            else {f"srtt_us + {turn - 1} <": f"srtt_us + {turn} <"},
        )
        return wall_of(lambda: build(project, Context()))

    ours, theirs = interleaved(
        changed, lambda: wall_of(lambda: compile_packages(project.packages, project, Context())), rounds=3 * rounds
    )
    return Row(
        what="program code changed, relocations not",
        reference="the compile alone",
        ours=ours,
        theirs=theirs,
        unit="s",
        target=ratio_at_most(1.1),
        note="in one process",
    )


def _nothing_changed(project: Project, archive: Path, folder: Path, rounds: int) -> Iterator[Row]:
    """hatchling builds the wheel once more, in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "BTFHUB_ARCHIVE": str(archive)}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    packing, empty = (Path(tempfile.mkdtemp(dir=folder), name) for name in ("packing", "empty"))
    for copy in (packing, empty):
        shutil.copytree(project.root, copy)
    subprocess.run(
        [sys.executable, "-m", "hatch_bpf", "build"], cwd=packing, env=environ, check=True, capture_output=True
    )
    for copy in (packing, empty):
        table = (copy / "pyproject.toml").read_text(encoding="utf-8")
        without = table[: table.index("[tool.hatch.build.hooks.bpf]")]
        (copy / "pyproject.toml").write_text(without, encoding="utf-8")

    def theirs(copy: Path) -> float:
        compiling = wall_of(lambda: compile_packages(project.packages, project, Context()))
        return compiling + wall_seconds(command, cwd=copy, env=environ)

    for copy, reference in (
        (packing, "hatchling's build of the same files without the hook, and the compile"),
        (empty, "the same without the files that the hook adds, 2.2 MB of them libbpf"),
    ):
        ours, without_hook = interleaved(
            lambda: wall_seconds(command, cwd=project.root, env=environ), partial(theirs, copy), rounds=5 * rounds
        )
        yield Row(
            what=f"nothing changed, {len(list_kernels(archive)):,} kernels",
            reference=reference,
            ours=ours,
            theirs=without_hook,
            unit="s",
            target=more_by_at_most(0.3),
        )


def large_archive(folder: Path, count: int) -> Path:
    """An archive of `count` kernels: those at hand under other names, as BTFs that are not compressed."""
    archive = folder / f"archive of {count}"
    at_hand = list_kernels(ARCHIVE)
    for number in range(count):
        entry = at_hand[number % len(at_hand)]
        kernel = entry.kernel
        path = archive / kernel.distro / kernel.version / kernel.arch / f"{kernel.release}.{number}.btf"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < len(at_hand):
            path.write_bytes(read_archived(entry.path))
            os.utime(path, (0, 0))
            at_hand = (*at_hand[:number], replace(entry, path=path), *at_hand[number + 1 :])
        else:
            path.hardlink_to(entry.path)
    return archive


def _report(matrix: Matrix, of: Mapping[str, Sequence[ObjectModel]], rounds: int) -> Row:
    def whole() -> float:
        with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as scratch:
            return wall_of(lambda: fit_all(matrix, of, Store(Path(scratch))))

    ours, theirs = interleaved(whole, lambda: wall_of(lambda: minimize_all(matrix, of)), rounds=rounds)
    return Row(
        what="portability report on top of minimizing",
        reference="minimizing alone",
        ours=ours,
        theirs=theirs,
        unit="s",
        target=ratio_at_most(1.3),
        note="the example's objects, with all that is kept for the next build",
    )


def renamed(count: int) -> Matrix:
    """`count` kernels: those of the archive under other names."""
    sources = resolve([Pattern("*/*/*/*")], archs=ARCHS, archive=ARCHIVE).sources
    chosen = (sources[number % len(sources)] for number in range(count))
    return Matrix(
        tuple(
            replace(source, kernel=replace(source.kernel, release=f"{source.kernel.release}.{number}"))
            for number, source in enumerate(chosen)
        ),
        (),
    )


def _peak_memory(count: int) -> float:
    """Of the largest process of a build over that many kernels, in bytes."""
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as cache:
        environ = {**os.environ, CACHE_VARIABLE: cache, "BTFHUB_ARCHIVE": str(ARCHIVE)}
        command = [sys.executable, "-m", "benchmarks.memory", str(count)]
        done = subprocess.run(command, cwd=REPOSITORY, env=environ, check=True, capture_output=True, text=True)
    return float(done.stdout)
