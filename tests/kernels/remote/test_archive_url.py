"""kernels/remote.py and download.py: an archive at a URL, and every way that a server or a disk can fail it."""

from __future__ import annotations

import lzma
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from hatch_bpf.errors import ConfigError, KernelError
from hatch_bpf.kernels.any_archive import parse_archive
from hatch_bpf.kernels.archive import list_kernels, pack_archived, path_of
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import Matrix, Newest, Pattern, resolve
from hatch_bpf.kernels.remote import download
from hatch_bpf.kernels.remote.archive_url import ArchiveUrl, index_of, parse_index, render_index
from hatch_bpf.support.budget import Limit
from hatch_bpf.support.files import put_in_place
from tests.cli.test_main import run
from tests.common import kernel_images, needs
from tests.common.archive_server import Server, serve
from tests.common.projects import KERNELS as EXAMPLES
from tests.common.projects import REPOSITORY, build_wheel, make_project, pip_wheel, tree_of, wheel_files
from tests.project.test_config import parse
from tests.system.test_bad_input import refusal

OLD, NEW = "debian/12/x86_64/6.1.0-47-amd64", "debian/12/x86_64/6.1.0-50-amd64"
OTHER = "ubuntu/20.04/x86_64/5.8.0-63+generic"
ARM = "debian/12/arm64/6.1.0-50-arm64"


