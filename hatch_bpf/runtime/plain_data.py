"""Plain data. Input: the names that a class annotates, and defaults of some. Output: objects with a value of each."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from typing_extensions import dataclass_transform
else:

    def dataclass_transform() -> Callable[[Any], Any]:
        return lambda cls: cls


@dataclass_transform()
class PlainData:
    """Its classes take the values by position or by name. `dataclass` would do it, but takes long to import."""

    def __init__(self, *values: Any, **named: Any) -> None:
        cls = type(self)
        names = list(cls.__annotations__)
        given = dict(zip(names, values), **named)
        missing = [name for name in names if name not in given and not hasattr(cls, name)]
        if missing or len(values) > len(names) or not given.keys() <= set(names):
            raise TypeError(f"{cls.__name__} takes {', '.join(names)}")
        self.__dict__.update(given)
