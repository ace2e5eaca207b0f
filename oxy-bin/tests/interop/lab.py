"""What every topic is given: the binary, a directory, and somewhere to report to."""

import functools
import itertools
import os
import shutil
import socket
import sys
from pathlib import Path

from certs import Authority
from oxy import Oxy
from report import Absent

COUNTER = itertools.count()
# Runs next to each other look in different places.
PORTS = itertools.count(os.getpid() * 7)


class Lab:
    def __init__(self, program, directory, report):
        self.program = program
        self.directory = directory
        self.check = report.check
        self.report = report

    def path(self, name):
        """A path that nobody else was given."""
        return self.directory / f"{next(COUNTER)}-{name}"

    def file(self, name, text):
        path = self.path(name)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def oxy(self, *arguments, listeners=1, before_exec=None):
        """Starts it; to be used in a `with`."""
        return Oxy(self.program, arguments, listeners, self.path("oxy.log"), before_exec)

    def reverse(self, *to, more=()):
        """Starts a reverse proxy to `to`."""
        targets = [word for address in to for word in ("--to", address)]
        return self.oxy("reverse", "--listen", "127.0.0.1:0", *targets, "--workers", 2, *more)

    def secure(self, *to, more=()):
        """The same, which takes TLS at `tls` and clear text at `clear`."""
        targets = [word for address in to for word in ("--to", address)]
        places = ["--listen", "127.0.0.1:0", "--listen", "https://127.0.0.1:0", "--cert", self.cert, "--key", self.key]
        oxy = self.oxy("reverse", *places, *targets, "--workers", 2, *more, listeners=2)
        oxy.places = dict(zip(("clear", "tls"), oxy.places.values()))
        return oxy

    @functools.cached_property
    def authority(self):
        """Whom the peers trust, and oxy where it is told to."""
        return Authority(self)

    @functools.cached_property
    def pair(self):
        """A certificate for this machine, and its key."""
        return self.authority.leaf("localhost", "127.0.0.1")

    @property
    def cert(self):
        return self.pair[0]

    @property
    def key(self):
        return self.pair[1]

    @property
    def trusting(self):
        """What has oxy trust the same authority, at origins."""
        return ["--ca", self.authority.ca]

    def need(self, peer):
        """The path of a program; without it the topic is skipped."""
        # Where Debian has its daemons is not on everybody's path, nor is where pip puts programs.
        places = (None, "/usr/sbin:/sbin:/usr/local/sbin", str(Path(sys.executable).parent))
        found = next(filter(None, (shutil.which(peer, path=path) for path in places)), None)
        if not found:
            raise Absent(peer)
        return found

    def free_port(self):
        """A port for a peer that cannot choose one itself."""
        # Below the ephemeral range, so that no outgoing connection takes it meanwhile.
        for _ in range(10_000):
            port = 10_000 + next(PORTS) % 20_000
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue
        raise AssertionError("no port is free")
