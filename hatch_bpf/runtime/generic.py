"""Base classes that take type variables, without importing `typing` and `collections`, which takes long.

Input: names of type variables, as strings: `class Queue(Map, Generic["V"])`. Only type checkers read them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import ItemsView as ItemsView
    from collections.abc import MutableMapping as MutableMapping
    from collections.abc import Sequence as Sequence
    from collections.abc import ValuesView as ValuesView
    from typing import Generic as Generic
else:
    import _collections_abc as abc  # what collections.abc is, without all of collections

    class Generic:
        __slots__ = ()

        def __class_getitem__(cls, item):
            return cls

    def _generic(cls):
        """A base that takes type variables, which `cls` itself does from Python 3.9 on."""
        return type(cls.__name__, (Generic, cls), {"__slots__": ()})

    ItemsView, ValuesView = _generic(abc.ItemsView), _generic(abc.ValuesView)
    MutableMapping, Sequence = _generic(abc.MutableMapping), _generic(abc.Sequence)
