"""Objects that refuse assignments which would do nothing: `program.autoatach = False`. Input: none. Output: a base."""

from __future__ import annotations

from .errors import UnknownNameError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Sealed:
    """Once sealed, only properties that can be set and private names take a value."""

    _is_sealed = False

    def _seal(self) -> None:
        self._is_sealed = True

    def _refusal(self, name: str) -> str:
        """Why `name` takes no value: the error's message."""
        names = ", ".join(_settable(type(self)))
        return f"{self!r}: {name} can't be set; {f'what can be set is {names}' if names else 'nothing can be set here'}"

    def _absent_attribute(self, name: str) -> Any:
        """The value of a public attribute that the object itself does not have. Raises `UnknownNameError`."""
        names = [known for known in dir(self) if not known.startswith("_")]
        raise UnknownNameError(f"{self!r} has no {name!r}; it has {', '.join(names)}")

    if not TYPE_CHECKING:  # type checkers know what each class declares

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            return self._absent_attribute(name)

        def __setattr__(self, name: str, value: Any) -> None:
            if self._is_sealed and not name.startswith("_") and name not in _settable(type(self)):
                raise UnknownNameError(self._refusal(name))
            object.__setattr__(self, name, value)


def _settable(cls: type[Sealed]) -> list[str]:
    return [name for name in dir(cls) if not name.startswith("_") and _takes_values(getattr(cls, name))]


def _takes_values(attribute: object) -> bool:
    return attribute.fset is not None if isinstance(attribute, property) else hasattr(type(attribute), "__set__")
