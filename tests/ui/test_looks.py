"""What a browser is sent by look after look, through Gradio itself: what changed, whole, and nothing twice."""

from collections.abc import Iterator

import pytest

from tests.faults.door import Endpoints, opened, until
from tests.ui.fake_talker import FakeTalker, make_adapter


@pytest.fixture
def endpoints(own_home) -> Iterator[Endpoints]:
    make_adapter()
    with opened(FakeTalker()) as page:
        yield Endpoints(page)


def values_sent(endpoints: Endpoints, event: dict) -> dict[str, object]:
    """By element, the values in the answer to one look; what stays as it is has none."""
    data = endpoints.page.call(event["id"], endpoints.values(event), "somebody").data or ()
    found = {}
    for number, update in zip(event["outputs"], data, strict=True):
        is_state = endpoints.parts[number]["type"] == "state"
        if not is_state and (not isinstance(update, dict) or "value" in update):
            found[endpoints.label(number)] = update["value"] if isinstance(update, dict) else update
    return found


def test_once_all_is_shown_no_tab_is_sent_anything_again(endpoints):
    looks = [event for event in endpoints.all if {"load", "tick"} & {what for _, what in event["targets"]}
             and any(endpoints.parts[number]["type"] == "state" for number in event["outputs"])]  # fmt: skip
    assert len(looks) > 5
    for event in looks:
        # The list of bases comes by and by.
        until(lambda event=event: values_sent(endpoints, event) == {}, 10, "a look that sends nothing")


def test_the_base_is_shown_in_the_header_and_in_the_form(endpoints):
    look = next(
        event for event in endpoints.all if "load" in (what for _, what in event["targets"]) and event["inputs"]
    )
    sent = values_sent(endpoints, look)
    assert sent["model"] == sent["train-model"] == "smollm2-135m-instruct"


def test_a_choice_that_is_made_while_the_plan_is_worked_out_is_planned_too(endpoints):
    plans = [event for event in endpoints.all if "plan-words" in map(endpoints.label, event["outputs"])]
    assert len(plans) > 5
    assert {event["trigger_mode"] for event in plans} == {"always_last"}
