#!/usr/bin/env python3
"""Interop: other people's clients against the real binary over real TLS.

    tests/interop/run.py --binary target/debug/couplet          slixmpp, @xmpp/client, stanza.js and, where Chromium
                                                                is, web clients in it, as `make test` runs them
    tests/interop/run.py ... --clients                          libstrophe, gloox, profanity and poezio too, for `make interop`
    tests/interop/run.py ... --federation               and servers: Debian's Prosody and ejabberd
    tests/interop/run.py ... --moving                   and what Debian's Prosody and ejabberd have kept moves in
    tests/interop/run.py ... --acme                             and pebble, an authority that issues certificates
    tests/interop/run.py ... --strict                           what cannot be installed is a failure
    tests/interop/run.py --kind prosody                         the same checks against Debian's Prosody

A client that cannot be installed is skipped, and the line says why; with --strict, or where CI is set, that is a
failure.
"""

import argparse
import os
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import server
import tools

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
#: SASLprep and the escaping of both formats have something to do here.
PASSWORD = "p=encil, ünï ♥"
#: @xmpp/client's PLAIN cannot send more than ASCII.
ASCII_PASSWORD = "p=encil, cup"
USERS = {
    "romeo": PASSWORD, "juliet": PASSWORD, "mer,cu=tio": PASSWORD,
    "benvolio": ASCII_PASSWORD, "rosaline": ASCII_PASSWORD,
    "tybalt": ASCII_PASSWORD, "nurse": ASCII_PASSWORD,
    "paris": ASCII_PASSWORD, "rosencrantz": ASCII_PASSWORD,
    "valentine": ASCII_PASSWORD, "petruchio": ASCII_PASSWORD,
    "launce": ASCII_PASSWORD, "panthino": ASCII_PASSWORD,
    "friar": ASCII_PASSWORD, "abram": ASCII_PASSWORD,
    "balthasar": ASCII_PASSWORD, "potpan": ASCII_PASSWORD,
    server.ADMIN: ASCII_PASSWORD, "capulet": ASCII_PASSWORD,
}
CLIENT_TIMEOUT_S = 180
FEDERATION_TIMEOUT_S = 1200
ACME_TIMEOUT_S = 900
#: Worker, storage, hashing, and the parked helper of async-io.
#: Threads that always are; those of the tier `balanced` come with their first task.
THREADS = {"async-io", "couplet", "couplet-hash", "couplet-store"}
LATER = {"couplet-archive", "couplet-files"}


class Tally:
    """Reads the clients' lines (`ok`, `not ok`, `skip`), shows them, counts them."""

    def __init__(self, strict=False):
        self.strict = strict or bool(os.environ.get("CI"))
        self.passed = self.failed = self.skipped = 0
        self.lock = threading.Lock()

    def line(self, client, text):
        with self.lock:
            if text.startswith("ok "):
                self.passed += 1
            elif text.startswith("not ok "):
                self.failed += 1
            elif text.startswith("skip "):
                self.skipped += 1
            print(f"{client}: {text}", flush=True)

    def missing(self, client, why):
        self.line(client, f"{'not ok' if self.strict else 'skip'} all checks: {why}")


