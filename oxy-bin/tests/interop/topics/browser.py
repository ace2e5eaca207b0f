"""Chromium, without a window, over HTTP/2: 100 images at a time, a WebSocket, an upload that is streamed."""

import base64
import hashlib
import html
import json
import re
import struct
import subprocess
import threading
import zlib

from child import Child
from content import content
from origin import Handler, Origin
from report import equal
from topics.websocket import Old
from wait import eventually

IMAGES = 100
PARTS, PART = 20, 50_000
DOWN = 3_000_000

PAGE = """<!DOCTYPE html>
<title>interop</title>
<link rel="icon" href="data:,">
<body>
<pre id="result"></pre>
<img src="/held">
<script>
const hex = buffer => [...new Uint8Array(buffer)].map(byte => byte.toString(16).padStart(2, "0")).join("");
const digest = async buffer => hex(await crypto.subtle.digest("SHA-256", buffer));

async function images() {
  const loading = [...Array(@IMAGES@).keys()].map(async n => {
    const image = new Image();
    image.src = `/image/${n}`;
    await image.decode();
    return image.naturalWidth;
  });
  return await Promise.all(loading);
}

async function socket() {
  const socket = new WebSocket(`wss://${location.host}/chat`);
  socket.binaryType = "arraybuffer";
  const next = name => new Promise((done, failed) => {
    socket.addEventListener(name, done, {once: true});
    socket.addEventListener("error", () => failed(new Error("the WebSocket failed")), {once: true});
  });
  await next("open");
  const said = [];
  for (const message of ["Grüße", new Uint8Array(200000).fill(7)]) {
    const answer = next("message");
    socket.send(message);
    const {data} = await answer;
    said.push(typeof data === "string" ? data : await digest(data));
  }
  const closing = next("close");
  socket.send("close 4321 so long");
  const {code, reason, wasClean} = await closing;
  return {said, extensions: socket.extensions, code, reason, wasClean};
}

async function upload() {
  let n = 0;
  const body = new ReadableStream({pull(controller) {
    if (n === @PARTS@) return controller.close();
    controller.enqueue(new Uint8Array(@PART@).fill(n++));
  }});
  return await (await fetch("/upload", {method: "POST", body, duplex: "half"})).json();
}

async function run() {
  const result = {};
  try {
    result.images = await images();
    result.socket = await socket();
    result.upload = await upload();
    result.download = await digest(await (await fetch("/bytes/@DOWN@/browser")).arrayBuffer());
    result.status = (await fetch("/nowhere")).status;
  } catch (error) {
    result.error = String(error);
  }
  result.protocols = performance.getEntriesByType("resource").map(entry => [new URL(entry.name).pathname, entry.nextHopProtocol]);
  result.page = performance.getEntriesByType("navigation")[0].nextHopProtocol;
  document.getElementById("result").textContent = JSON.stringify(result);
  await fetch("/done", {method: "POST"});
}
run();
</script>
"""

CONFIG = """
workers: 2
access_log: {{format: json, path: {log}}}
clusters:
  - {{name: pages, endpoints: ["{pages}"]}}
  - {{name: chat, endpoints: ["{chat}"]}}
listeners:
  - name: page
    listen: ["https://127.0.0.1:0"]
    tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}
    http:
      routes:
        - routes:
            - {{match: {{path: /chat}}, to: chat}}
            - {{to: pages}}
"""


def run(lab):
    chromium = lab.need("chromium")
    with Pages() as pages, Old() as chat:
        log = lab.path("access.log")
        config = lab.file("oxy.yaml", CONFIG.format(log=log, pages=pages.at, chat=chat.at, cert=lab.cert, key=lab.key))
        with lab.oxy("run", "--config", config) as oxy:
            result = {}
            with lab.check("Chromium loads the page, and its script runs to its end"):
                result = visit(lab, chromium, f"https://localhost:{oxy.address('page')[1]}/")
                equal(result.get("error"), None, "what went wrong")
            if result:
                checks(lab, result, log)


