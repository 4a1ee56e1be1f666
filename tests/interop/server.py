"""A server to test: Couplet's binary or Debian's Prosody, in a folder of its own, on free loopback ports.

Prosody is here to test the tests: what both servers do alike is what the clients' checks may expect.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HOST = "localhost"
#: The local part of an administrator.
ADMIN = "escalus"
COMPONENT_SECRET = "shared"
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 10


def free_ports(count):
    """Ports that were free a moment ago; all are held open together so that none comes twice."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def listening(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """What both kinds share: `start`, `add_user`, `stop`; `starttls_port`, `tls_port`, `certificate`, `pid`."""

    #: Channel binding types that the kind is known to support, by TLS version.
    bindings = {}

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="couplet-interop-"))
        self.starttls_port, self.tls_port, self.component_port, self.http_port, self.https_port = free_ports(5)
        self.process = None
        self.log_path = self.folder / "server.log"

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        """Starts the server and waits until both ports answer. Returns self."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=self.environment(), cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (listening(self.starttls_port) and listening(self.tls_port)):
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with code {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server did not listen within {START_TIMEOUT_S} s:\n{self.log_tail()}")
            time.sleep(0.02)
        return self

    def wait(self):
        """Waits for a server that ends by itself, and returns its exit code; None if it goes on."""
        try:
            code = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None
        self.process = None
        return code

    def stop(self):
        """Ends the server and returns its exit code; None if it had to be killed."""
        if self.process is None:
            return 0
        code = self.process.poll()
        if code is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                code = None
        self.process = None
        return code

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self, lines=40):
        with contextlib.suppress(OSError):
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def environment(self):
        return dict(os.environ)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


class Couplet(Server):
    kind = "couplet"
    bindings = {"TLSv1.2": "tls-server-end-point", "TLSv1.3": "tls-exporter"}

    def __init__(self, binary):
        super().__init__()
        self.binary = str(Path(binary).resolve())

    def environment(self):
        # What the caller's shell configures is for another server.
        ours = {key: value for key, value in os.environ.items() if not key.startswith("COUPLET_")}
        return dict(
            ours,
            COUPLET_C2S__LISTEN=f"127.0.0.1:{self.starttls_port}",
            COUPLET_C2S__DIRECT_TLS_LISTEN=f"127.0.0.1:{self.tls_port}",
            COUPLET_COMPONENTS__LISTEN=f"127.0.0.1:{self.component_port}",
            COUPLET_COMPONENTS__SECRETS=f"echo.{HOST}={COMPONENT_SECRET}",
            COUPLET_HTTP__LISTEN=f"127.0.0.1:{self.http_port}",
            COUPLET_HTTP__TLS_LISTEN=f"127.0.0.1:{self.https_port}",
            COUPLET_COMPRESSION__ENABLED="true",
            COUPLET_S2S__LISTEN="",
            COUPLET_S2S__DIRECT_TLS_LISTEN="",
            COUPLET_STORAGE__PATH=str(self.folder / "data"),
            COUPLET_MEMORY__MAX="1 GB",
            COUPLET_ADMINS=f"{ADMIN}@{HOST}",
        )

    def command(self):
        return [self.binary, "run"]

    def add_user(self, name, password):
        subprocess.run(
            [self.binary, "user", "add", f"{name}@{HOST}", "--password-stdin"],
            input=password + "\n", text=True, env=self.environment(), cwd=self.folder, check=True, timeout=30,
            stdout=subprocess.DEVNULL)

    def invite(self, *options):
        """The token of an invitation."""
        made = subprocess.run(
            [self.binary, "invite", *options], text=True, env=self.environment(), cwd=self.folder, check=True,
            timeout=30, capture_output=True)
        return made.stdout.split("preauth=")[1].split()[0].split(";")[0]

    @property
    def certificate(self):
        """The certificate that the server made for itself at its first start, for clients to trust."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.suffix in (".crt", ".pem", ".cert"):
                if "BEGIN CERTIFICATE" in path.read_text(errors="replace"):
                    return path
        raise RuntimeError(f"no certificate below {self.folder}")


class Prosody(Server):
    kind = "prosody"
    # Debian 12's Prosody knows tls-unique alone, which TLS 1.3 does not have.
    bindings = {"TLSv1.2": "tls-unique"}

    CONFIG = """
run_as_root = true
daemonize = false
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
certificates = "{folder}"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {starttls_port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
s2s_ports = {{ }}
http_ports = {{ }}
https_ports = {{ }}
c2s_require_encryption = true
-- Plain passwords let it offer SCRAM with every hash.
authentication = "internal_plain"
storage = "internal"
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "carbons", "private", "blocklist", "vcard_legacy", "pep",
    "version", "time", "ping", "offline" }}
modules_disabled = {{ "s2s" }}
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
ssl = {{ protocol = "tlsv1_2+", certificate = "{folder}/localhost.crt", key = "{folder}/localhost.key" }}
limits = {{ }}
network_backend = "epoll"
VirtualHost "localhost"
"""

    def __init__(self, _binary=None):
        super().__init__()
        (self.folder / "data").mkdir()
        self.config = self.folder / "prosody.cfg.lua"
        self.config.write_text(self.CONFIG.format(
            folder=self.folder, starttls_port=self.starttls_port, tls_port=self.tls_port))
        self.certificate = self.folder / "localhost.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", self.folder / "localhost.key", "-out", self.certificate, "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True)

    def command(self):
        return ["prosody", "--config", str(self.config), "-F"]

    def add_user(self, name, password):
        subprocess.run(
            ["prosodyctl", "--config", str(self.config), "register", name, HOST, password],
            check=True, capture_output=True, cwd=self.folder, timeout=30)


def make(kind, binary=None):
    return {"couplet": Couplet, "prosody": Prosody}[kind](binary)
