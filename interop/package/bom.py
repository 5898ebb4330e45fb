#!/usr/bin/env python3
"""Adds to a bill of materials of the crates what the page inside the binary has from npm.

bom.py FILE
"""

import base64
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WEB = ROOT / "src/web"


def component(path, locked):
    """A package of the lock file, as CycloneDX writes one."""
    name = path.rsplit("node_modules/", 1)[1]
    purl = f"pkg:npm/{name.replace('@', '%40')}@{locked['version']}"
    kind, digest = locked["integrity"].split("-", 1)
    assert kind == "sha512", locked
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": locked["version"],
        "scope": "required",
        "hashes": [{"alg": "SHA-512", "content": base64.b64decode(digest).hex()}],
        "licenses": [{"expression": locked["license"]}],
        "purl": purl,
    }


def main():
    file = pathlib.Path(sys.argv[1])
    bom = json.loads(file.read_text())
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]
    # src/web/build.mjs lets nothing else into a script.
    shipped = {p: one for p, one in lock.items() if p and not one.get("dev")}
    added = {path: component(path, one) for path, one in shipped.items()}
    bom["components"] += added.values()
    by_ref = {one["ref"]: one for one in bom.setdefault("dependencies", [])}
    root = by_ref[bom["metadata"]["component"]["bom-ref"]]
    direct = [added[f"node_modules/{name}"]["bom-ref"] for name in lock[""]["dependencies"]]
    root["dependsOn"] = [*root.get("dependsOn", []), *direct]
    for path, one in added.items():
        needed = [added[f"node_modules/{name}"] for name in shipped[path].get("dependencies", {})]
        bom["dependencies"].append(
            {"ref": one["bom-ref"], "dependsOn": [n["bom-ref"] for n in needed]}
        )
    refs = [one["bom-ref"] for one in bom["components"]]
    assert len(refs) == len(set(refs)), "a component is there twice"
    assert any(one["name"] == "jssip" for one in bom["components"]), "the page has no JsSIP"
    file.write_text(json.dumps(bom, indent=2, ensure_ascii=False) + "\n")
    print(f"{len(added)} packages of npm are in {file.name}")


main()
