"""What every BTF blob starts with. Input: nothing. Output: constants of the format (`struct btf_header`)."""

MAGIC = 0xEB9F
VERSION = 1
MIN_HEADER = 24
"""Bytes of the header that every version has."""
