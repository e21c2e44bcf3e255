"""The door of the page: who may talk to it, and how much they may send.

Plain ASGI and the environment; knows nothing of Gradio's components. A page of another site, open in
the same browser, can reach a server on this machine: the checks here are what keeps it out.
"""

import contextlib
import hmac
import ipaddress
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs

import psutil
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import paths
from core.errors import RequestError

# A status and a sentence.
Refusal = tuple[int, str]
Check = Callable[[Scope], Refusal | None]

LOOPBACK = ("127.0.0.1", "localhost")
# Served on every address that the machine has.
EVERYWHERE = "0.0.0.0"
# An address that is kept for documentation, and nobody's.
ELSEWHERE = "192.0.2.1"
AUTHORITY = re.compile(r"([a-z0-9.-]+)(?::[0-9]{1,5})?")
FETCHES = re.compile(r"/proxy=|/file[=/].*://", re.IGNORECASE)
# For any one request, an upload included; the server counts while it arrives.
MAX_BODY_BYTES = 20 * 1024 * 1024

# What macOS grants at most; every connection is one, and a Mac begins with 256. A deadline for a request's head, which
# would end those who never finish theirs, is offered by neither Gradio nor uvicorn.
MAX_OPEN_FILES = 10_240

# "none" is a person who typed the address, "same-origin" is our own page.
OWN_FETCH_SITES = ("same-origin", "none")

# Another's reverse proxy, and Hugging Face's own hosts: what they change has no place on a person's machine.
HOSTED = ("SYSTEM", "SPACE_ID", "SPACE_HOST", "FORWARDED_ALLOW_IPS")
OF_A_PROXY = (b"x-forwarded-", b"forwarded", b"x-gradio-server")

MIN_TOKEN, TOKEN_LETTERS = 16, "letters, digits, '-' and '_'"
BAD_TOKEN = f"--token takes at least {MIN_TOKEN} characters out of {TOKEN_LETTERS}. Without a value one is made up."
NO_TOKEN = "This playground asks for its token: open the address that it printed when it was started."
# A page that leads on: a link that was followed from elsewhere brings no strict cookie, but what this page asks for
# does, and the token leaves the address line.
WELCOME = '<!doctype html><meta http-equiv="refresh" content="0;url=/">'


def harden_environment() -> None:
    """Drop every GRADIO_* variable, then say what we want; to be called before gradio is imported.

    The variables beat arguments: GRADIO_ALLOWED_PATHS opens files, GRADIO_SERVER_NAME the network.
    """
    paths.ensure_home()
    paths.page_dir().mkdir(exist_ok=True, mode=0o700)
    for name in [name for name in os.environ if name.startswith("GRADIO_") or name in HOSTED]:
        del os.environ[name]
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(paths.page_dir()),
        # Nobody's word on who asks, and how, is taken.
        "FORWARDED_ALLOW_IPS": "",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }


@contextlib.contextmanager
def page_files() -> Iterator[None]:
    """Nothing that the page was sent or handed out is left after it, nor by one that was killed before it; for whoever
    serves this home alone."""
    shutil.rmtree(paths.page_dir(), ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(paths.page_dir(), ignore_errors=True)


def allow_connections() -> None:
    """As many open files as the system grants."""
    if os.name != "posix":
        return
    import resource

    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if most == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, most)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


@contextlib.contextmanager
def unproxied() -> Iterator[None]:
    """Inside, this process asks itself directly: Gradio does while it launches, and would ask by way of a proxy that is
    set for everything, or trip over one that httpx cannot use. With NO_PROXY alone, macOS's settings are not read."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.lower().endswith("_proxy")}
    os.environ["NO_PROXY"] = "*"
    try:
        yield
    finally:
        del os.environ["NO_PROXY"]
        os.environ |= before


class Door:
    """By which names the page may be asked for, and with which token; where that is empty, with none."""

    def __init__(self, host: str = LOOPBACK[0], token: str = "") -> None:
        self.token = token
        self.is_everywhere = host == EVERYWHERE
        self.names = {*LOOPBACK, host, *([socket.gethostname()] if self.is_everywhere else [])}
        self.names = {name.lower() for name in self.names}
        # Until then the one who asks is Gradio itself, which brings no token to what it begins with.
        self.is_launched = False

    def is_named(self, host: str) -> bool:
        """Whether a Host header means this machine. A name can be pointed here by anybody, an address by nobody."""
        name = AUTHORITY.fullmatch(host)
        return name is not None and (name[1] in self.names or (self.is_everywhere and _is_address(name[1])))

    def by_another_name(self, scope: Scope) -> Refusal | None:
        """Whoever asks for this machine by a name that is not its own: a site that was pointed here."""
        hosts = _header(scope, b"host")
        is_named = len(hosts) == 1 and self.is_named(hosts[0])
        return None if is_named else (400, "This machine is not known by that name here.")

    def is_token(self, offered: str) -> bool:
        return hmac.compare_digest(offered.encode(), self.token.encode())

    def middlewares(self) -> list[Middleware]:
        return [
            Middleware(Unforwarded),
            Middleware(Guard, check=self.by_another_name),
            Middleware(Guard, check=from_another_page),
            Middleware(Unframed),
            *([Middleware(TokenGuard, door=self)] if self.token else []),
            Middleware(Guard, check=of_unknown_length),
            Middleware(Guard, check=from_elsewhere),
            Middleware(NothingUnsaid),
        ]


def checked_token(wanted: str | None) -> str:
    """The token that is asked for: none for None, one that is made up for an empty one; RequestError for a weak one."""
    if wanted is None:
        return ""
    token = wanted or secrets.token_urlsafe(32)
    if len(token) < MIN_TOKEN or not all(c.isascii() and (c.isalnum() or c in "-_") for c in token):
        raise RequestError(BAD_TOKEN)
    return token


def own_address() -> str:
    """The IPv4 address that other machines reach this one by, without a packet or a look-up; its name where it has
    none. A name is known to this machine, and to others only where somebody sees to it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: the system only says from which of its addresses it would be.
        probe.connect((ELSEWHERE, 9))
        return str(probe.getsockname()[0])
    # A network that leads nowhere else has no such route.
    found = (address for addresses in psutil.net_if_addrs().values() for address in addresses)
    ours = (address.address for address in found if address.family == socket.AF_INET)
    return next((own for own in ours if not ipaddress.IPv4Address(own).is_loopback), socket.gethostname())


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(name))
    except ValueError:
        return False


