"""TOML, read in one way: bytes -> tables.

Input: the contents of a file. Output: its tables; or `ValueError` that says what is wrong, for a message that begins
with the file's name.
"""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse_toml(data: bytes) -> dict[str, Any]:
    """The tables. Raises `ValueError`."""
    if data.startswith(b"\xef\xbb\xbf"):
        raise ValueError("begins with a byte order mark, which TOML does not allow: save it without one")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8, which TOML requires: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from error
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(f"holds a value that cannot be read: {error}") from error
    except RecursionError as error:
        raise ValueError("nests tables or lists too deeply to be read") from error
