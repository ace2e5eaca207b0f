"""An HTTP/2 origin on hyper-h2: what it does with requests is said by whoever makes it."""

import socket
import socketserver
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

SETTINGS = h2.settings.SettingCodes


class Origin2(socketserver.ThreadingTCPServer):
    """Serves until the end of a `with`. `handler` makes an object for each connection, of a class below `Handler`."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, handler, tls=None):
        super().__init__(("127.0.0.1", 0), None)
        self.handler, self.tls = handler, tls
        self.connections = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def finish_request(self, request, _):
        self.connections += 1
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self.tls.wrap_socket(request, server_side=True) if self.tls else request
        try:
            self.handler(stream).run()
        except (OSError, h2.exceptions.ProtocolError):
            pass  # a proxy that hangs up is nothing to tell

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    @property
    def at(self):
        return f"127.0.0.1:{self.server_address[1]}"


class Handler:
    """A connection. Streams are numbers; what is sent waits for the windows here."""

    def __init__(self, stream):
        self.stream = stream
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.waiting = {}

    def began(self, number, fields):
        """A request's head has come."""

    def data(self, number, data):
        """Some of its body has."""

    def ended(self, number):
        """It has come to its end."""

    def reset(self, number):
        """The other side wants no more of it."""

    def head(self, number, fields, end=False):
        self.h2.send_headers(number, fields, end_stream=end)

    def send(self, number, data, end=False):
        waiting = self.waiting.setdefault(number, [bytearray(), False])
        waiting[0] += data
        waiting[1] |= end
        self.push()

    def push(self):
        for number, (data, end) in list(self.waiting.items()):
            while data and (room := min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)):
                self.h2.send_data(number, bytes(data[:room]), end_stream=end and room >= len(data))
                del data[:room]
                if not data and end:
                    del self.waiting[number]
                    break
            else:
                if end and not data:
                    self.h2.end_stream(number)
                    del self.waiting[number]

    def run(self):
        initial = {SETTINGS.MAX_CONCURRENT_STREAMS: 100, SETTINGS.ENABLE_CONNECT_PROTOCOL: 1}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=initial)
        self.h2.initiate_connection()
        while True:
            if data := self.h2.data_to_send():
                self.stream.sendall(data)
            if not (data := self.stream.recv(1 << 16)):
                return
            for event in self.h2.receive_data(data):
                self.take(event)
            self.push()

    def take(self, event):
        match event:
            case h2.events.RequestReceived():
                self.began(event.stream_id, dict(event.headers))
            case h2.events.DataReceived():
                if event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.data(event.stream_id, event.data)
            case h2.events.StreamEnded():
                self.ended(event.stream_id)
            case h2.events.StreamReset():
                self.waiting.pop(event.stream_id, None)
                self.reset(event.stream_id)
