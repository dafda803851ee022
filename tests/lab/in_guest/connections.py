"""Runs inside a guest: start the example's `tcprtt`, talk TCP, and check what it tells.

Input: arguments for tcprtt. Output: a line of JSON: how many round-trip times it reported, and how many of them the
kernel's TCP_INFO has too; tcprtt's own words go to the standard error. Standard library only.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import time

RTT_IN_TCP_INFO = 68
"""Offset of `tcpi_rtt` in the kernel's `struct tcp_info`, which never changes."""
EVENTS = 20
PATIENCE = 90
"""Seconds for everything: under emulation, starting Python alone takes several."""


def main(arguments: list[str]) -> dict[str, object]:
    command = [sys.executable, "-m", "tcprtt", "--cgroup", "/sys/fs/cgroup", "--count", str(EVENTS), *arguments]
    tcprtt = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    measured: dict[int, set[int]] = {}
    deadline = time.monotonic() + PATIENCE
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=echo, args=(server,), daemon=True).start()
    while tcprtt.poll() is None and time.monotonic() < deadline:
        talk(server.getsockname(), measured)
    tcprtt.kill()
    assert tcprtt.stdout is not None
    lines = tcprtt.stdout.read().splitlines()
    events = [line.split() for line in lines[1:]]
    # "address port -> address port rtt", the connecting side's only: the other's measurements are not known here
    ours = [event for event in events if int(event[4]) == server.getsockname()[1]]
    # the program runs before the kernel stores the first measurement of a connection, so its first event has none yet
    told = [(int(event[1]), round(float(event[5]) * 1000)) for event in ours if float(event[5])]
    right = sum(rtt in measured.get(port, ()) for port, rtt in told)
    return {"status": tcprtt.returncode, "events": len(events), "told": len(told), "right": right}


def echo(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(64):
                connection.sendall(data)


def talk(address: tuple[str, int], measured: dict[int, set[int]]) -> None:
    """One connection; the round-trip times the kernel says it had are added under its own port."""
    with socket.create_connection(address) as client:
        times = measured.setdefault(client.getsockname()[1], set())
        for _ in range(5):
            times.add(rtt(client))
            client.sendall(b"ping")
            client.recv(64)
            times.add(rtt(client))


def rtt(client: socket.socket) -> int:
    """The smoothed round-trip time of a connection, in microseconds."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RTT_IN_TCP_INFO + 4)
    (value,) = struct.unpack_from("=I", info, RTT_IN_TCP_INFO)
    return int(value)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])), flush=True)
