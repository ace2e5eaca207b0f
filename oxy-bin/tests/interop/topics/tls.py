"""TLS by OpenSSL's client and Python's: versions, ALPN, names, resumption, client certificates, garbage, and cut ends."""

import re
import socket
import socketserver
import ssl
import struct
import subprocess
import threading

from certs import Authority
from content import content
from report import equal
from wait import PATIENCE
from wire import Connection, Cut, Ragged

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BODY = content(100_000, "cut")


def run(lab):
    with lab.secure("builtin") as oxy:
        versions(lab, oxy.address("tls"))
        s_client(lab, oxy.at("tls"))
        agreements(lab, oxy.address("tls"))
        resumption(lab, oxy.address("tls"))
        strays(lab, oxy.address("tls"))
    names(lab)
    mutual(lab)
    for kind in ("clear", "TLS"):
        with Cutter(lab, kind == "TLS") as origin:
            scheme, more = ("https", lab.trusting) if kind == "TLS" else ("http", ())
            with lab.secure(f"{scheme}://{origin.at}", more=more) as oxy:
                ends(lab, oxy, kind)
    suspicious(lab)


def versions(lab, address):
    for version in (V12, V13):
        with lab.check(f"Python, {version.name}") as remarks:
            with Connection(address, tls=lab.authority.client(version=version)) as client:
                remarks.append(client.socket.cipher()[0])
                for size in (1, 16_384, 1_000_000):
                    equal(client.exchange("GET", f"/bytes/{size}").body, b"." * size, "the body")
                    data = content(size, "tls")
                    equal(client.exchange("POST", "/echo", body=data).body, data, "the body")
    with lab.check("records of one byte"), Connection(address, tls=lab.authority.client()) as client:
        for byte in b"GET /bytes/5 HTTP/1.1\r\nHost: interop\r\n\r\n":
            client.send(bytes([byte]))
        equal(client.response().body, b".....")
    with lab.check("the client ends its side with its request, and gets the answer with an end"):
        equal(half_closed(lab, address), b"." * 300_000, "the body")


