"""Inputs for the targets to start from, small and made by code: nothing is stored.

They come from the builders of the tests and from the kernels in example_project, cut down to what a small object needs
of them.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import Kind
from hatch_bpf.core_relo.minimize import minimize
from hatch_bpf.kernels.archive import list_kernels, read_archived
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.remote.archive_url import index_of
from hatch_bpf.objects.model import read_object
from hatch_bpf.wheel.embedded_btfs import pack_btfs
from tests.common import kernel_images
from tests.common.btf_builder import RawBtf, btf_ext, elf_object

EXAMPLE = Path(__file__).parents[1] / "example_project"

_LOAD = bytes([0x61, 0x11, 0, 0, 0, 0, 0, 0])
"""`r1 = *(u32 *)(r1 + 0)`, whose offset a relocation fills in."""
_MOV = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0])
_EXIT = bytes([0x95, 0, 0, 0, 0, 0, 0, 0])


def _object(order: str) -> tuple[RawBtf, bytes, bytes]:
    """A program that asks a kernel in every way there is: its BTF (unbuilt), .BTF.ext, and the object."""
    btf = RawBtf(order)
    integer = btf.integer()
    flags = btf.integer("unsigned int", signed=False)
    char = btf.integer("char", 1)
    array = btf.array(char, 16)
    task = btf.struct("task_struct", 40, ("pid", integer, 0), ("flags", flags, 32), ("comm", array, 64))
    state = btf.enum("bpf_map_type", BPF_MAP_TYPE_HASH=1, BPF_MAP_TYPE_RINGBUF=27)
    proto = btf.func_proto(integer, ("task", btf.ptr(task)))
    btf.func("prog_0", proto)
    hash_type = btf.ptr(btf.array(integer, 1))
    count = btf.ptr(btf.array(integer, 16))
    key = btf.ptr(integer)
    events = btf.struct(
        "", 32, ("type", hash_type, 0), ("max_entries", count, 64), ("key", key, 128), ("value", btf.ptr(task), 192)
    )
    btf.datasec(".maps", 32, (btf.var("events", events), 0, 32))
    btf.typedef("pid_t", integer)
    relos = [
        (0, task, "0:0", CoreReloKind.FIELD_BYTE_OFFSET),
        (8, task, "0:2:3", CoreReloKind.FIELD_BYTE_OFFSET),
        (16, task, "0:1", CoreReloKind.FIELD_EXISTS),
        (24, task, "0", CoreReloKind.TYPE_SIZE),
        (32, task, "0", CoreReloKind.TYPE_EXISTS),
        (40, state, "1", CoreReloKind.ENUMVAL_VALUE),
        (48, task, "0", CoreReloKind.TYPE_MATCHES),
        (56, task, "0", CoreReloKind.TYPE_ID_TARGET),
    ]
    ext = btf_ext(btf, {"tp_btf/sched_switch": relos})
    code = _LOAD * 2 + _MOV * 6 + _EXIT
    return btf, ext, elf_object(btf.build(), ext, {"tp_btf/sched_switch": code}, order=order)


def an_object() -> bytes:
    """The object that kernels' BTF is read for."""
    return _object("<")[2]


@cache
def _kernels() -> Mapping[str, bytes]:
    """What the object needs of each of the example's kernels."""
    model = read_object(an_object(), path="seed.bpf.o")
    entries = list_kernels(EXAMPLE / "kernels")
    wholes = ((entry, Btf(read_archived(entry.path))) for entry in (entries[0], entries[-1]))
    return {str(entry.kernel): minimize([model], whole) for entry, whole in wholes}


def a_kernel() -> bytes:
    """The BTF that fuzzed objects are matched with."""
    return next(iter(_kernels().values()))


def btfs() -> dict[str, bytes]:
    """Minimized BTFs of real kernels, and hand-made ones with every kind of type, in both byte orders."""
    made = {name.replace("/", "-"): data for name, data in _kernels().items()}
    for order, name in (("<", "little"), (">", "big")):
        made[f"object-{name}"] = _object(order)[0].build()
        made[f"kinds-{name}"] = _every_kind(order)
    return made


def _every_kind(order: str) -> bytes:
    btf = RawBtf(order)
    integer = btf.integer()
    btf.integer("long unsigned int", 8, signed=False)
    btf.floating("double", 8)
    inner = btf.union("inner", 8, ("a", integer, 0), ("b", integer, 0))
    fields = btf.struct("fields", 16, ("low", integer, 0, 3), ("high", integer, 3, 29), ("inner", inner, 64, 0))
    for kind in (Kind.CONST, Kind.VOLATILE, Kind.RESTRICT):
        btf.mod(kind, fields)
    btf.ptr(btf.mod(Kind.TYPE_TAG, fields, "user"))
    btf.fwd("later")
    btf.fwd("either", union=True)
    btf.enum("small", A=1, B=0xFFFFFFFF)
    btf.enum64("large", C=1, D=1 << 40)
    proto = btf.func_proto(integer, ("first", integer), ("", 0))
    func = btf.func("called", proto)
    btf.decl_tag("tag", func, 0)
    btf.datasec(".data", 4, (btf.var("global", integer), 0, 4))
    btf.typedef("alias", fields)
    btf.array(fields, 3)
    return btf.build()


