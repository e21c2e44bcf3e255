"""Is an adapter what it says it is: its files, its base, its numbers, its effect, and one response."""

from collections.abc import Callable

from core import adapters
from core.errors import PlaygroundError
from core.generate import answer
from core.loader import BASE, ResidentModel
from core.messages import ask
from core.settings import Decoding
from core.wire import CheckReport, Turn

QUESTION = "Say in one sentence what you can help with."
LENGTH = 48


def check(resident: ResidentModel, name: str) -> CheckReport:
    """Every problem as a sentence; with none, the adapter's answer to one question. AdapterError where it is absent."""
    # The files first: an adapter that answers already may lie damaged on disk by now.
    folder = adapters.find(name)
    steps = (lambda: adapters.verify(folder), lambda: resident.attach(name), resident.prove_base)
    problems = list(dict.fromkeys(sentence for step in steps if (sentence := _problem(step))))
    if problems:
        return CheckReport(False, problems, "")
    turns = [Turn(contender, ask(QUESTION)) for contender in (BASE, name)]
    base, response = answer(resident, turns, Decoding(max_new_tokens=LENGTH, temperature=0.0))
    # A base that says nothing either is no fault of the adapter's.
    if base.text and not response.text:
        return CheckReport(False, [f"The adapter '{name}' answers with nothing at all."], "")
    return CheckReport(True, [], response.text)


def _problem(step: Callable[[], object]) -> str:
    try:
        step()
    except PlaygroundError as error:
        return str(error)
    return ""
