"""The table of privileges in SECURITY.md: programs work with what it lists, and fail without any one of it.

The error names what is missing. Each attempt is a process of an unprivileged user with a few capabilities.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import privileges
from hatch_bpf.runtime.sections import section_patterns
from tests.common import needs, tracefs
from tests.common.projects import REPOSITORY
from tests.common.skeleton_package import BPF, Package, make_package
from tests.system.privileges_exercises import AFTERWARDS, KINDS, LOW_MEMORY_LIMIT

EXERCISES = Path(__file__).with_name("privileges_exercises.py")
ALL = ("CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_SYS_ADMIN")
SECTIONS = {"fentry": "fentry/vfs_fsync", "iter": "iter/task", "lsm": "lsm/file_open", "tp_btf": "tp_btf/sys_enter"}
"""Kind -> section of a program of that kind, where there are kernels that refuse it."""
NOT_A_SECTION = ("reads kernel memory", "perf buffer", AFTERWARDS)


def table() -> dict[str, tuple[str, ...]]:
    """Kind -> capabilities, as SECURITY.md has them."""
    text = (REPOSITORY / "SECURITY.md").read_text().partition("## Privileges at run time")[2].partition("\n## ")[0]
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[1].startswith(("CAP_", "none")):
            for kind in re.findall(r"`([^`]+)`", cells[0]) or [cells[0]]:
                rows[kind] = tuple(re.findall(r"CAP_\w+", cells[1]))
    return rows


TABLE = table()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, tuple[str, ...]], dict[str, Any]]:
    """The outcome for each kind with each set of capabilities."""
    tracefs.mounted()
    needs.cgroup2()
    package = make_package(BPF / "privileges.bpf.c", tmp_path_factory.mktemp("privileges"))
    sets = {kind: tries(capabilities) for kind, capabilities in TABLE.items()}
    sets[LOW_MEMORY_LIMIT] = [("CAP_BPF", "CAP_NET_ADMIN")]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package.root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, EXERCISES, json.dumps(sets)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return {(record["kind"], tuple(record["capabilities"])): record for record in records}


def tries(capabilities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All capabilities, the given ones, and the given ones without each in turn."""
    return [ALL, capabilities, *(without(capabilities, name) for name in capabilities)]


def without(capabilities: tuple[str, ...], name: str) -> tuple[str, ...]:
    if name == "CAP_SYS_ADMIN":  # it replaces others, which must not be missing too
        return ("CAP_BPF", "CAP_PERFMON")
    return tuple(other for other in capabilities if other != name)


def test_every_kind_that_is_tried_is_in_the_table() -> None:
    assert set(TABLE) == {*KINDS, AFTERWARDS}


@pytest.mark.parametrize("kind", TABLE)
def test_the_capabilities_of_the_table_are_enough_and_none_too_many(kind: str, told: Any) -> None:
    capabilities = TABLE[kind]
    if told[kind, ALL]["step"] != "works" and kind == "kprobe":
        needs.kprobes()
    if told[kind, ALL]["step"] != "works" and kind in SECTIONS:
        needs.program_kind(SECTIONS[kind])
    assert told[kind, capabilities] == {"kind": kind, "capabilities": [*capabilities], "step": "works", "error": ""}
    for name in capabilities:
        record = told[kind, without(capabilities, name)]
        assert record["step"] in ("load", "attach"), f"it works without {name}"
        assert names_it(record["error"], name), record["error"]


def names_it(message: str, name: str) -> bool:
    """Whether an error says that a capability is missing."""
    return bool(re.search(rf"lacks [\w ,]*{name}\b|give the process {name}\b", message))


def test_a_low_memory_limit_is_no_limit_any_more(told: Any) -> None:
    """Since Linux 5.11, and since libbpf knows of it; tests/lab/steps/privileges.py has kernels before."""
    if privileges.memory_limit() is not None:
        pytest.skip("this kernel counts BPF memory against RLIMIT_MEMLOCK")
    assert told[LOW_MEMORY_LIMIT, ("CAP_BPF", "CAP_NET_ADMIN")]["step"] == "works"


