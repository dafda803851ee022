"""BPF tokens: a process without rights outside its user namespace loads programs, as far as root lets it."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from hatch_bpf.runtime.host import mounts
from hatch_bpf.runtime.host.arch import running_name
from hatch_bpf.runtime.libbpf import library as libbpf
from hatch_bpf.runtime.libbpf import tokens
from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from tests.common import bpf_tokens, needs
from tests.common.bpf_tokens import ALL, run_inside
from tests.common.skeleton_package import BPF, Package, make_package

LIBRARY = f"libbpf={str(OWN_LIBBPF / 'lib' / running_name() / 'glibc' / 'libbpf.so.1')!r}"
COUNT = """
import socket
from demo.token_skel import Token

def traffic():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for _ in range(10):
            udp.sendto(bytes(1000), ("127.0.0.1", 9))

with Token.open({arguments}) as opened:
    opened.rodata.shortest = 1000
    with opened.load() as bpf:
        with bpf.programs.on_packet.attach_xdp("lo"):
            traffic()
        sizes = [event.bytes for event in bpf.maps.events.poll(1000)]
        print(bpf.maps.packets[0], bpf.bss.seen, sizes)
"""
FAIL = """
from demo._bpf.runtime import BpfError
from demo.token_skel import Token
try:
    with Token.open({arguments}) as opened:
        opened.load()
    print("loaded")
except BpfError as error:
    print(type(error).__name__, error.errno, error)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    bpf_tokens.needed()
    needs.own_libbpf()
    return make_package(BPF / "token.bpf.c", tmp_path_factory.mktemp("token"), events={"events": "event"})


def inside(package: Package, code: str, folder: Path, **options: Any) -> str:
    """What the code prints inside."""
    options.setdefault("at", folder / "delegated")
    options["at"].mkdir(exist_ok=True)
    done = run_inside(code, folder, python_path=package.root, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


COUNTED = f"10 10 {[1042] * 10}"


def test_programs_load_attach_and_count(package: Package, tmp_path: Path) -> None:
    assert inside(package, COUNT.format(arguments=f"token=TOKEN, {LIBRARY}"), tmp_path) == COUNTED


def test_without_a_token_they_do_not(package: Package, tmp_path: Path) -> None:
    said = inside(package, FAIL.format(arguments=LIBRARY), tmp_path)
    assert said.startswith("PermissionDeniedError 1 src/demo/token.bpf.c can't be loaded: the kernel says EPERM")
    assert "or let root delegate BPF to it by a token (Linux 6.9; open(token=...))" in said


def test_libbpf_takes_the_usual_folder_by_itself(package: Package, tmp_path: Path) -> None:
    assert inside(package, COUNT.format(arguments=LIBRARY), tmp_path, at=Path("/sys/fs/bpf")) == COUNTED


@pytest.mark.parametrize(
    ("less", "allows"),
    [
        ({"delegate_maps": "ringbuf"}, "cmds=any,maps=ringbuf,progs=any,attachs=any"),
        ({"delegate_progs": "socket_filter"}, "cmds=any,maps=any,progs=socket_filter,attachs=any"),
    ],
)
def test_what_the_token_does_not_allow(package: Package, tmp_path: Path, less: dict[str, str], allows: str) -> None:
    said = inside(package, FAIL.format(arguments=f"token=TOKEN, {LIBRARY}"), tmp_path, delegate={**ALL, **less})
    folder = tmp_path / "delegated"
    start = f"src/demo/token.bpf.c can't be loaded with the token of {folder}, which allows {allows}: "
    assert said.startswith(f"PermissionDeniedError 1 {start}the kernel says EPERM")


def test_a_mount_that_delegates_nothing(package: Package, tmp_path: Path) -> None:
    said = inside(package, FAIL.format(arguments=f"token=TOKEN, {LIBRARY}"), tmp_path, delegate={})
    folder = tmp_path / "delegated"
    assert said == (
        f"PermissionDeniedError 2 token: the kernel makes no token of {folder}: it is mounted without any delegation; "
        "mount one with delegate_cmds, delegate_maps, delegate_progs and delegate_attachs"
    )


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("/", "token: / is not in a BPF file system; there is one at "),
        ("/nowhere", "InvalidValueError 0 token: /nowhere can't be opened: ENOENT: No such file or directory"),
        ("/etc/passwd", "InvalidValueError 0 token: /etc/passwd can't be opened: ENOTDIR: Not a directory"),
        ("{token}/sub", "it must be where the file system is mounted, and the kernel, "),
    ],
)
def test_folders_of_which_no_token_is_made(package: Package, tmp_path: Path, folder: str, message: str) -> None:
    folder = folder.format(token=tmp_path / "delegated")
    code = f'import os; os.makedirs(TOKEN + "/sub")\n{FAIL}'
    assert message in inside(package, code.format(arguments=f"token={folder!r}, {LIBRARY}"), tmp_path)


def test_outside_of_user_namespaces_no_token_is_needed(package: Package) -> None:
    """Also with one that delegates all."""
    script = FAIL.format(arguments=f'token="/sys/fs/bpf", {LIBRARY}')
    mount = "mount -t bpf -o delegate_cmds=any,delegate_progs=any bpf /sys/fs/bpf"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, script],
        env={"PYTHONPATH": str(package.root), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith(
        "this process is in no user namespace, and needs no token there: leave token out"
    )


def test_a_libbpf_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    needs.libbpf()
    found = libbpf.load()
    monkeypatch.setattr(found, "version", (1, 3))
    with pytest.raises(errors.LibbpfTooOldError, match=r"token= needs libbpf 1\.4 or later; .* is libbpf 1\.3; "):
        tokens.check_token(found, "/sys/fs/bpf")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOENT, "it is mounted without any delegation; mount one with delegate_cmds"),
        (errno.EOPNOTSUPP, "this process is in no user namespace"),
        (errno.EINVAL, "be Linux 6.9 or newer"),
        (errno.EPERM, "it was mounted for a user namespace, and this process is in none: leave token out"),
        (errno.ENOMEM, "ENOMEM: Cannot allocate memory"),
    ],
)
def test_error_numbers_in_words(code: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "in_user_namespace", lambda: False)
    assert words in tokens.refusal(code)


def test_delegation_is_read_from_the_last_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "1 0 0:30 / /sys/fs/bpf rw - bpf none rw,delegate_cmds=any\n"
        "2 0 0:31 / /sys/fs/bpf rw - bpf none rw,mode=700,delegate_cmds=prog_load:map_create,delegate_progs=0x40\n"
    )
    (tmp_path / "mountinfo").write_text(text)
    monkeypatch.setattr(mounts, "MOUNTS", str(tmp_path / "mountinfo"))
    assert mounts.delegation("/sys/fs/bpf") == "cmds=prog_load:map_create,progs=0x40"
    assert mounts.delegation("/proc") == ""
    assert tokens.token_in_words("/proc") == "with the token of /proc"