class Client:
    """A client's process; each line that it prints goes to the tally."""

    def __init__(self, tally, name, command, **how):
        self.tally, self.name, self.ready = tally, name, threading.Event()
        self.failed_lines = 0
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", **how)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for text in self.process.stdout:
            text = text.rstrip("\n")
            if text == "ready":
                self.ready.set()
                continue
            self.failed_lines += text.startswith("not ok ")
            self.tally.line(self.name, text)
        self.ready.set()

    def go_on(self):
        """What the client has waited for is done."""
        self.process.stdin.close()

    def finish(self, timeout_s=CLIENT_TIMEOUT_S):
        """Waits for the end; an end that no line explained is a failure of its own."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.tally.line(self.name, f"not ok the run as a whole: still running after {timeout_s} s")
            return
        self.reader.join(10)
        if code != 0 and not self.failed_lines:
            self.tally.line(self.name, f"not ok the run as a whole: ended with code {code}")


def run_slixmpp(tally, host, python):
    bindings = [f"{version}={kind}" for version, kind in sorted(host.bindings.items()) if kind != "tls-exporter"]
    if host.kind == "couplet":
        bindings.append("TLSv1.3=tls-server-end-point")
    tokens = [host.invite("--contact", "romeo@localhost")] if host.kind == "couplet" else []
    ours = host.kind == "couplet"
    component = ["--component", host.component_port, "--secret", server.COMPONENT_SECRET] if ours else []
    https = ["--https"] if ours and tools.answers(host.https_port) else []
    extra = [part for binding in bindings for part in ("--binding", binding)]
    Client(tally, "slixmpp", [
        python, HERE / "slix.py", "checks", *slix_address(host), "--user", "romeo", "--peer", "juliet",
        "--odd", "mer,cu=tio", "--password", PASSWORD, *extra, *(f"--token={token}" for token in tokens),
        *component, *https]).finish()


def slix_address(host):
    return ["--starttls", host.starttls_port, "--tls", host.tls_port, "--ca", host.certificate]


def xmppjs_command(host, node, mode, user, peer):
    command = [*node, HERE / "xmppjs.mjs", mode, "--starttls", host.starttls_port, "--tls", host.tls_port,
               "--user", user, "--peer", peer, "--password", ASCII_PASSWORD]
    if "tls-exporter" in host.bindings.values():
        command.append("--exporter")
    return command


def run_xmppjs(tally, host, folder, node, mode, user, peer):
    environment = dict(os.environ, NODE_EXTRA_CA_CERTS=str(host.certificate))
    Client(tally, "@xmpp/client", xmppjs_command(host, node, mode, user, peer), cwd=folder, env=environment).finish()


def run_websocket(tally, host, folder, node):
    """Only a server with HTTP has it: the tier `balanced`, not `minimal`."""
    if host.kind != "couplet" or not tools.answers(host.https_port):
        tally.line("@xmpp/client", "skip WebSocket and BOSH: this build has no HTTP")
        return
    environment = dict(os.environ, NODE_EXTRA_CA_CERTS=str(host.certificate))
    command = [*xmppjs_command(host, node, "websocket", "friar", "abram"),
               "--websocket", f"wss://localhost:{host.https_port}/xmpp-websocket"]
    Client(tally, "@xmpp/client", command, cwd=folder, env=environment).finish()
    Client(tally, "stanza.js", [
        *node, HERE / "stanzajs.mjs", "--base", f"https://localhost:{host.https_port}", "--user", "friar",
        "--peer", "abram", "--password", ASCII_PASSWORD], cwd=folder, env=environment).finish()


def run_browsers(tally, host, folder, node, screens):
    """Web clients in Chromium. What they show at the end stays in a folder, to be looked at."""
    if host.kind != "couplet" or not tools.answers(host.https_port):
        tally.line("browsers", "skip web clients: this build has no HTTP")
        return
    common = ["--base", f"https://localhost:{host.https_port}", "--user", "balthasar", "--peer", "potpan",
              "--password", ASCII_PASSWORD]
    Client(tally, "strophe.js", [*node, HERE / "strophejs.mjs", *common], cwd=folder).finish()
    Client(tally, "converse.js", [
        *node, HERE / "conversejs.mjs", *common, "--screens", screens.resolve()], cwd=folder).finish()


def run_cross(tally, host, python, folder, node):
    """@xmpp/client as tybalt, slixmpp as the nurse."""
    common = [*slix_address(host), "--peer", "nurse", "--password", ASCII_PASSWORD]
    partner = Client(tally, "slixmpp", [python, HERE / "slix.py", "partner", *common])
    if not partner.ready.wait(30):
        tally.line("slixmpp", "not ok the other side: not ready after 30 s")
    run_xmppjs(tally, host, folder, node, "cross", "tybalt", "nurse")
    partner.finish()
    Client(tally, "slixmpp", [python, HERE / "slix.py", "offline", *common]).finish()


def run_journeys(tally, host, python):
    """slixmpp through rooms, nodes and resumption, with a restart of the server in the midst of it."""
    client = Client(tally, "slixmpp", [
        python, HERE / "journeys.py", *slix_address(host), "--user", "valentine", "--peer", "petruchio",
        "--odd", "romeo", "--password", ASCII_PASSWORD, "--odd-password", PASSWORD])
    if client.ready.wait(CLIENT_TIMEOUT_S) and client.process.poll() is None:
        code = host.stop()
        tally.line("server", "ok ended for a restart" if code == 0 else f"not ok ended for a restart: code {code}")
        host.start()
        client.go_on()
    client.finish()


def run_admin(tally, host, python):
    """slixmpp as an administrator; at last it has the server restarted, which ends so that a supervisor does that."""
    if not tools.answers(host.http_port):
        tally.line("slixmpp", "skip commands of administrators: this build is not of the tier balanced")
        return
    Client(tally, "slixmpp", [
        python, HERE / "admin.py", *slix_address(host), "--user", server.ADMIN, "--peer", "capulet", "--new", "mab",
        "--password", ASCII_PASSWORD]).finish()
    code = host.wait()
    tally.line("server", "ok ended for a restart that an administrator wants" if code == 1 else
               f"not ok ended for a restart that an administrator wants: code {code}")
    host.start()
    # It answers when all of it is there.
    host.invite()


def run_profanity(tally, host):
    Client(tally, "profanity", [
        sys.executable, HERE / "profanity.py", *slix_address(host), "--user", "paris", "--peer", "rosencrantz",
        "--password", ASCII_PASSWORD]).finish()


def run_strophe(tally, host, program):
    Client(tally, "libstrophe", [
        program, host.starttls_port, host.tls_port, host.certificate, server.HOST, "launce", "panthino",
        ASCII_PASSWORD]).finish()


def run_gloox(tally, host, program):
    """Stream compression, which only a server of the tier `balanced` has."""
    if host.kind != "couplet" or not tools.answers(host.http_port):
        tally.line("gloox", "skip stream compression: this build has none")
        return
    Client(tally, "gloox", [
        program, host.starttls_port, host.certificate, server.HOST, "launce", ASCII_PASSWORD]).finish()


def run_poezio(tally, host, program):
    Client(tally, "poezio", [
        sys.executable, HERE / "poezio_tmux.py", "--poezio", program, *slix_address(host), "--user", "launce",
        "--peer", "panthino", "--password", ASCII_PASSWORD]).finish()


def run_federation(tally, binary, python):
    """Without a peer there is nothing to be said about federation, and that is a failure."""
    try:
        tools.federation()
    except tools.Missing as why:
        tally.line("federation", f"not ok all checks: {why}")
        return
    Client(tally, "federation", [python, HERE / "federation.py", "--binary", binary]).finish(FEDERATION_TIMEOUT_S)


def run_moving(tally, binary, python):
    """What a real Prosody and a real ejabberd have kept, imported."""
    try:
        tools.moving()
    except tools.Missing as why:
        tally.missing("moving", why)
        return
    for name, *how in (("prosody",), ("sqlite", "--storage", "sql"), ("ejabberd", "--source", "ejabberd"),
                       ("ejabberd's tables", "--source", "ejabberd", "--storage", "sql")):
        Client(tally, f"from {name}", [python, HERE / "moving.py", "--binary", binary, *how]).finish()


def run_acme(tally, binary):
    try:
        tools.pebble()
    except tools.Missing as why:
        tally.missing("pebble", why)
        return
    Client(tally, "pebble", [sys.executable, HERE / "acme.py", "--binary", binary]).finish(ACME_TIMEOUT_S)


def run_promtool(tally, host):
    """/metrics as Prometheus reads it, after all that the clients did; HTTP is of the tier `balanced`."""
    if host.kind != "couplet" or not tools.answers(host.http_port):
        tally.line("promtool", "skip /metrics: this build has no HTTP")
        return
    try:
        tools.promtool()
    except tools.Missing as why:
        tally.missing("promtool", why)
        return
    url = f"http://127.0.0.1:{host.http_port}/metrics"
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    said = " | ".join((done.stdout + done.stderr).split("\n")).strip(" |")
    is_right = done.returncode == 0 and not said
    tally.line("promtool", f"ok /metrics, {len(text.splitlines())} lines" if is_right else f"not ok /metrics: {said}")
    open_metrics = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text"})
    text = urllib.request.urlopen(open_metrics, timeout=10).read().decode()
    counted = [line for line in text.splitlines()
               if line.startswith('couplet_stanza_latency_seconds_count{to="client"} ') and not line.endswith(" 0")]
    is_right = len(counted) == 1 and text.endswith("\n# EOF\n")
    tally.line("promtool", f"{'ok' if is_right else 'not ok'} OpenMetrics with the latency of stanzas")
    rules = (ROOT / "cross/deploy/prometheus/couplet.rules.yml").read_text()
    wanted = set(re.findall(r"\b(?:couplet|process)_\w+", "\n".join(re.findall(r"expr:(.*?)\n +\w+:", rules, re.DOTALL))))
    missing = sorted(name for name in wanted if f"\n{name}" not in text)
    is_right = len(wanted) > 12 and not missing
    tally.line("promtool", f"{'ok' if is_right else 'not ok'} figures that alerts look at: {missing or len(wanted)}")


def check_threads(tally, host):
    """The threads that README and `about` name, and no other, after all that the clients did."""
    names = sorted(path.read_text().strip() for path in Path(f"/proc/{host.pid}/task").glob("*/comm"))
    right = len(set(names)) == len(names) and THREADS <= set(names) <= THREADS | LATER
    tally.line("server", f"{'ok' if right else 'not ok'} {len(names)} threads: {', '.join(names)}")


def check_end(tally, host):
    """A server that was asked to end does so, with code 0 and no panic in its log."""
    log = host.log_path.read_text(errors="replace")
    code = host.stop()
    tally.line("server", "ok ended when asked" if code == 0 else f"not ok ended when asked: code {code}")
    if "panicked" in log:
        tally.line("server", "not ok no panic in the log: see above")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("couplet", "prosody"), default="couplet")
    parser.add_argument("--binary", type=Path, default=ROOT / "target/debug/couplet")
    parser.add_argument("--work", type=Path, default=ROOT / "target/interop", help="for what has to be installed")
    parser.add_argument("--clients", action="store_true", help="libstrophe and gloox, and profanity and poezio in tmux, too")
    parser.add_argument("--federation", action="store_true", help="with Prosody and ejabberd, too")
    parser.add_argument("--moving", action="store_true", help="with imports from Prosody and ejabberd, too")
    parser.add_argument("--acme", action="store_true", help="with pebble, too")
    parser.add_argument("--strict", action="store_true", help="fail where a client cannot be had")
    parser.add_argument("--only", action="append", choices=(
        "slixmpp", "journeys", "admin", "xmppjs", "websocket", "browsers", "cross", "strophe", "gloox", "profanity",
        "poezio", "federation", "moving", "acme", "promtool"))
    args = parser.parse_args()
    asked = (("federation", args.federation), ("moving", args.moving), ("acme", args.acme))
    more = [*(("strophe", "gloox", "profanity", "poezio") if args.clients else ()), *(name for name, is_on in asked if is_on)]
    wanted = set(args.only or (
        "slixmpp", "journeys", "admin", "xmppjs", "websocket", "browsers", "cross", "promtool", *more))
    args.work.mkdir(parents=True, exist_ok=True)
    tally = Tally(args.strict)
    python = node = None
    if wanted & {"slixmpp", "journeys", "admin", "cross", "federation", "moving"}:
        try:
            python = tools.slixmpp(args.work)
        except tools.Missing as why:
            tally.missing("slixmpp", why)
    if wanted & {"xmppjs", "websocket", "cross"}:
        try:
            folder, node = tools.xmppjs(args.work)
        except tools.Missing as why:
            tally.missing("@xmpp/client", why)
    web = None
    if "browsers" in wanted:
        try:
            web = tools.browsers(args.work, installs=args.clients or tally.strict)
        except tools.Missing as why:
            tally.missing("browsers", why)
    if "profanity" in wanted:
        try:
            tools.profanity()
        except tools.Missing as why:
            wanted.discard("profanity")
            tally.missing("profanity", why)
    installed = {}
    for name, install in (("strophe", tools.strophe), ("gloox", tools.gloox), ("poezio", tools.poezio)):
        if name in wanted:
            try:
                installed[name] = install(args.work)
            except tools.Missing as why:
                tally.missing(name, why)
    if args.kind == "prosody":
        tools.prosody()
    with server.make(args.kind, args.binary) as host:
        try:
            host.start()
            for name, password in USERS.items():
                host.add_user(name, password)
            if python and "slixmpp" in wanted:
                run_slixmpp(tally, host, python)
            if node and "xmppjs" in wanted:
                run_xmppjs(tally, host, folder, node, "checks", "benvolio", "rosaline")
            if node and "websocket" in wanted:
                run_websocket(tally, host, folder, node)
            if web:
                run_browsers(tally, host, *web, args.work / "screens")
            if python and node and "cross" in wanted:
                run_cross(tally, host, python, folder, node)
            if python and "journeys" in wanted and host.kind == "couplet":
                run_journeys(tally, host, python)
            # Behind a restart all figures begin anew.
            if "promtool" in wanted:
                run_promtool(tally, host)
            if python and "admin" in wanted and host.kind == "couplet":
                run_admin(tally, host, python)
            if "profanity" in wanted:
                run_profanity(tally, host)
            if "strophe" in installed:
                run_strophe(tally, host, installed["strophe"])
            if "gloox" in installed:
                run_gloox(tally, host, installed["gloox"])
            if "poezio" in installed:
                run_poezio(tally, host, installed["poezio"])
            if python and "federation" in wanted:
                run_federation(tally, args.binary, python)
            if python and "moving" in wanted:
                run_moving(tally, args.binary, python)
            if "acme" in wanted:
                run_acme(tally, args.binary)
            if host.kind == "couplet":
                check_threads(tally, host)
            check_end(tally, host)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            tally.line("server", f"not ok {error}")
        if tally.failed:
            print(f"the server's log ends so:\n{host.log_tail(60)}")
    print(f"\n{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed or not tally.passed + tally.skipped else 0)


if __name__ == "__main__":
    main()
