"""nginx behind oxy (files, gzip, chunks, connections that it closes, refused uploads) and in front of it."""

import gzip
import time
from concurrent.futures import ThreadPoolExecutor

from child import Child
from content import content
from origin import Origin
from report import equal
from wait import eventually
from wire import Connection

SIZES = {"0": 0, "1": 1, "64k": 64 << 10, "10m": 10 << 20}

COMMON = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr error;
events { worker_connections 512; }
http {
    access_log off;
    sendfile on;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
"""

ORIGIN = """
    server {
        listen 127.0.0.1:@PORT@;
        root files;
        keepalive_requests 3;
        location /gzip/ { alias files/; gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; }
        location /ssi/ { alias files/; ssi on; ssi_types *; }
        location /gone { return 503; }
        location /upload { client_max_body_size 64k; proxy_pass http://127.0.0.1:1; }
        location /brief/ { alias files/; keepalive_requests 1000; keepalive_timeout 40ms; }
    }
}
"""

FRONT = """
    upstream oxy { server @OXY@; keepalive 8; }
    server {
        listen 127.0.0.1:@PORT@;
        client_max_body_size 0;
        location / { proxy_pass http://oxy; proxy_http_version 1.1; proxy_set_header Connection ""; }
        location /unbuffered/ {
            proxy_pass http://oxy/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
        }
        location /http10/ { proxy_pass http://oxy/; }
    }
}
"""


def run(lab):
    program = lab.need("nginx")
    files = {name: content(size, "nginx") for name, size in SIZES.items()}
    # It compresses, and has a directive for SSI in it, so that neither length is known before the end.
    files["page"] = b"<!--# set var=\"x\" value=\"y\" --><p>" + b"all work and no play " * 20_000 + b"</p>"
    with start(lab, program, ORIGIN, files) as nginx, lab.reverse(nginx.at) as oxy:
        behind(lab, oxy, files)
        closing(lab, oxy, files)
        refused(lab, oxy)
    with Origin() as origin, lab.reverse(origin.at) as oxy:
        with start(lab, program, FRONT.replace("@OXY@", oxy.at("reverse"))) as nginx:
            in_front(lab, nginx)


def behind(lab, oxy, files):
    for name in SIZES:
        with lab.check(f"file of {name} bytes, again and again"), Connection(oxy.address("reverse")) as client:
            for _ in range(5):
                response = client.exchange("GET", f"/{name}")
                equal((response.status, response.body), (200, files[name]))
            equal(client.exchange("HEAD", f"/{name}").fields["content-length"], str(SIZES[name]))
    with lab.check("range of a file"), Connection(oxy.address("reverse")) as client:
        response = client.exchange("GET", "/10m", [("Range", "bytes=1000000-8000000")])
        equal((response.status, response.body), (206, files["10m"][1_000_000:8_000_001]))
    with lab.check("several ranges in one response"), Connection(oxy.address("reverse")) as client:
        response = client.exchange("GET", "/64k", [("Range", "bytes=0-9,60000-60099")])
        equal(response.status, 206)
        assert files["64k"][60_000:60_100] in response.body
    with lab.check("gzip, in chunks"), Connection(oxy.address("reverse")) as client:
        for _ in range(4):
            response = client.exchange("GET", "/gzip/page", [("Accept-Encoding", "gzip")])
            equal((response.status, response.fields.get("transfer-encoding")), (200, "chunked"))
            equal(gzip.decompress(response.body), files["page"])
    with lab.check("gzip that hardly shrinks, 10 MiB"), Connection(oxy.address("reverse")) as client:
        response = client.exchange("GET", "/gzip/10m", [("Accept-Encoding", "gzip")])
        equal(gzip.decompress(response.body), files["10m"])
    with lab.check("server-side includes, in chunks"), Connection(oxy.address("reverse")) as client:
        for _ in range(4):
            response = client.exchange("GET", "/ssi/page")
            equal((response.status, response.fields.get("transfer-encoding")), (200, "chunked"))
            equal(response.body, files["page"].partition(b"-->")[2])
    with lab.check("503 is passed on"), Connection(oxy.address("reverse")) as client:
        for _ in range(4):
            equal(client.exchange("GET", "/gone").status, 503)
    with lab.check("404 is passed on"), Connection(oxy.address("reverse")) as client:
        equal(client.exchange("GET", "/nowhere").status, 404)


def closing(lab, oxy, files):
    with lab.check("connections that end after 3 requests, 8 clients"):

        def client(_):
            with Connection(oxy.address("reverse")) as connection:
                for _ in range(50):
                    response = connection.exchange("GET", "/64k")
                    equal((response.status, response.body), (200, files["64k"]))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(client, range(8)))
    with lab.check("connections that end after 40 ms of silence, unannounced"):
        with Connection(oxy.address("reverse")) as client:
            for n in range(60):
                # Around the very moment at which it closes.
                time.sleep(0.036 + n % 10 * 0.001)
                response = client.exchange("GET", "/brief/1")
                equal((response.status, response.body), (200, files["1"]))


def refused(lab, oxy):
    with lab.check("413 while uploading reaches the client"):
        for _ in range(10):
            with Connection(oxy.address("reverse")) as client:
                # nginx answers the head and reads on for a while.
                client.send(b"POST /upload HTTP/1.1\r\nHost: interop\r\nContent-Length: 4000000\r\n\r\n")
                try:
                    client.send(bytes(4_000_000))
                except (BrokenPipeError, ConnectionResetError):
                    pass  # it need not be taken to its end
                equal(client.response("POST").status, 413)
    with lab.check("413 while uploading in chunks reaches the client"):
        with Connection(oxy.address("reverse")) as client:
            client.send(b"POST /upload HTTP/1.1\r\nHost: interop\r\nTransfer-Encoding: chunked\r\n\r\n")
            try:
                for _ in range(40):
                    client.send(b"186a0\r\n" + bytes(100_000) + b"\r\n")
                client.send(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass
            equal(client.response("POST").status, 413)


def in_front(lab, nginx):
    address = nginx.address
    for prefix in ("", "/unbuffered", "/http10"):
        kind = prefix.strip("/") or "buffered"
        with lab.check(f"in front of oxy, {kind}: downloads"), Connection(address) as client:
            for size in (0, 1, 70_000, 3_000_000):
                response = client.exchange("GET", f"{prefix}/bytes/{size}/front")
                equal((response.status, response.body), (200, content(size, "front")))
        # Of an origin that answers when it has everything: nginx stops uploading as soon as it has passed on a head, so
        # that the built-in origin's echo would wait for the rest for ever.
        with lab.check(f"in front of oxy, {kind}: uploads"), Connection(address) as client:
            for size in (0, 1, 70_000, 3_000_000):
                data = content(size, prefix)
                equal(client.exchange("POST", f"{prefix}/echo", body=data).body, data)
        with lab.check(f"in front of oxy, {kind}: 206 and 404"), Connection(address) as client:
            response = client.exchange("GET", f"{prefix}/bytes/9000/front", [("Range", "bytes=10-4009")])
            equal((response.status, response.body), (206, content(9000, "front")[10:4010]))
            equal(client.exchange("GET", f"{prefix}/nowhere").status, 404)


class Nginx(Child):
    def __init__(self, program, directory, port):
        # -e: before it has read its settings it would write to a file of the system's.
        command = [program, "-e", "stderr", "-p", directory, "-c", "nginx.conf"]
        super().__init__(command, directory / "log")
        self.address = ("127.0.0.1", port)
        self.at = f"127.0.0.1:{port}"
        try:
            eventually(self.listens, "nginx listens")
        except BaseException:
            self.__exit__()
            raise

    def listens(self):
        if not self.alive:
            raise AssertionError(f"nginx does not start: {self.said()}")
        try:
            Connection(self.address).close()
        except OSError:
            return False
        return True


def start(lab, program, config, files=()):
    directory = lab.path("nginx")
    (directory / "files").mkdir(parents=True)
    for name in files:
        (directory / "files" / name).write_bytes(files[name])
    port = lab.free_port()
    (directory / "nginx.conf").write_text(COMMON + config.replace("@PORT@", str(port)))
    return Nginx(program, directory, port)
