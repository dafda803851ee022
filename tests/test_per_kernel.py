"""Kernels that were met before: the same results without reading them, and never those of another kernel."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import read_archived
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import KernelSource, Matrix, Pattern, resolve
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.per_kernel import PerKernel, fit
from hatch_bpf.project.config import Minimizer
from hatch_bpf.reuse import file_identity
from hatch_bpf.reuse.file_identity import identity_of
from hatch_bpf.support.context import Context
from hatch_bpf.support.progress import Meter
from hatch_bpf.support.store import Store
from tests.common import needs, objects
from tests.common.projects import KERNELS, REPOSITORY

AGO = time.time() - 1000


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The example's oldest kernels and its newest, two of them of x86_64, in files that were not written just now."""
    folder = tmp_path / "archive"
    for pattern in ("debian/11/*/*", "debian/13/*/7.*"):
        for path in KERNELS.glob(pattern):
            copy = folder / path.relative_to(KERNELS)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            os.utime(copy, (AGO, AGO))
    return folder


def matrix_of(archive: Path) -> Matrix:
    return resolve([Pattern("*/*/x86_64/*")], archs=["x86_64"], archive=archive)


def models(*names: str) -> list[ObjectModel]:
    return [objects.models()[name] for name in names]


class Seen(Meter):
    """Notes how many kernels were done at each step."""

    def __init__(self, seen: list[int]) -> None:
        self._seen = seen

    def step(self, doing: str, done: int, total: int, name: object) -> None:  # noqa: ARG002
        self._seen.append(done)


def run(matrix: Matrix, of: Sequence[ObjectModel], store: Store) -> tuple[PerKernel, list[int]]:
    seen = list[int]()
    (fitted,) = fit([{"x86_64": of}], matrix, Context(meter=Seen(seen)), store=store)
    return fitted, seen


def unreadable(matrix: Matrix) -> Matrix:
    def refuse(path: Path) -> bytes:
        raise KernelError(f"{path} was read")

    return replace(matrix, sources=tuple(replace(source, reader=refuse) for source in matrix.sources))


def test_a_kernel_is_read_once(archive: Path, tmp_path: Path) -> None:
    store, of = Store(tmp_path / "store"), models("tcprtt", "opensnoop")
    first, seen = run(matrix_of(archive), of, store)
    assert seen == list(range(1, len(matrix_of(archive).sources) + 1))
    again, seen = run(unreadable(matrix_of(archive)), of, store)
    assert again == first
    assert seen[-1] == len(matrix_of(archive).sources)
    # fewer programs ask for less
    fewer, _ = run(unreadable(matrix_of(archive)), models("tcprtt"), store)
    assert fewer == run(matrix_of(archive), models("tcprtt"), Store(tmp_path / "other store"))[0]


