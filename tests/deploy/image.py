"""The image for containers: made by buildah, run by podman, both without a daemon."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import device

ROOT = Path(__file__).resolve().parents[2]
NAME = "couplet-image-test"
PODMAN = ["podman", "--storage-driver", "vfs"]
# Debian's crun fails where control groups of both versions are mounted.
RUN = [*PODMAN, "run", "--runtime", "runc", "--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)


def manifest(checks, platforms):
    """One image for several processors: each finds its own program in it."""
    name = f"{NAME}-all"
    made = run(ROOT / "cross" / "image", name, *platforms)
    if made.returncode:
        return checks.that("image: made for several processors", False, made.stdout + made.stderr)
    listed = [entry["platform"] for entry in json.loads(made.stdout)["manifests"]]
    found = ["/".join(filter(None, [entry["architecture"], entry.get("variant")])) for entry in listed]
    wanted = [platform.split("=")[0] for platform in platforms]
    checks.that("image: made for several processors", found == wanted, made.stdout)
    for platform in wanted:
        processor, _, variant = platform.partition("/")
        emulator = {"arm64": "qemu-aarch64-static", "arm": "qemu-arm-static"}.get(processor)
        options = ["--arch", processor, *(["--variant", variant] if variant else []), "--no-healthcheck"]
        if emulator:
            try:
                if not shutil.which(emulator):
                    device.tools.debian("qemu-user-static")
            except device.tools.Missing as why:
                checks.skip(f"image: {platform} starts", str(why))
                continue
            options += ["-v", f"/usr/bin/{emulator}:/emulator:ro", "--entrypoint", "/emulator"]
        about = run(*RUN, "--rm", *options, f"localhost/{name}", *(["/couplet"] if emulator else []), "about")
        checks.that(f"image: {platform} starts", about.returncode == 0 and "tier: minimal" in about.stdout, about.stderr)
    run("buildah", "--storage-driver", "vfs", "manifest", "rm", name)
    return None


def container(checks, binary, platforms=()):
    if not all(map(shutil.which, ["buildah", "podman", "runc"])):
        try:
            device.tools.debian("buildah", "podman", "runc")
        except device.tools.Missing as why:
            return checks.skip("image", str(why))
    if b"ld-linux" in binary.read_bytes():
        return checks.that("image: the binary is static", False, f"{binary} needs a loader; `make ship` builds one")
    if len(platforms) > 1:
        manifest(checks, platforms)
    made = run(ROOT / "cross" / "image", NAME, f"amd64={binary}")
    checks.that("image: made", made.returncode == 0, made.stdout + made.stderr)
    if made.returncode:
        return None
    inspected = json.loads(run(*PODMAN, "image", "inspect", NAME).stdout or "[{}]")[0]
    said = inspected.get("Config", {})
    checks.that("image: says what it is", said.get("User") == "10000:10000" and said.get("StopSignal") == "SIGTERM"
                and "/data" in said.get("Volumes", {}), said)
    asks = (inspected.get("Healthcheck") or {}).get("Test")
    checks.that("image: asks the program how it is", asks == ["CMD", "/couplet", "healthcheck"], asks)
    with tempfile.TemporaryDirectory(prefix="couplet-image-") as name:
        copy = Path(name) / "copy"
        copy.write_bytes(binary.read_bytes())
        again = run(ROOT / "cross" / "image", f"{NAME}-again", f"amd64={copy}", umask=0o077)
        layers = [json.loads(run(*PODMAN, "image", "inspect", which).stdout or "[{}]")[0].get("RootFS", {}).get("Layers")
                  for which in [NAME, f"{NAME}-again"]]
        checks.that("image: the same binary gives the same layer", layers[0] and layers[0] == layers[1], f"{layers} {again.stderr}")
        run(*PODMAN, "image", "rm", "-f", f"{NAME}-again")
    with tempfile.TemporaryDirectory(prefix="couplet-image-") as name:
        data = Path(name) / "data"
        data.mkdir()
        refused = run(*RUN, "--rm", "--user", "12345:12345", "--read-only", "--cap-drop", "all", "-v", f"{data}:/data", NAME)
        checks.that("image: says what to do where /data cannot be written", refused.returncode != 0 and
                    "chown" in refused.stderr and "/data" in refused.stderr, refused.stdout + refused.stderr)
        os.chown(data, 12345, 12345)
        port = device.server.free_ports(1)[0]
        settings = {"PROSODY_VIRTUAL_HOSTS": "localhost", "COUPLET_C2S__LISTEN": f"127.0.0.1:{port}",
                    "COUPLET_C2S__DIRECT_TLS_LISTEN": "", "COUPLET_S2S__ENABLED": "false"}
        options = [part for pair in settings.items() for part in ("-e", "=".join(pair))]
        closed = ["--user", "12345:12345", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges",
                  "-v", f"{data}:/data", *options]
        limits = ["--memory", "32m", "--memory-swap", "32m"]
        limited = run(*RUN, "--rm", *closed, *limits, NAME, "--version")
        if limited.returncode:
            checks.skip("image: holds in 32 MB", f"memory cannot be limited here: {limited.stderr.strip()[-160:]}")
            limits = []
        box = f"{NAME}-{port}"

        def command(*args, **how):
            running = run(*PODMAN, "container", "inspect", box).returncode == 0
            inside = ["exec", "-i", box, "/couplet"] if running else None
            return run(*PODMAN, *inside, *args, **how) if inside else run(*RUN, "-i", "--rm", *closed, NAME, *args, **how)

        def start():
            started = run(*RUN, "-d", "--rm", "--name", box, *closed, *limits, NAME)
            checks.that("image: starts" + (" in 32 MB" if limits else ""), started.returncode == 0, started.stderr)

        def stop():
            return run(*PODMAN, "stop", "--time", "20", box).returncode

        try:
            device.journey(checks, "image", port, command, start, stop)
        finally:
            run(*PODMAN, "rm", "-f", box)
    return None
