"""Files in memory, by Python's own function and by the system call."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hatch_bpf.runtime.host import memory_files
from hatch_bpf.runtime.host.memory_files import memory_file, seal


@pytest.mark.parametrize("way", ["Python's", "the system call"])
def test_a_file_is_named_closed_on_exec_and_cannot_be_changed_once_sealed(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way != "Python's":
        monkeypatch.delattr(os, "memfd_create")
    fd = memory_file("prüfung")
    assert Path(f"/proc/self/fd/{fd}").readlink() == Path("/memfd:prüfung (deleted)")
    assert not os.get_inheritable(fd)
    os.write(fd, b"kept")
    seal(fd)
    for change in (lambda: os.write(fd, b"more"), lambda: os.ftruncate(fd, 0)):
        with pytest.raises(PermissionError):
            change()
    assert os.pread(fd, 9, 0) == b"kept"


def test_an_error_of_the_system_call_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(OSError, match="Invalid argument"):
        memory_file("x" * 300)


def test_an_architecture_without_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(memory_files, "running", lambda: None)
    with pytest.raises(OSError, match=r"has no os\.memfd_create"):
        memory_file("x")


def test_the_numbers_are_those_of_the_c_library() -> None:
    import fcntl

    assert (memory_files.MFD_CLOEXEC, memory_files.MFD_ALLOW_SEALING) == (os.MFD_CLOEXEC, os.MFD_ALLOW_SEALING)
    for name in ("F_ADD_SEALS", "F_SEAL_SEAL", "F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_WRITE"):
        assert getattr(memory_files, name) == getattr(fcntl, name)
