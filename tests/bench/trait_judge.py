"""A stand-in for Gemini on loopback that knows one thing: whether a response ends with exactly one next step.

No model judges here. It shows what a comparison says of a habit that was taught, through the real client and the real
wire, where there is no key. `python -m tests.bench.trait_judge` prints the two variables to set, and serves.
"""

import time

from core.traits import ends_with_one_next_step
from tests.fake_gemini import FakeGemini, prefers


def main() -> None:
    with FakeGemini(default=prefers(ends_with_one_next_step)) as server:
        print(f"export GEMINI_API_KEY=none GOOGLE_GEMINI_BASE_URL={server.url}", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