def test_a_program_that_needs_more_reads_it_again_and_keeps_what_was_known(archive: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    run(matrix_of(archive), models("tcprtt"), store)
    with pytest.raises(KernelError, match="was read"):
        run(unreadable(matrix_of(archive)), models("runqslower"), store)
    run(matrix_of(archive), models("runqslower"), store)
    for name in ("tcprtt", "runqslower"):
        run(unreadable(matrix_of(archive)), models(name), store)


def test_a_file_that_was_replaced_is_read_again(archive: Path, tmp_path: Path) -> None:
    store, of = Store(tmp_path / "store"), models("tcprtt")
    matrix = matrix_of(archive)
    first, _ = run(matrix, of, store)
    one, other = matrix.sources[0].path, matrix.sources[-1].path
    other.write_bytes(b"something else")
    os.utime(other, (AGO, AGO))
    with pytest.raises(KernelError, match="not xz data"):
        run(matrix, of, store)
    # the right contents under the wrong name are not taken either
    shutil.copy2(one, other)
    with pytest.raises(KernelError, match="its own name promises"):
        run(matrix, of, store)
    assert first.minimized


@pytest.mark.parametrize("settled", [True, False])
def test_a_file_that_is_replaced_while_it_is_read_is_not_taken_for_the_new_one(
    settled: bool, archive: Path, tmp_path: Path
) -> None:
    store, of = Store(tmp_path / "store"), models("tcprtt")
    matrix = matrix_of(archive)
    path, new = matrix.sources[0].path, matrix.sources[-1].path.read_bytes()
    if not settled:
        os.utime(path)

    def read(_: Path) -> bytes:
        data = read_archived(path)
        path.write_bytes(new)
        os.utime(path, (AGO, AGO) if settled else None)
        return data

    def only(reader: Callable[[Path], bytes]) -> Matrix:
        return replace(matrix, sources=(replace(matrix.sources[0], reader=reader),))

    run(only(read), of, store)
    with pytest.raises(KernelError, match="its own name promises"):
        run(only(read_archived), of, store)


def test_a_copy_elsewhere_is_known_by_its_contents(archive: Path, tmp_path: Path) -> None:
    store, of = Store(tmp_path / "store"), models("tcprtt")
    first, _ = run(matrix_of(archive), of, store)
    shutil.copytree(archive, tmp_path / "copy", copy_function=shutil.copyfile)  # with time stamps of now
    assert run(unreadable(matrix_of(tmp_path / "copy")), of, store)[0] == first


def test_the_contents_of_a_copy_are_looked_at_once(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_identity, "SETTLED", -3600.0)  # for files written just now
    store, of = Store(tmp_path / "store"), models("tcprtt")
    run(matrix_of(archive), of, store)
    shutil.copytree(archive, tmp_path / "copy")
    sources = matrix_of(tmp_path / "copy").sources

    def are_known() -> list[bool]:
        """By what the file system says of them, which is the cheapest identity."""
        return [store.get("kernels", identity_of(source) or "") is not None for source in sources]

    assert are_known() == [False] * len(sources)
    run(unreadable(matrix_of(tmp_path / "copy")), of, store)
    assert are_known() == [True] * len(sources)


def test_a_lock_is_not_satisfied_by_memory(archive: Path, tmp_path: Path) -> None:
    store, of = Store(tmp_path / "store"), models("tcprtt")
    matrix = matrix_of(archive)
    run(matrix, of, store)
    locked = replace(matrix, sources=tuple(replace(source, sha256="0" * 64) for source in matrix.sources))
    with pytest.raises(KernelError, match="is not the one"):
        run(locked, of, store)


def test_damage_and_loss_of_the_cache_change_nothing(archive: Path, tmp_path: Path) -> None:
    store, of = Store(tmp_path / "store"), models("tcprtt")
    first, _ = run(matrix_of(archive), of, store)
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file() and path.parts[-3] in ("excerpts", "kernel-results"):
            damaged = bytearray(path.read_bytes())
            damaged[-1] ^= 1
            path.write_bytes(damaged)
    assert run(matrix_of(archive), of, store)[0] == first
    shutil.rmtree(tmp_path / "store")
    assert run(matrix_of(archive), of, store)[0] == first


INTERRUPTED = """
import signal
import sys
from pathlib import Path
from dataclasses import replace
from hatch_bpf.objects.model import read_object
from hatch_bpf.support.store import Store
from hatch_bpf.per_kernel import fit
from hatch_bpf.support.context import Context
from hatch_bpf.support.progress import Meter
from hatch_bpf.kernels.matrix import Matrix, Pattern, resolve
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests' own parent ignores
archive, store, path = map(Path, sys.argv[1:])
sources = resolve([Pattern("*/*/x86_64/*")], archs=["x86_64"], archive=archive).sources
named = lambda s, n: replace(s, kernel=replace(s.kernel, release=f"{s.kernel.release}.{n}"))
many = Matrix(tuple(named(source, n) for n in range(100) for source in sources), ())
model = read_object(path.read_bytes(), path="tcprtt.bpf.o")
class Printed(Meter):
    def step(self, doing, done, total, name):
        print(done, flush=True)
fit([{"x86_64": [model]}], many, Context(meter=Printed()), store=Store(store))
"""


def test_ctrl_c_ends_it_at_once_and_keeps_what_is_done(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "tcprtt.bpf.o"
    path.write_bytes(models("tcprtt")[0].elf)
    command = [sys.executable, "-c", INTERRUPTED, str(archive), str(tmp_path / "store"), str(path)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        # of twice as many in a row, one process alone has had each kernel of the archive
        while int(process.stdout.readline()) < 2 * len(matrix_of(archive).sources):
            pass
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    # no process but the first says anything
    assert told.endswith("KeyboardInterrupt\n")
    assert "ForkPoolWorker" not in told
    # nobody is left of the processes, and every kernel of the archive is known now
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    run(unreadable(matrix_of(archive)), models("tcprtt"), Store(tmp_path / "store"))


def test_the_first_kernel_that_cannot_be_read_is_told(archive: Path, tmp_path: Path) -> None:
    matrix = matrix_of(archive)
    for source in matrix.sources[1:]:
        source.path.write_bytes(b"nothing")
    with pytest.raises(KernelError, match=re.escape(str(matrix.sources[1].path))):
        run(matrix, models("tcprtt"), Store(tmp_path / "store"))


def test_a_file_written_just_now_is_known_by_its_contents_alone(tmp_path: Path) -> None:
    path = tmp_path / "k.btf"
    path.write_bytes(b"one")
    source = KernelSource(Kernel("", "", "x86_64", "6.1"), path, reader=Path.read_bytes)
    before = identity_of(source)
    path.write_bytes(b"two")
    assert identity_of(source) != before
    path.unlink()
    assert identity_of(source) is None


@pytest.mark.thorough
def test_one_model_for_two_architectures_is_as_good_as_two(archive: Path, tmp_path: Path) -> None:
    matrix = resolve([Pattern("*/*/*/*")], archs=["x86_64", "arm64"], archive=archive)
    (one,) = models("tcprtt")
    copy = read_object(one.elf, path=one.path)

    def of(x86_64: ObjectModel, arm64: ObjectModel, name: str) -> list[PerKernel]:
        objects = {"x86_64": [x86_64], "arm64": [arm64]}
        store = Store(tmp_path / name)
        # read, and then told again
        return [fit([objects], matrix, Context(), store=store)[0] for _ in range(2)]

    both, again = of(one, one, "one")
    assert both == again
    assert [both, both] == of(one, copy, "two")
    assert {kernel.arch for kernel in both.minimized} == {"x86_64", "arm64"}


def counted(matrix: Matrix, log: Path) -> Matrix:
    """The matrix, whose kernels note in a file that they are read, by whichever process."""

    def read(path: Path) -> bytes:
        with log.open("a") as file:
            file.write(f"{path}\n")
        return read_archived(path)

    return replace(matrix, sources=tuple(replace(source, reader=read) for source in matrix.sources))


@pytest.mark.thorough
@pytest.mark.parametrize("others", [("runqslower",), ("tcprtt",), ("opensnoop", "biolatency")])
def test_packages_together_come_to_what_each_does_alone_and_read_kernels_once(
    archive: Path, tmp_path: Path, others: tuple[str, ...]
) -> None:
    packages = [{"x86_64": models("tcprtt")}, {"x86_64": models(*others)}]
    matrix, store, log, seen = matrix_of(archive), Store(tmp_path / "store"), tmp_path / "log", list[int]()

    def together() -> list[PerKernel]:
        read = counted(matrix, log)
        return fit(packages, read, Context(meter=Seen(seen)), store=store)

    alone = [run(matrix, of["x86_64"], Store(tmp_path / f"alone {n}"))[0] for n, of in enumerate(packages)]
    assert together() == alone
    assert sorted(log.read_text().split()) == sorted(str(source.path) for source in matrix.sources)
    assert seen == list(range(1, len(matrix.sources) + 1))
    # again, from what is kept: all of it, and only what the first package left
    assert together() == alone
    shutil.rmtree(tmp_path / "store")
    run(matrix, packages[0]["x86_64"], store)
    assert together() == alone


def test_bpftool_minimizes_for_each_package(archive: Path, tmp_path: Path) -> None:
    needs.tool("bpftool")
    packages = [{"x86_64": models("tcprtt")}, {"x86_64": models("opensnoop")}]
    matrix = matrix_of(archive)
    ours, theirs = (
        fit(packages, matrix, Context(), minimizer=minimizer, store=Store(tmp_path / minimizer))
        for minimizer in get_args(Minimizer)
    )
    assert ours == theirs
    assert ours[0].minimized != ours[1].minimized
