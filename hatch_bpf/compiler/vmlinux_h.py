"""The option `vmlinux-h` -> the text of vmlinux.h, whole or pruned to the names in a program.

Input: a BTF in any form, a kernel of the archive, `host`, or a header. Output: a `Header`, which gives its text for a
set of names; or `KernelError`. Texts are kept for the next build. Modules that are slow to import are imported where
they are needed, since reading a kept text takes less time than importing them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import HOST, HOST_BTF
from hatch_bpf.kernels.formats.raw_btf import MAGICS
from hatch_bpf.support.store import Store

if TYPE_CHECKING:
    from hatch_bpf.btf.c_types import CTypes
    from hatch_bpf.kernels.any_archive import Archive

KIND = "vmlinux-h"
"""The store's name for headers."""


@dataclass(frozen=True)
class HeaderFile:
    """A header that the project has as a file."""

    path: Path

    def whole(self) -> str:
        """A header that includes the file, whatever its name."""
        return f'#include "{self.path}"\n'

    def pruned(self, names: Set[str]) -> str:  # noqa: ARG002
        """The same: a file that is already C cannot be pruned."""
        return self.whole()


@dataclass(frozen=True)
class KernelHeader:
    """A header that is generated from a kernel's types."""

    path: Path
    data: bytes
    """The kernel's BTF."""
    source: str
    """Its name in errors."""
    store: Store | None = None
    """Keeps the texts."""

    def whole(self) -> str:
        """All types. Raises `BtfError`."""

        def make() -> str:
            from hatch_bpf.btf.c_dump import write_c

            return write_c(self._types, self._types.of_c(), self._types.kfuncs())

        return self._kept("whole", make)

    def pruned(self, names: Set[str]) -> str:
        """The types that a program with these names can use. Raises `BtfError`.

        If a name has two meanings, all types: which of them gets the plain name depends on all the others.
        """

        def make() -> str:
            from hatch_bpf.compiler.vmlinux_pruning import write_pruned

            return write_pruned(self._types, names) or self.whole()

        return self._kept(" ".join(("pruned", *sorted(names))), make)

    def _kept(self, what: str, make: Callable[[], str]) -> str:
        if self.store is None:
            return make()
        return self.store.text(KIND, f"{self._digest} {what}", make)

    @cached_property
    def _digest(self) -> str:
        return sha256(self.data).hexdigest()

    @cached_property
    def _types(self) -> CTypes:
        from hatch_bpf.btf.c_types import CTypes
        from hatch_bpf.btf.reader import Btf
        from hatch_bpf.kernels.formats.raw_btf import check_btf

        return CTypes(Btf(check_btf(self.data, self.source), source=self.source))


Header = HeaderFile | KernelHeader


def versions(header: Header, names: Set[str]) -> Iterator[str]:
    """The pruned text, then the whole one for a program that pastes its names together by macros."""
    pruned = header.pruned(names)
    yield pruned
    whole = header.whole()
    if whole != pruned:
        yield whole


def find_header(source: str, *, root: Path, archive: Archive | None, store: Store | None = None) -> Header:
    """The header for a value of the option; relative paths start at `root`. Raises `KernelError`."""
    path = HOST_BTF if source == HOST else root / source
    if path.suffix == ".h" and path.is_file():
        if re.search(r'["\\\n]', str(path)):
            raise KernelError(f"{path}: clang cannot include a header with such a name; rename it")
        return HeaderFile(path.absolute())
    if path.exists():
        return KernelHeader(path, _read(path), str(path), store)
    if archive is not None and source.count("/") == 3:
        from hatch_bpf.kernels.identity import Kernel
        from hatch_bpf.kernels.matrix import find_archived

        found = find_archived(archive, Kernel.parse(source))
        if found:
            return KernelHeader(found.path, found.read(), found.origin, store)
    where = f", nor is it a kernel of the archive {archive}" if archive else ""
    raise KernelError(
        f'vmlinux.h cannot be made of "{source}": {root / source} is not a file{where}. Name a raw BTF, a vmlinux or '
        f'vmlinuz, a kernel package, a kernel of btf-archive as distro/version/arch/release, a header, or "{HOST}"'
    )


def _read(path: Path) -> bytes:
    """The BTF in a file of any form. Nothing checks yet that it is complete."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(2) in MAGICS:
            file.seek(0)
            return file.read()
    from hatch_bpf.kernels.formats.kernel_file import read_btf

    return read_btf(path)