def half_closed(lab, address):
    """Python's sockets wait for the other side's end when they say theirs; its buffers do not."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = lab.authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(address, PATIENCE) as stream:

        def until_done(step):
            while True:
                try:
                    result = step()
                    stream.sendall(outgoing.read())
                    return result
                except ssl.SSLWantReadError:
                    stream.sendall(outgoing.read())
                    data = stream.recv(1 << 16)
                    incoming.write(data) if data else incoming.write_eof()

        until_done(tls.do_handshake)
        tls.write(b"GET /bytes/300000 HTTP/1.1\r\nHost: interop\r\nConnection: close\r\n\r\n")
        try:
            tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        stream.sendall(outgoing.read())
        whole = b""
        while True:
            try:
                data = until_done(lambda: tls.read(1 << 16))
            except ssl.SSLZeroReturnError:
                break
            if not data:
                break
            whole += data
        return whole.partition(b"\r\n\r\n")[2]


def s_client(lab, at):
    for option, version in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        for offered, agreed in (("h2,http/1.1", "h2"), ("http/1.1", "http/1.1")):
            with lab.check(f"openssl s_client, {version}, ALPN {offered}") as remarks:
                said = openssl(lab, at, option, "-alpn", offered)
                assert f"New, {version}" in said, said
                assert f"ALPN protocol: {agreed}" in said, said
                assert "Verify return code: 0 (ok)" in said, said
                remarks.append(re.search(r"Cipher is (\S+)", said)[1])
    with lab.check("openssl s_client without ALPN: HTTP/1.1"):
        said = openssl(lab, at, "-ign_eof", given="GET /bytes/7 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert "No ALPN negotiated" in said and "HTTP/1.1 200" in said and "......." in said, said
    with lab.check("openssl s_client: five resumptions of TLS 1.2"):
        said = openssl(lab, at, "-tls1_2", "-reconnect")
        equal(said.count("Reused, TLSv1.2"), 5, "the resumptions")
    for old in ("-tls1", "-tls1_1"):
        with lab.check(f"openssl s_client: {old[1:]} is refused"):
            said = openssl(lab, at, old, "-cipher", "ALL:@SECLEVEL=0", fails=True)
            assert "SSL alert number" in said, said


def openssl(lab, at, *options, given="", fails=False):
    command = [lab.need("openssl"), "s_client", "-connect", at, "-CAfile", lab.authority.ca, "-verify_return_error",
               "-servername", "localhost", *options]
    done = subprocess.run([str(word) for word in command], input=given.encode(), capture_output=True, timeout=30, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    if (done.returncode != 0) != fails:
        raise AssertionError(f"openssl ended with {done.returncode}: {said[-500:]}")
    return said


def agreements(lab, address):
    for offered, agreed in ((("h2", "http/1.1"), "h2"), (("http/1.1", "h2"), "h2"), (("http/1.1",), "http/1.1"),
                            (("h2",), "h2"), (("else", "http/1.1"), "http/1.1"), ((), None)):
        with lab.check(f"ALPN {', '.join(offered) or 'not offered'}: {agreed or 'none, HTTP/1.1'}"):
            with Connection(address, tls=lab.authority.client(*offered)) as client:
                equal(client.socket.selected_alpn_protocol(), agreed)
                if agreed != "h2":
                    equal(client.exchange("GET", "/bytes/3").body, b"...")
    with lab.check("ALPN else: refused, and told why"):
        # RFC 7301 section 3.2.
        with refused(ssl.SSLError, "NO APPLICATION PROTOCOL"), Connection(address, tls=lab.authority.client("else")):
            pass


class refused:
    """What is within fails, in this way."""

    def __init__(self, kind, words):
        self.kind, self.words = kind, words

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if error is None:
            raise AssertionError("it went well")
        if not isinstance(error, self.kind):
            return False
        if self.words not in str(error).upper():
            raise AssertionError(f"it failed otherwise: {error}")
        return True


def resumption(lab, address):
    for version in (V12, V13):
        with lab.check(f"{version.name}: 20 resumptions, over both workers"):
            context, session = lab.authority.client(version=version), None
            for n in range(21):
                with Connection(address, tls=context, session=session) as client:
                    equal(client.exchange("GET", "/bytes/3").body, b"...")
                    equal(client.socket.session_reused, n > 0, f"whether session {n} was one that goes on")
                    # TLS 1.3's come after the handshake.
                    session = client.socket.session


def strays(lab, address):
    with lab.check("HTTP in clear text is told so"):
        for request in (b"GET / HTTP/1.1\r\nHost: interop\r\n\r\n", b"POST / HTTP/1.0\r\n\r\n"):
            with Connection(address) as client:
                client.send(request)
                equal(client.response().status, 400)
                equal(client.socket.recv(1), b"", "what follows")
    hello = first_flight(lab)
    for what, data, ends in (
        ("random bytes", content(1000, "garbage"), False),
        ("zeroes", bytes(1000), False),
        ("a record that is too long", b"\x16\x03\x01\xff\xff" + content(70_000, "long"), False),
        ("a handshake that is too long", b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + content(16_380, "long"), False),
        ("an alert first", b"\x15\x03\x01\x00\x02\x02\x28", False),
        ("application data first", b"\x17\x03\x03\x00\x05hello", False),
        ("a ClientHello of an old version and no more", hello[:9] + b"\x02" + hello[10:43] + bytes(len(hello) - 43), False),
        ("a ClientHello and garbage", hello + content(500, "after"), False),
        ("SSL 2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + content(40, "ssl2"), False),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", False),
        ("nothing, and an end", b"", True),
        ("half a ClientHello, and an end", hello[: len(hello) // 2], True),
        ("a ClientHello, and an end", hello, True),
    ):
        with lab.check(f"instead of a handshake {what}: the connection ends"):
            with socket.create_connection(address, PATIENCE) as client:
                try:
                    client.sendall(data)
                    if ends:
                        client.shutdown(socket.SHUT_WR)
                    while client.recv(4096):
                        pass
                except (ConnectionResetError, BrokenPipeError):
                    pass
    with lab.check("100 clients that begin and go"):
        for n in range(100):
            with socket.create_connection(address, PATIENCE) as client:
                client.sendall(hello[: n * len(hello) // 100])
    with lab.check("after all of that it serves"), Connection(address, tls=lab.authority.client()) as client:
        equal(client.exchange("GET", "/bytes/3").body, b"...")


def first_flight(lab):
    """What a client says first."""
    outgoing = ssl.MemoryBIO()
    tls = lab.authority.client().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def names(lab):
    pairs = [lab.authority.leaf("first.test", "127.0.0.1"), lab.authority.leaf("a.test", kind="rsa"),
             lab.authority.leaf("*.b.test", "b.test")]
    options = [word for cert, key in pairs for word in ("--cert", cert, "--key", key)]
    with lab.oxy("reverse", "--listen", "https://127.0.0.1:0", "--to", "builtin", *options) as oxy:
        address = oxy.address("reverse")
        for version in (V12, V13):
            for name, wanted in (("first.test", 0), ("a.test", 1), ("A.TEST", 1), ("b.test", 2), ("x.b.test", 2),
                                 ("else.test", 0), ("a.x.b.test", 0), (None, 0)):
                with lab.check(f"SNI, {version.name}, {name or 'no name'}: certificate {wanted + 1} of 3"):
                    context = lab.authority.client(version=version)
                    context.check_hostname = False
                    with Connection(address, tls=context, name=name) as client:
                        shown = client.socket.getpeercert(binary_form=True)
                        equal(shown, ssl.PEM_cert_to_DER_cert(pairs[wanted][0].read_text()), "the certificate")
        for name in ("first.test", "a.test", "x.b.test"):
            with lab.check(f"a client that checks names is content with {name}"):
                with Connection(address, tls=lab.authority.client(), name=name) as client:
                    equal(client.exchange("GET", "/bytes/3").body, b"...")


MUTUAL = """
workers: 2
listeners:
  - name: required
    listen: ["https://127.0.0.1:0"]
    tls: &tls
      certificates: [{{cert: {cert}, key: {key}}}]
      client_auth: {{mode: required, ca: [{ca}]}}
    http: {{to: [builtin], client_identity: x-client}}
  - name: optional
    listen: ["https://127.0.0.1:0"]
    tls:
      certificates: [{{cert: {cert}, key: {key}}}]
      client_auth: {{mode: optional, ca: [{ca}]}}
    http: {{to: [builtin], client_identity: x-client}}
