"""Waiting for things without guessing how long they take."""

import time

PATIENCE = 20.0


def eventually(probe, what, seconds=PATIENCE, pause=0.01):
    """Asks again and again until the answer is not false, and gives it."""
    deadline = time.monotonic() + seconds
    while True:
        if value := probe():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(pause)
