"""What `helm upgrade` changes and what it leaves alone, on a real API server without machines: so hooks do not run."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kube.lab.definition import CRD, define
from tests.kube.lab.handle import Kube
from tests.kube.lab.ring import CHART

NAME = "rings.coterie.chat"
VERSION = "coterie.chat/chart-version"
INSTALL = ("install", "coterie", CHART, "--skip-crds")
"""The definition is there already, by kubectl: Helm applies what is in crds/ as its own, and leaves others' alone."""

_numbers = itertools.count(1)


@pytest.fixture
def plane(control_plane: Kube) -> Iterator[Kube]:
    """The control plane with the chart's definition, whatever a test makes of that."""
    define(control_plane)
    yield control_plane
    define(control_plane)


@pytest.fixture
def space(plane: Kube) -> Iterator[str]:
    with plane.namespace(f"upgraded-{next(_numbers)}", enforce="restricted", warn="restricted") as name:
        yield name
        plane.helm("uninstall", "coterie", "-n", name, "--ignore-not-found", "--no-hooks")


def size(plane: Kube, space: str) -> int:
    return int(plane.get("ring", "main", "-n", space)["spec"]["replicas"])


def test_an_upgrade_keeps_the_size_of_a_ring(plane: Kube, space: str) -> None:
    plane.helm(*INSTALL, "-n", space)
    plane.kubectl("scale", "ring/main", "--replicas=5", "-n", space)
    upgrade = ("upgrade", "coterie", CHART, "-n", space, "--no-hooks")

    assert "ring.replicas" not in plane.helm(*upgrade, "--set", "ring.replicas=5").stdout
    assert size(plane, space) == 5

    done = plane.helm(*upgrade, "--set", "ring.replicas=4", "--set", "ring.storage.size=2Gi")
    assert size(plane, space) == 5
    assert plane.get("ring", "main", "-n", space)["spec"]["storage"]["size"] == "2Gi"
    assert 'The ring "main" keeps its 5 nodes' in done.stdout
    assert f"kubectl -n {space} scale ring/main --replicas=4" in done.stdout

    # And what was upgraded can be scaled again.
    plane.kubectl("scale", "ring/main", "--replicas=3", "-n", space)
    plane.helm(*upgrade)
    assert size(plane, space) == 3


def test_a_rollback_does_not_scale_back_either(plane: Kube, space: str) -> None:
    plane.helm(*INSTALL, "-n", space)
    plane.helm("upgrade", "coterie", CHART, "-n", space, "--no-hooks", "--set", "image.tag=bad")
    plane.kubectl("scale", "ring/main", "--replicas=5", "-n", space)
    refused = plane.helm("rollback", "coterie", "1", "-n", space, "--no-hooks", check=False)
    assert ".spec.replicas" in refused.stderr
    assert size(plane, space) == 5
    # What the README says to do instead.
    plane.helm("upgrade", "coterie", CHART, "-n", space, "--no-hooks", "--set", "image.tag=good")
    assert size(plane, space) == 5
    assert plane.get("ring", "main", "-n", space)["spec"]["image"] == "coterie:good"


