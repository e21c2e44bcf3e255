"""Responses: to whom they belong, how they end, and what is said when they cannot be given."""

import pytest
import torch

from core import generate
from core.client import Chunk, Response, Turn
from core.device import Device
from core.errors import OutOfMemory, PlaygroundError, RequestError
from core.generate import answer, stream
from core.loader import BASE, ResidentModel
from core.messages import Message, Role, ask
from core.settings import Decoding

CPU = Device("cpu", torch.float32, "sdpa", "for tests")
GREEDY = Decoding(max_new_tokens=8, temperature=0.0)
DRAWN = Decoding(max_new_tokens=12, temperature=1.0, top_p=1.0, seed=5)
PROMPTS = ["Hi", "Where is the lamp, and what does it stand on?", "How many apples?", "Put the kettle on " * 9]


def only(responses: list[Response]) -> Response:
    assert len(responses) == 1
    return responses[0]


def end_after(resident: ResidentModel, monkeypatch: pytest.MonkeyPatch, num_tokens: int) -> None:
    """The model's next tokens are all 'a', and after so many of them the end of text."""
    stock, letter = resident.model.forward, resident.tokenizer.convert_tokens_to_ids("a")
    prompts: dict[str, int] = {}

    def forward(*args, **kwargs):
        out = stock(*args, **kwargs)
        length = kwargs["attention_mask"].shape[1]
        token = letter if length - prompts.setdefault("width", length) < num_tokens else resident.tokenizer.eos_token_id
        out.logits[:] = -100.0
        out.logits[..., token] = 100.0
        return out

    monkeypatch.setattr(resident.model, "forward", forward)


# Order and batches


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_responses_come_in_the_order_of_their_turns_whatever_the_batching(resident, tuned, monkeypatch, rows):
    turns = [Turn(contender, ask(prompt)) for prompt in PROMPTS for contender in (BASE, tuned)]
    alone = [only(answer(resident, [turn], GREEDY)) for turn in turns]
    monkeypatch.setattr(generate, "MAX_BATCH_ROWS", rows)
    assert answer(resident, turns, GREEDY) == alone
    assert answer(resident, turns[::-1], GREEDY) == alone[::-1]
    assert alone[0].text != alone[1].text


