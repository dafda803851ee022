"""Text from files that can't be trusted -> text that is safe to show on a terminal or a page.

Input: names out of objects, kernels' BTF and archives. Output: the same, with what doesn't print (control characters,
overrides of the direction, bytes that are no UTF-8) spelled out.
"""

from __future__ import annotations


def printable(text: str, *, keep: str = "") -> str:
    """Spell out what doesn't print, but for the characters in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii") for char in text
    )