class Unforwarded:
    """Drops what a proxy says: none stands before this page, and Gradio takes its own address from such a header."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["headers"] = [(key, value) for key, value in scope["headers"] if not key.startswith(OF_A_PROXY)]
        await self.app(scope, receive, send)


class Guard:
    """Refuses a request that a check has something against; the check gives a status and a sentence, or None."""

    def __init__(self, app: ASGIApp, check: Check) -> None:
        self.app = app
        self.check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None if scope["type"] == "lifespan" else self.check(scope)
        if refusal:
            await _refuse(scope, receive, send, *refusal)
        else:
            await self.app(scope, receive, send)


def from_another_page(scope: Scope) -> Refusal | None:
    """Whatever another page sends, be it a form, a fetch or a websocket."""
    return None if is_ours(scope) else (403, "This page only answers to itself.")


def is_ours(scope: Scope) -> bool:
    """Whether nothing about a request says that another page sent it."""
    host = next(iter(_header(scope, b"host")), "")
    if any(origin != f"http://{host}" for origin in _header(scope, b"origin")):
        return False
    # A link from elsewhere may open the page itself, as a page of its own: that reveals and changes nothing.
    if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/":
        return all(kind == "document" for kind in _header(scope, b"sec-fetch-dest"))
    return all(site in OWN_FETCH_SITES for site in _header(scope, b"sec-fetch-site"))


class Unframed:
    """No page frames ours: older browsers do not say that a frame asks, so they are told not to show it in one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-frame-options", b"DENY")]
            await send(message)

        await self.app(scope, receive, sending)


class TokenGuard:
    """401 for whoever does not bring the token, which opening the printed address leaves behind as a cookie."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/" and self._is_offered(scope):
            await self._welcome(scope)(scope, receive, send)
        elif scope["type"] == "lifespan" or self._is_let_in(scope):
            await self.app(scope, receive, send)
        else:
            await _refuse(scope, receive, send, 401, NO_TOKEN)

    def _is_offered(self, scope: Scope) -> bool:
        offered = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return any(self.door.is_token(token) for token in offered)

    def _is_let_in(self, scope: Scope) -> bool:
        if not self.door.is_launched and scope["path"] == "/gradio_api/startup-events":
            return True
        return any(self.door.is_token(token) for token in _cookies(scope, _cookie_name(scope)))

    def _welcome(self, scope: Scope) -> HTMLResponse:
        answer = HTMLResponse(WELCOME, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
        answer.set_cookie(_cookie_name(scope), self.door.token, httponly=True, samesite="strict")
        return answer


def _cookie_name(scope: Scope) -> str:
    # Browsers tell no ports apart: two playgrounds of one machine would take each other's cookie away.
    return f"playground-{scope['server'][1]}"


def _cookies(scope: Scope, name: str) -> list[str]:
    # By hand: the library drops them all over one that another program of this host has set.
    sent = [part.partition("=") for value in _header(scope, b"cookie", is_as_sent=True) for part in value.split(";")]
    return [value.strip() for key, _, value in sent if key.strip() == name]


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, sentence: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await PlainTextResponse(sentence, status)(scope, receive, send)


def _header(scope: Scope, name: bytes, is_as_sent: bool = False) -> list[str]:
    sent = [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]
    return sent if is_as_sent else [value.lower() for value in sent]


def of_unknown_length(scope: Scope) -> Refusal | None:
    """A body whose length is not told: one that turns out too large would leave its beginning on disk."""
    if scope["type"] == "http" and _header(scope, b"transfer-encoding"):
        return 411, "The length of what is sent has to be told first."
    return None


def from_elsewhere(scope: Scope) -> Refusal | None:
    """Where Gradio would fetch an address for whoever asks; what it serves from here is its own to check."""
    if scope["type"] == "http" and FETCHES.search(scope["path"]):
        return 403, "This page fetches nothing from elsewhere."
    return None


class NothingUnsaid:
    """500 with a sentence, and the details in the page's log, where a request made Gradio itself stumble."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_begun = False

        async def sending(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:  # the edge of a request
            from core.ui.notices import record

            sentence = record(error)
            if not is_begun and scope["type"] == "http":
                await _refuse(scope, receive, send, 500, sentence)