"""


def mutual(lab):
    clients, strangers = Authority(lab, "clients"), Authority(lab, "strangers")
    known, unknown = clients.leaf("client.test"), strangers.leaf("client.test")
    config = lab.file("mutual.yaml", MUTUAL.format(cert=lab.cert, key=lab.key, ca=clients.ca).replace("&tls", ""))
    with lab.oxy("run", "--config", config, listeners=2) as oxy:

        def ask(place, pair, version):
            context = lab.authority.client(version=version)
            if pair:
                context.load_cert_chain(*pair)
            with Connection(oxy.address(place), tls=context) as client:
                response = client.exchange("GET", "/echo", [("X-Client", "a forged one")])
                equal(response.status, 200)
                lines = response.body.decode().lower().splitlines()
                return dict(line.split(": ", 1) for line in lines if ": " in line)

        for version in (V12, V13):
            for place in ("required", "optional"):
                with lab.check(f"client certificates, {version.name}, {place}: a good one, of which the origin is told"):
                    told = ask(place, known, version).get("x-client", "")
                    assert "dns=client.test" in told and "forged" not in told, told
                with lab.check(f"client certificates, {version.name}, {place}: a stranger's is refused"):
                    with refused((ssl.SSLError, Cut, Ragged, OSError), ""):
                        ask(place, unknown, version)
            with lab.check(f"client certificates, {version.name}, required: none is refused"):
                with refused((ssl.SSLError, Cut, Ragged, OSError), ""):
                    ask("required", None, version)
            with lab.check(f"client certificates, {version.name}, optional: none is served, and nothing is forged"):
                assert "x-client" not in ask("optional", None, version)


def ends(lab, oxy, kind):
    """A response that ends with its connection: a whole one, and one that was cut."""
    secure = lambda: Connection(oxy.address("tls"), tls=lab.authority.client("http/1.1"))
    for version in ("HTTP/1.0", "HTTP/1.1"):
        with lab.check(f"a {kind} origin ends its connection: whole for {version} over TLS"), secure() as client:
            equal(client.exchange("GET", "/whole", version=version).body, BODY, "the body")
        with lab.check(f"a {kind} origin's connection is cut: an error for {version} over TLS"):
            for _ in range(5):
                with secure() as client, refused((Cut, Ragged), ""):
                    client.exchange("GET", "/cut", version=version)
        with lab.check(f"a {kind} origin's connection is cut: an error for {version} in clear text"):
            for _ in range(5):
                with Connection(oxy.address("clear")) as client:
                    client.send(f"GET /cut {version}\r\nHost: interop\r\n\r\n".encode())
                    got = until_end(client.socket)
                    assert got is None or (b"chunked" in got.lower() and not got.endswith(b"0\r\n\r\n")), got[-50:]
    import wire2

    for place, tls in (("clear", None), ("tls", lab.authority.client("h2"))):
        with lab.check(f"a {kind} origin ends its connection: whole for HTTP/2 ({place})"):
            with wire2.Connection(oxy.address(place), tls) as client:
                equal(bytes(client.exchange("GET", "/whole").body), BODY, "the body")
        with lab.check(f"a {kind} origin's connection is cut: a reset stream of HTTP/2 ({place}), no more"):
            with wire2.Connection(oxy.address(place), tls) as client:
                for _ in range(5):
                    number = client.request("GET", "/cut")
                    stream = client.streams[number]
                    client.until(lambda: stream.ended or stream.reset is not None)
                    assert not stream.ended, f"it looks whole, with {len(stream.body)} bytes"
                equal(bytes(client.exchange("GET", "/whole").body), BODY, "the body")


def until_end(stream):
    """All that comes up to a proper end; none if there was no such."""
    parts = []
    try:
        while data := stream.recv(1 << 16):
            parts.append(data)
    except ConnectionResetError:
        return None
    return b"".join(parts)


def suspicious(lab):
    """What oxy must not trust: an authority that it does not know, and a certificate for somebody else."""
    stranger = Authority(lab, "elsewhere")
    for what, pair in (("an authority that is not known", stranger.leaf("127.0.0.1")),
                       ("another name", lab.authority.leaf("other.test"))):
        with Cutter(lab, pair=pair) as origin:
            with lab.check(f"an origin with a certificate of {what}: 502, and it sees no request"):
                with lab.secure(f"https://{origin.at}", more=lab.trusting) as oxy:
                    with Connection(oxy.address("clear")) as client:
                        equal(client.exchange("GET", "/whole").status, 502)
                equal(origin.requests, 0)
            with lab.check(f"the same with --insecure: 200"):
                with lab.secure(f"https://{origin.at}", more=["--insecure"]) as oxy:
                    with Connection(oxy.address("clear")) as client:
                        equal(client.exchange("GET", "/whole").body, BODY, "the body")


class Cutter(socketserver.ThreadingTCPServer):
    """An origin whose responses end with their connections: properly, or not."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, lab, secure=True, pair=None):
        super().__init__(("127.0.0.1", 0), None)
        self.tls = lab.authority.server(*(pair or lab.pair), "http/1.1") if secure else None
        self.at = f"127.0.0.1:{self.server_address[1]}"
        self.requests = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """A proxy that does not trust us is nothing to print."""

    def finish_request(self, request, _):
        stream = self.tls.wrap_socket(request, server_side=True) if self.tls else request
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := stream.recv(4096)):
                return
            head += data
        self.requests += 1
        stream.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY)
        if b" /whole " in head.partition(b"\r\n")[0]:
            if self.tls:
                # Says so, and does not care for an answer.
                stream.setblocking(False)
                try:
                    stream.unwrap()
                except OSError:
                    pass
            return
        if self.tls:
            # The socket ends, and TLS does not.
            stream.setblocking(True)
            stream.shutdown(socket.SHUT_WR)
            stream.close()
        else:
            self.reset(stream)

    @staticmethod
    def reset(stream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()

    def shutdown_request(self, request):
        if request.fileno() >= 0:
            super().shutdown_request(request)
