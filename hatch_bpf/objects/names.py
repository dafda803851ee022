"""File name of an object -> libbpf's name for it."""

from __future__ import annotations


def object_name(file_name: str) -> str:
    """libbpf's name for an object file: `a-b.bpf.o` is `a_b`."""
    stem = file_name.rsplit("/", 1)[-1].split(".", 1)[0]
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in stem)
