"""The client's settings: from a flag, else the environment, else config.toml in COTERIE_HOME, else a default.

This is the only module that reads the environment for settings.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from coterie_protocol.urls import is_this_machine

from .addresses import check_server
from .errors import UsageError
from .private import check_ours, make_directory, read_regular

if TYPE_CHECKING:
    import ssl

DEFAULT_SERVERS = tuple(f"ws://127.0.0.1:{port}" for port in (7400, 7410, 7420, 7430, 7440))
"""The local ring that `coterie up` starts."""
CONFIG_KEYS = frozenset({"servers", "ca", "insecure"})
MAX_CONFIG_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """The client's settings; `load_settings` makes them."""

    home: Path
    """COTERIE_HOME: the session, the histories and config.toml. Made with mode 0700."""
    servers: tuple[str, ...] = DEFAULT_SERVERS
    """Addresses of nodes, any of which will do: ws://host:port or wss://host:port."""
    insecure: bool = False
    """Allow ws:// to other machines, where everybody on the way can read along."""
    ca: Path | None = None
    """A PEM file with the authorities that wss:// servers are checked against; the system's when None."""
    exactly: bool = False
    """The servers were named for this one command (--servers): no others of the ring are tried when none answers."""

    @property
    def session_file(self) -> Path:
        """Return where the session is kept."""
        return self.home / "session.json"

    def make_home(self) -> None:
        """Create COTERIE_HOME, readable by its owner only; raises UsageError when that cannot be."""
        try:
            make_directory(self.home)
        except OSError as error:
            raise UsageError(
                f"cannot use {self.home} as COTERIE_HOME: {error.strerror}; set COTERIE_HOME to a writable directory"
            ) from None
        check_ours(self.home, "COTERIE_HOME")

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context for wss:// servers, None when every server is ws://."""
        if not any(url.startswith("wss://") for url in self.servers):
            return None
        import ssl

        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; a name with a NUL is a ValueError
            raise UsageError(f"cannot read the CA file {self.ca}: {error}; give a PEM file") from None


def load_settings(flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; `flags` may hold home, servers, ca and insecure. Raises UsageError."""
    flags = {key: value for key, value in (flags or {}).items() if value or (key == "servers" and value is not None)}
    environ = os.environ if environ is None else environ
    try:
        home = Path(flags.get("home") or environ.get("COTERIE_HOME") or _default_home()).expanduser()
        check_ours(home, "COTERIE_HOME")
    except (RuntimeError, ValueError) as error:  # no such user, or a NUL
        raise UsageError(f"COTERIE_HOME is no directory's name: {error}; set it to one") from None
    check_ours(home / "config.toml", "the settings file")
    config = _read_config(home / "config.toml")
    insecure = bool(flags.get("insecure") or _flag(environ.get("COTERIE_INSECURE")) or config.get("insecure"))
    servers = _servers(
        ("--servers", flags.get("servers")),
        ("COTERIE_SERVERS", environ.get("COTERIE_SERVERS") or None),
        (f"servers in {home / 'config.toml'}", config.get("servers")),
        insecure=insecure,
    )
    ca = flags.get("ca") or environ.get("COTERIE_CA") or config.get("ca")
    try:
        return Settings(home, servers, insecure, Path(ca).expanduser() if ca else None, exactly="servers" in flags)
    except RuntimeError as error:
        raise UsageError(f"the CA file {ca} has no place: {error}; name a PEM file") from None


def _servers(*sources: tuple[str, Any], insecure: bool) -> tuple[str, ...]:
    """Return the servers that the first source names that is there; the local ring's if none is. Raises UsageError."""
    for source, named in sources:
        if named is None:
            continue
        texts = named.split(",") if isinstance(named, str) else named
        servers = tuple(check_server(text, insecure=insecure, source=source) for text in texts if text.strip())
        if not servers:
            raise UsageError(
                f"{source}: no server is named; write addresses such as ws://127.0.0.1:7400, "
                "or leave it out for the ring of coterie up"
            )
        return servers
    return DEFAULT_SERVERS


def check_proxies(servers: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    """Raise UsageError if the environment names a proxy for one of the servers: connections would go past it.

    Whoever set it may rely on it, to hide or to get out at all, so it is not passed over in silence. NO_PROXY is
    heeded, and what is on this machine needs no proxy.
    """
    environ = os.environ if environ is None else environ
    named = {name.lower(): value for name, value in environ.items() if name.lower().endswith("_proxy") and value}
    if "REQUEST_METHOD" in environ:
        named.pop("http_proxy", None)  # a CGI script's client may have set it
    bypass = {"no": named.get("no_proxy", "")}
    for url in servers:
        parts = urlsplit(url)
        host = parts.hostname or ""
        scheme = "https" if parts.scheme == "wss" else "http"
        variable = next((name for name in (f"{scheme}_proxy", "all_proxy") if name in named), None)
        if variable is None or is_this_machine(host) or proxy_bypass(f"{host}:{parts.port or 7400}", bypass):
            continue
        raise UsageError(
            f"{variable.upper()} is set, but coterie speaks to no proxy and would go past it to {host}; "
            f"if that is right, set NO_PROXY={host}"
        )


def _flag(text: str | None) -> bool:
    return (text or "").lower() in ("1", "true", "yes", "on")


def _default_home() -> Path:
    import platformdirs

    return platformdirs.user_data_path("coterie")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = tomllib.loads(read_regular(path, MAX_CONFIG_BYTES).decode())
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        raise UsageError(f"COTERIE_HOME {path.parent} is not a directory; set it to one") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; mend or remove it") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}; mend or remove it") from None
    except (ValueError, RecursionError):  # tomllib's own, for numbers of 4,300 digits and tables in tables in tables
        raise UsageError(f"{path} has too long a number, or too deep a nesting; mend or remove it") from None
    if unknown := set(config) - CONFIG_KEYS:
        raise UsageError(f"{path} has the unknown setting {min(unknown)!r}; known are {', '.join(sorted(CONFIG_KEYS))}")
    servers = config.get("servers", "")
    if not isinstance(servers, str) and not (
        isinstance(servers, list) and all(isinstance(url, str) for url in servers)
    ):
        raise UsageError(f"{path}: servers must be a string or a list of strings")
    if not isinstance(config.get("ca", ""), str) or not isinstance(config.get("insecure", False), bool):
        raise UsageError(f"{path}: ca must be a string and insecure true or false")
    return config
