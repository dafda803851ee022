"""Kernels and a wheel -> what happens to the wheel's programs, each kernel booted once, several at a time.

Input: the images and configurations, the verdicts, and what goes into the guests. Output: a `KernelTrial` for each
kernel, in their order. Ctrl-C stops all guests; nothing of them is left.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.configurations import ConfigFile
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.images import ImageFile
from hatch_bpf.lab import machine
from hatch_bpf.lab.console import DONE, Told, fault_of, last_lines, read_console
from hatch_bpf.lab.guest_files import Payload, common_archive, kernel_archive
from hatch_bpf.portability.trial import Attempt, Happened, KernelTrial, ProgramTrial, Way
from hatch_bpf.portability.verdicts import KernelReport
from hatch_bpf.support.scratch import Scratch

BOOTS = 3
"""How often an emulated machine is started that does not come up, for emulation is not perfect. What goes wrong later
is never tried again."""


def try_kernels(
    reports: Sequence[KernelReport],
    images: Mapping[Kernel, ImageFile],
    configs: Mapping[Kernel, ConfigFile],
    payloads: Mapping[str, Payload],
    *,
    jobs: int,
    megabytes: int,
    seconds: float,
    parameters: Sequence[str],
    done: Callable[[KernelTrial], None],
) -> tuple[KernelTrial, ...]:
    """Try every program on every kernel. Calls `done` for each kernel as it comes. `parameters` are more of the
    kernels' command lines."""
    stop = threading.Event()
    with Scratch() as folder:
        archs = {report.kernel.arch for report in reports}
        common = {arch: common_archive(payloads[arch]) for arch in sorted(archs)}
        runner = _Runner(Path(folder), common, payloads, megabytes, seconds, parameters, stop, threading.Event())
        pool = ThreadPoolExecutor(jobs)
        try:
            pending = [
                pool.submit(runner.run, report, images[report.kernel], configs.get(report.kernel)) for report in reports
            ]
            trials = []
            for one in pending:
                trials.append(one.result())
                done(trials[-1])
            return tuple(trials)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Runner:
    """Boots one kernel after another in a thread."""

    folder: Path
    common: Mapping[str, bytes]
    """The files that kernels share, by architecture."""
    payloads: Mapping[str, Payload]
    megabytes: int
    seconds: float
    parameters: Sequence[str]
    stop: threading.Event
    without_kvm: threading.Event
    """Set once a guest did not come up with KVM: there are machines that have it, and cannot boot with it."""

    def _accelerators(self, arch: str) -> Iterator[str]:
        """What to try in turn, until the guest comes up."""
        if machine.has_kvm(arch) and not self.without_kvm.is_set():
            yield "kvm"
        yield from ["tcg"] * BOOTS

    def run(self, report: KernelReport, image: ImageFile, config: ConfigFile | None) -> KernelTrial:
        kernel = report.kernel
        payload = self.payloads[kernel.arch]
        accel = "tcg"
        mark = f"@{secrets.token_hex(8)} "
        own = self.folder / secrets.token_hex(4)
        boot, initramfs, console = (own.with_suffix(f".{name}") for name in ("vmlinuz", "initramfs", "console"))
        try:
            boot.write_bytes(image.read(kernel).bootable)
            own_files = kernel_archive(
                kernel, report.programs, payload, config=config.read(kernel) if config else None, mark=mark
            )
            with initramfs.open("wb") as file:
                file.writelines((self.common[kernel.arch], own_files))
            for accel in self._accelerators(kernel.arch):
                argv = machine.command_line(
                    kernel.arch, boot, initramfs, megabytes=self.megabytes, accel=accel, parameters=self.parameters
                )
                patience = machine.BOOT_SECONDS[accel]
                ran = machine.run(
                    argv,
                    console,
                    self.stop,
                    mark=mark,
                    last=DONE.format(mark=mark),
                    boot_seconds=patience,
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
