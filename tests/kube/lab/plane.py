"""The control plane: etcd, API server, controller manager and, for a cluster with nodes, the scheduler."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.ports import free_port

from . import certs
from .processes import Processes

SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/16"
DNS = "10.96.0.10"
API_PORT = 6443


@dataclass(frozen=True)
class Plane:
    """A running control plane."""

    folder: Path
    processes: Processes
    kubeconfig: Path
    """For whoever runs where the control plane listens."""
    kubectl: Path


def start_plane(
    programs: Path,
    folder: Path,
    address: str = "127.0.0.1",
    *,
    nodes: Sequence[tuple[str, str]] = (),
    inside: Sequence[str] = (),
    processes: Processes | None = None,
) -> Plane:
    """Start a control plane that listens at an address; `inside` is a command prefix, such as one for a namespace.

    `nodes` are the names and addresses of the kubelets that will join; with none there is no scheduler either, and
    the ports are whichever are free.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = free_port(2)
    ports = (API_PORT, 2379, 2380) if nodes else (base, base + 1, base + 2)
    server = f"https://{address}:{ports[0]}"
    _certificates(folder, address, nodes)
    for user in ("admin", "controllers", "scheduler", *(name for name, _ in nodes)):
        certs.kubeconfig(folder, user, server)
    processes = processes or Processes(folder)

    def run(name: str, *arguments: str) -> None:
        processes.start(name, [*inside, str(programs / name), *arguments])

    etcd, peer = (f"http://127.0.0.1:{port}" for port in ports[1:])
    run(
        "etcd",
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls={etcd}",
        f"--advertise-client-urls={etcd}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
        # What these clusters hold may be lost with the machine; their tests should not wait for its disk.
        "--unsafe-no-fsync",
    )
    run("kube-apiserver", *_apiserver(folder, address, ports[0], etcd))
    admin = folder / "admin.conf"
    kubectl = programs / "kubectl"

    def ready() -> bool:
        command = [*inside, str(kubectl), f"--kubeconfig={admin}", "get", "--raw", "/readyz"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    processes.until("kube-apiserver", ready, 90)
    manager = folder / "controllers.conf"
    run(
        "kube-controller-manager",
        f"--kubeconfig={manager}",
        f"--authentication-kubeconfig={manager}",
        f"--authorization-kubeconfig={manager}",
        f"--secure-port={10257 if nodes else base + 10}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={folder}/sa.key",
        f"--root-ca-file={folder}/ca.crt",
        "--leader-elect=false",
        # kind's and everybody's defaults wait five minutes and more; tests of lost machines should not.
        "--node-monitor-grace-period=20s",
        *(
            [f"--cluster-cidr={PODS}", "--allocate-node-cidrs", f"--service-cluster-ip-range={SERVICES}"]
            if nodes
            else ["--controllers=*,-node-ipam-controller"]
        ),
    )
    if nodes:
        scheduler = folder / "scheduler.conf"
        run(
            "kube-scheduler",
            f"--kubeconfig={scheduler}",
            f"--authentication-kubeconfig={scheduler}",
            f"--authorization-kubeconfig={scheduler}",
            "--leader-elect=false",
        )
    return Plane(folder, processes, admin, kubectl)


def _certificates(folder: Path, address: str, nodes: Sequence[tuple[str, str]]) -> None:
    authority = certs.Authority(folder)
    services = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    authority.issue("apiserver", "kube-apiserver", hosts=("127.0.0.1", address, "10.96.0.1", *services))
    authority.issue("admin", "admin", "system:masters")
    authority.issue("controllers", "system:kube-controller-manager")
    authority.issue("scheduler", "system:kube-scheduler")
    authority.issue("front", "front-proxy")
    for name, at in nodes:
        authority.issue(name, f"system:node:{name}", "system:nodes", hosts=(name, at))
    certs.signing_key(folder)


def _apiserver(folder: Path, address: str, port: int, etcd: str) -> list[str]:
    return [
        f"--etcd-servers={etcd}",
        f"--secure-port={port}",
        f"--bind-address={'127.0.0.1' if address == '127.0.0.1' else '0.0.0.0'}",
        f"--advertise-address={'192.0.2.1' if address == '127.0.0.1' else address}",
        f"--tls-cert-file={folder}/apiserver.crt",
        f"--tls-private-key-file={folder}/apiserver.key",
        f"--client-ca-file={folder}/ca.crt",
        f"--service-account-key-file={folder}/sa.pub",
        f"--service-account-signing-key-file={folder}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-client-certificate={folder}/admin.crt",
        f"--kubelet-client-key={folder}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={folder}/ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={folder}/front.crt",
        f"--proxy-client-key-file={folder}/front.key",
    ]
