"""What can be asked: the given sets, an adapter's held-out prompts, own sets; and votes that become data."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from core import paths, preferences, runs
from core.errors import RequestError
from core.file_rows import Row
from core.messages import Message, Role, as_dicts, ask
from core.preferences import PreferenceData
from core.prompt_sets import Given, digest, in_given_sets, list_own, load_set, save_set, trained_on
from core.prompts import Prompt, check_prompts, read_prompts
from core.settings import Method
from core.transcripts import PreferencePair, to_pair
from core.vote_pairs import Decided, write_pairs

CATEGORIES = ["quantum computing", "AI ethics in healthcare", "creative writing", "technical comparison",
              "problem solving"]  # fmt: skip
TURNS = (Message(Role.USER, "Is it far?"), Message(Role.ASSISTANT, "No."), Message(Role.USER, "How far?\n\nHuman: hm"))
MANY_TURNS = Prompt("turns", "own", "Human: Is it far?\n\n…", TURNS)


def prompt(text: str, name: str = "p") -> Prompt:
    return Prompt(name, "own", text)


def write_run(name: str, train=(), held_out=(), from_adapter: str = "") -> Path:
    """A run's folder as a run leaves it: questions or conversations to train on, and held out; its data file."""
    pairs = [PreferencePair(ask(asked) if isinstance(asked, str) else asked, "Yes.", "No.", row)
             for row, asked in enumerate([*train, *held_out], 1)]  # fmt: skip
    runs.create(Method.DPO, name)
    cut = len(train)
    data = PreferenceData("file", tuple(pairs[:cut]), tuple(pairs[cut:]), (), len(pairs))
    path = paths.run_dir(name) / "data.jsonl"
    sha256 = preferences.write_snapshot(data, path)
    runs.write_config(name, {"data": path.name, "data_sha256": sha256, "from_adapter": from_adapter})
    return path


class TestGivenSets:
    @pytest.mark.parametrize(("name", "a_category"), [("quick", 1), ("standard", 5), ("full", 10)])
    def test_every_category_is_asked_equally_often(self, name: str, a_category: int) -> None:
        counts = Counter(prompt.category for prompt in load_set(name))
        assert counts == dict.fromkeys(CATEGORIES, a_category)

    def test_a_larger_set_holds_the_smaller_ones_first(self) -> None:
        quick, standard, full = (load_set(name) for name in ("quick", "standard", "full"))
        assert [asked.id for asked in quick] == ["quantum-1", "ethics-1", "writing-1", "technical-1", "climate-1"]
        assert (full[:25], full[:5]) == (standard, quick)

    def test_a_set_that_was_changed_by_whom_it_was_given_to_is_whole_for_the_next(self) -> None:
        load_set("quick").clear()
        assert len(load_set("quick")) == 5

    def test_harmlessness_is_twenty_of_one_category(self) -> None:
        assert [asked.category for asked in load_set("harmlessness")] == ["harmlessness"] * 20

    def test_no_two_prompts_are_alike(self) -> None:
        words = {p.id: set(p.prompt.casefold().split()) for p in load_set("full") + load_set("harmlessness")}
        alike = [
            (a, b) for a in words for b in words if a < b and len(words[a] & words[b]) > len(words[a] | words[b]) / 3
        ]
        assert alike == []

    def test_every_prompt_is_short_enough_to_read_before_every_vote(self) -> None:
        assert max(len(asked.prompt) for asked in load_set("full") + load_set("harmlessness")) < 250

    def test_none_is_a_question_of_the_starter_data(self) -> None:
        asked = check_prompts(load_set("full") + load_set("harmlessness"))
        data = preferences.read("starter")
        write_run("starter", [pair.prompt for pair in data.train + data.held_out])
        assert trained_on("starter", asked) == []

    def test_a_prompt_is_found_in_every_set_that_asks_it(self) -> None:
        assert in_given_sets(f"  {load_set('quick')[0].prompt.upper()}\n") == ["quick", "standard", "full"]
        assert in_given_sets(load_set("full")[-1].prompt) == ["full"]
        assert in_given_sets(load_set("harmlessness")[3].prompt) == ["harmlessness"]
        assert in_given_sets("Is it far?") == []


