"""The Kubernetes API as the operator uses it: dicts in, dicts out, a deadline round every call, errors with names.

Manifests travel as plain dicts: the library's models would validate them a second time, and fail on fields that they do
not know. Whoever catches a `KubeError` can show its text to a person: it says what was tried and what to do next.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from .names import FIELD_MANAGER, GROUP, PLURAL, VERSION

CALL_SECONDS = 5.0
"""A healthy API server answers in milliseconds; whoever waits longer should rather try again."""
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Object = dict[str, Any]


class KubeError(Exception):
    """A call that failed: what was tried, what the API said. Subclasses say what kind of failure it was."""

    def __init__(self, what: str, said: str, status: int = 0) -> None:
        super().__init__(f"cannot {what}: {said}")
        self.what = what
        """Verb and object, such as "patch statefulsets ns/main"."""
        self.said = said
        self.status = status


class Unreachable(KubeError):
    """No answer: no connection, or none in time. Whether a change took effect is unknown."""


class NotFound(KubeError):
    """There is no such object, or no such kind."""


class Conflict(KubeError):
    """The object has changed since it was read, or exists already: look again."""


class Invalid(KubeError):
    """The API server does not take this object; trying again does not help."""


class Forbidden(KubeError):
    """The operator's account lacks a permission."""

    def __init__(self, what: str, said: str, status: int = 403) -> None:
        super().__init__(what, f"{said}; add the permission to the operator's Role (the chart's is complete)", status)


class Denied(KubeError):
    """An admission check (quota, Pod Security, a policy, a storage class) refused it, whatever the account may do."""


class NotLeader(Exception):
    """A change was about to be sent by a process that no longer holds the lease."""


