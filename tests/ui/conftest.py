"""The page and its parts against a client that remembers; a file whose client does more has a fixture of its own."""

import gradio as gr
import pytest
from gradio.routes import App

from core.ui.page import Page
from tests.ui.fake_client import FakeClient


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def page(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> Page:
    # Nobody asks over HTTP here, and its routes take a third of the time that a page takes to build.
    monkeypatch.setattr(App, "create_app", staticmethod(lambda *_, **__: None))
    page = Page(client)
    page.build()
    return page


@pytest.fixture
def noticed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notices that would pop up."""
    said: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: said.append(message))
    monkeypatch.setattr(gr, "Info", lambda message, **_: said.append(message))
    return said
