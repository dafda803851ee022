"""What the command prints of a live connection is what TCP_INFO says. `hatch-bpf try` runs this on other kernels."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys

import pytest

RTT_IN_TCP_INFO = 68


@pytest.mark.skipif(os.geteuid() != 0, reason="loading BPF needs root")
def test_a_closed_connection_is_reported() -> None:
    command = [sys.executable, "-m", "tcprtt_fentry", "--count", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tool:
        assert tool.stdout is not None
        assert tool.stdout.readline().split() == ["FROM", "TO", "RTT", "(ms)"]
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
            for _ in range(5):
                client.sendall(b"ping")
                peer.sendall(peer.recv(64))
                client.recv(64)
            own, other = (f"{host}:{port}" for host, port in (client.getsockname(), client.getpeername()))
            info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RTT_IN_TCP_INFO + 4)
            (rtt_us,) = struct.unpack_from("=I", info, RTT_IN_TCP_INFO)
            client.close()
            assert tool.stdout.readline().split() == [own, other, f"{rtt_us / 1000:.3f}"]
            peer.close()
    assert tool.returncode == 0
