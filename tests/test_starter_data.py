"""The starter pairs: enough of them, the trait in every chosen reply alone, nothing held out shared with training."""

import json
import re
from collections import Counter

import pytest

from core import preferences
from core.messages import Role
from core.paths import ASSETS
from core.preferences import PreferenceData
from core.sources import STARTER_FILE
from core.traits import ends_with_one_next_step
from core.transcripts import PreferencePair

NUM_HELD_OUT = 40
# Six words running are no coincidence.
NUM_SHARED_WORDS = 6


@pytest.fixture(scope="module")
def data() -> PreferenceData:
    return preferences.read("starter")


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def runs_of_words(*texts: str) -> set[tuple[str, ...]]:
    """Every run of six words within one of the texts."""
    found = set()
    for text in texts:
        said = words(text)
        found |= {tuple(said[i : i + NUM_SHARED_WORDS]) for i in range(len(said) - NUM_SHARED_WORDS + 1)}
    return found


def texts(pair: PreferencePair) -> list[str]:
    return [turn.content for turn in pair.prompt] + [pair.chosen, pair.rejected]


def sentences(text: str) -> list[str]:
    return [" ".join(words(sentence)) for sentence in re.split(r"(?<=[.!?])\s+", text) if words(sentence)]


def test_there_are_160_pairs_and_the_last_40_are_held_out(data):
    assert (data.num_rows, data.left_out) == (160, ())
    assert [pair.row for pair in data.train] == list(range(1, 121))
    assert [pair.row for pair in data.held_out] == list(range(121, 161))


def test_every_chosen_reply_ends_with_one_next_step_and_no_rejected_one_does(data):
    pairs = data.train + data.held_out
    assert [pair.row for pair in pairs if not ends_with_one_next_step(pair.chosen)] == []
    assert [pair.row for pair in pairs if "next step" in pair.rejected.lower()] == []
    assert [pair.row for pair in pairs for turn in pair.prompt if "next step" in turn.content.lower()] == []


def test_nothing_measured_shares_wording_with_a_training_row(data):
    trained_on = runs_of_words(*(text for pair in data.train for text in texts(pair)))
    prompts = json.loads((ASSETS / "prompts.json").read_text(encoding="utf-8"))
    measured = {f"row {pair.row}": runs_of_words(*texts(pair)) for pair in data.held_out}
    measured |= {prompt["id"]: runs_of_words(prompt["prompt"]) for prompt in prompts}
    assert {name: runs & trained_on for name, runs in measured.items() if runs & trained_on} == {}


def test_no_sentence_occurs_in_two_replies(data):
    replies = [reply for pair in data.train + data.held_out for reply in (pair.chosen, pair.rejected)]
    counts = Counter(sentence for reply in replies for sentence in sentences(reply))
    assert [sentence for sentence, count in counts.items() if count > 1] == []


def test_no_question_and_no_reply_opens_like_another(data):
    pairs = data.train + data.held_out
    questions = Counter(tuple(words(pair.prompt[0].content)[:4]) for pair in pairs)
    openings = Counter(tuple(words(pair.chosen)[:3]) for pair in pairs)
    assert [opening for opening, count in (questions + openings).items() if count > 1] == []


def test_length_does_not_give_the_chosen_reply_away(data):
    for pairs in (data.train, data.held_out):
        is_longer = [len(pair.rejected) > len(pair.chosen) for pair in pairs]
        assert 0.4 <= sum(is_longer) / len(is_longer) <= 0.7


def test_some_conversations_have_several_turns(data):
    for pairs in (data.train, data.held_out):
        turns = [sum(turn.role is Role.USER for turn in pair.prompt) for pair in pairs]
        assert 0.1 <= sum(count > 1 for count in turns) / len(turns) <= 0.5


def test_the_file_is_in_the_transcript_form_and_plain_ascii():
    lines = STARTER_FILE.read_text(encoding="ascii").splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(list(row) == ["chosen", "rejected"] for row in rows)
    assert all(text.startswith("\n\nHuman: ") for row in rows for text in row.values())


def test_the_unrelated_passages_share_nothing_with_the_pairs(data):
    """They measure what training does to everything else, so they must be something else."""
    passages = json.loads((ASSETS / "passages.json").read_text(encoding="utf-8"))
    assert len(passages) >= 10
    assert all(isinstance(passage, str) and 40 <= len(words(passage)) <= 200 for passage in passages)
    assert all("next step" not in passage.lower() for passage in passages)
    pairs = data.train + data.held_out
    assert not runs_of_words(*passages) & runs_of_words(*(text for pair in pairs for text in texts(pair)))
