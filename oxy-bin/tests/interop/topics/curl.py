"""curl as the client of the built-in origin, through reverse and forward listeners."""

import json
import subprocess

from content import content
from origin import Origin
from report import equal

CONFIG = """
workers: 2
listeners:
  - name: reverse
    listen: ["127.0.0.1:0"]
    http: {{to: [builtin]}}
  - name: local
    listen: ["unix:{path}"]
    http: {{to: [builtin]}}
  - name: forward
    listen: ["127.0.0.1:0"]
    http: {{forward: true}}
    egress: {{allow_loopback: true}}
  - name: public
    listen: ["127.0.0.1:0"]
    http: {{forward: true}}
"""

# What is asked about every transfer.
FIGURES = "%{json}\n"


def run(lab):
    curl = Curl(lab)
    path = lab.path("listener")
    config = lab.file("oxy.yaml", CONFIG.format(path=path))
    with lab.oxy("run", "--config", config, listeners=4) as oxy:
        origin = f"http://{oxy.at('reverse')}"
        paths(lab, curl, origin)
        bodies(lab, curl, origin)
        connections(lab, curl, origin)
        with lab.check("unix socket listener"):
            got = curl.get("http://any/echo", "--unix-socket", path)
            equal(got.status, 200)
            assert got.body.startswith(b"GET /echo "), got.body
        forward(lab, curl, origin, oxy)
    ranges(lab, curl)


def paths(lab, curl, origin):
    for path, status, size in (("/", 200, None), ("/bytes/0", 200, 0), ("/bytes/100000", 200, 100_000),
                               ("/delay/20", 200, None), ("/nowhere", 404, None), ("/status/503", 503, None),
                               ("/bytes/x", 400, None)):
        with lab.check(f"GET {path}"):
            got = curl.get(origin + path)
            equal(got.status, status, "the status")
            if size is not None:
                equal(got.body, b"." * size, "the body")
    with lab.check("HEAD"):
        got = curl.get(f"{origin}/bytes/12345", "--head")
        equal((got.status, got.figures["size_download"]), (200, 0))
        assert b"content-length: 12345" in got.body.lower(), got.body
    for status in (204, 304):
        with lab.check(f"{status}, which has no body"):
            got = curl.get(f"{origin}/status/{status}")
            equal((got.status, got.body), (status, b""))


def bodies(lab, curl, origin):
    echo = f"{origin}/echo"
    with lab.check("POST"):
        equal(curl.get(echo, "--data", "a=b").body, b"a=b")
    data = content(1 << 20, "curl")
    file = lab.file("upload", data)
    for what, options in (
        ("1 MiB up and down", ["--data-binary", f"@{file}"]),
        ("1 MiB, chunked", ["--header", "Transfer-Encoding: chunked", "--data-binary", f"@{file}"]),
        ("1 MiB, Expect: 100-continue", ["--header", "Expect: 100-continue", "--data-binary", f"@{file}"]),
        ("1 MiB, HTTP/1.0", ["--http1.0", "--data-binary", f"@{file}"]),
    ):
        with lab.check(what):
            got = curl.get(echo, "--header", "Content-Type: application/octet-stream", *options)
            equal(got.status, 200, "the status")
            equal(got.body, data, "the body")
    with lab.check("Expect: 100-continue is answered before the body is sent"):
        log = curl.get(echo, "--header", "Expect: 100-continue", "--data-binary", f"@{file}", "--verbose",
                       "--expect100-timeout", "15").errors
        assert "HTTP/1.1 100 Continue" in log, log
        assert "Done waiting for 100-continue" not in log, log


def connections(lab, curl, origin):
    with lab.check("keep-alive: five requests on one connection"):
        equal([got["num_connects"] for got in curl.all([f"{origin}/bytes/{n}" for n in range(5)])], [1, 0, 0, 0, 0])
    with lab.check("five bodies that are sent on one connection"):
        figures = curl.all([f"{origin}/echo"] * 5, "--data", "x" * 5000)
        equal([got["num_connects"] for got in figures], [1, 0, 0, 0, 0])
    with lab.check("HTTP/1.0 without keep-alive ends with the connection"):
        figures = curl.all([f"{origin}/bytes/5"] * 2, "--http1.0")
        equal([got["num_connects"] for got in figures], [1, 1])
        equal([got["size_download"] for got in figures], [5, 5])


def forward(lab, curl, origin, oxy):
    proxy = f"http://{oxy.at('forward')}"
    with lab.check("forward proxy, absolute form"):
        got = curl.get(f"{origin}/bytes/70000", "--proxy", proxy)
        equal((got.status, len(got.body)), (200, 70_000))
    with lab.check("forward proxy, CONNECT"):
        data = content(200_000, "tunnel")
        file = lab.file("upload", data)
        got = curl.get(f"{origin}/echo", "--proxy", proxy, "--proxytunnel", "--data-binary", f"@{file}")
        equal((got.status, got.figures["http_connect"]), (200, 200))
        equal(got.body, data, "the body")
    public = f"http://{oxy.at('public')}"
    with lab.check("forward proxy refuses a private target"):
        equal(curl.get(f"{origin}/", "--proxy", public).status, 403)
        equal(curl.get("http://192.168.0.1/", "--proxy", public).status, 403)
    with lab.check("forward proxy refuses a tunnel to a private target"):
        got = curl.get(f"{origin}/", "--proxy", public, "--proxytunnel", fails=True)
        equal((got.figures["http_connect"], got.figures["exitcode"]), (403, 56))


def ranges(lab, curl):
    """The built-in origin has none."""
    data = content(100_000, "range")
    with Origin() as origin, lab.reverse(origin.at) as oxy:
        url = f"http://{oxy.at('reverse')}/bytes/100000/range"
        with lab.check("range"):
            got = curl.get(url, "--range", "1000-50999")
            equal(got.status, 206, "the status")
            equal(got.body, data[1000:51000], "the body")
        with lab.check("resumed download"):
            file = lab.file("part", data[:40_000])
            got = curl.get(url, "--continue-at", "-", into=file)
            equal(got.status, 206, "the status")
            equal(got.body, data, "the file")


class Got:
    def __init__(self, body, figures, errors):
        self.body = body
        self.figures = figures
        self.errors = errors
        self.status = figures["http_code"]


class Curl:
    def __init__(self, lab):
        self.program = lab.need("curl")
        self.lab = lab

    def command(self, *options):
        # -q: whatever ~/.curlrc says is not part of the check, nor are proxies of the environment.
        return [self.program, "-q", "--silent", "--show-error", "--noproxy", "", "--max-time", "30", *map(str, options)]

    def get(self, url, *options, into=None, fails=False, stdin=None):
        """One transfer, with its body. `stdin` is a file."""
        file = into or self.lab.path("download")
        command = self.command("--write-out", FIGURES, "--output", file, *options, url)
        with open(stdin or "/dev/null", "rb") as given:
            done = subprocess.run(command, stdin=given, capture_output=True, text=True, check=False, env={})
        if (done.returncode != 0) != fails:
            raise AssertionError(f"curl ended with {done.returncode}: {done.stderr.strip()}")
        return Got(file.read_bytes() if file.exists() else b"", json.loads(done.stdout), done.stderr)

    def all(self, urls, *options):
        """Transfers one after the other by one process: the figures of each."""
        sinks = [word for url in urls for word in (url, "--output", "/dev/null")]
        command = self.command("--write-out", FIGURES, *options, *sinks)
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={})
        return [json.loads(line) for line in done.stdout.splitlines()]
