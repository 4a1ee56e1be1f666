"""The alerts for Prometheus: read by promtool, and what they say about figures (rules.test.yml)."""

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
RULES = HERE.parents[1] / "cross/deploy/prometheus/couplet.rules.yml"


def alerts(checks, _binary):
    if shutil.which("promtool") is None:
        return checks.skip("rules: read by promtool", "not installed; try `apt-get install prometheus`")
    for what, command in (("read", ["check", "rules", RULES]), ("tried", ["test", "rules", "rules.test.yml"])):
        done = subprocess.run(["promtool", *command], cwd=HERE, capture_output=True, text=True, timeout=120)
        checks.that(f"rules: {what} by promtool", done.returncode == 0, done.stdout + done.stderr)
    return None
