"""Child processes that do not outlive this one, whatever happens to it."""

import ctypes
import os
import signal
import subprocess

from wait import PATIENCE

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Child:
    """A process that is killed at the end of a `with`, or when this process dies without one."""

    def __init__(self, command, log, stdout=None, before_exec=None):
        parent = os.getpid()

        def prepare():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            if before_exec:
                before_exec()

        self.log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=stdout or out,
                stderr=out,
                preexec_fn=prepare,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    @property
    def pid(self):
        return self.process.pid

    @property
    def alive(self):
        return self.process.poll() is None

    def said(self):
        """The end of its log."""
        return self.log.read_text(errors="replace")[-500:]

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def ended(self, seconds=PATIENCE):
        """Waits for its end, and gives the exit code."""
        return self.process.wait(seconds)