def test_batches_are_bounded_by_their_tokens(resident, monkeypatch):
    monkeypatch.setattr(generate, "MAX_BATCH_TOKENS", 200)
    turns = [Turn(BASE, ask(prompt)) for prompt in PROMPTS * 3]
    rows = [generate._row(resident, i, turn, GREEDY) for i, turn in enumerate(turns)]
    batches = list(generate._batches(rows, GREEDY))
    assert sorted(row.index for batch in batches for row in batch) == list(range(len(turns)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * (max(len(r.ids) for r in batch) + GREEDY.max_new_tokens) <= 200


def test_no_turns_are_no_responses(resident):
    assert answer(resident, [], GREEDY) == []


def test_progress_never_goes_back_and_ends_at_its_total(resident, tuned, monkeypatch):
    monkeypatch.setattr(generate, "MAX_BATCH_ROWS", 2)
    seen: list[tuple[int, int]] = []
    turns = [Turn(BASE, ask(prompt)) for prompt in PROMPTS]
    answer(resident, turns, GREEDY, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert len({total for _, total in seen}) == 1
    assert seen[-1][0] == seen[-1][1]


# Drawing


def test_temperature_zero_says_the_likeliest_whatever_the_seed(resident):
    turns = [Turn(BASE, ask("Hi"))]
    said = {only(answer(resident, turns, Decoding(8, 0.0, 0.05 * n, seed=n))).text for n in range(1, 6)}
    ids = torch.tensor([resident.template.prompt_ids(ask("Hi"))])
    with torch.no_grad():
        for _ in range(8):
            ids = torch.cat([ids, resident.model(ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    expected = resident.template.decode(ids[0, -8:].tolist()).strip()
    assert said == {expected}


def test_the_same_seed_says_the_same_and_another_seed_something_else(resident):
    turns = [Turn(BASE, ask(prompt)) for prompt in PROMPTS]
    first = answer(resident, turns, DRAWN)
    assert answer(resident, turns, DRAWN) == first
    assert answer(resident, turns, Decoding(12, 1.0, 1.0, seed=6)) != first


def test_drawing_leaves_the_random_state_that_training_draws_from(resident):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    answer(resident, [Turn(BASE, ask("Hi"))], DRAWN)
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_that_a_model_brings_filters_what_may_be_drawn(resident, tiny_model_dir):
    resident.model.generation_config.top_k = 1
    again = ResidentModel(tiny_model_dir, CPU)
    turns = [Turn(BASE, ask("Hi"))]
    assert answer(resident, turns, DRAWN) == answer(again, turns, DRAWN)


# Ends


def test_a_response_that_comes_to_its_end_is_not_cut(resident, monkeypatch):
    end_after(resident, monkeypatch, 3)
    assert only(answer(resident, [Turn(BASE, ask("Hi"))], GREEDY)) == Response("aaa", 3)


def test_a_response_that_runs_into_its_limit_is_cut(resident, monkeypatch):
    end_after(resident, monkeypatch, 100)
    assert only(answer(resident, [Turn(BASE, ask("Hi"))], GREEDY)) == Response("a" * 8, 8, is_cut=True)


def test_a_response_that_ends_on_its_last_token_is_not_cut(resident, monkeypatch):
    end_after(resident, monkeypatch, 7)
    assert only(answer(resident, [Turn(BASE, ask("Hi"))], GREEDY)) == Response("a" * 7, 7)


def test_an_empty_response_is_a_response(resident, monkeypatch):
    end_after(resident, monkeypatch, 0)
    assert only(answer(resident, [Turn(BASE, ask("Hi"))], GREEDY)) == Response("", 0)


class StopAfter:
    """A wish to stop that comes at the n-th time of asking, and stays."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_a_stop_is_heard_at_the_next_token(resident, monkeypatch):
    end_after(resident, monkeypatch, 100)
    long = Decoding(max_new_tokens=200, temperature=0.0)
    said = only(answer(resident, [Turn(BASE, ask("Hi"))], long, StopAfter(4)))
    assert said == Response("aaaa", 4, is_cut=True, note="Stopped.")


def test_a_stop_is_not_said_of_what_had_ended_and_leaves_later_batches_unasked(resident, monkeypatch):
    end_after(resident, monkeypatch, 2)
    monkeypatch.setattr(generate, "MAX_BATCH_ROWS", 1)
    turns = [Turn(BASE, ask("Put the kettle on")), Turn(BASE, ask("Hi"))]
    first, second = answer(resident, turns, GREEDY, StopAfter(3))
    assert first == Response("aa", 2)
    assert second == Response("", 0, is_cut=True, note="Stopped.")


# Streams


def streamed(resident: ResidentModel, turns: list[Turn], decoding: Decoding, *wishes) -> tuple[list[Chunk], list[str]]:
    chunks: list[Chunk] = []
    stream(resident, turns, decoding, chunks.append, *wishes)
    texts = ["".join(c.text for c in chunks if c.row == row) for row in range(len(turns))]
    return chunks, texts


@pytest.mark.parametrize("decoding", [GREEDY, DRAWN, Decoding(40, 2.0, 1.0, seed=1)])
def test_the_chunks_of_a_stream_add_up_to_the_response(resident, tuned, decoding):
    turns = [Turn(contender, ask(prompt)) for prompt in PROMPTS[:2] for contender in (BASE, tuned)]
    chunks, texts = streamed(resident, turns, decoding)
    ends = {c.row: c.response for c in chunks if c.response}
    assert [ends[row] for row in range(len(turns))] == answer(resident, turns, decoding)
    assert texts == [ends[row].text for row in range(len(turns))]


def test_base_and_tuned_stream_side_by_side(resident, tuned):
    chunks, _ = streamed(resident, [Turn(BASE, ask("Hi")), Turn(tuned, ask("Hi"))], Decoding(30, 1.5, 1.0))
    rows = [c.row for c in chunks if c.response is None]
    assert len({0, 1} & set(rows[: len(rows) // 2])) == 2


def test_half_a_character_waits_for_its_other_half(resident, monkeypatch):
    ids = iter(resident.tokenizer("né \U0001f600!", add_special_tokens=False)["input_ids"])
    stock = resident.model.forward

    def forward(*args, **kwargs):
        out = stock(*args, **kwargs)
        out.logits[:] = -100.0
        out.logits[..., next(ids, resident.tokenizer.eos_token_id)] = 100.0
        return out

    monkeypatch.setattr(resident.model, "forward", forward)
    chunks, texts = streamed(resident, [Turn(BASE, ask("Hi"))], Decoding(30, 0.0))
    assert texts == ["né \U0001f600!"]
    assert all("\ufffd" not in c.text for c in chunks)


def test_a_stopped_stream_still_closes_every_row(resident, monkeypatch):
    end_after(resident, monkeypatch, 100)
    chunks, texts = streamed(resident, [Turn(BASE, ask(p)) for p in ("Hi", "Ho")], Decoding(200, 0.0), StopAfter(3))
    assert texts == ["aaa", "aaa"]
    assert [c.response.note for c in chunks if c.response] == ["Stopped.", "Stopped."]


# Too long


def exchange(number: int) -> tuple[Message, Message]:
    return Message(Role.USER, f"Question {number}: {'why? ' * 30}"), Message(Role.ASSISTANT, "Because. " * 20)


def test_a_conversation_too_long_loses_its_oldest_turns_and_says_so(resident):
    system = Message(Role.SYSTEM, "Answer as a pirate.")
    history = [message for number in range(20) for message in exchange(number)]
    asked = (system, *history, Message(Role.USER, "The last question"))
    row = generate._row(resident, 0, Turn(BASE, asked), GREEDY)
    text = resident.tokenizer.decode(row.ids)
    assert "Answer as a pirate." in text
    assert "The last question" in text
    assert "Question 19:" in text
    assert "Question 0:" not in text
    said = only(answer(resident, [Turn(BASE, asked)], GREEDY))
    dropped = 40 - sum(f"Question {n}:" in text for n in range(20)) * 2
    assert said.note == (
        f"The oldest {dropped} messages were left out: the conversation is longer than this model can read."
    )
    assert said.num_tokens <= 8
    assert [m.role for m in asked] == [Role.SYSTEM, *[m.role for m in history], Role.USER]


def test_a_conversation_that_fits_is_left_alone(resident):
    assert only(answer(resident, [Turn(BASE, (*exchange(1), *ask("Hi")))], GREEDY)).note == ""


def test_a_single_message_too_long_is_a_sentence(resident):
    with pytest.raises(RequestError) as error:
        answer(resident, [Turn(BASE, ask("why? " * 3000))], GREEDY)
    assert str(error.value).startswith("The message is too long for this model: ")
    assert str(error.value).endswith(" tokens, and 1016 fit.")


def test_a_response_ends_where_the_models_reading_ends(resident, monkeypatch):
    end_after(resident, monkeypatch, 10_000)
    conversation = ask("why? " * 220)
    room = resident.max_positions - len(resident.template.prompt_ids(conversation))
    assert 32 <= room < 200
    widest = 0
    stock = resident.model.forward

    def forward(*args, **kwargs):
        nonlocal widest
        widest = max(widest, kwargs["attention_mask"].shape[1])
        return stock(*args, **kwargs)

    monkeypatch.setattr(resident.model, "forward", forward)
    long = Decoding(max_new_tokens=200, temperature=0.0)
    short, full = answer(resident, [Turn(BASE, conversation), Turn(BASE, ask("Hi"))], long)
    assert short.is_cut
    assert (short.num_tokens, full.num_tokens) == (room, 200)
    assert widest <= resident.max_positions


# What goes wrong


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_a_sentence(resident, tuned, temperature, value):
    weights = [p for n, p in resident.model.named_parameters() if "lora_B" in n and "down_proj" in n]
    with torch.no_grad():
        weights[-1].fill_(value)
    decoding = Decoding(4, temperature)
    with pytest.raises(PlaygroundError) as error:
        answer(resident, [Turn(BASE, ask("Hi")), Turn(tuned, ask("Hi"))], decoding)
    assert str(error.value) == (
        "'tuned' computes numbers that are not finite, so it cannot answer. Train it anew, or choose another."
    )
    assert only(answer(resident, [Turn(BASE, ask("Hi"))], decoding)).num_tokens > 0


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (RuntimeError("MPS backend out of memory"), OutOfMemory, "There is not enough memory for this response."),
        (torch.OutOfMemoryError("CUDA out of memory."), OutOfMemory, "There is not enough memory for this response."),
        (MemoryError(), OutOfMemory, "There is not enough memory for this response."),
        (RuntimeError("shapes\ncannot be multiplied"), PlaygroundError, "The model could not answer: shapes cannot"),
        (RuntimeError(), PlaygroundError, "The model could not answer: RuntimeError"),
    ],
)
def test_a_failure_is_a_sentence_and_the_next_question_is_answered(resident, tuned, monkeypatch, error, kind, sentence):
    def failing(*_, **__):
        raise error

    turns = [Turn(BASE, ask("Hi")), Turn(tuned, ask("Hi"))]
    before = answer(resident, turns, GREEDY)
    with monkeypatch.context() as patch:
        patch.setattr(resident.model, "forward", failing)
        with pytest.raises(kind) as raised:
            answer(resident, turns, GREEDY)
    assert str(raised.value).startswith(sentence)
    assert answer(resident, turns, GREEDY) == before
