"""kernels/github.py, against a server that speaks GitHub's protocol: the real one cannot be asked in a test.

The API's answers are made from a folder, as git makes trees. The last test goes the whole way, through a proxy, over
TLS, with GitHub's own host names.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pytest

from hatch_bpf.errors import ConfigError, KernelError
from hatch_bpf.kernels.archive import path_of
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import Newest, Pattern, resolve
from hatch_bpf.kernels.remote import download, github
from hatch_bpf.kernels.remote.archive_url import ArchiveUrl
from hatch_bpf.kernels.remote.github import GitHubFolder, parse_repository
from tests.cli.test_main import run
from tests.common import kernel_images
from tests.common.archive_server import Server, proxy_to, serve
from tests.project.test_config import parse

NAMES = [
    "centos/8/x86_64/4.18.0-80.el8.x86_64",
    "debian/12/arm64/6.1.0-50-arm64",
    "debian/12/x86_64/6.1.0-47-amd64",
    "debian/12/x86_64/6.1.0-50-amd64",
    "ubuntu/20.04/x86_64/5.8.0-63+generic",
]
OTHER_FILES = ["README.md", ".github/workflows/extract.yml", "1/x86_64/4.14.101-75.76.amzn1.x86_64.btf.tar.xz",
               "debian/12/x86_64/notes.txt", "debian/12/aarch64/6.1.0-50-arm64.btf.tar.xz",
               "debian/12/mips/5.btf.tar.xz",
               "a/b/x86_64/c/deep.btf.tar.xz"]  # fmt: skip
ARCHIVE = "https://github.com/aquasecurity/btfhub-archive"


@dataclass
class Hub:
    """A repository on a server that answers as GitHub's API and its raw files do."""

    folder: Path
    most: int = 1000
    """Files of a recursive listing, after which it is cut off."""
    asked: list[str] = field(default_factory=list)

    def body(self, path: str, query: str) -> bytes | None:
        parts = path.strip("/").split("/")
        if parts[:1] == ["repos"]:
            return self._tree("/".join(parts[5:]), query)
        if parts[:3] == ["aquasecurity", "btfhub-archive", "HEAD"]:
            file = self.folder.joinpath(*parts[3:])
            return file.read_bytes() if file.is_file() else None
        return None

    def _tree(self, name: str, query: str) -> bytes | None:
        self.asked.append(f"{name}?{query}")
        top = self.folder if name in ("HEAD", "main", "a" * 40) else self.folder / bytes.fromhex(name).decode()
        found = sorted(top.rglob("*") if query == "recursive=1" else top.iterdir())
        entries = [
            {
                "path": str(path.relative_to(top)),
                "type": "tree" if path.is_dir() else "blob",
                "sha": str(path.relative_to(self.folder)).encode().hex(),
            }
            for path in found
        ]
        is_cut = query == "recursive=1" and len(entries) > self.most
        return json.dumps(
            {"sha": "0", "tree": entries[: self.most] if is_cut else entries, "truncated": is_cut}
        ).encode()


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    folder = kernel_images.archive(tmp_path / "repository", NAMES)
    for name in OTHER_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return Hub(folder)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HATCH_BPF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(download, "BACKOFF", 0.0)


@pytest.fixture
def server(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serve(tmp_path / "none") as running:
        running.body = hub.body
        monkeypatch.setattr(github, "API", running.url)
        monkeypatch.setattr(github, "RAW", running.url)
        yield running


def listed(url: str = ARCHIVE) -> list[str]:
    warnings: list[str] = []
    found = [str(entry.kernel) for entry in ArchiveUrl(url).list_kernels(warnings.append)]
    assert warnings == []
    return found


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (ARCHIVE, ("HEAD", "")),
        (f"{ARCHIVE}.git/", ("HEAD", "")),
        (f"{ARCHIVE}/tree/main", ("main", "")),
        (f"{ARCHIVE}/tree/main/some/folder", ("main", "some/folder")),
        ("https://raw.githubusercontent.com/aquasecurity/btfhub-archive/main", ("main", "")),
        ("https://raw.githubusercontent.com/aquasecurity/btfhub-archive/refs/heads/main/x", ("main", "x")),
    ],
)
def test_urls_of_repositories(url: str, expected: tuple[str, str]) -> None:
    assert parse_repository(url) == GitHubFolder("aquasecurity", "btfhub-archive", *expected)


def test_urls_of_anything_else() -> None:
    assert parse_repository("https://example.org/aquasecurity/btfhub-archive") is None
    for wrong in ("https://github.com/aquasecurity", f"{ARCHIVE}/blob/main/README.md", f"{ARCHIVE}/tree"):
        with pytest.raises(ConfigError, match=r"btf-archive cannot be used: .*: write https://github\.com/"):
            parse(btf_archive=wrong)


@pytest.mark.usefixtures("server")
def test_the_list_is_what_a_build_can_download(hub: Hub) -> None:
    assert listed() == NAMES
    assert hub.asked == ["HEAD?recursive=1"]
    archive = ArchiveUrl(ARCHIVE)
    newest = resolve([Newest(1, Pattern("debian/*/*/*"))], archs=["x86_64"], archive=archive)
    (source,) = newest.sources
    assert source.read() == kernel_images.btf("debian/12/x86_64/6.1.0-50-amd64")
    (named,) = resolve([Pattern(NAMES[-1])], archs=["x86_64"], archive=archive).sources
    assert named.url.endswith("/aquasecurity/btfhub-archive/HEAD/ubuntu/20.04/x86_64/5.8.0-63%2Bgeneric.btf.tar.xz")
    assert named.read() == kernel_images.btf(NAMES[-1])
    # of the list no file is left but itself
    assert sorted(path.name for path in archive.cache.iterdir()) == ["debian", "index.txt", "ubuntu"]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("most", [12, 4, 1, 0])
