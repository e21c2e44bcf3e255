"""The real page in front of a client that only talks: what is looked at is the browser, not the weights."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from playwright.sync_api import BrowserContext, Page

from core import paths
from core.ui import app
from tests.ui.fake_talker import FakeTalker, make_adapter


@dataclass
class Talking:
    """`page` stands open on `url`, the client behind it answers at once, and there is one adapter."""

    client: FakeTalker
    adapter: str
    url: str
    page: Page


@contextlib.contextmanager
def talking_page(context: BrowserContext, client: FakeTalker | None = None) -> Iterator[Talking]:
    paths.ensure_home()
    client, adapter = client or FakeTalker(), make_adapter()
    url, demo = app.open_page(client, port=0)
    try:
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("#engine strong")
        yield Talking(client, adapter, url, page)
    finally:
        # A page whose server goes away first complains of it.
        for page in context.pages:
            page.close()
        demo.close(verbose=False)
