"""The topics by name. Each is a module with `run(lab)`; its first line says what it is about."""

from report import Absent
from topics import curl, descriptors, drain, haproxy, nginx, tcp, udp, upgrade, wrk

ALL = {
    module.__name__.rpartition(".")[2]: module
    for module in (curl, nginx, haproxy, wrk, upgrade, tcp, udp, descriptors, drain)
}


def run(topic, lab):
    try:
        topic.run(lab)
    except Absent as absent:
        lab.report.skip(str(absent))
    except Exception as error:  # a peer that does not start must not keep the other topics from running
        lab.report.broke("what it needs", error)
