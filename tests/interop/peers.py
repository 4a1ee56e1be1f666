"""Servers that federate with each other on loopback: Couplet, Debian's Prosody and Debian's ejabberd, with an authority
and a name server of their own. What a check needs of certificates that nobody should believe is here as well.
"""

import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
A, SRV = 1, 33


class NameServer:
    """Answers from `zone`: owner -> (priority, weight, port, target) for SRV, an address for A. Over UDP and TCP."""

    def __init__(self):
        self.zone = {("localhost", A): ["127.0.0.1"]}
        while True:
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind(("127.0.0.1", 0))
            self.port = self.udp.getsockname()[1]
            self.tcp = socket.socket()
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self.tcp.bind(("127.0.0.1", self.port))
                break
            except OSError:
                self.udp.close()
                self.tcp.close()
        self.tcp.listen()
        threading.Thread(target=self.serve_udp, daemon=True).start()
        threading.Thread(target=self.serve_tcp, daemon=True).start()

    def add(self, domain, port, service="_xmpp-server", priority=5):
        """A server of `domain` on this port of the loopback address. ejabberd asks the system for the addresses of
        hosts, so it must be a host that the system knows."""
        self.zone.setdefault((f"{service}._tcp.{domain}", SRV), []).append((priority, 5, port, "localhost"))

    def forget(self, domain, service="_xmpp-server"):
        del self.zone[(f"{service}._tcp.{domain}", SRV)]

    def serve_udp(self):
        while True:
            question, sender = self.udp.recvfrom(4096)
            self.udp.sendto(self.answer(question), sender)

    def serve_tcp(self):
        while True:
            with self.tcp.accept()[0] as one:
                head = one.recv(2)
                if len(head) == 2:
                    answer = self.answer(one.recv(struct.unpack("!H", head)[0]))
                    one.sendall(struct.pack("!H", len(answer)) + answer)

    @staticmethod
    def encode(name):
        return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"

    def answer(self, question):
        at, labels = 12, []
        while question[at]:
            labels.append(question[at + 1:at + 1 + question[at]].decode().lower())
            at += 1 + question[at]
        kind, = struct.unpack("!H", question[at + 1:at + 3])
        name = ".".join(labels)
        rows = []
        for value in self.zone.get((name, kind), ()):
            if kind == SRV:
                data = struct.pack("!HHH", *value[:3]) + self.encode(value[3])
            else:
                data = socket.inet_aton(value)
            rows.append(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data)
        known = any(name == owner for owner, _ in self.zone)
        flags = 0x8580 if known else 0x8583
        head = question[:2] + struct.pack("!HHHHH", flags, 1, len(rows), 0, 0)
        return head + question[12:at + 5] + b"".join(rows)


def openssl(*words, **how):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, **how)


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.certificate = folder / f"{name}.crt"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 9,
                "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", self.certificate,
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def issue(self, domain, to, names=None, expired=False):
        """DOMAIN.crt and DOMAIN.key in folder `to`, for `names` in place of the domain and of what is below it."""
        key, request, cert = to / f"{domain}.key", to / f"{domain}.csr", to / f"{domain}.crt"
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-subj", f"/CN={domain}", "-keyout", key, "-out", request)
        extensions = to / f"{domain}.ext"
        listed = ",".join(f"DNS:{name}" for name in names or (domain, f"*.{domain}"))
        extensions.write_text(f"subjectAltName={listed}\nbasicConstraints=CA:FALSE\n")
        days = ["-not_before", "20240101000000Z", "-not_after", "20240201000000Z"] if expired else ["-days", 5]
        command = ["x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / f"{self.name}.key",
                   "-CAcreateserial", "-extfile", extensions, "-out", cert]
        if expired:
            self.issue_expired(request, extensions, cert)
        else:
            openssl(*command, *days)
        # Whoever runs as another user reads it, too.
        key.chmod(0o644)
        return cert, key

    def issue_expired(self, request, extensions, cert):
        """`openssl ca` can say when a certificate began and ended; `x509` of Debian 12 cannot."""
        database = self.folder / "ca"
        shutil.rmtree(database, ignore_errors=True)
        database.mkdir()
        (database / "index.txt").write_text("")
        (database / "serial").write_text("1000\n")
        config = database / "ca.cnf"
        config.write_text(
            f"[ca]\ndefault_ca=own\n[own]\ndatabase={database}/index.txt\nserial={database}/serial\n"
            f"new_certs_dir={database}\ndefault_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n")
        openssl("ca", "-batch", "-notext", "-config", config, "-cert", self.certificate,
                "-keyfile", self.folder / f"{self.name}.key", "-in", request, "-out", cert, "-extfile", extensions,
                "-startdate", "20240101000000Z", "-enddate", "20240201000000Z")


