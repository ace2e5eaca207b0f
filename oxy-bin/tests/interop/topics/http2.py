"""curl and h2load over HTTP/2, clear and TLS: bodies of 10 MiB, trailers, hints, versions side by side, 20,000 requests."""

import hashlib
import re
import subprocess

from content import content
from origin import Origin
from report import equal
from topics.curl import Curl

BIG = 10 << 20
# What curl calls the versions of HTTP and TLS.
OLD, NEW = "1.1", "2"


def run(lab):
    curl = Curl(lab)
    trust = ["--cacert", lab.authority.ca]
    with Origin() as origin, lab.secure(origin.at) as oxy:
        ways = (
            ("h2c", f"http://{oxy.at('clear')}", ["--http2-prior-knowledge"], NEW),
            ("HTTP/2 over TLS 1.3", f"https://{oxy.at('tls')}", [*trust, "--http2", "--tlsv1.3"], NEW),
            ("HTTP/2 over TLS 1.2", f"https://{oxy.at('tls')}", [*trust, "--http2", "--tls-max", "1.2"], NEW),
            ("HTTP/1.1 over TLS 1.3", f"https://{oxy.at('tls')}", [*trust, "--http1.1", "--tlsv1.3"], OLD),
            ("HTTP/1.1 over TLS 1.2", f"https://{oxy.at('tls')}", [*trust, "--http1.1", "--tls-max", "1.2"], OLD),
            ("HTTP/1.1 where h2c is taken", f"http://{oxy.at('clear')}", ["--http1.1"], OLD),
            ("HTTP/1.1 that offers h2c", f"http://{oxy.at('clear')}", ["--http2"], OLD),
        )
        for what, url, options, version in ways:
            bodies(lab, curl, what, url, options, version)
            heads(lab, curl, what, url, options)
        untrusted(lab, curl, oxy)
    load(lab)


def bodies(lab, curl, what, url, options, version):
    for size in (0, 1, 65_536, BIG):
        with lab.check(f"{what}: {size} bytes down"):
            got = curl.get(f"{url}/bytes/{size}/{version}", *options)
            equal((got.status, got.figures["http_version"]), (200, version))
            equal(got.body, content(size, version), "the body")
        data = content(size, "up")
        file = lab.file("upload", data)
        with lab.check(f"{what}: {size} bytes up and down"):
            got = curl.get(f"{url}/echo", *options, "--data-binary", f"@{file}")
            equal((got.status, got.figures["http_version"]), (200, version))
            equal(got.body, data, "the body")
    with lab.check(f"{what}: {BIG} bytes up, their length unsaid"):
        got = curl.get(f"{url}/echo", *options, "--request", "POST", "--upload-file", "-", stdin=file)
        equal((got.status, got.figures["http_version"]), (200, version))
        equal(got.body, data, "the body")
    if what == "h2c":
        # curl 7.88 ends with 16 where it uses such a connection again, whoever the server is; h2load does it below.
        return
    with lab.check(f"{what}: five requests on one connection"):
        figures = curl.all([f"{url}/bytes/{n}/reuse" for n in range(5)], *options)
        equal([got["num_connects"] for got in figures], [1, 0, 0, 0, 0])
        equal([got["size_download"] for got in figures], list(range(5)))
    if version == NEW:
        with lab.check(f"{what}: 40 requests at a time on one connection"):
            figures = curl.all([f"{url}/bytes/{n * 1000}/many" for n in range(40)], *options, "--parallel",
                               "--parallel-max", "40")
            equal(sum(got["num_connects"] for got in figures), 1, "the connections")
            equal(sorted(got["size_download"] for got in figures), [n * 1000 for n in range(40)])


def heads(lab, curl, what, url, options):
    with lab.check(f"{what}: trailers"):
        heads = lab.path("heads")
        got = curl.get(f"{url}/trailers/50000/t", *options, "--header", "TE: trailers", "--dump-header", heads)
        equal(got.body, content(50_000, "t"), "the body")
        trailers = fields(heads.read_bytes().decode("latin-1").partition("\r\n\r\n")[2])
        equal(trailers, [("x-digest", hashlib.sha256(got.body).hexdigest()), ("x-empty", "")], "the trailers")
    with lab.check(f"{what}: 103 before 200"):
        heads = lab.path("heads")
        equal(curl.get(f"{url}/hints", *options, "--dump-header", heads).body, b"hinted")
        text = heads.read_bytes().decode("latin-1")
        equal(re.findall(r"^HTTP/\S+ (\d+)", text, re.M), ["103", "200"], "the statuses")
        assert ("link", "</style.css>; rel=preload") in fields(text.partition("\r\n\r\n")[0]), text
    with lab.check(f"{what}: HEAD, 404 and a range"):
        got = curl.get(f"{url}/bytes/12345/head", *options, "--head")
        equal((got.status, got.figures["size_download"]), (200, 0))
        assert b"content-length: 12345" in got.body.lower(), got.body
        equal(curl.get(f"{url}/nowhere", *options).status, 404)
        got = curl.get(f"{url}/bytes/100000/range", *options, "--range", "1000-50999")
        equal((got.status, got.body), (206, content(100_000, "range")[1000:51_000]))


def fields(text):
    lines = [line.split(":", 1) for line in text.split("\r\n") if ":" in line]
    return [(name.lower(), value.strip()) for name, value in lines]


def untrusted(lab, curl, oxy):
    with lab.check("whoever does not trust the authority gets nothing"):
        got = curl.get(f"https://{oxy.at('tls')}/bytes/1/x", fails=True)
        equal((got.status, got.figures["exitcode"]), (0, 60))


def load(lab):
    h2load = lab.need("h2load")
    with lab.secure("builtin") as oxy:
        for what, url in (("TLS", f"https://{oxy.at('tls')}"), ("h2c", f"http://{oxy.at('clear')}")):
            for path, count in (("/bytes/1024", 20_000), ("/bytes/100000", 2_000)):
                with lab.check(f"h2load, {what}: {count} of {path} on 16 connections, 32 at a time") as remarks:
                    command = [h2load, "-n", str(count), "-c", "16", "-m", "32", url + path]
                    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
                    whole = f"requests: {count} total, {count} started, {count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout"
                    assert whole in done.stdout, done.stdout
                    assert f"status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx" in done.stdout, done.stdout
                    data = int(re.search(r"traffic: .*, \S+ \((\d+)\) data", done.stdout)[1])
                    equal(data, count * int(path.rpartition("/")[2]), "the bytes of the bodies")
                    remarks.append(re.search(r"finished in .*?, (\S+ req/s)", done.stdout)[1])
