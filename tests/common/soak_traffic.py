"""The load for tests/soak.py: makes TCP connections over loopback, each with a few words both ways.

Input: a file to write to, and a number of connections a second; on its standard input `fast` (as many as can be),
`slow` and `stop`. Output: a line for each connection: the client's port, the server's, and when it began and ended.
"""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time

PORTS = 8
"""Number of ports to listen on; with several, the client's ports last longer."""
WORDS = 3


def main(path: str, rate: int) -> None:
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(PORTS)]
    threading.Thread(target=serve, args=(listeners,), daemon=True).start()
    orders = ["slow"]
    threading.Thread(target=listen, args=(orders,), daemon=True).start()
    servers = [listener.getsockname()[1] for listener in listeners]
    number = 0
    with open(path, "w") as file:
        while orders[0] != "stop":
            begin = time.monotonic()
            client = talk(servers[number % PORTS])
            file.write(f"{client} {servers[number % PORTS]} {begin} {time.monotonic()}\n")
            number += 1
            if orders[0] == "slow":
                time.sleep(max(0.0, begin + 1 / rate - time.monotonic()))


def listen(orders: list[str]) -> None:
    for line in sys.stdin:
        orders[0] = line.strip()
    orders[0] = "stop"


def serve(listeners: list[socket.socket]) -> None:
    """Echo what arrives."""
    selector = selectors.DefaultSelector()
    for listener in listeners:
        selector.register(listener, selectors.EVENT_READ, True)
    while True:
        for key, _ in selector.select():
            peer = key.fileobj
            assert isinstance(peer, socket.socket)
            if key.data:
                selector.register(peer.accept()[0], selectors.EVENT_READ, False)
                continue
            data = peer.recv(4096)
            if data:
                peer.sendall(data)
            else:
                selector.unregister(peer)
                peer.close()


def talk(port: int) -> int:
    """Make one connection; returns the client's port."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        own: int = client.getsockname()[1]
        for _ in range(WORDS):
            client.sendall(b"x" * 64)
            client.recv(4096)
        # this end's FIN acknowledges the server's last words, so both ends have a measurement by then
        client.shutdown(socket.SHUT_WR)
        client.recv(4096)
        return own


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
