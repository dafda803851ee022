"""The command that `hatch-bpf try` runs in the lab's guests: set up more than a guest has, then do every step.

Input: plan.json beside this file, which tests/lab/project.py writes. Output: a line of JSON in front of what each
command prints, and one behind it. Standard library only; every Python from 3.9 on runs it.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
OWN_BTF = "/sys/kernel/btf"
SECURITY = "/sys/kernel/security"
FINIT_MODULE = {"x86_64": 313, "aarch64": 273}[platform.machine()]
LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    with open(f"{HERE}/plan.json") as file:
        plan = json.load(file)
    set_up(plan)
    failed = False
    for command in plan["commands"]:
        failed |= run(command) != 0
    sys.exit(failed)


def set_up(plan: dict[str, Any]) -> None:
    for module in plan["modules"]:
        with open(f"{HERE}/{module}.ko", "rb") as file:
            done = LIBC.syscall(FINIT_MODULE, file.fileno(), b"", 0)
        if done:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), module)
    mount("securityfs", SECURITY)
    with open("/proc/sys/kernel/perf_event_paranoid", "w") as file:
        file.write("2")
    if plan["libbpf"]:
        shutil.copyfile(f"{HERE}/libbpf.so.1", plan["libbpf"])


def run(command: dict[str, Any]) -> int:
    """Run one command; what hangs is killed."""
    if command["locked_down"]:
        with open(f"{SECURITY}/lockdown", "w") as file:
            file.write("confidentiality")
    if command["hidden"] and os.path.isdir(OWN_BTF):
        mount("tmpfs", OWN_BTF)
    print(f"\n{json.dumps({'begins': command['name']})}", flush=True)
    start = time.monotonic()
    # what Python compiles is kept here, for an emulated processor takes long for it
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        status: object = subprocess.run(
            command["argv"],
            cwd=f"{HERE}/{command['folder']}",
            env={**environment, **command["environment"]},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=command["seconds"],
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        status = f"killed after {command['seconds']} seconds"
    if command["hidden"]:
        LIBC.umount(OWN_BTF.encode())
    ends = {"ends": command["name"], "status": status, "seconds": time.monotonic() - start}
    print(f"\n{json.dumps(ends)}", flush=True)
    return 0 if status == 0 else 1


def mount(kind: str, place: str) -> None:
    pointers = [ctypes.c_char_p(text.encode()) for text in (kind, place, kind)]
    if LIBC.mount(*pointers, ctypes.c_ulong(0), None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), place)


if __name__ == "__main__":
    main()
