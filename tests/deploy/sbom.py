"""The list of what the binary is made of: complete, and the same twice."""

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def complete(checks, binary, target):
    def written():
        done = subprocess.run([ROOT / "cross" / "sbom", target, binary], capture_output=True, text=True)
        return (ROOT / done.stdout.strip()).read_bytes() if done.returncode == 0 else done.stderr.encode()

    first, second = written(), written()
    checks.that("sbom: the same twice", first == second, "they differ")
    try:
        bom = json.loads(first)
    except ValueError:
        return checks.that("sbom: written", False, first.decode())
    listed = {(part["name"], part["version"]): part for part in [bom["metadata"]["component"], *bom["components"]]}
    tree = subprocess.run(["cargo", "tree", "--locked", "--target", target, "-e", "normal", "--prefix", "none"], cwd=ROOT,
                          capture_output=True, text=True, check=True).stdout
    crates = set(re.findall(r"^(\S+) v(\S+)", tree, re.MULTILINE))
    checks.that(f"sbom: has all {len(crates)} crates", crates and crates <= listed.keys(), crates - listed.keys())
    locked = (ROOT / "Cargo.lock").read_text()
    wrong = [name for (name, version), part in listed.items() if (name, version) in crates and not (
        part["licenses"] and part["purl"] == f"pkg:cargo/{name}@{version}"
        and all(digest["content"] in locked for digest in part["hashes"] if part["type"] == "library"))]
    checks.that("sbom: each with its licence and checksum", not wrong, wrong)
    macros = {name for name, part in listed.items() if part.get("scope") == "excluded"}
    checks.that("sbom: macros are not in the binary", any(name == "syn" for name, _ in macros), macros)
    references = {part["bom-ref"] for part in listed.values()}
    named = {ref for row in bom["dependencies"] for ref in [row["ref"], *row["dependsOn"]]}
    checks.that("sbom: names nothing that is not in it", named <= references, named - references)
    return None
