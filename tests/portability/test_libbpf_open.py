"""Asking libbpf which objects it opens; that it opens those it should is for test_libbpf_rules.py to say."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from hatch_bpf.portability import libbpf_open
from hatch_bpf.portability.libbpf_open import refusals_of_libbpf
from hatch_bpf.support import own_libbpf
from hatch_bpf.support.store import Store
from tests.common import needs

BROKEN, BROKEN_TOO = b"\x7fELF\x02\x01" + bytes(100), b"\x7fELF\x02\x01" + bytes(200)


def test_an_object_that_crashes_or_stalls_libbpf_says_nothing() -> None:
    assert refusals_of_libbpf([b"", b"\x7fELF\x02\x02"]) == ("", {})
    broken = b"\x7fELF\x02\x01" + bytes(100)
    _, refused = refusals_of_libbpf([broken])
    # by a name that is the same each time
    assert refused[broken] == "libbpf: elf: 'the object' is not a proper ELF object"


def test_an_answer_is_kept_for_the_same_library_and_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.own_libbpf()
    library, store = tmp_path / "libbpf.so.1", Store(tmp_path / "store")
    shutil.copy(own_libbpf.own_library() or "", library)
    monkeypatch.setattr(own_libbpf, "own_library", lambda: library)
    ask, asked = libbpf_open._ask, list[int]()

    def counted(library: Path | str, objects: Sequence[bytes]) -> bytes:
        asked.append(len(objects))
        return ask(library, objects)

    monkeypatch.setattr(libbpf_open, "_ask", counted)
    first = refusals_of_libbpf([BROKEN], store)
    assert list(first[1]) == [BROKEN]
    assert (refusals_of_libbpf([BROKEN], store), asked) == (first, [1])
    version, both = refusals_of_libbpf([BROKEN, BROKEN_TOO], store)
    assert (version, list(both), asked) == (first[0], [BROKEN, BROKEN_TOO], [1, 2])
    with library.open("ab") as file:  # the same library, and another file
        file.write(b"\0")
    assert (refusals_of_libbpf([BROKEN], store), asked) == (first, [1, 2, 1])


def test_what_the_machines_libbpf_says_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another may have come in its place."""
    needs.libbpf()
    monkeypatch.setattr(own_libbpf, "own_library", lambda: None)
    store = Store(tmp_path)
    assert refusals_of_libbpf([BROKEN], store)[0]
    assert list(tmp_path.iterdir()) == []


def test_no_answer_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.own_libbpf()
    store = Store(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(libbpf_open, "_ask", lambda *_: b"")
        assert refusals_of_libbpf([BROKEN], store) == ("", {})
    assert refusals_of_libbpf([BROKEN], store)[0]
