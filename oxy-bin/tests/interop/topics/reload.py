"""A hundred reloads under load by HTTP/1.1, HTTP/2 and new TLS connections: not one request fails, and memory stays."""

import http.client
import json
import re
import signal
import ssl
import subprocess
import threading
import time

from certs import Authority
from child import Child
from report import equal
from wait import eventually

RELOADS = 100
# An exchange's worth of load between two of them: the machine has other things to do, too.
PAUSE = 0.1
# What the allocator keeps of a hundred configurations besides the one in force.
GROWTH = 8 * 1024


def run(lab):
    wrk, h2load, nginx = lab.need("wrk"), lab.need("h2load"), lab.need("nginx")
    authority = Authority(lab)
    certs = [authority.leaf("one.example", "127.0.0.1"), authority.leaf("two.example", "127.0.0.1")]
    ports = [lab.free_port() for _ in range(5)]
    with serving(lab, nginx, ports[3:]):
        eventually(lambda: answers(ports[4]), "nginx")
        file = lab.path("oxy.yaml")
        file.write_text(settings(ports, certs, 0))
        with lab.oxy("run", "--config", file, listeners=3) as oxy:
            load = 0.5 + RELOADS * (PAUSE + 0.05)
            runs = {
                "HTTP/1.1": [wrk, "-t1", "-c16", f"-d{load:.0f}s", f"http://127.0.0.1:{ports[0]}/k"],
                "HTTP/2": [h2load, "-c8", "-m16", f"-D{load:.0f}", f"http://127.0.0.1:{ports[0]}/k"],
                "HTTP/2 over TLS": [h2load, "-c8", "-m16", f"-D{load:.0f}", f"https://127.0.0.1:{ports[1]}/k"],
            }
            started = {name: subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for name, words in runs.items()}
            fresh = Fresh(ports[1], authority.client())
            try:
                began = {}
                for turn in range(1, RELOADS + 1):
                    file.write_text(settings(ports, certs, turn % 2))
                    oxy.process.send_signal(signal.SIGHUP)
                    eventually(lambda turn=turn: reloads(ports[2]) >= turn, f"reload {turn}")
                    if turn == RELOADS // 5:
                        began = rss(oxy.process.pid)
                    time.sleep(PAUSE)
                said = {name: child.communicate(timeout=60)[0] for name, child in started.items()}
            finally:
                for child in started.values():
                    child.kill()
                fresh.stop()
            with lab.check(f"{RELOADS} reloads were done, and none was refused"):
                equal(reloads(ports[2]), RELOADS)
            served = int(re.search(r"(\d+) requests in", said["HTTP/1.1"])[1])
            with lab.check(f"not one of wrk's {served} requests failed"):
                if "Non-2xx" in said["HTTP/1.1"] or "Socket errors" in said["HTTP/1.1"] or served < RELOADS:
                    raise AssertionError(said["HTTP/1.1"])
            for name in ("HTTP/2", "HTTP/2 over TLS"):
                counts = re.search(r"requests: .*?(\d+) succeeded, (\d+) failed, (\d+) errored", said[name])
                with lab.check(f"not one of h2load's {counts[1]} failed ({name})"):
                    equal((int(counts[2]), int(counts[3])), (0, 0), said[name])
                    if int(counts[1]) < RELOADS:
                        raise AssertionError(said[name])
            with lab.check(f"{fresh.served} new TLS connections were served, by the certificate that was in force"):
                equal(fresh.failed, [])
                equal(fresh.names, {"one.example", "two.example"})
            grown = rss(oxy.process.pid) - began
            with lab.check(f"memory grew by less than {GROWTH // 1024} MiB over the last eighty ({began} KiB {grown:+})"):
                if grown > GROWTH:
                    raise AssertionError(f"{began} KiB, and {grown} more")
        with lab.oxy("run", "--config", file, listeners=3) as oxy:
            with lab.check("a file that is wrong is refused whole, and what was in force serves on"):
                file.write_text(settings(ports, certs, 1).replace('"cluster": "even"', '"cluster": "nobody"'))
                oxy.process.send_signal(signal.SIGHUP)
                eventually(lambda: reloads(ports[2], "failure") == 1, "a refusal")
                connection = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=5)
                connection.request("GET", "/k")
                equal(connection.getresponse().status, 200)


def settings(ports, certs, turn):
    """The configuration of each second turn: others take the requests, certificates and order change."""
    clear, secure, admin, *origins = ports
    cert, key = certs[turn]
    shares = [{"cluster": "even", "weight": 1 + turn}, {"cluster": "odd", "weight": 2 - turn}]
    route = {"match": {"prefix": "/"}, "to": shares, "response_headers": {"set": {"x-turn": str(turn)}}}
    more = [{"match": {"path": f"/{n}/{turn}"}, "respond": {"status": 204}} for n in range(50)]
    listen = [
        {"name": "clear", "listen": [f"127.0.0.1:{clear}"], "http": {"routes": [{"routes": [route, *more]}]}},
        {
            "name": "secure",
            "listen": [f"https://127.0.0.1:{secure}"],
            "tls": {"certificates": [{"cert": str(cert), "key": str(key)}]},
            "http": {"routes": [{"routes": [*more, route]}]},
        },
    ]
    clusters = [{"name": name, "endpoints": [f"127.0.0.1:{port}"]} for name, port in zip(("even", "odd"), origins)]
    # JSON is YAML.
    return json.dumps({
        "workers": 2,
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "clusters": clusters[::-1] if turn else clusters,
        "listeners": listen[::-1] if turn else listen,
    })


def serving(lab, nginx, ports):
    """nginx on two ports."""
    directory = lab.path("nginx")
    directory.mkdir()
    listen = "".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
    (directory / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid nginx.pid;
        events {{ worker_connections 8192; }}
        http {{
            access_log off; keepalive_requests 1000000;
            server {{ {listen} location / {{ return 200 "{'x' * 1024}"; }} }}
        }}""")
    return Child([nginx, "-e", "stderr", "-p", directory, "-c", "nginx.conf"], lab.path("nginx.log"))


def answers(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        connection.request("GET", "/k")
        return connection.getresponse().status == 200
    except OSError:
        return False


def reloads(admin, result="success"):
    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=5)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    found = re.search(rf'oxy_reloads_total{{result="{result}"}} (\d+)', page)
    return int(found[1]) if found else 0


def rss(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


class Fresh:
    """Asks on a new TLS connection each time."""

    def __init__(self, port, context):
        self.port, self.context = port, context
        self.failed, self.names, self.served, self.stopping = [], set(), 0, False
        self.thread = threading.Thread(target=self.ask)
        self.thread.start()

    def ask(self):
        while not self.stopping:
            try:
                connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self.context)
                connection.request("GET", "/k", headers={"Connection": "close"})
                subject = dict(pair[0] for pair in connection.sock.getpeercert()["subject"])
                response = connection.getresponse()
                if (response.status, len(response.read())) != (200, 1024):
                    self.failed.append(response.status)
                self.names.add(subject["commonName"])
                self.served += 1
            except (OSError, ssl.SSLError, http.client.HTTPException) as error:
                self.failed.append(repr(error))

    def stop(self):
        self.stopping = True
        self.thread.join()
