#!/usr/bin/env python3
"""Certificates by themselves, against pebble: the authority that Let's Encrypt gives to those who write clients.

Prints a line for each check, as run.py reads them. Pebble refuses one nonce in twenty, reuses half of what was proved,
and forgets everything when it ends.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import server

ISSUE_TIMEOUT_S = 60
#: The first wait behind a failure is 45 to 75 seconds.
RETRY_TIMEOUT_S = 110
#: A third of it is 10 seconds.
SHORT_LIFE_S = 30
LONG_LIFE_S = 90 * 86_400
EAB = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")
HOOK = """#!/usr/bin/python3
import json, sys, urllib.request
verb, name, value = sys.argv[1:]
what, body = ("set-txt", {"host": name + ".", "value": value}) if verb == "add" else ("clear-txt", {"host": name + "."})
urllib.request.urlopen("http://127.0.0.1:PORT/" + what, json.dumps(body).encode(), timeout=10)
"""

failures = 0


def tell(right, text):
    global failures
    failures += not right
    print(f"{'ok' if right else 'not ok'} {text}", flush=True)
    return right


def wait_for(condition, timeout_s=ISSUE_TIMEOUT_S):
    """What `condition` returns once that is something; None when it takes too long."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ssl.SSLError):
            found = condition()
            if found:
                return found
        time.sleep(0.2)
    return None


