"""Large BTFs made to cost time or memory, and one through all that a build does with a kernel.

`python -m fuzz.hostile SHAPE BYTES SECONDS` prints the processor time and the memory that it took, and what
came of it. The kernel ends the process when it takes more than twice the time.
"""

from __future__ import annotations

import math
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fuzz.targets import REFUSALS, fit
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import WORDS_PER_ENTRY, Kind
from hatch_bpf.support.budget import BTF_ENTRIES

_STRINGS = b"\0task_struct\0pid\0flags\0comm\0bpf_map_type\0BPF_MAP_TYPE_HASH\0pid_t\0int\0btf_trace_sched_switch\0"


def _at(name: str) -> int:
    return _STRINGS.index(b"\0" + name.encode() + b"\0") + 1


def _type(kind: Kind, name: int, size: int, *words: int, vlen: int = 0) -> bytes:
    return struct.pack(f"<{3 + len(words)}I", name, kind << 24 | vlen, size, *words)


def _blob(types: bytes, strings: bytes = _STRINGS) -> bytes:
    return struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


_INT = _type(Kind.INT, _at("int"), 4, 1 << 24 | 32)
_TASK = _at("task_struct")


def _times(one: bytes, size: int) -> bytes:
    return _blob(_INT + one * (size // len(one)))


def _structs(size: int, *members: int) -> bytes:
    words = [word for place, name in enumerate(members) for word in (name, 1, 32 * place)]
    return _times(_type(Kind.STRUCT, _TASK, 4 * len(members), *words, vlen=len(members)), size)


def _one_struct(size: int, name: int, of: bytes = b"", of_type: int = 1) -> bytes:
    count = size // 12
    head = struct.pack("<III", _TASK, Kind.STRUCT << 24 | count, 4)
    return _blob(_INT + of + head + struct.pack("<III", name, of_type, 0) * count)


def _long(size: int, kind: Kind, *entry: int, of: bytes = b"") -> bytes:
    """Types of a kind that each have as many entries as are taken, all alike, and typedefs of pointers to them."""
    types, number = bytearray(_INT + of), 2 + bool(of)
    size_or_returned = 1 if kind is Kind.FUNC_PROTO else 4
    while len(types) < size:
        types += _type(kind, 0, size_or_returned, *entry * BTF_ENTRIES.most, vlen=BTF_ENTRIES.most)
        types += _type(Kind.PTR, 0, number) + _type(Kind.TYPEDEF, _at("pid_t"), number + 1)
        number += 3
    return _blob(bytes(types))


def _distinct(size: int, kind: Kind, count: int) -> bytes:
    """Types of a kind with some entries each, and all names different."""
    types, strings, number = bytearray(_INT), bytearray(_STRINGS), 0
    width = WORDS_PER_ENTRY[kind]
    while len(types) + len(strings) < size:
        words: list[int] = []
        for place in range(count):
            words += (len(strings) + 8 * place, 1, 32 * place)[:width]
        types += _type(kind, len(strings) + 8 * count if number else _TASK, 4 * count, *words, vlen=count)
        strings += b"".join(b"a%06x\0" % name for name in range(number, number + count + 1))
        number += count + 1
    return _blob(bytes(types), bytes(strings))


def _tails(size: int) -> bytes:
    """A struct whose members' names are the tails of one long string."""
    count = size // 24
    head = struct.pack("<III", _TASK, Kind.STRUCT << 24 | count, 4)
    names = range(len(_STRINGS), len(_STRINGS) + count)
    members = struct.pack(f"<{3 * count}I", *(word for name in names for word in (name, 1, 0)))
    return _blob(_INT + head + members, _STRINGS + b"a" * (size // 2) + b"\0")


def _structs_with_tails(size: int) -> bytes:
    count = size // 24
    types = struct.pack(
        f"<{3 * count}I",
        *(word for name in range(count) for word in (len(_STRINGS) + name, Kind.STRUCT << 24, 0)),
    )
    return _blob(_INT + types, _STRINGS + b"a" * (size // 2) + b"\0")


def _flavors(size: int) -> bytes:
    count = size // 36
    strings, types = bytearray(_STRINGS), bytearray(_INT)
    for number in range(count):
        types += _type(Kind.STRUCT, len(strings), 0)
        strings += b"task_struct___%06x\0" % number
    return _blob(bytes(types), bytes(strings))


def _strings(size: int) -> bytes:
    """The same name over and over, and types to look for each of them in."""
    return _blob(_INT * (size // 32), _STRINGS + b"task_struct\0" * (size // 24))


def _doubled(size: int) -> bytes:
    """Anonymous structs of two members each, which both are the struct before."""
    types = bytearray(_INT + _type(Kind.STRUCT, 0, 4, _at("int"), 1, 0, vlen=1))
    last = 2
    while len(types) < size:
        types += _type(Kind.STRUCT, 0, 4, 0, last, 0, 0, last, 0, vlen=2)
        last += 1
    return _blob(bytes(types) + _type(Kind.STRUCT, _TASK, 4, 0, 30, 0, vlen=1))


def _chain(size: int, kind: Kind) -> bytes:
    """Each type refers to the next, the last to void."""
    count = size // 12
    name = _at("pid_t") if kind is Kind.TYPEDEF else 0
    words = (word for number in range(1, count + 1) for word in (name, kind << 24, number + 1 if number < count else 0))
    return _blob(struct.pack(f"<{3 * count}I", *words))


SHAPES: dict[str, Callable[[int], bytes]] = {
    "structs of one name": lambda size: _structs(size),
    "structs of one name with a member": lambda size: _structs(size, _at("pid")),
    "structs of one name with the members": lambda size: _structs(size, _at("pid"), _at("flags"), _at("comm")),
    "structs of one name with many members": lambda size: _structs(size, *[_at("int")] * 1000),
    "a struct": lambda size: _one_struct(size, _at("int")),
    "a struct of anonymous members": lambda size: _one_struct(
        size, 0, of=_type(Kind.STRUCT, 0, 4, _at("int"), 1, 0, vlen=1), of_type=2
    ),
    "an enum": lambda size: _blob(
        struct.pack("<III", _at("bpf_map_type"), Kind.ENUM << 24 | size // 8, 4)
        + struct.pack("<II", _at("int"), 1) * (size // 8)
    ),
    "long enums": lambda size: _long(size, Kind.ENUM, _at("int"), 1),
    "long enums of 64 bits": lambda size: _long(size, Kind.ENUM64, _at("int"), 1, 1),
    "long structs": lambda size: _long(size, Kind.STRUCT, _at("int"), 1, 0),
    "long structs of anonymous members": lambda size: _long(
        size, Kind.STRUCT, 0, 2, 0, of=_type(Kind.STRUCT, 0, 4, _at("int"), 1, 0, vlen=1)
    ),
    "long prototypes": lambda size: _long(size, Kind.FUNC_PROTO, _at("int"), 1),
    "structs of a member": lambda size: _distinct(size, Kind.STRUCT, 1),
    "structs of many members": lambda size: _distinct(size, Kind.STRUCT, BTF_ENTRIES.most),
    "enums of an enumerator": lambda size: _distinct(size, Kind.ENUM, 1),
    "enums of many enumerators": lambda size: _distinct(size, Kind.ENUM, BTF_ENTRIES.most),
    "enums of one name": lambda size: _times(_type(Kind.ENUM, _at("bpf_map_type"), 4), size),
    "typedefs of one name": lambda size: _times(_type(Kind.TYPEDEF, _at("pid_t"), 1), size),
    "tracepoints of one name": lambda size: _times(_type(Kind.TYPEDEF, _at("btf_trace_sched_switch"), 1), size),
    "functions of one name": lambda size: _times(_type(Kind.FUNC, _at("btf_trace_sched_switch"), 1), size),
    "members whose names are tails": _tails,
    "structs whose names are tails": _structs_with_tails,
    "strings of one name": _strings,
    "flavors": _flavors,
    "strings of a letter": lambda size: _blob(_INT, _STRINGS + b"a\0" * (size // 2)),
    "empty strings": lambda size: _blob(_INT * (size // 32), _STRINGS + bytes(size // 2)),
    "underscores": lambda size: _blob(_INT, _STRINGS + b"_" * size + b"\0"),
    "flavored strings": lambda size: _blob(_INT, _STRINGS + b"task_struct___a\0" * (size // 16)),
    "anonymous structs in pairs": _doubled,
    "a chain of typedefs": lambda size: _chain(size, Kind.TYPEDEF),
    "a chain of pointers": lambda size: _chain(size, Kind.PTR),
    "integers": lambda size: _blob(_INT * (size // len(_INT))),
    "types of no known kind": lambda size: _blob(struct.pack("<III", 0, 100 << 24, 0) * (size // 12)),
    "zeros": lambda size: _blob(bytes(size // 12 * 12)),
}
"""What to make, by what it is."""
WORST = (
    "structs of one name with the members",
    "an enum",
    "long structs of anonymous members",
    "tracepoints of one name",
    "members whose names are tails",
    "strings of one name",
    "flavors",
)
"""Those that each took too much before there was a limit against it."""


def main() -> None:
    shape, size, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    data = SHAPES[shape](size)
    start = time.process_time()
    limit = math.ceil(start + 2 * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    try:
        fit(Btf(data, source=shape))
        outcome = "taken"
    except REFUSALS as error:
        outcome = f"refused: {error}"
    # getrusage() would count what the process that started this one had
    status = Path("/proc/self/status").read_text(encoding="ascii")
    memory = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(f"{time.process_time() - start:.2f} {memory:.0f} {outcome[:200]}")


if __name__ == "__main__":
    main()
