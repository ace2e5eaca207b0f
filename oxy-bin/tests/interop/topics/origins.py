"""nginx, HAProxy, Envoy and Caddy behind oxy, over TLS and HTTP/2, and in front of it; origins that say goodbye."""

import json
from concurrent.futures import ThreadPoolExecutor

import wire2
from child import Child
from content import content
from origin import Origin
from report import Absent, equal
from wait import eventually
from wire import Connection

SIZES = (0, 1, 70_000, 3_000_000)
# Behind oxy: the ports that a peer listens on, what is said to them, which version is spoken then, and over how many
# connections 20 requests one after another go.
ONE = range(1, 2)
FOUR = range(4, 7)
BEHIND = {
    "both": ("https", "TLS, h2 and http/1.1 offered", "2", ONE),
    "old": ("https", "TLS, http/1.1 offered", "1.1", ONE),
    "h2c": ("h2c", "h2c", "2", ONE),
    "hundred": ("https", "TLS and h2, a hundred requests for a connection", "2", ONE),
    "brief": ("https", "TLS and h2, five requests for a connection", "2", FOUR),
    "brief_h2c": ("h2c", "h2c, five requests for a connection", "2", FOUR),
}
# In front of it: how it is spoken to.
FRONT = {
    "front_h2": "HTTP/2 over TLS",
    "front_h1": "HTTP/1.1 over TLS",
    "front_h2c": "h2c",
}


def run(lab):
    with Origin() as origin, lab.secure(origin.at) as oxy:
        for name, (program, setting) in PEERS.items():
            try:
                peer(lab, name, lab.need(program), setting, Places(lab, origin, oxy))
            except Absent as absent:
                lab.report.skip(str(absent))


class Places:
    """Where things are that settings speak of."""

    def __init__(self, lab, origin, oxy):
        self.lab, self.origin = lab, origin.at
        self.tls, self.clear = oxy.at("tls"), oxy.at("clear")
        self.ca, self.cert, self.key = lab.authority.ca, lab.cert, lab.key
        self.ports = {}

    def port(self, name):
        self.ports[name] = self.lab.free_port()
        return self.ports[name]


def peer(lab, name, program, setting, places):
    directory = lab.path(name)
    directory.mkdir()
    command = [program, *setting(directory, places)]
    with Child(command, directory / "log") as child:
        for port in places.ports.values():
            eventually(lambda: listens(child, name, port), f"{name} listens")
        for kind, (scheme, what, version, connections) in BEHIND.items():
            if kind in places.ports:
                more = lab.trusting if scheme == "https" else ()
                with lab.secure(f"{scheme}://127.0.0.1:{places.ports[kind]}", more=more) as oxy:
                    behind(lab, f"{name} ({what})", oxy, version, connections)
        for kind, what in FRONT.items():
            if kind in places.ports:
                in_front(lab, f"{name} in front of oxy ({what})", ("127.0.0.1", places.ports[kind]))


def listens(child, name, port):
    if not child.alive:
        raise AssertionError(f"{name} does not start: {child.said()}")
    try:
        Connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def behind(lab, what, oxy, version, connections):
    clients = (
        ("HTTP/1.1", lambda: Connection(oxy.address("clear"))),
        ("HTTP/2 over TLS", lambda: wire2.Connection(oxy.address("tls"), lab.authority.client("h2"))),
    )
    for client, connect in clients:
        with lab.check(f"{what}, {client}: bodies both ways"), connect() as connection:
            for size in SIZES:
                response = connection.exchange("GET", f"/bytes/{size}/behind")
                equal((response.status, bytes(response.body)), (200, content(size, "behind")))
                response = connection.exchange("POST", "/echo", body=content(size, "up"))
                equal((response.status, bytes(response.body)), (200, content(size, "up")))
        with lab.check(f"{what}, {client}: errors are passed on"), connect() as connection:
            for _ in range(3):
                equal(connection.exchange("GET", "/gone").status, 503)
                equal(connection.exchange("GET", "/nowhere").status, 404)
                equal(bytes(connection.exchange("GET", "/bytes/5/after").body), content(5, "after"))
        with lab.check(f"{what}, {client}: the version that is spoken, and connections used again"), connect() as connection:
            responses = [fields(connection.exchange("GET", f"/bytes/{n}/reuse")) for n in range(20)]
            for response in responses:
                assert version in response["x-protocol"], f"{response['x-protocol']} was spoken"
            count = len({response["x-connection"] for response in responses})
            assert count in connections, f"{count} connections"
        with lab.check(f"{what}, {client}: 8 clients, 40 downloads each"):
            at_once(connect, lambda connection, n, seed: (connection.exchange("GET", f"/bytes/{n * 500}/{seed}"), content(n * 500, seed)))
        with lab.check(f"{what}, {client}: 8 clients, 40 uploads each"):
            # Up to what oxy can send again: an origin that says goodbye may have been sent some that it will not look at.
            at_once(connect, lambda connection, n, seed: (connection.exchange("POST", "/echo", body=content(n * 400, seed)), content(n * 400, seed)))
    if connections == FOUR:
        # Of so many at a time most would find one connection after another that takes no more.
        return
    with lab.check(f"{what}: 200 downloads at a time"):
        with wire2.Connection(oxy.address("tls"), lab.authority.client("h2")) as connection:
            numbers = []
            for n in range(200):
                # As many as oxy takes.
                connection.until(lambda: connection.h2.open_outbound_streams < 100)
                numbers.append(connection.request("GET", f"/bytes/{n * 100}/many"))
            for n, number in enumerate(numbers):
                response = connection.whole(number)
                equal((response.status, bytes(response.body)), (200, content(n * 100, "many")))


