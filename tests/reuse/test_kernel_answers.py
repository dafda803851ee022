"""Code that changes while its relocations stay: no excerpt is taken apart, and the verdicts are of the new code."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from hatch_bpf import per_kernel as fitting
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.resolve import Matcher
from hatch_bpf.kernels.matrix import Matrix, Pattern, resolve
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.per_kernel import Fitted, fit
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.project.alternatives import NONE, Alternatives
from hatch_bpf.reuse.kernel_answers import KIND, Answers, answers_of, asked
from hatch_bpf.support.store import Store
from tests.common import c_programs, kernel_btfs, objects

PROGRAM = """
struct task_struct { int pid; int gone; } core;
struct { int (*type)[1]; int (*max_entries)[8]; int (*key_size)[4]; int (*value_size)[4]; } table SEC(".maps");
static struct task_struct *(*task)(void) = (void *)35;
static long (*lookup)(void *, const void *) = (void *)1;
static long (*read)(void *, u32, const void *) = (void *)113;
char _license[] SEC("license") = "GPL";

SEC("kprobe/vfs_read") int program(void *ctx) {
    u64 found = 0;
    if (1)
        read(&found, 4, &task()->gone);
    return found + lookup(&table, &found);
}
SEC("kprobe/vfs_write") int other(void *ctx) { return bpf_core_field_exists(((struct task_struct *)0)->pid); }
"""
ASK_NO_MORE: dict[str, Mapping[str, str]] = {
    "another number": {"found = 0;": "found = 1;"},
    "a line above": {"char _license[]": "\n\nchar _license[]"},
    "a global that decides": {"char _license[]": "const volatile u64 wanted; char _license[]", "if (1)": "if (wanted)"},
    "a map without a size": {"int (*max_entries)[8];": ""},
    "a section that may be left out": {"kprobe/vfs_read": "?kprobe/vfs_read"},
    "a subprogram": {
        "if (1)": "if (guard(found))",
        "char _license[]": "__attribute__((noinline)) u64 guard(u64 c) { return c & 1; } char _license[]",
    },
}
"""What is asked of a kernel stays the same."""
SAME_VERDICTS = ("another number", "a subprogram")
ASK_MORE: dict[str, Mapping[str, str]] = {
    "a helper of newer kernels": {"return found": "return ((u64 (*)(u32))181)(1) + found"},
    "another type of map": {"int (*type)[1]": "int (*type)[33]"},
    "another kind of section": {"kprobe/vfs_write": "fentry/no_such_function"},
    "another function": {"kprobe/vfs_write": "kprobe/no_such_function"},
    "a kernel symbol": {
        "char _license[]": 'extern const int no_such_variable SEC(".ksyms"); char _license[]',
        "return found": "return (u64)&no_such_variable + found",
    },
}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """The example's kernels of x86_64, in files that were not written just now."""
    folder = tmp_path_factory.mktemp("archive")
    shutil.copytree(kernel_btfs._EXAMPLE, folder, dirs_exist_ok=True)
    ago = time.time() - 1000
    for path in folder.rglob("*.btf.tar.xz"):
        os.utime(path, (ago, ago))
    return resolve([Pattern("*/*/x86_64/*")], archs=["x86_64"], archive=folder)


def program(changes: Mapping[str, str] = {}) -> ObjectModel:
    source = PROGRAM
    for old, new in changes.items():
        assert source.count(old) == 1
        source = source.replace(old, new)
    return c_programs.model(source)


def run(model: ObjectModel, matrix: Matrix, store: Store, alternatives: Alternatives = NONE) -> Fitted:
    return fit(
        {"x86_64": [model]}, matrix, minimizer="builtin", watch=lambda *_: None, alternatives=alternatives, store=store
    )


@pytest.fixture(scope="module")
def left(matrix: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("store"))
    run(program(), matrix, store)
    return store.folder


@pytest.fixture
def store(left: Path, tmp_path: Path) -> Store:
    """What a build of the unchanged program leaves."""
    return Store(shutil.copytree(left, tmp_path / "store"))


def refuse(*_: object, source: str) -> NoReturn:
    raise AssertionError(f"{source} was looked at")


def told(fitted: Fitted) -> str:
    """The report without the folder that the source was in."""
    return re.sub(r"[^']*/program.bpf.c", "program.bpf.c", repr(fitted.report))


