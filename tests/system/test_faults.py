"""Faults at any moment: a build that is killed, disks that are full or read-only, no home, a clock that goes back,
others at work in the same tree, odd names. Nothing half written stays, and the next build gives the right bytes.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cache as cache_results
from pathlib import Path

import pytest

from hatch_bpf.errors import OutputError
from hatch_bpf.kernels.archive import pack_archived, path_of
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.support import files
from hatch_bpf.support.store import Store
from hatch_bpf.wheel import source_tree
from tests.common import c_programs, kernel_btfs, needs
from tests.common.projects import PROGRAM, REPOSITORY, make_project, pip_wheel, tree_of, wheel_files

KILLS = 200 if kernel_btfs.FULL else 6
KERNELS = [f"debian/12/x86_64/6.1.0-{build}" for build in (1, 2, 3)]
OPTIONS = 'archs = ["x86_64"]\nbtf-archive = "kernels"\nkernels = ["debian/*/*/*"]\non-unportable = "ignore"'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HATCH_BPF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def with_kernels(folder: Path) -> Path:
    """A project with small kernels: each has the type that the program asks for, at a place of its own."""
    needs.tool("clang")
    project = make_project(folder, options=OPTIONS)
    for number, text in enumerate(KERNELS):
        kernel = Kernel.parse(text)
        path = project / "kernels" / path_of(kernel)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack_archived(task_at(number), kernel))
    return project


@cache_results
def task_at(number: int) -> bytes:
    """The BTF of a kernel whose tasks have their pid somewhere else each time."""
    source = f"struct task_struct {{ char comm[{16 + 8 * number}]; int pid; }}; struct task_struct task;"
    return c_programs.kernel(source).data


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a build of such a project leaves in its tree, wherever that is."""
    folder = tmp_path_factory.mktemp("right")
    return built(with_kernels(folder / "p"), env=environment(HATCH_BPF_CACHE=str(folder / "cache")))


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "hatch_bpf", *words]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", **changes}


