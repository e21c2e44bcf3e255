"""Responses against what they could be: memory's own speed, transformers' loop, and the same asked for one by one.

Both sides of every ratio in one run, on the resident starter model. Tuned is an adapter of random small weights unless
one is named, so that its responses differ from base's. `python -m tests.bench.answering`, `--quick` for half a minute.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from unittest import mock

import torch
from transformers import GenerationConfig

from core import device, paths
from core.client import Response, Turn
from core.device import own_randomness
from core.generate import answer, stream
from core.judge import BASE
from core.loader import ResidentModel
from core.messages import Conversation, Message, Role, ask
from core.prompt_sets import load_set
from core.settings import COMPARISON_BATCH_ITEMS, Decoding
from tests.bench.table import Row, as_markdown, faster
from tests.make_adapter import make_adapter

# Small enough to keep the responses in English.
SCALE = 0.002
HISTORY = 1_000
QUESTION = "Describe a river in winter, from its spring to the sea, in many words."


def measure(is_quick: bool, adapter: str = "", num_prompts: int = 10) -> list[Row]:
    """The best of a few on either side; the quick form asks for shorter responses, and for no set of prompts."""
    folder = (paths.base_dir() / paths.STARTER_NAME).resolve()
    num_tokens, times = (24, 2) if is_quick else (96, 5)
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        if not adapter:
            stack.enter_context(mock.patch.dict(os.environ, PLAYGROUND_HOME=home))
            paths.ensure_home()
        resident = ResidentModel(folder, device.choose(0), paths.STARTER_NAME)
        found = _one_stream(resident, num_tokens, times)
        if not adapter:
            adapter = "random"
            make_adapter(resident, adapter, scale=SCALE)
        resident.attach(adapter)
        found += [_two_together(resident, adapter, num_tokens, times), _second_turn(resident, adapter, times)]
        return found if is_quick else [*found, _many_together(resident, adapter, num_prompts)]


def _one_stream(resident: ResidentModel, num_tokens: int, times: int) -> list[Row]:
    turns = [Turn(BASE, ask(QUESTION))]
    greedy, drawn = Decoding(num_tokens, 0.0), Decoding(num_tokens, seed=1)
    read_s, token_s, ours_s, stock_s = [], [], [], []
    for _ in range(times):
        read_s.append(_reading_s(resident.num_parameters))
        token_s.append(_token_s(resident, turns, greedy))
        ours_s.append(_seconds(lambda: answer(resident, turns, drawn)))
        stock_s.append(_seconds(lambda: _stock(resident, turns[0].conversation, drawn)))
    limit, token, ours, stock = map(min, (read_s, token_s, ours_s, stock_s))
    return [
        faster("a token of one stream; all weights read once", 1e3 * token, 1e3 * limit, 0.75, "ms"),
        faster(f"{num_tokens} drawn tokens; transformers' generate", ours, stock, 1.0),
    ]


def _reading_s(num_parameters: int) -> float:
    """Seconds that this machine's threads take to read as many float32 numbers as the model has, the faster way."""
    weights = torch.ones(num_parameters // 1024, 1024)
    vector = torch.ones(1024)
    return min(min(_seconds(weights.sum), _seconds(lambda: torch.mv(weights, vector))) for _ in range(5))


def _token_s(resident: ResidentModel, turns: Sequence[Turn], decoding: Decoding) -> float:
    """Seconds of the fastest token: as the reading that it is held to, the best of many."""
    heard: list[float] = []
    answer(resident, turns, decoding, on_progress=lambda done, total: heard.append(time.perf_counter()))
    # The last call says that all is done, and brings no token.
    return min(after - before for before, after in pairwise(heard[:-1]))


def _stock(resident: ResidentModel, conversation: Conversation, decoding: Decoding) -> None:
    ids = torch.tensor([resident.template.prompt_ids(conversation)])
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens, do_sample=True, temperature=decoding.temperature,
        top_p=decoding.top_p, top_k=0, eos_token_id=resident.tokenizer.eos_token_id,
        pad_token_id=resident.tokenizer.pad_token_id,
    )  # fmt: skip
    with resident.speaking([BASE]), own_randomness("cpu", decoding.seed):
        resident.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)


def _two_together(resident: ResidentModel, adapter: str, num_tokens: int, times: int) -> Row:
    turns = [Turn(who, ask(QUESTION)) for who in (BASE, adapter)]
    greedy = Decoding(num_tokens, 0.0)
    apart_s, together_s = [], []
    for _ in range(times):
        apart_s.append(sum(_seconds(lambda turn=turn: answer(resident, [turn], greedy)) for turn in turns))
        together_s.append(_seconds(lambda: answer(resident, turns, greedy)))
    apart, together = min(apart_s), min(together_s)
    return faster("base and tuned together; two calls", together, apart, 1.6)


def _second_turn(resident: ResidentModel, adapter: str, times: int) -> Row:
    exchange: Conversation = (*ask(QUESTION), Message(Role.ASSISTANT, "It begins under ice, and it hums. " * 12))
    history = exchange
    while len(resident.template.prompt_ids(history)) < HISTORY:
        history += exchange
    cached_s, anew_s = [], []
    for number in range(times + 1):
        turns = [Turn(who, (*history, *ask(f"What of its bank number {number}?"))) for who in (BASE, adapter)]
        cached_s.append(_first_token_s(resident, turns))
        resident.chat_cache.clear()
        anew_s.append(_first_token_s(resident, turns))
    # The very first had nothing to go on from.
    cached, anew = min(cached_s[1:]), min(anew_s)
    return faster(f"first token after {HISTORY:,} known ones; reading them anew", cached, anew, 4.0)


def _first_token_s(resident: ResidentModel, turns: Sequence[Turn]) -> float:
    return _seconds(lambda: stream(resident, turns, Decoding(1, 0.0), lambda chunk: None))


def _many_together(resident: ResidentModel, adapter: str, num_prompts: int) -> Row:
    """A comparison's responses, in its own batches and one by one, at its own settings."""
    turns = [Turn(who, prompt.conversation) for prompt in load_set("full")[:num_prompts] for who in (BASE, adapter)]
    size = 2 * COMPARISON_BATCH_ITEMS
    together_s, together = _batches_s(resident, [turns[start : start + size] for start in range(0, len(turns), size)])
    apart_s, apart = _batches_s(resident, [[turn] for turn in turns])
    said = f"{_tokens(together):,} tokens; {_tokens(apart):,} one by one"
    return faster(f"{num_prompts} prompts x 2 together, {said}", together_s, apart_s, 4.0)


def _batches_s(resident: ResidentModel, batches: Sequence[Sequence[Turn]]) -> tuple[float, list[Response]]:
    started = time.perf_counter()
    found: list[Response] = []
    for number, batch in enumerate(batches):
        found += answer(resident, batch, Decoding(seed=number))
        print(f"  {number + 1} of {len(batches)}", end="\r", flush=True, file=sys.stderr)
    return time.perf_counter() - started, found


def _tokens(responses: Sequence[Response]) -> int:
    return sum(response.num_tokens for response in responses)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=10, help="how many of the full set's 50 (10)")
    parser.add_argument("--adapter", default="", help="a finished adapter; random small weights without")
    parser.add_argument("--quick", action="store_true", help="shorter responses, and no set of prompts")
    asked = parser.parse_args()
    print(as_markdown(measure(asked.quick, asked.adapter, asked.prompts)))


if __name__ == "__main__":
    main()
