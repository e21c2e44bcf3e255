"""Which column of a data source holds what: found by itself, or as a user says.

A form is decided once, from the first rows, also where sources are joined, and then every row is read by the rules of
core/transcripts.py. Knows nothing of files, and of what becomes of the pairs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from core.errors import DataError
from core.file_rows import LeftOut, Reason, Row
from core.transcripts import PreferencePair, RowError, check_columns, to_pair, to_reply

Rows = Sequence[Row | LeftOut]
Values = Sequence[dict[str, Any]]

ROLES = ("prompt", "chosen", "rejected")
# Names under which these are published, the likeliest first; case, spaces and dashes do not count.
SYNONYMS = {
    "prompt": ("prompt", "question", "instruction", "query", "input"),
    "chosen": ("chosen", "preferred", "accepted", "chosen_response", "response_chosen", "positive", "output", "answer",
               "response", "completion"),
    "rejected": ("rejected", "dispreferred", "rejected_response", "response_rejected", "non_preferred", "negative"),
    "messages": ("messages", "conversations", "conversation"),
}  # fmt: skip
# What goes under which of those names, the fullest form first. In the last, the chosen messages hold the prompt too.
FORMS: tuple[dict[str, str], ...] = (
    {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    {"chosen": "chosen", "rejected": "rejected"},
    {"prompt": "messages", "chosen": "chosen", "rejected": "rejected"},
    {"prompt": "prompt", "chosen": "chosen"},
    {"chosen": "messages"},
)
# A row that is left out for another reason has the form all the same.
NO_FORM = {Reason.NOT_PREFERENCE, Reason.NOT_TEXT, Reason.NOT_TRANSCRIPT}
NUM_LOOKED_AT = 100
NUM_LISTED = 20
# Who speaks in the from/value style of messages.
ROLE_OF = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}


class UnmappedColumns(DataError):
    """It does not show which column holds what; `columns` are those found."""

    def __init__(self, source: str, columns: tuple[str, ...]) -> None:
        super().__init__(
            f"'{source}' has the columns {_listed(columns)}, and it does not show what they hold. "
            f"Say which of them holds {_listed(ROLES)}."
        )
        self.columns = columns


@dataclass(frozen=True)
class Form:
    """The columns that hold "prompt", "chosen" and "rejected", as far as there are any, and `found`, which says it.

    "input" is what an instruction is about, where that has a column of its own.
    """

    columns: Mapping[str, str]
    found: str = ""

    @property
    def is_paired(self) -> bool:
        return "rejected" in self.columns

    def pair(self, row: Row) -> PreferencePair:
        """The row's pair, its rejected reply "" where the form has none; RowError where it is none."""
        if isinstance(row.value, dict):
            check_columns(row.value, [self.columns[role] for role in self.columns if role in ("chosen", "rejected")])
            row = Row(row.row, self._named(row.value))
        return to_pair(row) if self.is_paired else to_reply(row)

    def _named(self, value: dict[str, Any]) -> dict[str, Any]:
        named = {role: _plain(value.get(column)) for role, column in self.columns.items()}
        about = named.pop("input", None)
        if about in (None, ""):
            return named
        if not isinstance(about, str) or not isinstance(named["prompt"], str):
            raise RowError(Reason.NOT_TEXT, "input")
        return named | {"prompt": f"{named['prompt']}\n\n{about}"}


