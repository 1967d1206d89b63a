"""The admin token: who bears it may change things."""

from __future__ import annotations

import hmac

from aiohttp import web

from ..watched import WatchedFile


def authorise(request: web.Request, token: str | WatchedFile | None) -> None:
    """Raise an HTTP error unless the request bears the token, compared in constant time. An empty token is none."""
    wanted = token.current() if isinstance(token, WatchedFile) else (token or "").encode()
    if not wanted:
        raise web.HTTPForbidden(
            text="this node has no admin token: start it with --admin-token-file FILE to allow changes"
        )
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # What is no text comes as surrogates.
    offered = given.strip().encode(errors="surrogateescape")
    if scheme.lower() != "bearer" or not hmac.compare_digest(offered, wanted):
        raise web.HTTPUnauthorized(
            text="send the admin token as 'Authorization: Bearer TOKEN'",
            headers={"WWW-Authenticate": "Bearer"},
        )