def run_blind(model: ObjectModel, matrix: Matrix, store: Store) -> Fitted:
    """With neither excerpts nor kernels to look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "Excerpt", refuse)
        patch.setattr(fitting, "RecordedBtf", refuse)
        return run(model, matrix, store)


@pytest.mark.parametrize("change", ASK_NO_MORE)
def test_a_change_that_asks_no_more_takes_nothing_apart(
    change: str, matrix: Matrix, store: Store, tmp_path: Path
) -> None:
    changed = program(ASK_NO_MORE[change])
    found = run_blind(changed, matrix, store)
    assert found == run(changed, matrix, Store(tmp_path / "none"))
    was = run(program(), matrix, store)
    assert found.minimized == was.minimized
    assert (told(found) == told(was)) == (change in SAME_VERDICTS)


@pytest.mark.parametrize("change", ASK_MORE)
def test_a_change_that_asks_more_is_answered_too(change: str, matrix: Matrix, store: Store, tmp_path: Path) -> None:
    changed = program(ASK_MORE[change])
    found = run(changed, matrix, store)
    assert found == run(changed, matrix, Store(tmp_path / "none"))
    assert told(found) != told(run(program(), matrix, store))


def test_options_are_not_remembered(matrix: Matrix, store: Store, tmp_path: Path) -> None:
    seen = [run(program(), matrix, store).report]
    for declared in (Alternatives(optional=("program",)), Alternatives({"either": ("program", "other")})):
        found = run(program(), matrix, store, declared)
        assert found == run(program(), matrix, Store(tmp_path / "none"), declared)
        assert found.report not in seen
        seen.append(found.report)
    assert run(program(), matrix, store).report == seen[0]


def test_other_relocations_are_other_questions() -> None:
    same = {asked([program(change)]) for change in (*ASK_NO_MORE.values(), *ASK_MORE.values(), {})}
    assert len(same) == 1
    others = (
        {"gone; }": "gone_too; }", "->gone": "->gone_too"},
        {"int gone; }": "u64 gone; }"},
        {"struct task_struct { int pid;": "struct task_struct { u64 before; int pid;"},
        {"->gone": "->pid"},
        {"return bpf_core_field_exists(": "return bpf_core_field_size("},
    )
    assert len({asked([program(change)]) for change in others} | same) == len(others) + 1
    first, second = program(), program({"->gone": "->pid"})
    assert asked([first, second]) not in {asked([second, first]), asked([first]), asked([second])}


def test_all_that_the_tools_ask_is_answered_again(matrix: Matrix, tmp_path: Path) -> None:
    """Relocations of every kind that there is in libbpf-tools' objects, those that find nothing among them."""
    store, of = Store(tmp_path / "store"), list(objects.models().values())
    first = fit({"x86_64": of}, matrix, minimizer="builtin", watch=lambda *_: None, store=store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "Excerpt", refuse)
        patch.setattr(fitting, "RecordedBtf", refuse)
        assert fit({"x86_64": of}, matrix, minimizer="builtin", watch=lambda *_: None, store=store) == first


def test_what_was_damaged_or_lost_is_found_again(matrix: Matrix, store: Store) -> None:
    whole = run(program(), matrix, store)
    (kept,) = (path for path in (store.folder / KIND).rglob("*") if path.is_file())
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    with pytest.raises(AssertionError, match="was looked at"):
        run_blind(program(), matrix, store)
    assert run(program(), matrix, store) == whole
    assert run_blind(program(), matrix, store) == whole
    shutil.rmtree(store.folder / "excerpts")
    assert run_blind(program(), matrix, store) == whole


def test_kernels_that_are_new_are_learnt_with_those_that_are_known(matrix: Matrix, tmp_path: Path) -> None:
    store, few = Store(tmp_path / "store"), Matrix(matrix.sources[:2], ())
    run(program(), few, store)
    whole = run(program(), matrix, store)
    run(program(), few, store)
    assert run_blind(program(), matrix, store) == whole


def test_what_libbpf_refuses_is_not_kept() -> None:
    """Its message tells of the kernel's types, and of more than one."""
    model = c_programs.model('struct s { u64 a; } core; SEC("kprobe/f") int p(struct s *s) { return s->a; }')
    plain = c_programs.kernel("struct s { u64 a; } one;")
    moved = c_programs.kernel("struct s { u64 before; u64 a; } one;")
    two = c_programs.kernel("struct s { u64 a; } one; struct s___of_old { u64 before; u64 a; } other;")

    def answers(kernel: Btf, small: Btf) -> Answers | None:
        return answers_of([model], Matcher(kernel), Matcher(small), b"", KernelFeatures(kernel))

    assert answers(plain, plain)
    assert answers(plain, moved) is None
    assert answers(two, two) is None
