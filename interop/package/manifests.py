#!/usr/bin/env python3
"""Manifests against the schemas of Kubernetes itself, of every release the package knows, where an
unknown field is wrong. The chart's are rendered, and come as a list on the standard input.

manifests.py FILE ...
"""

import copy
import json
import pathlib
import sys

import yaml
from kubernetes_validate import ValidationError, utils


def wrong(manifest, release):
    """What is wrong with a manifest, if anything is."""
    try:
        utils.validate(manifest, release, strict=True)
    except ValidationError as error:
        return f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
    return None


def spoiled(manifest):
    """Each with one mistake of those that people make."""
    if manifest["kind"] != "DaemonSet":
        return
    for path, value in (
        (("hostnetwork",), True),
        (("terminationGracePeriodSeconds",), "15m"),
        (("containers", 0, "ports", 0, "protocol"), 17),
        (("containers", 0, "readinessProbe", "httpGet", "port"), None),
        (("volumes", 0, "configmap"), {"name": "webtrunk"}),
    ):
        other = copy.deepcopy(manifest)
        place = other["spec"]["template"]["spec"]
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value
        yield path, other


def main():
    given = {"the chart": json.load(sys.stdin)}
    for name in sys.argv[1:]:
        given[name] = list(yaml.safe_load_all(pathlib.Path(name).read_text()))
    # Oldest first, each twice: there are lenient schemas, too.
    releases = list(dict.fromkeys(utils.all_versions()))
    seen = 0
    for name, manifests in given.items():
        assert manifests, f"{name} has none"
        for manifest in manifests:
            for release in releases:
                said = wrong(manifest, release)
                assert not said, f"{name}, {manifest['kind']}, Kubernetes {release}: {said}"
            for path, other in spoiled(manifest):
                seen += 1
                assert wrong(other, releases[-1]), f"{name}: {path} is taken"
    assert seen, "no mistake was tried"
    print(f"the manifests fit Kubernetes {releases[0]} to {releases[-1]}")


main()
