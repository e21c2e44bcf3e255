"""Starts the page: environment, engine, port, guard, address.

Knows nothing of what is on the page. gradio is imported inside, after its environment is hardened and
while the engine already loads its weights.
"""

import contextlib
import logging
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


def launch(host: str = HOST, port: int = PORT, is_browser_opened: bool = True) -> None:
    """Serve the playground until Ctrl-C; prints its URL once it answers."""
    check_host(host)
    with locks.serving() as announce:
        log_to_file()
        client = EngineClient()
        client.start()
        try:
            serve(client, host, port, is_browser_opened, announce)
        finally:
            client.close()


def check_host(host: str) -> None:
    if host not in guard.LOOPBACK:
        raise RequestError(
            f"The page is only served on this machine, so --host must be {' or '.join(guard.LOOPBACK)}, not "
            f"{host[:60]!r}. From elsewhere, forward the port: ssh -L {PORT}:{HOST}:{PORT} <this machine>."
        )


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
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    raise PlaygroundError(f"No port from {wanted} to {wanted + PORTS_TRIED - 1} is free. Choose another with --port.")


def serve(
    client: EngineClient, host: str, port: int, is_browser_opened: bool, announce: Callable[[str], object]
) -> None:
    url, demo = open_page(client, host, port)
    announce(url)
    print(f"Preference Playground: {url}", flush=True)
    if is_browser_opened:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("Closing.", flush=True)
    finally:
        demo.close(verbose=False)


def open_page(client: EngineClient, host: str = HOST, port: int = PORT) -> tuple[str, Any]:
    """Build and launch the page; returns its URL, which answers by then, and the Blocks."""
    guard.harden_environment()
    from core.ui import theme
    from core.ui.page import HEAD, Page

    demo = Page(client).build()
    demo.queue(max_size=MAX_WAITING, default_concurrency_limit=4)
    port = free_port(host, port)
    demo.launch(
        server_name=host,
        server_port=port,
        theme=theme.build(),
        css_paths=theme.STYLES,
        head=HEAD,
        favicon_path=theme.ICON,
        app_kwargs={"middleware": guard.middlewares(), "max_body_size": guard.MAX_BODY_BYTES},
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
    return f"http://{host}:{port}/", demo