def find_form(source: str, rows: Rows, columns: Mapping[str, str] | None = None) -> Form:
    """The form that `columns` gives, or else the fullest that the first rows have, one that makes them usable if any.

    UnmappedColumns where there is none, DataError where `columns` names what is not there.
    """
    objects = (row.value for row in rows if isinstance(row, Row) and isinstance(row.value, dict))
    values = list(islice(objects, NUM_LOOKED_AT))
    # A name that cannot be written cannot be chosen either.
    names = tuple(dict.fromkeys(name for value in values for name in value if name and name.isprintable()))
    if columns and any(columns.values()):
        mapping = _checked(source, names, columns)
        return Form(mapping, _sentence(mapping, values))
    forms = [(mapping, _outcomes(mapping, values)) for mapping in _possible(names)]
    forms = [(mapping, outcomes) for mapping, outcomes in forms if outcomes - NO_FORM]
    if not forms and (set(names) <= set(ROLES) or set(names) >= set(ROLES)):
        # There is nothing to ask: every row is left out, with what is wrong with it.
        return Form(FORMS[0])
    if not forms:
        raise UnmappedColumns(source, names)
    mapping, _ = min(forms, key=lambda form: ("rejected" not in form[0], None not in form[1]))
    return Form(mapping, _sentence(mapping, values))


def _checked(source: str, names: tuple[str, ...], columns: Mapping[str, str]) -> dict[str, str]:
    if unknown := next((role for role in columns if role not in ROLES), ""):
        raise DataError(f"A column can hold {_listed(ROLES)}, not '{unknown[:40]}'.")
    mapping = {role: columns[role] for role in ROLES if columns.get(role)}
    if missing := next((name for name in mapping.values() if name not in names), ""):
        raise DataError(f"'{source}' has no column '{missing[:40]}'. Its columns: {_listed(names) or 'none'}.")
    if "chosen" not in mapping:
        raise DataError(f"Say which column holds the chosen reply. The columns of '{source}': {_listed(names)}.")
    return mapping


def _possible(names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The forms for which all columns are there, under some name."""
    folded = {name.strip().casefold().replace(" ", "_").replace("-", "_"): name for name in reversed(names)}
    known = {
        key: next((folded[synonym] for synonym in synonyms if synonym in folded), "")
        for key, synonyms in SYNONYMS.items()
    }
    for form in FORMS:
        mapping = {role: known[key] for role, key in form.items()}
        if form.get("prompt") == "prompt" and mapping["prompt"] == folded.get("instruction") and "input" in folded:
            mapping = {"prompt": mapping["prompt"], "input": folded["input"]} | mapping
        if all(mapping.values()):
            yield mapping


def _outcomes(mapping: Mapping[str, str], values: Values) -> set[Reason | None]:
    """What becomes of the rows that have all these columns: None for those that are usable."""
    return {_outcome(Form(mapping), value) for value in values if value.keys() >= set(mapping.values())}


def _outcome(form: Form, value: dict[str, Any]) -> Reason | None:
    try:
        form.pair(Row(0, value))
    except RowError as error:
        return error.reason
    return None


def _sentence(mapping: Mapping[str, str], values: Values) -> str:
    names, roles = list(mapping.values()), list(mapping)
    taken = _listed(names) if names == roles else f"{_listed(names)}, taken as {_listed(roles)}"
    alone = "" if "rejected" in mapping else " without a rejected reply: SFT only"
    if "prompt" in mapping:
        return f"Columns {taken}{alone and ','}{alone}."
    first = next(value[mapping["chosen"]] for value in values if mapping["chosen"] in value)
    kind = "HH-RLHF transcripts" if isinstance(first, str) else "Messages"
    return f"{kind}{alone or ': ' + taken}."


def _plain(value: Any) -> Any:
    """Messages, in whichever of their two styles, as the rules read them; anything else as it is."""
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list):
        return value
    return [_message(turn) if isinstance(turn, dict) else turn for turn in turns]


def _message(turn: dict[str, Any]) -> dict[str, Any]:
    role = turn.get("role") or turn.get("from")
    content = turn.get("content")
    return {
        "role": ROLE_OF.get(role, role) if isinstance(role, str) else role,
        "content": turn.get("value") if content is None else content,
    }


def _listed(words: Sequence[str]) -> str:
    """The first of them, each cut short: a file may hold any number of any length."""
    shown = [word[:40] for word in words[:NUM_LISTED]]
    shown += [f"{len(words) - NUM_LISTED} more"] * (len(words) > NUM_LISTED)
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)
