"""Make this folder: the BTF of some of Debian's kernels, in BTFHub's layout, and the README that says where from.

Run `python example_project/kernels/update.py` in the repository. It needs apt (any Debian or Ubuntu), downloads some
200 MB into ~/.cache/hatch-bpf-lab, and writes the same bytes each time. To change the kernels, edit KERNELS.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1]))  # hatch_bpf and tests, when run from a checkout

from hatch_bpf.errors import HatchBpfError  # noqa: E402
from hatch_bpf.kernels.archive import list_kernels, pack_archived, path_of, read_archived  # noqa: E402
from hatch_bpf.kernels.formats.kernel_file import read_btf  # noqa: E402
from hatch_bpf.kernels.identity import Kernel  # noqa: E402
from tests.lab.debian import Apt, Package  # noqa: E402

KERNELS = (
    "debian/11/x86_64/5.10.0-32-cloud-amd64",
    "debian/11/arm64/5.10.0-32-cloud-arm64",
    "debian/12/x86_64/6.1.0-50-cloud-amd64",
    "debian/12/arm64/6.1.0-50-cloud-arm64",
    "debian/12/x86_64/6.12.95+deb12-cloud-amd64",
    "debian/13/x86_64/6.18.15+deb13-cloud-amd64",
    "debian/13/x86_64/7.2.12+deb13-cloud-amd64",
)

README = """\
# Kernels of the example

The BTF of {count} of Debian's kernels, each the `.BTF` section out of the vmlinuz in Debian's own package, unchanged,
in BTFHub's layout. `update.py` made this folder, this page included; run it again after changing its list.

| kernel | package | version | suite | BTF, bytes | packed, bytes |
|---|---|---|---|---|---|
{rows}

Together {total} bytes. These are descriptions of the types in Linux, which is licensed under GPL-2.0
(the packages' sources are in Debian, under the versions above); the license of hatch-bpf does not cover them.
"""


def main() -> None:
    apt = Apt()
    rows = []
    total = 0
    for text in KERNELS:
        kernel = Kernel.parse(text)
        btf = read_btf(apt.fetch(kernel))
        path = FOLDER / path_of(kernel)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack_archived(btf, kernel))
        if read_archived(path) != btf:
            raise AssertionError(f"{path} does not read back as it was written")
        package = apt.find(kernel)
        total += path.stat().st_size
        rows.append(row(kernel, package, len(btf), path.stat().st_size))
        print(rows[-1])
    for entry in list_kernels(FOLDER):
        if str(entry.kernel) not in KERNELS:
            entry.path.unlink()
    (FOLDER / "README.md").write_text(README.format(count=len(KERNELS), rows="\n".join(rows), total=f"{total:,}"))


def row(kernel: Kernel, package: Package, size: int, packed: int) -> str:
    return f"| {kernel} | {package.name} | {package.version} | {package.suite} | {size:,} | {packed:,} |"


if __name__ == "__main__":
    try:
        main()
    except HatchBpfError as error:
        sys.exit(str(error))