def exts() -> dict[str, bytes]:
    """.BTF.ext with relocations, in both byte orders."""
    return {"little": _object("<")[1], "big": _object(">")[1]}


def objects() -> dict[str, bytes]:
    """The object, in both byte orders."""
    return {"little": _object("<")[2], "big": _object(">")[2]}


def _without_padding(tar: bytes) -> bytes:
    """A tar without the zeros that fill it to 10 KB, but for the two blocks that end it."""
    content = tar.rstrip(b"\0")
    return content + bytes(-len(content) % 512 + 1024)


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar of those members, as short as it can be."""
    return _without_padding(kernel_images.tar(*members))


def archives() -> dict[str, bytes]:
    """A good tar, hostile ones, and the same compressed."""
    btf = kernel_images.btf("int")
    member = kernel_images.member
    tars = {
        "good": tar(member("6.1.0-1-amd64.btf", btf)),
        "outside": tar(member("../../etc/passwd", btf)),
        "absolute": tar(member("/etc/passwd", btf)),
        "link": tar(member("6.1.0-1-amd64.btf", type=b"2", linkname="/etc/passwd")),
        "device": tar(member("6.1.0-1-amd64.btf", type=b"3", devmajor=1, devminor=3)),
        "two": tar(member("6.1.0-1-amd64.btf", btf), member("6.1.0-2-amd64.btf", btf)),
    }
    return {**tars, **{f"{name}-xz": lzma.compress(data, preset=0) for name, data in tars.items()}}


def indexes() -> dict[str, bytes]:
    """The index of the example's kernels, and one as people write them."""
    return {
        "example": index_of(EXAMPLE / "kernels").encode(),
        "by-hand": b"# kernels\n./debian/12/amd64/6.1.0-1.btf.tar.xz\nubuntu/22.04/aarch64/5.15\n-/-/s390x/1\n",
    }


def configs() -> dict[str, bytes]:
    """Tables with every option, right and wrong."""
    return {
        "all": b"""\
programs = ["src/*/*.bpf.c"]
archs = ["x86_64", "arm64"]
btf-archive = "kernels"
kernels = ["debian/12/*/6.1.*", {newest = 3, of = "ubuntu/*/*/*"}, {btf = "a", release = "5", arch = "arm64"}, "host"]
cflags = ["-DX=1"]
vmlinux-h = {x86_64 = "host", arm64 = "debian/12/arm64/6.1"}
link = {both = ["a.bpf.c", "b.bpf.c"]}
events = {rtt_events = "rtt_event"}
alternatives = {on_close = ["fentry_close", "kprobe_close"]}
optional = ["count"]
types = ["flow"]
minimizer = "bpftool"
on-unportable = "warn"
libbpf = "system"
""",
        "wrong": b'archs = ["x86-64"]\nkernels = [1, {newest = 0}, {btf = ""}]\nlink = 7\nbtf-archive = "http://x/"\n',
    }


def locks() -> dict[str, bytes]:
    """A lock of two kernels."""
    return {
        "two": b'patterns = [\n  "debian/12/*/*",\n]\narchs = [\n  "x86_64",\n]\n\n[btf-sha256]\n'
        + b"".join(b'"debian/12/x86_64/6.1.0-%d-amd64" = "%s"\n' % (n, b"0f" * 32) for n in (1, 2))
    }


def embedded() -> dict[str, bytes]:
    """A wheel's kernels: none, and two real ones."""
    return {"none": pack_btfs({}), "two": pack_btfs({Kernel.parse(name): data for name, data in _kernels().items()})}


def packages() -> dict[str, bytes]:
    """Kernels in every form: images, packages and compressed files, plain where the format lets them be."""
    btf = kernel_images.btf("int")
    banner = b"Linux version 6.1.0-1-amd64 (debian-kernel@lists.debian.org) (gcc) #1 SMP\n\0"
    image = banner + b"\x90" * 64 + btf + b"\xcc" * 32
    vmlinuz = kernel_images.bz_image(gzip.compress(image, mtime=0))
    member = kernel_images.member
    return {
        "btf": btf,
        "elf": kernel_images.elf(btf),
        "image": image,
        "bz-gzip": vmlinuz,
        "bz-xz": kernel_images.bz_image(lzma.compress(image, preset=0)),
        "zboot": kernel_images.zboot_image(gzip.compress(image, mtime=0), b"gzip"),
        "tar-bz2": bz2.compress(tar(member("6.1.0-1-amd64.btf", btf))),
        "deb-plain": kernel_images.deb(
            member("./boot/vmlinuz-6.1.0-1-amd64", vmlinuz), suffix="", pack=_without_padding
        ),
        "deb-xz": kernel_images.deb(member("./boot/vmlinuz-6.1.0-1-amd64", vmlinuz)),
        "rpm": kernel_images.rpm(
            {"./lib/modules/6.1/vmlinuz": vmlinuz}, pack=lambda data: gzip.compress(data, mtime=0)
        ),
    }
