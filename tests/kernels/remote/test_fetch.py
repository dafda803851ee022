"""kernels/fetch.py: several downloads at a time, and how they are told, stopped and interrupted."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import list_kernels, path_of
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import Matrix, Pattern, resolve
from hatch_bpf.kernels.remote import download
from hatch_bpf.kernels.remote.archive_url import ArchiveUrl
from hatch_bpf.kernels.remote.fetch import AT_ONCE
from hatch_bpf.support.budget import ARCHIVED_BYTES
from hatch_bpf.support.progress import Downloaded
from tests.common import kernel_images
from tests.common.archive_server import Server, serve
from tests.common.projects import REPOSITORY
from tests.kernels.remote.test_archive_url import INTERRUPTIBLE

NAMES = [f"debian/12/x86_64/6.1.0-{number}-amd64" for number in range(1, 21)]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HATCH_BPF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(download, "BACKOFF", 0.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(kernel_images.archive(tmp_path / "served", NAMES)) as running:
        yield running


def matrix(server: Server, names: list[str]) -> Matrix:
    return resolve([Pattern(name) for name in names], archs=["x86_64"], archive=ArchiveUrl(server.url))


def whole(server: Server) -> list[str]:
    return [str(entry.kernel) for entry in list_kernels(ArchiveUrl(server.url).cache)]


def test_as_many_at_a_time_as_allowed_and_no_more(server: Server) -> None:
    """All of the first wait for each other, so that fewer would wait forever."""
    together = threading.Barrier(AT_ONCE, timeout=30)
    lock, under_way, most = threading.Lock(), 0, 0

    def meet(_path: str, _number: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        if len(server.requests) <= AT_ONCE:
            together.wait()
        with lock:
            under_way -= 1

    server.cut = meet
    told: list[str] = []
    matrix(server, NAMES).download(told.append)
    assert most == AT_ONCE
    assert not together.broken
    assert whole(server) == NAMES
    assert told[0] == "downloading 20 kernels"
    assert sorted(line.split()[1] for line in told[1:]) == sorted(NAMES)
    assert [line.split("(")[1].split(",")[0] for line in told[1:]] == [f"{number} of 20" for number in range(1, 21)]


def test_progress_counts_bytes_up_to_what_there_is(server: Server) -> None:
    seen: list[Downloaded] = []
    caller = threading.get_ident()

    def look(progress: Downloaded) -> None:
        assert threading.get_ident() == caller
        seen.append(progress)

    matrix(server, NAMES).download(lambda _: None, look)
    size = sum((server.folder / path_of(Kernel.parse(name))).stat().st_size for name in NAMES)
    assert seen[-1] == Downloaded(20, 20, size, size)
    assert [progress.files for progress in seen] == sorted(progress.files for progress in seen)
    assert [progress.received for progress in seen] == sorted(progress.received for progress in seen)
    assert all(progress.received <= progress.expected for progress in seen if progress.expected)


def test_nothing_to_download_says_nothing() -> None:
    Matrix((), ()).download(lambda text: pytest.fail(text))


def test_what_the_server_has_not_is_told_in_order_and_the_others_are_there(server: Server) -> None:
    absent = [NAMES[2], NAMES[11]]
    for name in absent:
        (server.folder / path_of(Kernel.parse(name))).unlink()
    with pytest.raises(KernelError) as caught:
        matrix(server, NAMES).download(lambda _: None)
    assert [line.split("the archive has no ")[1].split(";")[0] for line in str(caught.value).splitlines()] == absent
    assert whole(server) == [name for name in NAMES if name not in absent]


def test_a_server_that_fails_stops_them_all(server: Server) -> None:
    """The first refusal is told, and no more is asked for than was under way."""
    server.answer = lambda *_: (403, {})
    with pytest.raises(KernelError, match=r"is refused \(403 Forbidden\)"):
        matrix(server, NAMES).download(lambda _: None)
    time.sleep(0.2)
    assert len(server.requests) <= AT_ONCE < len(NAMES)
    assert not ArchiveUrl(server.url).cache.exists()


def test_a_stopped_download(server: Server) -> None:
    (server.folder / "big").write_bytes(bytes(1 << 20))
    stop = threading.Event()
    with pytest.raises(download.StoppedError):
        download.download(
            f"{server.url}/big", limit=ARCHIVED_BYTES, stop=stop, tell=lambda have, _: stop.set() if have else None
        )
    assert len(download.download(f"{server.url}/big", limit=ARCHIVED_BYTES)) == 1 << 20


def test_an_interruption_ends_it_at_once_with_all_files_whole_or_aside(server: Server, tmp_path: Path) -> None:
    """Ctrl-C while eight servers' answers hang: status 130 without a traceback, and the next run asks for the rest."""
    hung = threading.Event()
    release = threading.Event()

    def hang(_path: str, number: int) -> int | None:
        if number == 0 and len(server.requests) > 4:
            if len(server.requests) >= 4 + AT_ONCE:
                hung.set()
            release.wait(60)
        return None

    server.cut = hang
    (server.folder / "index.txt").write_text("\n".join(NAMES))
    script = INTERRUPTIBLE + "import sys; from hatch_bpf.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "kernels", "verify", server.url]
    (tmp_path / "elsewhere").mkdir()
    process = subprocess.Popen(
        command, cwd=tmp_path / "elsewhere", stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    try:
        assert hung.wait(60)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
    finally:
        release.set()
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert errors.splitlines()[-1] == "hatch-bpf: interrupted"
    assert "Traceback" not in errors
    before = whole(server)
    assert 0 < len(before) < len(NAMES)
    done = subprocess.run(
        command, cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert (done.returncode, whole(server)) == (0, NAMES), done.stderr
    assert "20 kernels read, 0 faults" in done.stderr


def test_a_password_does_not_follow_a_redirect_to_another_host_or_port(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    matrix(server, NAMES[:1]).download(lambda _: None)
    expected = "Basic " + base64.b64encode(b"me:secret").decode()
    assert server.requests[-1].authorization == expected
    with serve(server.folder) as other_port:
        for number, there in enumerate((server.url.replace("127.0.0.1", "localhost"), other_port.url), 1):
            moved = there  # what the server reads while it answers

            def answer(path: str, _: int, moved: str = moved) -> tuple[int, dict[str, str]] | None:
                return (302, {"Location": moved + path[4:]}) if path.startswith("/old") else None

            server.answer = answer
            archive = ArchiveUrl(server.url + "/old")
            resolve([Pattern(NAMES[number])], archs=["x86_64"], archive=archive).download(lambda _: None)
        asked = [request.authorization for request in (*server.requests[-3:], *other_port.requests)]
    assert asked == [expected, "", expected, ""]


@pytest.mark.parametrize(
    ("url", "first", "expected"),
    [
        ("https://a.org/x", "https://a.org/y", True),
        ("https://a.org:8443/x", "https://a.org:8443/y", True),
        ("https://a.org:8443/x", "https://a.org/y", False),
        ("https://a.org/x", "https://a.org:8443/y", False),
        ("https://b.org/x", "https://a.org/y", True),
        ("https://b.org:8443/x", "https://a.org/y", False),
        ("http://127.0.0.1/x", "http://localhost/y", False),
    ],
)
def test_which_redirects_may_be_logged_in_to(url: str, first: str, expected: bool) -> None:
    assert download._may_have_login(url, first) == expected
