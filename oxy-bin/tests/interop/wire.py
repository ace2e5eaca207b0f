"""An HTTP/1.1 client that hides nothing: what was sent, what came, and whether it was all."""

import socket
import ssl

from wait import PATIENCE


class Cut(Exception):
    """The connection ended before the response had. `seen` is how much of it had come."""

    def __init__(self, seen):
        super().__init__(f"the connection ended after {seen} bytes of the response")
        self.seen = seen


class Ragged(Exception):
    """TLS did not come to its end but the connection did: nobody can tell if something is missing."""


class Response:
    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.version = lines[0].split(" ")[0]
        self.fields = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            self.fields[name.strip().lower()] = value.strip()
        self.body = body

    @property
    def closes(self):
        return self.version == "HTTP/1.0" or "close" in self.fields.get("connection", "").lower()


class Connection:
    """`tls`, if given, is a context."""

    def __init__(self, address, patience=PATIENCE, tls=None, name="localhost", session=None):
        self.socket = socket.create_connection(address, patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(
                self.socket, server_hostname=name, session=session, suppress_ragged_eofs=False
            )
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def exchange(self, method, path, fields=(), body=b"", version="HTTP/1.1"):
        """Sends a request, and waits for its response."""
        head = [f"{method} {path} {version}", "Host: interop"]
        head += [f"{name}: {value}" for name, value in fields]
        if body or method in ("POST", "PUT"):
            head.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*head, "", ""]).encode() + body)
        return self.response(method)

    def response(self, method="GET"):
        seen = len(self.buffer)
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            seen += self.more(seen)
        head, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
        response = Response(head, b"")
        if method != "HEAD" and response.status not in (204, 304) and response.status >= 200:
            response.body = self.body(response, len(head))
        return response

    def body(self, response, seen):
        if "chunked" in response.fields.get("transfer-encoding", ""):
            return self.chunks(seen)
        if (length := response.fields.get("content-length")) is not None:
            return self.take(int(length), seen)
        try:
            while True:
                self.more(seen)
        except Cut:
            body, self.buffer = self.buffer, b""
            return body

    def chunks(self, seen):
        parts = []
        while True:
            size = int(self.line(seen).split(b";")[0], 16)
            if size == 0:
                while self.line(seen):
                    pass
                return b"".join(parts)
            parts.append(self.take(size, seen))
            if self.line(seen):
                raise AssertionError("a chunk is longer than it says")

    def line(self, seen):
        while (end := self.buffer.find(b"\r\n")) < 0:
            self.more(seen)
        line, self.buffer = self.buffer[:end], self.buffer[end + 2 :]
        return line

    def take(self, size, seen):
        parts, left = [self.buffer[:size]], size - len(self.buffer[:size])
        self.buffer = self.buffer[size:]
        while left:
            self.more(seen + size - left)
            parts.append(self.buffer[:left])
            left -= len(parts[-1])
            self.buffer = self.buffer[len(parts[-1]) :]
        return b"".join(parts)

    def more(self, seen):
        try:
            data = self.socket.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        except ssl.SSLEOFError as error:
            raise Ragged from error
        if not data:
            raise Cut(seen)
        self.buffer += data
        return len(data)
