"""Names -> which types of a BTF have them: all names that are expected in one pass over the strings and one over the
types.

Input: a string section, the offsets in it of the names of some types, and names. Output: the numbers of the types with
a name, and the name's flavors; or `BtfError` for a hostile BTF that would take too long.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from functools import cached_property, lru_cache
from itertools import compress, count, groupby
from operator import itemgetter

from hatch_bpf.errors import BtfError

FLAVOR = "___"
"""Separates a name from its flavor."""
MAX_NAMESAKES = 1 << 14
"""Limit on types of one name; kernels have some hundred, all of them tags of functions."""
MAX_COPIES = 64
"""Limit on copies of one name in the string section; real writers deduplicate."""
MAX_IN_PATTERN = 511
"""Bytes of a name that a regular expression looks for, in time proportional to the name's length times the strings'.
The kernel's own names are no longer (KSYM_NAME_LEN), and longer ones are looked for one by one."""
MANY = 1000
"""Names that are looked for string by string: so many make a regular expression slow."""
_STRING = re.compile(rb"[^\0]+")
MAX_FLAVORS = 256
"""Limit on flavors of one name; kernels have some ten."""


class NameSearch:
    """Finds types by name, without an index: for some hundred names, building one takes longer than the search."""

    def __init__(self, offsets: array[int], strings: bytes, *, source: str) -> None:
        """`offsets` are where the types' names are. `source` names the BTF in errors."""
        self._offsets = offsets
        self._strings = strings
        self._source = source
        self._found: dict[str, list[int]] = {}
        self._copied: set[str] = set()
        """Names that the string section holds too often."""
        self._flavored: dict[int, str] = {}
        """Strings that are flavors of a name that was looked for, by their place."""

    def find(self, name: str, expected: Set[str]) -> list[int]:
        """Types with a name, rising. The same pass looks for all expected names that have not been looked for yet."""
        self._look_for(name, expected)
        found = self._found[name]
        if name in self._copied:
            raise BtfError(f"{self._source}: the name {name!r} occurs too often in its strings")
        if len(found) > MAX_NAMESAKES:
            raise BtfError(
                f"{self._source}: more than {MAX_NAMESAKES} types have the name {name!r}, more than in any kernel"
            )
        return found

    def flavors(self, name: str, expected: Set[str]) -> list[str]:
        """Strings that begin with `name___`, in their order."""
        self._look_for(name, expected)
        found = [text for _, text in sorted(self._flavored.items()) if text.startswith(name + FLAVOR)]
        if len(found) > MAX_FLAVORS:
            raise BtfError(f"{self._source}: {name!r} has more than {MAX_FLAVORS} flavors, more than in any kernel")
        return found

    def _look_for(self, name: str, expected: Set[str]) -> None:
        if name not in self._found:
            new = {name, *expected} - self._found.keys()
            self._found.update((name, []) for name in new)
            named = {name.encode("utf-8", "surrogateescape"): name for name in new if name}
            if named:
                self._search(named)

    def _search(self, names: dict[bytes, str]) -> None:
        types_at: dict[int, list[int]] = {}
        copies, flavors = Counter[str](), Counter[str]()
        for name, start, end in self._places(names):
            is_flavored = self._strings[end] != 0
            # of those that are too many, one more than may be is kept, by which they are known
            if (is_flavored or FLAVOR in name) and self._is_whole(start) and flavors[name] <= MAX_FLAVORS:
                flavors[name] += 1
                self._flavored[start] = self._text(start)
            if not is_flavored and (not self._has_tails or start in self._used):
                copies[name] += 1
                if copies[name] <= MAX_COPIES:
                    types_at[start] = self._found[name]
                else:
                    self._copied.add(name)
        for number in compress(count(), map(types_at.__contains__, self._offsets)):
            found = types_at[self._offsets[number]]
            if len(found) <= MAX_NAMESAKES:
                found.append(number)

    def _places(self, names: Mapping[bytes, str]) -> Iterator[tuple[str, int, int]]:
        """Where names, and flavors of them, are in the string section: start and end of the name itself."""
        if len(names) == 1 and not self._has_tails:
            # programs that read one struct are many, and this takes half as long as a regular expression
            ((encoded, name),) = names.items()
            at = self._strings.find(b"\0" + encoded)
            while at >= 0:
                end = at + 1 + len(encoded)
                if self._strings.startswith((b"\0", FLAVOR.encode()), end):
                    yield name, at + 1, end
                at = self._strings.find(b"\0" + encoded, end)
            return
        if len(names) > MANY and not self._has_tails:
            yield from self._places_of_many(names)
            return
        short = {encoded: name for encoded, name in names.items() if len(encoded) <= MAX_IN_PATTERN}
        if short:
            for match in _pattern(frozenset(short), self._has_tails).finditer(self._strings):
                yield short[match[1]], *match.span(1)
        for encoded in names.keys() - short.keys():
            for behind in (b"\0", FLAVOR.encode()):
                at = self._strings.find(encoded + behind)
                while at >= 0:
                    if self._has_tails or self._is_whole(at):
                        yield names[encoded], at, at + len(encoded)
                    at = self._strings.find(encoded + behind, at + 1)

    def _places_of_many(self, names: Mapping[bytes, str]) -> Iterator[tuple[str, int, int]]:
        """The same string by string, which takes as long for any number of names."""
        flavor = FLAVOR.encode()
        for match in _STRING.finditer(self._strings):
            start, text = match.start(), match[0]
            end = len(text)
            while end > 0 and text[:end] not in names:
                end = text.rfind(flavor, 0, end + len(flavor) - 1)
            if end > 0:
                yield names[text[:end]], start, start + end

    def _is_whole(self, start: int) -> bool:
        """Whether a string begins here."""
        return not start or not self._strings[start - 1]

    def _text(self, start: int) -> str:
        return self._strings[start : self._strings.index(0, start)].decode("utf-8", "surrogateescape")

    @cached_property
    def _has_tails(self) -> bool:
        """Whether some type's name is the tail of a longer string. No compiler does so, but nothing forbids it."""
        try:
            # two more, so that the getter gives a tuple whatever there is
            return any(itemgetter(0, 0, *self._offsets)(b"\0" + self._strings))
        except IndexError:  # a name beyond the strings: decoding the type will say so
            return True

    @cached_property
    def _used(self) -> frozenset[int]:
        """For names that are tails: a short one is the tail of many a string."""
        return frozenset(self._offsets)


@lru_cache(maxsize=8)  # one kernel after the other is asked for the same names
def _pattern(names: frozenset[bytes], has_tails: bool) -> re.Pattern[bytes]:
    """Finds names and their flavors; the name is group 1. Longer names go first, so that `a___b` is not taken for `a`.

    It finds whole strings, or with `has_tails` the tails of strings, too.
    """
    # by their first letters, so that most strings are done with after one look at each letter
    by_letter = groupby(sorted(names, reverse=True), lambda name: name[:1])
    any_of = b"|".join(
        re.escape(letter) + b"(?:" + b"|".join(re.escape(name[1:]) for name in alike) + b")"
        for letter, alike in by_letter
    )
    behind = b"(?=\0|" + FLAVOR.encode() + b")"
    return re.compile(b"(?=(" + any_of + b")" + behind + b")" if has_tails else b"\0(" + any_of + b")" + behind)
