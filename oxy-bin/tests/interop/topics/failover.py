"""One origin of three dies, stalls or answers 503: who notices, and how it comes back."""

import collections
import http.client
import json
import socket
import threading
import time

from wait import PATIENCE, eventually

# Requests a second, by so many clients that one which waits holds up no other.
RATE, CLIENTS = 400, 40
PER_TRY = "250ms"
WINDOW = 4


def run(lab):
    for trouble in ("dies", "stalls", "answers 503"):
        origins = [Origin(name) for name in "abc"]
        admin = lab.free_port()
        config = lab.file("oxy.yaml", settings(lab, admin, origins))
        try:
            with lab.oxy("run", "--config", config, listeners=2) as oxy:
                report(lab, trouble, play(oxy, admin, origins, trouble))
        finally:
            for origin in origins:
                origin.close()


def report(lab, trouble, told):
    first, after, shares, back = told
    figures = f"first second {first[0]} of {first[1]} failed, then {after[0]} of {after[1]}; back after {back:.1f} s"
    ramp = ", ".join(f"{100 * share:.0f}%" for share in shares)
    with lab.check(f"an origin {trouble}: at most 1% fail in the first second, none after ({figures})"):
        if first[0] > first[1] / 100 or after[0]:
            raise AssertionError(figures)
    with lab.check(f"an origin that {trouble} comes back bit by bit (its share by the second: {ramp})"):
        if not (shares[0] < 0.2 and shares[0] < shares[-1] and shares[-1] > 0.22):
            raise AssertionError(ramp)


def play(oxy, admin, origins, trouble):
    """Failures of the first second and of those after it, the shares of the one that is back, and how long that took."""
    load = Load(oxy.address("reverse"))
    try:
        eventually(lambda: load.answered > RATE, "load")
        origins[0].mode = trouble
        if trouble == "dies":
            origins[0].die()
        began = time.monotonic()
        rest(began, 5)
        first, after = load.failures(began, began + 1), load.failures(began + 1, began + 5)
        origins[0].mode = "is well"
        if trouble == "dies":
            origins[0].rise()
        healed = time.monotonic()
        eventually(lambda: load.by(origins[0].name, time.monotonic() - 0.5) > 0, "the origin's return")
        back = time.monotonic()
        rest(back, WINDOW + 3)
        shares = [load.share(origins[0].name, back + n, back + n + 1) for n in range(WINDOW + 2)]
        return first, after, shares, back - healed
    finally:
        load.stop()


def rest(began, seconds):
    """The course of a scenario is in seconds."""
    time.sleep(max(0.0, began + seconds - time.monotonic()))


def settings(lab, admin, origins):
    retry = {"max": 2, "on": ["connect_failure", "reset", "per_try_timeout", "gateway_error"], "backoff": {"base": "5ms"}}
    route = {"to": "three", "timeouts": {"per_try": PER_TRY}, "retry": retry}
    cluster = {
        "name": "three",
        "endpoints": [f"127.0.0.1:{origin.port}" for origin in origins],
        "outlier": {"consecutive_failures": 3, "consecutive_gateway": 3, "base_ejection": "3s"},
        "health": {"kind": {"http": {"path": "/health"}}, "interval": "500ms", "timeout": "300ms"},
        "slow_start": {"window": f"{WINDOW}s"},
    }
    return json.dumps({
        "workers": 1,
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "clusters": [cluster],
        "listeners": [{"name": "reverse", "listen": ["127.0.0.1:0"], "http": {"routes": [{"routes": [route]}]}}],
    })


class Load:
    """Clients that ask at a rate, and remember what came of it."""

    def __init__(self, address):
        self.address, self.stopping = address, False
        self.log = collections.deque()
        self.answered = 0
        self.threads = [threading.Thread(target=self.client, args=(n,)) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        due = time.monotonic() + number / RATE
        while not self.stopping:
            time.sleep(max(0.0, due - time.monotonic()))
            due += CLIENTS / RATE
            asked, who = time.monotonic(), None
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                body = response.read().decode()
                who = body if response.status == 200 else None
            except (OSError, http.client.HTTPException):
                connection.close()
            self.log.append((asked, who))
            self.answered += 1

    def between(self, start, end):
        return [who for asked, who in list(self.log) if start <= asked < end]

    def failures(self, start, end):
        asked = self.between(start, end)
        return asked.count(None), len(asked)

    def by(self, name, start):
        return self.between(start, time.monotonic()).count(name)

    def share(self, name, start, end):
        asked = self.between(start, end)
        return asked.count(name) / max(1, len(asked))

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()


class Origin:
    """Answers with its name, until it has some trouble."""

    def __init__(self, name):
        self.name, self.mode, self.open = name, "is well", set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            self.open.add(stream)
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        try:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = b""
            while data := stream.recv(65536):
                head += data
                while b"\r\n\r\n" in head:
                    head = head.partition(b"\r\n\r\n")[2]
                    while self.mode == "stalls":
                        time.sleep(0.02)
                    status = b"503 Service Unavailable" if self.mode == "answers 503" else b"200 OK"
                    stream.sendall(b"HTTP/1.1 %s\r\nContent-Length: 1\r\n\r\n%s" % (status, self.name.encode()))
        except OSError:
            pass
        finally:
            self.open.discard(stream)
            stream.close()

    def die(self):
        """As a process that is killed: nobody listens, and every connection is reset."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for stream in list(self.open):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.shutdown(socket.SHUT_RDWR)

    def rise(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def close(self):
        self.mode = "is well"
        self.listener.close()
