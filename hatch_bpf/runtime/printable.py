"""Text from files that nobody vouches for -> text that a terminal and a page show as it is.

Input: names out of objects, kernels' BTF and archives. Output: the same, with what doesn't print (control characters,
overrides of the direction, bytes that are no UTF-8) spelled out.
"""

from __future__ import annotations


def printable(text: str, *, keep: str = "") -> str:
    """`keep` are characters that are wanted all the same."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii") for char in text
    )
