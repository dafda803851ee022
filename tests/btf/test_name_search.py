"""Names searched for together: what one of them is refused for is not the others' loss."""

from __future__ import annotations

import re
import time
from array import array

import pytest

from hatch_bpf.btf.name_search import MANY, MAX_COPIES, MAX_FLAVORS, MAX_NAMESAKES, NameSearch
from hatch_bpf.errors import BtfError

STRINGS = b"\0one\0two\0twofold\0caf\xe9\0a.c\0abc\0"
NAMES = {"one", "two", "twofold", "caf\udce9", "a.c", "abc", "fold", "nowhere"}
THOUSANDS = NAMES | {f"nowhere_{number}" for number in range(MANY)}
"""So many that they are looked for in another way."""


def search(strings: bytes, *offsets: int) -> NameSearch:
    return NameSearch(array("I", offsets), strings, source="kernel")


def place(name: bytes) -> int:
    return STRINGS.index(b"\0" + name + b"\0") + 1


@pytest.mark.parametrize("expected", [set[str](), NAMES, THOUSANDS], ids=["one by one", "together", "thousands"])
def test_names_are_found_whole_and_as_they_are(expected: set[str]) -> None:
    names = search(STRINGS, place(b"two"), 0, place(b"one"), place(b"two"), place(b"caf\xe9"), place(b"a.c"))
    found = {name: names.find(name, expected) for name in sorted(NAMES)}
    assert {name: types for name, types in found.items() if types} == {
        "two": [0, 3],
        "one": [2],
        "caf\udce9": [4],
        "a.c": [5],
    }
    assert names.find("", expected) == []


@pytest.mark.parametrize("expected", [set[str](), NAMES, THOUSANDS], ids=["one by one", "together", "thousands"])
def test_the_tail_of_a_string_may_be_a_name(expected: set[str]) -> None:
    names = search(STRINGS, place(b"twofold") + 3, place(b"two"), place(b"twofold"))
    assert [names.find(name, expected) for name in ("fold", "two", "twofold", "one")] == [[0], [1], [2], []]


def test_a_name_beyond_the_strings_is_nobodys() -> None:
    names = search(STRINGS, 1000, place(b"one"))
    assert names.find("one", {"two"}) == [1]


def test_what_one_name_is_refused_for_is_not_the_others_loss() -> None:
    """And it is refused each time."""
    copies = b"copied\0" * (MAX_COPIES + 1)
    flavors = b"".join(b"tasty___%d\0" % number for number in range(MAX_FLAVORS + 1))
    strings = b"\0one\0many\0tasty\0" + copies + flavors
    many = strings.index(b"many")
    names = search(strings, 1, *[many] * (MAX_NAMESAKES + 1), strings.index(b"tasty\0"))
    expected = {"one", "many", "copied", "tasty"}
    for _ in range(2):
        assert names.find("one", expected) == [0]
        assert names.find("tasty", expected) == [MAX_NAMESAKES + 2]
        with pytest.raises(BtfError, match=f"kernel: more than {MAX_NAMESAKES} types have the name 'many'"):
            names.find("many", expected)
        with pytest.raises(BtfError, match="kernel: the name 'copied' occurs too often in its strings"):
            names.find("copied", expected)
        with pytest.raises(BtfError, match=f"kernel: 'tasty' has more than {MAX_FLAVORS} flavors"):
            names.flavors("tasty", expected)
        assert not names.flavors("one", expected)


def test_as_many_as_may_be() -> None:
    strings = b"\0" + b"copied\0" * MAX_COPIES + b"many\0" + b"".join(b"many___%d\0" % n for n in range(MAX_FLAVORS))
    many = strings.index(b"many")
    offsets = [*range(1, 1 + 7 * MAX_COPIES, 7), *[many] * MAX_NAMESAKES]
    names = search(strings, *offsets)
    assert names.find("copied", {"many"}) == list(range(MAX_COPIES))
    assert names.find("many", set()) == list(range(MAX_COPIES, MAX_COPIES + MAX_NAMESAKES))
    assert len(names.flavors("many", set())) == MAX_FLAVORS


@pytest.mark.parametrize("has_tails", [True, False])
def test_names_too_long_for_a_pattern_are_found_all_the_same(has_tails: bool) -> None:
    """At once: a regular expression takes minutes to find this one."""
    long = b"a" * 200_000
    strings = b"\0" + long + b"\0" + long + b"___old\0" + b"b" + long + b"\0"
    last = strings.rindex(b"\0", 0, -1) + 1
    names = search(strings, 1, last + 1 if has_tails else last, last)
    started = time.process_time()
    assert names.find(long.decode(), {"b"}) == ([0, 1] if has_tails else [0])
    assert names.flavors(long.decode(), set()) == [long.decode() + "___old"]
    assert time.process_time() - started < 5


@pytest.mark.parametrize("others", [0, MANY])
def test_the_longest_of_several_flavored_names_is_found(others: int) -> None:
    strings = b"\0a\0a___b\0a___b___c\0a____d\0a_\0___\0x___a\0"
    places = [match.start() + 1 for match in re.finditer(rb"\0(?=.)", strings)]
    names = search(strings, *places)
    expected = {"a", "a_", "a___b", *(f"other_{number}" for number in range(others))}
    assert [names.find(name, expected) for name in ("a", "a_", "a___b")] == [[0], [4], [1]]
    assert names.flavors("a", expected) == ["a___b", "a___b___c", "a____d"]
