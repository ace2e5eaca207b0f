"""What was checked and how it went: a line for each check, and a summary."""

import contextlib
import time
import traceback
from pathlib import Path


class Absent(Exception):
    """A program that the topic needs is not installed."""


class Report:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.absent = {}
        self.name = ""

    def topic(self, name):
        self.name = name

    def skip(self, peer):
        self.absent.setdefault(peer, []).append(self.name)
        self.line("skipped", f"{peer} is not installed")

    @contextlib.contextmanager
    def check(self, what):
        """What fails within is one failed check, and the next one goes on. Yields a list for remarks."""
        begun, remarks = time.monotonic(), []
        try:
            yield remarks
        except Exception as error:  # whatever a check trips over is its failure
            self.broke(what, error)
        else:
            self.passed += 1
            self.line("ok", what, f"{time.monotonic() - begun:.1f} s", *remarks)

    def broke(self, what, error):
        self.failed.append(f"{self.name}: {what}")
        self.line("FAILED", what, f"{where(error)}: {type(error).__name__}: {error}")

    def line(self, outcome, what, *remarks):
        remarks = f" ({'; '.join(remarks)})" if remarks else ""
        print(f"{outcome:8} {self.name}: {what}{remarks}", flush=True)

    def summary(self, require_peers):
        """Prints it, and gives the exit code."""
        print(f"\n{self.passed} passed, {len(self.failed)} failed")
        for what in self.failed:
            print(f"  failed: {what}")
        for peer, names in self.absent.items():
            print(f"  skipped: {', '.join(names)}, as {peer} is not installed")
        nothing = not self.passed and not self.failed and not self.absent
        return 1 if self.failed or nothing or (require_peers and self.absent) else 0


def where(error):
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def equal(got, wanted, what="it"):
    """Fails unless both are the same, and says so without printing megabytes."""
    if got != wanted:
        raise AssertionError(f"{what} is {shown(got)}, not {shown(wanted)}")


def shown(value):
    if isinstance(value, (bytes, bytearray)) and len(value) > 60:
        return f"{bytes(value[:40])!r}... of {len(value)} bytes"
    return repr(value)