def self_signed(domain, to):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 5,
            "-subj", f"/CN={domain}", "-keyout", to / f"{domain}.key", "-out", to / f"{domain}.crt",
            "-addext", f"subjectAltName=DNS:{domain},DNS:*.{domain}")
    (to / f"{domain}.key").chmod(0o644)


class World:
    """A folder, an authority that is believed, one that is not, a name server."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="couplet-federation-"))
        self.folder.chmod(0o755)
        self.authority = Authority(self.folder, "believed")
        self.stranger = Authority(self.folder, "stranger")
        self.names = NameServer()
        self.servers = []

    def close(self):
        for one in self.servers:
            one.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def listening(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """`domain` and whatever else it serves; `c2s` and `s2s` are its ports."""

    def __init__(self, world, domain):
        self.world, self.domain = world, domain
        self.folder = world.folder / domain
        self.folder.mkdir()
        self.c2s, self.s2s, self.direct = free_ports(3)
        self.log_path, self.process = self.folder / "log", None
        world.servers.append(self)
        for name in (domain, self.rooms, self.nodes):
            world.names.add(name, self.s2s)

    @property
    def rooms(self):
        return f"conference.{self.domain}"

    @property
    def nodes(self):
        return f"pubsub.{self.domain}"

    def environment(self):
        return dict(os.environ)

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                list(map(str, self.command())), env=self.environment(), cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (listening(self.c2s) and listening(self.s2s)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.domain} does not start:\n{self.log_tail()}")
            time.sleep(0.05)
        return self

    def stop(self):
        """Ends it with all that it has started; what does not go is killed. The exit code."""
        if self.process is None:
            return 0
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass
            try:
                code = self.process.wait(STOP_TIMEOUT_S)
                break
            except subprocess.TimeoutExpired:
                code = None
        self.process = None
        return code

    def kill(self):
        """As a power cut ends it."""
        self.process.kill()
        self.process.wait()

    def log_tail(self, lines=60):
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


class Couplet(Server):
    """Found by STARTTLS, by direct TLS, or both: `ways`. Port `direct_c2s` is for clients with direct TLS."""

    def __init__(self, world, domain, binary, settings="", issue=None, ways=("starttls", "direct"),
                 direct_c2s=None):
        super().__init__(world, domain)
        self.binary = Path(binary).resolve()
        if "direct" in ways:
            world.names.add(domain, self.direct, "_xmpps-server")
        if "starttls" not in ways:
            world.names.forget(domain)
        certs = self.folder / "data/certs"
        certs.mkdir(parents=True)
        (issue or world.authority.issue)(domain, certs)
        (self.folder / "couplet.toml").write_text(f"""
hosts = ["{domain}"]
[c2s]
listen = ["127.0.0.1:{self.c2s}"]
direct_tls_listen = [{f'"127.0.0.1:{direct_c2s}"' if direct_c2s else ""}]
[s2s]
listen = ["127.0.0.1:{self.s2s}"]
direct_tls_listen = ["127.0.0.1:{self.direct}"]
ca = "{world.authority.certificate}"
{settings}
[dns]
servers = ["127.0.0.1:{world.names.port}"]
[sasl]
iterations = 4096
[storage]
path = "data"
[log]
levels = ["couplet::s2s=debug", "couplet::net=debug"]
[limits.c2s]
rate = "unlimited"
[limits.s2s]
rate = "unlimited"
""")

    def environment(self):
        ours = {key: value for key, value in os.environ.items() if not key.startswith("COUPLET_")}
        # Several of them have one machine, and a build without HTTP does not know the keys.
        return dict(ours, COUPLET_HTTP__LISTEN="", COUPLET_HTTP__TLS_LISTEN="")

    def command(self):
        return [self.binary, "run", "-c", self.folder / "couplet.toml"]

    def cli(self, *words, **how):
        return subprocess.run([self.binary, *words, "-c", self.folder / "couplet.toml"], env=self.environment(),
                              cwd=self.folder, capture_output=True, text=True, timeout=60, **how)

    def add_user(self, name, password, domain=None):
        done = self.cli("user", "add", f"{name}@{domain or self.domain}", "--password-stdin", input=password + "\n")
        if done.returncode:
            raise RuntimeError(done.stderr)


class Prosody(Server):
    """Serves `others`, too: domains with certificates that are no good, (domain, folder that has them)."""

    def __init__(self, world, domain, settings="s2s_secure_auth = true", modules=(), certificates=None, others=()):
        super().__init__(world, domain)
        certs = certificates or world.authority.issue
        certs(domain, self.folder)
        hosts = [domain]
        for other, make in others:
            make(other, self.folder)
            world.names.add(other, self.s2s)
            hosts.append(other)
        listed = "".join(
            f'VirtualHost "{host}"\nssl = {{ certificate = "{self.folder}/{host}.crt", '
            f'key = "{self.folder}/{host}.key" }}\n' for host in hosts)
        added = "".join(f', "{module}"' for module in modules)
        (self.folder / "data").mkdir()
        (self.folder / "prosody.cfg.lua").write_text(f"""
