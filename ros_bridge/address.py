"""Where the rosbridge server is, and the token that opens its door: what may be said where."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from mcsd_agent.errors import UserError

DEFAULT_URL = "ws://localhost:9090"
URL_VARIABLE = "MCSD_ROSBRIDGE_URL"
TOKEN_VARIABLE = "MCSD_ROSBRIDGE_TOKEN"
TOKEN_FILE_VARIABLE = "MCSD_ROSBRIDGE_TOKEN_FILE"


def check_url(url: str, *, has_token: bool = False) -> str:
    """`url` when it is a usable rosbridge address; `UserError` otherwise."""
    hint = "; it must read like ws://robot:9090 or wss://robot.example:443/path"
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises for a port that is no number
    except ValueError as error:
        raise UserError(f"rosbridge URL {url!r}: {error}{hint}") from None
    if parts.username or parts.password or "token" in parts.query:
        raise UserError(f"the rosbridge URL must not hold a secret; put it in a file named by {TOKEN_FILE_VARIABLE}")
    if parts.scheme not in ("ws", "wss") or not host:
        raise UserError(f"rosbridge URL {url!r} is not valid{hint}")
    if has_token and parts.scheme == "ws" and host not in ("localhost", "127.0.0.1", "::1"):
        raise UserError(f"the token would cross the network in clear text to {url}; use a wss:// URL")
    return url


def token_from_environment() -> str | None:
    """The bearer token from the file in `MCSD_ROSBRIDGE_TOKEN_FILE`, else from `MCSD_ROSBRIDGE_TOKEN`, else None.

    Never from the command line: other users of the machine can read that.
    """
    path = os.environ.get(TOKEN_FILE_VARIABLE)
    if not path:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UserError(f"token file {path!r} in {TOKEN_FILE_VARIABLE}: {error.strerror}") from None
    if not token or any(c.isspace() for c in token):
        raise UserError(f"token file {path!r} in {TOKEN_FILE_VARIABLE} must hold one token and nothing else")
    return token
