"""The door of the page: who may talk to it, and how much they may send.

Plain ASGI and the environment; knows nothing of Gradio's components. A page of another site, open in
the same browser, can reach a server on this machine: the checks here are what keeps it out.
"""

import os
import tempfile
from collections.abc import Iterable

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost")
# For any one request, an upload included; the server counts while it arrives.
MAX_BODY_BYTES = 20 * 1024 * 1024

# "none" is a person who typed the address, "same-origin" is our own page.
OWN_FETCH_SITES = ("same-origin", "none")


def harden_environment() -> None:
    """Drop every GRADIO_* variable, then say what we want; to be called before gradio is imported.

    The variables beat arguments: GRADIO_ALLOWED_PATHS opens files, GRADIO_SERVER_NAME the network.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": tempfile.mkdtemp(prefix="playground-"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }


def middlewares() -> list[Middleware]:
    return [
        Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK)),
        Middleware(OriginGuard),
        Middleware(KnownLength),
    ]


def is_own_origin(origin: str, host: str) -> bool:
    """Whether the page that sent a request is the one that this very address serves."""
    return origin == f"http://{host}" and host.partition(":")[0] in LOOPBACK


class OriginGuard:
    """403 for whatever a page of another origin sends, be it a form, a fetch or a websocket."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_ours(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse("This page only answers to itself.", 403)(scope, receive, send)


def is_ours(scope: Scope) -> bool:
    """Whether nothing about a request says that another page sent it."""
    host = next(iter(_header(scope, b"host")), "")
    # A link from elsewhere may open the page itself: a plain GET of "/" reveals and changes nothing.
    if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/":
        return True
    sites = _header(scope, b"sec-fetch-site")
    if any(site not in OWN_FETCH_SITES for site in sites):
        return False
    return all(is_own_origin(origin, host) for origin in _header(scope, b"origin"))


def _header(scope: Scope, name: bytes) -> list[str]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return [value.decode("latin-1").strip().lower() for key, value in headers if key == name]


class KnownLength:
    """411 for a body whose length is not told: one that turns out too large would leave its beginning on disk."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _header(scope, b"transfer-encoding"):
            await PlainTextResponse("The length of what is sent has to be told first.", 411)(scope, receive, send)
        else:
            await self.app(scope, receive, send)
