"""A `Trial` -> what is shown of it: text, JSON, JUnit's XML for a CI's test reports, and what the page shows.

Input: a `Trial`. Output: text. Names in it come from objects and consoles: what does not print is spelled out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import hatch_bpf
from hatch_bpf.objects.names import object_name
from hatch_bpf.portability.report import counted
from hatch_bpf.portability.trial import (
    CommandTrial,
    Happened,
    KernelTrial,
    ProgramTrial,
    Trial,
    Way,
    shown_end,
    signal_name,
)
from hatch_bpf.portability.verdicts import Verdict
from hatch_bpf.runtime.printable import printable

LOG_LINES = 25
"""Lines of a log that the text shows."""
OUTPUT_LINES = 60
"""Lines of the command's output that it shows."""
WAYS = {Way.OWN: "with the kernel's own BTF", Way.HIDDEN: "with the wheel's BTF, the kernel's own hidden"}
NO_CONFIG = (
    "this guest has no configuration of the kernel, which __kconfig variables need: run `hatch-bpf kernels add PACKAGE "
    "--image --archive FOLDER` again, or put the kernel's config-{release} beside its image as {release}.config"
)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


def render_trial(trial: Trial) -> str:
    """A table of programs and kernels, then what went wrong; disagreements with verdicts first."""
    parts = [_table(trial), _kernels(trial)]
    parts += [_disagreement(kernel, program, way) for kernel, program, way in disagreements(trial)]
    parts += list(_failures(trial))
    parts.append(_summary(trial))
    return "\n".join(part for part in parts if part)


def disagreements(trial: Trial) -> Iterator[tuple[KernelTrial, ProgramTrial, Way]]:
    for kernel in trial.kernels:
        for program in kernel.programs:
            for way in program.disagreements:
                yield kernel, program, way


def render_trial_json(trial: Trial) -> str:
    document = {
        "kernels": [_kernel_json(kernel) for kernel in trial.kernels],
        "not_tried": [{"kernel": str(kernel), "why": why} for kernel, why in trial.not_tried.items()],
        "exit_status": trial.exit_status,
    }
    return json.dumps(document, indent=2) + "\n"


def render_junit(trial: Trial) -> str:
    """A test suite for each kernel, with a test case for the boot, each program and way, and the command."""
    root = Element("testsuites")
    for kernel in trial.kernels:
        name, cases = str(kernel.kernel), list(_cases(kernel))
        failures = sum(bool(fault) for _, fault, _, _ in cases)
        suite = SubElement(root, "testsuite", name=name, tests=str(len(cases)), failures=str(failures))
        for title, fault, detail, seconds in cases:
            case = SubElement(suite, "testcase", classname=name, name=title, time=f"{seconds:.1f}")
            if fault:
                SubElement(case, "failure", message=fault).text = detail
    for left_out, why in trial.not_tried.items():
        suite = SubElement(root, "testsuite", name=str(left_out), tests="1", skipped="1")
        SubElement(SubElement(suite, "testcase", classname=str(left_out), name="boot"), "skipped", message=why)
    indent(root, "")
    text = _NOT_XML.sub("?", tostring(root, encoding="unicode"))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def disagreement_text(kernel: KernelTrial, program: ProgramTrial, way: Way) -> str:
    """What a report of a wrong verdict needs, as Markdown."""
    attempt, said = program.attempts[way], program.said
    reasons = "".join(f"\n- {reason.message}" for reason in said.reasons) or "\n- (none)"
    return printable(
        f"hatch-bpf {hatch_bpf.__version__} says `{said.verdict.value}` of program `{said.program}` "
        f"({said.object}) on {kernel.kernel}; the kernel, {WAYS[way]}: `{attempt.happened.value}` {attempt.error}\n\n"
        f"Reasons of the verdict:\n{reasons}\n\n"
        f"libbpf and the verifier:\n\n```\n{attempt.log.strip() or '(nothing)'}\n```\n",
        keep="\n\t",
    )


def trial_label(program: ProgramTrial) -> str:
    """`tcprtt.bpf_sockops_cb`."""
    return printable(f"{object_name(program.said.object.rpartition('/')[2])}.{program.said.program}")


def said_and_happened(program: ProgramTrial) -> str:
    """`loads: attaches`; with both ways where they differ, and an exclamation mark if the verdict is wrong."""
    happened = {way: attempt.happened.value for way, attempt in program.attempts.items()}
    if len(set(happened.values())) > 1:
        text = ", ".join(f"{value} ({way.value})" for way, value in happened.items())
    else:
        text = next(iter(happened.values()), "not tried")
    return f"{program.said.verdict.value}: {text}{' !' if program.disagreements else ''}"


def _table(trial: Trial) -> str:
    """Programs down; one line for each kernel on which it is not as on the one before."""
    rows: dict[str, dict[str, list[int]]] = {}
    for number, kernel in enumerate(trial.kernels, 1):
        for program in kernel.programs:
            rows.setdefault(trial_label(program), {}).setdefault(said_and_happened(program), []).append(number)
    if not rows:
        return ""
    left = max(len("program"), *map(len, rows))
    middle = max(len("said: happened"), *(len(cell) for cells in rows.values() for cell in cells))
    lines = [f"{'program':{left}}  {'said: happened':{middle}}  kernels"]
    for label, cells in rows.items():
        for cell, numbers in cells.items():
            lines.append(f"{label:{left}}  {cell:{middle}}  {', '.join(map(str, numbers))}")
            label = ""
    return "\n".join(lines) + "\n"


