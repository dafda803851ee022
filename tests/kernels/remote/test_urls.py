"""kernels/urls.py: what is shown of a URL, and what ~/.netrc says about its host."""

from __future__ import annotations

import base64
import traceback
from pathlib import Path

import pytest

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.remote.urls import authorization, check_url, shown_url


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://example.org/btf", "https://example.org/btf"),
        ("https://me:secret@example.org/btf", "https://...@example.org/btf"),
        ("https://secret@example.org", "https://...@example.org"),
        ("https://a@b:secret@example.org/x@y", "https://...@example.org/x@y"),
        ("https://example.org/btf?X-Signature=secret&x=1", "https://example.org/btf?..."),
        ("https://example.org/btf?", "https://example.org/btf?"),
        ("https://me:secret@[::1/btf", "https://...@[::1/btf"),
    ],
)
def test_secrets_are_not_shown(url: str, text: str) -> None:
    assert shown_url(url) == text


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_netrc_speaks_for_hosts_by_name(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(
        "machine example.org login me password secret\ndefault login anyone password nothing\n"
    )
    home = {"HOME": str(tmp_path)}
    assert authorization("https://example.org/btf", home) == basic("me", "secret")
    assert authorization("https://other.example.org/btf", home) == ""
    (tmp_path / "elsewhere").write_text("machine 127.0.0.1 login you password other\n")
    named = {**home, "NETRC": str(tmp_path / "elsewhere")}
    assert authorization("http://127.0.0.1:8000/btf", named) == basic("you", "other")
    assert authorization("https://example.org/btf", named) == ""


def test_no_netrc(tmp_path: Path) -> None:
    assert authorization("https://example.org/btf", {"HOME": str(tmp_path)}) == ""
    with pytest.raises(KernelError, match="/no/such/file: cannot be read, though NETRC names it: No such file"):
        authorization("https://example.org/btf", {"NETRC": "/no/such/file"})


@pytest.mark.parametrize(
    "content", [b"machine example.org login me password secret secret2\n", b"nonsense\n", b"machine \xff\xfe\n"]
)
def test_a_broken_netrc_is_told_without_what_is_in_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ".netrc"
    path.write_bytes(content)
    with pytest.raises(KernelError) as caught:
        authorization("https://example.org", {"NETRC": str(path)})
    assert str(caught.value).startswith(
        f"{path}: cannot be read, though NETRC names it: it is not lines `machine HOST login"
    )
    assert "secret" not in "".join(traceback.format_exception(caught.value)).replace(str(path), "")
    assert authorization("https://example.org", {"HOME": str(tmp_path)}) == "", "it may be meant for other programs"


def test_a_user_in_a_url_is_refused_before_anything_else() -> None:
    with pytest.raises(KernelError, match=r"machine example.org login \.\.\. password \.\.\.` into ~/\.netrc"):
        check_url("ftp://me:secret@example.org/")
