#!/usr/bin/env python3
"""Oxy next to programs that other people wrote: README.md says what is checked."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import topics
from lab import Lab
from report import Report


def main():
    options = arguments()
    if options.list:
        for name in topics.ALL:
            print(f"{name:12} {topics.about(name)}")
        return 0
    # Leaving by an exception ends every `with`, and with it every child.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    report = Report()
    with tempfile.TemporaryDirectory(prefix="oxy-interop-") as directory:
        lab = Lab(options.oxy.resolve(), Path(directory), report)
        for name in options.only or topics.ALL:
            report.topic(name)
            topics.run(name, lab)
    return report.summary(options.require_peers)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oxy", type=Path, help="the binary under test")
    parser.add_argument("--only", action="append", choices=topics.ALL, help="a topic; may be repeated")
    parser.add_argument("--list", action="store_true", help="say which topics there are")
    parser.add_argument("--require-peers", action="store_true", help="fail if a peer is not installed")
    options = parser.parse_args()
    if not options.list and not options.oxy:
        parser.error("--oxy is needed")
    return options


if __name__ == "__main__":
    sys.exit(main())
