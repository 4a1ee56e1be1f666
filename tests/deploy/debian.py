"""The unit for systemd, and the package for Debian in a tree of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "cross" / "deploy" / "systemd" / "couplet.service"
# More than that is "exposed" in the words of systemd-analyze; 10 is everything open.
EXPOSURE_MAX = 2.0


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)


def unit(checks, binary):
    """What the unit lets the program do, and what the program tells its supervisor."""
    analyze = shutil.which("systemd-analyze")
    if analyze:
        done = run(analyze, "security", "--offline=true", UNIT)
        last = (done.stdout.strip().splitlines() or [done.stderr])[-1]
        scores = [float(word) for word in last.split() if word.replace(".", "").isdigit()]
        checks.that("the unit is closed", scores and scores[0] < EXPOSURE_MAX, last)
    else:
        checks.skip("the unit is closed", "no systemd-analyze here")
    with tempfile.TemporaryDirectory(prefix="couplet-unit-") as name:
        folder = Path(name)
        notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notified.bind(str(folder / "notify"))
        notified.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "400000", **own(folder)}
        server = subprocess.Popen([binary, "run"], cwd=folder, env=environment, text=True,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            heard = [notified.recv(4096).decode().splitlines()[0] for _ in range(3)]
            checks.that("it says when it is ready, and goes on saying that it lives",
                        heard == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"], heard)
            server.send_signal(signal.SIGTERM)
            heard = ""
            while not heard.startswith("STOPPING=1"):
                heard = notified.recv(4096).decode()
            checks.that("it says that it stops, and ends", server.wait(20) == 0, server.returncode)
        except TimeoutError:
            server.kill()
            checks.that("a supervisor hears of it", False, server.communicate()[1])


def own(folder):
    """A configuration by the environment that disturbs nobody on this machine."""
    return {"PATH": os.environ["PATH"], "COUPLET_HOSTS": "localhost", "COUPLET_STORAGE__PATH": str(folder / "data"),
            "COUPLET_C2S__LISTEN": "127.0.0.1:0", "COUPLET_C2S__DIRECT_TLS_LISTEN": "", "COUPLET_S2S__ENABLED": "false"}


def installed(checks, binary):
    """Installs, starts, upgrades, removes and purges in a fresh tree of Debian."""
    if os.geteuid() or not shutil.which("debootstrap"):
        return checks.skip("deb in a tree of Debian", "needs root and debootstrap")
    written = run(ROOT / "cross" / "package", "deb", "x86_64-unknown-linux-musl", binary,
                  env={"COUPLET": str(binary), **os.environ})
    if written.returncode:
        return checks.that("the package is written", False, written.stderr)
    package = ROOT / written.stdout.split()[1]
    tree = ROOT / "target" / "deb-test"
    if not (tree / "bin" / "sh").exists():
        made = run("debootstrap", "--variant=minbase", "--include=systemd,init-system-helpers", "bookworm", tree)
        if made.returncode:
            return checks.skip("deb in a tree of Debian", f"no tree: {made.stderr.strip()[-200:]}")
    inside = lambda *command, **options: run("chroot", tree, *command, **options)
    inside("dpkg", "--purge", "couplet")
    shutil.copy(package, tree / "tmp" / "couplet.deb")
    first = inside("dpkg", "-i", "/tmp/couplet.deb")
    checks.that("deb: installs", first.returncode == 0, first.stdout + first.stderr)
    owner = inside("stat", "-c", "%U:%G %a", "/var/lib/couplet")
    checks.that("deb: its user has its folder", owner.stdout.strip() == "couplet:couplet 700", owner.stdout + owner.stderr)
    wanted = tree / "etc" / "systemd" / "system" / "multi-user.target.wants" / "couplet.service"
    checks.that("deb: starts at boot", wanted.is_symlink(), list(wanted.parent.glob("*")))
    add = ["setpriv", "--reuid=couplet", "--regid=couplet", "--clear-groups", "couplet"]
    added = inside(*add, "user", "add", "romeo@localhost", "--password-stdin", input="secret\n")
    checks.that("deb: a user is added", added.returncode == 0, added.stdout + added.stderr)
    variables = {**own(Path("/")), "COUPLET_STORAGE__PATH": "/var/lib/couplet", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    server = subprocess.Popen(["chroot", tree, *add, "run"], env=variables, stderr=subprocess.PIPE, text=True)
    deadline, health = time.monotonic() + 20, None
    while time.monotonic() < deadline and (health is None or health.returncode):
        time.sleep(0.1)
        health = inside(*add, "healthcheck")
    checks.that("deb: starts and is well", health.returncode == 0, health.stdout + health.stderr)
    server.terminate()
    server.wait(20)
    (tree / "etc" / "couplet" / "couplet.toml").open("a").write("# mine\n")
    second = inside("dpkg", "-i", "/tmp/couplet.deb")
    listed = inside(*add, "user", "list")
    checks.that("deb: an upgrade keeps configuration and data", second.returncode == 0 and "romeo@localhost" in listed.stdout
                and "# mine" in (tree / "etc" / "couplet" / "couplet.toml").read_text(), second.stderr + listed.stderr)
    removed = inside("dpkg", "--remove", "couplet")
    checks.that("deb: `remove` leaves the data", removed.returncode == 0 and (tree / "var/lib/couplet").exists(), removed.stderr)
    purged = inside("dpkg", "--purge", "couplet")
    checks.that("deb: `purge` takes it", purged.returncode == 0 and not (tree / "var/lib/couplet").exists(), purged.stderr)
    return None
