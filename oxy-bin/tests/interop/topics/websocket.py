"""WebSocket by a library of its own on both sides, over HTTP/1.1 and, as extended CONNECT, over HTTP/2."""

import logging
import threading

import websockets.sync.client
import websockets.sync.server
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.frames import Opcode
from websockets.headers import build_extension, parse_extension
from websockets.protocol import Protocol, Side

import wire2
from content import content
from origin2 import Handler, Origin2
from report import equal
from wait import PATIENCE
from wire import Connection

SIZES = (0, 1, 125, 126, 65_535, 65_536, 1 << 20)
LIMIT = 2 << 20
TEXT = "Grüße, 詳細 🎉 "
# It tells of every connection that its handler did not close itself.
logging.getLogger("websockets").setLevel(logging.CRITICAL + 1)


def run(lab):
    with Old() as old, Origin2(New) as new, Origin2(New, lab.authority.server(lab.cert, lab.key, "h2")) as hidden:
        for origin, to, more in (
            ("HTTP/1.1", old.at, ()),
            ("h2c", f"h2c://{new.at}", ()),
            ("HTTP/2 over TLS", f"https://{hidden.at}", lab.trusting),
        ):
            with lab.secure(to, more=more) as oxy:
                for client, place in (("HTTP/1.1", "clear"), ("HTTP/1.1 over TLS", "tls")):
                    tls = lab.authority.client("http/1.1") if place == "tls" else None
                    checks(lab, f"{client} to {origin}", lambda **more: OldClient(oxy.at(place), tls, **more))
                for client, place in (("h2c", "clear"), ("HTTP/2 over TLS", "tls")):
                    tls = lab.authority.client("h2") if place == "tls" else None
                    checks(lab, f"{client} to {origin}", lambda **more: NewClient(oxy.address(place), tls, **more))
                refusals(lab, oxy, origin)
                shared(lab, oxy, origin)


