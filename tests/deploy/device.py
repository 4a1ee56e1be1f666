"""A published binary on its device: it starts, a stock client logs in, what it stores is there after a restart.

Binaries of other processors run under qemu-user.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "interop"))
import server  # noqa: E402
import tools  # noqa: E402

EMULATORS = {
    "aarch64": "qemu-aarch64-static", "armv7": "qemu-arm-static", "arm": "qemu-arm-static", "mips": "qemu-mips-static",
    "mipsel": "qemu-mipsel-static", "riscv64gc": "qemu-riscv64-static", "x86_64": "",
}
# qemu-user 7 does not know timerfd_settime64 there: a server would wait for ever.
WITHOUT_TIMERS = {"mips", "mipsel"}
START_S = 60
PASSWORD = "sweet-sorrow"


def visit(step, port):
    python = tools.slixmpp(ROOT / "target" / "interop")
    return subprocess.run([python, ROOT / "tests/deploy/visit.py", str(port), "romeo", PASSWORD, step],
                          capture_output=True, text=True)


def journey(checks, what, port, command, start, stop):
    """`command(*args, input)` runs a verb, `start()` and `stop()` the server, which listens on `port`."""
    for name in ["romeo", "juliet"]:
        added = command("user", "add", f"{name}@localhost", "--password-stdin", input=f"{PASSWORD}\n")
        checks.that(f"{what}: adds {name}", added.returncode == 0, added.stdout + added.stderr)
    for step in ["leave", "find"]:
        start()
        deadline = time.monotonic() + START_S
        while not server.listening(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        visited = visit(step, port)
        checks.that(f"{what}: slixmpp logs in and can {step} a contact", visited.returncode == 0, visited.stderr[-600:])
        well = command("healthcheck")
        checks.that(f"{what}: is well", well.returncode == 0, well.stdout + well.stderr)
        checks.that(f"{what}: stops in good order", stop() == 0, "")
    listed = command("user", "list")
    checks.that(f"{what}: nothing is lost", "romeo@localhost" in listed.stdout, listed.stdout + listed.stderr)


def emulated(checks, binary, target):
    """Under qemu-user, or natively."""
    processor = target.split("-")[0]
    emulator = EMULATORS[processor]
    if emulator and not shutil.which(emulator):
        try:
            tools.debian("qemu-user-static")
        except tools.Missing as why:
            return checks.skip(target, str(why))
    runner = [emulator] if emulator else []
    with tempfile.TemporaryDirectory(prefix="couplet-device-") as name:
        folder = Path(name)
        port = server.free_ports(1)[0]
        environment = {"PATH": os.environ["PATH"], "COUPLET_HOSTS": "localhost", "COUPLET_STORAGE__PATH": str(folder / "data"),
                       "COUPLET_C2S__LISTEN": f"127.0.0.1:{port}", "COUPLET_C2S__DIRECT_TLS_LISTEN": "",
                       "COUPLET_S2S__ENABLED": "false"}

        def command(*args, **options):
            return subprocess.run([*runner, binary, *args], cwd=folder, env=environment, capture_output=True, text=True,
                                  timeout=300, **options)

        about = command("about")
        checks.that(f"{target}: says what it is", about.returncode == 0 and "minimal" in about.stdout, about.stderr)
        if processor in WITHOUT_TIMERS:
            commands_alone(checks, target, command, folder)
            return None
        running = []

        def start():
            log = open(folder / "log", "ab")
            running.append(subprocess.Popen([*runner, binary, "run"], cwd=folder, env=environment, stdout=log, stderr=log))

        def stop():
            running[-1].send_signal(signal.SIGTERM)
            try:
                return running[-1].wait(60)
            except subprocess.TimeoutExpired:
                running[-1].kill()
                return "it does not end"

        try:
            journey(checks, target, port, command, start, stop)
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
    return None


def unwinds(checks, binary, target):
    """A bug ends the connection that it meets: of a binary that was built with the feature `planted-faults`."""
    emulator = EMULATORS[target.split("-")[0]]
    with tempfile.TemporaryDirectory(prefix="couplet-device-") as name:
        folder = Path(name)
        port = server.free_ports(1)[0]
        environment = {"PATH": os.environ["PATH"], "COUPLET_HOSTS": "localhost", "COUPLET_STORAGE__BACKEND": "memory",
                       "COUPLET_STORAGE__PATH": str(folder / "data"), "COUPLET_C2S__LISTEN": f"127.0.0.1:{port}",
                       "COUPLET_C2S__DIRECT_TLS_LISTEN": "", "COUPLET_S2S__ENABLED": "false",
                       "COUPLET_FAULT": "PanicBytes"}
        command = [part for part in (emulator, str(binary), "run") if part]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + START_S
            while not server.listening(port) and time.monotonic() < deadline:
                time.sleep(0.05)
            answers = [stream_header(port), stream_header(port)]
            checks.that(f"{target}: a bug ends one connection, and the next is served",
                        b"<stream:features" not in answers[0] and b"<stream:features" in answers[1], answers)
        finally:
            process.terminate()
            said = process.communicate(timeout=60)[1].decode()
        checks.that(f"{target}: and it is in the log", "a bug of ours" in said, said[-600:])


def stream_header(port):
    """What the server answers to the start of a stream, until it is silent for a moment or ends."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as client:
        client.sendall(b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
                       b"xmlns:stream='http://etherx.jabber.org/streams'>")
        with contextlib.suppress(OSError):
            while part := client.recv(4096):
                answer += part
    return answer


def commands_alone(checks, target, command, folder):
    """What needs no reactor: accounts, the store, a backup and its way back."""
    added = command("user", "add", "romeo@localhost", "--password-stdin", input=f"{PASSWORD}\n")
    checks.that(f"{target}: adds a user", added.returncode == 0, added.stdout + added.stderr)
    backup = folder / "backup"
    made = command("backup", "create", "--output", str(backup))
    checks.that(f"{target}: makes a backup", made.returncode == 0, made.stdout + made.stderr)
    deleted = command("user", "del", "romeo@localhost")
    listed = command("user", "list")
    checks.that(f"{target}: deletes a user", deleted.returncode == 0 and "romeo" not in listed.stdout, listed.stdout)
    restored = command("backup", "restore", "--replace", str(backup))
    listed = command("user", "list")
    checks.that(f"{target}: puts the backup back", "romeo@localhost" in listed.stdout,
                restored.stdout + restored.stderr + listed.stderr)