@pytest.mark.parametrize("kind", [kind for kind in TABLE if kind not in NOT_A_SECTION])
def test_the_runtime_knows_what_each_kind_needs(kind: str) -> None:
    names = (pattern.rstrip("+") for pattern in section_patterns())
    section = next(name for name in names if name == kind or name.startswith(kind.rstrip("/") + "/"))
    wanted = set(TABLE[kind]) - {"CAP_DAC_READ_SEARCH"}
    if kind == "uprobe":  # which CAP_SYS_ADMIN alone may attach where these were enough before
        assert wanted == {"CAP_SYS_ADMIN"} == {*privileges.for_perf_event(section)}
        wanted = {"CAP_BPF", "CAP_PERFMON"}
    assert set(privileges.needed(section)) == wanted


# --- what else than capabilities --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(BPF / "privileges.bpf.c", tmp_path_factory.mktemp("refused"))


LOAD = """
from demo.privileges_skel import Privileges, _bpf
with Privileges.open() as bpf:
    for program in bpf.programs:
        program.autoload = program.name == "on_socket"
    {before}
    try:
        bpf.load()
    except _bpf.PermissionDeniedError as error:
        print(error)
"""
SECCOMP = """
    import ctypes, errno, struct
    # let the system call bpf() return EPERM, as container runtimes do, and allow all others
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, {number}), (0x06, 0, 0, 0x00050000 | errno.EPERM), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
    filter = Program(len(steps), ctypes.addressof(code))
    assert ctypes.CDLL(None).prctl(22, 2, ctypes.byref(filter), 0, 0) == 0
"""
BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}


def test_root_of_a_user_namespace_learns_that_it_is_not_enough(package: Package) -> None:
    needs.root_bpf()
    subprocess.run(["chmod", "-R", "a+rX", package.root], check=True)
    if subprocess.run(["unshare", "-Ur", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel makes no user namespaces")
    told = package.run(LOAD.format(before="pass"), prefix=("unshare", "-Ur")).stdout
    assert "this process has its capabilities only inside a user namespace (a rootless container, for example)" in told


def test_a_seccomp_filter_is_named(package: Package) -> None:
    needs.root_bpf()
    number = BPF_SYSCALL.get(os.uname().machine)
    if number is None:
        pytest.skip("the number of bpf() is not known here")
    told = package.run(LOAD.format(before=SECCOMP.format(number=number).strip())).stdout
    assert "runs under a seccomp filter, as in most containers: allow bpf()" in told


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"/sys/kernel/security/lockdown": b"none integrity [confidentiality]\n"}, "locked down (confidentiality)"),
        ({"/sys/kernel/security/lockdown": b"none [integrity] confidentiality\n"}, "locked down (integrity)"),
        ({"/sys/kernel/security/lockdown": b"[none] integrity confidentiality\n"}, "something else forbids it"),
        ({"/proc/thread-self/status": b"CapEff:\t0000000000000000\n"}, "this process lacks CAP_BPF and CAP_PERFMON"),
        (
            {"/proc/thread-self/status": b"CapEff:\t0000008000000000\n"},
            "lacks CAP_PERFMON: run it as root, or give it CAP",
        ),
        ({"/proc/thread-self/status": b"CapEff:\t0000000000200000\n"}, "something else forbids it"),
        (
            {"/proc/thread-self/status": b"CapEff:\t0000000000000000\n", "/proc/sys/kernel/cap_last_cap": b"37\n"},
            "lacks CAP_SYS_ADMIN: run it as root",
        ),
        ({"/proc/thread-self/status": None}, "something else forbids it"),
    ],
)
def test_what_else_forbids_it_is_named(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes | None], words: str
) -> None:
    """On kernels as they may be, by what their files say."""
    told = {"/proc/thread-self/status": b"CapEff:\t000001ffffffffff\n", "/sys/kernel/security/lockdown": None, **files}

    def opened(path: str, mode: str) -> Any:
        if path not in told:
            return open(path, mode)
        content = told[path]
        if content is None:
            raise FileNotFoundError(path)
        return io.BytesIO(content)

    monkeypatch.setattr(privileges, "open", opened, raising=False)
    monkeypatch.setattr(privileges, "memory_limit", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert words in privileges.why(["tp/sched/sched_switch"])
