"""HAProxy between oxy and an origin, in short: bodies of all kinds, connections that it closes, its 503."""

import time
from concurrent.futures import ThreadPoolExecutor

from child import Child
from content import content
from origin import Origin
from report import equal
from wait import eventually
from wire import Connection

CONFIG = """
global
    maxconn 500
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    timeout http-keep-alive 40ms
frontend front
    bind 127.0.0.1:@PORT@
    http-request return status 429 content-type text/plain string slow if { path /slow }
    use_backend nobody if { path /nobody }
    default_backend back
backend back
    server origin @ORIGIN@
backend nobody
"""


def run(lab):
    program = lab.need("haproxy")
    port = lab.free_port()
    with Origin() as origin:
        config = lab.file("haproxy.cfg", CONFIG.replace("@PORT@", str(port)).replace("@ORIGIN@", origin.at))
        with Child([program, "-db", "-f", config], lab.path("haproxy.log")) as haproxy:
            eventually(lambda: listens(haproxy, port), "haproxy listens")
            with lab.reverse(f"127.0.0.1:{port}") as oxy:
                checks(lab, oxy.address("reverse"))


def checks(lab, address):
    with lab.check("bodies of 0 to 3,000,000 bytes"), Connection(address) as client:
        for size in (0, 1, 70_000, 3_000_000):
            equal(client.exchange("GET", f"/bytes/{size}/haproxy").body, content(size, "haproxy"))
            equal(client.exchange("POST", "/echo", body=content(size, "up")).body, content(size, "up"))
    with lab.check("upload in chunks"), Connection(address) as client:
        data = content(100_000, "chunks")
        client.send(b"POST /echo HTTP/1.1\r\nHost: interop\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(data), 25_000):
            client.send(b"61a8\r\n" + data[at : at + 25_000] + b"\r\n")
        client.send(b"0\r\n\r\n")
        equal(client.response("POST").body, data)
    with lab.check("its own answers are passed on"), Connection(address) as client:
        equal(client.exchange("GET", "/slow").status, 429)
        equal(client.exchange("GET", "/nobody").status, 503)
    with lab.check("8 clients"):

        def client(seed):
            with Connection(address) as connection:
                for size in range(0, 60_000, 3000):
                    equal(connection.exchange("GET", f"/bytes/{size}/{seed}").body, content(size, seed))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(client, range(8)))
    with lab.check("connections that end after 40 ms of silence, unannounced"), Connection(address) as client:
        for n in range(60):
            time.sleep(0.036 + n % 10 * 0.001)
            equal(client.exchange("GET", "/bytes/10/brief").body, content(10, "brief"))


def listens(haproxy, port):
    if not haproxy.alive:
        raise AssertionError(f"haproxy does not start: {haproxy.said()}")
    try:
        Connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