run_as_root = true
daemonize = false
pidfile = "{self.folder}/prosody.pid"
data_path = "{self.folder}/data"
certificates = "{self.folder}"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.c2s} }}
s2s_ports = {{ {self.s2s} }}
http_ports = {{ }}
https_ports = {{ }}
authentication = "internal_hashed"
storage = "internal"
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "vcard_legacy", "pep", "version", "ping",
    "offline", "s2s"{added} }}
log = {{ {{ levels = {{ min = "debug" }}, to = "console" }} }}
ssl = {{ protocol = "tlsv1_2+", cafile = "{world.authority.certificate}" }}
limits = {{ }}
unbound = {{ resolvconf = false, hoststxt = false, forward = "127.0.0.1@{world.names.port}",
    options = {{ ["do-not-query-localhost:"] = "no" }} }}
{settings}
{listed}
Component "conference.{domain}" "muc"
ssl = {{ certificate = "{self.folder}/{domain}.crt", key = "{self.folder}/{domain}.key" }}
restrict_room_creation = false
""")

    def command(self):
        return ["prosody", "--config", self.folder / "prosody.cfg.lua", "-F"]

    def add_user(self, name, password, domain=None):
        subprocess.run(["prosodyctl", "--config", self.folder / "prosody.cfg.lua", "register", name,
                        domain or self.domain, password], check=True, capture_output=True, cwd=self.folder, timeout=60)


class Ejabberd(Server):
    def __init__(self, world, domain, tls="required", modules=(), certificates=None):
        super().__init__(world, domain)
        cert, key = (certificates or world.authority.issue)(domain, self.folder) or (None, None)
        both = self.folder / "both.pem"
        both.write_text((self.folder / f"{domain}.crt").read_text() + (self.folder / f"{domain}.key").read_text())
        added = "".join(f"  {module}: {{}}\n" for module in modules)
        (self.folder / "ejabberd.yml").write_text(f"""
loglevel: debug
hosts:
  - {domain}
certfiles:
  - "{both}"
ca_file: "{world.authority.certificate}"
s2s_use_starttls: {tls}
s2s_timeout: 15 seconds
listen:
  -
    port: {self.c2s}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls: true
  -
    port: {self.s2s}
    ip: "127.0.0.1"
    module: ejabberd_s2s_in
auth_password_format: scram
shaper: {{}}
shaper_rules: {{}}
registration_timeout: infinity
modules:
  mod_disco: {{}}
  mod_register:
    access: all
    ip_access: all
  mod_muc:
    access_create: all
  mod_offline: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_vcard: {{}}
  mod_caps: {{}}
  mod_pubsub:
    plugins:
      - flat
      - pep
{added}""")

    def environment(self):
        (self.folder / "inetrc").write_text(
            '{lookup, [dns]}.\n{resolv_conf, ""}.\n{hosts_file, ""}.\n'
            f"{{nameserver, {{127,0,0,1}}, {self.world.names.port}}}.\n{{edns, 0}}.\n")
        return dict(os.environ, HOME=str(self.folder), EJABBERD_CONFIG_PATH=str(self.folder / "ejabberd.yml"),
                    EJABBERD_LOG_PATH=str(self.folder / "ejabberd.log"), ERL_INETRC=str(self.folder / "inetrc"))

    def command(self):
        found = [*Path("/usr/lib").glob("*/ejabberd-*/ebin"), *Path("/usr/lib").glob("ejabberd-*/ebin")]
        return ["erl", "-pa", found[0], "-noinput", "+S", "1", "-mnesia", "dir", f'"{self.folder}/mnesia"',
                "-s", "ejabberd"]

    def add_user(self, name, password, domain=None):
        """By in-band registration, as there is no ejabberdctl for a server of one's own."""
        raise NotImplementedError

    def log_tail(self, lines=60):
        path = self.folder / "ejabberd.log"
        return "\n".join((path if path.exists() else self.log_path).read_text(errors="replace").splitlines()[-lines:])
