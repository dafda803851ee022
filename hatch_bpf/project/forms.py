"""The forms that values in pyproject.toml take: each form reads a value, and is a JSON schema of what it accepts.

Input: a value of parsed TOML and the path of its key. Output: the value as Python has it; a list gets whatever is wrong
with it. After a fault there is a stand-in (an empty string, say), so that the values beside it are read as well.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatch_bpf import arch
from hatch_bpf.errors import Fault

_SHOWN = 200
"""Characters of a wrong value that a message shows."""


class Form(ABC):
    """What a value has to look like."""

    absent: Any = ""
    """What an option that is left out has for its value; also the stand-in for a wrong one."""

    @property
    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """JSON schema of the values that `read()` accepts."""

    @abstractmethod
    def read(self, value: Any, key: str, faults: list[Fault]) -> Any:
        """The value if it has this form; else a fault, and a stand-in."""


class TextForm(Form):
    """A string that can be a path or an argument: not empty, and without NUL."""

    schema = {"type": "string", "minLength": 1}  # noqa: RUF012

    def read(self, value: Any, key: str, faults: list[Fault]) -> str:
        if isinstance(value, str) and value and "\0" not in value:
            return value
        faults.append(Fault(key, f"must be a string that is not empty (got {quoted(value)})"))
        return ""


class CountForm(Form):
    """A whole number above 0."""

    schema = {"type": "integer", "minimum": 1}  # noqa: RUF012

    def read(self, value: Any, key: str, faults: list[Fault]) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        faults.append(Fault(key, f"must be a whole number above 0 (got {quoted(value)})"))
        return 0


@dataclass(frozen=True)
class NameForm(Form):
    """A name that becomes one in the generated code."""

    what: str
    """Whose name it is, and which characters it may have."""
    pattern: str

    @property
    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^{self.pattern}$"}

    def read(self, value: Any, key: str, faults: list[Fault]) -> str:
        if re.fullmatch(self.pattern, value):
            return str(value)
        faults.append(Fault(key, f"must be the name of {self.what} (got {quoted(value)})"))
        return ""


@dataclass(frozen=True)
class ChoiceForm(Form):
    """One of a few strings, of which the first is the default."""

    choices: tuple[str, ...]

    @property
    def absent(self) -> str:
        return self.choices[0]

    @property
    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.choices)}

    def read(self, value: Any, key: str, faults: list[Fault]) -> str:
        text = TEXT.read(value, key, faults)
        if not text or text in self.choices:
            return text
        faults.append(Fault(key, f"must be one of {', '.join(self.choices)} (got {text!r}{self.suggestion(text)})"))
        return ""

    def suggestion(self, value: str) -> str:
        return suggestion(value, self.choices)


class ArchForm(ChoiceForm):
    """The name of an architecture. For an alias such as amd64 the fault suggests our own name."""

    absent = ""

    def suggestion(self, value: str) -> str:
        known = arch.by_machine(value.lower().replace("-", "_"))
        return f", did you mean {known.name!r}?" if known else super().suggestion(value)


@dataclass(frozen=True)
class ListForm(Form):
    """A list of values of one form."""

    item: Form
    at_least_two: str = ""
    """What a list must have two of; empty where it may have any number."""
    absent = ()

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema, **({"minItems": 2} if self.at_least_two else {})}

    def read(self, value: Any, key: str, faults: list[Fault]) -> tuple[Any, ...]:
        if not isinstance(value, list):
            faults.append(Fault(key, f"must be a list (got {quoted(value)})"))
            return ()
        if self.at_least_two and len(value) < 2:
            faults.append(Fault(key, f"must list two {self.at_least_two} or more (got {len(value)})"))
        return tuple(self.item.read(item, f"{key}[{i}]", faults) for i, item in enumerate(value))


class CommandForm(Form):
    """A program and its arguments, one of which says where the output goes."""

    absent = ()

    def __init__(self, output: str) -> None:
        self.output = output
        """What one of the arguments must hold."""

    @property
    def schema(self) -> dict[str, Any]:
        return {**TEXTS.schema, "contains": {"pattern": re.escape(self.output)}}

    def read(self, value: Any, key: str, faults: list[Fault]) -> tuple[str, ...]:
        before = len(faults)
        words: tuple[str, ...] = TEXTS.read(value, key, faults)
        if len(faults) == before and not any(self.output in word for word in words):
            faults.append(Fault(key, f"must say by {self.output} where the object goes (got {quoted(value)})"))
        return words


@dataclass(frozen=True)
class TableForm(Form):
    """A table of values of one form, under names that the user chooses. It is read in the order of the names."""

    item: Form
    names: Form | None = None
    """The form of the names; None where any will do."""

    @property
    def absent(self) -> dict[str, Any]:
        return {}

    @property
    def schema(self) -> dict[str, Any]:
        names = {"propertyNames": self.names.schema} if self.names else {}
        return {"type": "object", **names, "additionalProperties": self.item.schema}

    def read(self, value: Any, key: str, faults: list[Fault]) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            faults.append(Fault(key, f"must be a table (got {quoted(value)})"))
            return {}
        if self.names is not None:
            for name in sorted(value):
                self.names.read(name, f"{key}.{name}", faults)
        return {name: self.item.read(value[name], f"{key}.{name}", faults) for name in sorted(value)}


@dataclass(frozen=True)
class RecordForm(Form):
    """A table with fixed keys, each of a form of its own. A key that is left out gets its form's absent value."""

    keys: Mapping[str, Form]
    required: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        properties = {name: form.schema for name, form in self.keys.items()}
        required = {"required": list(self.required)} if self.required else {}
        return {"type": "object", "properties": properties, **required, "additionalProperties": False}

    def read(self, value: Any, key: str, faults: list[Fault]) -> dict[str, Any]:
        for name in value:
            if name not in self.keys:
                near, known = suggestion(name, tuple(self.keys)), ", ".join(self.keys)
                faults.append(Fault(f"{key}.{name}", f"is not an option{near}; the options are {known}"))
        faults += [Fault(f"{key}.{name}", "is missing") for name in self.required if name not in value]
        return {
            name: form.read(value[name], f"{key}.{name}", faults) if name in value else form.absent
            for name, form in self.keys.items()
        }