@dataclass(frozen=True)
class Kind:
    """Where objects of a kind live in the API."""

    api: str
    """`v1` or `group/version`."""
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Return the path of an object, or of the collection; namespace None is all of them."""
        parts = ["apis" if "/" in self.api else "api", self.api]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts += [part for part in (self.plural, quote(name, safe=""), subresource) if part]
        return "/" + "/".join(parts)


RING = Kind(f"{GROUP}/{VERSION}", PLURAL)
STATEFUL_SET = Kind("apps/v1", "statefulsets")
POD = Kind("v1", "pods")
CLAIM = Kind("v1", "persistentvolumeclaims")
CONFIG_MAP = Kind("v1", "configmaps")
SECRET = Kind("v1", "secrets")
SERVICE = Kind("v1", "services")
BUDGET = Kind("policy/v1", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "networkpolicies")
LEASE = Kind("coordination.k8s.io/v1", "leases")
EVENT = Kind("events.k8s.io/v1", "events")
CRD = Kind("apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)

KINDS = {
    "StatefulSet": STATEFUL_SET,
    "ConfigMap": CONFIG_MAP,
    "Secret": SECRET,
    "Service": SERVICE,
    "PodDisruptionBudget": BUDGET,
    "NetworkPolicy": NETWORK_POLICY,
    "CustomResourceDefinition": CRD,
}
"""Kinds whose manifests can be applied."""


@dataclass(frozen=True)
class Connection:
    """How to reach the API server, for another client than this one."""

    server: str
    ca_path: str | None
    verify: bool
    certificate_path: str | None
    key_path: str | None
    token: str | None
    namespace: str


class Kube:
    """A client of one API server. `may_write` is asked before every change and raises NotLeader to forbid it."""

    def __init__(self, configuration: Configuration, namespace: str) -> None:
        self._configuration = configuration
        self._client = ApiClient(configuration)
        self._client.user_agent = FIELD_MANAGER
        self.namespace = namespace
        """The operator's own namespace."""
        self.may_write: Callable[[], None] = lambda: None
        self.answered: Callable[[], None] = lambda: None
        """Called at every answer that was not a failure of the server."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def connection(self) -> Connection:
        """Return how to reach the server, with a token that is fresh now."""
        settings = await self._configuration.auth_settings()
        bearer = str(settings["BearerToken"]["value"] or "") if "BearerToken" in settings else ""
        scheme, _, token = bearer.partition(" ")
        found = self._configuration
        return Connection(
            server=found.host,
            ca_path=found.ssl_ca_cert,
            verify=bool(found.verify_ssl),
            certificate_path=found.cert_file,
            key_path=found.key_file,
            token=token if scheme.lower() == "bearer" else None,
            namespace=self.namespace,
        )

    # --- Reading ---

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Return an object. Raises NotFound."""
        return await self._call("GET", f"get {kind.plural} {_place(namespace, name)}", kind.path(namespace, name))

    async def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """Return an object, or None if there is none."""
        try:
            return await self.get(kind, namespace, name)
        except NotFound:
            return None

    async def list(
        self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = "", limit: int | None = None
    ) -> list[Object]:
        """Return the objects that match the selectors (the first `limit`); namespace None is all namespaces."""
        given = {"labelSelector": labels, "fieldSelector": fields, "limit": str(limit or "")}
        query = {key: value for key, value in given.items() if value}
        what = f"list {kind.plural} in {namespace or 'all namespaces'}"
        found = await self._call("GET", what, kind.path(namespace), query=query)
        return list(found["items"])

    # --- Writing ---

    async def apply(self, manifest: Mapping[str, Any], manager: str = FIELD_MANAGER) -> Object:
        """Apply a manifest on the server's side, taking over fields that others own; write nothing if nothing differs.

        A `metadata.resourceVersion` in it is a precondition (Conflict). The fields belong to `manager` from then on.
        """
        kind = KINDS[manifest["kind"]]
        namespace, name = manifest["metadata"].get("namespace"), manifest["metadata"]["name"]
        what = f"patch {kind.plural} {_place(namespace, name)}"
        return await self._write("PATCH", what, kind.path(namespace, name), manifest, APPLY, manager)

    async def apply_status(self, ring: Mapping[str, Any], status: Mapping[str, Any]) -> Object:
        """Apply a Ring's status as a whole, if the Ring is still the one that was read (else Conflict)."""
        namespace, name = ring["metadata"]["namespace"], ring["metadata"]["name"]
        body = {
            "apiVersion": RING.api,
            "kind": "Ring",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": ring["metadata"]["uid"],
                "resourceVersion": ring["metadata"]["resourceVersion"],
            },
            "status": status,
        }
        path = RING.path(namespace, name, "status")
        return await self._write("PATCH", f"patch rings/status {_place(namespace, name)}", path, body, APPLY)

    async def create(self, kind: Kind, manifest: Mapping[str, Any]) -> Object:
        """Create an object. Raises Conflict if there is one."""
        namespace, name = manifest["metadata"].get("namespace"), manifest["metadata"].get("name", "")
        return await self._write(
            "POST", f"create {kind.plural} {_place(namespace, name)}", kind.path(namespace), manifest, JSON
        )

    async def replace(self, kind: Kind, manifest: Mapping[str, Any]) -> Object:
        """Replace an object as it was read: its resourceVersion is a precondition (Conflict)."""
        namespace, name = manifest["metadata"].get("namespace"), manifest["metadata"]["name"]
        return await self._write(
            "PUT", f"update {kind.plural} {_place(namespace, name)}", kind.path(namespace, name), manifest, JSON
        )

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]) -> Object:
        """Change the fields that a merge patch names."""
        return await self._write(
            "PATCH", f"patch {kind.plural} {_place(namespace, name)}", kind.path(namespace, name), patch, MERGE
        )

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str = "", orphan: bool = False) -> bool:
        """Delete an object and say whether there was one. With a uid only the very object is meant (Conflict)."""
        body: Object = {"propagationPolicy": "Orphan" if orphan else "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        what = f"delete {kind.plural} {_place(namespace, name)}"
        try:
            await self._write("DELETE", what, kind.path(namespace, name), body, JSON)
        except NotFound:
            return False
        return True

    async def _write(
        self,
        method: str,
        what: str,
        path: str,
        body: Mapping[str, Any],
        content_type: str,
        manager: str = FIELD_MANAGER,
    ) -> Object:
        self.may_write()
        query = {"fieldManager": manager} if method != "DELETE" else {}
        if content_type == APPLY:
            query["force"] = "true"
        return await self._call(method, what, path, query=query, body=body, content_type=content_type)

    async def _call(
        self,
        method: str,
        what: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
    ) -> Object:
        headers = {"Accept": JSON, "Content-Type": content_type}
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        # A number would do, but aiohttp calls that deprecated.
        limit = aiohttp.ClientTimeout(total=CALL_SECONDS)
        try:
            response = await self._client.call_api(*request, _request_timeout=limit)
            data: bytes = await response.read()  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise Unreachable(what, f"the Kubernetes API did not answer within {CALL_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(what, f"the Kubernetes API cannot be reached ({plain(error)})") from None
        if response.status < 500:
            self.answered()
        if response.status >= 400:
            raise _error(what, response.status, data)
        found: Object = json.loads(data)
        return found


async def connect(kubeconfig: str | None = None, namespace: str | None = None) -> Kube:
    """Return a client by a kubeconfig file or, without one, by the pod's service account.

    Raises ValueError with a sentence for people when neither can be had.
    """
    configuration = Configuration()
    try:
        if kubeconfig is not None:
            await asyncio.to_thread(_readable, Path(kubeconfig))
            loader = await kube_config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=kubeconfig,
                client_configuration=configuration,
                persist_config=False,
                temp_file_path=tempfile.gettempdir(),
            )
            own = str(loader.current_context["context"].get("namespace") or "default")
        else:
            kube_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            own = await asyncio.to_thread((SERVICE_ACCOUNT / "namespace").read_text)
        return Kube(configuration, namespace or own.strip())
    except Exception as error:
        where = f"the kubeconfig {kubeconfig}" if kubeconfig is not None else "the pod's service account"
        raise ValueError(
            f"no Kubernetes by {where}: {_unusable(error)}; give --kubeconfig FILE, or run in a pod"
        ) from None


def _readable(path: Path) -> None:
    """Raise OSError when a file cannot be read: the library takes one that is missing for an empty one."""
    with path.expanduser().open("rb"):
        pass


def _unusable(error: Exception) -> str:
    """Say in one line why a configuration could not be used."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return error.strerror
    if isinstance(error, (kube_config.ConfigException, OSError)):
        return str(error).rstrip(".")
    return f"it is no kubeconfig ({type(error).__name__}: {' '.join(str(error).split())[:200]})"


def plain(error: Exception) -> str:
    """Say why a connection failed, without the library's details."""
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _place(namespace: str | None, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _error(what: str, status: int, data: bytes) -> KubeError:
    """Give an answer of the API its name. (A body that cannot be parsed as its type is answered 500.)"""
    try:
        said = str(json.loads(data).get("message") or "")
    except (ValueError, AttributeError):
        said = data[:200].decode(errors="replace")
    said = said or f"HTTP status {status}"
    if status == 404:
        return NotFound(what, said, status)
    if status == 409:
        return Conflict(what, said, status)
    if status == 403 and " cannot " in said and " resource " in said:
        return Forbidden(what, said, status)
    if status == 401:
        return Forbidden(what, f"{said} (the API server does not know the operator's account)", status)
    if status == 403:
        return Denied(what, said, status)
    if status in (400, 413, 415, 422) or (status == 500 and "typed patch" in said):
        return Invalid(what, said, status)
    return KubeError(what, said, status)
