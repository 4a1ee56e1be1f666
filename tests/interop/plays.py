#!/usr/bin/env python3
"""The plays of tests/scenarios against Debian's Prosody: what both servers do alike is what the plays may expect.

    tests/interop/plays.py            every play; SCENARIO=20 those whose names start so
    tests/interop/plays.py --reset ADDRESS:PORT [JID PASSWORD]...   what that runs before each play: a new Prosody

A play that is said to differ must go wrong here, all others must not. Several Prosodys run on loopback, each in a
folder of its own. One starts anew before each play, because it keeps rooms, nodes and rosters in memory that one play
would leave for the next.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import server
import tools

#: Most of the time goes by in waiting for what does not come.
STAGES = 6
ROOT = Path(__file__).resolve().parents[2]
LINES = re.compile(r"^against another server: .*$|^(\d{4}-[\w-]+\.scs:\d+: .*)$", re.MULTILINE)


class Stage(server.Prosody):
    """Prosody with what the plays need of it."""

    CONFIG = server.Prosody.CONFIG.replace(
        '"offline" }}', '"offline", "smacks", "csi", "csi_simple", "bookmarks", "lastactivity", "external_services", '
        '"user_account_management" }}'
    ).replace('log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}', 'log = {{ error = "*console" }}') + """
-- The plays say when a session ends.
smacks_hibernation_time = 600
Component "conference.localhost" "muc"
name = "Rooms"
modules_enabled = {{ "ping" }}
"""

    def kill(self):
        kill(self.folder)


def kill(folder):
    """Ends the Prosody of that folder, if one runs."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)


def reset(folder, port, pairs):
    """Ends the Prosody of that folder, forgets what it has stored, makes the accounts and starts it again."""
    kill(folder)
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
    (folder / "pid").write_text(str(started.pid))
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
        port = int(sys.argv[2].rpartition(":")[2])
        reset(Path(os.environ["COUPLET_PLAYS_FOLDER"]) / str(port), port, sys.argv[3:])
        return 0
    try:
        tools.prosody()
    except tools.Missing as why:
        print(f"not ok all plays: {why}")
        return 1
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="couplet-plays-")))
        stages = [stack.enter_context(Stage()) for _ in range(STAGES)]
        for stage in stages:
            stack.callback(stage.kill)
            (folder / str(stage.tls_port)).symlink_to(stage.folder)
        program = folder / "accounts"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" --reset "$@"\n')
        program.chmod(0o755)
        environment = dict(os.environ, COUPLET_SCENARIO_PEER=",".join(f"127.0.0.1:{s.tls_port}" for s in stages),
                           COUPLET_SCENARIO_ACCOUNTS=str(program),
                           COUPLET_PLAYS_FOLDER=str(folder), RUST_BACKTRACE="0")
        command = os.environ.get("COUPLET_SCENARIO_TEST", "cargo test --quiet --test scenarios --").split()
        done = subprocess.run([*command, "against_another_server", "--nocapture"], cwd=ROOT, env=environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout)
    for line in LINES.finditer(done.stdout):
        right = line.group(1) is None and done.returncode == 0
        print(f"{'ok' if right else 'not ok'} {line.group()}", flush=True)
    print(f"# {time.monotonic() - started:.0f} s")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
