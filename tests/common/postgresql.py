"""A PostgreSQL server of the test's own, on a socket in a temporary folder. Needs root, to run it as another user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.common import needs

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
"""The server refuses to run as root."""
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "shared_buffers": "16MB",
    "log_lock_waits": "on",
    "deadlock_timeout": "10ms",  # the shortest wait that is logged
}
PATIENCE = 30
"""Seconds that something may take on a busy machine."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    binary: Path
    folder: Path

    def start(self, sql: str) -> subprocess.Popen[str]:
        """Run statements in a connection of their own, which sends them as one query."""
        command = [needs.tool("psql"), "-h", self.folder, "-U", "postgres", "--no-psqlrc", "-qAt", "-c", sql]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def sql(self, sql: str) -> str:
        """Run statements; what they print. They must succeed."""
        process = self.start(sql)
        said = process.communicate(timeout=PATIENCE)[0].strip()
        assert process.returncode == 0, said
        return said

    def wait_for(self, sql: str, wanted: str) -> None:
        """Ask again until the answer is as wanted."""
        deadline = time.monotonic() + PATIENCE
        while self.sql(sql) != wanted:
            assert time.monotonic() < deadline, sql
            time.sleep(0.02)

    def log(self) -> str:
        """What the server has logged so far."""
        return (self.folder / "log").read_text()


@contextmanager
def postgres() -> Iterator[Server]:
    """A new server that logs waits for locks."""
    needs.root_bpf()
    binary = max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=None)
    if binary is None:
        needs.missing("PostgreSQL's server is not in /usr/lib/postgresql")
        raise AssertionError
    folder = Path(tempfile.mkdtemp(prefix="hatch-bpf-pg-"))
    os.chown(folder, NOBODY, NOBODY)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"}
    try:
        initdb = [
            *AS_NOBODY,
            binary.with_name("initdb"),
            "-D",
            folder / "data",
            "--no-sync",
            "-A",
            "trust",
            "-U",
            "postgres",
        ]
        subprocess.run(initdb, stdout=subprocess.DEVNULL, env=env, cwd="/", check=True)
        settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("w") as log:
            command = [*AS_NOBODY, binary, "-D", folder / "data", "-k", folder, *settings]
            server = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd="/")
        try:
            made = Server(binary, folder)
            ready = [binary.with_name("pg_isready"), "-q", "-h", folder, "-U", "postgres", "-t", "1"]
            deadline = time.monotonic() + PATIENCE
            while subprocess.run(ready, check=False).returncode:
                assert time.monotonic() < deadline, made.log()
                assert server.poll() is None, made.log()
                time.sleep(0.05)
            yield made
        finally:
            server.terminate()
            server.wait()
    finally:
        shutil.rmtree(folder)