class TestOwnSets:
    def test_a_saved_set_comes_back_as_it_was(self) -> None:
        prompts = [prompt("Wie weit? 🌊\u2028"), MANY_TURNS]
        assert save_set("mine", prompts) == paths.prompts_dir() / "mine.json"
        save_set("also.mine", prompts[:1])
        assert (load_set("mine"), list_own()) == (prompts, ["also.mine", "mine"])

    def test_an_unknown_set_names_those_that_there_are(self) -> None:
        save_set("mine", [prompt("Why?")])
        with pytest.raises(RequestError) as caught:
            load_set("../mine")
        assert str(caught.value) == (
            "There is no prompt set '../mine'. There are: quick, standard, full, harmlessness, held-out, mine."
        )

    @pytest.mark.parametrize("name", [*Given, "../x", "Mine", ""])
    def test_a_name_that_is_given_or_a_path_is_refused(self, name: str) -> None:
        with pytest.raises(RequestError):
            save_set(name, [prompt("Why?")])
        assert not paths.prompts_dir().exists()

    def test_a_set_that_could_not_be_read_again_is_refused(self) -> None:
        with pytest.raises(RequestError, match="holds 500 prompts at most, and these are 501"):
            save_set("many", [prompt("Why?", str(number)) for number in range(501)])
        with pytest.raises(RequestError, match="larger than 8 MB together"):
            save_set("large", [prompt("ö" * 99_999, str(number)) for number in range(50)])
        assert list_own() == []

    def test_a_file_laid_into_the_folder_hides_no_given_set(self) -> None:
        paths.ensure_home()
        (paths.prompts_dir() / "quick.json").write_text("[]")
        (paths.prompts_dir() / "Not A Name.json").write_text("[]")
        assert (list_own(), len(load_set("quick"))) == ([], 5)


class TestHeldOut:
    def test_what_the_run_kept_from_training_is_asked_with_its_earlier_turns(self) -> None:
        write_run("tuned", ["Why?"], ["Where to?", TURNS])
        one, many = load_set("held-out", "tuned")
        assert one == Prompt("held-out-2", "held-out preference", "Where to?")
        assert many.conversation == TURNS
        assert many.prompt == "Human: Is it far?\n\nAssistant: No.\n\nHuman: How far?\n\nHuman: hm"

    def test_each_is_asked_once_and_the_first_fifty_at_most(self) -> None:
        write_run("tuned", ["Why?"], ["Where?", "Where?", *(f"Box {number}?" for number in range(60))])
        assert [asked.id for asked in load_set("held-out", "tuned")][:3] == ["held-out-2", "held-out-4", "held-out-5"]
        assert len(load_set("held-out", "tuned")) == 50

    def test_what_an_ancestor_was_trained_on_is_not_held_out(self) -> None:
        write_run("first", ["Where?"])
        write_run("second", ["Why?"], ["where? ", "When?"], from_adapter="first")
        assert [asked.prompt for asked in load_set("held-out", "second")] == ["When?"]

    def test_an_adapter_without_any_says_so(self) -> None:
        write_run("tuned", ["Why?"])
        with pytest.raises(RequestError) as caught:
            load_set("held-out", "tuned")
        assert str(caught.value) == (
            "'tuned' has no held-out prompts: its run kept no rows from training. Choose another prompt set."
        )

    def test_data_that_changed_since_is_not_believed(self) -> None:
        path = write_run("tuned", ["Why?"], ["Where?"])
        path.write_text(path.read_text().replace("Where?", "Whence"))
        for adapter in ("tuned", "gone", "../tuned"):
            with pytest.raises(RequestError) as caught:
                load_set("held-out", adapter)
            assert str(caught.value) == (
                f"The data of '{adapter}' is gone or has changed, so its held-out prompts are not known. "
                "Choose another prompt set."
            )

    def test_no_adapter_has_none(self) -> None:
        with pytest.raises(RequestError, match="Choose an adapter first"):
            load_set("held-out")


