"""Asking libbpf which objects it opens; that it opens those it should is for test_libbpf_rules.py to say."""

from __future__ import annotations

import pytest

from hatch_bpf.portability import libbpf_open
from hatch_bpf.portability.libbpf_open import refusals_of_libbpf

BROKEN = b"\x7fELF\x02\x01" + bytes(100)


def test_an_object_that_crashes_or_stalls_libbpf_says_nothing() -> None:
    assert refusals_of_libbpf([b"", b"\x7fELF\x02\x02"]) == ("", {})
    _, refused = refusals_of_libbpf([BROKEN]) or ("", {})
    # by a name that is the same each time
    assert refused[BROKEN] == "libbpf: elf: 'the object' is not a proper ELF object"


def test_no_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libbpf_open, "_ask", lambda *_: b"")
    assert refusals_of_libbpf([BROKEN]) is None
    assert refusals_of_libbpf([b""]) == ("", {})
