"""Packages for Debian and OpenWrt: written, read back, and installed, upgraded and removed by the tools of OpenWrt."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKED_BYTES = 1 << 20


def written(checks, binary):
    """Of a binary that runs here; the writer itself reads them back to the byte."""
    target = "x86_64-unknown-linux-musl"
    first = {}
    with tempfile.TemporaryDirectory(prefix="couplet-packages-") as name:
        # It is the packing that is tried: a part of a large debug build does.
        packed = Path(name) / "couplet"
        packed.write_bytes(binary.read_bytes()[:PACKED_BYTES])
        for _ in range(2):
            for kind in ["deb", "ipk", "apk"]:
                done = subprocess.run([ROOT / "cross" / "package", kind, target, packed], capture_output=True, text=True,
                                      env=dict(os.environ, COUPLET=str(binary)))
                checks.that(f"{kind} is written and read back", done.returncode == 0, done.stdout + done.stderr)
                if done.returncode:
                    return
                package = ROOT / done.stdout.splitlines()[0].split()[1]
                content = package.read_bytes()
                checks.that(f"{kind}: the same input gives the same bytes", first.setdefault(kind, content) == content, "")
                damaged = Path(name) / package.name
                damaged.write_bytes(content[:len(content) // 2] + b"\xff\0\xff" + content[len(content) // 2 + 3:])
                broken = subprocess.run([ROOT / "cross" / "package", "list", damaged], capture_output=True, text=True)
                checks.that(f"{kind}: damage is noticed", broken.returncode != 0, broken.stdout)
                REAL_TOOLS[kind](checks, package, packed, Path(name))


def readable(checks, package, _, folder):
    dpkg = shutil.which("dpkg-deb")
    if not dpkg:
        return checks.skip("deb: read by the real tool", "no dpkg-deb here")
    read = run(dpkg, "--field", package, "Package", "Version")
    unpacked = run(dpkg, "--extract", package, folder / "root-deb")
    checks.that("deb: the real tool reads it", read.returncode == 0 and unpacked.returncode == 0, read.stderr)
    return None


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def by_apk(checks, package, packed, folder):
    apk = os.environ.get("APK") or shutil.which("apk")
    if not apk:
        return checks.skip("apk: installed by the real tool", "no apk (apk-tools 3) here; name one with APK=")
    verified = run(apk, "verify", "--allow-untrusted", package)
    checks.that("apk: the real tool finds it whole", verified.returncode == 0, verified.stdout + verified.stderr)
    if not may_enter(checks, "apk"):
        return None
    root = router(folder, "apk", apk)
    base = [*inside(root), "--arch", "x86_64", "--allow-untrusted", "--no-network"]
    return installed(checks, "apk", root, package, packed, add=[*base, "add", "--initdb"], upgrade=[*base, "add"],
                     remove=[*base, "del", "couplet"], calls={
                         "installed": ["add_group_and_user", "default_postinst"],
                         "upgraded": ["add_group_and_user", "default_postinst", "rc /etc/init.d/couplet restart"],
                         "removed": ["default_prerm"]})


def by_opkg(checks, package, packed, folder):
    opkg = os.environ.get("OPKG") or shutil.which("opkg")
    if not opkg:
        return checks.skip("ipk: installed by the real tool", "no opkg here; name one with OPKG=")
    if not may_enter(checks, "ipk"):
        return None
    root = router(folder, "ipk", opkg)
    (root / "etc" / "opkg.conf").write_text("dest root /\narch all 1\narch x86_64 10\n")
    base = [*inside(root), "-f", "/etc/opkg.conf"]
    return installed(checks, "ipk", root, package, packed, add=[*base, "install"], upgrade=[*base, "install"],
                     remove=[*base, "remove", "couplet"], calls={
                         "installed": ["default_postinst"], "upgraded": ["default_prerm", "default_postinst"],
                         "removed": ["default_prerm"]})


# What the scripts of packages call on a router, as lines of /calls.
ROUTER = {
    "lib/functions.sh": "".join(f"{name}() {{ echo {name} >>/calls; }}\n"
                                for name in ["add_group_and_user", "default_postinst", "default_prerm"]),
    "etc/rc.common": '#!/bin/sh\necho "rc $*" >>/calls\n',
}


def may_enter(checks, kind):
    if os.geteuid() != 0 or not shutil.which("busybox"):
        return checks.skip(f"{kind}: installed by the real tool", "needs root, to enter a tree, and busybox for it")
    return True


def router(folder, kind, tool):
    """A tree with a shell, the tool and the libraries of both, in which the tool runs as on a router."""
    root = folder / f"root-{kind}"
    shutil.rmtree(root, ignore_errors=True)
    for part in ["bin", "dev", "etc", "lib", "proc", "tmp", "usr/lib", "var/lock", "var/run"]:
        (root / part).mkdir(parents=True)
    programs = {"/bin/busybox": Path(shutil.which("busybox")).resolve(), "/bin/tool": Path(tool).resolve()}
    for place, program in programs.items():
        shutil.copy(program, root / place[1:])
        for word in run("ldd", program).stdout.split():
            if word.startswith("/"):
                (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, root / word[1:])
    for applet in ["sh", "gzip", "rm", "cp", "mv", "mkdir"]:
        (root / "bin" / applet).symlink_to("busybox")
    for name, content in ROUTER.items():
        (root / name).write_text(content)
        (root / name).chmod(0o755)
    return root


def inside(root):
    return ["chroot", root, "/bin/tool"]


def installed(checks, kind, root, package, packed, add, upgrade, remove, calls):
    """What its owner has changed stays; and at each step its script does what the router needs."""
    config, program, called = root / "etc/config/couplet", root / "usr/bin/couplet", root / "calls"

    def step(what, command, is_so):
        called.write_text("")
        done = run(*command)
        scripts = called.read_text().splitlines()
        checks.that(f"{kind}: {what} by the real tool", done.returncode == 0 and is_so(), done.stdout + done.stderr)
        checks.that(f"{kind}: {what}, its script has run", scripts == calls[what], f"{scripts} {done.stdout} {done.stderr}")
        return done.returncode == 0 and is_so()

    def carry(package):
        shutil.copy(package, root / "tmp")
        return f"/tmp/{package.name}"

    if not step("installed", [*add, carry(package)],
                lambda: config.exists() and program.read_bytes() == packed.read_bytes()):
        return None
    config.write_text("# mine\n")
    newer = packed.with_name("newer")
    newer.write_bytes(packed.read_bytes() + b"newer")
    packing = subprocess.run([ROOT / "cross" / "package", kind, "x86_64-unknown-linux-musl", newer], capture_output=True,
                             text=True, env=dict(os.environ, RELEASE="2"))
    replacing = ROOT / packing.stdout.split()[1]
    step("upgraded", [*upgrade, carry(replacing)],
         lambda: config.read_text() == "# mine\n" and program.read_bytes() == newer.read_bytes())
    replacing.unlink()
    step("removed", remove, lambda: not program.exists())
    return None


REAL_TOOLS = {"deb": readable, "ipk": by_opkg, "apk": by_apk}