class TestTrainedOn:
    def test_a_prompt_is_known_again_whatever_its_case_and_spacing(self) -> None:
        write_run("tuned", ["Why is it?", TURNS], ["Held out?"])
        asked = [prompt("why  IS it? ", "a"), prompt("Is it far?", "b"), prompt("Held out?", "c"), prompt("Else?", "d")]
        assert trained_on("tuned", asked) == ["a", "b"]

    def test_the_adapters_that_it_went_on_from_count_and_a_missing_one_does_not_hinder(self) -> None:
        write_run("first", ["One?"], from_adapter="deleted")
        write_run("second", ["Two?"], from_adapter="first")
        write_run("third", ["Three?"], from_adapter="second").unlink()
        assert trained_on("third", [prompt("One?", "a"), prompt("Two?", "b"), prompt("Three?", "c")]) == ["a", "b"]

    def test_adapters_that_name_each_other_come_to_an_end(self) -> None:
        write_run("first", ["One?"], from_adapter="second")
        write_run("second", ["Two?"], from_adapter="first")
        assert trained_on("first", [prompt("Two?")]) == ["p"]


class TestDigest:
    def test_it_follows_what_is_asked_and_nothing_else(self) -> None:
        asked = [prompt("Why?", "a"), prompt("Where?", "b")]
        assert digest(asked) == digest([Prompt("x", "other", "Where?"), Prompt("y", "other", "Why?")])
        assert len({digest(asked), digest(asked[:1]), digest([*asked, asked[0]]), digest([MANY_TURNS])}) == 4


class TestForm:
    @pytest.mark.parametrize("asked", [prompt("Why? \ud800"), MANY_TURNS])
    def test_a_prompt_becomes_json_and_back(self, asked: Prompt) -> None:
        record = json.loads(json.dumps(asked.as_record() | {"set": "full", "note": None}))
        assert Prompt.of(record) == asked

    @pytest.mark.parametrize(
        "messages", [None, "Why?", {}, ["Why?"], [{"role": "user"}], [{"role": [], "content": "Why?"}]]
    )
    def test_damaged_messages_are_an_error_that_names_the_entry(self, tmp_path: Path, messages: object) -> None:
        record = prompt("Why?").as_record() | {"messages": messages}
        with pytest.raises(ValueError, match="messages that each have"):
            Prompt.of(record)
        (tmp_path / "prompts.json").write_text(json.dumps([prompt("Who?").as_record(), record]))
        with pytest.raises(RequestError) as caught:
            read_prompts(tmp_path / "prompts.json")
        assert str(caught.value) == (
            "Entry 2 of the prompts needs messages that each have a role (system, user or assistant) and a text, "
            "or none."
        )

    @pytest.mark.parametrize("record", [None, [], "x", {"id": "a", "category": "c"}, {"id": 1, "category": "c"}])
    def test_what_is_no_prompt_is_an_error(self, record: object) -> None:
        with pytest.raises(ValueError, match="an id, a category and a prompt, each a text"):
            Prompt.of(record)

    def test_the_user_speaks_last(self) -> None:
        with pytest.raises(RequestError) as caught:
            check_prompts([Prompt("a", "own", "Is it far?", TURNS[:2])])
        assert str(caught.value) == "The messages of the prompt 'a' do not end with a question. The user speaks last."

    def test_halves_of_characters_are_found_in_every_part(self) -> None:
        for asked in (Prompt("a", "\udc00", "Why?"), Prompt("a", "own", "Why?", ask("Why? \ud800"))):
            with pytest.raises(RequestError, match="holds half of a character"):
                check_prompts([asked])


JOURNAL = Path("model_comparison_1.jsonl")


