"""What small machines lack: the time, memory, room, a disk that can be written, authorities, IPv6. Each has a line that says
what to do, and what was stored before is there afterwards."""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from random import Random

STORE = "couplet.redb"


class Machine:
    def __init__(self, folder, binary):
        self.folder, self.binary = folder, shlex.quote(str(binary))
        self.data = folder / "disk" / "data"
        self.data.parent.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"], "COUPLET_HOSTS": "localhost", "COUPLET_STORAGE__PATH": str(self.data),
            "COUPLET_C2S__LISTEN": "127.0.0.1:0", "COUPLET_C2S__DIRECT_TLS_LISTEN": "", "COUPLET_S2S__LISTEN": "127.0.0.1:0",
            "COUPLET_S2S__DIRECT_TLS_LISTEN": "", "COUPLET_SASL__ITERATIONS": "4096",
        }

    def sh(self, script, **settings):
        """Runs a script in namespaces of its own, where mounts and addresses disturb nobody. `$run` starts the server and
        stops it as soon as it serves, or refuses to; `$couplet` is the program."""
        notify = self.folder / "notify"
        run = f"python3 {shlex.quote(str(Path(__file__).resolve().parent / 'until_ready.py'))} {notify} {self.binary}"
        return subprocess.run(["unshare", "--mount", "--net", "sh", "-c", f"ip link set lo up; {script}"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, cwd=self.folder,
                              env={**self.environment, **settings, "run": run, "couplet": self.binary,
                                   "disk": str(self.data.parent)}).stdout

    def has(self, *users):
        return self.sh("$couplet user list").split() == [f"{user}@localhost" for user in users]


def scarce(checks, binary):
    if os.geteuid() or not shutil.which("unshare") or subprocess.run(["unshare", "--mount", "--net", "true"]).returncode:
        return checks.skip("machines that lack something", "needs root and namespaces")
    with tempfile.TemporaryDirectory(prefix="couplet-machine-") as name:
        machine = Machine(Path(name), binary)
        clock(checks, machine, binary)
        disks(checks, machine)
        rest(checks, machine)
        damaged(checks, machine)
    return None


def says(checks, what, told, *texts):
    """One line has all the texts."""
    checks.that(what, any(all(text in line for text in texts) for line in told.splitlines()), told)


def clock(checks, machine, binary):
    if not shutil.which("faketime") or b"ld-linux" not in Path(binary).read_bytes():
        return checks.skip("machine: a clock of 1970", "needs faketime (`apt-get install faketime`) and a dynamic binary")
    told = machine.sh("faketime -f '@1970-01-01 00:01:00' $run")
    says(checks, "machine: a clock of 1970 is named", told, "clock says 1970-01-01T00:01", "start what sets it (NTP)")
    dates = machine.sh("openssl x509 -noout -startdate -enddate -in $disk/data/certs/localhost.crt")
    checks.that("machine: a certificate made then is valid now", "2025 GMT" in dates and "2035 GMT" in dates, dates)
    machine.sh("echo secret | faketime '1970-01-01' $couplet user add romeo@localhost --password-stdin")
    told = machine.sh("$run")
    checks.that("machine: and nothing is amiss once the clock is set", "ready" in told and "clock" not in told, told)
    told = machine.sh("faketime -f '@1970-01-01 00:01:00' $run; faketime '1970-01-01' $couplet check")
    says(checks, "machine: check names it, too", told, "warn  clock: ", "NTP")
    checks.that("machine: a clock that goes back harms nothing", machine.has("romeo"), told)
    return None


def disks(checks, machine):
    machine.sh("$run; echo secret | $couplet user add juliet@localhost --password-stdin")
    before = machine.sh("$couplet user list")
    told = machine.sh("mount --bind $disk $disk; mount -o remount,ro,bind $disk; $run; $couplet check")
    says(checks, "machine: a disk that is mounted read-only is named", told, "Read-only", "mount it for writing")
    says(checks, "machine: check names it, too", told, "FAIL  storage: ", "mount it for writing")
    told = machine.sh("mount -t tmpfs -o ro,size=64k tmpfs $disk; $run; $couplet check")
    says(checks, "machine: so is one without a data folder", told, "cannot make the data folder", "mount its disk for writing")
    says(checks, "machine: check names it, too", told, "FAIL  storage: ", "mount it for writing")
    for size in ["4k", "64k", "512k"]:
        told = machine.sh(f"mount -t tmpfs -o size={size} tmpfs $disk; $run; ls $disk/data; $couplet check")
        says(checks, f"machine: a disk of {size} is too small, and that is said", told, "room")
        checks.that("machine: no half of a store stays", STORE not in told.split(), told)
        says(checks, "machine: check names it, too", told, "FAIL  storage: ", "free some space")
    told = machine.sh("mount -t tmpfs -o size=2m tmpfs $disk; $run; "
                      "head -c 9000000 /dev/zero >$disk/fill 2>/dev/null; $run; $couplet check")
    says(checks, "machine: a disk that is full is named, and served from", told, "kB are free where", "free some space")
    checks.that("machine: all of that has harmed nothing", before and machine.sh("$couplet user list") == before, before)


def rest(checks, machine):
    told = machine.sh("mount -t tmpfs tmpfs /etc/ssl; test ! -d /etc/pki || mount -t tmpfs tmpfs /etc/pki; $run")
    says(checks, "machine: missing authorities are named", told, "no list of certificate authorities", "install ca-certificates")
    told = machine.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1; $run", COUPLET_C2S__LISTEN="[::]:0")
    checks.that("machine: without IPv6 it serves IPv4", "ready" in told, told)
    told = machine.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1; $run", COUPLET_C2S__LISTEN="[::1]:0")
    says(checks, "machine: an address of IPv6 that is gone is named", told, "no such address", "set c2s.listen")
    for kilobytes in range(4000, 64000, 1000):
        told = machine.sh(f"ulimit -v {kilobytes}; exec $couplet run", NOTIFY_SOCKET="")
        if "INFO" in told or "the system gives no" in told:
            break
    says(checks, "machine: too little memory for a thread is named", told, "the system gives no threads", "more memory")


def damaged(checks, machine):
    """Bytes of the data file that are not what they were. What reads it may panic, also where it cleans up; that has to
    be caught in any build, and told."""
    for name in ["damaged", "broken", "bent"]:
        machine.sh(f"echo secret | $couplet user add {name}@localhost --password-stdin")
    store, random = machine.data / STORE, Random(1)
    good = store.read_bytes()
    ended = {}
    for attempt in range(300):
        bad = bytearray(good)
        for _ in range(random.choice([1, 4, 40, 400])):
            bad[random.randrange(320 if attempt % 3 else 64, len(bad))] = random.randrange(256)
        if attempt % 3 == 0:
            bad[random.randrange(64, 4096)] ^= 255
            # Was not closed.
            bad[9] |= 2
        store.write_bytes(bad)
        done = subprocess.run([shlex.split(machine.binary)[0], "user", "list"], env=machine.environment, text=True,
                              cwd=machine.folder, capture_output=True, timeout=60)
        ended.setdefault(done.returncode, done.stderr)
    store.write_bytes(good)
    checks.that("machine: a damaged data file is an error, and never the end of the process", set(ended) <= {0, 1}, ended)
