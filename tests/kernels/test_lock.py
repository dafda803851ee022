"""kernels/lock.py: what a lock says, and that a locked build accepts nothing else, through pip too."""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import pack_archived, path_of
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.lock import Lock, make_lock, read_lock, render_lock, resolve_locked
from hatch_bpf.kernels.matrix import BtfFile, Entry, Host, KernelSource, Matrix, Newest, Pattern, resolve
from hatch_bpf.kernels.remote.archive_url import ArchiveUrl, index_of
from hatch_bpf.support.progress import Meter
from tests.cli.test_main import run
from tests.common import kernel_images, needs
from tests.common.archive_server import Server, serve
from tests.common.projects import KERNELS as EXAMPLES
from tests.common.projects import PYPROJECT, SETUPTOOLS_PYPROJECT, build_wheel, make_project, pip_wheel, wheel_files
from tests.system.test_bad_input import refusal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OLD, NEW = "debian/12/x86_64/6.1.0-47-amd64", "debian/12/x86_64/6.1.0-50-amd64"
NEWER = "debian/12/x86_64/6.1.0-51-amd64"
DEBIAN: tuple[Entry, ...] = (Pattern("debian/12/*/*"),)
LOCK = Path("/project/bpf-kernels.lock")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return kernel_images.archive(tmp_path / "kernels", [OLD, NEW])


def lock_of(entries: tuple[Entry, ...], archive: Path | ArchiveUrl | None) -> Lock:
    matrix = resolve(entries, archs=["x86_64"], archive=archive)
    return make_lock(entries, ["x86_64"], matrix, Meter())


def locked(entries: tuple[Entry, ...], archive: Path | ArchiveUrl | None, lock: Lock) -> Matrix:
    return resolve_locked(entries, archs=["x86_64"], archive=archive, lock=lock, path=LOCK)


def said(action: object) -> str:
    with pytest.raises(KernelError) as caught:
        action()  # type: ignore[operator]
    return str(caught.value)


def replace_btf(folder: Path, name: str, btf: bytes) -> None:
    kernel = Kernel.parse(name)
    (folder / path_of(kernel)).write_bytes(pack_archived(btf, kernel))


def test_a_line_for_each_kernel_and_the_same_text_each_time(archive: Path, tmp_path: Path) -> None:
    lock = lock_of(DEBIAN, archive)
    text = render_lock(lock)
    lines = [f'"{name}" = "{hashlib.sha256(kernel_images.btf(name)).hexdigest()}"' for name in (OLD, NEW)]
    assert text.endswith("\n[btf-sha256]\n" + "\n".join(lines) + "\n")
    turned = Lock(lock.patterns, lock.archs, dict(sorted(lock.digests.items(), reverse=True)))
    assert render_lock(turned) == text
    path = tmp_path / "lock"
    path.write_text(text)
    assert read_lock(path) == lock
    assert tomllib.loads(text)["patterns"] == ["debian/12/*/*"]
    assert read_lock(tmp_path / "absent") is None


def test_odd_names_survive(tmp_path: Path) -> None:
    odd = Kernel('dis"tro\\', "é", "x86_64", "5.4 [x] = '#'")
    lock = Lock(('a"/\\/*/*',), ("x86_64",), {odd: "0" * 64})
    path = tmp_path / "lock"
    path.write_text(render_lock(lock), encoding="utf-8")
    assert read_lock(path) == lock


def test_the_packing_does_not_matter(archive: Path) -> None:
    lock = lock_of(DEBIAN, archive)
    replace_btf(archive, OLD, kernel_images.btf(OLD))
    path = archive / path_of(Kernel.parse(NEW))
    path.unlink()
    (path.parent / "6.1.0-50-amd64.btf").write_bytes(kernel_images.btf(NEW))
    assert [source.read() for source in locked(DEBIAN, archive, lock).sources] == [
        kernel_images.btf(OLD),
        kernel_images.btf(NEW),
    ]


def test_another_btf_is_refused(archive: Path) -> None:
    lock = lock_of(DEBIAN, archive)
    other = kernel_images.btf("other")
    replace_btf(archive, NEW, other)
    _, source = locked(DEBIAN, archive, lock).sources
    message = said(source.read)
    assert (
        f"{NEW}: the BTF in {archive / path_of(Kernel.parse(NEW))} is not the one that bpf-kernels.lock has" in message
    )
    assert hashlib.sha256(other).hexdigest() in message
    assert lock.digests[Kernel.parse(NEW)] in message
    assert "run `hatch-bpf kernels lock` and look at what it changes" in message


