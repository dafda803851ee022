"""The commands that turn a kernel's BTF into a file: `hatch-bpf min-core-btf` and `hatch-bpf vmlinux-h`.

Input: a command line. Output: an exit status: 0 for success, 1 for failure.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatch_bpf.cli.common import examples, named_archive, offer, read_object_file, say
from hatch_bpf.errors import ObjectError
from hatch_bpf.kernels import HOST, HOST_BTF


def add_min_core_btf(commands: Any) -> None:
    """Add `min-core-btf` to the commands of an argument parser."""
    command = commands.add_parser(
        "min-core-btf",
        help="minimize a kernel's BTF for BPF objects",
        description="Write the part of a kernel's BTF that the CO-RE relocations of BPF objects need. "
        "The arguments are in the order of `bpftool gen min_core_btf`.",
        **examples(
            "min-core-btf host minimized.btf prog.bpf.o",
            "min-core-btf kernels/debian/12/x86_64/6.1.0-50-amd64.btf.tar.xz minimized.btf a.bpf.o b.bpf.o",
        ),
    )
    kernel = command.add_argument("kernel", metavar="KERNEL", help="raw BTF, vmlinux, vmlinuz, .btf.tar.xz, or host")
    offer(kernel, [HOST])
    command.add_argument("out", metavar="OUT", type=Path, help="file to write")
    command.add_argument("objects", metavar="OBJECT", type=Path, nargs="+", help="BPF object")
    command.set_defaults(command=_min_core_btf)


def add_vmlinux_h(commands: Any) -> None:
    """Add `vmlinux-h` to the commands of an argument parser."""
    command = commands.add_parser(
        "vmlinux-h",
        help="write a kernel's types as a C header",
        description="Write vmlinux.h, a kernel's types as a C header, to standard output or a file.",
        **examples("vmlinux-h host -o vmlinux.h", "vmlinux-h linux-image-6.1.deb --prune prog.bpf.c -o vmlinux.h"),
    )
    source = command.add_argument(
        "source", metavar="SOURCE", help="raw BTF, vmlinux, vmlinuz, kernel package, kernel of BTFHUB_ARCHIVE, or host"
    )
    offer(source, [HOST])
    command.add_argument(
        "--prune", metavar="FILE", type=Path, nargs="+", help="only the types that these program sources can use"
    )
    command.add_argument("-o", "--output", metavar="OUT", type=Path, help="file to write")
    command.set_defaults(command=_vmlinux_h)


def _min_core_btf(options: argparse.Namespace) -> int:
    gc.disable()  # nothing becomes garbage before the end, and looking for it takes a tenth of the time
    try:
        _minimize(options)
    finally:
        gc.enable()
    return 0


def _minimize(options: argparse.Namespace) -> None:
    from hatch_bpf.btf.reader import Btf
    from hatch_bpf.core_relo.minimize import collect, extract
    from hatch_bpf.core_relo.resolve import Matcher
    from hatch_bpf.kernels.formats.kernel_file import read_btf
    from hatch_bpf.support.files import write_whole

    objects = [read_object_file(path) for path in options.objects]
    path = HOST_BTF if options.kernel == HOST else Path(options.kernel)
    kernel = Btf(read_btf(path), source=str(path))
    needs = collect(objects, Matcher(kernel))
    for error in needs.errors:
        say(f"warning: libbpf will refuse a relocation on this kernel: {error}")
    write_whole(options.out, extract(kernel, needs))


def _vmlinux_h(options: argparse.Namespace) -> int:
    from hatch_bpf.compiler.vmlinux_h import find_header
    from hatch_bpf.support.files import write_whole
    from hatch_bpf.support.store import Store

    # a file needs no archive, whose module is slow to import
    archive = None if options.source == HOST or Path(options.source).exists() else named_archive(None)
    header = find_header(options.source, root=Path.cwd(), archive=archive, store=Store())
    text = header.pruned(_names(options.prune)) if options.prune else header.whole()
    if options.output:
        write_whole(options.output, text.encode())
    else:
        print(text, end="")
    return 0


def _names(sources: Sequence[Path]) -> set[str]:
    """The names that program sources use, headers included."""
    from hatch_bpf.compiler.identifiers import names_in
    from hatch_bpf.compiler.toolchain import find_toolchain

    for path in sources:
        if not path.is_file():
            raise ObjectError(f"{path} is not a file: let --prune name program sources")
    includes = find_toolchain().includes
    found = (names_in(path, root=path.parent, cflags=(), system_includes=includes) for path in sources)
    return {name for names in found for name in names.names}
