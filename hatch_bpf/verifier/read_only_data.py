"""Read-only globals of an object -> what is known about their bytes when a program is loaded.

Input: an `ObjectModel`. Output: a function for the analysis of a program. A global of .rodata that the application can
set before the load is a `Settable`. String constants, tables and static variables, which no skeleton offers, have the
values that they have in the object.
"""

from __future__ import annotations

from collections.abc import Mapping

from hatch_bpf.btf.types import Linkage
from hatch_bpf.objects.model import DataSection, ObjectModel
from hatch_bpf.verifier.values import Settable, Value


def is_read_only(section: str) -> bool:
    """Whether a section of global data is frozen before its programs are loaded."""
    return section.split(".")[1] == "rodata"


class FrozenData:
    """The read-only sections of one object, which the kernel's verifier reads as constants."""

    def __init__(self, obj: ObjectModel, *, as_built: bool = False) -> None:
        """With `as_built`, settable globals have their initial values, as if no application set them."""
        self._endian = obj.endian
        self._as_built = as_built
        self._sections: Mapping[str, DataSection] = {
            section.name: section for section in obj.data_sections if is_read_only(section.name)
        }

    def read(self, section: str, offset: int, size: int) -> Value:
        """`size` bytes at `offset` of a section, as an unsigned number; None for what may change during a run."""
        found = self._sections.get(section)
        if found is None or not 0 <= offset <= len(found.data) - size:
            return None
        if not self._as_built:
            names = frozenset(
                variable.name
                for variable in found.variables
                if variable.linkage == Linkage.GLOBAL
                and variable.offset < offset + size
                and offset < variable.offset + variable.size
            )
            if names:
                return Settable(names)
        return int.from_bytes(found.data[offset : offset + size], self._endian)
