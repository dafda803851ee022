"""What goes into a guest -> its initramfs: a root file system that all kernels share, and each kernel's own files.

Input: nodes of Python and the wheel, the verdicts for a kernel, and a command. Output: cpio archives in a row, which
the kernel unpacks one over the other. `hatch_bpf/lab/guest/init.py` reads the plan that is written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import hatch_bpf
from hatch_bpf.errors import LabError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.lab import cpio
from hatch_bpf.lab.compiled import PYTHON_VERSION, compiled_modules
from hatch_bpf.lab.wheels import BIN, PYTHON, SITE
from hatch_bpf.objects.model import read_object
from hatch_bpf.portability.verdicts import ProgramVerdict
from hatch_bpf.project.sources import BPF_DIR
from hatch_bpf.runtime.errors import PackageError
from hatch_bpf.runtime.host.digest import sha256
from hatch_bpf.runtime.host.embedded import Embedded
from hatch_bpf.runtime.libbpf.bundled import INDEX
from hatch_bpf.runtime.sections import Target, parse_section
from hatch_bpf.wheel.contents import KERNELS_NAME

FOLDERS = ("dev", "proc", "sys", "tmp", "run", "root", "etc", "project")
LAB = "lab"
PROJECT = "project"
_OWN_CODE = ("runtime/**/*.py", "lab/guest/*.py")
"""hatch-bpf's own modules that run in a guest."""


@dataclass(frozen=True)
class GuestRoot:
    """What all guests of an architecture have in common."""

    nodes: Mapping[str, cpio.Node]
    python: str
    """Path of the interpreter."""
    libbpf: str
    """Path of libbpf; empty if the root file system has none."""
    arch: str
    python_version: str
    """Such as `3.13`; empty if it is not known."""


@dataclass(frozen=True)
class Payload:
    """What goes into every guest of an architecture."""

    root: GuestRoot
    site: Mapping[str, cpio.Node]
    """The wheel and what it needs, by path in the guest."""
    project: Mapping[str, cpio.Node]
    """Files of the folder that the command runs in."""
    command: tuple[str, ...]
    """Empty for none."""


def common_archive(payload: Payload) -> bytes:
    """The packed files that do not depend on the kernel."""
    root = payload.root
    nodes = dict(root.nodes)
    nodes |= {name: cpio.folder() for name in FOLDERS if name not in nodes}
    # Python starts before devtmpfs is mounted, and before kernels older than 5.4 have random numbers of their own
    nodes["dev/urandom"] = cpio.character_device(1, 9)
    nodes |= payload.site
    package = Path(hatch_bpf.__file__).parent
    for path in sorted(found for pattern in _OWN_CODE for found in package.glob(pattern)):
        nodes[f"{LAB}/hatch_bpf/{path.relative_to(package).as_posix()}"] = cpio.file(path.read_bytes())
    start = f"import sys; sys.path.insert(0, '/{LAB}'); from hatch_bpf.lab.guest.init import main; main()"
    if root.python_version == PYTHON_VERSION:
        nodes |= dict(compiled_modules(nodes))
    nodes |= {f"{PROJECT}/{name}": node for name, node in payload.project.items()}
    # isolated, and without the packages that the command uses
    nodes["init"] = cpio.file(f"#!{root.python} -ISB\n{start}\n", executable=True)
    nodes |= {path: cpio.link(root.python) for path in (PYTHON, f"{PYTHON}3")}
    nodes.setdefault("etc/passwd", cpio.file("root:x:0:0:root:/root:/bin/sh\n"))
    nodes.setdefault("etc/hosts", cpio.file("127.0.0.1 localhost\n"))
    return cpio.pack(nodes)


