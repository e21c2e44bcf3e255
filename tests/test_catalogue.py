"""Which bases there are, what the Hub's refusals mean, and that half a download is no model."""

import errno
import json
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from httpx2 import ConnectError, ReadTimeout, Request, Response
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import filter_repo_objects, hf_raise_for_status

from core import catalogue, paths, starter
from core.errors import ModelError
from core.recipes import MISTRAL

NAME = "owner/model"


def unwatched(message: str, share: float | None) -> None:
    """Nobody watches the progress."""


@pytest.fixture(autouse=True)
def home(own_home: Path) -> Path:
    paths.ensure_home()
    return own_home


# Names


@pytest.mark.parametrize(
    "name",
    ["", "   ", "nothing-here", "/no/such/folder", "owner/model/extra", "nul\0byte", "x" * 280, "~nobody-at-all/model",
     "../../no-such", "owner/", "/model", "-owner/model", "own er/model", "owner/mo\ndel", "owner/..", "\udcff/x",
     "a" * 3000 + "/b"],
)  # fmt: skip
def test_a_name_that_is_no_model_is_a_sentence(name, looked_up_hosts):
    for ask in (catalogue.folder_of, catalogue.is_local, lambda n: catalogue.bring(n, "", unwatched)):
        with pytest.raises(ModelError) as error:
            ask(name)
        assert str(error.value).startswith("There is no model ")
        assert str(error.value).endswith("it is neither the starter, nor a folder, nor a Hub id such as owner/name.")
        assert "\n" not in str(error.value)
        assert "\0" not in str(error.value)
    assert looked_up_hosts == []


def test_a_folder_is_never_looked_for_on_the_hub_nor_replaced(tmp_path, monkeypatch, looked_up_hosts):
    folder = tmp_path / "mistralai" / "Mistral-7B-Instruct-v0.3"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    for name in (str(folder), "mistralai/Mistral-7B-Instruct-v0.3"):
        assert catalogue.bring(name, "", unwatched) == folder
        assert catalogue.download_bytes(name, "") == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert looked_up_hosts == []


def test_the_starter_is_brought_by_its_own_way(monkeypatch, tmp_path):
    monkeypatch.setattr(starter, "bring", lambda on_progress: tmp_path)
    assert catalogue.bring(paths.STARTER_NAME, "", unwatched) == tmp_path


# What the Hub says


def refusal(status: int, code: str = "", message: str = "") -> Exception:
    """The error that the Hub's own client makes of such an answer."""
    headers = {k: v for k, v in {"X-Error-Code": code, "X-Error-Message": message}.items() if v}
    request = Request("GET", f"https://huggingface.co/api/models/{NAME}")
    try:
        hf_raise_for_status(Response(status, headers=headers, request=request))
    except Exception as error:
        return error
    raise AssertionError


LICENCE = (
    "owner/model asks you to accept its licence first. Open huggingface.co/owner/model, accept it, and put a token of "
    "the same account into .env as HUGGINGFACE_TOKEN."
)
SIGN_IN = (
    "owner/model is given out only to those who are signed in. Make a token at huggingface.co/settings/tokens, put it "
    "into .env as HUGGINGFACE_TOKEN, and accept the licence at huggingface.co/owner/model."
)
MISSING = "There is no model 'owner/model' on the Hub, or your token may not see it. Check the name."
MISSING_OR_CLOSED = (
    "There is no model 'owner/model' on the Hub, or it is given out only to those who are signed in. Check the name, "
    "or put a token into .env as HUGGINGFACE_TOKEN."
)
REFUSED = "The Hub refuses your token. Make a new one at huggingface.co/settings/tokens, and put it into .env."
OFFLINE = (
    "owner/model is not on this machine and the Hub cannot be reached. Connect to the network, or use the starter "
    "model."
)
TROUBLE = "The Hub cannot give out owner/model just now (it answered {}). Try again in a while."
WRONG_TOKEN = (401, "", "Invalid credentials in Authorization header")


@pytest.mark.parametrize(
    ("error", "token", "sentence"),
    [
        (refusal(403, "GatedRepo"), "hf_x", LICENCE),
        (refusal(401, "GatedRepo"), "", SIGN_IN),
        (refusal(404, "RepoNotFound"), "hf_x", MISSING),
        (refusal(401, "RepoNotFound"), "", MISSING_OR_CLOSED),
        (refusal(401), "", MISSING_OR_CLOSED),
        (refusal(*WRONG_TOKEN), "hf_old", REFUSED),
        (refusal(403), "hf_x", LICENCE),
        (refusal(403), "", SIGN_IN),
        (refusal(404), "hf_x", MISSING),
        (refusal(429), "", TROUBLE.format(429)),
        (refusal(503), "hf_x", TROUBLE.format(503)),
        (ConnectError("[Errno -2] Name or service not known"), "", OFFLINE),
        (ReadTimeout("timed out"), "", OFFLINE),
        (OfflineModeIsEnabled("offline"), "", OFFLINE),
        (LocalEntryNotFoundError("cannot find the snapshot"), "hf_x", OFFLINE),
        (OSError(errno.ENOSPC, "No space left on device"), "", "The disk is full, so owner/model could not be brought. "
         "Free some space; the download goes on where it stood."),
    ],
)  # fmt: skip
def test_every_refusal_of_the_hub_is_its_own_sentence(monkeypatch, error, token, sentence):
    def refusing(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refusing)
    with pytest.raises(ModelError) as asked:
        catalogue.download_bytes(NAME, token)
    monkeypatch.setattr(catalogue, "download_bytes", lambda name, token: 1000)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refusing)
    with pytest.raises(ModelError) as fetched:
        catalogue.bring(NAME, token, unwatched)
    assert str(asked.value) == str(fetched.value) == sentence
    assert token == "" or token not in sentence