def test_a_kernel_more_or_less_is_refused(archive: Path) -> None:
    lock = lock_of(DEBIAN, archive)
    kernel_images.archive(archive, [NEWER])
    file = archive / path_of(Kernel.parse(NEWER))
    remedy = "run `hatch-bpf kernels lock` and look at what it changes"
    assert said(lambda: locked(DEBIAN, archive, lock)) == f"{NEWER} ({file}) is not in {LOCK}: {remedy}"
    file.unlink()
    (archive / path_of(Kernel.parse(OLD))).unlink()
    message = said(lambda: locked(DEBIAN, archive, lock))
    assert message == f"{OLD} is in {LOCK}, but not in the kernel matrix any more: {remedy}"


def test_many_faults_are_counted(archive: Path) -> None:
    lock = lock_of(DEBIAN, archive)
    kernel_images.archive(archive, [f"debian/12/x86_64/6.2.0-{number}" for number in range(14)])
    message = said(lambda: locked(DEBIAN, archive, lock))
    assert message.count("is not in") == 10
    assert message.endswith("\n(and 4 more)")


def test_files_are_locked_too(tmp_path: Path) -> None:
    file = BtfFile(tmp_path / "own.btf", release="5.4", arch="x86_64")
    file.path.write_bytes(kernel_images.btf("own"))
    lock = lock_of((file,), None)
    assert locked((file,), None, lock).sources[0].read() == kernel_images.btf("own")
    file.path.write_bytes(kernel_images.btf("another"))
    assert "own.btf is not the one that bpf-kernels.lock has" in said(locked((file,), None, lock).sources[0].read)


