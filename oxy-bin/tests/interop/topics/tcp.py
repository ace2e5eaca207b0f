"""`oxy tcp`: every byte both ways, and an end on one side while the other goes on."""

import hashlib
import socket
import threading

from content import content
from report import equal
from wait import PATIENCE

DATA = content(3 << 20, "tcp")


def run(lab):
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(PATIENCE)
        at = f"127.0.0.1:{target.getsockname()[1]}"
        with lab.oxy("tcp", "--listen", "127.0.0.1:0", "--to", at, "--workers", 2) as oxy:
            with lab.check("3 MiB up, an end, then the answer, both byte-exact"):
                upload(oxy, target)
            with lab.check("the target ends first, and the client's bytes still arrive"):
                download(oxy, target)
            with lab.check("a reset of the target reaches the client"):
                reset(oxy, target)


def pair(oxy, target):
    client = socket.create_connection(oxy.address("tcp"), PATIENCE)
    far, _ = target.accept()
    far.settimeout(PATIENCE)
    return client, far


def upload(oxy, target):
    client, far = pair(oxy, target)
    with client, far:

        def answer():
            # Only once it has everything, the end included, can it know the digest.
            far.sendall(hashlib.sha256(drained(far)).digest())
            far.sendall(DATA[::-1])
            far.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=answer)
        thread.start()
        client.sendall(DATA)
        client.shutdown(socket.SHUT_WR)
        equal(drained(client), hashlib.sha256(DATA).digest() + DATA[::-1], "the answer")
        thread.join()


def download(oxy, target):
    client, far = pair(oxy, target)
    with client, far:
        far.sendall(b"that is all")
        far.shutdown(socket.SHUT_WR)
        equal(drained(client), b"that is all")
        sender = threading.Thread(target=lambda: (client.sendall(DATA), client.shutdown(socket.SHUT_WR)))
        sender.start()
        equal(drained(far), DATA, "what arrives")
        sender.join()


def reset(oxy, target):
    client, far = pair(oxy, target)
    with client:
        far.sendall(b"x")
        equal(client.recv(1), b"x")
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        try:
            end = client.recv(1)
        except ConnectionResetError:
            return
        raise AssertionError(f"it looks like a clean end: {end!r}")


def drained(stream):
    parts = []
    while data := stream.recv(1 << 18):
        parts.append(data)
    return b"".join(parts)
