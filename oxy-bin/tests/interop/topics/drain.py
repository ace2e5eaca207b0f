"""SIGTERM under load, five times: what the origin saw is answered, nothing else is half done."""

import random
import threading
import time

from origin import Origin
from report import equal
from wait import eventually
from wire import Connection, Cut

ROUNDS = 5
CLIENTS = 24
# oxy keeps idle connections for 1 s when it drains; some of that belongs to the machine.
KEPT = 0.6
# Longer than anything else takes, so that there is a process to ask until all is known.
SLOWEST = 2500


def run(lab):
    for n in range(ROUNDS):
        with lab.check(f"SIGTERM under load, round {n + 1}") as remarks, Origin() as origin:
            with lab.reverse(origin.at) as oxy:
                remarks.append(round_(oxy, origin, n))


def round_(oxy, origin, number):
    address = oxy.address("reverse")
    clients = [Client(address, f"{number}.{n}") for n in range(CLIENTS)]
    idle = [Connection(address) for _ in range(8)]
    for connection in idle:
        equal(connection.exchange("GET", "/delay/0?id=idle").status, 200)
    slow = threading.Thread(target=slowest, args=(address, outcome := []))
    for client in clients:
        client.start()
    # The middle of it: every client has had several answers, and the slow request is on its way.
    eventually(lambda: all(client.answered > 4 for client in clients), "the load has begun")
    # Not before: on a busy machine it would be over by the time that it is needed.
    slow.start()
    eventually(lambda: "slow" in origin.seen, "the slow request is at the origin")

    begun = time.monotonic()
    for client in clients:
        client.signalled = begun
    oxy.terminate()
    kept = idlers(idle, begun)
    eventually(lambda: refused(address), "new connections are refused", 5)
    assert oxy.alive, "it did not wait for the slow request"
    for client in clients:
        client.stop.set()
    for client in clients:
        client.join(20)
        assert not client.is_alive(), "a client hangs"
    slow.join(20)
    equal(outcome, [200], "the slow request")
    equal(oxy.ended(10), 0, "the exit code")
    took = time.monotonic() - begun
    assert refused(address), "somebody still listens"

    done = [record for client in clients for record in client.records]
    judge(done, origin)
    after = sum(1 for record in done if record.sent >= begun)
    return f"{len(done)} requests, {after} after SIGTERM, {kept} on idle connections, gone after {took:.1f} s"


def idlers(idle, begun):
    """Requests on idle connections just after SIGTERM, up to when they may be closed."""
    for n, connection in enumerate(idle):
        due = begun + KEPT * n / len(idle)
        while (left := due - time.monotonic()) > 0:
            time.sleep(left)
        response = connection.exchange("GET", "/delay/0?id=idle")
        equal(response.status, 200, "the status on an idle connection")
        assert response.closes or time.monotonic() - begun < 0.2, "nobody was told that it was the last"
        connection.close()
    return len(idle)


def slowest(address, outcome):
    with Connection(address) as connection:
        outcome.append(connection.exchange("GET", f"/delay/{SLOWEST}?id=slow").status)


def refused(address):
    try:
        Connection(address, 1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def judge(records, origin):
    for record in records:
        seen = origin.seen.get(record.identity, 0)
        if record.wrong:
            raise AssertionError(f"{record.identity}: {record.wrong}")
        if record.answered:
            equal(seen, 1, f"how often the origin saw {record.identity}, which was answered,")
        else:
            equal(seen, 0, f"how often the origin saw {record.identity}, which was not answered,")
            assert not record.owed, f"{record.identity}: {record.owed}"


class Record:
    """One request and what became of it."""

    def __init__(self, identity):
        self.identity = identity
        self.sent = time.monotonic()
        self.answered = False
        self.wrong = None
        self.owed = None


class Client(threading.Thread):
    """Sends requests, with keep-alive for as long as the proxy offers it."""

    def __init__(self, address, name):
        super().__init__(daemon=True)
        self.address = address
        self.identity = name
        self.random = random.Random(name)
        self.stop = threading.Event()
        self.signalled = None
        self.answered = 0
        self.records = []

    def run(self):
        connection, served = None, 0
        while not self.stop.is_set():
            if not connection:
                try:
                    connection, served = Connection(self.address), 0
                except OSError:
                    return  # refused: nobody is let in any more
            record = Record(f"{self.identity}.{len(self.records)}")
            self.records.append(record)
            try:
                response = connection.exchange("GET", f"/delay/{self.random.randrange(300)}?id={record.identity}")
            except Cut as cut:
                self.cut(record, cut, served)
                return
            except OSError as error:
                if isinstance(error, TimeoutError):
                    record.wrong = "no answer"
                self.cut(record, Cut(0), served)
                return
            served += 1
            if (response.status, response.body) != (200, record.identity.encode()):
                record.wrong = f"status {response.status}, body {response.body!r}"
                return
            record.answered = True
            self.answered += 1
            if response.closes:
                connection.close()
                connection = None
            else:
                time.sleep(self.random.choice((0, 0, 0.01, 0.3)))

    def cut(self, record, cut, served):
        if cut.seen:
            record.wrong = f"{cut}"
        elif self.signalled is None:
            record.wrong = "cut before SIGTERM"
        elif served and record.sent < self.signalled + KEPT:
            record.owed = "an open connection was closed, and nobody had said that it would be"
