"""Out of descriptors: who is in is served, nobody spins, and room that is made is used."""

import os
import resource
import time

from content import content
from origin import Origin
from report import equal
from wait import eventually
from wire import Connection

LIMIT = 200
SERVED = 60
TICKS = os.sysconf("SC_CLK_TCK")


def run(lab):
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    connections = []
    with Origin() as origin:
        arguments = ["--listen", "127.0.0.1:0", "--to", origin.at, "--workers", 2]
        with lab.oxy("reverse", *arguments, before_exec=limit) as oxy:
            try:
                checks(lab, oxy, connections)
            finally:
                for connection in connections:
                    connection.close()


def checks(lab, oxy, connections):
    address = oxy.address("reverse")
    with lab.check(f"{LIMIT + 60} connections where {LIMIT} descriptors are allowed") as remarks:
        for n in range(SERVED):
            connections.append(Connection(address))
            served(connections[-1], n)
        while len(connections) < LIMIT + 60:
            # The kernel completes them; whether oxy takes them is another matter.
            connections.append(Connection(address))
        eventually(lambda: descriptors(oxy) >= LIMIT - 2, "the descriptors are used up")
        remarks.append(f"{descriptors(oxy)} descriptors")
    with lab.check("those that were open are served, through to the origin"):
        for n, connection in enumerate(connections[:SERVED]):
            served(connection, n)
    with lab.check("it rests while nothing can be done") as remarks:
        before, begun = processor(oxy), time.monotonic()
        # Not a wait for something: the time over which use is measured.
        time.sleep(2)
        share = (processor(oxy) - before) / (time.monotonic() - begun)
        remarks.append(f"{share:.1%} of a core")
        assert share < 0.2, f"it uses {share:.0%} of a core"
    with lab.check("room that is made is used within 1 s") as remarks:
        for connection in connections[SERVED : LIMIT]:
            connection.close()
        begun = time.monotonic()
        fresh = Connection(address, 1)
        connections.append(fresh)
        served(fresh, 1)
        remarks.append(f"{(time.monotonic() - begun) * 1000:.0f} ms")
        for connection in connections[LIMIT:]:
            served(connection, 2)
    with lab.check("it is alive, and serves those from the beginning too"):
        assert oxy.alive, oxy.said()
        for n, connection in enumerate(connections[:SERVED]):
            served(connection, n)


def served(connection, seed):
    response = connection.exchange("GET", f"/bytes/2000/{seed}")
    equal(response.status, 200, "the status")
    equal(response.body, content(2000, seed), "the body")


def descriptors(oxy):
    return len(os.listdir(f"/proc/{oxy.pid}/fd"))


def processor(oxy):
    """Seconds of processor time, user and system."""
    with open(f"/proc/{oxy.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
