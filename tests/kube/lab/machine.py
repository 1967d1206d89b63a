"""A machine of the cluster: containerd, kubelet and kube-proxy in a network namespace of their own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from .network import Machine, inside
from .plane import DNS, PODS
from .processes import Processes

CNI_PLUGINS = "/usr/lib/cni"
CGROUPS = Path("/sys/fs/cgroup")


class Node:
    """Starts and stops one machine."""

    def __init__(self, programs: Path, plane: Path, folder: Path, machine: Machine, cgroup: str) -> None:
        self.machine = machine
        self._programs = programs
        self._plane = plane
        self._folder = folder
        self._cgroup = f"{cgroup}-{machine.name}"
        self._processes = Processes(folder)
        self._socket = folder / "containerd.sock"

    def start(self, images: Sequence[Path]) -> None:
        """Start containerd with these images, then kubelet and kube-proxy. The kubelet registers by itself."""
        self._write_settings()
        environment = {"PATH": f"{self._programs}:{os.environ['PATH']}"}
        run = inside(self.machine.namespace)
        where = self._folder

        def start(name: str, *arguments: str) -> None:
            self._processes.start(name, [*run, str(self._programs / name), *arguments], environment)

        start("containerd", "-c", f"{where}/containerd.toml")
        self._processes.until("containerd", self._answers, 30)
        for image in images:
            self.load(image)
        start(
            "kubelet",
            f"--kubeconfig={self._plane}/{self.machine.name}.conf",
            f"--config={where}/kubelet.json",
            f"--hostname-override={self.machine.name}",
            f"--node-ip={self.machine.address}",
            f"--root-dir={where}/kubelet",
        )
        start("kube-proxy", f"--config={where}/kube-proxy.json")

    def load(self, image: Path) -> None:
        """Give the machine an image from a file."""
        done = self._ctr("images", "import", str(image))
        assert done.returncode == 0, f"cannot load {image}: {done.stderr}"

    def tag(self, image: str, other: str) -> None:
        """Give an image of the machine another name too."""
        done = self._ctr("images", "tag", "--force", f"docker.io/library/{image}", f"docker.io/library/{other}")
        assert done.returncode == 0, f"cannot tag {image}: {done.stderr}"

    def stop(self) -> None:
        """End everything that runs on the machine, and undo its mounts and cgroups."""
        self._processes.stop(["kubelet", "kube-proxy"])
        for task in (self._folder / "state" / "io.containerd.runtime.v2.task" / "k8s.io").glob("*/init.pid"):
            subprocess.run(["kill", "-9", task.read_text().strip()], capture_output=True, check=False)
        self._processes.stop()
        subprocess.run(["pkill", "-9", "-f", f"containerd-shim.*{self._socket}"], capture_output=True, check=False)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{self._folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        self._remove_cgroups()

    def _answers(self) -> bool:
        return self._socket.exists() and self._ctr("version").returncode == 0

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._programs / "ctr"), "-a", str(self._socket), "-n", "k8s.io", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _remove_cgroups(self) -> None:
        roots = [CGROUPS] if (CGROUPS / "cgroup.controllers").exists() else list(CGROUPS.iterdir())
        deadline = time.monotonic() + 5
        for root in roots:
            ours = root / self._cgroup
            while ours.exists() and time.monotonic() < deadline:
                for folder in sorted(ours.rglob("*"), reverse=True):
                    if folder.is_dir():
                        _rmdir(folder)
                _rmdir(ours)

    def _write_settings(self) -> None:
        where = self._folder
        (where / "cni").mkdir(parents=True, exist_ok=True)
        for root in [CGROUPS] if (CGROUPS / "cgroup.controllers").exists() else list(CGROUPS.iterdir()):
            if root.is_dir() and not root.is_symlink():
                (root / self._cgroup).mkdir(exist_ok=True)
        (where / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (where / "cni" / "10-bridge.conflist").write_text(json.dumps(self._cni()))
        (where / "containerd.toml").write_text(self._containerd())
        (where / "kubelet.json").write_text(json.dumps(self._kubelet()))
        (where / "kube-proxy.json").write_text(json.dumps(self._proxy()))

    def _cni(self) -> dict[str, object]:
        ipam = {
            "type": "host-local",
            "dataDir": f"{self._folder}/ipam",
            "ranges": [[{"subnet": self.machine.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": ipam}
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}

    def _containerd(self) -> str:
        where = self._folder
        return f"""\
version = 3
root = "{where}/root"
state = "{where}/state"
[grpc]
  address = "{self._socket}"
[ttrpc]
  address = "{where}/containerd.ttrpc.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "local/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{CNI_PLUGINS}"]
    conf_dir = "{where}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "{self._programs}/runc"
"""

    def _kubelet(self) -> dict[str, object]:
        name = self.machine.name
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{self._plane}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{self._plane}/{name}.crt",
            "tlsPrivateKeyFile": f"{self._plane}/{name}.key",
            "cgroupDriver": "cgroupfs",
            # Several kubelets on one kernel: each has a root of its own, or it would clean up the others' pods.
            "cgroupRoot": f"/{self._cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "clusterDNS": [DNS],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "resolvConf": f"{self._folder}/resolv.conf",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "serializeImagePulls": False,
            "syncFrequency": "10s",
            # Each kubelet deletes logs of pods that it does not know: they must not share a folder.
            "podLogsDir": f"{self._folder}/logs",
            "configMapAndSecretChangeDetectionStrategy": "Watch",
            "nodeStatusUpdateFrequency": "4s",
        }

    def _proxy(self) -> dict[str, object]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": f"{self._plane}/admin.conf"},
            "clusterCIDR": PODS,
            "mode": "iptables",
            "hostnameOverride": self.machine.name,
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }


def _rmdir(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