def checks(lab, what, connect):
    with lab.check(f"{what}: text and binary of 0 bytes to 1 MiB"), connect() as client:
        for size in SIZES:
            data = content(size, "ws")
            client.send(data)
            equal(client.receive(), data, "what comes back")
            text = (TEXT * (size // len(TEXT) + 1))[:size]
            client.send(text)
            equal(client.receive(), text, "what comes back")
    with lab.check(f"{what}: 1 MiB and small messages, deflated"), connect(deflate=True) as client:
        assert client.deflates, "permessage-deflate was not agreed to"
        for data in (content(1 << 20, "deflate"), "a" * (1 << 20), b"", "x", TEXT * 1000):
            client.send(data)
            equal(client.receive(), data, "what comes back")
    with lab.check(f"{what}: 200 messages before the first is read"), connect() as client:
        messages = [content(n * 10, n) for n in range(200)]
        for message in messages:
            client.send(message)
        equal([client.receive() for _ in messages], messages, "what comes back")
    with lab.check(f"{what}: fragments both ways"), connect() as client:
        parts = [content(size, "part") for size in (1, 70_000, 0, 5)]
        client.fragments(parts)
        equal(client.receive(), b"".join(parts), "what comes back")
        client.send("fragments")
        equal(client.receive(), "one two three")
    with lab.check(f"{what}: ping and pong, both ways, in the midst of a message"), connect() as client:
        client.ping(b"are you there")
        client.send("ping me")
        equal(client.receive(), "pong came")
        client.ping(b"x" * 125)
    for code, reason in ((1000, ""), (1001, "so long"), (3000, TEXT), (4999, "x" * 123)):
        with lab.check(f"{what}: close {code} by the client"), connect() as client:
            equal(client.close(code, reason), (code, reason), "what comes back")
        with lab.check(f"{what}: close {code} by the origin"), connect() as client:
            client.send(f"close {code} {reason}")
            equal(client.closed(), (code, reason), "the close frame")


def refusals(lab, oxy, origin):
    with lab.check(f"HTTP/1.1 to {origin}: a refused handshake is passed on"):
        with Connection(oxy.address("clear")) as client:
            client.send(
                b"GET /refused HTTP/1.1\r\nHost: interop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            equal(client.response().status, 403)
    with lab.check(f"h2c to {origin}: a refused handshake is passed on"):
        try:
            NewClient(oxy.address("clear"), None, path="/refused")
        except Refused as refused:
            equal(refused.status, 403)
        else:
            raise AssertionError("it was not refused")


def shared(lab, oxy, origin):
    with lab.check(f"h2c to {origin}: 20 WebSockets on one connection"), wire2.Connection(oxy.address("clear")) as wire:
        clients = [NewClient.on(wire) for _ in range(20)]
        for turn in range(5):
            for n, client in enumerate(clients):
                client.send(content(5000, f"{turn}/{n}"))
            for n, client in reversed(list(enumerate(clients))):
                equal(client.receive(), content(5000, f"{turn}/{n}"), "what comes back")
        for client in clients:
            equal(client.close(1000, "done"), (1000, "done"))


class Old:
    """An origin over HTTP/1.1."""

    def __enter__(self):
        refuse = lambda connection, request: connection.respond(403, "no\n") if request.path == "/refused" else None
        self.server = websockets.sync.server.serve(
            self.serve, "127.0.0.1", 0, process_request=refuse, max_size=LIMIT, compression="deflate"
        )
        self.at = f"127.0.0.1:{self.server.socket.getsockname()[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()

    @staticmethod
    def serve(socket):
        for message in socket:
            match str(message).split(" ", 2) if isinstance(message, str) else []:
                case ["close", code, reason]:
                    socket.close(int(code), reason)
                case ["fragments"]:
                    socket.send(["one ", "two ", "three"])
                case ["ping", "me"]:
                    assert socket.ping(b"me").wait(PATIENCE), "no pong came"
                    socket.send("pong came")
                case _:
                    socket.send(message)


class OldClient:
    def __init__(self, at, tls, deflate=False):
        scheme = "wss" if tls else "ws"
        self.connection = websockets.sync.client.connect(
            f"{scheme}://{at}/chat", ssl=tls, proxy=None, max_size=LIMIT, compression="deflate" if deflate else None,
            open_timeout=PATIENCE,
        )

    def __enter__(self):
        self.socket = self.connection.__enter__()
        return self

    def __exit__(self, *about):
        return self.connection.__exit__(*about)

    @property
    def deflates(self):
        return bool(self.socket.protocol.extensions)

    def send(self, message):
        self.socket.send(message)

    def fragments(self, parts):
        self.socket.send(iter(parts))

    def receive(self):
        return self.socket.recv(PATIENCE)

    def ping(self, data):
        assert self.socket.ping(data).wait(PATIENCE), "no pong came"

    def close(self, code, reason):
        self.socket.close(code, reason)
        return self.closed()

    def closed(self):
        try:
            raise AssertionError(f"it goes on: {self.socket.recv(PATIENCE)!r}")
        except websockets.exceptions.ConnectionClosed as closed:
            return closed.rcvd.code, closed.rcvd.reason


class Messages:
    """Frames as a WebSocket's side has them, without the way that they go."""

    def __init__(self, side, extensions=()):
        self.protocol = Protocol(side, max_size=LIMIT)
        self.protocol.extensions = list(extensions)
        self.parts, self.kind = [], None
        self.pongs = []

    def say(self, message):
        if isinstance(message, str):
            self.protocol.send_text(message.encode())
        else:
            self.protocol.send_binary(message)

    def say_parts(self, parts, text=False):
        first, *rest = parts
        (self.protocol.send_text if text else self.protocol.send_binary)(first, fin=False)
        for n, part in enumerate(rest):
            self.protocol.send_continuation(part, fin=n == len(rest) - 1)

    def take(self, data):
        """The messages that `data` completes."""
        self.protocol.receive_data(data)
        whole = []
        for frame in self.protocol.events_received():
            match frame.opcode:
                case Opcode.TEXT | Opcode.BINARY:
                    self.parts, self.kind = [frame.data], frame.opcode
                case Opcode.CONT:
                    self.parts.append(frame.data)
                case Opcode.PONG:
                    self.pongs.append(bytes(frame.data))
                    continue
                case _:
                    continue
            if frame.fin:
                message = b"".join(self.parts)
                whole.append(message.decode() if self.kind is Opcode.TEXT else message)
        return whole


class Refused(Exception):
    def __init__(self, status):
        super().__init__(f"{status}")
        self.status = status


class NewClient:
    """RFC 8441, on a connection of its own."""

    def __init__(self, address, tls, deflate=False, path="/chat"):
        self.wire = wire2.Connection(address, tls)
        try:
            self.open(deflate, path)
        except BaseException:
            self.wire.close()
            raise

    @classmethod
    def on(cls, wire):
        """One more, on a connection that there is."""
        client = cls.__new__(cls)
        client.wire = wire
        client.open(False, "/chat")
        return client

    def open(self, deflate, path):
        wire = self.wire
        wire.until(lambda: wire.settled)
        equal(wire.h2.remote_settings.enable_connect_protocol, 1, "SETTINGS_ENABLE_CONNECT_PROTOCOL")
        factory = ClientPerMessageDeflateFactory(client_max_window_bits=True)
        offer = [("sec-websocket-extensions", build_extension([("permessage-deflate", factory.get_request_params())]))]
        self.number = wire.begin(
            [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", wire.scheme), (":authority", wire.name),
             (":path", path), ("sec-websocket-version", "13"), *(offer if deflate else [])],
            end=False,
        )
        self.stream = wire.head(self.number)
        if self.stream.status != 200:
            raise Refused(self.stream.status)
        extensions = []
        if agreed := dict(self.stream.fields).get("sec-websocket-extensions"):
            assert deflate, f"nobody asked for {agreed}"
            [(_, parameters)] = parse_extension(agreed)
            extensions = [factory.process_response_params(parameters, [])]
        assert "sec-websocket-accept" not in dict(self.stream.fields), "RFC 8441 section 5"
        self.messages = Messages(Side.CLIENT, extensions)
        self.deflates = bool(extensions)
        self.received = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.close()

    def flush(self):
        for data in self.messages.protocol.data_to_send():
            # An empty one stands for the end.
            self.wire.send(self.number, data, end=not data)

    def send(self, message):
        self.messages.say(message)
        self.flush()

    def fragments(self, parts):
        self.messages.say_parts(parts)
        self.flush()

    def until(self, probe):
        while True:
            data, self.stream.body = bytes(self.stream.body), bytearray()
            if data:
                self.received += self.messages.take(data)
                self.flush()
            if probe():
                return
            assert not self.stream.ended, "the stream has ended"
            assert self.stream.reset is None, f"the stream was reset: {self.stream.reset!r}"
            self.wire.more()

    def receive(self):
        self.until(lambda: self.received)
        return self.received.pop(0)

    def ping(self, data):
        self.messages.protocol.send_ping(data)
        self.flush()
        self.until(lambda: data in self.messages.pongs)

    def close(self, code, reason):
        self.messages.protocol.send_close(code, reason)
        self.flush()
        return self.closed()

    def closed(self):
        self.until(lambda: self.messages.protocol.close_rcvd)
        rcvd = self.messages.protocol.close_rcvd
        equal(self.received, [], "what came before it")
        return rcvd.code, rcvd.reason


class New(Handler):
    """An origin over HTTP/2 that does what `Old` does."""

    def __init__(self, stream):
        super().__init__(stream)
        self.sockets = {}

    def began(self, number, fields):
        if fields[":path"] == "/refused":
            self.head(number, [(":status", "403"), ("content-length", "0")], end=True)
            return
        asked = (fields[":method"], fields.get(":protocol"), fields[":path"], fields.get("sec-websocket-version"))
        if asked != ("CONNECT", "websocket", "/chat", "13") or "sec-websocket-key" in fields:
            self.head(number, [(":status", "400")], end=True)
            return
        head, extensions = [(":status", "200")], []
        if offered := fields.get("sec-websocket-extensions"):
            [(name, parameters), *_] = parse_extension(offered)
            agreed, extension = ServerPerMessageDeflateFactory().process_request_params(parameters, [])
            extensions.append(extension)
            head.append(("sec-websocket-extensions", build_extension([(name, agreed)])))
        self.head(number, head)
        self.sockets[number] = Messages(Side.SERVER, extensions)

    def data(self, number, data):
        if not (socket := self.sockets.get(number)):
            return
        for message in socket.take(data):
            match message.split(" ", 2) if isinstance(message, str) else []:
                case ["close", code, reason]:
                    socket.protocol.send_close(int(code), reason)
                case ["fragments"]:
                    socket.say_parts([b"one ", b"two ", b"three"], text=True)
                case ["ping", "me"]:
                    socket.protocol.send_ping(b"me")
                case _:
                    socket.say(message)
        if b"me" in socket.pongs:
            socket.pongs.remove(b"me")
            socket.say("pong came")
        for data in socket.protocol.data_to_send():
            self.send(number, data, end=not data)

    def ended(self, number):
        self.sockets.pop(number, None)

    reset = ended
