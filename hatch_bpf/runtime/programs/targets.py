"""What there is to attach programs to. Input: patterns with `*` and `?`. Output: names, sorted.

Nothing here is imported before it is used, so that skeletons import fast.
"""

from __future__ import annotations

import os

from ..arguments import path_argument
from ..errors import SymbolError, failed
from ..host.mounts import MOUNT_TRACEFS, in_tracefs
from ..symbols.kernel_symbols import CODE, KALLSYMS
from .elfsyms import full_path, function_names, matcher, usdt_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Union


def functions_of(binary: Union[str, os.PathLike[str]], pattern: str = "*") -> list[str]:
    """The functions of a program or library that match a pattern, for `attach_uprobe()`. Raises `SymbolError`.

    Those that were stripped into a separate debug file are among them.
    """
    return _of_file(binary, lambda path: function_names(path, pattern))


def usdts_of(binary: Union[str, os.PathLike[str]]) -> list[str]:
    """The USDTs of a program or library, as `PROVIDER:NAME`, for `attach_usdt()`. Raises `SymbolError`."""
    return _of_file(binary, usdt_names)


def kernel_functions(pattern: str = "*") -> list[str]:
    """The functions of the kernel and its modules that match a pattern, for `attach_kprobe()`. Raises `SymbolError`.

    They are those that ftrace lists, if this process may read its list, or else all; the kernel may refuse to probe
    some of these.
    """
    try:
        with open(in_tracefs("available_filter_functions"), "rb") as file:
            return _matching((line.split()[0] for line in file), pattern)
    except OSError:
        pass  # there is none, or a locked down kernel shows it to nobody
    try:
        with open(KALLSYMS, "rb") as file:
            return _matching((words[2] for words in map(bytes.split, file) if words[1] in CODE.encode()), pattern)
    except OSError as error:
        raise _unreadable(KALLSYMS, error) from error


def tracepoints(pattern: str = "*") -> list[str]:
    """The tracepoints that match a pattern, as `CATEGORY:NAME`, for `attach_tracepoint()`. Raises `SymbolError`."""
    path = in_tracefs("available_events")
    if not path:
        raise SymbolError(f"tracefs, which lists the tracepoints, is not mounted: {MOUNT_TRACEFS}")
    try:
        with open(path, "rb") as file:
            return _matching(map(bytes.strip, file), pattern)
    except OSError as error:
        raise _unreadable(path, error) from error


def _of_file(binary: Union[str, os.PathLike[str]], read: Callable[[str], list[str]]) -> list[str]:
    path = full_path(path_argument("binary", binary))
    try:
        return read(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise SymbolError(str(error)) from error


def _matching(names: Iterable[bytes], pattern: str) -> list[str]:
    wanted = matcher(pattern)
    return sorted({name.decode("utf-8", "backslashreplace") for name in names if wanted(name)})


def _unreadable(path: str, error: OSError) -> SymbolError:
    return failed(SymbolError, f"{path} can't be read", error.errno or 0)