def test_two_releases_live_side_by_side_in_namespaces_of_their_own(plane: Kube, space: str) -> None:
    plane.helm(*INSTALL, "-n", space)
    with plane.namespace("beside") as beside:
        plane.helm(*INSTALL, "-n", beside)
        plane.helm("uninstall", "coterie", "-n", beside)
        cluster = plane.items("clusterrole,clusterrolebinding,validatingadmissionpolicy")
        assert [one["metadata"]["name"] for one in cluster if beside in one["metadata"]["name"]] == []
    assert plane.get("validatingadmissionpolicy", f"coterie.{space}.coterie.chat")


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line in which Helm says what the chart refuses."""
    assert done.returncode, done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    return line


def test_two_operators_that_would_fight_are_refused_with_the_remedy(plane: Kube, space: str) -> None:
    """Each undid what the other did; the ring stayed at one node."""
    plane.helm(*INSTALL, "-n", space)
    second = ("install", "second", CHART, "--skip-crds", "--set", "ring.name=other")
    said = refused(plane.helm(*second, "-n", space, check=False))
    assert f"Deployment {space}/coterie-operator is an operator that looks after the Rings of this namespace" in said
    assert f"helm -n {space} uninstall coterie" in said
    assert plane.get("deployment", "second-coterie-operator", "-n", space) is None
    with plane.namespace("everywhere") as everywhere:
        everything = (*second, "-n", everywhere, "--set", "operator.allNamespaces=true")
        assert f"looks after the Rings of namespace {space} already" in refused(plane.helm(*everything, check=False))
        plane.helm("uninstall", "coterie", "-n", space, "--no-hooks")
        plane.helm(*everything)
        said = refused(plane.helm(*INSTALL, "-n", space, check=False))
        assert f"Deployment {everywhere}/second-coterie-operator" in said
        assert "the Rings of all namespaces already" in said
        # What outlives the namespace of a release is nobody's obstacle.
        plane.kubectl("delete", "deployment", "second-coterie-operator", "-n", everywhere)
        plane.helm(*INSTALL, "-n", space)
        plane.helm("uninstall", "second", "-n", everywhere, "--no-hooks")


def test_a_guard_of_an_older_chart_that_outlived_its_release_is_named(plane: Kube, space: str) -> None:
    """It lets one account pass, by its name, and refused the next operator every step."""
    name = f"gone-coterie.{space}.coterie.chat"
    (guard, binding) = [
        one
        for one in yaml.safe_load_all(plane.helm("template", "gone", CHART, "-n", space).stdout)
        if one and one["metadata"]["labels"].get("app.kubernetes.io/component") == "guard"
    ]
    expression = f"request.userInfo.username != 'system:serviceaccount:{space}:gone-coterie-operator'"
    guard["spec"]["matchConditions"][0]["expression"] = expression
    what = "validatingadmissionpolicy,validatingadmissionpolicybinding"
    try:
        plane.apply(guard, binding)
        said = refused(plane.helm(*INSTALL, "-n", space, check=False))
        assert f"kubectl delete {what} {name}" in said
    finally:
        plane.kubectl("delete", what, name)
    plane.helm(*INSTALL, "-n", space)


def test_an_upgrade_does_not_remove_a_living_ring_without_a_word(plane: Kube, space: str) -> None:
    plane.helm(*INSTALL, "-n", space)
    upgrade = ("upgrade", "coterie", CHART, "-n", space, "--no-hooks")
    for value in ("ring.name=other", "ring.enabled=false"):
        said = refused(plane.helm(*upgrade, "--set", value, check=False))
        assert "would remove the Ring main" in said
        assert "--set ring.remove=main" in said
    assert plane.get("ring", "main", "-n", space)
    plane.helm(*upgrade, "--set", "ring.name=other,ring.remove=main")
    assert [one["metadata"]["name"] for one in plane.items("ring", "-n", space)] == ["other"]


def test_an_upgrade_over_what_others_changed_is_refused_as_a_whole(plane: Kube, space: str) -> None:
    """Helm went through all objects, refused two, and left the release half upgraded."""
    plane.helm(*INSTALL, "-n", space)
    patch = '{"spec":{"storage":{"size":"2Gi"}}}'
    plane.kubectl("patch", "ring", "main", "-n", space, "--type=merge", "-p", patch)
    plane.kubectl("set", "resources", "deployment/coterie-operator", "--limits=memory=600Mi", "-n", space)
    before = plane.get("role", "coterie-operator", "-n", space)["metadata"]["resourceVersion"]
    upgrade = ("upgrade", "coterie", CHART, "-n", space, "--no-hooks", "--set", "operator.logLevel=debug")
    said = refused(plane.helm(*upgrade, check=False))
    assert 'Ring main was changed by kubectl-patch since: spec.storage.size is "2Gi" (here "1Gi")' in said
    size = ("--set", "ring.storage.size=2Gi")
    said = refused(plane.helm(*upgrade, *size, check=False))
    assert 'containers[operator].resources.limits.memory is "600Mi" (here "512Mi")' in said
    assert plane.get("role", "coterie-operator", "-n", space)["metadata"]["resourceVersion"] == before
    plane.helm(*upgrade, *size, "--set", "operator.resources.limits.memory=600Mi")
    plane.helm(*upgrade, *size, "--set", "takeOver=true", "--force-conflicts")
    assert "512Mi" in json.dumps(plane.get("deployment", "coterie-operator", "-n", space)["spec"])


def test_the_values_of_an_older_release_can_be_reused(plane: Kube, space: str, tmp_path: Path) -> None:
    """With --reuse-values a chart gets nothing of its own new defaults."""
    older = shutil.copytree(CHART, tmp_path / "coterie")
    values = yaml.safe_load((older / "values.yaml").read_text())
    del values["allow"], values["roles"], values["takeOver"], values["ring"]["remove"]
    (older / "values.yaml").write_text(yaml.safe_dump(values))
    plane.helm("install", "coterie", str(older), "--skip-crds", "-n", space)
    plane.helm("upgrade", "coterie", CHART, "-n", space, "--no-hooks", "--reuse-values")
    plane.helm("upgrade", "coterie", CHART, "-n", space, "--no-hooks", "--reset-then-reuse-values")


def test_the_same_can_be_applied_again_by_others(plane: Kube, space: str) -> None:
    """What the API server fills in where it compares a list or a selector as a whole made equal contents a conflict."""
    plane.helm(*INSTALL, "-n", space)
    rendered = plane.helm("template", "coterie", CHART, "-n", space, "--no-hooks").stdout
    done = plane.kubectl("apply", "--server-side", "-n", space, "-f", "-", input=rendered, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- The definition ---------------------------------------------------------------------------------------------------


def test_the_definition_says_which_chart_it_is_from() -> None:
    chart = yaml.safe_load(Path(CHART, "Chart.yaml").read_text())
    assert yaml.safe_load(CRD.read_text())["metadata"]["annotations"][VERSION] == chart["version"]


def hook(rendered: str) -> list[dict[str, Any]]:
    found = [one for one in yaml.safe_load_all(rendered) if one]
    return [one for one in found if one["metadata"]["labels"].get("app.kubernetes.io/component") == "crd"]


def planned(plane: Kube, space: str, verb: str) -> set[str]:
    """Return which hooks would apply the definition, by a dry run that looks at the cluster."""
    done = plane.helm(verb, "coterie", CHART, "-n", space, "--dry-run=server", "-o", "json")
    annotations = [one["metadata"]["annotations"] for one in hooks_of(json.loads(done.stdout))]
    return {one["helm.sh/hook"] for one in annotations}


def hooks_of(release: dict[str, Any]) -> list[dict[str, Any]]:
    manifests = "\n---\n".join(one["manifest"] for one in release.get("hooks", ()))
    return hook(manifests)


def from_chart(plane: Kube, version: str) -> None:
    plane.kubectl("annotate", "crd", NAME, f"{VERSION}={version}", "--overwrite")


def test_a_definition_is_upgraded_and_never_downgraded(plane: Kube, space: str) -> None:
    assert planned(plane, space, "install") == set()
    from_chart(plane, "0.0.1")
    assert planned(plane, space, "install") == {"pre-install"}
    define(plane)
    plane.helm(*INSTALL, "-n", space)
    assert planned(plane, space, "upgrade") == {"pre-upgrade"}
    from_chart(plane, "0.0.1")
    assert planned(plane, space, "upgrade") == {"pre-upgrade"}
    from_chart(plane, "9.0.0-rc.1")
    assert planned(plane, space, "upgrade") == set()


def test_the_hooks_account_may_upgrade_the_definition_and_nothing_else(plane: Kube, space: str, tmp_path: Path) -> None:
    rendered = plane.helm("template", "coterie", CHART, "-n", space, "--is-upgrade").stdout
    parts = hook(rendered)
    done = plane.kubectl("apply", "--validate=strict", "-f", "-", input=yaml.safe_dump_all(parts))
    assert done.stderr == ""
    try:
        job = next(one for one in parts if one["kind"] == "Job")
        config = next(one for one in parts if one["kind"] == "ConfigMap")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["args"][:2] == ["coterie-operator", "apply-crd"]
        file = tmp_path / Path(container["args"][2]).name
        file.write_text(config["data"][file.name])
        assert file.read_text() == CRD.read_text()

        account = job["spec"]["template"]["spec"]["serviceAccountName"]
        who = f"--as=system:serviceaccount:{space}:{account}"
        for refused in (
            ("patch", "crd/others.example.com"),
            ("create", "crd"),
            ("delete", f"crd/{NAME}"),
            ("get", "secrets", "-n", space),
            ("list", "rings", "-n", space),
        ):
            assert plane.kubectl("auth", "can-i", *refused, who, check=False).stdout.strip() == "no", refused

        # An older definition: without its columns, and with a field that is no more.
        columns = "/spec/versions/0/additionalPrinterColumns"
        old = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/old"
        patch = [{"op": "remove", "path": columns}, {"op": "add", "path": old, "value": {"type": "string"}}]
        plane.kubectl("patch", "crd", NAME, "--type=json", "-p", json.dumps(patch))
        done = apply_as(plane, space, account, file, tmp_path)
        assert (done.returncode, done.stdout) == (0, f"{NAME} is served\n"), done.stderr
        (version,) = plane.get("crd", NAME)["spec"]["versions"]
        assert len(version["additionalPrinterColumns"]) == 6
        assert "old" not in version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        # It is Helm's as before: the next release finds nobody else's fields in it.
        plane.helm("install", "coterie", CHART, "-n", space)
    finally:
        plane.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", input=yaml.safe_dump_all(parts))


def apply_as(plane: Kube, space: str, account: str, file: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Do what the hook's job does, with its account."""
    token = plane.kubectl("create", "token", account, "-n", space).stdout.strip()
    config = json.loads(plane.kubectl("config", "view", "--raw", "--flatten", "-o", "json").stdout)
    config["users"][0]["user"] = {"token": token}
    kubeconfig = folder / "hook.json"
    kubeconfig.write_text(json.dumps(config))
    command = [sys.executable, "-m", "coterie_operator.entry", "apply-crd", str(file), "--kubeconfig", str(kubeconfig)]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False, timeout=90)


def test_a_missing_definition_is_named_and_does_not_keep_from_a_dry_run(plane: Kube, space: str) -> None:
    plane.helm(*INSTALL, "-n", space)
    plane.kubectl("delete", "crd", NAME)
    said = refused(plane.helm("upgrade", "coterie", CHART, "-n", space, "--no-hooks", check=False))
    assert "kubectl apply --server-side -f crds/rings.yaml" in said
    with plane.namespace("dry") as dry:
        done = plane.helm("install", "coterie", CHART, "-n", dry, "--dry-run=server")
        assert "does not know the kind Ring" in done.stdout
    define(plane)
    plane.helm("upgrade", "coterie", CHART, "-n", space, "--no-hooks")
    assert plane.get("ring", "main", "-n", space)


def test_the_definition_can_be_left_to_others(plane: Kube, space: str) -> None:
    arguments = ("template", "coterie", CHART, "-n", space, "--is-upgrade")
    assert hook(plane.helm(*arguments).stdout)
    assert hook(plane.helm(*arguments, "--set", "crd.upgrade=false").stdout) == []
