"""`oxy udp`: 200 datagrams of all sizes to an echo and back, from two clients."""

import socket
import threading

from content import content
from report import equal
from wait import PATIENCE


def run(lab):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind(("127.0.0.1", 0))
        threading.Thread(target=serve, args=(echo,), daemon=True).start()
        at = f"127.0.0.1:{echo.getsockname()[1]}"
        with lab.oxy("udp", "--listen", "127.0.0.1:0", "--to", at, "--workers", 2) as oxy:
            for client in (1, 2):
                with lab.check(f"200 datagrams, client {client}"):
                    exchange(oxy.address("udp"), client)


def exchange(address, seed):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(address)
        # Four at a time: loopback drops none of so few, and they may overtake each other.
        for first in range(0, 200, 4):
            sizes = [n * 7 for n in range(first, first + 4)] if first else [0, 1, 1400, 60_000]
            sent = [content(size, f"{seed}/{first}/{size}") for size in sizes]
            for data in sent:
                client.send(data)
            equal(sorted(client.recv(1 << 16) for _ in sent), sorted(sent), "what comes back")


def serve(echo):
    while True:
        try:
            data, peer = echo.recvfrom(1 << 16)
            echo.sendto(data, peer)
        except OSError:
            return
