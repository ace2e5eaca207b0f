"""An HTTP/2 client on hyper-h2 that hides nothing: every head, every byte, every reset."""

import socket

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

from wait import PATIENCE


class Gone(Exception):
    """The connection ended, and what was waited for had not come."""


class Stream:
    def __init__(self):
        self.informational = []
        self.fields = None
        self.body = bytearray()
        self.trailers = None
        self.ended = False
        self.reset = None
        # Whether what comes is to be followed by more.
        self.held = 0
        self.holds = False

    @property
    def status(self):
        return int(dict(self.fields)[":status"]) if self.fields else None


class Connection:
    """`tls`, if given, is a context which offers h2."""

    def __init__(self, address, tls=None, name="localhost", patience=PATIENCE):
        self.socket = socket.create_connection(address, patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=name)
            if self.socket.selected_alpn_protocol() != "h2":
                raise AssertionError(f"h2 was not agreed to: {self.socket.selected_alpn_protocol()}")
        self.name = name
        self.scheme = "https" if tls else "http"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.streams = {}
        self.goaway = None
        self.settled = False
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def flush(self):
        if data := self.h2.data_to_send():
            self.socket.sendall(data)

    def request(self, method, path, fields=(), end=True):
        head = [(":method", method), (":scheme", self.scheme), (":authority", self.name), (":path", path), *fields]
        return self.begin(head, end)

    def begin(self, head, end):
        """Sends a head as it is, and gives the stream's number."""
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = Stream()
        self.h2.send_headers(number, head, end_stream=end)
        self.flush()
        return number

    def send(self, number, data, end=False):
        """All of it, as the other side's windows allow."""
        stream = self.streams[number]
        view = memoryview(data)
        while view and stream.reset is None:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(view))
            if not room:
                self.more()
                continue
            self.h2.send_data(number, bytes(view[:room]), end_stream=end and room == len(view))
            view = view[room:]
            self.flush()
        if end and not data:
            self.h2.end_stream(number)
            self.flush()

    def exchange(self, method, path, fields=(), body=b""):
        number = self.request(method, path, fields, end=not body)
        if body:
            self.send(number, body, end=True)
        return self.whole(number)

    def whole(self, number):
        """Waits for the end of the response."""
        stream = self.streams[number]
        self.until(lambda: stream.ended or stream.reset is not None)
        if stream.reset is not None:
            raise Gone(f"stream {number} was reset: {stream.reset!r}")
        return stream

    def head(self, number):
        """Waits for the response's head."""
        stream = self.streams[number]
        self.until(lambda: stream.fields or stream.reset is not None)
        if not stream.fields:
            raise Gone(f"stream {number} was reset: {stream.reset!r}")
        return stream

    def until(self, probe):
        while not probe():
            self.more()

    def more(self):
        """Takes what comes next."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise Gone(f"the connection ended, after GOAWAY {self.goaway!r}")
        for event in self.h2.receive_data(data):
            self.take(event)
        self.flush()

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        match event:
            case h2.events.InformationalResponseReceived():
                stream.informational.append(event.headers)
            case h2.events.ResponseReceived():
                stream.fields = event.headers
            case h2.events.TrailersReceived():
                stream.trailers = event.headers
            case h2.events.DataReceived():
                stream.body += event.data
                if stream.holds:
                    stream.held += event.flow_controlled_length
                elif event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                stream.reset = event.error_code
            case h2.events.ConnectionTerminated():
                self.goaway = event.error_code
            case h2.events.RemoteSettingsChanged():
                self.settled = True