def file_of(name: str) -> str:
    return f"/{path_of(Kernel.parse(name))}"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache and an environment of our own, and no waiting."""
    monkeypatch.setenv("HATCH_BPF_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download, "BACKOFF", 0.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = kernel_images.archive(tmp_path / "served", [OLD, NEW, OTHER, ARM])
    (folder / "index.txt").write_text(index_of(folder))
    with serve(folder) as running:
        yield running


def select(server: Server, *patterns: str) -> Matrix:
    return resolve([Pattern(text) for text in patterns], archs=["x86_64"], archive=ArchiveUrl(server.url))


def said(action: object) -> str:
    with pytest.raises(KernelError) as caught:
        action()  # type: ignore[operator]
    return str(caught.value)


def names(matrix: Matrix) -> list[str]:
    return [str(source.kernel) for source in matrix.sources]


def files(folder: Path) -> list[str]:
    return [name for name in tree_of(folder) if name.endswith(".btf.tar.xz")]


def test_only_what_the_matrix_names_is_downloaded(server: Server, tmp_path: Path) -> None:
    found = select(server, "debian/12/*/*-50-*", OTHER)
    assert names(found) == [NEW, OTHER]
    assert server.paths() == ["/index.txt"]
    told: list[str] = []
    found.download(told.append)
    sizes = {name: (server.folder / file_of(name)[1:]).stat().st_size for name in (NEW, OTHER)}
    assert told[0] == "downloading 2 kernels"
    by_name = sorted(line.split(" (")[0] for line in told[1:])
    assert by_name == [f"downloaded {NEW}", f"downloaded {OTHER}"]
    assert [line.split(" (")[1].split(",")[0] for line in told[1:]] == ["1 of 2", "2 of 2"]
    assert all(f"{sizes[line.split()[1]]:,} bytes" in line for line in told[1:])
    assert server.paths()[0] == "/index.txt"
    assert sorted(server.paths()[1:]) == [file_of(NEW), file_of(OTHER)]
    assert [source.read() for source in found.sources] == [kernel_images.btf(NEW), kernel_images.btf(OTHER)]
    # the cache is an archive too, and has whole files alone
    assert [str(entry.kernel) for entry in list_kernels(ArchiveUrl(server.url).cache)] == [NEW, OTHER]
    assert len(files(tmp_path / "cache")) == 2
    assert not list((tmp_path / "cache").rglob(".*"))


def test_a_kernel_named_in_full_needs_no_list(server: Server) -> None:
    (server.folder / "index.txt").unlink()
    (source,) = select(server, OTHER).sources
    assert server.paths() == []
    assert source.read() == kernel_images.btf(OTHER)
    assert source.origin == f"{server.url}{file_of(OTHER).replace('+', '%2B')}"


def test_newest_over_a_list(server: Server) -> None:
    newest = [Newest(1, Pattern("*/*/*/*"))]
    assert names(resolve(newest, archs=["x86_64", "arm64"], archive=ArchiveUrl(server.url))) == [ARM, NEW, OTHER]


def test_offline_once_cached(server: Server) -> None:
    url = ArchiveUrl(server.url)
    select(server, "debian/*/*/*").download(print)
    with socket.socket() as taken:  # a port that nobody listens at
        taken.bind(("127.0.0.1", 0))
        gone = ArchiveUrl(f"http://127.0.0.1:{taken.getsockname()[1]}/")
        gone.cache.parent.mkdir(parents=True, exist_ok=True)
        url.cache.rename(gone.cache)
        found = resolve([Pattern("debian/*/*/*")], archs=["x86_64"], archive=gone)
        found.download(lambda text: pytest.fail(text))
        assert [source.read() for source in found.sources] == [kernel_images.btf(OLD), kernel_images.btf(NEW)]
        (warning,) = found.warnings
        assert f"taking the list of kernels downloaded earlier, {gone.cache / 'index.txt'}" in warning
        message = said(resolve([Pattern(OTHER)], archs=["x86_64"], archive=gone).sources[0].read)
    assert "cannot be downloaded: [Errno 111] Connection refused (tried 4 times); look at the connection" in message


def test_a_slash_at_the_end_is_the_same_archive(server: Server) -> None:
    assert ArchiveUrl(server.url).cache == ArchiveUrl(server.url + "/").cache


def test_a_download_that_breaks_off_starts_anew(server: Server) -> None:
    server.cut = lambda _, number: [100, 150, None][number]
    assert select(server, NEW).sources[0].read() == kernel_images.btf(NEW)
    assert server.paths() == [file_of(NEW)] * 3


def test_a_download_that_always_breaks_off_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.cut = lambda *_: 100
    (source,) = select(server, NEW).sources
    message = said(source.read)
    assert "cut off after 100 of" in message
    assert "(tried 4 times); look at the connection" in message
    assert len(server.requests) == download.ATTEMPTS
    assert tree_of(tmp_path / "cache") == {}
    server.cut = lambda *_: None
    assert source.read() == kernel_images.btf(NEW)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server: Server, status: int) -> None:
    server.answer = lambda _, number: (status, {}) if number < 2 else None
    assert select(server, NEW).sources[0].read() == kernel_images.btf(NEW)
    assert len(server.requests) == 3


def test_each_wait_is_twice_as_long(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download, "BACKOFF", 0.5)
    monkeypatch.setattr(time, "sleep", waits.append)
    server.answer = lambda *_: (503, {})
    assert "the server says 503 Service Unavailable (tried 4 times)" in said(select(server, NEW).sources[0].read)
    assert waits == [0.5, 1.0, 2.0]


def test_a_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = ArchiveUrl(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "timed out (tried 4 times)" in said(
            resolve([Pattern(NEW)], archs=["x86_64"], archive=url).sources[0].read
        )


def test_all_that_the_archive_has_not_at_once(server: Server) -> None:
    absent = ["debian/12/x86_64/6.1.0-1-amd64", "debian/12/x86_64/6.1.0-2-amd64"]
    message = said(lambda: select(server, *absent, NEW).download(lambda _: None))
    assert message.splitlines() == [
        f"{server.url}{file_of(name)} is not there (404 Not Found): the archive has no {name}; "
        f"take it out of kernels, or let btf-archive name another"
        for name in absent
    ]
    assert sorted(server.paths()) == [file_of(name) for name in (*absent, NEW)]


def test_a_refusal_is_not_asked_again(server: Server) -> None:
    server.answer = lambda *_: (403, {})
    assert "is refused (403 Forbidden); look whether btf-archive is right" in said(select(server, NEW).sources[0].read)
    assert len(server.requests) == 1


def test_patterns_without_a_list(server: Server) -> None:
    (server.folder / "index.txt").unlink()
    message = said(lambda: select(server, "debian/*/*/*"))
    assert f"{server.url}/index.txt is not there (404 Not Found)" in message
    assert "only kernels named in full" in message
    assert "`hatch-bpf kernels list FOLDER --write-index`" in message


def test_redirects_are_followed(server: Server) -> None:
    server.answer = lambda path, _: None if path.startswith("/debian") else (302, {"Location": path[4:]})
    moved = ArchiveUrl(server.url + "/old")
    assert resolve([Pattern(NEW)], archs=["x86_64"], archive=moved).sources[0].read() == kernel_images.btf(NEW)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("file:///etc/passwd", "redirects to file:///etc/passwd, where no BTF is taken from"),
        ("ftp://127.0.0.1/x", "redirects to ftp://127.0.0.1/x, where no BTF is taken from"),
        ("data:text/plain,x", "redirects to data:text/plain,x, where no BTF is taken from"),
        ("http://example.org/x", 'can be changed by anyone on the way here: write https://'),
        ("http://[", "redirects to http://[, where no BTF is taken from"),
        ("/again", "redirected more than 5 times"),
    ],
)  # fmt: skip
def test_redirects_that_are_not_followed(server: Server, tmp_path: Path, location: str, message: str) -> None:
    server.answer = lambda *_: (302, {"Location": location})
    assert message in said(select(server, NEW).sources[0].read)
    assert files(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"<html>please log in</html>", "not xz data"), (lzma.compress(b"x" * 10240), "tar is corrupt")],
)
def test_another_file_than_a_kernels(server: Server, tmp_path: Path, content: bytes, message: str) -> None:
    file = server.folder / file_of(NEW)[1:]
    whole = file.read_bytes()
    file.write_bytes(content)
    (source,) = select(server, NEW).sources
    told = said(source.read)
    assert f"{server.url}{file_of(NEW)}: what was downloaded cannot be used" in told
    assert message in told
    # it is not kept, so that what is right is taken once it is there
    assert files(tmp_path / "cache") == []
    file.write_bytes(whole)
    assert source.read() == kernel_images.btf(NEW)


def test_what_is_spoiled_in_the_cache_is_downloaded_anew(server: Server) -> None:
    (source,) = select(server, NEW).sources
    source.read()
    source.path.write_bytes(source.path.read_bytes()[:-20])
    assert source.read() == kernel_images.btf(NEW)
    assert server.paths() == [file_of(NEW)] * 2


def test_what_is_spoiled_in_the_cache_is_told_when_it_cannot_be_had_anew(server: Server) -> None:
    (source,) = select(server, NEW).sources
    source.read()
    half = source.path.read_bytes()[:-20]
    source.path.write_bytes(half)
    server.answer = lambda *_: (503, {})
    first, second = said(source.read).splitlines()
    assert first == f"{source.path}: cut off in the middle of its xz data; get the file anew"
    assert second.startswith(f"{server.url}{file_of(NEW)} cannot be downloaded: the server says 503")
    assert source.path.read_bytes() == half


SMALL = Limit(1 << 20, "bytes", "none has so many")


def test_a_file_that_is_too_large(server: Server) -> None:
    (server.folder / "big").write_bytes(bytes(3 << 20))
    assert "big: more than 1,048,576 bytes" in said(lambda: download.download(f"{server.url}/big", limit=SMALL))


@pytest.mark.parametrize("length", ["", "9" * 5000, "-1", "many"])
def test_a_server_that_does_not_say_the_size(length: str) -> None:
    """It is not believed to send less than the limit, nor does a number of 5,000 digits end in a traceback."""
    head = f"HTTP/1.1 200 OK\r\n{f'Content-Length: {length}' if length else 'X: y'}\r\nConnection: close\r\n\r\n"
    with answering(head.encode() + bytes(2 << 20)) as url:
        assert "more than 1,048,576 bytes" in said(lambda: download.download(url, limit=SMALL))
    with answering(head.encode() + b"short") as url:
        assert download.download(url, limit=SMALL) == b"short"


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 " + "2" * 5000 + " OK",
        "HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:" + "1" * 5000 + "/",
        "HTTP/1.1 302 Found\r\nLocation: https://" + "a" * 70 + ".example.org/",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + "z" * 50,
    ],
)
def test_headers_with_absurd_numbers_and_names(head: str) -> None:
    with answering(f"{head}\r\nConnection: close\r\n\r\n".encode()) as url:
        said(lambda: download.download(url, limit=SMALL))


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that sends these bytes to everyone."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            with suppress(OSError):
                self.wfile.write(answer)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/"
        listening.shutdown()


def test_a_cache_that_is_cleared_meanwhile(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hatch-bpf cache clear` may remove the folder between its making and the file's."""
    (source,) = select(server, NEW).sources
    put = put_in_place

    def cleared_first(path: Path, data: bytes) -> None:
        monkeypatch.setattr(download, "put_in_place", put)
        shutil.rmtree(tmp_path / "cache")
        put(path, data)

    monkeypatch.setattr(download, "put_in_place", cleared_first)
    assert source.read() == kernel_images.btf(NEW)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("<html>", "line 2: '<html>' is not a kernel; a line is distro/version/arch/release"),
        ("debian/12/x86_64", "line 2: 'debian/12/x86_64' is not a kernel"),
        ("debian/12/x86_64/..", "line 2: 'debian/12/x86_64/..' is not a kernel"),
        ("debian/12/<b>/6.1", "is not a kernel"),
        ("debian/12/x86_64/6.1/x", "is not a kernel"),
    ],
)
def test_lists_that_are_none(server: Server, line: str, message: str) -> None:
    (server.folder / "index.txt").write_text(f"{NEW}\n{line}\n")
    assert message in said(lambda: select(server, "debian/*/*/*"))


