"""A comparison's responses: base and tuned together in few batches, against the same prompts one by one.

Both sides in one run, on the resident starter model, at a comparison's own settings. Tuned is an adapter of random
small weights unless one is named, so that its responses differ from base's. Run it with
`python -m tests.bench.answer_together --prompts 10`.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from core import device, paths
from core.client import Response, Turn
from core.generate import answer
from core.judge import BASE
from core.loader import ResidentModel
from core.prompt_sets import load_set
from core.settings import COMPARISON_BATCH_ITEMS, Decoding
from tests.make_adapter import make_adapter

# Small enough to keep the responses in English.
SCALE = 0.002


def measure(resident: ResidentModel, adapter: str, num_prompts: int) -> tuple[float, float, int, int]:
    """Seconds together and one by one, and the tokens that each said."""
    prompts = load_set("full")[:num_prompts]
    turns = [Turn(who, prompt.conversation) for prompt in prompts for who in (BASE, adapter)]
    size = 2 * COMPARISON_BATCH_ITEMS
    together_s, together = _timed(resident, [turns[start : start + size] for start in range(0, len(turns), size)])
    single_s, single = _timed(resident, [[turn] for turn in turns])
    return together_s, single_s, _tokens(together), _tokens(single)


def _timed(resident: ResidentModel, batches: Sequence[Sequence[Turn]]) -> tuple[float, list[Response]]:
    started = time.perf_counter()
    found: list[Response] = []
    for number, batch in enumerate(batches):
        found += answer(resident, batch, Decoding(seed=number))
        print(f"  {number + 1} of {len(batches)}", end="\r", flush=True)
    return time.perf_counter() - started, found


def _tokens(responses: Sequence[Response]) -> int:
    return sum(response.num_tokens for response in responses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=10, help="how many of the full set's 50 (10)")
    parser.add_argument("--adapter", default="", help="a finished adapter; random small weights without")
    asked = parser.parse_args()
    folder = paths.base_dir() / paths.STARTER_NAME
    with tempfile.TemporaryDirectory() as home:
        if not asked.adapter:
            os.environ["PLAYGROUND_HOME"] = home
            paths.ensure_home()
        resident = ResidentModel(Path(folder), device.choose(0), paths.STARTER_NAME)
        name = asked.adapter or "random"
        if not asked.adapter:
            make_adapter(resident, name, scale=SCALE)
        resident.attach(name)
        together_s, single_s, together, single = measure(resident, name, asked.prompts)
    print(f"{asked.prompts} prompts x 2      seconds   tokens   tokens a second")
    print(f"together            {together_s:7.0f}  {together:7,}   {together / together_s:15.1f}")
    print(f"one by one          {single_s:7.0f}  {single:7,}   {single / single_s:15.1f}")
    by_token = together / together_s / (single / single_s)
    print(f"together is {single_s / together_s:.1f} times as fast, {by_token:.1f} by the token")


if __name__ == "__main__":
    main()
