"""TOML: what is wrong is told in words that follow the file's name."""

from __future__ import annotations

import pytest

from hatch_bpf.support.toml import parse_toml


def test_tables() -> None:
    assert parse_toml('a = "ä"\n[b]\nc = [1, 2]\n'.encode()) == {"a": "ä", "b": {"c": [1, 2]}}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xef\xbb\xbfa = 1", "begins with a byte order mark"),
        (b"a = '\xe9'", "is not UTF-8"),
        (b"a = ", "is not TOML: "),
        (b"a = " + b"[" * 50_000, ""),
        (b"a = " + b"[" * 50_000 + b"]" * 50_000, ""),
        (b"a = " + b"{b = " * 50_000 + b"1" + b"}" * 50_000, ""),
        (b".".join([b"a"] * 50_000), "is not TOML: "),
    ],
    ids=["mark", "bytes", "syntax", "open lists", "lists", "tables", "key"],
)
def test_what_is_none_is_a_value_error(data: bytes, told: str) -> None:
    """How deep lists may nest, and what is said of it, differs between Pythons."""
    with pytest.raises(ValueError) as caught:
        parse_toml(data)
    assert str(caught.value).startswith((told, "is not TOML: ", "nests tables or lists too deeply"))


def test_a_number_of_thousands_of_digits() -> None:
    try:
        assert parse_toml(b"a = " + b"9" * 5000)["a"] == 10**5000 - 1
    except ValueError as error:  # which most Pythons refuse
        assert str(error).startswith("holds a value that cannot be read: ")
