"""A program of every kind on real kernels: tests/kinds/exercises.py attaches it, and sees that it runs.

All that the kernel and libbpf have must work, and the rest must be refused. The kernels start with the BPF LSM.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import natural
from hatch_bpf.portability.kernel_features import KernelFeatures
from tests.kinds import exercises, project
from tests.lab.step import Booted, Command, Output
from tests.seeds.project import install


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


class Kinds:
    """The step."""

    def __init__(self, scratch: Path, arch: str) -> None:
        self._site = install(project.make_wheel(scratch, arch=arch), scratch / "site")
        self._probe = project.compile_probe(scratch / "libprobe.so")
        # the library with the probe, and the header that reads its arguments, are this machine's
        self._names = [name for name in exercises.EXERCISES if name != "usdt" or project.is_own(arch)]

    def install(self, folder: Path, _booted: Booted) -> None:
        shutil.copytree(self._site, folder / "site")
        shutil.copyfile(project.EXERCISES, folder / "exercises.py")
        shutil.copyfile(self._probe, folder / "libprobe.so")

    def commands(self, _booted: Booted) -> tuple[Command, ...]:
        argv = ("python3", "exercises.py", *self._names)
        return (Command("kinds", argv, environment={"PYTHONPATH": "site"}),)

    def judge(self, booted: Booted, _command: Command, output: Output) -> Iterator[str]:
        guest, *records = output.records() or [{}]
        found = {record["exercise"]: record for record in records}
        features = KernelFeatures(Btf(booted.btf, source=str(booted.kernel)))
        libbpf = tuple(guest.get("libbpf", (0, 0)))
        told: Counter[str] = Counter()
        for name in self._names:
            record = found.get(name, {"step": "nothing printed", "error": ""})
            told[record["step"]] += 1
            works, why = _must_work(name, booted, features=features, libbpf=libbpf)
            if (record["step"] == "works") != works or record["step"] in ("nothing printed", "does not run"):
                must = "work" if works else f"be refused ({why})"
                yield f"WRONG, {name}: {record['step']}; it must {must}; {record['error']}"
        counts = ", ".join(f"{count} {what}" for what, count in sorted(told.items()))
        yield f"Python {guest.get('python')}, libbpf {'.'.join(map(str, libbpf))}: {counts}"


def _must_work(name: str, booted: Booted, *, features: KernelFeatures, libbpf: tuple[int, ...]) -> tuple[bool, str]:
    """Whether an exercise must work, and what is missing where not."""
    needs = NEEDS.get(name, Needs())
    if libbpf < needs.libbpf:
        return False, f"libbpf {'.'.join(map(str, needs.libbpf))}"
    if needs.attach_type and needs.attach_type not in (features.attach_types or ()):
        return False, needs.attach_type
    for option in needs.config:
        if not booted.has(option):
            return False, option
    if needs.arm64 and booted.kernel.arch == "arm64" and natural(booted.kernel.release) < natural(needs.arm64):
        return False, f"Linux {needs.arm64}"
    return True, ""
