"""Python sources in a guest -> the compiled modules beside them, so that no emulated processor has to compile them.

Input: nodes by path. Output: a node for each `__pycache__/NAME.cpython-3XX.pyc`. Python does not check these (PEP 552).
An ordinary compiled module has its source's time in it, which is another in an initramfs, so Python would ignore it.
"""

from __future__ import annotations

import importlib.util
import marshal
import struct
import sys
import warnings
from collections.abc import Iterator, Mapping

from hatch_bpf.lab import cpio

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The Python that runs this; all of its releases read the same compiled modules."""
_UNCHECKED = 0b01
"""Flags of a compiled module with a hash of its source, which Python does not compare."""


def compiled_modules(nodes: Mapping[str, cpio.Node]) -> Iterator[tuple[str, cpio.Node]]:
    """The compiled modules of all sources that compile, for a Python of `PYTHON_VERSION`."""
    header = importlib.util.MAGIC_NUMBER + struct.pack("<I8x", _UNCHECKED)
    for path, node in nodes.items():
        if path.endswith(".py") and not node.is_link:
            at = importlib.util.cache_from_source(path, optimization="")
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    code = compile(node.content, f"/{path}", "exec", dont_inherit=True, optimize=0)
            except (SyntaxError, ValueError):
                continue  # a template, or a module for another Python
            yield at, cpio.file(header + marshal.dumps(code))
