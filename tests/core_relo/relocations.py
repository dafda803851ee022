"""A struct in a program and in a kernel. Input: a program's C. Output: what its relocations come out as."""

from __future__ import annotations

from hatch_bpf.btf.ext import CoreRelo
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.resolve import Matcher, Resolution
from hatch_bpf.errors import RelocationError
from tests.common.c_programs import kernel, model

LOCAL = """
struct core inner { int x; int y; };
struct core thing {
    int moved;
    struct { int in_anonymous; };
    struct inner nested;
    u32 shrinks;
    int shrinks_signed;
    int array[4];
    u32 bits : 3;
    int signed_bits : 5;
    char *pointer;
    int gone;
};
"""
KERNEL = """
struct inner { long pad; int y; int x; };
struct thing {
    long pad;
    int moved;
    union { struct { long pad2; int in_anonymous; }; long other; };
    struct inner nested;
    u16 shrinks;
    short shrinks_signed;
    int array[8];
    u32 pad3 : 7;
    u32 bits : 4;
    int signed_bits : 6;
    char *pointer;
} thing;
"""


def resolve(local: str, target: str) -> list[Resolution]:
    obj, btf = model(local), kernel(target)
    found = []
    for resolution in Matcher(btf).resolve_all(obj.btf, [relo for _, relo in obj.core_relos]):
        assert isinstance(resolution, Resolution), resolution
        found.append(resolution)
    return found


def resolve_one(body: str, *, local: str = LOCAL, target: str = KERNEL) -> Resolution:
    """The one relocation of a program whose body is `body`."""
    (resolution,) = resolve(f'{local}\nSEC("socket") u64 program(void *ctx) {{ {body} }}', target)
    return resolution


def resolve_alone(matcher: Matcher, local: Btf, relo: CoreRelo) -> Resolution:
    """The result of one record by itself. Raises its `RelocationError`."""
    (found,) = matcher.resolve_all(local, [relo])
    if isinstance(found, RelocationError):
        raise found
    return found
