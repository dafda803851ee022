"""Kernels and a wheel -> what happens to the wheel's programs, each kernel booted once, several at a time.

Input: the images and configurations, the verdicts, and what goes into the guests. Output: a `KernelTrial` for each
kernel, in their order. Ctrl-C stops all guests; nothing of them is left.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from hatch_bpf.errors import HatchBpfError
from hatch_bpf.lab import machine
from hatch_bpf.lab.console import DONE, Told, fault_of, last_lines, read_console
from hatch_bpf.lab.guest_files import Payload, common_archive, kernel_archive
from hatch_bpf.lab.selection import Selection
from hatch_bpf.portability.trial import Attempt, Happened, KernelTrial, ProgramTrial, Way
from hatch_bpf.portability.verdicts import KernelReport
from hatch_bpf.support.scratch import Scratch

BOOTS = 3
"""How many times an emulated machine is started until it comes up, since emulation is not perfect. What goes wrong
later is never repeated."""


def try_kernels(
    reports: Sequence[KernelReport],
    selection: Selection,
    payloads: Mapping[str, Payload],
    *,
    jobs: int,
    megabytes: int,
    seconds: float,
    parameters: Sequence[str],
    done: Callable[[KernelTrial], None],
) -> tuple[KernelTrial, ...]:
    """Try every program on every kernel of the selection. Calls `done` for each kernel as it comes. `parameters` are
    more of the kernels' command lines."""
    tried = [report for report in reports if report.kernel in selection.images]
    stop = threading.Event()
    with Scratch() as folder:
        common = {arch: common_archive(payload) for arch, payload in payloads.items()}
        runner = _Runner(Path(folder), selection, common, payloads, megabytes, seconds, parameters, stop)
        pool = ThreadPoolExecutor(jobs)
        try:
            trials = []
            for trial in pool.map(runner.run, tried):
                done(trial)
                trials.append(trial)
            return tuple(trials)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Runner:
    """Boots one kernel after another in a thread."""

    folder: Path
    selection: Selection
    common: Mapping[str, bytes]
    """The files that kernels share, by architecture."""
    payloads: Mapping[str, Payload]
    megabytes: int
    seconds: float
    parameters: Sequence[str]
    stop: threading.Event
    without_kvm: threading.Event = field(default_factory=threading.Event)
    """Set once a guest did not come up with KVM: there are machines that have it, and cannot boot with it."""

    def _accelerators(self, arch: str) -> Iterator[str]:
        """What to try in turn, until the guest comes up."""
        if machine.has_kvm(arch) and not self.without_kvm.is_set():
            yield "kvm"
        yield from ["tcg"] * BOOTS

    def run(self, report: KernelReport) -> KernelTrial:
        kernel = report.kernel
        payload, config = self.payloads[kernel.arch], self.selection.configs.get(kernel)
        accel = "tcg"
        mark = f"@{secrets.token_hex(8)} "
        own = self.folder / secrets.token_hex(4)
        boot, initramfs, console = (own.with_suffix(f".{name}") for name in ("vmlinuz", "initramfs", "console"))
        try:
            boot.write_bytes(self.selection.images[kernel].read(kernel).bootable)
            own_files = kernel_archive(
                kernel, report.programs, payload, config=config.read(kernel) if config else None, mark=mark
            )
            with initramfs.open("wb") as file:
                file.writelines((self.common[kernel.arch], own_files))
            for accel in self._accelerators(kernel.arch):
                argv = machine.command_line(
                    kernel.arch, boot, initramfs, megabytes=self.megabytes, accel=accel, parameters=self.parameters
                )
                ran = machine.run_guest(
                    argv,
                    console,
                    self.stop,
                    mark=mark,
                    last=f"{mark}{DONE}",
                    boot_seconds=machine.BOOT_SECONDS[accel],
                    seconds=self.seconds,
                )
                told = read_console(ran.console, mark, payload.command)
                if told.is_up or told.is_out_of_memory or self.stop.is_set():
                    break
                if accel == "kvm":
                    self.without_kvm.set()
        except HatchBpfError as error:
            return KernelTrial(kernel, accel, 0.0, (), None, fault=str(error))
        except OSError as error:
            why = f"the guest's files cannot be in {self.folder}: {error.strerror}; make room there, or set TMPDIR"
            return KernelTrial(kernel, accel, 0.0, (), None, fault=why)
        finally:
            for path in (boot, initramfs, console):
                path.unlink(missing_ok=True)
        fault = fault_of(told, ran.console, stopped=ran.stopped, megabytes=self.megabytes)
        if told.is_up and told.release != kernel.release:
            fault = fault or f"the image is of {told.release}, not of {kernel.release}: put the right one there"
        shown = last_lines(ran.console) if fault else ""
        programs = _programs(report, told, has_config=config is not None)
        return KernelTrial(kernel, accel, ran.seconds, programs, told.command, fault, shown)


def _programs(report: KernelReport, told: Told, *, has_config: bool) -> tuple[ProgramTrial, ...]:
    nothing: Mapping[Way, Attempt] = {} if told.is_done else {Way.OWN: Attempt(Happened.LOST)}
    return tuple(
        ProgramTrial(verdict, told.attempts.get((verdict.object, verdict.program), nothing), has_config)
        for verdict in report.programs
    )
