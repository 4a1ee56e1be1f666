#!/usr/bin/env python3
"""The plays of tests/scenarios against Debian's Prosody: what both servers do alike is what the plays may expect.

    tests/interop/plays.py            every play that is not said to differ; SCENARIO=20 those whose names start so
    tests/interop/plays.py --reset FOLDER [JID PASSWORD]...     what that runs before each play: a new Prosody

Prosody runs on loopback, in a folder of its own. It starts anew before each play, because it keeps rooms, nodes and
rosters in memory that one play would leave for the next.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import server
import tools

ROOT = Path(__file__).resolve().parents[2]
LINES = re.compile(r"^against another server: .*$|^(\d{4}-[\w-]+\.scs:\d+: .*)$", re.MULTILINE)


class Stage(server.Prosody):
    """Prosody with what the plays need of it."""

    CONFIG = server.Prosody.CONFIG.replace(
        '"offline" }}', '"offline", "smacks", "csi", "csi_simple", "bookmarks", "lastactivity", "external_services" }}'
    ).replace('log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}', 'log = {{ error = "*console" }}') + """
-- The plays say when a session ends.
smacks_hibernation_time = 600
Component "conference.localhost" "muc"
"""

    def __init__(self):
        super().__init__()
        (self.folder / "port").write_text(str(self.tls_port))


def reset(folder, pairs):
    """Ends the Prosody of that folder, forgets what it has stored, makes the accounts and starts it again."""
    pid_file = folder / "pid"
    if pid_file.exists():
        pid = int(pid_file.read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    port = int((folder / "port").read_text())
    while server.listening(port):
        time.sleep(0.02)
    shutil.rmtree(folder / "data", ignore_errors=True)
    for jid, password in zip(pairs[::2], pairs[1::2]):
        user, host = jid.split("@")
        accounts = folder / "data" / host / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        quoted = password.replace("\\", "\\\\").replace('"', '\\"')
        (accounts / f"{escaped(user)}.dat").write_text(f'return {{ ["password"] = "{quoted}"; }};\n')
    (folder / "data").mkdir(exist_ok=True)
    with open(folder / "server.log", "ab") as log:
        started = subprocess.Popen(["prosody", "--config", folder / "prosody.cfg.lua", "-F"], cwd=folder,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    pid_file.write_text(str(started.pid))
    deadline = time.monotonic() + server.START_TIMEOUT_S
    while not server.listening(port):
        if started.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("Prosody did not start")
        time.sleep(0.02)


def escaped(name):
    """As Prosody names files: what is no letter and no digit as %xx."""
    return re.sub(r"[^A-Za-z0-9]", lambda c: "".join(f"%{byte:02x}" for byte in c.group().encode()), name)


def main():
    if sys.argv[1:2] == ["--reset"]:
        reset(Path(sys.argv[2]), sys.argv[3:])
        return 0
    try:
        tools.prosody()
    except tools.Missing as why:
        print(f"not ok all plays: {why}")
        return 1
    with Stage() as stage:
        program = stage.folder / "accounts"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" --reset '
                           f'"{stage.folder}" "$@"\n')
        program.chmod(0o755)
        environment = dict(os.environ, COUPLET_SCENARIO_PEER=f"127.0.0.1:{stage.tls_port}",
                           COUPLET_SCENARIO_ACCOUNTS=str(program), RUST_BACKTRACE="0")
        command = os.environ.get("COUPLET_SCENARIO_TEST", "cargo test --quiet --test scenarios --").split()
        try:
            done = subprocess.run([*command, "against_another_server", "--nocapture"], cwd=ROOT, env=environment,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        finally:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((stage.folder / "pid").read_text()), signal.SIGKILL)
    if done.returncode:
        print(done.stdout)
    for line in LINES.finditer(done.stdout):
        right = line.group().endswith(" 0 failed") and done.returncode == 0
        print(f"{'ok' if right else 'not ok'} {line.group()}", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
