"""How much reading somebody else's file may cost, in time and in memory; and the largest counts and sizes taken.

Input: a file's name and size. Output: a `Budget`, which the file's readers charge for what they do, and which raises
their error once it is spent. Work and bytes are counted, not measured: a file is refused on every machine or on none.

The promise: one command with one file of up to 10 MB takes at most five seconds and 300 MB. A larger file may cost more
in proportion to its size.
"""

from __future__ import annotations

from typing import NamedTuple

from hatch_bpf.errors import HatchBpfError, KernelError

SECONDS = 5
MEGABYTES = 300
SIZE = 10 << 20
"""Bytes of the largest input that the promise is for."""
STEPS = 1_500_000
"""Steps that such an input may take, each of one or two microseconds: one turn of a loop in Python."""
BYTES = 100 << 20
"""Bytes that such an input may unpack to. Real kernels and their packages have 4 to 10 times their packed size."""
BYTES_PER_STEP = 128
"""Bytes that are unpacked in the time of a step."""


class Limit(NamedTuple):
    """The most that is taken of something, and the largest real case that it was chosen by."""

    most: int
    what: str
    real: str

    def check(
        self,
        count: int,
        *,
        source: str,
        error: type[HatchBpfError] = KernelError,
        remedy: str = "get the file anew",
    ) -> int:
        """The count, if it is within the limit; else the error says what real files have."""
        if count > self.most:
            raise error(f"more than {self.most:,} {self.what}, where {self.real}; {remedy}", source=source)
        return count


OBJECT_BYTES = Limit(64 << 20, "bytes of BPF object", "the largest known, with debug information, have some million")
BTF_BYTES = Limit(64 << 20, "bytes of BTF", "the largest kernel known has 27 million")
BTF_ENTRIES = Limit(1 << 17, "entries in a type", "the largest of 46 kernels has 576 enumerators")
BTF_NAME = Limit(511, "bytes in a name", "Linux itself takes no more (KSYM_NAME_LEN)")
ARCHIVED_BYTES = Limit(16 << 20, "bytes of packed BTF", "the largest known has 2.5 million")
IMAGE_BYTES = Limit(512 << 20, "bytes of kernel image", "kernels without debug information have 40 to 80 million")
EMBEDDED_BTFS = Limit(1 << 12, "BTFs in a package", "57 kernels, from 4.18 to 7.3, have up to 31")
CONFIG_BYTES = Limit(4 << 20, "bytes of kernel configuration", "Debian's and Fedora's have up to 300,000")
PACKAGE_HEADER = Limit(32 << 20, "bytes of package header", "kernel packages have up to a million")
FILE_NAME = Limit(4096, "bytes of file name", "Linux takes no path longer than that")
LISTED_KERNELS = Limit(1 << 15, "kernels in a list", "BTFHub's archive has 4,300")
LIST_BYTES = Limit(8 << 20, "bytes in a list of kernels", "GitHub cuts its lists off at 7 million")
KERNEL_PART = Limit(64, "bytes", "`uname -r` can have no more")
SECTIONS = Limit(1 << 13, "sections", "an object of 250 programs has 600")
NAMESAKES = Limit(256, "things that Python would call so", "real objects have a few")
RELOCATIONS = Limit(1 << 16, "CO-RE relocations", "an object of 250 large programs has 37,500")
ACCESSES = Limit(1 << 13, "different CO-RE accesses", "an object of 250 large programs has 1,000")
INSNS = Limit(1 << 19, "instructions", "an object of 250 large programs has 380,000")
WALKED_INSNS = Limit(1_000_000, "instructions on its paths", "kernels themselves follow no more")
MAPS = Limit(1 << 12, "maps", "the largest object known has 200")
EXTERNS = Limit(1 << 12, "externs", "the largest object known has 100")
FUNCTIONS = Limit(1 << 12, "functions", "the largest object known has 300")


class Budget:
    """What may still be spent on one file."""

    def __init__(self, source: str, size: int = SIZE, *, error: type[HatchBpfError] = KernelError) -> None:
        """`source` names the file in errors; `size` is its size in bytes."""
        self.source = source
        self._error = error
        scale = max(1.0, size / SIZE)
        self._steps = int(STEPS * scale)
        self._bytes = int(BYTES * scale)

    @property
    def left(self) -> int:
        """Steps that may still be taken."""
        return self._steps

    def work(self, steps: int = 1) -> None:
        """Charge for turns of a loop. Raises the budget's error."""
        self._steps -= steps
        if self._steps < 0:
            raise self._error("takes more work to read than any real file of its size", source=self.source)

    def unpack(self, size: int) -> None:
        """Charge for bytes that are made of the file: decompressed, decoded or copied. Raises the budget's error."""
        self.work(1 + size // BYTES_PER_STEP)
        self._bytes -= size
        if self._bytes < 0:
            raise self._error("unpacks to more than any real file of its size; get it anew", source=self.source)
