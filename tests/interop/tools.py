"""The programs of others that the checks need, installed below a work folder where the machine lacks them.

With root rights missing Debian packages are installed; else `Missing` says what to install. AUTO_INSTALL=0 keeps
apt-get out of it.
"""

import os
import shutil
import socket
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSTALL_TIMEOUT_S = 600
ATTEMPTS = 3


class Missing(Exception):
    """Something that a check needs is not here and could not be installed; the text says why."""


def run(command, **how):
    """Runs a command that may depend on a network: a few attempts, and the end of its output if all fail."""
    for attempt in range(ATTEMPTS):
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, timeout=INSTALL_TIMEOUT_S, **how)
        except (OSError, subprocess.TimeoutExpired) as error:
            last = str(error)
            continue
        if done.returncode == 0:
            return
        last = " | ".join(done.stdout.split("\n")[-6:])
    raise Missing(f"`{' '.join(map(str, command))}` failed: {last.strip()}")


def debian(*packages):
    """Installs Debian packages, if this user may."""
    advice = f"apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None or os.geteuid() != 0 or os.environ.get("AUTO_INSTALL") == "0":
        raise Missing(f"not installed; try `{advice}`")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(["apt-get", "update", "-q"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=INSTALL_TIMEOUT_S, check=False)
    run(["apt-get", "install", "-qy", "--no-install-recommends", *packages], env=environment)


def programs(*names, packages):
    if any(shutil.which(name) is None for name in names):
        debian(*packages)


def slixmpp(work):
    """The Python interpreter of a virtual environment that has slixmpp."""
    python = work / "venv/bin/python"
    wanted = (HERE / "requirements.txt").read_text()
    stamp = work / "venv/requirements.txt"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    make = ["python3", "-m", "venv", "--clear", work / "venv"]
    try:
        subprocess.run(make, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.CalledProcessError):
        debian("python3-venv")
        run(make)
    run([python, "-m", "pip", "install", "-q", "-r", HERE / "requirements.txt"])
    stamp.write_text(wanted)
    return python


def xmppjs(work):
    """The folder whose node_modules holds @xmpp/client, and the command that runs node."""
    return npm(work / "node", "package.json")


def browsers(work, installs):
    """The same for the web clients that run in Chromium, which is installed only if asked to: it is large."""
    if not installs and shutil.which("chromium") is None:
        raise Missing("Chromium is not installed; try `apt-get install chromium`")
    programs("chromium", packages=("chromium",))
    return npm(work / "browsers", "browsers.json")


def npm(folder, wanted):
    """A folder with the packages that a file of ours wants, and the command that runs node."""
    programs("node", "npm", packages=("nodejs", "npm"))
    folder.mkdir(parents=True, exist_ok=True)
    wanted = (HERE / wanted).read_text()
    stamp = folder / "node_modules/.wanted"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        (folder / "package.json").write_text(wanted)
        run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"], cwd=folder)
        stamp.write_text(wanted)
    node = ["node", "--dns-result-order=ipv4first"]
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if version.startswith("v18."):
        node.append("--experimental-global-webcrypto")  # what later versions have without asking
    return folder, node


def answers(port):
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def prosody():
    programs("prosody", "prosodyctl", "openssl", packages=("prosody", "openssl"))


def federation():
    """Both peers of the checks of federation; lua-unbound lets Prosody ask a name server on another port."""
    programs("prosody", "prosodyctl", "erl", "openssl", packages=("prosody", "lua-unbound", "ejabberd", "openssl"))


def pebble():
    """An authority for ACME, and the name server that it asks."""
    programs("pebble", "pebble-challtestsrv", "openssl", packages=("pebble", "openssl"))


def promtool():
    """Prometheus's own reader of figures and of rules."""
    programs("promtool", packages=("prometheus",))


def moving():
    """Servers whose data moves, with what lets them keep it in SQLite."""
    federation()
    if not list(Path("/usr/lib").glob("*/lua/*/dbd/sqlite3.so")):
        debian("lua-dbi-sqlite3")
    if not list(Path("/usr/lib").glob("**/p1_sqlite3-*/ebin/sqlite3.beam")):
        debian("erlang-p1-sqlite3")


def strophe(work):
    """The program that strophe.c becomes with Debian's libstrophe."""
    program = work / "strophe"
    build = ["cc", "-Wall", "-Wextra", "-Werror", "-O1", HERE / "strophe.c", "-o", program, "-lstrophe"]
    try:
        run(build)
    except Missing:
        debian("gcc", "libc6-dev", "libstrophe-dev")
        run(build)
    return program


def gloox(work):
    """The program that gloox.cpp becomes with Debian's gloox."""
    program = work / "gloox"
    build = ["c++", "-Wall", "-Wextra", "-Werror", "-O1", HERE / "gloox.cpp", "-o", program, "-lgloox", "-lpthread"]
    try:
        run(build)
    except Missing:
        debian("g++", "libgloox-dev")
        run(build)
    return program


def poezio(work):
    """The program, in a virtual environment of its own: it wants its own slixmpp."""
    programs("tmux", "unshare", packages=("tmux", "util-linux"))
    folder, wanted = work / "poezio", "poezio==0.18\n"
    stamp = folder / "requirements.txt"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        run(["python3", "-m", "venv", "--clear", folder])
        run([folder / "bin/python", "-m", "pip", "install", "-q", wanted.strip()])
        stamp.write_text(wanted)
    return folder / "bin/poezio"


def profanity():
    programs("profanity", "tmux", "openssl", packages=("profanity", "tmux", "openssl"))
