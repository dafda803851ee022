"""kernels/any_archive.py: what a folder spares that a URL needs. What a URL does is tested in tests/kernels/remote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.common import kernel_images

KERNEL = "ubuntu/20.04/x86_64/5.8.0-63-generic"
CODE = """
import sys
from pathlib import Path
import hatch_bpf.pipeline
from hatch_bpf.kernels.any_archive import parse_archive
from hatch_bpf.kernels.matrix import Pattern, resolve

matrix = resolve([Pattern("*/*/*/*")], archs=["x86_64"], archive=parse_archive(sys.argv[1], root=Path()))
matrix.download(print)
print(*(source.kernel for source in matrix.sources), len(matrix.sources[0].read()))
print([name for name in ("hatch_bpf.kernels.remote", "http.client", "netrc", "socket", "ssl") if name in sys.modules])
"""


def test_nothing_for_the_network_is_imported_for_a_folder(tmp_path: Path) -> None:
    kernel_images.archive(tmp_path, [KERNEL])
    result = subprocess.run([sys.executable, "-c", CODE, tmp_path], capture_output=True, text=True, check=True)
    assert result.stdout == f"{KERNEL} {len(kernel_images.btf(KERNEL))}\n[]\n"
