"""The binary under test as a child process."""

import re
import subprocess
import threading

from child import Child

LINE = re.compile(r"listening on (\S+) \((.+)\)")


class Oxy(Child):
    """Runs until the end of a `with`, and knows where it listens."""

    def __init__(self, program, arguments, listeners, log, before_exec=None):
        super().__init__([program, *arguments], log, stdout=subprocess.PIPE, before_exec=before_exec)
        self.places = {}
        try:
            self.learn(listeners)
        except BaseException:
            self.__exit__()
            raise

    def learn(self, listeners):
        while len(self.places) < listeners:
            line = self.process.stdout.readline().decode()
            if not line:
                raise AssertionError(f"oxy does not start: {self.said()}")
            if found := LINE.match(line):
                self.places[found[2]] = found[1]
        # Nothing more is expected; a full pipe would hold it up all the same.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def at(self, name):
        """The address of a listener, as text."""
        return self.places[name].removeprefix("udp:")

    def address(self, name):
        """The same as a pair."""
        host, port = self.at(name).rsplit(":", 1)
        return host, int(port)
