"""A small origin of our own.

GET /bytes/N/SEED, POST /echo, GET /delay/MS, each with `?id=` to be remembered by; GET /trailers/N/SEED, GET /hints.
"""

import hashlib
import re
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler

from content import content


RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one segment each; Nagle's algorithm would wait for an acknowledgement between them.
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def do_GET(self):
        path, _, identity = self.path.partition("?id=")
        if identity:
            self.server.saw(identity)
        match path.strip("/").split("/"):
            case ["bytes", size, seed]:
                self.answer_range(content(int(size), seed))
            case ["delay", millis]:
                time.sleep(int(millis) / 1000)
                self.answer(identity.encode())
            case ["trailers", size, seed]:
                self.answer_with_trailers(content(int(size), seed))
            case ["hints"]:
                self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
                self.wfile.flush()
                self.answer(b"hinted")
            case _:
                self.answer(b"", 404)

    do_HEAD = do_GET

    def do_POST(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.answer(self.chunked())
        else:
            self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def handle_expect_100(self):
        super().handle_expect_100()
        # It would stay here, as long as the client waits for it.
        self.wfile.flush()
        return True

    def chunked(self):
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def answer_range(self, body):
        if asked := RANGE.fullmatch(self.headers.get("Range", "")):
            first, last = int(asked[1]), int(asked[2] or len(body) - 1)
            self.answer(body[first : last + 1], 206, f"bytes {first}-{last}/{len(body)}")
        else:
            self.answer(body)

    def answer(self, body, status=200, content_range=None):
        self.send_response(status)
        if content_range:
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_with_trailers(self, body):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "X-Digest, X-Empty")
        self.end_headers()
        for at in range(0, len(body), 10_000):
            part = body[at : at + 10_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\nX-Digest: %s\r\nX-Empty: \r\n\r\n" % hashlib.sha256(body).hexdigest().encode())

    def log_message(self, *_):
        pass


class Origin(socketserver.ThreadingTCPServer):
    """Serves until the end of a `with`, on a thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, handler=Handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.lock = threading.Lock()
        self.seen = {}
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def saw(self, identity):
        with self.lock:
            self.seen[identity] = self.seen.get(identity, 0) + 1

    def handle_error(self, *_):
        """A proxy that hangs up is nothing to print."""

    @property
    def at(self):
        return f"127.0.0.1:{self.server_address[1]}"
