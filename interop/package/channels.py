#!/usr/bin/env python3
"""The Helm chart, the Homebrew formula and the image, held against the gateway they are for.

channels.py BINARY FOLDER PYTHON   FOLDER is what dist.sh made, PYTHON has the schemas of Kubernetes
"""

import hashlib
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "interop/helm/webtrunk"
BINARY, FOLDER, PYTHON = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]


def run(*args, **more):
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=60, **more)


def value_of(path, scope):
    for part in path.strip(".").split("."):
        if part not in scope:
            raise AssertionError(f"the templates use {path}, which nothing defines")
        scope = scope[part]
    return scope


def written(value, filters):
    """A value as Helm writes it: these templates use three of its functions and no control flow."""
    for name, *arguments in filters:
        if name == "quote":
            value = json.dumps(value)
        elif name == "toYaml":
            value = yaml.safe_dump(value, sort_keys=False, default_style=None).rstrip()
        elif name == "indent":
            blank = " " * int(arguments[0])
            value = "\n".join(blank + line if line else line for line in value.split("\n"))
        else:
            raise AssertionError(f"this test knows no function {name}")
    return str(value)


def rendered(template, scope):
    def one(found):
        path, *filters = (part.strip() for part in found[1].split("|"))
        return written(value_of(path, scope), [f.split() for f in filters])

    return re.sub(r"\{\{(.*?)\}\}", one, template)


def chart(version, work):
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert about["version"] == about["appVersion"] == values["image"]["tag"] == version, about
    scope = {"Values": values, "Release": {"Name": "calls"}, "Chart": {"AppVersion": version}}
    made = []
    for template in sorted((CHART / "templates").iterdir()):
        made += yaml.safe_load_all(rendered(template.read_text(), scope))
    words = [
        PYTHON,
        ROOT / "interop/package/manifests.py",
        ROOT / "interop/kubernetes/webtrunk.yaml",
    ]
    subprocess.run(words, input=json.dumps(made), text=True, check=True)
    by_name = {(m["kind"], m["metadata"]["name"]): m for m in made}
    config = by_name["ConfigMap", "calls"]["data"]["webtrunk.toml"]
    plans = by_name["ConfigMap", "calls-dialplans"]["data"]
    # As in the container, but for the folders that are not there.
    (work / "dialplans").mkdir()
    for name, plan in plans.items():
        (work / "dialplans" / name).write_text(plan)
    (work / "webtrunk.toml").write_text(config.replace("/var/lib/webtrunk", str(work)))
    done = run("check-config", "-c", str(work / "webtrunk.toml"))
    assert done.returncode == 0, done.stderr + done.stdout
    pod = by_name["DaemonSet", "calls"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    ports = {(p["protocol"], p["containerPort"]) for p in container["ports"]}
    listed = run("ports", "-c", str(work / "webtrunk.toml")).stdout
    for protocol, port in ports:
        wanted = re.compile(rf"\b{port}\b.*\b{protocol}\b|\b{protocol}\b.*\b{port}\b", re.I)
        assert any(wanted.search(line) for line in listed.splitlines()), (protocol, port, listed)
    patience = re.search(r'drain_timeout = "(\d+)m"', config)
    assert pod["terminationGracePeriodSeconds"] > 60 * int(patience[1]), "calls are cut off"
    assert pod["hostNetwork"], "a Service forwards no media"
    assert container["args"][0] == "serve"
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in ("/livez", "/readyz")
    mounted = {m["name"] for m in container["volumeMounts"]}
    assert mounted == {v["name"] for v in pod["volumes"]}, mounted
    archive = FOLDER / f"webtrunk-chart-{version}.tgz"
    with tarfile.open(archive) as packed:
        assert "webtrunk/Chart.yaml" in packed.getnames()


def formula(version):
    text = (FOLDER / "webtrunk.rb").read_text()
    assert re.search(r'^  version "(.*)"$', text, re.M)[1] == version
    urls = re.findall(r'url "[^"]*/([^/"]+)"\n\s*sha256 "([0-9a-f]{64})"', text)
    assert urls, "no archive"
    for name, digest in urls:
        archive = FOLDER / name
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == digest, name
        with tarfile.open(archive) as packed:
            inside = {n.split("/", 1)[1] for n in packed.getnames() if "/" in n}
            # A folder of the prefix takes the place of the one that only a package may write to.
            [name_of_config] = [n for n in packed.getnames() if n.endswith("/webtrunk.toml")]
            config = packed.extractfile(name_of_config)
            replaced = re.search(r'inreplace "webtrunk.toml", "(.*?)"', text)[1]
            assert replaced in config.read().decode(), replaced
        # What the formula installs is in the archive.
        for installed in re.findall(r'install (?:Dir\[)?"([^"]+)"', text):
            found = [n for n in inside if pathlib.PurePath(n).match(installed)]
            assert found, f"{installed} is not in {name}"
    # Every block has its end.
    opened = len(re.findall(r"^\s*(?:class|def|test|service|on_\w+)\b.*", text, re.M))
    assert opened == len(re.findall(r"^\s*end$", text, re.M)), "an end is missing"


def image(version):
    for archive in FOLDER.glob("*.oci.tar"):
        with tarfile.open(archive) as packed:
            index = json.load(packed.extractfile("./index.json"))
            blob = lambda d: packed.extractfile("./blobs/" + d.replace(":", "/"))  # noqa: E731
            [entry] = index["manifests"]
            assert entry["annotations"]["org.opencontainers.image.ref.name"] == version
            manifest = json.load(blob(entry["digest"]))
            config = json.load(blob(manifest["config"]["digest"]))
            [layer] = manifest["layers"]
            with tarfile.open(fileobj=io.BytesIO(blob(layer["digest"]).read())) as files:
                names = {n.lstrip("./") for n in files.getnames()}
        assert {"webtrunk", "etc/ssl/certs/ca-certificates.crt", "etc/passwd"} <= names, names
        inner = config["config"]
        assert inner["Entrypoint"] == ["/webtrunk"], inner
        assert inner["Cmd"] == ["demo", "--listen", "0.0.0.0"], inner
        assert set(inner["ExposedPorts"]) == {"8088/tcp", "8088/udp"}, inner
        assert inner["User"] == "65532:65532", inner


def main():
    version = run("--version").stdout.split()[1]
    with tempfile.TemporaryDirectory() as work:
        chart(version, pathlib.Path(work))
    formula(version)
    image(version)
    print("chart, formula and image fit the gateway")


main()
