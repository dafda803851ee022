"""The standard library's frozen dataclasses, made in a tenth of the time. Type checkers see `dataclasses.dataclass`.

Input: a class. Output: the same as from `dataclasses.dataclass(frozen=True)`; `fields()` and `replace()` work too.
The standard library compiles six or more methods of each class when its module is imported. With more than a hundred
classes, that took longer than anything else in a build in which nothing changed. Here `__init__` is compiled when the
first object is made, and the other methods are closures.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, TypeVar

Class = TypeVar("Class", bound=type)

_set = object.__setattr__
_COMPARISONS = {"__eq__": operator.eq}
_ORDER = {"__lt__": operator.lt, "__le__": operator.le, "__gt__": operator.gt, "__ge__": operator.ge}


def _lean(*, frozen: bool, slots: bool = False, kw_only: bool = False, order: bool = False) -> Callable[[Class], Class]:
    assert frozen, "objects that change are the standard library's"

    def decorate(cls: Class) -> Class:
        made: Class = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)  # type: ignore[assignment]
        for name, method in _methods(made, order=order).items():
            # Python itself sets __hash__ to None where a class has an __eq__ of its own
            if vars(made).get(name) is None:
                setattr(made, name, method)
        return made

    return decorate


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    dataclass = _lean


def _methods(cls: type, *, order: bool) -> dict[str, Callable[..., Any]]:
    fields = dataclasses.fields(cls)
    key = _values_of([field.name for field in fields if field.compare])

    def first_init(self: object, *args: object, **kwargs: object) -> None:
        cls.__init__ = compiled = _compile_init(cls, fields)  # type: ignore[misc]
        compiled(self, *args, **kwargs)

    def hash_of(self: object) -> int:
        return hash(key(self))

    def represent(self: object) -> str:
        shown = (f"{field.name}={getattr(self, field.name)!r}" for field in fields if field.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"

    compared = _COMPARISONS | (_ORDER if order else {})
    return {
        "__init__": first_init,
        "__hash__": hash_of,
        "__repr__": represent,
        "__setattr__": _refuse_to_set,
        "__delattr__": _refuse_to_delete,
        "__setstate__": _set_state,
        **{name: _comparison(key, compare) for name, compare in compared.items()},
    }


def _values_of(names: list[str]) -> Callable[[object], Any]:
    """What two objects are compared by."""
    return operator.attrgetter(*names) if names else lambda _: ()


def _comparison(key: Callable[[object], Any], compare: Callable[[Any, Any], Any]) -> Callable[[object, object], Any]:
    def method(self: object, other: object) -> Any:
        return compare(key(self), key(other)) if other.__class__ is self.__class__ else NotImplemented

    return method


def _compile_init(cls: type, fields: tuple[dataclasses.Field[Any], ...]) -> Callable[..., None]:
    """`__init__` as the standard library writes it, for fields that are all arguments."""
    known: dict[str, Any] = {"_set": _set}
    positional, keywords, body = ["self"], list[str](), list[str]()
    for field in fields:
        name, default = field.name, f"_default_{field.name}"
        parameter, value = name, name
        if field.default_factory is not dataclasses.MISSING:
            known[default] = field.default_factory
            parameter, value = f"{name}={default}", f"{default}() if {name} is {default} else {name}"
        elif field.default is not dataclasses.MISSING:
            known[default] = field.default
            parameter = f"{name}={default}"
        (keywords if field.kw_only else positional).append(parameter)
        slot = vars(cls).get(name)
        if isinstance(slot, MemberDescriptorType):
            # half the time of object's, and the types of a kernel are many
            known[f"_set_{name}"] = slot.__set__
            body.append(f" _set_{name}(self, {value})")
        else:
            body.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    signature = ", ".join([*positional, *(["*", *keywords] if keywords else [])])
    exec(f"def __init__({signature}):\n" + "\n".join(body or [" pass"]), known)
    made: Callable[..., None] = known["__init__"]
    return made


def _refuse_to_set(_: object, name: str, value: object) -> None:  # noqa: ARG001
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _set_state(self: object, state: Any) -> None:
    """What pickle and copy do for other classes, by assignment."""
    for part in state if isinstance(state, tuple) else (state,):
        for name, value in (part or {}).items():
            _set(self, name, value)
