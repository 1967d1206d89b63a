"""Answers claims with hostPath volumes, as a provisioner would: claims.py KUBECONFIG KUBECTL FOLDER.

The volumes lie in FOLDER, which all machines of the test cluster share: a pod may move to another one.
Claims of the class `none` are left alone, for tests of a claim that never binds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NEVER = "none"
PAUSE = 0.5


def volume(claim: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the volume for a pending claim."""
    spec, meta = claim["spec"], claim["metadata"]
    reference = {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pv-{meta['uid']}"},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder / meta["uid"])},
            "storageClassName": spec.get("storageClassName") or "",
            "claimRef": reference,
        },
    }


def main(kubeconfig: str, kubectl: str, folder: Path) -> None:
    def run(*arguments: str, text: str | None = None) -> str:
        command = [kubectl, f"--kubeconfig={kubeconfig}", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout

    while True:
        found = json.loads(run("get", "pvc,pv", "-A", "-o", "json") or '{"items": []}')["items"]
        for one in found:
            phase, name = one.get("status", {}).get("phase"), one["metadata"]["name"]
            if one["kind"] == "PersistentVolume":
                if phase == "Released":
                    run("delete", "pv", name, "--wait=false")
                    shutil.rmtree(folder / name.removeprefix("pv-"), ignore_errors=True)
            elif phase == "Pending" and one["spec"].get("storageClassName") != NEVER:
                path = folder / one["metadata"]["uid"]
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(0o777)
                run("apply", "-f", "-", text=json.dumps(volume(one, folder)))
        time.sleep(PAUSE)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
