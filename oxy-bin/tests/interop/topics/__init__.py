"""The topics by name. Each is a module with `run(lab)`; its first line says what it is about."""

import importlib
from pathlib import Path

from report import Absent

ALL = (
    "curl", "nginx", "haproxy", "wrk", "upgrade", "tcp", "udp", "descriptors", "drain",
    "http2", "tls", "grpc", "websocket", "origins", "browser", "reload", "failover", "bulk",
)  # fmt: skip


def about(name):
    """Its first line, which can be read even where what it needs is not installed."""
    source = Path(__file__).with_name(f"{name}.py").read_text()
    return source.split('"""')[1].splitlines()[0]


def run(name, lab):
    try:
        importlib.import_module(f"topics.{name}").run(lab)
    except Absent as absent:
        lab.report.skip(str(absent))
    except ModuleNotFoundError as absent:
        lab.report.skip(f"the Python package {absent.name}")
    except Exception as error:  # a peer that does not start must not keep the other topics from running
        lab.report.broke("what it needs", error)