def _kernels(trial: Trial) -> str:
    lines = []
    for number, kernel in enumerate(trial.kernels, 1):
        state = kernel.fault.splitlines()[0] if kernel.fault else command_state(kernel.command)
        lines.append(printable(f"{number}: {kernel.kernel}, {kernel.seconds:.1f} s ({kernel.accelerator}): {state}"))
    lines += [printable(f"not tried: {kernel}: {why}") for kernel, why in trial.not_tried.items()]
    return "\n".join(lines) + "\n"


def command_state(command: CommandTrial | None) -> str:
    """How the command ended, in a few words."""
    if command is None:
        return "no command"
    if command.status is None:
        return command.fault
    if command.status < 0:
        said = f"is ended by {signal_name(-command.status)}"
    else:
        said = "passes" if command.status == 0 else f"ends with status {command.status}"
    return f"{printable(command.line)} {said}"


def _disagreement(kernel: KernelTrial, program: ProgramTrial, way: Way) -> str:
    title = f"WRONG VERDICT: {trial_label(program)} on {kernel.kernel}"
    return f"{title}\n{_indented(disagreement_text(kernel, program, way))}\nPlease report it with the text above.\n"


def _failures(trial: Trial) -> Iterator[str]:
    for kernel in trial.kernels:
        if kernel.fault:
            shown = f"\nits console said last:\n{_indented(kernel.last_lines)}" if kernel.last_lines else ""
            yield f"{kernel.kernel}: {kernel.fault}{shown}\n"
        for program in kernel.programs:
            for way, attempt in program.attempts.items() if program.breaks and not program.disagreements else ():
                if program.fell_short(way) and attempt.happened is not Happened.LOST:
                    where = f"{trial_label(program)} on {kernel.kernel}, {WAYS[way]}"
                    happened = f"{attempt.happened.value} {attempt.error}".rstrip()
                    if program.said.verdict is Verdict.CANNOT_ATTACH:
                        happened = f"{program.said.verdict.value}, {happened}: {program.said.reasons[0].message}"
                    yield (
                        f"{printable(f'{where}: {happened}')}\n{_indented(shown_end(attempt.log, LOG_LINES))}".rstrip()
                        + "\n"
                    )
        if any(program.lacks_config for program in kernel.programs):
            yield f"{kernel.kernel}: {NO_CONFIG.format(release=kernel.kernel.release)}\n"
        command = kernel.command
        if command and command.status != 0 and not kernel.fault:
            yield f"{kernel.kernel}: {command_state(command)}\n{_indented(shown_end(command.output, OUTPUT_LINES))}\n"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def _summary(trial: Trial) -> str:
    wrong = len(list(disagreements(trial)))
    attempts = [
        attempt for kernel in trial.kernels for program in kernel.programs for attempt in program.attempts.values()
    ]
    tried = sum(attempt.happened is not Happened.LOST for attempt in attempts)
    failed = sum(kernel.fails for kernel in trial.kernels)
    said = "no verdict is wrong" if not wrong else f"{counted(wrong, 'verdict')} wrong"
    where = counted(len(trial.kernels), "kernel")
    return f"{counted(tried, 'load')} on {where}: {said}; something fails on {failed} of them\n"


def _kernel_json(kernel: KernelTrial) -> dict[str, object]:
    return {
        "kernel": str(kernel.kernel),
        "accelerator": kernel.accelerator,
        "seconds": round(kernel.seconds, 1),
        "fault": kernel.fault,
        "last_lines": kernel.last_lines,
        "programs": [
            {
                "object": program.said.object,
                "program": program.said.program,
                "verdict": program.said.verdict.value,
                "agrees": not program.disagreements,
                **{
                    way.value: {"happened": attempt.happened.value, "error": attempt.error, "log": attempt.log}
                    for way, attempt in program.attempts.items()
                },
            }
            for program in kernel.programs
        ],
        "command": asdict(kernel.command) if kernel.command else None,
    }


def _cases(kernel: KernelTrial) -> Iterator[tuple[str, str, str, float]]:
    """Name, fault, details and seconds of each test case; the fault is empty if all is well."""
    yield "boot", kernel.fault, kernel.last_lines, kernel.seconds
    for program in kernel.programs:
        for way, attempt in program.attempts.items():
            wrong = way in program.disagreements
            failed = program.breaks and program.fell_short(way)
            fault = f"said {program.said.verdict.value}, happened {attempt.happened.value} {attempt.error}".rstrip()
            detail = disagreement_text(kernel, program, way) if wrong else attempt.log
            yield f"{trial_label(program)} ({WAYS[way]})", fault if wrong or failed else "", detail, 0.0
    if kernel.command:
        fault = "" if kernel.command.status == 0 else command_state(kernel.command)
        yield kernel.command.line, fault, kernel.command.output, 0.0