def kernel_archive(
    kernel: Kernel, programs: Sequence[ProgramVerdict], payload: Payload, *, config: bytes | None, mark: str
) -> bytes:
    """The packed files of one kernel: the plan, the BTFs of the wheel for it, its distribution's name, and its
    configuration where libbpf looks for it."""
    root, site = payload.root, payload.site
    objects: list[dict[str, Any]] = []
    nodes: dict[str, cpio.Node] = {}
    for name in dict.fromkeys(program.object for program in programs):
        path = _object_in(site, kernel.arch, name)
        bpf_dir = path.removesuffix(f"/{kernel.arch}/{name}")
        libraries = _libraries(site, bpf_dir)
        if not libraries and not root.libbpf:
            raise LabError(f"there is no libbpf for the guest, and the wheel brings none: {NO_LIBBPF}")
        btf = _embedded_btf(site[f"{bpf_dir}/{KERNELS_NAME}"].content, kernel)
        at = f"{LAB}/{len(objects)}.btf"
        if btf:
            nodes[at] = cpio.file(btf)
        sections = _sections(site[path].content, path)
        of_object = [program.program for program in programs if program.object == name]
        objects.append(
            {
                "name": name,
                "path": f"/{path}",
                "btf": f"/{at}" if btf else None,
                "libraries": libraries,
                "programs": [{"name": program, "attach": how_to_attach(sections[program])} for program in of_object],
            }
        )
    plan = {
        "mark": mark,
        "objects": objects,
        "hidden": all(item["btf"] for item in objects),
        "libbpf": root.libbpf,
        "command": list(payload.command),
        "folder": f"/{PROJECT}",
        "path": {"site": f"/{SITE}", "bin": f"/{BIN}:{PurePosixPath(root.python).parent}:/usr/bin:/bin"},
    }
    nodes[f"{LAB}/plan.json"] = cpio.file(json.dumps(plan))
    nodes["etc/os-release"] = cpio.file(f"ID={kernel.distro}\nVERSION_ID={kernel.version}\n")
    if config is not None:
        nodes[f"boot/config-{kernel.release}"] = cpio.file(config)
    return cpio.pack(nodes)


NO_LIBBPF = 'install libbpf here (apt install libbpf1, dnf install libbpf), or build the wheel with libbpf = "bundle"'


def how_to_attach(section_name: str) -> str:
    """How to attach a program of this section without harm: `section`, or the attach type of a cgroup; empty if it
    must not be attached."""
    section = parse_section(section_name)
    if section is None:
        return ""
    if section.program_type.startswith("CGROUP_") or section.program_type == "SOCK_OPS":
        return section.attach_type
    is_harmless = section.only_watches or section.target_kind == Target.ITERATOR
    return "section" if is_harmless and section.target else ""


def _object_in(site: Mapping[str, cpio.Node], arch: str, name: str) -> str:
    """Where the wheel has an object."""
    ending = f"/{BPF_DIR}/{arch}/{name}"
    found = [path for path in site if path.endswith(ending)]
    if len(found) != 1:
        raise LabError(f"the wheel has {len(found)} files {ending}, and should have one: build it from this project")
    return found[0]


@lru_cache
def _sections(elf: bytes, path: str) -> Mapping[str, str]:
    """An object's programs and their sections."""
    return {program.name: program.section for program in read_object(elf, path=path).programs}


def _libraries(site: Mapping[str, cpio.Node], bpf_dir: str) -> tuple[str, ...]:
    """What `load_bundled()` takes to load the package's own libbpf; empty if it has none."""
    index = site.get(f"{bpf_dir}/lib/{INDEX}")
    return (f"/{bpf_dir}", sha256(index.content)) if index else ()


def _embedded_btf(packed: bytes, kernel: Kernel) -> bytes | None:
    """The BTF that a wheel embeds for a kernel."""
    try:
        embedded = Embedded(packed, KERNELS_NAME)
        number = embedded.kernels().get(f"{kernel.distro}/{kernel.version}/{kernel.arch}/{kernel.release}")
        return None if number is None else embedded.btf(number)
    except PackageError as error:
        raise LabError(f"the wheel cannot be tried: {error}") from error
