"""Derived files are what their sources make of them."""

from __future__ import annotations

import pytest

from tests.regenerate import DERIVED, ROOT


@pytest.mark.parametrize("path", sorted(DERIVED))
def test_derived_file_is_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == DERIVED[path](), (
        f"{path} is out of date: run `python -m tests.regenerate` and commit what it writes"
    )
