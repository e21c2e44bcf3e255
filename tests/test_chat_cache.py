"""A conversation goes on where it was read to, and says what it would say if it were read anew."""

import pytest
import torch
import transformers

from core import chat_cache, generate
from core.client import Response, Turn
from core.generate import answer, stream
from core.loader import BASE, POLICY, ResidentModel
from core.messages import Conversation, Message, Role, ask
from core.settings import Decoding, Method, Settings, Size
from tests.make_adapter import make_adapter

GREEDY = Decoding(max_new_tokens=8, temperature=0.0)
SYSTEM = Message(Role.SYSTEM, "Answer as a pirate, and never of lamps.")


@pytest.fixture
def read(resident: ResidentModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens went through the model in every pass with a prompt in it."""
    widths: list[int] = []
    begun = generate.Batch

    def batch(model, cache, ids, mask, keep):
        widths.append(ids.shape[1])
        return begun(model, cache, ids, mask, keep)

    monkeypatch.setattr(generate, "Batch", batch)
    return widths


def said(resident: ResidentModel, turns: list[Turn], decoding: Decoding = GREEDY, *wishes) -> list[Response]:
    chunks = []
    stream(resident, turns, decoding, chunks.append, *wishes)
    return [chunk.response for row in range(len(turns)) for chunk in chunks if chunk.row == row and chunk.response]


def after(conversation: Conversation, response: str, question: str = "And then?") -> Conversation:
    return (*conversation, Message(Role.ASSISTANT, response or "-"), *ask(question))


def length(resident: ResidentModel, conversation: Conversation) -> int:
    return len(resident.template.prompt_ids(conversation))


FIRST = (SYSTEM, *ask("Where is the lamp, and what does it stand on? Put the kettle on."))


def test_every_turn_reads_what_is_new_and_says_what_it_says_anew(resident, tuned, read):
    talks = {BASE: FIRST, tuned: (*ask("How many apples?"), Message(Role.ASSISTANT, "Nine."), *ask("Are they green?"))}
    for number in range(4):
        turns = [Turn(who, conversation) for who, conversation in talks.items()]
        responses = said(resident, turns)
        assert responses == answer(resident, turns, GREEDY)
        with_cache, without = read[-2:]
        assert without == max(length(resident, turn.conversation) for turn in turns)
        assert with_cache < without / 2 if number else with_cache == without
        talks = {
            who: after(talks[who], response.text, f"And then, in the bowl of day {number}?")
            for who, response in zip(talks, responses, strict=True)
        }


def test_a_retry_reads_one_token_and_says_the_same_or_draws_anew(resident, tuned, read):
    turns = [Turn(BASE, FIRST), Turn(tuned, FIRST)]
    assert said(resident, turns) == said(resident, turns)
    assert read[1] == 1
    drawn = Decoding(max_new_tokens=8, temperature=1.5, top_p=1.0, seed=3)
    assert said(resident, turns, drawn) == answer(resident, turns, drawn)


def test_an_edited_system_prompt_reuses_what_stands_before_it_alone(resident, read):
    response = said(resident, [Turn(BASE, FIRST)])[0]
    edited = (Message(Role.SYSTEM, "Answer as a sailor, and never of lamps."), *after(FIRST, response.text)[1:])
    turns = [Turn(BASE, edited)]
    assert said(resident, turns) == answer(resident, turns, GREEDY)
    shared = chat_cache._shared(*(resident.template.prompt_ids(c) for c in (FIRST, edited)))
    assert read[1] == length(resident, edited) - shared > length(resident, edited) / 2


def test_contenders_and_versions_of_one_name_share_nothing(resident, tuned, read):
    turns = [Turn(tuned, FIRST)]
    said(resident, [Turn(BASE, FIRST)])
    assert said(resident, turns) == answer(resident, turns, GREEDY)
    make_adapter(resident, tuned, seed=2)
    resident.attach(tuned)
    again = said(resident, turns)
    assert read == [length(resident, FIRST)] * 4
    assert again == answer(resident, turns, GREEDY)
    assert len(resident.chat_cache) == 2


def test_what_was_stopped_in_the_middle_is_gone_on_from(resident, tuned, read):
    wishes = iter([False] * 4)
    responses = said(resident, [Turn(BASE, FIRST), Turn(tuned, FIRST)], GREEDY, lambda: next(wishes, True))
    assert {response.num_tokens for response in responses} == {4}
    turns = [Turn(who, after(FIRST, r.text)) for who, r in zip((BASE, tuned), responses, strict=True)]
    assert said(resident, turns) == answer(resident, turns, GREEDY)
    assert read[1] < length(resident, FIRST)


def test_rows_that_end_at_different_times_are_each_kept(resident, tuned, monkeypatch, read):
    drawn = Decoding(max_new_tokens=8, temperature=1.5, top_p=1.0, seed=3)
    turns = [Turn(BASE, FIRST), Turn(tuned, FIRST)]
    said(resident, turns, drawn)
    third = next(r for r in resident.chat_cache._reads if r.speaker[0] == BASE).ids[length(resident, FIRST) + 2]
    monkeypatch.setattr(generate, "_end_ids", lambda resident: {third})
    first = said(resident, turns, drawn)
    assert len({response.num_tokens for response in first}) == 2
    turns = [Turn(turn.contender, after(FIRST, r.text)) for turn, r in zip(turns, first, strict=True)]
    assert said(resident, turns, drawn) == answer(resident, turns, drawn)
    assert len(resident.chat_cache) == 2


def test_a_policy_in_training_and_whole_responses_are_never_kept(resident, tuned):
    answer(resident, [Turn(BASE, FIRST)], GREEDY)
    resident.open_policy(Settings.of(Method.DPO, Size.SMALL, {"lora_rank": 4}))
    said(resident, [Turn(POLICY, FIRST)])
    assert len(resident.chat_cache) == 0


def test_nothing_is_kept_while_it_is_closed_and_nothing_is_left_afterwards(resident, read):
    said(resident, [Turn(BASE, FIRST)])
    with resident.chat_cache.closed():
        assert len(resident.chat_cache) == 0
        said(resident, [Turn(BASE, FIRST)])
    assert len(resident.chat_cache) == 0
    said(resident, [Turn(BASE, FIRST)])
    assert read == [length(resident, FIRST)] * 3
    assert len(resident.chat_cache) == 1


def test_it_is_bounded_by_conversations_and_by_tokens(resident, monkeypatch):
    for number in range(6):
        said(resident, [Turn(BASE, ask(f"{number} apples are left in the bowl"))])
    assert len(resident.chat_cache) == chat_cache.MAX_CONVERSATIONS
    monkeypatch.setattr(chat_cache, "MAX_TOKENS", length(resident, FIRST) + GREEDY.max_new_tokens)
    said(resident, [Turn(BASE, FIRST)])
    assert len(resident.chat_cache) == 1
    said(resident, [Turn(BASE, after(FIRST, "Aye."))])
    assert len(resident.chat_cache) == 1


def test_no_memory_for_a_response_empties_it(resident, monkeypatch):
    said(resident, [Turn(BASE, FIRST)])

    def failing(*_, **__):
        raise MemoryError

    monkeypatch.setattr(resident.model, "forward", failing)
    with pytest.raises(generate.OutOfMemory):
        said(resident, [Turn(BASE, after(FIRST, "Aye."))])
    assert len(resident.chat_cache) == 0


@pytest.mark.parametrize(("kind", "window"), [("Mistral", None), ("Qwen2", None), ("Mistral", 6)])
def test_other_kinds_of_models_go_on_too_and_a_sliding_window_is_read_anew(resident, kind, window, read):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(resident.tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, sliding_window=window,
    )  # fmt: skip
    torch.manual_seed(4)
    end = resident.model.generation_config
    resident.model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    resident.model.generation_config = end
    conversation = FIRST
    for _ in range(3):
        turns = [Turn(BASE, conversation)]
        responses = said(resident, turns)
        assert responses == answer(resident, turns, GREEDY)
        conversation = after(conversation, responses[0].text)
    assert (read[-2] < read[-1]) is (window is None)


def test_what_one_has_read_and_the_other_has_not_makes_no_batch_twice_as_wide(resident, tuned, read):
    long = ask("What is on the desk, and what is under it? " * 12)
    base = said(resident, [Turn(BASE, long)])[0]
    turns = [Turn(BASE, after(long, base.text)), Turn(tuned, after(long, base.text))]
    assert said(resident, turns) == answer(resident, turns, GREEDY)
    assert read[1] == length(resident, turns[0].conversation)
    assert len(resident.chat_cache) == 2
