"""An upgrade to a protocol of bytes, as WebSocket does it: 101, then bytes both ways."""

import socket
import threading

from content import content
from report import equal
from wait import PATIENCE
from wire import Connection

DATA = content(300_000, "upgrade")


def run(lab):
    with Switching() as origin, lab.reverse(origin.at) as oxy:
        with lab.check("101, and what follows it in the same packet"), Connection(oxy.address("reverse")) as client:
            equal(upgrade(client).status, 101)
            equal(client.take(7, 0), b"welcome")
        with lab.check("bytes both ways at once"), Connection(oxy.address("reverse")) as client:
            upgrade(client)
            equal(client.take(7, 0), b"welcome")
            sender = threading.Thread(target=client.send, args=(DATA,))
            sender.start()
            equal(client.take(len(DATA), 0), bytes(255 - byte for byte in DATA), "what comes back")
            sender.join()
        with lab.check("the client's end is passed on, and the last bytes still come"):
            with Connection(oxy.address("reverse")) as client:
                upgrade(client)
                client.send(b"abc")
                client.socket.shutdown(socket.SHUT_WR)
                equal(client.take(13, 0), b"welcome" + bytes(255 - byte for byte in b"abc") + b"end")
                equal(client.socket.recv(1), b"", "after the end")
        with lab.check("bytes that the client sends with its request are not lost"):
            with Connection(oxy.address("reverse")) as client:
                equal(upgrade(client, b"early").status, 101)
                equal(client.take(12, 0), b"welcome" + bytes(255 - byte for byte in b"early"))


def upgrade(client, early=b""):
    client.send(
        b"GET /chat HTTP/1.1\r\nHost: interop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + early
    )
    response = client.response()
    equal(response.fields.get("upgrade"), "websocket", "Upgrade")
    return response


class Switching:
    """An origin that switches protocols, greets, and then sends back every byte turned over."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.at = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(stream,), daemon=True).start()


def serve(stream):
    stream.settimeout(PATIENCE)
    turned = bytes(range(255, -1, -1))
    try:
        with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := stream.recv(4096)):
                    return
                head += data
            rest = head.partition(b"\r\n\r\n")[2]
            stream.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nwelcome" + rest.translate(turned)
            )
            while data := stream.recv(1 << 16):
                stream.sendall(data.translate(turned))
            stream.sendall(b"end")
    except OSError:
        pass  # the client has what it wanted and is gone
