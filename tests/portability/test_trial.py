"""Verdicts beside what really happened."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.trial import (
    Attempt,
    CommandTrial,
    Happened,
    KernelTrial,
    ProgramTrial,
    Trial,
    Way,
    shown_end,
)
from hatch_bpf.portability.trial_report import command_state, render_junit, render_trial
from hatch_bpf.portability.verdicts import ProgramVerdict, Reason, ReasonKind, Verdict, Weight

KERNEL = Kernel.parse("debian/12/x86_64/6.1.0")
WORKS, REFUSED = Attempt(Happened.ATTACHES), Attempt(Happened.REFUSED, "EINVAL", "why")
NOT_ATTACHED, LOST = Attempt(Happened.ATTACH_REFUSED, "ENOENT"), Attempt(Happened.LOST)
NOT_TRIED = Attempt(Happened.LOADS)
NEEDS_BTF = Reason(ReasonKind.KERNEL_BTF, Weight.KERNEL_BTF, "")
NO_TARGET, NOT_SLEEPABLE, NOT_MODIFIABLE, NO_CONFIG = (
    Attempt(Happened.REFUSED, "EINVAL", log)
    for log in (
        "libbpf: prog 'one': failed to find kernel BTF type ID of 'nf_hook': -3",
        "libbpf: prog 'one': -- BEGIN PROG LOAD LOG --\nvfs_fsync is not sleepable\n",
        "libbpf: prog 'one': -- BEGIN PROG LOAD LOG --\nvfs_fsync() is not modifiable\n",
        "libbpf: failed to open system Kconfig",
    )
)
KCONFIG = Reason(ReasonKind.KCONFIG_UNKNOWN, Weight.NOTE, "")
UNSURE = Reason(ReasonKind.ATTACH_TARGET_UNKNOWN, Weight.NOTE, "")
NEVER = Reason(ReasonKind.ATTACH_TYPE_MISSING, Weight.CANNOT_ATTACH, "it can never be attached", "write another")
MAY_LOAD = Reason(ReasonKind.LIBBPF_TOO_OLD, Weight.CONDITIONAL, "")


def said(verdict: Verdict, *reasons: Reason, optional: bool = False) -> ProgramVerdict:
    return ProgramVerdict("a.bpf.o", "one", verdict, reasons, is_optional=optional)


def trial(verdict: ProgramVerdict, own: Attempt, hidden: Attempt, *, has_config: bool = False) -> ProgramTrial:
    return ProgramTrial(verdict, {Way.OWN: own, Way.HIDDEN: hidden}, has_config)


@pytest.mark.parametrize(
    ("verdict", "own", "hidden", "wrong", "breaks"),
    [
        (said(Verdict.LOADS), WORKS, WORKS, (), False),
        (said(Verdict.LOADS), WORKS, REFUSED, (Way.HIDDEN,), True),
        (said(Verdict.LOADS), NOT_ATTACHED, WORKS, (Way.OWN,), True),
        (said(Verdict.LOADS, UNSURE), NOT_ATTACHED, NOT_ATTACHED, (), True),
        (said(Verdict.LOADS, UNSURE), REFUSED, REFUSED, (Way.OWN, Way.HIDDEN), True),
        (said(Verdict.LOADS, UNSURE), NO_TARGET, NOT_SLEEPABLE, (), True),
        (said(Verdict.LOADS, UNSURE), NO_CONFIG, NOT_MODIFIABLE, (Way.OWN,), True),
        (said(Verdict.LOADS, KCONFIG), NO_CONFIG, NO_TARGET, (Way.HIDDEN,), True),
        (said(Verdict.LOADS), LOST, LOST, (), True),
        (said(Verdict.NEEDS_KERNEL_BTF, NEEDS_BTF), WORKS, REFUSED, (), False),
        (said(Verdict.NEEDS_KERNEL_BTF, NEEDS_BTF), WORKS, WORKS, (Way.HIDDEN,), True),
        (said(Verdict.NEEDS_KERNEL_BTF), WORKS, WORKS, (), False),
        (said(Verdict.NEEDS_KERNEL_BTF, NEEDS_BTF), REFUSED, REFUSED, (Way.OWN,), True),
        (said(Verdict.CONDITIONAL), REFUSED, WORKS, (), False),
        (said(Verdict.CANNOT_ATTACH, NEVER), NOT_ATTACHED, NOT_ATTACHED, (), True),
        (said(Verdict.CANNOT_ATTACH, NEVER), NOT_TRIED, NOT_TRIED, (), True),
        (said(Verdict.CANNOT_ATTACH, NEVER, optional=True), NOT_TRIED, NOT_ATTACHED, (), False),
        (said(Verdict.CANNOT_ATTACH, NEVER, optional=True), WORKS, REFUSED, (Way.OWN, Way.HIDDEN), True),
        (said(Verdict.CANNOT_ATTACH, NEVER, NEEDS_BTF), NOT_ATTACHED, REFUSED, (), True),
        (said(Verdict.CANNOT_ATTACH, NEVER, NEEDS_BTF), REFUSED, REFUSED, (Way.OWN,), True),
        (said(Verdict.CANNOT_ATTACH, NEVER, MAY_LOAD), REFUSED, NOT_ATTACHED, (), True),
        (said(Verdict.CANNOT_ATTACH, NEVER), LOST, LOST, (), True),
        (said(Verdict.FAILS), NOT_ATTACHED, NOT_TRIED, (Way.OWN, Way.HIDDEN), True),
        (said(Verdict.FAILS, NEVER), REFUSED, NOT_TRIED, (Way.HIDDEN,), True),
        (said(Verdict.FAILS), REFUSED, REFUSED, (), True),
        (said(Verdict.FAILS, optional=True), REFUSED, REFUSED, (), False),
        (said(Verdict.FAILS, optional=True), WORKS, REFUSED, (Way.OWN,), True),
    ],
)
def test_agreement(
    verdict: ProgramVerdict, own: Attempt, hidden: Attempt, wrong: tuple[Way, ...], breaks: bool
) -> None:
    found = trial(verdict, own, hidden)
    assert (found.disagreements, found.breaks) == (wrong, breaks)


def test_a_guest_with_a_configuration_has_no_excuse() -> None:
    verdict = said(Verdict.LOADS, KCONFIG)
    without, with_one = trial(verdict, NO_CONFIG, WORKS), trial(verdict, NO_CONFIG, WORKS, has_config=True)
    assert (without.disagreements, without.lacks_config) == ((), True)
    assert (with_one.disagreements, with_one.lacks_config) == ((Way.OWN,), False)
    # only where the program reads the configuration
    assert not trial(said(Verdict.LOADS), NO_CONFIG, WORKS).lacks_config


def test_the_text_says_once_how_a_guest_gets_a_configuration() -> None:
    def text(has_config: bool) -> str:
        program = trial(said(Verdict.LOADS, KCONFIG), NO_CONFIG, NO_CONFIG, has_config=has_config)
        return render_trial(Trial((KernelTrial(KERNEL, "tcg", 1.0, (program, program), None),), {}))

    remedy = f"{KERNEL}: this guest has no configuration of the kernel, which __kconfig variables need: run "
    assert text(has_config=False).count(remedy) == 1
    assert "WRONG VERDICT" not in text(has_config=False)
    assert remedy not in text(has_config=True)
    assert "WRONG VERDICT" in text(has_config=True)


@pytest.mark.parametrize("own", [NOT_ATTACHED, NOT_TRIED])
def test_the_text_and_junit_say_what_can_never_be_attached(own: Attempt) -> None:
    program = trial(said(Verdict.CANNOT_ATTACH, NEVER), own, own)
    tried = Trial((KernelTrial(KERNEL, "tcg", 1.0, (program,), None),), {})
    text = render_trial(tried)
    assert f"a.one    cannot-attach: {own.happened.value}" in text
    what = f"{own.happened.value} {own.error}".rstrip()
    assert f"a.one on {KERNEL}, with the kernel's own BTF: cannot-attach, {what}: it can never be attached" in text
    assert "no verdict is wrong" in text
    assert 'failures="2"' in render_junit(tried)
    assert f"said cannot-attach, happened {what}" in render_junit(tried)


def test_junit_holds_what_a_console_said() -> None:
    booted = KernelTrial(KERNEL, "tcg", 1.26, (), None, 'it "panicked"\nat <', "\x1b[31mlast & \x00")
    (suite,) = ElementTree.fromstring(render_junit(Trial((booted,), {})))
    (case,) = suite
    (failure,) = case
    assert (suite.attrib, case.get("name"), case.get("time")) == (
        {"name": str(KERNEL), "tests": "1", "failures": "1"},
        "boot",
        "1.3",
    )
    assert (failure.get("message"), failure.text) == ('it "panicked"\nat <', "?[31mlast & ?")


def test_the_exit_status() -> None:
    def status(**fields: Any) -> int:
        whole: dict[str, Any] = {"programs": (trial(said(Verdict.LOADS), WORKS, WORKS),), "command": None, **fields}
        return Trial((KernelTrial(KERNEL, "tcg", 1.0, **whole),), {}).exit_status

    assert status() == 0
    assert status(command=CommandTrial(("x",), 0, "")) == 0
    assert status(command=CommandTrial(("x",), 5, "")) == 1
    assert status(command=CommandTrial(("x",), None, "")) == 1
    assert status(fault="it panicked") == 1
    assert status(programs=(trial(said(Verdict.LOADS), REFUSED, REFUSED),)) == 1


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (0, "tool -c 'a b' passes"),
        (3, "tool -c 'a b' ends with status 3"),
        (-11, "tool -c 'a b' is ended by SIGSEGV"),
        (-40, "tool -c 'a b' is ended by signal 40"),
    ],
)
def test_what_came_of_the_command(status: int, state: str) -> None:
    assert command_state(CommandTrial(("tool", "-c", "a b"), status, "")) == state


def test_the_end_of_an_output_fits_a_terminal() -> None:
    assert shown_end("no\n" + "x" * 500 + "\n\x1b[31mred\n", 2) == "x" * 400 + "...\n\\x1b[31mred"
