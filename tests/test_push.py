"""Pushing to the Hub, through its own client against a server on loopback: what arrives, and what is said."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from core import cli, paths, push, runs
from core.errors import AdapterError, PlaygroundError, RequestError
from core.runs import RunStatus
from core.settings import Method

TOKEN = "hf_canaryCanaryCanary0001"


class FakeHub(ThreadingHTTPServer):
    """The few requests that a push makes. `repos` holds what has been made; `refusals` answers a path with a code."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repos: dict[str, dict] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.tokens: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: FakeHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.tokens.add(self.headers.get("Authorization", ""))
        what = self.path.rpartition("/main")[0].rpartition("/")[2] or self.path.rpartition("/")[2]
        if what in self.server.refusals:
            self._say(*self.server.refusals[what])
        else:
            getattr(self, f"_{what.replace('-', '_')}")(body)

    def do_GET(self) -> None:
        repo = self.server.repos[self.path.removeprefix("/api/models/")]
        siblings = [{"rfilename": name} for name in (".gitattributes", *repo["files"])]
        self._say(200, {"id": "x", "private": repo["private"], "siblings": siblings})

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repos:
            self._say(409, "You already created this model repo")
            return
        self.server.repos[name] = {"private": asked["visibility"] == "private", "files": {}}
        self._say(200, {"url": f"{self.server.url}/{name}"})

    def _validate_yaml(self, body: bytes) -> None:
        self._say(200, {"errors": [], "warnings": []})

    def _preupload(self, body: bytes) -> None:
        names = [file["path"] for file in json.loads(body)["files"]]
        self._say(200, {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})

    def _commit(self, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        name = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        for line in lines:
            if line["key"] == "file":
                self.server.repos[name]["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self._say(200, {"commitUrl": f"{self.server.url}/{name}/commit/1", "commitOid": "1", "success": True})

    def _say(self, code: int, said: dict | str) -> None:
        content = json.dumps(said if isinstance(said, dict) else {"error": said}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setenv("HUGGINGFACE_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def adapter() -> str:
    """A finished run whose adapter is a few bytes, and the merged model of it."""
    run = runs.create(Method.DPO, "mine", base="/home/ann/bases/tiny", dataset="/home/ann/pairs.jsonl")
    runs.write(run, status=RunStatus.FINISHED, result={"pairs": 30, "held_out": 0})
    folder, merged = runs.adapter_dir("mine"), paths.merged_dir() / "mine"
    config = json.dumps({"r": 4, "base_model_name_or_path": "/home/ann/bases/tiny"})
    _fill(folder, **{push.WEIGHTS: "weights", push.CONFIG: config, "README.md": "an early card"})
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    paths.write_json(folder / "manifest.json", {"run": "mine", "model": "/home/ann/bases/tiny", "files": hashes})
    _fill(merged, **{"config.json": "{}", "model.safetensors": "all weights", "README.md": "a merged card"})
    (merged / "notes").symlink_to(folder / "manifest.json")
    return "mine"


def _fill(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_an_adapter_arrives_private_with_a_full_card_and_no_path_of_this_machine(hub, adapter):
    assert push.push(adapter, "ann/mine") == f"{hub.url}/ann/mine"
    repo = hub.repos["ann/mine"]
    assert repo["private"]
    assert repo["files"].keys() == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    assert repo["files"]["adapter_model.safetensors"] == b"weights"
    assert json.loads(repo["files"]["adapter_config.json"]) == {"r": 4, "base_model_name_or_path": "tiny"}
    assert b"30 pairs of `pairs.jsonl`" in repo["files"]["README.md"]
    assert all(b"/ann" not in content for content in repo["files"].values())
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert (runs.adapter_dir(adapter) / "README.md").read_text() == "an early card"


def test_a_merged_model_arrives_whole_and_public_where_that_is_asked_for(hub, adapter):
    push.push(adapter, "ann/mine", is_merged=True, is_public=True)
    assert not hub.repos["ann/mine"]["private"]
    assert hub.repos["ann/mine"]["files"] == {
        "README.md": b"a merged card", "config.json": b"{}", "model.safetensors": b"all weights",
    }  # fmt: skip


def test_what_is_there_already_is_never_written_over(hub, adapter):
    hub.repos["ann/mine"] = {"private": True, "files": {"model.safetensors": b"theirs"}}
    with pytest.raises(PlaygroundError) as error:
        push.push(adapter, "ann/mine")
    assert str(error.value) == (
        "There is something named 'ann/mine' on the Hub already, and it is left as it is. Take another name."
    )
    assert hub.repos["ann/mine"]["files"] == {"model.safetensors": b"theirs"}


def test_an_attempt_that_was_cut_off_is_made_good_by_the_next_one_but_never_in_public(hub, adapter):
    hub.refusals["commit"] = (500, "")
    with pytest.raises(PlaygroundError, match=r"did not take 'ann/mine' \(it answered 500"):
        push.push(adapter, "ann/mine")
    hub.refusals.clear()
    hub.repos["ann/mine"]["private"] = False
    with pytest.raises(PlaygroundError, match="already"):
        push.push(adapter, "ann/mine")
    hub.repos["ann/mine"]["private"] = True
    push.push(adapter, "ann/mine")
    assert len(hub.repos["ann/mine"]["files"]) == 3


@pytest.mark.parametrize(("code", "sentence"), [
    (401, "The Hub refuses your token. Make a new one that may write at huggingface.co/settings/tokens, and put it "
          "into .env."),
    (403, "Your token may not write to 'ann/mine'. Take a name of your own, or make a token that may at "
          "huggingface.co/settings/tokens."),
    (402, "The Hub did not take 'ann/mine' (it answered 402: pay [redacted]). Try again in a while."),
])  # fmt: skip
def test_a_refusal_is_a_sentence_without_the_token(hub, adapter, code, sentence):
    hub.refusals["create"] = (code, f"pay {TOKEN}")
    with pytest.raises(PlaygroundError) as error:
        push.push(adapter, "ann/mine")
    assert str(error.value) == sentence
    assert hub.repos == {}


def test_without_a_network_it_says_so(adapter, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setenv("HUGGINGFACE_TOKEN", TOKEN)
    with pytest.raises(PlaygroundError) as error:
        push.push(adapter, "ann/mine")
    assert str(error.value) == (
        "The Hub cannot be reached, so 'ann/mine' was not pushed. Connect to the network and try again."
    )


def test_without_a_token_nobody_is_asked(adapter, looked_up_hosts):
    with pytest.raises(RequestError, match="There is no token to push with. Make one that may write"):
        push.push(adapter, "ann/mine")
    assert looked_up_hosts == []


@pytest.mark.parametrize(
    "name", ["mine", "a/b/c", "../up/x", "ann/", "", "ann/mi ne", "ann/a..b", "ann/a--b", "ann/x.git"]
)
def test_a_name_that_the_hub_cannot_have_is_refused(hub, adapter, name):
    with pytest.raises(RequestError) as error:
        push.push(adapter, name)
    assert str(error.value) == (
        f"{name!r} is no name on the Hub. Write owner/name, where the owner is you or an organisation of yours."
    )
    assert hub.repos == {}


def test_only_what_is_whole_and_there_is_pushed(hub, adapter):
    weights = runs.adapter_dir(adapter) / push.WEIGHTS
    weights.write_text("weightz")
    with pytest.raises(AdapterError) as error:
        push.push(adapter, "ann/mine")
    assert str(error.value) == (
        "The adapter 'mine' is damaged: adapter_model.safetensors is not as it was written. Nothing was pushed."
    )
    with pytest.raises(AdapterError, match="No adapter named 'gone'. There are: mine."):
        push.push("gone", "ann/gone")
    with pytest.raises(RequestError) as error:
        push.push("gone", "ann/gone", is_merged=True)
    assert str(error.value) == "'gone' is not merged yet. Merge it first: python playground.py merge --adapter gone"
    with pytest.raises(RequestError):
        push.push("../base", "ann/mine", is_merged=True)
    assert hub.repos == {}


def test_the_command_prints_where_it_is_and_who_sees_it(hub, adapter, capsys):
    assert cli.main(["push", "--adapter", adapter, "--to", "ann/mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"url": f"{hub.url}/ann/mine"}
    assert cli.main(["push", "--adapter", adapter, "--to", "ann/big", "--merged", "--public"]) == 0
    assert capsys.readouterr().out == f"Pushed to {hub.url}/ann/big, where everybody sees it.\n"
    assert [repo["private"] for repo in hub.repos.values()] == [True, False]
    assert cli.main(["push", "--adapter", adapter, "--to", "ann/mine"]) == 1