def test_without_a_network_the_real_client_is_a_sentence_too(looked_up_hosts):
    with pytest.raises(ModelError) as error:
        catalogue.bring(NAME, "", unwatched)
    assert str(error.value) == OFFLINE
    assert set(looked_up_hosts) == {"huggingface.co"}


# Downloads

REPOSITORY = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "chat_template.jinja", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    "model.safetensors.index.json", "consolidated.safetensors", "consolidated.00.pth", "pytorch_model.bin",
    "original/params.json", "model.gguf", "modeling_evil.py", "README.md",
)  # fmt: skip
WANTED = sorted(REPOSITORY[:9])


class Hub:
    """A repository that is given out file by file, and breaks off after so many."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, breaks_after: int = 99) -> None:
        self.breaks_after = breaks_after
        files = [SimpleNamespace(rfilename=name, size=1000) for name in REPOSITORY]
        self.info = SimpleNamespace(siblings=files)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: self.info)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)

    def download(self, name, local_dir, token, allow_patterns, ignore_patterns):
        wanted = filter_repo_objects(REPOSITORY, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        for number, file in enumerate(wanted):
            if number == self.breaks_after:
                raise ConnectError("the line is dead")
            path = Path(local_dir) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")


def test_a_download_leaves_out_what_is_not_loaded(monkeypatch):
    Hub(monkeypatch)
    assert catalogue.download_bytes(NAME, "") == 2000
    said: list[str] = []
    folder = catalogue.bring(NAME, "", lambda message, share: said.append(message))
    assert folder == paths.base_dir() / "owner--model"
    assert sorted(path.name for path in folder.iterdir()) == WANTED
    assert said == ["Downloading owner/model (0.0 GB); this is done once"]
    assert catalogue.is_local(NAME)
    assert catalogue.local_names() == ["owner--model"]
    assert catalogue.folder_of("owner--model") == folder


@pytest.mark.parametrize("files", [0, 1, 5, 8])
def test_a_download_cut_off_is_no_model_and_goes_on_later(monkeypatch, files):
    hub = Hub(monkeypatch, breaks_after=files)
    with pytest.raises(ModelError) as error:
        catalogue.bring(NAME, "", unwatched)
    assert str(error.value) == OFFLINE
    assert not catalogue.is_local(NAME)
    assert catalogue.local_names() == []
    hub.breaks_after = 99
    assert catalogue.bring(NAME, "", unwatched).is_dir()
    assert catalogue.local_names() == ["owner--model"]
    assert [f.name for f in paths.base_dir().iterdir()] == ["owner--model"]


def test_a_model_that_is_here_is_not_asked_for(monkeypatch):
    hub = Hub(monkeypatch)
    folder = catalogue.bring(NAME, "", unwatched)
    hub.breaks_after = 0
    assert catalogue.bring(NAME, "", unwatched) == catalogue.bring("owner--model", "", unwatched) == folder
    assert catalogue.download_bytes(NAME, "") == 0


def test_a_repository_without_safetensors_is_not_downloaded(monkeypatch):
    hub = Hub(monkeypatch, breaks_after=0)
    hub.info.siblings = [SimpleNamespace(rfilename="pytorch_model.bin", size=1000)]
    with pytest.raises(ModelError) as error:
        catalogue.bring(NAME, "", unwatched)
    assert str(error.value) == (
        "owner/model has no safetensors files, and no other kind of weights is loaded. Take another model."
    )


def test_a_download_larger_than_the_disk_is_refused_before_it_starts(monkeypatch):
    Hub(monkeypatch, breaks_after=0)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 8, 1))
    with pytest.raises(ModelError) as error:
        catalogue.bring(MISTRAL, "", unwatched)
    assert str(error.value) == (
        "mistralai/Mistral-7B-Instruct-v0.3 takes 14.5 GB on disk, and 0.0 GB are free. Make room first."
    )


def test_a_name_that_the_client_refuses_is_not_blamed_on_the_network(monkeypatch):
    def refusing(*_, **__):
        raise HFValidationError("Repo id must be alphanumeric")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refusing)
    with pytest.raises(ModelError, match="There is no model 'owner/model'"):
        catalogue.download_bytes(NAME, "")


def test_parameters_are_counted_from_headers_alone(tiny_model_dir):
    from safetensors.torch import load_file

    weights = load_file(tiny_model_dir / "model.safetensors")
    assert catalogue.num_parameters(tiny_model_dir) == sum(w.numel() for w in weights.values())
    assert json.loads((tiny_model_dir / "config.json").read_text())["hidden_size"] == 64
