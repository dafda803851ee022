"""TOML: what is wrong is told in words that follow the file's name."""

from __future__ import annotations

import sys

import pytest

from hatch_bpf.support.toml import parse_toml


def test_tables() -> None:
    assert parse_toml('a = "ä"\n[b]\nc = [1, 2]\n'.encode()) == {"a": "ä", "b": {"c": [1, 2]}}


@pytest.mark.thorough
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
    """Pythons that limit the length of numbers refuse it; older ones read it."""
    data = b"a = " + b"9" * 5000
    if hasattr(sys, "get_int_max_str_digits"):
        with pytest.raises(ValueError, match=r"^holds a value that cannot be read: "):
            parse_toml(data)
    else:
        assert parse_toml(data)["a"] == 10**5000 - 1