def test_a_listing_that_is_cut_off_is_asked_for_folder_by_folder(hub: Hub, most: int) -> None:
    hub.most = most
    assert listed() == NAMES
    assert hub.asked[:2] == ["HEAD?recursive=1", "HEAD?"]
    asked = [unquote(bytes.fromhex(name.split("?")[0]).decode()) for name in hub.asked[2:]]
    assert ".github" in asked  # not deep enough to be known for what it is; but nothing below an architecture is
    assert "a/b/x86_64/c" not in asked


@pytest.mark.usefixtures("server")
def test_a_folder_of_a_repository(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "outer" / "some").mkdir(parents=True)
    hub.folder.rename(tmp_path / "outer" / "some" / "btf")
    hub.folder = tmp_path / "outer"
    (hub.folder / "other").mkdir()
    assert listed(f"{ARCHIVE}/tree/main/some/btf") == NAMES
    hub.asked.clear()
    hub.most = 5
    assert listed(f"{ARCHIVE}/tree/HEAD/some/btf") == NAMES
    assert b"other".hex() + "?recursive=1" not in hub.asked


@pytest.mark.usefixtures("server")
def test_github_is_not_asked_again_within_an_hour_nor_ever_about_a_commit(hub: Hub) -> None:
    fixed = f"{ARCHIVE}/tree/{'a' * 40}"
    for url in (ARCHIVE, fixed):
        assert listed(url) == NAMES
        hub.asked.clear()
        assert listed(url) == NAMES
        assert hub.asked == []
        index = ArchiveUrl(url).cache / "index.txt"
        os.utime(index, (time.time() - 4000,) * 2)
        assert listed(url) == NAMES
        assert bool(hub.asked) == (url == ARCHIVE)


def test_too_many_questions(server: Server) -> None:
    server.answer = lambda path, _: (403, {}) if path.startswith("/repos/") else None
    with pytest.raises(KernelError) as caught:
        listed()
    said = str(caught.value)
    assert "GitHub does not list aquasecurity/btfhub-archive (403)" in said
    assert "machine api.github.com login x-access-token password TOKEN` to ~/.netrc" in said
    assert "With a lock, made by `hatch-bpf kernels lock`, no list is needed" in said
    # with a list of earlier it goes on
    server.answer = lambda *_: None
    assert listed() == NAMES
    index = ArchiveUrl(ARCHIVE).cache / "index.txt"
    os.utime(index, (time.time() - 4000,) * 2)
    server.answer = lambda path, _: (403, {}) if path.startswith("/repos/") else None
    warnings: list[str] = []
    assert [str(entry.kernel) for entry in ArchiveUrl(ARCHIVE).list_kernels(warnings.append)] == NAMES
    assert f"taking the list of kernels downloaded earlier, {index}" in warnings[0]


def test_a_repository_that_is_not_there(server: Server) -> None:
    server.answer = lambda *_: (404, {})
    with pytest.raises(KernelError, match="GitHub knows no repository aquasecurity/btfhub-archive with a HEAD"):
        listed()


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"tree": 1}', b'{"tree": [{"path": "x"}]}', b'{"tree": [1]}', b"[" * 100_000]
)
def test_answers_that_are_none(server: Server, body: bytes) -> None:
    server.body = lambda *_: body
    with pytest.raises(KernelError, match="this is not the list of files that GitHub sends"):
        listed()


def test_the_token_in_netrc_goes_to_the_api_alone(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(github, "RAW", server.url.replace("127.0.0.1", "localhost"))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login x-access-token password TOKEN\n")
    found = resolve([Pattern("debian/*/x86_64/*")], archs=["x86_64"], archive=ArchiveUrl(ARCHIVE))
    found.download(lambda _: None)
    assert [bool(request.authorization) for request in server.requests] == [True, False, False]


def test_through_a_proxy_over_tls_by_githubs_own_names(
    hub: Hub, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    with serve(tmp_path / "none", certificate=certificate) as server, proxy_to(server) as proxy:
        server.body = hub.body
        environment = {
            "HATCH_BPF_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path),
            "https_proxy": proxy.url, "SSL_CERT_FILE": str(certificate[0]),
        }  # fmt: skip
        done = run("kernels", "list", ARCHIVE, "--match", "debian/12/x86_64/*", env=environment, cwd=tmp_path)
        assert (done.returncode, done.stdout.split()) == (0, NAMES[2:4]), done.stderr
        assert proxy.hosts == ["api.github.com:443"]
        done = run("kernels", "verify", ARCHIVE, env=environment, cwd=tmp_path)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "hatch-bpf: 5 kernels read, 0 faults")
        assert set(proxy.hosts[1:]) == {"raw.githubusercontent.com:443"}
    cached = tmp_path / "cache" / "archives"
    assert len(list(cached.rglob("*.btf.tar.xz"))) == 5
    assert (next(cached.iterdir()) / path_of(Kernel.parse(NAMES[0]))).exists()