def test_a_list_has_names_or_paths_and_may_have_comments() -> None:
    text = f"# kernels\n\n{NEW}\n./{OLD}.btf.tar.xz\nopenwrt/1/mips/5.4\n{ARM.replace('arm64/', 'aarch64/')}\n"
    kernels = parse_index(text.encode(), source="x")
    assert [str(kernel) for kernel in kernels] == [ARM, OLD, NEW]
    assert parse_index(render_index(kernels).encode(), source="x") == kernels


def test_a_list_names_only_what_a_url_can_serve(tmp_path: Path) -> None:
    folder = kernel_images.archive(tmp_path, [NEW, OLD])
    (folder / f"{OLD}.btf.tar.xz").rename(folder / f"{OLD}.btf.tar.gz")
    assert index_of(folder) == f"{NEW}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://example.org/btf", "write https:// instead of http://"),
        ("http://127.0.0.1.example.org/btf", "write https:// instead of http://"),
        ("ftp://example.org/btf", "is not a URL that can be downloaded from: write https://HOST/PATH"),
        ("file:///srv/btf", "is not a URL that can be downloaded from"),
        ("https:///btf", "is not a URL that can be downloaded from"),
        ("https://example.org:port/btf", "is not a URL"),
        ("https://[::1/btf", "is not a URL"),
        ("https://example.org/a b", "must be written as %XX"),
        ("https://example.org/btf?token=x", 'leave out what begins with "?" or "#"'),
        ("https://me:secret@example.org/btf", "has a user in it"),
        ("https://secret@example.org/btf", "write a line `machine example.org login ... password ...` into ~/.netrc"),
        ("http://me:secret@example.org/btf", "has a user in it"),
        ("ftp://me:secret@example.org/btf", "has a user in it"),
        ("https://me:secret@example.org/a b", "must be written as %XX"),
        ("https://example.org/btf?token=secret", 'leave out what begins with "?" or "#"'),
    ],
)
def test_urls_that_are_refused(text: str, message: str) -> None:
    told = said(lambda: parse_archive(text, root=Path()))
    assert message in told
    assert "secret" not in told
    with pytest.raises(ConfigError, match=r"tool.hatch-bpf.btf-archive cannot be used: "):
        parse(btf_archive=text)
    with pytest.raises(ConfigError, match="BTFHUB_ARCHIVE cannot be used: "):
        parse({"BTFHUB_ARCHIVE": text}, btf_archive="kernels")


