"""Starts the page: environment, engine, port, guard, address.

Knows nothing of what is on the page. gradio is imported inside, after its environment is hardened and
while the engine already loads its weights.
"""

import errno
import logging
import re
import socket
import threading
import webbrowser
from collections.abc import Callable
from typing import Any

from core import locks, redact
from core.client import EngineClient
from core.errors import PlaygroundError, RequestError
from core.ui import guard

HOST, PORT = "127.0.0.1", 7860
PORTS_TRIED = 100
# A few people's worth of clicks; what comes beyond is told to wait (503).
MAX_WAITING = 48

LETS_OTHERS_IN = (
    "--host {!r} lets other machines in, and then the page asks for a token: add --token. Safer, since nothing is "
    f"encrypted on the way: leave --host out and forward the port, ssh -L {PORT}:{HOST}:{PORT} <this machine>."
)
NO_ADDRESS = f"{{!r}} is no address of this machine, so the page cannot be served there. Take --host {HOST}."


def launch(host: str = HOST, port: int = PORT, is_browser_opened: bool = True, token: str | None = None) -> None:
    """Serve the playground until Ctrl-C; prints its URL once it answers. An empty `token` has one made up."""
    check_host(host, token)
    door = guard.Door(host, guard.checked_token(token))
    guard.allow_connections()
    with locks.serving() as announce, guard.page_files():
        log_to_file()
        client = EngineClient()
        client.start()
        try:
            serve(client, host, port, is_browser_opened, announce, door)
        finally:
            client.close()


def check_host(host: str, token: str | None) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}", host):
        raise RequestError(NO_ADDRESS.format(host[:60]))
    if host not in guard.LOOPBACK and token is None:
        raise RequestError(LETS_OTHERS_IN.format(host[:60]))
    free_port(host, 0)


def log_to_file() -> None:
    """The page's own errors go to models/logs/page.log, redacted before they get here."""
    handler = redact.open_log("page.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("playground")
    log.addHandler(handler)
    log.propagate = False


def free_port(host: str, wanted: int) -> int:
    """`wanted`, or the next one that is free; 0 lets the system choose."""
    for port in [wanted] if wanted == 0 else range(wanted, min(wanted + PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except (OSError, UnicodeError) as error:
                if isinstance(error, UnicodeError | socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    raise RequestError(NO_ADDRESS.format(host[:60])) from error
                continue
            return int(probe.getsockname()[1])
    raise PlaygroundError(f"No port from {wanted} to {wanted + PORTS_TRIED - 1} is free. Choose another with --port.")


def serve(
    client: EngineClient, host: str, port: int, is_browser_opened: bool, announce: Callable[[str], object],
    door: guard.Door,
) -> None:  # fmt: skip
    url, demo = open_page(client, host, port, door)
    # What stands on the disk is no way in.
    announce(url)
    own = f"{url}?token={door.token}" if door.token else url
    print(f"Preference Playground: {own}", flush=True)
    if door.is_everywhere:
        print(f"From other machines: {own.replace(HOST, guard.own_address(), 1)}", flush=True)
    if is_browser_opened:
        threading.Thread(target=webbrowser.open, args=(own,), daemon=True).start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("Closing.", flush=True)
    finally:
        demo.close(verbose=False)


def open_page(
    client: EngineClient, host: str = HOST, port: int = PORT, door: guard.Door | None = None
) -> tuple[str, Any]:
    """Build and launch the page; returns its URL on this machine, which answers by then, and the Blocks."""
    guard.harden_environment()
    door = door or guard.Door(host)
    from core.ui import theme
    from core.ui.page import HEAD, Page

    demo = Page(client).build()
    demo.queue(max_size=MAX_WAITING, default_concurrency_limit=4)
    port = free_port(host, port)
    with guard.unproxied():
        demo.launch(
            server_name=host,
            server_port=port,
            theme=theme.build(),
            css_paths=theme.STYLES,
            head=HEAD,
            favicon_path=theme.ICON,
            app_kwargs={"middleware": door.middlewares(), "max_body_size": guard.MAX_BODY_BYTES},
            max_file_size=guard.MAX_BODY_BYTES,
            allowed_paths=[],
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            share=False,
            inbrowser=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    door.is_launched = True
    return f"http://{HOST if door.is_everywhere else host}:{port}/", demo