def test_the_host_needs_no_lock(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hatch_bpf.kernels import identity, matrix

    monkeypatch.setattr(matrix, "HOST_BTF", tmp_path / "vmlinux")
    (tmp_path / "vmlinux").write_bytes(kernel_images.btf("host"))
    monkeypatch.setattr(identity, "host", lambda: Kernel("debian", "13", "x86_64", "6.12.1"))
    found = locked((*DEBIAN, Host()), archive, lock_of(DEBIAN, archive))
    assert found.sources[2].read() == kernel_images.btf("host")
    # a host that is one of the locked kernels is held to the lock
    monkeypatch.setattr(identity, "host", lambda: Kernel.parse(NEW))
    found = locked((Host(), Pattern(OLD)), archive, lock_of(DEBIAN, archive))
    assert "is not the one that bpf-kernels.lock has" in said(found.sources[1].read)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<<<<<<< HEAD",
        "patterns = []\narchs = []\n",
        'patterns = []\narchs = []\n[btf-sha256]\n"debian/12/x86_64/6.1" = "abc"\n',
        'patterns = []\narchs = []\n[btf-sha256]\n"debian/12/x86_64/6.1" = 7\n',
        'patterns = []\narchs = []\n[btf-sha256]\n"debian/12" = "' + "0" * 64 + '"\n',
        "patterns = 3\narchs = []\n[btf-sha256]\n",
        "patterns = []\narchs = []\nbtf-sha256 = []\n",
        '"\xff',
    ],
)
def test_what_is_no_lock(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bpf-kernels.lock"
    path.write_bytes(text.encode("latin-1"))
    message = said(lambda: read_lock(path))
    assert message.startswith(f"{path}: is not a lock of kernels (")
    assert message.endswith("run `hatch-bpf kernels lock` and look at what it changes")


@pytest.mark.thorough
@pytest.mark.parametrize("text", ['"' + "a" * (2 << 20), "#a\n" * 700_000], ids=["a long line", "many lines"])
def test_a_large_file_that_is_no_lock_takes_little_memory(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bpf-kernels.lock"
    path.write_text(text)
    tracemalloc.start()
    try:
        assert "is not a lock of kernels" in said(lambda: read_lock(path))
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


@pytest.fixture
def server(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("HATCH_BPF_CACHE", str(tmp_path / "cache"))
    (archive / "index.txt").write_text(index_of(archive))
    with serve(archive) as running:
        yield running


def test_an_archive_at_a_url_may_grow(server: Server, archive: Path) -> None:
    url = ArchiveUrl(server.url)
    newest = (Newest(1, Pattern("debian/*/*/*")),)
    lock = lock_of(newest, url)
    kernel_images.archive(archive, [NEWER])
    (archive / "index.txt").write_text(index_of(archive))
    asked = len(server.requests)
    (source,) = locked(newest, url, lock).sources
    assert str(source.kernel) == NEW
    assert source.read() == kernel_images.btf(NEW)
    assert len(server.requests) == asked, "nothing more is asked for"
    assert str(resolve(newest, archs=["x86_64"], archive=url).sources[0].kernel) == NEWER


def test_other_patterns_than_the_locked_ones_are_refused(server: Server) -> None:
    url = ArchiveUrl(server.url)
    lock = lock_of((Pattern(NEW),), url)
    message = said(lambda: locked((Pattern(NEW), Pattern(OLD)), url, lock))
    assert message.startswith(
        f"{LOCK}: kernels is not what it was when this was made ({OLD}): run `hatch-bpf kernels lock`"
    )
    message = said(
        lambda: resolve_locked((Pattern(NEW),), archs=["x86_64", "arm64"], archive=url, lock=lock, path=LOCK)
    )
    assert message.startswith(f"{LOCK}: archs is not what it was when this was made (arm64)")


def test_a_server_with_another_file_than_the_lock(server: Server, archive: Path, tmp_path: Path) -> None:
    url = ArchiveUrl(server.url)
    lock = lock_of(DEBIAN, url)
    # the cache has what was locked: the server isn't asked
    replace_btf(archive, NEW, kernel_images.btf("other"))
    assert locked(DEBIAN, url, lock).sources[1].read() == kernel_images.btf(NEW)
    shutil.rmtree(tmp_path / "cache")
    (_, source) = locked(DEBIAN, url, lock).sources
    message = said(source.read)
    assert f"{server.url}/{path_of(Kernel.parse(NEW))}: what was downloaded cannot be used" in message
    assert "is not the one that bpf-kernels.lock has" in message
    assert not source.path.exists()


def test_a_cache_that_is_older_than_the_lock(server: Server, archive: Path) -> None:
    url = ArchiveUrl(server.url)
    (source,) = resolve([Pattern(NEW)], archs=["x86_64"], archive=url).sources
    source.read()
    replace_btf(archive, NEW, kernel_images.btf("mended"))
    fresh = Lock((NEW,), ("x86_64",), {Kernel.parse(NEW): hashlib.sha256(kernel_images.btf("mended")).hexdigest()})
    assert locked((Pattern(NEW),), url, fresh).sources[0].read() == kernel_images.btf("mended")


# --- through the front door


def project_with_kernels(folder: Path, *, pyproject: str = PYPROJECT) -> Path:
    options = 'archs = ["x86_64"]\nbtf-archive = "kernels"\nkernels = ["debian/12/*/*"]'
    project = make_project(folder, options=options, pyproject=pyproject)
    shutil.copytree(EXAMPLES / "debian/12/x86_64", project / "kernels/debian/12/x86_64")
    return project


def lock_project(project: Path) -> subprocess.CompletedProcess[str]:
    done = run("kernels", "lock", cwd=project)
    assert done.returncode == 0, done.stderr
    return done


def test_locked_builds_through_pip(tmp_path: Path) -> None:
    needs.tool("clang")
    project = project_with_kernels(tmp_path / "p")
    unlocked = wheel_files(build_wheel(project, tmp_path / "unlocked"))
    lock_project(project)
    assert wheel_files(build_wheel(project, tmp_path / "locked")) != {}
    folder = project / "kernels/debian/12/x86_64"
    kernel = Kernel.parse("debian/12/x86_64/6.1.0-50-cloud-amd64")
    whole = (folder / f"{kernel.release}.btf.tar.xz").read_bytes()
    replace_btf(project / "kernels", str(kernel), kernel_images.btf("task_struct"))
    told = refusal(project)
    assert f"{kernel}: the BTF in {folder / kernel.release}.btf.tar.xz is not the one that bpf-kernels.lock has" in told
    (folder / f"{kernel.release}.btf.tar.xz").write_bytes(whole)
    (folder / "6.1.0-99.btf.tar.xz").write_bytes(pack_archived(kernel_images.btf("x"), Kernel.parse(NEWER)))
    told = refusal(project)
    assert f"debian/12/x86_64/6.1.0-99 ({folder}/6.1.0-99.btf.tar.xz) is not in {project}/bpf-kernels.lock" in told
    (folder / "6.1.0-99.btf.tar.xz").unlink()
    # whether there is a lock changes nothing in the wheel but the record of what it was made of
    again = wheel_files(build_wheel(project, tmp_path / "again"))
    names = {name for name, data in unlocked.items() if again[name] != data}
    assert {name.rsplit("/", 1)[1] for name in names} == {"build.json", "RECORD"}


def sdist(project: Path, backend: str, out: Path) -> Path:
    out.mkdir()
    script = f"import {backend} as backend; print(backend.build_sdist({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.tar.gz")
    shutil.unpack_archive(made, out)
    return out / made.name.removesuffix(".tar.gz")


@pytest.mark.parametrize("backend", ["hatchling.build", "setuptools.build_meta"])
def test_an_sdist_carries_the_lock(tmp_path: Path, backend: str) -> None:
    needs.tool("clang")
    pyproject = SETUPTOOLS_PYPROJECT if backend == "setuptools.build_meta" else PYPROJECT
    project = project_with_kernels(tmp_path / "p", pyproject=pyproject)
    lock_project(project)
    unpacked = sdist(project, backend, tmp_path / "sdist")
    lock = unpacked / "bpf-kernels.lock"
    assert lock.read_bytes() == (project / "bpf-kernels.lock").read_bytes()
    assert (unpacked / "kernels/debian/12/x86_64/6.1.0-50-cloud-amd64.btf.tar.xz").exists()
    # what was built fits the lock; without clang it installs, and after a change of the lock it does not
    bare = {"PATH": str(tmp_path)}
    done = pip_wheel(unpacked, tmp_path / "out", env=bare, verbose=True)
    assert done.returncode == 0, done.stdout
    assert "taking the objects in src/demo/_bpf, which fit the sources" in done.stdout
    text = lock.read_text()
    lock.write_text(re.sub(r'"[0-9a-f]{64}"', '"' + "0" * 64 + '"', text))
    assert "clang is not on PATH" in refusal_of(unpacked, bare, tmp_path / "changed")
    # told to leave the lock out, an sdist installs all the same
    lock.unlink()
    assert pip_wheel(unpacked, tmp_path / "without", env=bare).returncode == 0


def refusal_of(project: Path, env: dict[str, str], out: Path) -> str:
    done = pip_wheel(project, out, env=env)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def test_a_lock_is_for_files_that_can_be_read(tmp_path: Path) -> None:
    project = project_with_kernels(tmp_path / "p")
    (project / "kernels/debian/12/x86_64/6.1.0-50-cloud-amd64.btf.tar.xz").write_bytes(lzma.compress(b""))
    done = run("kernels", "lock", cwd=project)
    assert done.returncode == 1
    assert "6.1.0-50-cloud-amd64.btf.tar.xz: " in done.stderr
    assert not (project / "bpf-kernels.lock").exists()


def test_a_matrix_without_kernels(tmp_path: Path) -> None:
    """Zero kernels after filtering: every way to get there says why."""
    needs.tool("clang")
    arm_only = 'archs = ["arm64"]\nbtf-archive = "kernels"\nkernels = ["debian/12/*/*"]'
    project = make_project(tmp_path / "a" / "p", options=arm_only)
    shutil.copytree(EXAMPLES / "debian/12/x86_64", project / "kernels/debian/12/x86_64")
    told = refusal(project)
    assert '"debian/12/*/*" matches only kernels of x86_64, and archs is arm64: add the architecture to archs' in told
    host_only = make_project(tmp_path / "b" / "p", options='archs = ["s390x"]\nkernels = ["host"]')
    told = refusal(host_only)
    assert "the running kernel, is left out" in told
    assert "the kernel matrix is empty: let kernels name at least one kernel" in told


def test_sources_can_be_sent_to_another_process() -> None:
    import pickle

    source = KernelSource(Kernel.parse(NEW), Path("x"), "https://example.org/x", bytes, "0" * 64)
    assert pickle.loads(pickle.dumps(source)) == source