def checks(lab, result, log):
    with lab.check(f"{IMAGES} images at a time, each the right one"):
        equal(result["images"], [n + 1 for n in range(IMAGES)], "the widths")
    with lab.check("everything came over HTTP/2"):
        equal(result["page"], "h2", "the page's protocol")
        others = [entry for entry in result["protocols"] if entry[1] != "h2"]
        equal(others, [], "what came otherwise")
        assert len(result["protocols"]) > IMAGES, f"{len(result['protocols'])} resources"
    with lab.check("a WebSocket: text, 200,000 bytes, and a close of the origin's"):
        socket = result["socket"]
        equal(socket["said"], ["Grüße", hashlib.sha256(bytes([7]) * 200_000).hexdigest()], "what came back")
        equal((socket["code"], socket["reason"], socket["wasClean"]), (4321, "so long", True))
        assert "permessage-deflate" in socket["extensions"], socket["extensions"]
    with lab.check("the WebSocket came over HTTP/2 too"):
        lines = eventually(lambda: entries(log, "/chat"), "it is in the access log")
        equal([line["network.protocol.version"] for line in lines], ["2"], "the version")
    with lab.check(f"an upload of {PARTS * PART} bytes, streamed"):
        whole = b"".join(bytes([n]) * PART for n in range(PARTS))
        equal(result["upload"], {"size": len(whole), "digest": hashlib.sha256(whole).hexdigest(), "length": None})
    with lab.check(f"a download of {DOWN} bytes, and a 404"):
        equal(result["download"], hashlib.sha256(content(DOWN, "browser")).hexdigest(), "the digest")
        equal(result["status"], 404)


def visit(lab, chromium, url):
    """What the page has written into itself once it is loaded, which it is when its script has come to its end."""
    profile = lab.path("profile")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
        f"--user-data-dir={profile}", f"--ignore-certificate-errors-spki-list={fingerprint(lab)}", "--dump-dom", url,
    ]
    with Child(command, lab.path("chromium.log"), stdout=subprocess.PIPE) as child:
        try:
            dom, _ = child.process.communicate(timeout=60)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"Chromium does not end: {child.said()}") from late
        found = re.search(r'<pre id="result">(.*?)</pre>', dom.decode(), re.S)
        assert found and found[1], f"no result in {dom.decode()[:500]!r}; {child.said()}"
    return json.loads(html.unescape(found[1]))


def fingerprint(lab):
    """Of the certificate's public key, by which Chromium is told to trust it."""
    openssl = lab.need("openssl")
    pem = subprocess.run([openssl, "x509", "-in", lab.cert, "-pubkey", "-noout"], capture_output=True, check=True).stdout
    der = subprocess.run([openssl, "pkey", "-pubin", "-outform", "der"], input=pem, capture_output=True, check=True).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def entries(log, path):
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line.get("url.path") == path]


class Pages(Origin):
    """The page, and what it asks for."""

    def __init__(self):
        self.done = threading.Event()
        super().__init__(PageHandler)


class PageHandler(Handler):
    def do_GET(self):
        match self.path.strip("/").split("/"):
            case [""]:
                page = PAGE
                for name, value in (("IMAGES", IMAGES), ("PARTS", PARTS), ("PART", PART), ("DOWN", DOWN)):
                    page = page.replace(f"@{name}@", str(value))
                self.say(page.encode(), "text/html; charset=utf-8")
            case ["image", n]:
                self.say(picture(int(n) + 1), "image/png")
            case ["held"]:
                self.server.done.wait(60)
                self.say(picture(1), "image/png")
            case _:
                super().do_GET()

    def do_POST(self):
        if self.path == "/done":
            self.server.done.set()
            self.answer(b"")
            return
        length = self.headers.get("Content-Length")
        body = self.chunked() if length is None else self.rfile.read(int(length))
        said = {"size": len(body), "digest": hashlib.sha256(body).hexdigest(), "length": length}
        self.say(json.dumps(said).encode(), "application/json")

    def say(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def picture(width):
    """A PNG of one line."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(width + 1))) + chunk(b"IEND", b"")