class Process:
    def __init__(self, command, log, **environment):
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=dict(os.environ, **environment))

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Pebble:
    """An authority and its name server, on ports of this machine."""

    def __init__(self, tls_port, http_port):
        self.folder = Path(tempfile.mkdtemp(prefix="couplet-pebble-"))
        self.port, self.management, self.dns, self.records = server.free_ports(4)
        self.tls_port, self.http_port = tls_port, http_port
        self.log, self.process = self.folder / "pebble.log", None
        self.make_certificate()
        self.names = Process(
            ["pebble-challtestsrv", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "",
             "-dns01", f"127.0.0.1:{self.dns}", "-management", f"127.0.0.1:{self.records}"],
            self.folder / "names.log")
        self.hook = self.folder / "hook"
        self.hook.write_text(HOOK.replace("PORT", str(self.records)))
        self.hook.chmod(0o755)

    def make_certificate(self):
        """Root and certificate of pebble's own HTTPS."""
        def openssl(*args):
            subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, cwd=self.folder)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *key, "-keyout", "root.key", "-out", "root.pem", "-days", "2", "-subj", "/CN=root")
        openssl("req", *key, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=localhost")
        (self.folder / "own.ext").write_text("subjectAltName=DNS:localhost\n")
        openssl("x509", "-req", "-in", "own.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
                "-out", "own.pem", "-days", "2", "-extfile", "own.ext")

    def start(self, life_s=LONG_LIFE_S, refused=(), binding=False, **environment):
        config = {
            "listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.folder / "own.pem"), "privateKey": str(self.folder / "own.key"),
            "httpPort": self.http_port, "tlsPort": self.tls_port, "certificateValidityPeriod": life_s,
            "domainBlocklist": list(refused), "externalAccountBindingRequired": binding}
        if binding:
            config["externalAccountMACKeys"] = dict([EAB])
        path = self.folder / "config.json"
        path.write_text(json.dumps({"pebble": config}))
        self.log.write_text("")
        self.process = Process(
            ["pebble", "-config", path, "-strict", "-dnsserver", f"127.0.0.1:{self.dns}"], self.log,
            **{"PEBBLE_VA_NOSLEEP": "1", **environment})
        if not wait_for(lambda: server.listening(self.port), 20):
            raise RuntimeError(f"pebble does not start: {self.log.read_text()}")
        trust = ssl.create_default_context(cafile=str(self.folder / "root.pem"))
        roots = urllib.request.urlopen(f"https://localhost:{self.management}/roots/0", context=trust, timeout=10)
        self.root = roots.read().decode()
        return self

    def stop(self):
        if self.process:
            self.process.stop()

    def unknown(self, name):
        """From now on name servers fail when they are asked for this name."""
        body = json.dumps({"host": name}).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{self.records}/set-servfail", body, timeout=10)

    def orders(self):
        return len(re.findall(r"Added order ", self.log.read_text(errors="replace")))

    def remove(self):
        self.stop()
        self.names.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Couplet(server.Couplet):
    """With settings of its own."""

    def __init__(self, binary):
        super().__init__(binary)
        self.settings = {}

    def environment(self):
        named = {f"COUPLET_{name.upper()}": str(value) for name, value in self.settings.items()}
        return {**super().environment(), **named}

    def set(self, pebble, hosts, challenge="tls-alpn-01", **acme):
        acme = {"enabled": "true", "terms_agreed": "true", "challenge": challenge, "contacts": "romeo@a.example",
                "directory": f"https://localhost:{pebble.port}/dir", "ca": pebble.folder / "root.pem", "dns_wait": "0s",
                **acme}
        self.settings = {"hosts": hosts, **{f"acme__{name}": value for name, value in acme.items()}}

    def run(self, *args):
        return subprocess.run([self.binary, *args], text=True, env=self.environment(), cwd=self.folder, timeout=120,
                              stdin=subprocess.DEVNULL, capture_output=True)

    def shown(self, host, root):
        """The certificate that a client sees who believes this root; none when it does not believe it."""
        context = ssl.create_default_context(cadata=root)
        with socket.create_connection(("127.0.0.1", self.tls_port), timeout=5) as plain:
            with context.wrap_socket(plain, server_hostname=host) as tls:
                return tls.getpeercert()

    def names(self, host, root):
        """Its names, once it is by this authority."""
        return sorted(name for _, name in self.shown(host, root)["subjectAltName"])

    def status_of(self, url):
        try:
            return urllib.request.urlopen(url, timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def forget(self):
        self.stop()
        shutil.rmtree(self.folder / "data", ignore_errors=True)


def by_each_challenge(pebble, couplet):
    alone = {"listen": f"127.0.0.1:{pebble.http_port}"}
    for challenge, more in (
            ("tls-alpn-01", {}), ("http-01", alone), ("dns-01", {"hook": pebble.hook, "names": "*.a.example"})):
        pebble.start()
        couplet.set(pebble, "a.example,localhost", challenge, **more)
        couplet.start()
        wanted = ["*.a.example", "a.example"] if "names" in more else ["a.example"]
        found = wait_for(lambda: couplet.names("a.example", pebble.root))
        tell(found == wanted, f"{challenge}: a certificate that clients believe, for {found}")
        if challenge == "http-01":
            for path in ("healthz", ".well-known/acme-challenge/x"):
                told = couplet.status_of(f"http://127.0.0.1:{pebble.http_port}/{path}")
                tell(told == 404, f"{challenge}: {path} is not on the port for proofs: {told}")
        listed = couplet.run("cert", "list").stdout
        tell("a.example+acme.pem" in listed and "Pebble Intermediate" in listed and "by itself" in listed,
             f"{challenge}: `cert list` shows it")
        tell("itself: clients ask" in listed, f"{challenge}: localhost keeps its self-signed one")
        secrets = [couplet.folder / "data/acme/account.key", couplet.folder / "data/certs/a.example+acme.pem"]
        tell(all(path.stat().st_mode & 0o777 == 0o600 for path in secrets), f"{challenge}: keys are closed to others")
        again = couplet.run("cert", "renew")
        tell(again.returncode == 0 and "nothing is due" in again.stdout, f"{challenge}: nothing is due")
        before = couplet.shown("a.example", pebble.root)["serialNumber"]
        again = couplet.run("cert", "renew", "a.example")
        after = couplet.shown("a.example", pebble.root)["serialNumber"]
        tell(again.returncode == 0 and before != after, f"{challenge}: renewed when told, in force at once")
        couplet.forget()
        pebble.stop()


def renewal(pebble, couplet):
    pebble.start(life_s=SHORT_LIFE_S)
    couplet.set(pebble, "a.example")
    couplet.start()
    serial = lambda: couplet.shown("a.example", pebble.root)["serialNumber"]
    first = wait_for(serial)
    second = wait_for(lambda: serial() != first and serial(), SHORT_LIFE_S)
    tell(first and second, "renewal: in force before the old one ends, without a restart")
    restarted = couplet.stop() == 0 and couplet.start()
    third = wait_for(lambda: serial() != second and serial(), SHORT_LIFE_S)
    tell(restarted and third, "renewal: the same after a restart")
    couplet.forget()
    pebble.stop()


def refused(pebble, couplet):
    # Of names with more labels than others it cannot refuse any without falling over them.
    pebble.start(refused=["refused.example"])
    pebble.unknown("bad.a.example")
    couplet.set(pebble, "refused.example,a.example,b.example", names="bad.a.example,good.a.example")
    couplet.start()
    found = wait_for(lambda: couplet.names("b.example", pebble.root))
    tell(found == ["b.example"], "refused: the host behind it has its certificate")
    found = wait_for(lambda: couplet.names("a.example", pebble.root))
    tell(found == ["a.example", "good.a.example"], f"refused: a name beside a host's own is left out: {found}")
    status, check = couplet.run("status").stdout, couplet.run("check")
    for text in (status, check.stdout):
        tell("certificate of refused.example: " in text and "leave it out of acme.hosts" in text,
             "refused: told with what to do")
        tell("certificate of a.example: without bad.a.example: " in text, "refused: told which name was left out")
    tell("(rejectedIdentifier)" in status and "next attempt 2" in status, "refused: why, and when next")
    renewed = couplet.run("cert", "renew", "refused.example")
    tell(renewed.returncode == 1 and "refused.example" in renewed.stderr, "refused: `cert renew` returns 1")
    log = couplet.log_path.read_text()
    tell(log.count("certificate of refused.example") == 1, "refused: one line in the log")
    couplet.forget()
    pebble.stop()


def down(pebble, couplet):
    couplet.set(pebble, "a.example")
    couplet.start()
    told = wait_for(lambda: "the authority cannot be reached" in couplet.run("status").stdout)
    tell(told, "down: told")
    own = couplet.folder / "data/certs/a.example.crt"
    tell("a.example" in couplet.names("a.example", own.read_text()), "down: the self-signed one serves meanwhile")
    pebble.start()
    found = wait_for(lambda: couplet.names("a.example", pebble.root), RETRY_TIMEOUT_S)
    tell(found == ["a.example"], "down: it comes back, and is asked again by itself")
    tell("cannot be reached" not in couplet.run("status").stdout, "down: nothing is told any more")
    # Another one at the same place, which knows neither the account nor the order.
    pebble.stop()
    pebble.start()
    renewed = couplet.run("cert", "renew", "a.example")
    found = wait_for(lambda: couplet.names("a.example", pebble.root))
    tell(renewed.returncode == 0 and found, f"down: an authority that has forgotten us is told anew: {renewed.stderr}")
    couplet.forget()
    pebble.stop()


def nonces(pebble, couplet):
    pebble.start(PEBBLE_WFE_NONCEREJECT="50")
    couplet.set(pebble, "a.example,b.example")
    couplet.start()
    found = [wait_for(lambda: couplet.names(host, pebble.root)) for host in ("a.example", "b.example")]
    tell(all(found), "nonces: every other one is refused")
    couplet.forget()
    pebble.stop()


def bound_account(pebble, couplet):
    pebble.start(binding=True)
    couplet.set(pebble, "a.example")
    couplet.start()
    told = wait_for(lambda: "set acme.eab_key_id and acme.eab_hmac_key" in couplet.run("status").stdout)
    tell(told, "external account: told that one is needed")
    couplet.stop()
    couplet.set(pebble, "a.example", eab_key_id=EAB[0], eab_hmac_key=EAB[1])
    # Other settings are tried at once.
    couplet.start()
    found = wait_for(lambda: couplet.names("a.example", pebble.root))
    tell(found == ["a.example"], "external account: a certificate with its key")
    tell(EAB[1] not in couplet.run("config", "show").stdout, "external account: the key is not shown")
    couplet.forget()
    pebble.stop()


def terms(pebble, couplet):
    pebble.start()
    couplet.set(pebble, "a.example", terms_agreed="false")
    couplet.start()
    told = wait_for(lambda: "set acme.terms_agreed = true" in couplet.run("status").stdout)
    tell(told, "terms: nothing without agreement")
    tell(pebble.orders() == 0, "terms: nothing was ordered")
    couplet.forget()
    pebble.stop()


def restart(pebble, couplet):
    # Half of what was proved is reused: without that, both ways are the same each time. The authority is told of the
    # proof three seconds later, and the server is killed before.
    pebble.start(PEBBLE_AUTHZREUSE="0")
    couplet.set(pebble, "a.example", "dns-01", hook=pebble.hook, dns_wait="3s")
    couplet.start()
    order = couplet.folder / "data/acme/a.example.order"
    tell(wait_for(order.exists), "restart: what is begun is written down")
    couplet.kill()
    couplet.start()
    found = wait_for(lambda: couplet.names("a.example", pebble.root))
    tell(found == ["a.example"], "restart: killed in the middle, it goes on")
    tell(pebble.orders() == 1, f"restart: with the same order: {pebble.orders()}")
    tell(not order.exists(), "restart: the order is forgotten in the end")
    couplet.forget()
    pebble.stop()


CHECKS = (by_each_challenge, renewal, refused, down, nonces, bound_account, terms, restart)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--only", action="append", choices=[check.__name__ for check in CHECKS])
    args = parser.parse_args()
    with Couplet(args.binary) as couplet:
        pebble = Pebble(couplet.tls_port, server.free_ports(1)[0])
        try:
            for check in CHECKS:
                if not args.only or check.__name__ in args.only:
                    before = failures
                    try:
                        check(pebble, couplet)
                    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                        tell(False, f"{check.__name__}: {error}")
                    if failures > before:
                        print(f"the server's log ends so:\n{couplet.log_tail(30)}")
                        print("pebble's ends so:\n" + "\n".join(pebble.log.read_text().splitlines()[-20:]), flush=True)
                    couplet.forget()
                    pebble.stop()
        finally:
            pebble.remove()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
