"""gRPC's own library on both sides: 10,000 calls of all kinds, metadata, statuses, deadlines, cancellation, going away."""

import os

# Its threads and the forks of other children do not go together; the latter become other programs at once.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import json
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

import wire2
from content import content
from origin2 import Handler, Origin2
from report import equal
from wait import PATIENCE, eventually

CALLS = 10_000
# As many at a time as one connection carries and some more, so that they wait for each other too.
CALLERS = 24
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# A try that fails is to be seen: nothing is hidden by another one, except what never left (which grpc always tries again).
PLAIN = [*UNLIMITED, ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
# What grpc does where it is told to. A server of its own that stops cancels what it has taken in and not begun.
POLICY = {"maxAttempts": 5, "initialBackoff": "0.02s", "maxBackoff": "0.2s", "backoffMultiplier": 2,
          "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]}
RETRYING = [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1),
            ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": POLICY}]}))]
MESSAGE = "nicht gefunden: ä€ 100% %41 \t\"x\"\r\n, 詳"
ASKED = [("test-asked", "one"), ("test-asked", "two"), ("test-asked-bin", bytes(range(256))), ("test-empty", "")]


def run(lab):
    authority = lab.authority
    secure = grpc.ssl_server_credentials([(lab.key.read_bytes(), lab.cert.read_bytes())])
    trust = grpc.ssl_channel_credentials(authority.ca.read_bytes())
    with Server() as server, Server(secure) as hidden:
        for what, to, credentials, more, calls in (
            ("TLS to h2c", f"h2c://{server.at}", trust, (), CALLS * 4 // 10),
            ("TLS to TLS", f"https://{hidden.at}", trust, lab.trusting, CALLS * 3 // 10),
            ("h2c to h2c", f"h2c://{server.at}", None, (), CALLS * 3 // 10),
        ):
            with lab.secure(to, more=more) as oxy:
                at = oxy.at("tls" if credentials else "clear")
                with Client(at, credentials) as client:
                    kinds(lab, what, client, calls)
                    said(lab, what, client)
                    if what != "TLS to TLS":
                        times(lab, what, client, server)
                    bulk(lab, what, client)
    stubborn(lab)
    down(lab)
    ageing(lab)
    replaced(lab)
    draining(lab)


def kinds(lab, what, client, calls):
    streams = calls // 60
    with lab.check(f"{what}: {calls} calls of four kinds, {CALLERS} at a time") as remarks:
        tasks = [(client.check_unary, n) for n in range(calls - 3 * streams)]
        for n in range(streams):
            kinds = ((client.check_down, n), (client.check_up, n), (client.check_both, n))
            # Among the others.
            tasks[n * 40 : n * 40] = kinds
        begun = time.monotonic()
        with ThreadPoolExecutor(CALLERS) as pool:
            done = [pool.submit(*task) for task in tasks]
            for one in done:
                one.result()
        remarks.append(f"{calls / (time.monotonic() - begun):.0f} a second")
    with lab.check(f"{what}: both sides speak by turns on one stream"):
        turns = Turns()
        answers = client.both(turns, timeout=PATIENCE)
        for n in range(100):
            turns.say(content(n, "turn"))
            equal(next(answers), content(n, "turn"), "the answer")
        turns.end()
        equal(list(answers), [])
        equal(answers.code(), grpc.StatusCode.OK)


def said(lab, what, client):
    with lab.check(f"{what}: metadata and trailers, both ways, exact"):
        response, call = client.unary.with_call(b"said", metadata=ASKED, timeout=PATIENCE)
        equal(response, b"said")
        equal(ours(call.initial_metadata(), "first-"), echoed("first", ASKED), "the initial metadata")
        equal(pairs(call.trailing_metadata()), echoed("last", ASKED), "the trailing metadata")
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        number = code.value[0]
        with lab.check(f"{what}: {code.name}, its message and trailers are exact"):
            asked = [("test-status", str(number)), *ASKED]
            for call in (client.failure(asked), client.failure(asked, after=3), client.failure(asked, after=0)):
                equal((call.code(), call.details()), (code, MESSAGE))
                equal(pairs(call.trailing_metadata()), echoed("last", asked), "the trailing metadata")
    with lab.check(f"{what}: no such method"):
        call = client.channel.unary_unary("/interop.Test/Nothing").future(b"", timeout=PATIENCE)
        equal((call.exception().code(), call.details()), (grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))


def times(lab, what, client, server):
    with lab.check(f"{what}: a deadline ends a call in time, and the server hears of it") as remarks:
        for kind in ("unary", "down"):
            name, begun = server.fresh(), time.monotonic()
            error = failure(lambda: client.sleep(kind, name, timeout=0.4))
            took = time.monotonic() - begun
            equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            assert 0.35 < took < 1.4, f"it took {took:.2f} s"
            heard = server.over(name) - begun
            assert heard < 2, f"the server heard of it after {heard:.2f} s"
            remarks.append(f"{took * 1000:.0f} ms, heard after {heard * 1000:.0f} ms")
    with lab.check(f"{what}: a call that is cancelled is cancelled at the server") as remarks:
        for kind in ("unary", "down"):
            name = server.fresh()
            call = client.begin_sleep(kind, name)
            eventually(lambda: name in server.begun, "the call is at the server")
            begun = time.monotonic()
            call.cancel()
            heard = server.over(name) - begun
            assert heard < 1, f"the server heard of it after {heard:.2f} s"
            remarks.append(f"heard after {heard * 1000:.0f} ms")
        client.check_unary(0)


def stubborn(lab):
    """Neither the client nor the origin minds how long it takes: the proxy must."""
    for what, place, tls in (("TLS", "tls", lab.authority.client("h2")), ("h2c", "clear", None)):
        with Origin2(Silent) as origin, lab.secure(f"h2c://{origin.at}") as oxy:
            for path in ("/interop.Test/Silent", "/interop.Test/Begun"):
                with lab.check(f"{what}: the proxy keeps the deadline that nobody else does, {path}") as remarks:
                    Silent.resets.clear()
                    begun = time.monotonic()
                    with wire2.Connection(oxy.address(place), tls) as client:
                        fields = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "400m")]
                        stream = client.request("POST", path, fields, end=False)
                        client.send(stream, b"\0" + struct.pack(">I", 1) + b"x", end=True)
                        answer = client.streams[stream]
                        client.until(lambda: answer.ended or answer.reset is not None)
                    took = time.monotonic() - begun
                    if path.endswith("Silent"):
                        said = dict(answer.fields)
                        equal((answer.status, said.get("content-type"), said.get("grpc-status")), (200, "application/grpc", "4"))
                    else:
                        # A head has gone out: what follows is a message that is cut, or trailers that say so.
                        assert answer.reset is not None or dict(answer.trailers or ()).get("grpc-status") == "4", "it looks whole"
                    assert 0.35 < took < 1.4, f"it took {took:.2f} s"
                    eventually(lambda: Silent.resets, "the origin hears of it", 2)
                    remarks.append(f"{took * 1000:.0f} ms")


class Silent(Handler):
    """Answers nothing, or begins to."""

    resets = []

    def began(self, number, fields):
        if fields[":path"].endswith("Begun"):
            self.head(number, [(":status", "200"), ("content-type", "application/grpc")])

    def reset(self, number):
        self.resets.append(number)


def bulk(lab, what, client):
    with lab.check(f"{what}: messages of 4 MiB, both ways"):
        data = content(4 << 20, what)
        equal(client.unary(data, timeout=PATIENCE), data, "the answer")
        equal(list(client.both(iter([data] * 3), timeout=PATIENCE)), [data] * 3, "the answers")
        equal(list(client.both(iter([b"", b"x", data, b""]), timeout=PATIENCE)), [b"", b"x", data, b""], "the answers")
    with lab.check(f"{what}: who does not read does not stop others") as remarks:
        size, count = 65_536, 128
        slow = [client.down(struct.pack(">II", size, count), timeout=3 * PATIENCE) for _ in range(3)]
        for call in slow:
            equal(next(call), content(size, 0))
        begun = time.monotonic()
        for n in range(200):
            client.check_unary(n)
        data = content(1 << 20, "fast")
        equal(client.unary(data, timeout=PATIENCE), data, "the answer")
        remarks.append(f"201 calls in {time.monotonic() - begun:.1f} s")
        for call in slow:
            equal([len(answer) for answer in call], [size] * (count - 1), "the rest")
            equal(call.code(), grpc.StatusCode.OK)


def down(lab):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
    for to in (f"h2c://{at}", f"https://{at}"):
        more = lab.trusting if to.startswith("https") else ()
        with lab.secure(to, more=more) as oxy, Client(oxy.at("clear")) as client:
            with lab.check(f"UNAVAILABLE from an origin that is down, {to.partition(':')[0]}") as remarks:
                for kind in ("unary", "down", "up", "both"):
                    call = client.refused(kind)
                    equal(call.code(), grpc.StatusCode.UNAVAILABLE, kind)
                remarks.append(call.details())


def ageing(lab):
    """Every connection of this server is told to go after 0.3 s, and has 10 s for what has begun."""
    options = [("grpc.max_connection_age_ms", 300), ("grpc.max_connection_age_grace_ms", 10_000)]
    with Server(options=options) as server, lab.secure(f"h2c://{server.at}") as oxy, Client(oxy.at("clear")) as client:
        with lab.check("a server whose connections go away every 0.3 s: no call fails") as remarks:
            deadline = time.monotonic() + 4

            def caller(seed):
                n = 0
                while time.monotonic() < deadline:
                    client.check_unary(seed * 1000 + n)
                    if n % 20 == 0:
                        client.check_both(n)
                    n += 1
                return n

            with ThreadPoolExecutor(8) as pool:
                remarks.append(f"{sum(pool.map(caller, range(8)))} calls")
        peers = len(server.peers)
        with lab.check("and it was used over many connections") as remarks:
            remarks.append(f"{peers} connections")
            assert peers > 5, f"{peers} connections"


def replaced(lab):
    """A server that stops while calls run, where there is another one."""
    with Server() as first, Server() as second:
        with lab.secure(f"h2c://{first.at}", f"h2c://{second.at}") as oxy:
            client = Client(oxy.at("clear"), options=RETRYING)
            with lab.check("one server of two stops while calls run: none fails that is tried again") as remarks, client:
                stop = threading.Event()

                def caller(seed):
                    n = 0
                    while not stop.is_set():
                        client.check_unary(seed * 1000 + n)
                        n += 1
                    return n

                with ThreadPoolExecutor(8) as pool:
                    callers = [pool.submit(caller, n) for n in range(8)]
                    try:
                        eventually(lambda: len(first.peers) and len(second.peers), "both are used")
                        before = second.served
                        first.server.stop(PATIENCE).wait(PATIENCE)
                        eventually(lambda: second.served > before + 500 or any(one.done() for one in callers),
                                   "the other one does the work")
                    finally:
                        stop.set()
                    remarks.append(f"{sum(one.result() for one in callers)} calls")


def draining(lab):
    with Server() as server, lab.secure(f"h2c://{server.at}") as oxy, Client(oxy.at("clear")) as client:
        with lab.check("SIGTERM: a call that has begun ends whole"):
            turns = Turns()
            answers = client.both(turns, timeout=PATIENCE)
            turns.say(b"before")
            equal(next(answers), b"before")
            oxy.terminate()
            eventually(lambda: refused(oxy.address("clear")), "new connections are refused", 5)
            for n in range(20):
                turns.say(content(n, "drain"))
                equal(next(answers), content(n, "drain"), "the answer")
            turns.end()
            equal((list(answers), answers.code()), ([], grpc.StatusCode.OK))
            equal(oxy.ended(10), 0, "the exit code")


def refused(address):
    try:
        socket.create_connection(address, 1).close()
    except ConnectionRefusedError:
        return True
    return False


class Turns:
    """The requests of a stream, as they are given."""

    def __init__(self):
        self.ready = threading.Condition()
        self.waiting = []

    def say(self, message):
        with self.ready:
            self.waiting.append(message)
            self.ready.notify()

    def end(self):
        self.say(None)

    def __iter__(self):
        return self

    def __next__(self):
        with self.ready:
            self.ready.wait_for(lambda: self.waiting)
            message = self.waiting.pop(0)
        if message is None:
            raise StopIteration
        return message


class Client:
    def __init__(self, at, credentials=None, options=PLAIN):
        if credentials:
            self.channel = grpc.secure_channel(at, credentials, options)
        else:
            self.channel = grpc.insecure_channel(at, options)
        self.unary = self.channel.unary_unary("/interop.Test/Unary")
        self.down = self.channel.unary_stream("/interop.Test/Down")
        self.up = self.channel.stream_unary("/interop.Test/Up")
        self.both = self.channel.stream_stream("/interop.Test/Both")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def check_unary(self, seed):
        data = content(seed % 200, seed)
        equal(self.unary(data, timeout=PATIENCE), data, "the answer")

    def check_down(self, seed):
        size = seed * 50 % 3000
        answers = self.down(struct.pack(">II", size, 20), timeout=PATIENCE)
        equal(list(answers), [content(size, n) for n in range(20)], "the answers")
        equal(answers.code(), grpc.StatusCode.OK)

    def check_up(self, seed):
        parts = [content(seed * 50 % 3000, n) for n in range(20)]
        equal(self.up(iter(parts), timeout=PATIENCE), b"".join(parts), "the answer")

    def check_both(self, seed):
        parts = [content(seed * 50 % 3000, n) for n in range(20)]
        equal(list(self.both(iter(parts), timeout=PATIENCE)), parts, "the answers")

    def failure(self, metadata, after=None):
        """A call that ends in an error: at once, or after so many messages."""
        if after is None:
            return failure(lambda: self.unary(b"", metadata=metadata, timeout=PATIENCE))
        call = self.both(iter([b"x"] * after), metadata=metadata, timeout=PATIENCE)
        got = []
        error = failure(lambda: got.extend(call))
        return error

    def refused(self, kind):
        asked = iter([b""]) if kind in ("up", "both") else struct.pack(">II", 1, 1)
        return failure(lambda: list(getattr(self, kind)(asked, timeout=PATIENCE)))

    def sleep(self, kind, name, timeout):
        call = self.begin_sleep(kind, name, timeout)
        return call.result() if kind == "unary" else list(call)

    def begin_sleep(self, kind, name, timeout=PATIENCE):
        metadata = [("test-name", name)]
        if kind == "unary":
            sleep = self.channel.unary_unary("/interop.Test/Sleep")
            return sleep.future(b"", metadata=metadata, timeout=timeout)
        return self.channel.unary_stream("/interop.Test/SleepDown")(b"", metadata=metadata, timeout=timeout)


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it went well")


class Server:
    """Echoes, fails, and sleeps, as it is asked."""

    def __init__(self, credentials=None, options=()):
        self.peers, self.served, self.begun, self.ended = set(), 0, set(), {}
        self.names = 0
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "SleepDown": grpc.unary_stream_rpc_method_handler(self.sleep_down),
        }
        # Streams hold a thread each, those that do not get on too.
        self.server = grpc.server(ThreadPoolExecutor(48), options=[*UNLIMITED, *options])
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("interop.Test", handlers),))
        if credentials:
            port = self.server.add_secure_port("127.0.0.1:0", credentials)
        else:
            port = self.server.add_insecure_port("127.0.0.1:0")
        self.at = f"127.0.0.1:{port}"

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(0).wait(PATIENCE)

    def fresh(self):
        self.names += 1
        return f"call-{self.names}"

    def over(self, name):
        """When it ended, for whatever reason."""
        return eventually(lambda: self.ended.get(name), f"{name} has ended at the server", 5)

    def greet(self, context):
        self.peers.add(context.peer())
        self.served += 1
        if asked := ours(context.invocation_metadata(), "test-"):
            context.send_initial_metadata(echoed("first", asked))
            context.set_trailing_metadata(echoed("last", asked))

    def close(self, context):
        """Ends with the status that was asked for."""
        asked = dict(context.invocation_metadata()).get("test-status")
        if asked:
            code = next(code for code in grpc.StatusCode if str(code.value[0]) == asked)
            context.abort(code, MESSAGE)

    def unary(self, request, context):
        self.greet(context)
        self.close(context)
        return request

    def down(self, request, context):
        self.greet(context)
        size, count = struct.unpack(">II", request)
        for n in range(count):
            yield content(size, n)

    def up(self, requests, context):
        self.greet(context)
        return b"".join(requests)

    def both(self, requests, context):
        self.greet(context)
        yield from requests
        self.close(context)

    def sleep(self, request, context):
        self.asleep(context)
        return request

    def sleep_down(self, request, context):
        yield request
        self.asleep(context)

    def asleep(self, context):
        name = dict(context.invocation_metadata())["test-name"]
        over = threading.Event()

        def end():
            self.ended[name] = time.monotonic()
            over.set()

        context.add_callback(end)
        self.begun.add(name)
        over.wait(PATIENCE)


def pairs(metadata):
    return [(name, value) for name, value in metadata]


def ours(metadata, prefix):
    """Without what the libraries and the proxy tell each other."""
    return [(name, value) for name, value in metadata if name.startswith(prefix)]


def echoed(prefix, metadata):
    """What the server says of what it was told."""
    return [(name.replace("test", prefix, 1), value) for name, value in metadata]
