"""Certificates of an authority of our own, made by openssl: a day is enough for them."""

import itertools
import ssl
import subprocess


class Authority:
    """`ca` is the file by which others trust what it has made."""

    def __init__(self, lab, name="interop"):
        self.openssl = lab.need("openssl")
        self.lab = lab
        self.serial = itertools.count(1)
        self.ca, self.key = lab.path(f"{name}-ca.pem"), lab.path(f"{name}-ca.key")
        self.run("req", "-x509", *self.fresh(self.key), "-subj", f"/CN={name} authority", "-days", "1", "-out", self.ca,
                 "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")

    def leaf(self, *names):
        """A certificate and its key, as files, for `names`, of which some may be addresses."""
        places = [f"{'IP' if name.replace('.', '').isdigit() else 'DNS'}:{name}" for name in names]
        extensions = self.lab.file("extensions", f"subjectAltName={','.join(places)}\nbasicConstraints=CA:FALSE\n")
        asked, cert, key = (self.lab.path(f"{names[0]}.{end}") for end in ("csr", "pem", "key"))
        self.run("req", *self.fresh(key), "-subj", f"/CN={names[0]}", "-out", asked)
        self.run("x509", "-req", "-in", asked, "-CA", self.ca, "-CAkey", self.key, "-set_serial", next(self.serial),
                 "-days", "1", "-extfile", extensions, "-out", cert)
        return cert, key

    def client(self, *alpn):
        """What a client of Python's takes, which trusts it."""
        context = ssl.create_default_context(cafile=self.ca)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def server(self, cert, key, *alpn):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def fresh(self, key):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key]

    def run(self, *words):
        done = subprocess.run([self.openssl, *map(str, words)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"openssl {words[0]}: {done.stderr.strip()}")
