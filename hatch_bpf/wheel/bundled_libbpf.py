"""hatch-bpf's own libbpf libraries -> files for the wheel, and the wheel's platform tags.

Input: the architectures of a wheel. Output: a `Bundle`, or `ToolchainError`. hatch-bpf's wheel carries libraries that
run on every Linux (`tools/libbpf/` builds them). So one wheel serves all of its architectures, wherever it is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hatch_bpf.arch import Arch
from hatch_bpf.errors import ToolchainError
from hatch_bpf.runtime.libbpf.bundled import INDEX, SONAME
from hatch_bpf.support.own_libbpf import OWN_LIBBPF, own_libraries

_SYSTEM = 'set libbpf = "system", and the wheel will need a libbpf on each host'


@dataclass(frozen=True)
class Bundle:
    """libbpf for some architectures, ready for a wheel."""

    files: Mapping[str, bytes]
    """By name relative to the `_bpf` folder: libraries, their licenses, an index and an SBOM."""
    platform: str
    """Platform tags of the wheel: `manylinux2014_x86_64.manylinux_2_17_x86_64.musllinux_1_1_x86_64`."""

    @property
    def index(self) -> bytes:
        """The list of the libraries. Skeletons carry its sha256."""
        return self.files[f"lib/{INDEX}"]


def bundle(archs: Sequence[Arch]) -> Bundle:
    """The libraries of some architectures, for each C library that there is. Raises `ToolchainError`."""
    there = own_libraries()
    missing = [arch.name for arch in archs if arch.name not in there]
    if missing:
        lack = (
            f"has no libbpf for {', '.join(missing)}, only for {', '.join(there)}: take the others out of archs, or "
            f"{_SYSTEM} (in a checkout, python -m tools.libbpf makes all that there are)"
            if there
            else f"was installed from sources without it: run python -m tools.libbpf in its checkout, or {_SYSTEM}"
        )
        raise ToolchainError(
            f'wheels carry hatch-bpf\'s libbpf (libbpf = "bundle", the default), and this hatch-bpf {lack}'
        )
    own, files, lines, tags = OWN_LIBBPF / "lib", dict[str, bytes](), [], set[str]()
    for arch in archs:
        for libc, library in there[arch.name].items():
            name = f"{arch.name}/{libc}/{SONAME}"
            files[f"lib/{name}"] = (own / name).read_bytes()
            lines.append(f"{arch.name} {libc} {library['sha256']}\n")
            tags.update(library["tags"])
    files[f"lib/{INDEX}"] = "".join(lines).encode()
    for path in sorted((own / "licenses").rglob("*")):
        if path.is_file():
            files[f"lib/{path.relative_to(own).as_posix()}"] = path.read_bytes()
    files["lib/sbom.cdx.json"] = (own / "sbom.cdx.json").read_bytes()
    return Bundle(files, ".".join(sorted(tags)))
