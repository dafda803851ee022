"""The record of a build: the file `build.json` in a package's `_bpf` folder, written and read here.

Input: what went into a build and what came out; or the bytes of such a file. Output: the bytes, or a `Record`. From it
a later build can tell whether the objects beside it are still right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

RECORD_NAME = "build.json"
_FORMAT = 2
"""Counted up whenever the record changes its meaning."""


class RecordError(Exception):
    """Says why bytes are not a record that this version of hatch-bpf reads."""


@dataclass(frozen=True)
class Record:
    """What went into a build and what came out."""

    compiler: str
    """The first line of `clang --version`."""
    options: str
    """`Config.digest`."""
    inputs: Mapping[str, str]
    """`CompiledPackage.inputs`: digests by path relative to the project."""
    outputs: Mapping[str, str]
    """sha256 of each file that was made, by path relative to the `_bpf` folder."""

    def encode(self) -> bytes:
        """The contents of `build.json`."""
        table = {"format": _FORMAT, **vars(self), "outputs": dict(sorted(self.outputs.items()))}
        return json.dumps(table, indent=0, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Record:
        """Read what `encode()` wrote. Raises `RecordError`."""
        try:
            table = json.loads(data)
            if table["format"] != _FORMAT:
                raise RecordError("is of another version of hatch-bpf")
            record = cls(table["compiler"], table["options"], table["inputs"], table["outputs"])
            texts = [record.compiler, record.options, *record.inputs.values(), *record.outputs.values()]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError
            # the file may come from anywhere: no name may lead out of the project
            if not all(map(_is_inside, [*record.inputs, *record.outputs])):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RecordError("is not a record of a build") from error
        return record


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and name.isprintable() and not path.is_absolute() and ".." not in path.parts
