"""Whose response is it? Many clients ask one engine for base and three adapters, in every form, while a run trains.

What each says alone was found out before, on a copy of the model that nobody else asks.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from random import Random

from core import runs
from core.client import EngineClient, Response, Turn
from core.errors import PlaygroundError
from core.messages import Conversation, Message, Role, ask
from core.settings import Decoding
from tests.faults.figures import near_engine
from tests.faults.figures.figure import Figure, Tried
from tests.faults.figures.near_engine import ADAPTERS, until

RESPONSES_A_TRY = 100
CLIENTS = 12
LONG = {"epochs": 20, "batch_size": 1}
CONTENDERS = ("base", *ADAPTERS)
STRENGTHS = (0.0, 0.5, 1.0, 1.5)
PROMPTS = (
    "Where is the lamp?", "How many apples are left in the wooden bowl, and who ate the others?", "Hi",
    "What is in box 7?", "Put the kettle on " * 6, "Next step?",
)  # fmt: skip
GREEDY = Decoding(max_new_tokens=8, temperature=0.0)


@dataclass(frozen=True)
class Asked:
    """One request. `is_streamed` ones go through the chat's own way, which remembers what was read."""

    turns: tuple[Turn, ...]
    decoding: Decoding
    is_streamed: bool = False


@functools.cache
def alone():
    """A copy of the model with all adapters, which the engine does not share."""
    home, base, _ = near_engine.furnished()
    with near_engine.at_home(home):
        resident = near_engine.loaded(base)
        for name in ADAPTERS:
            resident.attach(name)
    for prompt in PROMPTS:
        texts = {said_alone(resident, Turn(contender, ask(prompt))) for contender in CONTENDERS}
        if len(texts) < len(CONTENDERS):
            raise RuntimeError(f"They cannot be told apart over {prompt!r}.")
    return resident


@functools.cache
def said_alone(resident, turn: Turn) -> str:
    from core.generate import answer

    return answer(resident, [turn], GREEDY)[0].text


@functools.cache
def expected(asked: Asked) -> tuple[str, ...]:
    """Row by row, each asked by itself; what is drawn depends on the whole batch."""
    from core.generate import answer

    resident = alone()
    if asked.decoding == GREEDY:
        return tuple(said_alone(resident, turn) for turn in asked.turns)
    return tuple(response.text for response in answer(resident, list(asked.turns), asked.decoding))


# What a client may ask


def talk(turn: Turn, exchanges: int) -> Conversation:
    """A conversation in which the contender's own earlier responses stand."""
    said: Conversation = turn.conversation
    for number in range(exchanges):
        response = said_alone(alone(), Turn(turn.contender, said, turn.strength))
        said = (*said, Message(Role.ASSISTANT, response or "Aye."), *ask(f"And then, {number}?"))
    return said


def one(rng: Random) -> list[Turn]:
    return [Turn(rng.choice(CONTENDERS), ask(rng.choice(PROMPTS)), rng.choice(STRENGTHS))]


def a_comparison(rng: Random) -> list[Turn]:
    prompts, tuned = rng.sample(PROMPTS, 3), rng.choice(tuple(ADAPTERS))
    return [Turn(contender, ask(prompt)) for prompt in prompts for contender in rng.sample(("base", tuned), 2)]


def all_of_them(rng: Random) -> list[Turn]:
    return [Turn(contender, ask(rng.choice(PROMPTS))) for contender in rng.sample(CONTENDERS, len(CONTENDERS))]


def one_at_all_strengths(rng: Random) -> list[Turn]:
    prompt, tuned = rng.choice(PROMPTS), rng.choice(tuple(ADAPTERS))
    return [Turn(tuned, ask(prompt), strength) for strength in STRENGTHS]


def side_by_side(rng: Random) -> list[Turn]:
    prompt, tuned = ask(rng.choice(PROMPTS)), rng.choice(tuple(ADAPTERS))
    return [Turn("base", prompt), Turn(tuned, prompt, rng.choice(STRENGTHS))]


def a_talk(rng: Random) -> list[Turn]:
    turn = one(rng)[0]
    return [Turn(turn.contender, talk(turn, rng.randint(1, 3)), turn.strength)]


FORMS: tuple[Callable[[Random], list[Turn]], ...] = (
    one, a_comparison, all_of_them, one_at_all_strengths, side_by_side, a_talk,
)  # fmt: skip


def requests(seed: int) -> Iterator[Asked]:
    """Of RESPONSES_A_TRY responses in all."""
    rng, left = Random(seed), RESPONSES_A_TRY
    while left > 0:
        turns = tuple(rng.choice(FORMS)(rng)[:left])
        left -= len(turns)
        drawn = Decoding(max_new_tokens=8, temperature=1.0, seed=rng.randrange(1000))
        yield Asked(turns, rng.choice((GREEDY, GREEDY, drawn)), rng.random() < 0.5)


# One try


def said(client: EngineClient, asked: Asked) -> list[Response]:
    if not asked.is_streamed:
        return client.answer(asked.turns, asked.decoding)
    with closing(client.stream(asked.turns, asked.decoding)) as chunks:
        ends = {chunk.row: chunk.response for chunk in chunks if chunk.response}
    return [ends[row] for row in range(len(asked.turns))]


def whose(turn: Turn, text: str) -> str:
    others = (Turn(contender, turn.conversation, strength) for contender in CONTENDERS for strength in STRENGTHS)
    found = [f"{other.contender} at {other.strength}" for other in others if said_alone(alone(), other) == text]
    return f"what {found[0]} says" if found else "what nobody says"


def faults(client: EngineClient, asked: Asked) -> list[str]:
    how = "streamed" if asked.is_streamed else "whole"
    try:
        responses = said(client, asked)
    except PlaygroundError as error:
        return [f"{how}: {type(error).__name__}: {error}"] * len(asked.turns)
    rows = zip(asked.turns, responses, expected(asked), strict=True)
    return [
        f"{how}: {turn.contender} at {turn.strength} was asked and said {whose(turn, response.text)}: {response.text!r}"
        for turn, response, right in rows
        if response.text != right
    ]


def attempt(seed: int) -> Tried:
    """A hundred responses asked for by a dozen clients at once, and a run at work from before the first to the last."""
    todo = list(requests(seed))
    for asked in todo:
        expected(asked)
    with near_engine.living_engine() as client:
        run = client.start_run(near_engine.run_request("sft", **LONG))
        until(lambda: runs.read_metrics(run), "the first step")
        with ThreadPoolExecutor(CLIENTS) as pool:
            found = [sentence for wrong in pool.map(lambda asked: faults(client, asked), todo) for sentence in wrong]
        if not runs.read_run(run).is_alive:
            raise RuntimeError(f"The run ended before the clients did: {runs.read_run(run).reason}")
        client.discard_run()
        until(lambda: client.state().run is None, "the end of the run")
    return Tried(RESPONSES_A_TRY, tuple(found))


FIGURES = (
    Figure(
        "contenders",
        "responses from the wrong contender, of a dozen clients who ask base and adapters while a run trains",
        "0 of 10,000",
        10_000,
        100,
        attempt,
    ),
)