@pytest.mark.parametrize(
    "text", ["https://example.org/btf", "http://localhost:80/", "http://127.8.8.8", "http://[::1]"]
)
def test_urls_that_are_taken(text: str) -> None:
    assert parse(btf_archive=text).btf_archive == ArchiveUrl(text)
    assert parse({"BTFHUB_ARCHIVE": text}, btf_archive="kernels").btf_archive == ArchiveUrl(text)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", None])
def test_certificates(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable:
        monkeypatch.setenv(variable, str(certificate[0]))
    with serve(kernel_images.archive(tmp_path / "served", [NEW]), certificate=certificate) as server:
        (source,) = select(server, NEW).sources
        if variable:
            assert source.read() == kernel_images.btf(NEW)
        else:
            told = said(source.read)
            assert "certificate is not trusted" in told
            assert "let SSL_CERT_FILE or REQUESTS_CA_BUNDLE name" in told


def test_https_does_not_redirect_to_http(
    tmp_path: Path, server: Server, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with serve(tmp_path / "served", certificate=certificate) as secure:
        secure.answer = lambda *_: (301, {"Location": server.url})
        assert "which is not https" in said(select(secure, NEW).sources[0].read)
    assert server.paths() == []


def test_a_bundle_of_certificates_that_is_not_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    assert "REQUESTS_CA_BUNDLE names /no/such/file" in said(select(server, NEW).sources[0].read)


def test_the_proxy_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    nobody = ArchiveUrl("http://localhost:1")
    assert resolve([Pattern(NEW)], archs=["x86_64"], archive=nobody).sources[0].read() == kernel_images.btf(NEW)
    assert server.paths() == [file_of(NEW)]
    monkeypatch.setenv("no_proxy", "localhost")
    assert "refused" in said(resolve([Pattern(OTHER)], archs=["x86_64"], archive=nobody).sources[0].read)


def _fetch(url: str) -> None:
    (source,) = resolve([Pattern(NEW)], archs=["x86_64"], archive=ArchiveUrl(url)).sources
    assert source.read() == kernel_images.btf(NEW)


def test_builds_at_the_same_time_get_whole_files(server: Server) -> None:
    context = multiprocessing.get_context("spawn")
    server.cut = lambda _, number: 50 if number == 0 else time.sleep(0.3)
    processes = [context.Process(target=_fetch, args=(server.url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]


INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
"""What runs in the background is started with SIGINT ignored, and so may be these tests."""


def test_an_interruption_leaves_no_half_file(server: Server, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a build's download."""
    needs.tool("clang")
    options = f'archs = ["x86_64"]\nbtf-archive = "{server.url}"\nkernels = ["{NEW}"]'
    project = make_project(tmp_path / "p", options=options)
    before = tree_of(project)
    file = server.folder / file_of(NEW)[1:]
    file.write_bytes((EXAMPLES / "debian/12/x86_64/6.1.0-50-cloud-amd64.btf.tar.xz").read_bytes())

    server.cut = lambda *_: 100_000
    command = [sys.executable, "-c", "import sys; from hatch_bpf.cli.main import main; sys.exit(main())", "build"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    # a backoff that a test can interrupt
    command[2] = "from hatch_bpf.kernels.remote import download; download.BACKOFF = 60; " + INTERRUPTIBLE + command[2]
    with subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not server.requests:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "hatch-bpf: interrupted" in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "cache").rglob("*.btf.tar.xz*"))
    assert tree_of(project) == before


ON_A_SMALL_DISK = 'mount -t tmpfs -o size=200k none "$0" && exec "$@"'


def test_a_full_disk(server: Server, tmp_path: Path) -> None:
    """The cache on a real file system of 200 KB, in a mount namespace of the build's own."""
    needs.private_mounts()
    needs.tool("clang")
    release = "6.1.0-50-cloud-amd64"
    path = server.folder / f"debian/12/x86_64/{release}.btf.tar.xz"
    path.write_bytes((EXAMPLES / f"debian/12/x86_64/{release}.btf.tar.xz").read_bytes())
    options = f'archs = ["x86_64"]\nbtf-archive = "{server.url}"\nkernels = ["debian/12/x86_64/{release}"]'
    cache = tmp_path / "cache"
    cache.mkdir()
    told = refusal(
        make_project(tmp_path / "p", options=options),
        prefix=("unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK, str(cache)),
    )
    assert f"{cache}/archives/" in told
    assert "cannot be written: No space left on device; let the environment's HATCH_BPF_CACHE name a folder" in told


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    told = said(select(server, NEW).sources[0].read)
    assert "cannot be written: Not a directory" in told or "cannot be written: File exists" in told
    assert "HATCH_BPF_CACHE" in told


def test_a_wheel_from_an_archive_at_a_url(tmp_path: Path) -> None:
    """Through pip: the wheel is the one that the archive's folder gives, and a second build asks for nothing more."""
    needs.tool("clang")
    served = tmp_path / "served"
    served.symlink_to(EXAMPLES)
    options = 'archs = ["x86_64"]\nbtf-archive = "{}"\nkernels = ["debian/12/x86_64/6.1.0-50-cloud-amd64"]'
    local = build_wheel(make_project(tmp_path / "local", options=options.format(EXAMPLES)), tmp_path / "a")
    with serve(served) as server:
        project = make_project(tmp_path / "remote", options=options.format(server.url))
        done = pip_wheel(project, tmp_path / "b", verbose=True)
        assert done.returncode == 0, done.stdout
        assert "hatch-bpf: downloading 1 kernel\n" in done.stdout
        assert "hatch-bpf: downloaded debian/12/x86_64/6.1.0-50-cloud-amd64 (1 of 1, " in done.stdout
        assert len(server.requests) == 1
        # and with the archive of the environment
        named = make_project(tmp_path / "named", options=options.format("no-such-folder"))
        again = build_wheel(named, tmp_path / "c", env={"BTFHUB_ARCHIVE": server.url})
        assert len(server.requests) == 1
    (remote,) = (tmp_path / "b").glob("*.whl")
    assert wheel_files(remote) == wheel_files(local) == wheel_files(again)


def test_bad_archives_through_pip(tmp_path: Path, server: Server) -> None:
    needs.tool("clang")
    options = f'archs = ["x86_64"]\nbtf-archive = "{server.url}"\nkernels = ["debian/12/x86_64/6.1.0-1-amd64"]'
    told = refusal(make_project(tmp_path / "absent" / "p", options=options))
    assert "6.1.0-1-amd64.btf.tar.xz is not there (404 Not Found): the archive has no debian/12/x86_64/6.1.0-1" in told
    server.answer = lambda *_: (302, {"Location": "file:///etc/passwd"})
    told = refusal(make_project(tmp_path / "redirected" / "p", options=options))
    assert "redirects to file:///etc/passwd, where no BTF is taken from" in told
    server.answer = lambda *_: None
    server.cut = lambda *_: 50
    told = refusal(make_project(tmp_path / "cut" / "p", options=options.replace("6.1.0-1-", "6.1.0-50-")))
    assert "cut off after 50 of" in told
    assert "and start again" in told
    told = refusal(make_project(tmp_path / "http" / "p", options=options.replace(server.url, "http://example.org")))
    assert "tool.hatch.build.hooks.bpf.btf-archive cannot be used" in told


def test_another_file_than_the_lock_says_through_pip(tmp_path: Path) -> None:
    needs.tool("clang")
    release = "6.1.0-50-cloud-amd64"
    served = tmp_path / "served/debian/12/x86_64"
    served.mkdir(parents=True)
    file = served / f"{release}.btf.tar.xz"
    file.write_bytes((EXAMPLES / f"debian/12/x86_64/{file.name}").read_bytes())
    with serve(tmp_path / "served") as server:
        options = f'archs = ["x86_64"]\nbtf-archive = "{server.url}"\nkernels = ["debian/12/x86_64/{release}"]'
        project = make_project(tmp_path / "p", options=options)

        assert run("kernels", "lock", cwd=project, env=dict(os.environ)).returncode == 0
        assert pip_wheel(project, tmp_path / "whole").returncode == 0
        shutil.rmtree(tmp_path / "cache")
        kernel = Kernel.parse(f"debian/12/x86_64/{release}")
        file.write_bytes(pack_archived(kernel_images.btf("task_struct"), kernel))
        told = refusal(project)
        assert f"{server.url}/{path_of(kernel)}: what was downloaded cannot be used: {kernel}: the BTF in" in told
        assert "is not the one that bpf-kernels.lock has" in told
        # and with no server at all, the cache once filled is enough
        file.write_bytes((EXAMPLES / f"debian/12/x86_64/{file.name}").read_bytes())
        assert run("kernels", "verify", cwd=project, env=dict(os.environ)).returncode == 0
    assert pip_wheel(project, tmp_path / "offline").returncode == 0
    (offline,) = (tmp_path / "offline").glob("*.whl")
    (whole,) = (tmp_path / "whole").glob("*.whl")
    assert wheel_files(offline) == wheel_files(whole)
    done = run("check", "--kernels", "http://example.org", cwd=project)
    assert (done.returncode, "write https://" in done.stderr) == (2, True)
