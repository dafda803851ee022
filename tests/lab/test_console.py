"""What a guest's console said, and what is made of it."""

from __future__ import annotations

import pytest

from hatch_bpf.lab.console import fault_of, last_lines, read_console
from hatch_bpf.portability.trial import Attempt, Happened, Way

MARK = "@mark "
UP = f'\n{MARK}{{"up": true, "release": "6.1.0"}}\n'
BEGINS = f'\n{MARK}{{"way": "own", "object": "a.bpf.o", "program": "one", "begins": true}}\n'
LOADED = (
    f'\n{MARK}{{"way": "own", "object": "a.bpf.o", "program": "one", "happened": "loads", "errno": "", "log": ""}}\n'
)
DONE = f'\n{MARK}{{"done": true, "oom": 0}}\n'


def fault(text: str, stopped: str = "") -> str:
    return fault_of(read_console(text, MARK, ()), text, stopped=stopped, megabytes=512)


def test_records_are_found_among_other_lines() -> None:
    told = read_console(f"[0.1] Linux\n{UP}hello\n{BEGINS}libbpf: x\n{LOADED}{DONE}", MARK, ())
    assert told.attempts == {("a.bpf.o", "one"): {Way.OWN: Attempt(Happened.LOADS)}}
    assert (told.is_up, told.is_done, told.release, told.pending, told.command) == (True, True, "6.1.0", None, None)


def test_a_line_that_the_kernel_wrote_into_is_left_out() -> None:
    assert read_console(f'{UP}{MARK}{{"way": "own", "ob[ 1.0] BUG\n{DONE}', MARK, ()).attempts == {}


def test_the_program_that_was_being_loaded_is_named() -> None:
    text = f"{UP}{BEGINS}[ 1.0] Kernel panic - not syncing: Fatal exception\n"
    assert fault(text) == "the kernel panicked while it loaded one of a.bpf.o: Fatal exception"
    assert read_console(text, MARK, ()).attempts["a.bpf.o", "one"][Way.OWN].happened is Happened.LOST


@pytest.mark.parametrize(
    ("text", "stopped", "wanted"),
    [
        (f"{UP}{LOADED}{DONE}", "", ""),
        ("", "", "the image did not boot: qemu ended, and the kernel said nothing"),
        ("[ 0.0] Linux\n", "", "the guest ended in its boot"),
        (
            f"{UP}",
            "it was not up after 9 seconds",
            "the guest was stopped in its work: it was not up after 9 seconds",
        ),
        ("[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on", "", "it does not take an initramfs"),
        ("[ 1.0] Out of memory: Killed process 1", "", "ran out of its 512 MB of memory: give it more with --memory"),
        (f'{UP}\n{MARK}{{"done": true, "oom": 2}}\n', "", "ran out of its 512 MB"),
        ("qemu: initrd is too large, cannot support.(max: 20807679, need 75993600)", "", "ran out of its 512 MB"),
        (
            "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "",
            "this machine has no 512 MB left for the guest: lower --memory or --jobs",
        ),
    ],
)
def test_what_went_wrong(text: str, stopped: str, wanted: str) -> None:
    said = fault(text, stopped)
    assert wanted in said
    assert bool(wanted) == bool(said)


def command(text: str) -> tuple[int | None, str, str]:
    told = read_console(text, MARK, ("tool", "--once")).command
    assert told is not None
    return told.status, told.output, told.fault


def test_the_commands_output_and_status() -> None:
    begins = f'{UP}\n{MARK}{{"command": "begins"}}\n'
    assert command(f'{begins}one\ntwo\n{MARK}{{"command": "ends", "status": 3}}\n{DONE}') == (3, "one\ntwo", "")
    assert command(f"{begins}one\n") == (None, "one\n", "the guest ended before it was through")
    assert command(UP) == (None, "", "the guest ended before it began")
    missing = f'{begins}\n{MARK}{{"command": "not started", "error": "No such file or directory"}}\n'
    assert command(missing)[2] == "tool is not in the guest, or cannot run there: No such file or directory"


def test_last_lines_cannot_do_anything_to_a_terminal() -> None:
    said = last_lines("first\n" + "line\n" * 40 + "\n\x1b[31mred\n")
    assert "first" not in said
    assert said.endswith("line\n\\x1b[31mred")