def build(
    project: Path, *, prefix: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`hatch-bpf build`, which writes into the tree."""
    return subprocess.run(
        [*prefix, *command("build")], cwd=project, env=env or environment(), capture_output=True, text=True, check=False
    )


def built(project: Path, **options: object) -> dict[str, bytes]:
    """What a build that must work leaves in the tree."""
    done = build(project, **options)
    assert done.returncode == 0, done.stderr
    return tree_of(project)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """What a build that must fail says: a sentence, not a traceback."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.rsplit("hatch-bpf: ", 1)[1]


# --- killed ---------------------------------------------------------------------------------------------------------


def test_a_build_that_is_killed_leaves_nothing_half_written(
    tmp_path: Path, cache: Path, right: dict[str, bytes]
) -> None:
    """SIGKILL at random moments of builds with and without a cache; then a normal build."""
    project = with_kernels(tmp_path / "p")
    sources = tree_of(project)
    took = {}
    for state in ("cold", "warm"):
        start = time.monotonic()
        assert built(project) == right
        took[state] = time.monotonic() - start
    moments = random.Random(0)
    outcomes = []
    for number in range(KILLS):
        state = "cold" if moments.random() < 0.7 else "warm"
        if state == "cold":
            clean(project)
            subprocess.run(["rm", "-rf", cache], check=True)
        outcomes.append(kill(project, moments.uniform(0, took[state])))
        for name, data in tree_of(project).items():
            if not Path(name).name.startswith("."):
                assert data == right[name], f"{name} after kill {number}"
        if kernel_btfs.FULL or number == KILLS - 1:
            assert built(project) == right
    assert -signal.SIGKILL in outcomes
    kill(project, took["warm"] / 2)
    clean(project)
    assert tree_of(project) == sources


def kill(project: Path, after: float) -> int:
    """Start a build and kill its first process: the others have to notice by themselves."""
    with subprocess.Popen(
        command("build"),
        cwd=project,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        time.sleep(after)
        process.kill()
        status = process.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return status
        time.sleep(0.01)
    raise AssertionError("processes of a build that was killed go on")


def clean(project: Path) -> None:
    from hatch_bpf.hatch_plugin import load_hatch_project

    found = load_hatch_project(project)
    assert found is not None
    source_tree.remove(found)


def test_a_wheel_whose_build_is_killed_is_not_there(tmp_path: Path) -> None:
    project = with_kernels(tmp_path / "p")
    before = tree_of(project)
    code = f"import os, hatchling.build as b; os.chdir({str(project)!r}); b.build_wheel({str(tmp_path / 'out')!r})"
    moments = random.Random(1)
    (tmp_path / "tmp").mkdir()
    for _ in range(KILLS // 3):
        with subprocess.Popen(
            [sys.executable, "-c", code], env=environment(TMPDIR=str(tmp_path / "tmp")), stdout=subprocess.DEVNULL
        ) as process:
            time.sleep(moments.uniform(0.2, 1.5))
            process.kill()
        assert tree_of(project) == before
    done = pip_wheel(project, tmp_path / "out")
    assert done.returncode == 0, done.stdout
    (wheel,) = (tmp_path / "out").glob("*.whl")
    assert {name for name in wheel_files(wheel) if name.endswith(".bpf.o")} == {"demo/_bpf/x86_64/prog.bpf.o"}


def test_what_a_killed_write_leaves_is_removed(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p")
    sources = tree_of(project)
    right = built(project)
    for leftover in (".prog_skel.py.abcd_123", "_bpf/.__init__.py.abcd_123", "_bpf/x86_64/x", "_bpf/runtime/older.py"):
        (project / "src/demo" / leftover).write_bytes(b"half")
    mine = project / "src/demo/.prog_skel.py.swp"
    mine.write_bytes(b"an editor's")
    assert built(project) == {**right, "src/demo/.prog_skel.py.swp": b"an editor's"}
    mine.unlink()
    # a clean that was killed: all but the mark of the folder is gone
    for path in (project / "src/demo/_bpf").rglob("*.py"):
        if path.name != "__init__.py":
            path.unlink()
    clean(project)
    assert tree_of(project) == sources
    # a build that was killed before the first file had its name
    (project / "src/demo/_bpf").mkdir()
    (project / "src/demo/_bpf/.__init__.py.abcd_123").write_bytes(b"half")
    clean(project)
    assert tree_of(project) == sources
    assert not (project / "src/demo/_bpf").exists()


def test_a_program_that_is_renamed_takes_its_skeleton_along(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p", sources={"prog.bpf.c": PROGRAM, "sub/old.bpf.c": PROGRAM})
    mine = project / "src/demo/my_skel.py"
    mine.write_text("mine = True\n")
    assert "src/demo/sub/old_skel.py" in built(project)
    (project / "src/demo/sub/old.bpf.c").rename(project / "src/demo/new.bpf.c")
    skeletons = {name for name in built(project) if name.endswith("_skel.py")}
    assert skeletons == {"src/demo/my_skel.py", "src/demo/new_skel.py", "src/demo/prog_skel.py"}


def test_a_clean_that_was_interrupted_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stopped, what is left is still known to be ours."""
    needs.tool("clang")
    project = make_project(tmp_path / "p")
    sources, right = tree_of(project), built(project)
    unlink = Path.unlink
    for last in range(len(right) - len(sources)):
        for name, data in right.items():
            path = project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        allowed = iter(range(last))

        def stop(path: Path, missing_ok: bool = False, allowed: Iterator[int] = allowed) -> None:
            if next(allowed, None) is None:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            unlink(path, missing_ok)

        with monkeypatch.context() as context:
            context.setattr(Path, "unlink", stop)
            with pytest.raises(OutputError, match="Input/output error"):
                clean(project)
        clean(project)
        assert tree_of(project) == sources


# --- disks ----------------------------------------------------------------------------------------------------------


def test_a_tree_that_is_read_only(tmp_path: Path) -> None:
    """A wheel needs no writing there; an editable build says why it cannot."""
    needs.private_mounts()
    project = with_kernels(tmp_path / "p")
    before = tree_of(project)
    read_only = ("unshare", "--mount", "sh", "-c", 'mount --bind -o ro "$0" "$0" && cd "$0" && exec "$@"', str(project))
    done = pip_wheel(project, tmp_path / "out", prefix=read_only)
    assert done.returncode == 0, done.stdout
    said = refused(build(project, prefix=read_only))
    assert said.startswith(str(project / "src/demo/_bpf"))
    assert "Read-only file system; let it be written, or build from a copy" in said
    assert tree_of(project) == before


@pytest.mark.parametrize("fault", ["read-only", "a file", "full", "no home", "a home that is not there"])
def test_a_cache_that_cannot_be_used(tmp_path: Path, cache: Path, right: dict[str, bytes], fault: str) -> None:
    """A build goes on without."""
    project = with_kernels(tmp_path / "p")
    prefix: tuple[str, ...] = ()
    env = environment()
    match fault:
        case "read-only" | "full":
            needs.private_mounts()
            cache.mkdir()
            how = "ro" if fault == "read-only" else "size=4k"
            prefix = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o {how} none "$0" && exec "$@"', str(cache))
        case "a file":
            cache.write_text("")
        case "no home":
            del env["HATCH_BPF_CACHE"], env["HOME"]
            # a user that the system does not know
            prefix = ("unshare", "--user", "--map-user=54321")
            needs.private_mounts()
        case _:
            del env["HATCH_BPF_CACHE"]
            env["HOME"] = "/proc/nobody"
    assert built(project, prefix=prefix, env=env) == right


def test_no_place_for_temporary_files(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p")
    before = tree_of(project)
    code = "import sys, tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc/nowhere']; "
    code += "from hatch_bpf.cli.main import main; sys.exit(main(['build']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment(), capture_output=True, text=True, check=False
    )
    assert "No usable temporary directory found" in refused(done)
    assert tree_of(project) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_each_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The disk fails at the last step, after all bytes were taken."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "file"
    files.write_whole(path, b"old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match=os.strerror(number)):
        files.write_whole(path, b"new")
    assert tree_of(tmp_path) == {"file": b"old"}


# --- clocks ---------------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back(tmp_path: Path, cache: Path, right: dict[str, bytes]) -> None:
    """Files from the future and from before 1970; and contents that change while no time passes."""
    project = with_kernels(tmp_path / "p")
    assert built(project) == right
    for stamp in (2**33, 0, -1000):
        for folder in (project, cache):
            for path in folder.rglob("*"):
                os.utime(path, (stamp, stamp))
        assert built(project) == right
    source = project / "src/demo/prog.bpf.c"
    when = source.stat().st_mtime_ns
    source.write_text(PROGRAM.replace("return 0;", "return 1;"))
    os.utime(source, ns=(when, when))
    changed = built(project)
    assert changed["src/demo/_bpf/x86_64/prog.bpf.o"] != right["src/demo/_bpf/x86_64/prog.bpf.o"]


def test_a_kernel_that_changes_while_no_time_passes(tmp_path: Path, right: dict[str, bytes]) -> None:
    """The same name, size and time, and other types in it."""
    project = with_kernels(tmp_path / "p")
    packed = project / "kernels" / path_of(Kernel.parse(KERNELS[0]))
    packed.unlink()
    file = packed.with_name(packed.name.removesuffix(".tar.xz"))
    file.write_bytes(task_at(0))
    status = file.stat()
    assert made(built(project)) == made(right)
    file.write_bytes(task_at(9))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    clean(project)
    assert made(built(project)) != made(right)


def made(tree: Mapping[str, bytes]) -> dict[str, bytes]:
    """What a build wrote, but for its record, of a tree."""
    return {name: data for name, data in tree.items() if "/_bpf/" in name and not name.endswith("build.json")}


# --- others at work -------------------------------------------------------------------------------------------------


def test_two_builds_and_a_clean_at_once(tmp_path: Path, right: dict[str, bytes]) -> None:
    project = with_kernels(tmp_path / "p")
    sources = tree_of(project)
    code = "import sys; sys.path.insert(0, sys.argv[1]); from tests.system.test_faults import clean\n"
    code += "from pathlib import Path\n"
    code += "for _ in range(40): clean(Path.cwd())"
    for _ in range(10 if kernel_btfs.FULL else 1):
        words = [command("build"), command("build"), [sys.executable, "-c", code, str(REPOSITORY)]]
        started = [
            subprocess.Popen(word, cwd=project, env=environment(), stderr=subprocess.PIPE, text=True) for word in words
        ]
        for process in started:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
        assert built(project) == right
        clean(project)
        assert tree_of(project) == sources


# --- names ----------------------------------------------------------------------------------------------------------

ODD = "späce $(touch x) `y` 'q' \"r\" # & | < > * = : 中"


def test_odd_names_of_folders(tmp_path: Path, right: dict[str, bytes]) -> None:
    """Odd names for the project, the cache and temporary files: the bytes are the same, and nothing is run."""
    odd = with_kernels(tmp_path / ODD / "p")
    places = {"HATCH_BPF_CACHE": str(tmp_path / ODD / "cache"), "TMPDIR": str(tmp_path / ODD)}
    assert built(odd, env=environment(**places)) == right
    out = tmp_path / ODD / "out"
    code = f"import os, hatchling.build as b; os.chdir({str(odd)!r}); b.build_wheel({str(out)!r})"
    clean(odd)
    subprocess.run([sys.executable, "-c", code], env=environment(**places), check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    files_of_wheel = wheel_files(wheel)
    for name, data in right.items():
        if "/_bpf/" in name:
            assert files_of_wheel[name.removeprefix("src/")] == data
    assert not list(tmp_path.rglob("x"))


def test_odd_names_of_sources_and_packages(tmp_path: Path) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p", sources={"süb dir/pröG 1.bpf.c": PROGRAM})
    found = built(project)
    assert "src/demo/süb dir/pr_G_1_skel.py" in found
    assert "src/demo/_bpf/x86_64/pr_G_1.bpf.o" in found


# --- the cache ------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_in_the_cache_is_noticed(tmp_path: Path, cache: Path, right: dict[str, bytes]) -> None:
    """After damage to any entry the build gives the right bytes and makes the entry again."""
    project = with_kernels(tmp_path / "p")
    assert built(project) == right
    entries = sorted(path for path in cache.rglob("*") if path.is_file())
    assert entries
    places = random.Random(2)
    damaged: dict[Path, bytes] = {}
    for path in entries:
        flipped = bytearray(path.read_bytes())
        flipped[places.randrange(len(flipped))] ^= 1 << places.randrange(8)
        path.write_bytes(damaged.setdefault(path, bytes(flipped)))
    clean(project)
    assert built(project) == right
    rewritten = [path for path, data in damaged.items() if not path.exists() or path.read_bytes() != data]
    assert rewritten, "what was read and found damaged is made again"


def test_every_damage_to_an_entry_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("kind", "key", b"some bytes")
    (entry,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole = entry.read_bytes()
    flipped = ((at, whole[at] ^ 1 << bit) for at in range(len(whole)) for bit in range(8))
    for damaged in (
        *(whole[:at] + bytes([byte]) + whole[at + 1 :] for at, byte in flipped),
        *(whole[:length] for length in range(len(whole))),
        whole + b"\0",
    ):
        entry.write_bytes(damaged)
        assert store.get("kind", "key") is None
        assert not entry.exists(), "what is damaged does not stay"
    entry.write_bytes(whole)
    assert store.get("kind", "key") == b"some bytes"
