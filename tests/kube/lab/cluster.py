"""A whole Kubernetes: control plane, machines, DNS, volumes; and how it is taken away again."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.ports import free_port
from tests.tools.debian import Debian, install
from tests.tools.needs import CannotRun, cache

from . import certs, network
from .handle import Kube
from .images import IMAGE, NEXT_IMAGE
from .machine import CNI_PLUGINS, Node
from .plane import API_PORT, start_plane
from .processes import Processes

HERE = Path(__file__).parent
NEEDED = (
    Debian("buildah", programs=("buildah",)),
    Debian("gcc libc6-dev", programs=("cc",)),
    Debian("conntrack", programs=("conntrack",)),
    Debian("containernetworking-plugins", files=(Path(CNI_PLUGINS, "bridge"),)),
    Debian("debootstrap", programs=("debootstrap",)),
    Debian("ethtool", programs=("ethtool",)),
    Debian("iproute2", programs=("ip",)),
    Debian("iptables", programs=("iptables",)),
    Debian("util-linux", programs=("nsenter",)),
    Debian("pkg-config", programs=("pkg-config",)),
    Debian("libseccomp-dev", files=(Path("/usr/include/seccomp.h"),)),
)
"""What a cluster and its image need of the system."""


def check_machine() -> None:
    """Raise CannotRun when this computer cannot run a cluster, with the reason and the remedy.

    Missing packages are installed where that takes no question: as root, on a system that has apt-get.
    """
    if os.geteuid() != 0:
        raise CannotRun(
            "a cluster of our own needs root (network namespaces, containers); run the tests as root, "
            "or name a cluster with COTERIE_TEST_KUBECONFIG (see CONTRIBUTING.md)"
        )
    install(NEEDED)


class Cluster:
    """One cluster in one folder. `prefix` names its namespaces and cgroups: two clusters do not meet."""

    def __init__(self, programs: Path, folder: Path, nodes: int = 3) -> None:
        self.folder = folder
        self._programs = programs
        self._prefix = f"ck{os.getpid()}"
        self._count = nodes
        self._processes = Processes(folder / "plane")
        self.nodes: dict[str, Node] = {}
        self.kube: Kube

    def start(self, images: Sequence[Path]) -> Kube:
        """Start everything; return once all machines are ready and names resolve."""
        (self.folder / "prefix").write_text(self._prefix)
        namespace, machines = network.make(self._prefix, self._count)
        where = self.folder / "plane"
        plane = start_plane(
            self._programs,
            where,
            network.PLANE_ADDRESS,
            nodes=[(machine.name, machine.address) for machine in machines],
            inside=network.inside(namespace),
            processes=self._processes,
        )
        port = free_port(1)
        forward = [str(HERE / "forward.py"), str(port), namespace, network.PLANE_ADDRESS, str(API_PORT)]
        self._processes.start("forward", [sys.executable, *forward])
        kubeconfig = certs.kubeconfig(where, "admin", f"https://127.0.0.1:{port}", "outside.conf")
        self.kube = kube = Kube(kubeconfig, self._programs)
        self._processes.until("forward", lambda: kube.kubectl("get", "ns", check=False).returncode == 0, 20)
        claims = [str(HERE / "claims.py"), str(kubeconfig), str(plane.kubectl), str(self.folder / "volumes")]
        self._processes.start("claims", [sys.executable, *claims])
        for machine in machines:
            at = self.folder / machine.name
            at.mkdir()
            self.nodes[machine.name] = Node(self._programs, where, at, machine, self._prefix)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: node.start(images), self.nodes.values()))
        self._tag()
        kube.until(lambda: len(kube.items("nodes")) == self._count, 60, "all machines have registered")
        kube.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")
        kube.kubectl("apply", "-f", str(HERE / "coredns.yaml"))
        kube.kubectl("rollout", "status", "-n", "kube-system", "deployment/coredns", "--timeout=60s")
        return kube

    def load(self, image: Path) -> None:
        """Give all machines an image."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: node.load(image), self.nodes.values()))
        self._tag()

    def _tag(self) -> None:
        """Give the image its second name, for tests that roll a ring from one image to the next."""
        for node in self.nodes.values():
            node.tag(IMAGE, NEXT_IMAGE)

    def stop(self) -> None:
        """Take everything away: processes, mounts, cgroups, namespaces, data."""
        self._processes.stop()
        for node in self.nodes.values():
            node.stop()
        network.remove(self._prefix)
        shutil.rmtree(self.folder, ignore_errors=True)


def remains_of(folder: Path) -> Cluster:
    """Return a handle on a cluster that another process started in a folder."""
    programs = cache("kube") / "bin"
    cluster = Cluster(programs, folder)
    prefix = folder / "prefix"
    if not prefix.exists():
        raise CannotRun(f"no cluster was started in {folder}")
    cluster._prefix = prefix.read_text()
    for at in folder.glob("node*"):
        machine = network.Machine(at.name, int(at.name.removeprefix("node")), f"{cluster._prefix}-{at.name}")
        cluster.nodes[at.name] = Node(programs, folder / "plane", at, machine, cluster._prefix)
    return cluster
