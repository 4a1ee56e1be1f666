"""Terminal clients in tmux, driven by keys, judged by their screens."""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOMAIN = "localhost"
WAIT_S = 20
LOOK_S = 0.1


class Tmux:
    """A tmux server of our own: nothing of the user's configuration, nothing left behind."""

    def __init__(self, folder):
        self.socket = folder / "tmux"

    def __call__(self, *words):
        return subprocess.run(["tmux", "-S", str(self.socket), "-f", "/dev/null", *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)


class Screen:
    """One client, under a name of its own."""

    def __init__(self, tmux, args, name, user):
        self.tmux, self.name, self.user, self.args = tmux, name, user, args
        self.jid = f"{user}@{DOMAIN}"

    def start(self, environment, command, lower=()):
        """Runs `command` in it; `lower` is a command that runs another with fewer rights."""
        pairs = [f"{key}={value}" for key, value in environment.items()]
        started = self.tmux("new-session", "-d", "-s", self.name, "-x", "120", "-y", "50", *lower, "env", *pairs, *command)
        if started.returncode:
            raise AssertionError(f"tmux: {started.stderr}")

    def text(self):
        return self.tmux("capture-pane", "-p", "-J", "-t", self.name).stdout

    def say(self, line):
        """Types a line."""
        self.tmux("send-keys", "-t", self.name, "-l", line)
        self.tmux("send-keys", "-t", self.name, "Enter")

    def see(self, pattern):
        """Waits until the screen shows `pattern`."""
        deadline = time.monotonic() + WAIT_S
        while not re.search(pattern, self.text()):
            if time.monotonic() > deadline:
                shown = " | ".join(line.strip() for line in self.text().splitlines() if line.strip())
                raise AssertionError(f"{self.user} does not show /{pattern}/ but: {shown[-700:]}")
            time.sleep(LOOK_S)


class Checks:
    """`with check(name):` prints how the block went and goes on after a failure."""

    def __init__(self):
        self.failed = 0

    @contextlib.contextmanager
    def __call__(self, name):
        try:
            yield
            print(f"ok {name}", flush=True)
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            self.failed += 1
            print(f"not ok {name}: {' '.join(str(error).split())}", flush=True)


def main(play, *options):
    """Plays, with those options of the command line beside the usual ones."""
    parser = argparse.ArgumentParser()
    for name in (*options, "ca", "user", "peer", "password"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("starttls", "tls"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    check = Checks()
    with tempfile.TemporaryDirectory(prefix="couplet-terminal-") as folder:
        tmux = Tmux(Path(folder))
        try:
            play(check, tmux, Path(folder), args)
        finally:
            tmux("kill-server")
    sys.exit(1 if check.failed else 0)
