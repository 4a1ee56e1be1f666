"""Sockets that a supervisor passes, by their names."""

import os
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import debian

ACTIVATE = Path(__file__).resolve().parent / "activate.py"
OPENING = (b"<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
           b"xmlns:stream='http://etherx.jabber.org/streams'>")
NOBODY = 65534


def start(binary, folder, passed, user=(), **settings):
    """Starts a server with these sockets."""
    pairs = [f"{name}={passed_socket.fileno()}" for name, passed_socket in passed]
    return subprocess.Popen([*user, sys.executable, ACTIVATE, *pairs, "--", binary, "run"], cwd=folder, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**debian.own(folder), **settings},
                            pass_fds=[passed_socket.fileno() for _, passed_socket in passed])


def stopped(server):
    server.terminate()
    return server.communicate(timeout=20)[1]


def features(connection):
    """What a server says first."""
    connection.settimeout(20)
    connection.sendall(OPENING)
    heard = b""
    while b"</stream:features>" not in heard:
        more = connection.recv(4096)
        if not more:
            break
        heard += more
    return heard.decode()


def passed(checks, binary):
    analyze = debian.shutil.which("systemd-analyze")
    if analyze:
        units = sorted(debian.UNIT.parent.glob("*.socket"))
        done = debian.run(analyze, "verify", "--man=no", *units, debian.UNIT)
        wrong = [line for line in done.stderr.splitlines() if "is not executable" not in line]
        checks.that("systemd understands the units of sockets", len(units) == 4 and not wrong, done.stderr)
    else:
        checks.skip("systemd understands the units of sockets", "no systemd-analyze here")
    with tempfile.TemporaryDirectory(prefix="couplet-sockets-") as name, socket.create_server(("127.0.0.1", 0)) as plain, \
            socket.create_server(("127.0.0.1", 0)) as direct, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        folder = Path(name)
        served(checks, binary, folder, plain, direct)
        refused(checks, binary, folder, plain, datagrams)


def served(checks, binary, folder, plain, direct):
    # The keys themselves name what is taken, so they cannot be what is listened on.
    taken = {"COUPLET_C2S__LISTEN": "%s:%d" % plain.getsockname()}
    both = [("c2s.direct_tls_listen", direct), ("c2s.listen", plain)]
    server = start(binary, folder, both, **taken)
    checks.that("passed sockets are served", "STARTTLS" in features(socket.create_connection(plain.getsockname())).upper(), "")
    context = ssl._create_unverified_context()
    with context.wrap_socket(socket.create_connection(direct.getsockname()), server_hostname="localhost") as secure:
        checks.that("each as what its name says", "mechanisms" in features(secure), "")
    told = stopped(server)
    checks.that("that is said, and the sandbox is closed as ever",
                "2 of these sockets come from the supervisor" in told and ("sandbox (Landlock)" in told or "no Landlock" in told), told)
    waiting = socket.create_connection(plain.getsockname())
    server = start(binary, folder, both, **taken)
    checks.that("who connects while it restarts is served", "STARTTLS" in features(waiting).upper(), "")
    stopped(server)
    # Those of somebody else: variables that were passed on by mistake.
    server = start(binary, folder, both, LISTEN_PID="1", **taken)
    checks.that("sockets of another process are left alone", server.wait(20) == 1, server.returncode)
    told = server.communicate()[1]
    checks.that("and then the port is taken", "another server listens" in told, told)
    if os.geteuid():
        return checks.skip("passed sockets outlast root", "needs root")
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    ways = {"passed sockets are served by a user who may bind nothing": (as_user, {}),
            "passed sockets outlast root": ((), {"COUPLET_PROCESS__USER": str(NOBODY), "COUPLET_PROCESS__GROUP": str(NOBODY)})}
    for what, (user, settings) in ways.items():
        server = start(binary, folder, both, user, **taken, **settings)
        said = features(socket.create_connection(plain.getsockname())).upper()
        told = stopped(server)
        checks.that(what, "STARTTLS" in said and f"user {NOBODY}" in told, told)
    return None


def refused(checks, binary, folder, plain, datagrams):
    wrong = {
        "a name that is none": ([("couplet.socket", plain)], 'named "couplet.socket"', "FileDescriptorName="),
        "a socket without a name": ([("", plain)], 'named ""', "c2s.listen, c2s.direct_tls_listen, s2s.listen"),
        "one wrong of two": ([("c2s.listen", plain), ("c2s.tls", plain)], 'named "c2s.tls"', "FileDescriptorName="),
        "a socket of datagrams": ([("c2s.listen", datagrams)], "c2s.listen that is no TCP socket", "ListenStream="),
        "one for what is off": ([("s2s.listen", plain)], "s2s.enabled is false", "disable its .socket unit"),
        "one for no component": ([("components.listen", plain)], "components.secrets", "disable its .socket unit"),
    }
    for what, (some, *texts) in wrong.items():
        server = start(binary, folder, some)
        code, told = server.wait(20), server.communicate()[1]
        checks.that(f"refused, as a configuration that is wrong: {what}",
                    code == 78 and all(text in told for text in texts), f"{code}: {told}")
