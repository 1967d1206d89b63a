"""The command line of `coterie-operator` and its environment twins. Settings are read here and nowhere else."""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coterie_protocol.numbers import decimal

from .model import RingSpec
from .permits import Permits, repository
from .spec import SpecError, read_spec

ENVIRONMENT = "COTERIE_OPERATOR_"

RUN_EXAMPLES = """\
examples:
  coterie-operator run
      in a pod: look after the Rings of the pod's own namespace
  coterie-operator run --kubeconfig ~/.kube/config --namespace chat --node-image coterie:dev
      from a terminal: nodes' pods must be reachable from here

Rings that ask for more than is allowed are left as they are: condition Degraded, reason NotAllowed. In lists of
what is allowed an entry that ends with * stands for all that begin so.

A flag comes before its environment twin (in brackets). Several operators may run: one holds the lease and acts, the
others stand by. SIGTERM gives the lease back and ends within 5 seconds. Exit codes: 0 stopped as told, 1 failed,
2 usage, 3 lost the lease (start it again).
"""
CRD_EXAMPLES = """\
example:
  coterie-operator apply-crd chart/crds/rings.yaml
      apply it on the server's side, taking over its fields, and wait until the API serves it
"""


class UsageError(Exception):
    """A setting that cannot be; one line."""


@dataclass(frozen=True)
class RunConfig:
    """The settings of `run`."""

    namespace: str | None
    """Whose Rings are looked after; None: the operator's own namespace. The lease lies there, too."""
    all_namespaces: bool
    metrics_port: int
    node_image: str
    permits: Permits
    """What Rings may have besides what is only theirs; the repository of `node_image` is always among the images."""
    own_ring: tuple[str, RingSpec] | None
    """Name and spec of a Ring in the operator's own namespace to which whoever set the operator up gives that much."""
    kubeconfig: str | None
    lease_name: str
    lease_duration: float
    """Seconds until others take over from an operator that vanished. Shorter needs a quicker API server."""
    identity: str
    """Who holds the lease, for people; a random part is added, so that no two processes are ever taken for one."""
    pod_name: str
    pod_uid: str
    """With both, the lease belongs to the holder's pod, and goes when the last operator does."""
    log_level: str
    log_format: str


@dataclass(frozen=True)
class CrdConfig:
    """The settings of `apply-crd`."""

    file: Path
    kubeconfig: str | None
    timeout: float
    """Seconds to wait until the API serves the kind."""
    log_level: str
    log_format: str


