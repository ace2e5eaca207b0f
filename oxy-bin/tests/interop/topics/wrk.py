"""wrk: 64 connections for 3 s, without one wrong status or socket error."""

import re
import subprocess


def run(lab):
    wrk = lab.need("wrk")
    with lab.reverse("builtin") as oxy:
        for path in ("/bytes/1024", "/bytes/65536"):
            with lab.check(f"64 connections, 3 s, {path}") as remarks:
                url = f"http://{oxy.at('reverse')}{path}"
                command = [wrk, "--threads", "2", "--connections", "64", "--duration", "3s", url]
                done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
                # It prints these two only if there is something to print.
                assert "Socket errors" not in done.stdout, done.stdout
                assert "Non-2xx" not in done.stdout, done.stdout
                count = int(re.search(r"(\d+) requests in", done.stdout)[1])
                assert count > 100, done.stdout
                remarks.append(f"{count} requests")