class TestVotePairs:
    def test_train_reads_exactly_the_pairs_that_were_decided(self, tmp_path: Path) -> None:
        odd = "Ja – 🌊\u2028\x00 sagt sie.\n\nHuman: no turn\n\nAssistant: nor this"
        asked = [prompt("Why?\n\nHuman: and\u0085 how?"), MANY_TURNS, *(prompt(f"Box {n}?") for n in range(8))]
        exported = write_pairs(
            [Decided(one, odd, f"No {n}.") for n, one in enumerate(asked)], "human", tmp_path / JOURNAL
        )
        data = preferences.read(str(exported.path), held_out=0)
        expected = [PreferencePair(one.conversation, odd, f"No {n}.", n + 1) for n, one in enumerate(asked)]
        assert (list(data.train), data.left_out) == (expected, ())

    def test_a_chosen_response_that_was_cut_teaches_nothing_and_is_counted(self, tmp_path: Path) -> None:
        whole = Decided(prompt("Why?"), "Since.", "No.")
        cut = replace(Decided(prompt("How?"), "By the", "No."), is_chosen_cut=True)
        exported = write_pairs([whole, cut], "human", tmp_path / JOURNAL)
        assert exported.sentence.startswith("1 pair out of your votes: ")
        assert exported.sentence.endswith("Left out, since their chosen response was cut: 1.")
        with pytest.raises(RequestError, match="every preferred response was cut"):
            write_pairs([cut], "human", tmp_path / JOURNAL)

    def test_people_and_the_judge_have_a_file_each_and_lines_that_say_so(self, tmp_path: Path) -> None:
        pairs = [Decided(MANY_TURNS, "No.", "Yes.")]
        votes, judged = (write_pairs(pairs, by, tmp_path / JOURNAL).path for by in ("human", "judge"))
        assert votes == tmp_path / "pairs" / "model_comparison_1_votes.jsonl"
        assert judged == tmp_path / "pairs" / "model_comparison_1_judge_pairs.jsonl"
        assert [json.loads(line) for line in judged.read_text().splitlines()] == [
            {"prompt": as_dicts(TURNS), "chosen": "No.", "rejected": "Yes.", "by": "judge",
             "comparison": "model_comparison_1", "in_sets": []}
        ]  # fmt: skip

    def test_what_train_would_leave_out_is_not_written(self, tmp_path: Path) -> None:
        useless = [("Yes.", "Yes. "), ("", "No."), ("Yes.", " "), ("half \ud800", "No."), ("Yes.", "No.")]
        pairs = [Decided(MANY_TURNS, *texts) for texts in [("Yes.", "No."), *useless]]
        exported = write_pairs(pairs, "human", tmp_path / JOURNAL)
        (line,) = exported.path.read_text().splitlines()
        assert to_pair(Row(1, json.loads(line))) == PreferencePair(TURNS, "Yes.", "No.", 1)

    def test_pairs_that_ask_what_a_given_set_asks_are_flagged(self, tmp_path: Path) -> None:
        asked = [*load_set("quick"), *load_set("harmlessness")[:2], prompt("Is it far?")]
        exported = write_pairs([Decided(one, "Yes.", "No.") for one in asked], "human", tmp_path / JOURNAL)
        lines = [json.loads(line) for line in exported.path.read_text().splitlines()]
        assert [line["in_sets"] for line in lines] == [["quick", "standard", "full"]] * 5 + [["harmlessness"]] * 2 + [
            []
        ]
        assert exported.sentence == (
            f"8 pairs out of your votes: {exported.path}. Train takes this file. "
            "7 of them ask what given prompt sets ask (quick, standard, full, harmlessness): "
            "an adapter trained on this file must not be compared on those."
        )

    def test_too_few_to_train_on_are_kept_and_said_to_be(self, tmp_path: Path) -> None:
        exported = write_pairs([Decided(MANY_TURNS, "Yes.", "No.")], "judge", tmp_path / JOURNAL)
        assert exported.sentence == (
            f"1 pair out of the judge's verdicts: {exported.path}. Train takes such a file from 8 on."
        )

    def test_nothing_decided_is_nothing_written(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError) as caught:
            write_pairs([], "human", tmp_path / JOURNAL)
        assert str(caught.value) == ("There is nothing to export: none of your votes prefers one response to another.")
        assert not (tmp_path / "pairs").exists()
