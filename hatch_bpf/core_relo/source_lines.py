"""Instructions and CO-RE relocations -> the source lines that they come from, for messages.

Input: an `ObjectModel`. Output: `SourceLines`, which gives `file:line`, or an empty text where the object does not say.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections import defaultdict

from hatch_bpf.btf.ext import CoreRelo, LineInfo, LineTable
from hatch_bpf.core_relo.spec import parse_spec
from hatch_bpf.errors import BtfError, ObjectError, RelocationError
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.support.budget import Budget

_WORD = re.compile(r"\w+")
_STEPS_PER_LOOKUP = 8


class SourceLines:
    """The source lines of one object."""

    def __init__(self, obj: ObjectModel) -> None:
        self._obj = obj
        self._sections: dict[str, _SectionLines] = {}
        self._budget = Budget(obj.path, len(obj.elf), error=ObjectError)

    def at(self, section: str, offset: int) -> str:
        """The line of the instruction at a byte of a section."""
        lines = self._obj.ext.lines.get(section)
        line = lines.at(offset) if lines else None
        return _place(line) if line else ""

    def of(self, section: str, relo: CoreRelo) -> str:
        """The line of the access that a relocation belongs to.

        clang often loads offsets at a function's start, far from the access, so the instruction's own line may be
        another. Where a later line of the function names what is accessed, the first such line is taken.
        """
        self._budget.work(_STEPS_PER_LOOKUP)
        lines, function = self._obj.ext.lines.get(section), self._obj.function_at(section, relo.insn_off)
        try:
            name = parse_spec(self._obj.btf, relo).accessors[-1].name or ""
        except (RelocationError, BtfError, IndexError):
            name = ""
        if lines is None or function is None or not name:
            return self.at(section, relo.insn_off)
        if section not in self._sections:
            self._sections[section] = _SectionLines(self._obj, lines, self._budget)
        own = bisect_right(lines.offsets, relo.insn_off) - 1
        found = self._sections[section].first_with(name, max(own, 0))
        end = function.offset + len(function.insns)
        if own >= 0 and found is not None and (found == own or lines.offsets[found] < end):
            return _place(lines[found])
        return self.at(section, relo.insn_off)


class _SectionLines:
    """Which lines of a section hold which words."""

    def __init__(self, obj: ObjectModel, lines: LineTable, budget: Budget) -> None:
        self._budget = budget
        self._texts_with: dict[str, list[int]] = defaultdict(list)
        """Word -> the texts with it, by their string offset."""
        self._lines_of: dict[int, list[int]] = defaultdict(list)
        """Text -> the lines that have it."""
        self._lines_with: dict[str, array[int]] = {}
        for index, text in enumerate(lines.texts()):
            if text not in self._lines_of:
                content = obj.btf.string(text)
                budget.work(len(content) // 16)
                words = dict.fromkeys(_WORD.findall(content))
                budget.work(1 + len(words))
                for word in words:
                    self._texts_with[word].append(text)
            self._lines_of[text].append(index)

    def first_with(self, word: str, start: int) -> int | None:
        """The first line from an index on that holds a word."""
        if word not in self._lines_with:
            texts = self._texts_with.get(word, ())
            found = array("I", sorted(index for text in texts for index in self._lines_of[text]))
            self._budget.work(len(found))
            self._lines_with[word] = found
        found = self._lines_with[word]
        place = bisect_right(found, start - 1)
        return found[place] if place < len(found) else None


def _place(line: LineInfo) -> str:
    return f"{line.file.removeprefix('./')}:{line.line}"