def parse(
    arguments: Sequence[str] | None, version: str, environment: Mapping[str, str] = os.environ
) -> RunConfig | CrdConfig:
    """Read the command line. Exits with 2 on unknown flags, raises UsageError on impossible values."""
    parser = _OneLineParser(prog="coterie-operator", description="Keeps rings on Kubernetes whole.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"coterie-operator {version}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_crd(commands)
    given = vars(parser.parse_args(arguments))

    def get(name: str, default: str = "") -> str:
        value = given.get(name)
        if value is None:
            value = environment.get(ENVIRONMENT + name.upper(), "").strip() or default
        return str(value)

    level = _choice("log-level", get("log_level", "info"), ("debug", "info", "warning", "error"))
    form = _choice("log-format", get("log_format", "console"), ("console", "json"))
    if given["command"] == "apply-crd":
        timeout = _number("timeout", get("timeout", "60"), least=1)
        return CrdConfig(Path(given["file"]), get("kubeconfig") or None, timeout, level, form)
    everywhere = _choice("all-namespaces", get("all_namespaces", "false").lower(), ("true", "false")) == "true"
    if everywhere and get("namespace"):
        raise UsageError("give --namespace or --all-namespaces, not both")
    port = _number("metrics-port", get("metrics_port", "8080"), least=0)
    if port > 65535 or port != int(port):
        raise UsageError(f"--metrics-port: {port:g} is no port; use 1 to 65535, or 0 for a free one")
    image = get("node_image")
    return RunConfig(
        namespace=get("namespace") or None,
        all_namespaces=everywhere,
        metrics_port=int(port),
        node_image=image,
        permits=_permits(get, image),
        own_ring=_own_ring(get("own_ring"), image),
        kubeconfig=get("kubeconfig") or None,
        lease_name=get("lease_name", "coterie-operator"),
        lease_duration=_number("lease-duration", get("lease_duration", "6"), least=1),
        identity=get("identity") or get("pod_name") or socket.gethostname(),
        pod_name=get("pod_name"),
        pod_uid=get("pod_uid"),
        log_level=level,
        log_format=form,
    )


def _permits(get: Callable[..., str], image: str) -> Permits:
    def yes(name: str) -> bool:
        return _choice(name.replace("_", "-"), get(name, "false").lower(), ("true", "false")) == "true"

    def several(name: str, default: str = "") -> tuple[str, ...]:
        return tuple(part for one in get(name, default).split(",") if (part := one.strip()))

    return Permits(
        images=((repository(image),) if image else ()) + several("allow_images"),
        pull_secrets=several("allow_pull_secrets"),
        host_network=yes("allow_host_network"),
        control_plane=yes("allow_control_plane"),
        service_annotations=several("allow_service_annotations"),
        service_types=several("allow_service_types", ",".join(Permits.service_types)),
    )


def _own_ring(text: str, image: str) -> tuple[str, RingSpec] | None:
    if not text:
        return None
    try:
        found: dict[str, Any] = json.loads(text)
        return str(found["metadata"]["name"]), read_spec(found, image)
    except (ValueError, KeyError, TypeError, AttributeError, SpecError) as error:
        raise UsageError(f"--own-ring: {text[:80]!r} is no Ring as JSON ({error})") from None


def _add_run(commands: argparse._SubParsersAction[_OneLineParser]) -> None:
    run = _command(commands, "run", "look after Rings until told to stop", RUN_EXAMPLES)
    _flag(run, "namespace", "NS", "look after the Rings of this namespace (default: the pod's own)")
    _yes(run, "all-namespaces", "look after the Rings of every namespace; needs a ClusterRole")
    _flag(run, "metrics-port", "PORT", "/healthz, /readyz and /metrics are served there (default: 8080)")
    _flag(run, "node-image", "IMAGE", "the image of nodes whose Ring names none")
    _flag(run, "allow-images", "REPOSITORIES", "image repositories, with commas, besides that of --node-image")
    _flag(run, "allow-pull-secrets", "NAMES", "the Secrets that Rings may name in imagePullSecrets (default: none)")
    _yes(run, "allow-host-network", "let Rings use their machines' network")
    _yes(run, "allow-control-plane", "let Rings ask for the control plane's machines and tolerate all taints")
    _flag(run, "allow-service-annotations", "KEYS", "annotations that Rings may give their Service (default: none)")
    _flag(run, "allow-service-types", "TYPES", "types of Service that Rings may have (default: all)")
    _flag(run, "own-ring", "JSON", "a Ring of the own namespace: what stands there is allowed to the Ring of that name")
    _flag(run, "lease-name", "NAME", "the Lease by which operators take turns (default: coterie-operator)")
    _flag(run, "lease-duration", "SECONDS", "after which a vanished operator is replaced (default: 6)")
    _flag(run, "identity", "ID", "the name shown in the Lease (default: the pod's name, or the host's)")
    _flag(run, "pod-name", "NAME", "the pod that this runs in: the Lease goes with it")
    _flag(run, "pod-uid", "UID", "the UID of that pod")
    _common(run)


def _add_crd(commands: argparse._SubParsersAction[_OneLineParser]) -> None:
    crd = _command(commands, "apply-crd", "apply a CustomResourceDefinition and wait for it", CRD_EXAMPLES)
    crd.add_argument("file", metavar="FILE", help="a YAML file of CustomResourceDefinitions")
    _flag(crd, "timeout", "SECONDS", "how long to wait until the API serves it (default: 60)")
    _common(crd)


def _common(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "kubeconfig", "FILE", "how to reach Kubernetes (default: the pod's service account)")
    _flag(parser, "log-level", "LEVEL", "debug, info, warning or error (default: info)")
    _flag(parser, "log-format", "FORMAT", "console or json (default: console)")


def _flag(parser: argparse.ArgumentParser, name: str, metavar: str, text: str) -> None:
    twin = ENVIRONMENT + name.replace("-", "_").upper()
    parser.add_argument(f"--{name}", metavar=metavar, help=f"{text} [{twin}]")


def _yes(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    twin = ENVIRONMENT + name.replace("-", "_").upper()
    parser.add_argument(f"--{name}", action="store_const", const="true", help=f"{text} [{twin}]")


def _choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise UsageError(f"--{name}: {value!r} is none of {', '.join(choices)}")
    return value


def _number(name: str, value: str, *, least: float) -> float:
    try:
        number = decimal(value)
    except ValueError:
        raise UsageError(f"--{name}: {value!r} is no number") from None
    if not least <= number < 1e6:
        raise UsageError(f"--{name}: {value} is too little or too much; the least is {least:g}")
    return number


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse would print the whole usage first."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _command(
    commands: argparse._SubParsersAction[_OneLineParser], name: str, help_: str, examples: str
) -> _OneLineParser:
    return commands.add_parser(
        name,
        help=help_,
        description=help_[0].upper() + help_[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