@dataclass(frozen=True)
class EitherForm(Form):
    """A string, or a table of one of several forms: the one that knows most of its keys."""

    what: str
    tables: tuple[Form, ...]

    @property
    def schema(self) -> dict[str, Any]:
        return {"oneOf": [TEXT.schema, *(form.schema for form in self.tables)]}

    def read(self, value: Any, key: str, faults: list[Fault]) -> Any:
        if isinstance(value, str):
            return TEXT.read(value, key, faults)
        if isinstance(value, Mapping):
            return max(self.tables, key=lambda form: _keys_known(form, value)).read(value, key, faults)
        faults.append(Fault(key, f"must be {self.what} (got {quoted(value)})"))
        return ""


def _keys_known(form: Form, table: Mapping[str, Any]) -> int:
    return len(form.keys.keys() & table.keys()) if isinstance(form, RecordForm) else 0


TEXT = TextForm()
TEXTS = ListForm(TEXT)
ARCH = ArchForm(tuple(arch.ARCHES))


@dataclass(frozen=True)
class Option:
    """One option of the table: all that is said of it. It hangs on the field that holds its value."""

    form: Form
    doc: str
    """What it is, in Markdown."""
    default: str
    """What it is when it is left out, in Markdown."""
    shapes_build: bool = True
    """Whether objects, BTFs and skeletons depend on it."""
    name: str = ""
    """Its key; empty where it is the name of the field."""


def described(*args: Any, **kwargs: Any) -> dict[str, Option]:
    """The metadata of a dataclass's field that holds the value of an option; the arguments are those of `Option`."""
    return {"option": Option(*args, **kwargs)}


def quoted(value: Any) -> str:
    """A wrong value as a message shows it: TOML holds numbers too long to print, and lists of any length and depth."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"{'an' if isinstance(value, int) else 'a'} {type(value).__name__} that is too large to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def suggestion(value: str, choices: Sequence[str]) -> str:
    """`, did you mean 'x'?` when a choice is near, else nothing."""
    near = difflib.get_close_matches(value, choices, n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""
