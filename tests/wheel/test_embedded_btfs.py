"""`kernels.btfs`: what is packed comes out again, byte for byte; it takes little room; damage is told."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import KIND_OF, Kind
from hatch_bpf.btf.writer import as_libbpf_writes
from hatch_bpf.core_relo import minimize
from hatch_bpf.errors import BtfError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.runtime.errors import PackageError
from hatch_bpf.runtime.host.embedded import HEADER, Embedded
from hatch_bpf.wheel.embedded_btfs import pack_btfs
from tests.common import kernel_btfs, needs, objects
from tests.common.btf_builder import RawBtf
from tests.common.pythons import PYTHONS, pythons
from tests.common.skeleton_package import RUNTIME

KERNEL = Kernel("debian", "12", "x86_64", "6.1.0-47-amd64")


def unpack(data: bytes) -> dict[str, bytes]:
    embedded = Embedded(data, "kernels.btfs")
    return {name: embedded.btf(number) for name, number in embedded.kernels().items()}


def named(btfs: dict[Kernel, bytes]) -> dict[str, bytes]:
    return {"/".join((kernel.distro, kernel.version, kernel.arch, kernel.release)): btf for kernel, btf in btfs.items()}


def numbered(*btfs: bytes) -> dict[Kernel, bytes]:
    """A kernel for each."""
    return {Kernel("debian", "12", "x86_64", f"6.1.0-{number}-amd64"): btf for number, btf in enumerate(btfs)}


def every_kind(order: str = "<") -> bytes:
    """A type of every kind; some refer to themselves, some have no name, and some of those are there twice."""
    btf = RawBtf(order)
    number = btf.integer()
    text = btf.array(btf.mod(Kind.CONST, btf.integer("char", 1)), 16, index=number)
    point = btf.struct("point", 8, ("x", number, 0), ("y", number, 32))
    btf.struct("node", 16, ("next", 7, 0), ("flags", number, 64, 3), ("more", number, 67, 5))
    btf.ptr(6)
    for name in ("first", "second"):
        btf.struct("", 4, (name, number, 0))
        btf.struct("", 4, (name, number, 0))
    btf.union("either", 8, ("p", point, 0), ("t", text, 0))
    btf.enum("color", red=1, green=2)
    btf.enum("", signed=True, below=-1)
    btf.enum64("wide", huge=1 << 40)
    btf.fwd("later", union=True)
    btf.typedef("number_t", number)
    btf.mod(Kind.VOLATILE, btf.mod(Kind.RESTRICT, btf.ptr(0)))
    btf.mod(Kind.TYPE_TAG, number, "user")
    proto = btf.func_proto(number, ("a", point), ("", 0))
    btf.func_proto(number, ("a", number))
    btf.func("call", proto)
    variable = btf.var("seen", number)
    btf.datasec(".data", 4, (variable, 0, 4))
    btf.floating("double", 8)
    btf.decl_tag("kfunc", point, 1)
    return as_libbpf_writes(Btf(btf.build()))


def a_kernel(seed: int) -> bytes:
    """Structs that refer to each other, in an order, with members and of sizes that differ from seed to seed."""
    chance = random.Random(seed)
    btf = RawBtf()
    number = btf.integer()
    count = chance.randrange(2, 12)
    for name in chance.sample(
        ["sock", "task_struct", "file", "inode", "dentry", "", "", "cred", "pid", "net", "rq"], count - 1
    ):
        members = chance.sample(["state", "next", "flags", "f_path", "i_mode", "uid"], chance.randrange(1, 6))
        places = [(member, chance.randrange(1, count + 1), 32 * at) for at, member in enumerate(members)]
        btf.struct(name, chance.choice([8, 16, 24]), *places)
    assert number == 1
    return as_libbpf_writes(Btf(btf.build()))


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_kind_comes_out_as_it_went_in(order: str) -> None:
    btf = every_kind(order)
    assert {KIND_OF[type(found)] for found in Btf(btf)} == set(Kind)
    assert unpack(pack_btfs({KERNEL: btf})) == {str(KERNEL): btf}


def test_both_byte_orders_and_all_kernels_of_a_random_matrix() -> None:
    chance = random.Random(0)
    kernels = {
        Kernel(distro, version, arch, f"{major}.{chance.randrange(20)}.0-{number}-generic"): a_kernel(
            chance.randrange(90)
        )
        for distro, version in (("", ""), ("debian", "12"), ("debian", "9"), ("arch", ""), ("ubuntu", "20.04"))
        for arch in ("arm64", "x86_64")
        for major in (4, 5)
        for number in range(20)
    }
    kernels[Kernel("debian", "12", "s390x", "6.1.0-1-s390x")] = every_kind(">")
    assert unpack(pack_btfs(kernels)) == named(kernels)


def test_the_bytes_do_not_depend_on_the_order_of_the_matrix() -> None:
    kernels = numbered(*map(a_kernel, range(20)))
    assert pack_btfs(dict(reversed(kernels.items()))) == pack_btfs(kernels)


@pytest.mark.parametrize("kernel", kernel_btfs.SAMPLE)
def test_the_minimized_btfs_of_real_objects(kernel: str) -> None:
    whole = Btf(kernel_btfs.read(kernel), source=kernel)
    models = list(objects.models().values())
    kernels = numbered(*(minimize.minimize(models[first::6], whole) for first in range(6)))
    assert unpack(pack_btfs(kernels)) == named(kernels)


def test_no_kernels_at_all() -> None:
    assert unpack(pack_btfs({})) == {}
    assert Embedded(pack_btfs({}), "kernels.btfs").namesakes(arch="x86_64", release="6.1.0") == {}


def test_a_kernel_more_with_a_btf_that_is_there_costs_its_name_and_a_number() -> None:
    before, after = numbered(*[every_kind()] * 5), numbered(*[every_kind()] * 6)
    assert len(pack_btfs(after)) - len(pack_btfs(before)) == len("\n6.1.0-5-amd64") + 4


def test_a_btf_in_which_one_struct_grew_costs_that_struct_and_a_list() -> None:
    def kernel(size: int) -> bytes:
        btf = RawBtf()
        number = btf.integer()
        grown = btf.struct("grown", size, ("state", number, 0))
        for name in range(100):
            btf.struct(f"of_{name}", 8, (f"member_{name}", grown, 0))
        return as_libbpf_writes(Btf(btf.build()))

    before, after = numbered(kernel(4)), numbered(kernel(4), kernel(8))
    listed, struct, of_its_class, digest, name = 4 * (2 + 102), 4 * 6, 4, 8, len("\n6.1.0-1-amd64") + 4
    assert len(pack_btfs(after)) - len(pack_btfs(before)) == listed + struct + of_its_class + digest + name


def test_strings_in_another_order_are_refused() -> None:
    """The file keeps no order of strings but that of their first use."""
    btf = RawBtf()
    btf.string("unused")
    btf.string("x")
    btf.struct("point", 4, ("x", btf.integer(), 0))
    with pytest.raises(PackageError, match="just packed"):
        pack_btfs({KERNEL: btf.build()})
    in_order = as_libbpf_writes(Btf(btf.build()))
    assert list(Btf(in_order)) == list(Btf(btf.build()))
    (found,) = unpack(pack_btfs({KERNEL: in_order})).values()
    assert found == in_order


def test_what_is_no_btf() -> None:
    with pytest.raises(BtfError, match="not BTF"):
        pack_btfs({KERNEL: b"no BTF" * 10})


def test_the_kernels_can_be_read_with_strings() -> None:
    lines = subprocess.run(
        [needs.tool("strings")], input=pack_btfs(numbered(a_kernel(1), a_kernel(2))), capture_output=True, check=True
    ).stdout.split()
    assert {b"debian/12/x86_64", b"6.1.0-0-amd64", b"6.1.0-1-amd64"} <= set(lines)


@pytest.mark.thorough
@pytest.mark.parametrize("version", PYTHONS)
def test_every_python_reads_the_same(version: str, tmp_path: Path) -> None:
    python = pythons().get(version)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    kernels = {**numbered(*map(a_kernel, range(20))), Kernel("debian", "12", "s390x", "6.1"): every_kind(">")}
    (tmp_path / "kernels.btfs").write_bytes(pack_btfs(kernels))
    (tmp_path / "runtime").symlink_to(RUNTIME)
    code = """
        from runtime.host.embedded import Embedded
        embedded = Embedded(open("kernels.btfs", "rb").read(), "kernels.btfs")
        for kernel, number in embedded.kernels().items():
            print(kernel, embedded.btf(number).hex())
    """
    command = [python, "-B", "-c", textwrap.dedent(code)]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert dict(line.split() for line in printed.splitlines()) == {n: b.hex() for n, b in named(kernels).items()}


def test_whatever_the_damage_it_is_told_or_does_no_harm() -> None:
    """Without the sha256 of the file, that is, which the runtime looks at first."""
    kernels = numbered(*map(a_kernel, range(8)), every_kind())
    whole = pack_btfs(kernels)
    chance = random.Random(0)
    told = 0
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 5])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            found = unpack(bytes(data[: chance.choice([None, None, chance.randrange(len(data))])]))
        except PackageError:
            told += 1
        else:
            assert set(found.values()) <= set(kernels.values())
    assert 0 < told < 1000


@pytest.mark.parametrize("data", [b"", b"{}", b"btfs\2\0\0\0" + bytes(HEADER.size), random.Random(100).randbytes(100)])
def test_what_is_no_such_file(data: bytes) -> None:
    with pytest.raises(PackageError, match=r"/a/kernels\.btfs is damaged \(.*\); reinstall the package"):
        Embedded(data, "/a/kernels.btfs")


def test_namesakes_are_those_of_all_kernels_with_that_release() -> None:
    release = "5.4.0-42-generic"
    matrix = [
        Kernel("ubuntu", version, arch, name)
        for version in ("18.04", "20.04")
        for arch in ("x86_64", "arm64")
        for name in (release, f"{release}-debug", "5.4.0-4", "5.4.0-43-generic")
    ]
    embedded = Embedded(pack_btfs({kernel: a_kernel(seed) for seed, kernel in enumerate(matrix)}), "kernels.btfs")
    everything = embedded.kernels()
    assert len(everything) == len(matrix)
    expected = [f"ubuntu/18.04/arm64/{release}", f"ubuntu/20.04/arm64/{release}"]
    assert embedded.namesakes(arch="arm64", release=release) == {name: everything[name] for name in expected}


def test_reading_needs_no_compression() -> None:
    """A Python may have been built without."""
    code = (
        "import sys; from hatch_bpf.runtime.host.embedded import Embedded; "
        "Embedded(sys.stdin.buffer.read(), 'kernels.btfs').btf(0); "
        "print([name for name in ('zlib', 'lzma', 'bz2') if name in sys.modules])"
    )
    data = pack_btfs(numbered(every_kind()))
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout == b"[]\n"
