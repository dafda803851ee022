"""What a skeleton has several of, its maps or its programs: as attributes, and by their names in C.

Input: triples of attribute, name in C and thing. Output: the base of `Maps` and `Programs`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


class Members:
    """Named things, in the order they were given."""

    def __init__(self, members: Iterable[tuple[str, str, Any]]) -> None:
        """From triples of attribute, name in C and thing."""
        self._by_name: dict[str, Any] = {}
        for attribute, name, item in members:
            self.__dict__[attribute] = item
            self._by_name[name] = item

    def __getitem__(self, name: str) -> Any:
        return self._by_name[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)
