"""A gigabyte each way through one HTTP/2 stream against a slow reader: memory stays where it was.

OXY_BULK_GIB=10 makes it ten.
"""

import os
import re
import socket
import subprocess
import threading
import time

from report import equal

SIZE = int(os.environ.get("OXY_BULK_GIB", "1")) << 30
# What readers take, in bytes a second: less than the writers give.
RATE = 250_000_000
# Windows and buffers of one stream on both sides, and what the allocator rounds that up to.
GROWTH = 8 * 1024


def run(lab):
    curl = [lab.need("curl"), "-sS", "--http2-prior-knowledge", "--max-time", "300"]
    with Origin() as origin, lab.oxy(
        "reverse", "--listen", "127.0.0.1:0", "--to", origin.at, "--workers", 1
    ) as oxy:
        url = f"http://{oxy.at('reverse')}/"
        before = rss(oxy.process.pid)
        watch = Watch(oxy.process.pid)
        try:
            down = subprocess.run(
                [*curl, "--limit-rate", str(RATE), "-o", os.devnull, "-w", "%{http_version} %{size_download}", url],
                capture_output=True, text=True, check=False,
            )
            zero = subprocess.Popen(["head", "-c", str(SIZE), "/dev/zero"], stdout=subprocess.PIPE)
            up = subprocess.run([*curl, "-T", "-", url], stdin=zero.stdout, capture_output=True, text=True, check=False)
            zero.stdout.close()
            zero.wait()
        finally:
            most = watch.stop()
        with lab.check("every byte comes down"):
            equal((down.stdout, down.stderr), (f"2 {SIZE}", ""))
        with lab.check("every byte goes up"):
            equal((up.stdout, up.stderr), (str(SIZE), ""))
        with lab.check(f"memory grew by less than {GROWTH // 1024} MiB ({before} KiB {most - before:+})"):
            if most - before > GROWTH:
                raise AssertionError(f"{before} KiB, and {most} KiB at most")


def rss(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


class Watch:
    """The most memory that a process has had."""

    def __init__(self, pid):
        self.pid, self.most, self.stopping = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self):
        while not self.stopping.wait(0.02):
            self.most = max(self.most, rss(self.pid))

    def stop(self):
        self.stopping.set()
        self.thread.join()
        return self.most


class Origin:
    """Gives as fast as it can, takes slowly, and says how much it has been given."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.at = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        try:
            with stream, stream.makefile("rb", buffering=1 << 20) as lines:
                while line := lines.readline():
                    while lines.readline().strip():
                        pass
                    self.give(stream) if line.startswith(b"GET") else self.take(stream, lines)
        except OSError:
            pass  # the client has what it wanted and is gone

    def give(self, stream):
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        piece = bytes(1 << 20)
        for _ in range(SIZE // len(piece)):
            stream.sendall(piece)

    def take(self, stream, lines):
        taken, began, room = 0, time.monotonic(), memoryview(bytearray(1 << 20))
        while size := int(lines.readline().split(b";")[0], 16):
            taken += size
            while size:
                size -= lines.readinto(room[:size])
            lines.readline()
            ahead = taken / RATE - (time.monotonic() - began)
            if ahead > 0.02:
                time.sleep(ahead)
        lines.readline()
        said = str(taken).encode()
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