def at_once(connect, exchange):
    def client(seed):
        with connect() as connection:
            for n in range(40):
                response, wanted = exchange(connection, n, seed)
                equal((response.status, bytes(response.body)), (200, wanted))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))


def fields(response):
    """Of either version's responses."""
    return response.fields if isinstance(response.fields, dict) else dict(response.fields)


def in_front(lab, what, address):
    with lab.check(f"{what}: bodies both ways"), Connection(address) as client:
        for size in SIZES:
            response = client.exchange("GET", f"/bytes/{size}/front")
            equal((response.status, response.body), (200, content(size, "front")))
            response = client.exchange("POST", "/echo", body=content(size, "up"))
            equal((response.status, response.body), (200, content(size, "up")))
        equal(client.exchange("GET", "/nowhere").status, 404)
    with lab.check(f"{what}: 8 clients"):
        at_once(lambda: Connection(address), lambda connection, n, seed: (
            connection.exchange("POST", "/echo", body=content(n * 500, seed)), content(n * 500, seed)))


NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size 0;
    keepalive_requests 100000;
    ssl_certificate %(cert)s;
    ssl_certificate_key %(key)s;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_ssl_trusted_certificate %(ca)s;
    proxy_ssl_verify on;
    proxy_ssl_name localhost;
    grpc_ssl_trusted_certificate %(ca)s;
    grpc_ssl_verify on;
    grpc_ssl_name localhost;
    upstream origin { server %(origin)s; keepalive 16; }
    # One for each version: nginx would take a connection for the one and speak the other on it.
    upstream tls_h2 { server %(tls)s; keepalive 16; }
    upstream tls_h1 { server %(tls)s; keepalive 16; }
    upstream clear { server %(clear)s; keepalive 16; }
"""
NGINX_SERVER = """
    server {
        listen 127.0.0.1:%s;
        %s
        location / { %s; }
        location /gone { return 503; }
        add_header x-protocol $server_protocol always;
        add_header x-connection $remote_port always;
    }
"""


def nginx(directory, places):
    to_origin = "proxy_pass http://origin"
    servers = [
        (f"{places.port('both')} ssl http2", "", to_origin),
        (f"{places.port('old')} ssl", "", to_origin),
        (f"{places.port('h2c')} http2", "", to_origin),
        (f"{places.port('hundred')} ssl http2", "keepalive_requests 100;", to_origin),
        (f"{places.port('brief')} ssl http2", "keepalive_requests 5;", to_origin),
        (f"{places.port('brief_h2c')} http2", "keepalive_requests 5;", to_origin),
        (places.port("front_h2"), "", "grpc_pass grpcs://tls_h2"),
        (places.port("front_h1"), "", "proxy_pass https://tls_h1"),
        (places.port("front_h2c"), "", "grpc_pass grpc://clear"),
    ]
    text = NGINX % vars(places) + "".join(NGINX_SERVER % server for server in servers) + "}\n"
    (directory / "nginx.conf").write_text(text)
    return ["-e", "stderr", "-p", directory, "-c", "nginx.conf"]


HAPROXY = """
global
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend origins
    bind 127.0.0.1:%(both)s ssl crt %(pem)s alpn h2,http/1.1
    bind 127.0.0.1:%(old)s ssl crt %(pem)s alpn http/1.1
    bind 127.0.0.1:%(h2c)s proto h2
    http-request return status 503 if { path /gone }
    http-request set-var(txn.version) req.ver
    http-response set-header x-protocol %%[var(txn.version)]
    http-response set-header x-connection %%[src_port]
    default_backend origin
frontend front_h2
    bind 127.0.0.1:%(front_h2)s
    default_backend h2
frontend front_h1
    bind 127.0.0.1:%(front_h1)s
    default_backend h1
frontend front_h2c
    bind 127.0.0.1:%(front_h2c)s
    default_backend h2c
backend origin
    server origin %(origin)s
backend h2
    server oxy %(tls)s ssl verify required ca-file %(ca)s sni str(localhost) alpn h2
backend h1
    server oxy %(tls)s ssl verify required ca-file %(ca)s sni str(localhost) alpn http/1.1
backend h2c
    server oxy %(clear)s proto h2
