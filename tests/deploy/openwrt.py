"""The init script for OpenWrt, run by busybox with stubs of procd and UCI."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPENWRT = ROOT / "cross" / "deploy" / "openwrt"

OWN_CONFIG = """
config couplet 'global'
	option enabled '1'
	option use_uci '1'
	option internet '1'
	option ports '5222 5269'
	option data '{data}'

config couplet 'server'
	list hosts 'a.example'
	list hosts 'b.example'
	list admins 'romeo@a.example'

config couplet 'storage'
	option path '{data}'
	option durability 'batched'

config couplet 'sasl'
	option iterations '20000'
	option plain 'false'

config couplet 'modules_motd'
	option text 'Say "friend" and enter C:\\DOS'

config couplet 'modules_external_services'
	option secret '"12345"'
	list services 'stun:a.example'
"""


def shell():
    return ["busybox", "ash"] if shutil.which("busybox") else ["sh"]


def start(folder, config, verb="start_service"):
    """What the script asks of procd, and the configuration that it makes."""
    uci = folder / "uci"
    uci.mkdir(exist_ok=True)
    (uci / "couplet").write_text(config)
    calls = folder / "calls"
    calls.write_text("")
    generated = folder / "etc" / "couplet.toml"
    script = "\n".join([f". '{ROOT}/tests/deploy/stubs.sh'", f". '{OPENWRT}/couplet.init'",
                        f"GENERATED='{generated}'", f"PROG='{folder}/couplet'", verb])
    done = subprocess.run([*shell(), "-c", script], env={"PATH": os.environ["PATH"], "CALLS": str(calls), "UCI": str(uci)},
                          capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise AssertionError(f"{verb}: {done.returncode}: {done.stderr}")
    return calls.read_text().splitlines(), generated


def couplet(binary, *args, **variables):
    return subprocess.run([binary, *args], capture_output=True, text=True, env={"PATH": os.environ["PATH"], **variables})


def init_script(checks, binary):
    with tempfile.TemporaryDirectory(prefix="couplet-deploy-") as name:
        folder = Path(name)
        data = folder / "data"
        shipped = (OPENWRT / "couplet.config").read_text().replace("/srv/couplet", str(data))

        calls, generated = start(folder, shipped)
        checks.that("the shipped configuration starts the server with its file",
                    f"procd_set_param command {folder}/couplet run --config /etc/couplet/couplet.toml" in calls, calls)
        checks.that("it respawns, reloads by HUP, drops its rights and has time to end", all(line in calls for line in [
            "procd_set_param respawn 3600 5 5", "procd_set_param reload_signal HUP", "procd_set_param user couplet",
            "procd_set_param group couplet", "procd_set_param no_new_privs 1", "procd_set_param term_timeout 15"]), calls)
        checks.that("nothing is opened to the internet", not any("firewall" in line for line in calls), calls)
        checks.that("the data folder is there, for its user alone",
                    data.stat().st_mode & 0o777 == 0o700 and f"chown -R couplet:couplet {data}" in calls, calls)
        checks.that("no file is made of UCI unless told", not generated.exists(), generated)

        calls, _ = start(folder, shipped.replace("enabled '1'", "enabled '0'"))
        checks.that("switched off, it starts nothing", calls == [], calls)

        # `$` and backquotes must come out as they went in.
        hostile = OWN_CONFIG.format(data=data).replace("C:", "`id` $HOME C:")
        calls, generated = start(folder, hostile)
        checks.that("with use_uci the server gets the file that is made",
                    f"procd_set_param command {folder}/couplet run --config {generated}" in calls, calls)
        ports = [line for line in calls if line.startswith("json_add_string dest_port")]
        checks.that("the ports are opened", ports == ["json_add_string dest_port 5222", "json_add_string dest_port 5269"]
                    and "json_add_string src wan" in calls, calls)
        checks.that("its rights are narrow", generated.stat().st_mode & 0o777 == 0o640, oct(generated.stat().st_mode))
        shown = couplet(binary, "config", "show", "-c", str(generated))
        wanted = ['hosts = ["a.example", "b.example"]', 'admins = ["romeo@a.example"]', "iterations = 20000", "plain = false",
                  'text = "Say \\"friend\\" and enter `id` $HOME C:\\\\DOS"', 'services = ["stun:a.example"]']
        missing = [line for line in wanted if line not in shown.stdout]
        checks.that("every kind of value comes through", shown.returncode == 0 and not missing,
                    f"{missing} {shown.stderr} {generated.read_text()}")
        checks.that("a text of digits in quotes stays a text", 'secret = "12345"' in generated.read_text(), generated.read_text())

        calls, _ = start(folder, shipped, "service_triggers")
        checks.that("a change of its configuration reloads it", calls == ["procd_add_reload_trigger couplet"], calls)
        (folder / "bin").mkdir()
        (folder / "bin" / "couplet").symlink_to(binary)
        version = couplet(binary, "--version").stdout.split()[-1]
        environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TMPDIR": name}
        tested = subprocess.run([*shell(), OPENWRT / "test.sh", "couplet", version], env=environment, capture_output=True,
                                text=True)
        checks.that("what the build robots run passes", tested.returncode == 0, tested.stdout + tested.stderr)
        checked = couplet(binary, "config", "show", "-c", str(OPENWRT / "couplet.toml"))
        checks.that("the shipped couplet.toml is right", checked.returncode == 0, checked.stderr)


def lint(checks):
    """Scripts of the shell, by shellcheck."""
    scripts = [*(ROOT / "cross" / name for name in ["build", "image", "pack", "reproducible", "size"]),
               OPENWRT / "test.sh", OPENWRT / "couplet.init",
               *(ROOT / "cross" / "deploy" / "deb").iterdir()]
    if not shutil.which("shellcheck"):
        return checks.skip("shellcheck", "not installed; try `apt-get install shellcheck`")
    for script in scripts:
        done = subprocess.run(["shellcheck", "-s", "sh", script], capture_output=True, text=True)
        checks.that(f"shellcheck {script.relative_to(ROOT)}", done.returncode == 0, done.stdout)
    return None


if __name__ == "__main__":
    sys.exit("run tests/deploy/run")
