"""`python -m tests.lab.kinds`: attach a program of every kind on real kernels, and see that it runs.

Builds a wheel of tests/bpf/kinds.bpf.c and others, and does tests/kinds/exercises.py with it in virtual machines,
whose kernels start with the BPF LSM. Prints a line for each kernel and exercise. Exit status: 0 when all that the
kernel and libbpf have worked and the rest was refused, 1 when not, 2 when the lab failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.formats.kernel_file import read_btf
from hatch_bpf.kernels.identity import Kernel, natural
from hatch_bpf.lab import cpio
from hatch_bpf.portability.kernel_features import KernelFeatures
from tests.kinds import exercises, project
from tests.lab.__main__ import _chosen
from tests.lab.guest import SUITES
from tests.lab.lab import Lab, LabError
from tests.lab.seeds import MINUTES, MODULES, of_package
from tests.seeds.project import install

LIBBPF = "libbpf-under-test.so"
COMMAND = """\
if [ -e libbpf-under-test.so ]; then
    rm /usr/lib/*-linux-gnu/libbpf.so.*
    mv libbpf-under-test.so $(dirname /usr/lib/*-linux-gnu/libc.so.6)/libbpf.so.1
fi
for module in {modules}; do insmod $module.ko; done
PYTHONPATH=site python3 exercises.py {names}
"""
LSM = "lsm=capability,bpf"


@dataclass(frozen=True)
class Needs:
    """What a kernel and a libbpf must have for an exercise to work."""

    attach_type: str = ""
    """Name in `enum bpf_attach_type`."""
    config: tuple[str, ...] = ()
    """Options of the kernel's configuration that must be y."""
    libbpf: tuple[int, int] = (0, 6)
    arm64: str = ""
    """The Linux release from which arm64 has it: 6.0 for BPF trampolines, 6.4 for those in the kernel's functions."""


NEEDS = {
    "ksyscall": Needs(libbpf=(1, 0)),
    "kretsyscall": Needs(libbpf=(1, 0)),
    "kprobe_multi": Needs("BPF_TRACE_KPROBE_MULTI", ("CONFIG_FPROBE",), (0, 8)),
    "kprobe_session": Needs("BPF_TRACE_KPROBE_SESSION", ("CONFIG_FPROBE",), (1, 5)),
    "uprobe": Needs(libbpf=(0, 8)),
    "uretprobe": Needs(libbpf=(0, 8)),
    "uprobe_multi": Needs("BPF_TRACE_UPROBE_MULTI", libbpf=(1, 3)),
    "usdt": Needs(libbpf=(0, 8)),
    "fentry": Needs("BPF_TRACE_FENTRY", arm64="6.4"),
    "fexit": Needs("BPF_TRACE_FEXIT", arm64="6.4"),
    "fmod_ret": Needs("BPF_MODIFY_RETURN", arm64="6.4"),
    "lsm": Needs("BPF_LSM_MAC", ("CONFIG_BPF_LSM",), arm64="6.4"),
    "lsm_cgroup": Needs("BPF_LSM_CGROUP", ("CONFIG_BPF_LSM",), (1, 0), arm64="6.4"),
    "freplace": Needs(arm64="6.0"),
    "tcx": Needs("BPF_TCX_INGRESS", libbpf=(1, 3)),
    "netkit": Needs("BPF_NETKIT_PRIMARY", ("CONFIG_NETKIT",), (1, 3)),
    "netfilter": Needs("BPF_NETFILTER", ("CONFIG_NETFILTER_BPF_LINK",), (1, 3)),
    "struct_ops": Needs(arm64="6.0"),
    "struct_ops_link": Needs("BPF_STRUCT_OPS", libbpf=(1, 2), arm64="6.0"),
}
"""Exercise -> what it takes, where that is more than every kernel and libbpf has."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.kinds", description=__doc__)
    parser.add_argument("kernels", nargs="*", default=["*/x86_64/*"])
    parser.add_argument("--suite", choices=SUITES, default="trixie", help="Debian release of Python and libbpf")
    parser.add_argument("--libbpf", type=Path, help="a libbpf.so for x86_64 to use instead of the suite's")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="virtual machines at a time")
    options = parser.parse_args(arguments)
    lab = Lab()
    kernels = _chosen(options.kernels)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-lab-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        sites = {
            arch: install(project.make_wheel(Path(folder, arch), arch=arch), Path(folder, arch, "site"))
            for arch in sorted({kernel.arch for kernel in kernels})
        }
        probe = project.compile_probe(Path(folder, "libprobe.so")).read_bytes()
        added = {"libprobe.so": cpio.file(probe)}
        if options.libbpf:
            added[LIBBPF] = cpio.file(options.libbpf.read_bytes())
        for lines in pool.map(lambda k: _run(lab, k, site=sites[k.arch], added=added, suite=options.suite), kernels):
            wrong += sum("WRONG" in line for line in lines)
            print("\n".join(lines), flush=True)
    return int(wrong > 0)


def _run(lab: Lab, kernel: Kernel, *, site: Path, added: Mapping[str, cpio.Node], suite: str) -> list[str]:
    """Do all exercises on a kernel; a line for each, with WRONG behind it where it is not as it must be."""
    own = {name: node for package in lab.beside(kernel) for name, node in of_package(package, kernel)}
    files = {**own, **cpio.tree(site, "site"), "exercises.py": cpio.file(project.EXERCISES.read_bytes())}
    files |= added
    # the library with the probe, and the header that reads its arguments, are this machine's
    names = [name for name in exercises.EXERCISES if name != "usdt" or project.is_own(kernel.arch)]
    command = COMMAND.format(modules=" ".join(MODULES), names=" ".join(names))
    outcome = lab.run(kernel, command, files=files, suite=suite, parameters=[LSM], timeout=MINUTES)
    guest, *records = outcome.records() or [{}]
    found = {record["exercise"]: record for record in records}
    features = KernelFeatures(Btf(read_btf(lab.package(kernel)), source=str(kernel)))
    config = own["config"].content.decode().splitlines()
    version = tuple(guest.get("libbpf", (0, 0)))
    told = f"Python {guest.get('python')}, libbpf {'.'.join(map(str, version))}"
    lines = [f"{kernel}, {told}: up and done in {outcome.seconds:.0f} s"]
    for name in names:
        record: Mapping[str, Any] = found.get(name, {"step": "nothing printed", "error": ""})
        lines.append(f"{kernel}, {name}: {record['step']}")
        works, why = _must_work(name, kernel, features=features, config=config, libbpf=version)
        if (record["step"] == "works") != works or record["step"] in ("nothing printed", "does not run"):
            lines.append(f"WRONG, it must {'work' if works else f'be refused ({why})'}; {record['error']}")
    if not records:
        lines.append(outcome.output)
    return lines


def _must_work(
    name: str, kernel: Kernel, *, features: KernelFeatures, config: Sequence[str], libbpf: tuple[int, ...]
) -> tuple[bool, str]:
    """Whether an exercise must work, and what is missing where not."""
    needs = NEEDS.get(name, Needs())
    if libbpf < needs.libbpf:
        return False, f"libbpf {'.'.join(map(str, needs.libbpf))}"
    if needs.attach_type and needs.attach_type not in (features.attach_types or ()):
        return False, needs.attach_type
    for option in needs.config:
        if f"{option}=y" not in config:
            return False, option
    if needs.arm64 and kernel.arch == "arm64" and natural(kernel.release) < natural(needs.arm64):
        return False, f"Linux {needs.arm64}"
    return True, ""


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (HatchBpfError, LabError) as error:
        print(error)
        sys.exit(2)