"""


def haproxy(directory, places):
    pem = directory / "pair.pem"
    pem.write_bytes(places.cert.read_bytes() + places.key.read_bytes())
    for name in ("both", "old", "h2c", *FRONT):
        places.port(name)
    (directory / "haproxy.cfg").write_text(HAPROXY % {**vars(places), **places.ports, "pem": pem})
    return ["-db", "-f", directory / "haproxy.cfg"]


CADDY = """
{
    admin off
    auto_https off
    persist_config off
    storage file_system %(directory)s
    servers 127.0.0.1:%(both)s {
        protocols h1 h2
    }
    servers 127.0.0.1:%(old)s {
        protocols h1
    }
    servers 127.0.0.1:%(h2c)s {
        protocols h1 h2c
    }
}
(origin) {
    bind 127.0.0.1
    header >x-protocol {http.request.proto}
    header >x-connection {http.request.remote.port}
    respond /gone 503
    reverse_proxy %(origin)s
}
https://:%(both)s, https://:%(old)s {
    tls %(cert)s %(key)s
    import origin
}
http://:%(h2c)s {
    import origin
}
http://:%(front_h2)s {
    bind 127.0.0.1
    reverse_proxy https://%(tls)s {
        transport http {
            tls_trust_pool file %(ca)s
            tls_server_name localhost
            versions 2
        }
    }
}
http://:%(front_h1)s {
    bind 127.0.0.1
    reverse_proxy https://%(tls)s {
        transport http {
            tls_trust_pool file %(ca)s
            tls_server_name localhost
            versions 1.1
        }
    }
}
http://:%(front_h2c)s {
    bind 127.0.0.1
    reverse_proxy h2c://%(clear)s
}
"""


def caddy(directory, places):
    for name in ("both", "old", "h2c", *FRONT):
        places.port(name)
    (directory / "Caddyfile").write_text(CADDY % {**vars(places), **places.ports, "directory": directory})
    return ["run", "--config", directory / "Caddyfile", "--adapter", "caddyfile"]


def envoy(directory, places):
    listeners = [
        listener(places, "both", "origin", ["h2", "http/1.1"]),
        listener(places, "old", "origin", ["http/1.1"]),
        listener(places, "h2c", "origin"),
        listener(places, "hundred", "origin", ["h2"], most=100),
        listener(places, "brief", "origin", ["h2"], most=5),
        listener(places, "brief_h2c", "origin", most=5),
        *(listener(places, kind, kind) for kind in FRONT),
    ]
    clusters = [
        cluster("origin", places.origin),
        cluster("front_h2", places.tls, {"http2_protocol_options": {}}, places.ca),
        cluster("front_h1", places.tls, {"http_protocol_options": {}}, places.ca),
        cluster("front_h2c", places.clear, {"http2_protocol_options": {}}),
    ]
    settings = {"static_resources": {"listeners": listeners, "clusters": clusters}}
    # JSON is YAML.
    (directory / "envoy.yaml").write_text(json.dumps(settings))
    return ["-c", directory / "envoy.yaml", "--concurrency", 1, "--disable-hot-restart", "--log-level", "error"]


def typed(name, **fields):
    return {"@type": f"type.googleapis.com/envoy.{name}", **fields}


def socket_address(at):
    host, port = at.rsplit(":", 1)
    return {"socket_address": {"address": host, "port_value": int(port)}}


def file(path):
    return {"filename": str(path)}


def listener(places, name, to, alpn=None, most=0):
    routes = [
        {"match": {"path": "/gone"}, "direct_response": {"status": 503}},
        {"match": {"prefix": "/"}, "route": {"cluster": to}},
    ]
    told = [{"header": {"key": "x-protocol", "value": "%PROTOCOL%"}},
            {"header": {"key": "x-connection", "value": "%CONNECTION_ID%"}}]
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        common_http_protocol_options={"max_requests_per_connection": most} if most else {},
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes, "response_headers_to_add": told}]},
        http_filters=[{"name": "router", "typed_config": typed("extensions.filters.http.router.v3.Router")}],
    )
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    if alpn:
        pair = {"certificate_chain": file(places.cert), "private_key": file(places.key)}
        tls = typed("extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    common_tls_context={"tls_certificates": [pair], "alpn_protocols": alpn})
        chain["transport_socket"] = {"name": "tls", "typed_config": tls}
    return {"name": name, "address": socket_address(f"127.0.0.1:{places.port(name)}"), "filter_chains": [chain]}


def cluster(name, at, version=None, ca=None):
    ends = [{"endpoint": {"address": socket_address(at)}}]
    made = {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": ends}]}}
    if version:
        options = typed("extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config=version)
        made["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
    if ca:
        names = [{"san_type": "DNS", "matcher": {"exact": "localhost"}}]
        trust = {"trusted_ca": file(ca), "match_typed_subject_alt_names": names}
        alpn = ["h2"] if "http2_protocol_options" in version else ["http/1.1"]
        tls = typed("extensions.transport_sockets.tls.v3.UpstreamTlsContext", sni="localhost",
                    common_tls_context={"validation_context": trust, "alpn_protocols": alpn})
        made["transport_socket"] = {"name": "tls", "typed_config": tls}
    return made


PEERS = {
    "nginx": ("nginx", nginx),
    "HAProxy": ("haproxy", haproxy),
    "Envoy": ("envoy", envoy),
    "Caddy": ("caddy", caddy),
}
