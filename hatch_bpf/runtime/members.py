"""The maps or the programs of a skeleton: as attributes, and by their names in C.

Input: triples of attribute, name in C and item. Output: the base class of `Maps` and `Programs`.
"""

from __future__ import annotations

from .errors import UnknownNameError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


class Members:
    """Named things, in the order they were given."""

    def __init__(self, members: Iterable[tuple[str, str, Any]]) -> None:
        self._by_name: dict[str, Any]
        self.__dict__["_by_name"] = {}
        for attribute, name, item in members:
            self._add(attribute, item)
            self._by_name[name] = item

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {', '.join(self._by_name)}>"

    def _add(self, attribute: str, item: Any) -> None:
        self.__dict__[attribute] = item

    def __getitem__(self, name: str) -> Any:
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownNameError(f"there is no {name!r}; there are {', '.join(self._by_name)}") from None

    if not TYPE_CHECKING:  # type checkers know what the generated class declares

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            raise UnknownNameError(f"{self!r}: there is no {name!r}")

        def __setattr__(self, name: str, value: Any) -> None:
            raise UnknownNameError(f"{self!r}: {name!r} can't be set; set attributes or items of what is in it")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)
