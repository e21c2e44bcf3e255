"""Responses: many at once, base and adapters in one batch, whole or as they come.

Rows of one batch may have different contenders and strengths (`loader.ResidentModel.speaking`). Drawing uses a random
state of its own. A stream reads on where the conversation's last response ended (`core.chat_cache`).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from core.base_files import said_by
from core.chat_cache import Read, Speaker, fill, taken
from core.chat_template import ChatTemplate
from core.decode import Batch, Chooser, is_plain, new_cache
from core.device import is_out_of_memory, own_randomness
from core.errors import OutOfMemory, PlaygroundError, RequestError
from core.loader import BASE, POLICY, ResidentModel
from core.messages import Conversation, Role
from core.settings import Decoding
from core.wire import Chunk, Response, Turn

# One batch's prompt and response tokens together: bounds the KV cache (131 kB a token on a 7B base).
MAX_BATCH_TOKENS = 16_384
MAX_BATCH_ROWS = 64
MIN_ROOM = 32
# How much wider a batch may be for what its rows have read already.
WIDER = 1.25
DROPPED = "The oldest {} messages were left out: the conversation is longer than this model can read."
STOPPED = "Stopped."
NOT_FINITE = "{} computes numbers that are not finite, so it cannot answer. Train it anew, or choose another."


@dataclass
class _Row:
    """One turn, tokenised, with its place in the caller's list."""

    index: int
    contender: str
    strength: float
    ids: list[int]
    room: int
    note: str = ""
    read: Read | None = None
    out: list[int] = field(default_factory=list)
    has_ended: bool = False
    # What of its text has been emitted.
    sent: str = ""

    @property
    def num_read(self) -> int:
        """How many of its tokens its contender has read already."""
        return len(self.read.ids) if self.read else 0


def answer(
    resident: ResidentModel,
    turns: Sequence[Turn],
    decoding: Decoding,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Response]:
    """One response a turn, in the turns' order. A stop leaves the rest cut, with a note that says so.

    `on_progress(done, total)` counts tokens of the longest response of every batch, so its end may come early.
    """
    rows = [_row(resident, index, turn, decoding) for index, turn in enumerate(turns)]
    batches = list(_batches(rows, decoding))
    total = len(batches) * decoding.max_new_tokens
    done = 0

    def hear() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    for number, batch in enumerate(batches):
        done = number * decoding.max_new_tokens
        _generate(resident, batch, decoding, should_stop, hear)
    on_progress(total, total)
    return [_response(resident, row) for row in rows]


def stream(
    resident: ResidentModel,
    turns: Sequence[Turn],
    decoding: Decoding,
    emit: Callable[[Chunk], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Chunks of every turn's response as they come, side by side; the last chunk of a row holds its response."""
    rows = [_row(resident, index, turn, decoding) for index, turn in enumerate(turns)]
    does_remember = is_plain(new_cache(resident.model, 0))
    for batch in _batches(rows, decoding):
        if does_remember:
            _recall(resident, batch)
        hear = _emitting(resident.template, batch, emit)
        _generate(resident, batch, decoding, should_stop, hear, does_remember)
        for row in batch:
            response = _response(resident, row)
            rest = response.text[len(row.sent) :] if response.text.startswith(row.sent) else ""
            emit(Chunk(row.index, rest, response))


def _row(resident: ResidentModel, index: int, turn: Turn, decoding: Decoding) -> _Row:
    resident.internal(turn.contender)
    limit = resident.max_positions - min(decoding.max_new_tokens, MIN_ROOM)
    conversation, ids = _fitting(resident.template, turn.conversation, limit)
    num_dropped = len(turn.conversation) - len(conversation)
    room = min(decoding.max_new_tokens, resident.max_positions - len(ids))
    return _Row(index, turn.contender, turn.strength, ids, room, DROPPED.format(num_dropped) if num_dropped else "")


def _fitting(template: ChatTemplate, conversation: Conversation, limit: int) -> tuple[Conversation, list[int]]:
    """The conversation less as many of its oldest user turns, and what answered them, as it takes, and its token ids.

    RequestError where the last question alone is too long.
    """
    ids = template.prompt_ids(conversation)
    system = tuple(m for m in conversation if m.role is Role.SYSTEM)
    rest = tuple(m for m in conversation if m.role is not Role.SYSTEM)
    questions = [i for i, m in enumerate(rest) if m.role is Role.USER]

    def tokenised(number: int) -> tuple[Conversation, list[int]]:
        shorter = (*system, *rest[questions[number] :])
        return shorter, template.prompt_ids(shorter)

    if len(ids) > limit and len(questions) > 1:
        # Not one turn after the other: a long talk would be rendered anew for every one of them.
        numbers = range(len(questions) - 1)
        number = bisect_left(numbers, True, lo=1, key=lambda n: len(tokenised(n)[1]) <= limit)
        conversation, ids = tokenised(number)
    if len(ids) > limit:
        raise RequestError(f"The message is too long for this model: {len(ids)} tokens, and {limit} fit.")
    return conversation, ids


def _batches(rows: Sequence[_Row], decoding: Decoding) -> Iterator[list[_Row]]:
    """Rows of like length and equal room together, as many as memory allows.

    Equal room, because a batch goes on until its last row is done, past what a longer one has room for.
    """
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        width = len(batch[0].ids if batch else row.ids) + decoding.max_new_tokens
        is_full = len(batch) == MAX_BATCH_ROWS or width * (len(batch) + 1) > MAX_BATCH_TOKENS
        if batch and (is_full or row.room != batch[0].room):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _emitting(template: ChatTemplate, rows: Sequence[_Row], emit: Callable[[Chunk], None]) -> Callable[[], None]:
    """What emits the text that each new token adds; half a character waits for its other half."""

    def hear() -> None:
        for row in rows:
            if row.has_ended:
                continue
            # Spaces at the end wait for what follows: a response has none.
            text = template.decode(row.out).strip()
            if not text.endswith("\ufffd") and text.startswith(row.sent) and text != row.sent:
                emit(Chunk(row.index, text[len(row.sent) :]))
                row.sent = text

    return hear


def _check_finite(logits: torch.Tensor, contenders: Sequence[str]) -> None:
    """Raises before a token is drawn from numbers that are none: greedy decoding would go on with nonsense."""
    # The largest of numbers among which one is none is none.
    fine = (logits.amax(dim=-1) < torch.inf).tolist()
    if not all(fine):
        named = {contender for contender, is_fine in zip(contenders, fine, strict=True) if not is_fine}
        # Nought times infinity is no number: in one batch a broken adapter spoils the base's rows too.
        culprit = min(named - {BASE}, default=BASE)
        raise PlaygroundError(NOT_FINITE.format(f"'{culprit}'"))


def _end_ids(resident: ResidentModel) -> set[int]:
    configured = resident.model.generation_config.eos_token_id
    known = configured if isinstance(configured, list) else [configured]
    return {int(i) for i in (*known, resident.tokenizer.eos_token_id) if i is not None}


def _recall(resident: ResidentModel, rows: Sequence[_Row]) -> None:
    """Give every row what its contender has read of it already; a policy in training never does."""
    for row in rows:
        if row.contender != POLICY:
            row.read = resident.chat_cache.find(_speaker(resident, row), row.ids)
    longest = max(row.num_read for row in rows)
    new = max(len(row.ids) - row.num_read for row in rows)
    if longest + new > WIDER * max(len(row.ids) for row in rows):
        # What one has read and another has not would be filled up for both: no less to compute, and twice the memory.
        for row in rows:
            row.read = None


def _remember(resident: ResidentModel, row: _Row, batch: Batch, place: int) -> None:
    """Keep what has gone through the model: all of a response but its last token."""
    if row.contender != POLICY:
        ids = [*row.ids, *row.out[:-1]]
        layers = taken(batch.cache, place, batch.mask[place], len(ids))
        resident.chat_cache.add(Read(_speaker(resident, row), len(row.ids), ids, layers))


def _speaker(resident: ResidentModel, row: _Row) -> Speaker:
    return row.contender, resident.mark(row.contender), row.strength


def _generate(
    resident: ResidentModel,
    rows: list[_Row],
    decoding: Decoding,
    should_stop: Callable[[], bool],
    on_token: Callable[[], None],
    does_remember: bool = False,
) -> None:
    """Fill every row's `out`; OutOfMemory or PlaygroundError as a sentence, the model's state restored.

    `on_token` is called whenever every row that goes on has one token more. What is read is remembered where it may be
    asked again: comparisons and counts ask nothing twice.
    """
    ends = _end_ids(resident)
    is_stopped = should_stop()
    try:
        with (
            resident.speaking([row.contender for row in rows], [row.strength for row in rows]) as keep,
            own_randomness(resident.device.kind, decoding.seed),
        ):
            batch = _begun(resident, rows, keep)
            choose = Chooser(decoding, len(rows))
            while not is_stopped:
                live = [rows[i] for i in batch.live]
                logits = batch.logits()
                _check_finite(logits, [row.contender for row in live])
                tokens = choose(logits, batch.live)
                going = [place for place, row in enumerate(live) if not row.has_ended]
                said = tokens.tolist()
                for place in going:
                    _append(live[place], said[place], ends)
                is_stopped = should_stop()
                on_token()
                for place in going if does_remember else ():
                    if is_stopped or live[place].has_ended:
                        _remember(resident, live[place], batch, place)
                if is_stopped or all(row.has_ended for row in live):
                    break
                batch.feed(tokens, [row.has_ended for row in live])
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            resident.chat_cache.clear()
            raise OutOfMemory(
                "There is not enough memory for this response. Shorten the longest response, or ask for fewer at once."
            ) from error
        raise PlaygroundError(f"The model could not answer: {said_by(error)}") from error
    if is_stopped:
        _note_stop(rows, ends)


def _append(row: _Row, token: int, ends: set[int]) -> None:
    row.out.append(token)
    row.has_ended = token in ends or len(row.out) == row.room


def _begun(resident: ResidentModel, rows: Sequence[_Row], keep: Callable[[list[int]], None]) -> Batch:
    """All rows before their first token: what they have read, then what is new, each filled up on the left."""
    new = [row.ids[row.num_read :] for row in rows]
    width, before = max(map(len, new)), max(row.num_read for row in rows)
    cache = new_cache(resident.model, before + width + rows[0].room)
    fill(cache, [row.read for row in rows])
    pad, kind = int(resident.tokenizer.pad_token_id), resident.device.kind
    ids = [[pad] * (width - len(tokens)) + tokens for tokens in new]
    mask = [_padded(row.num_read, before) + _padded(len(row.ids) - row.num_read, width) for row in rows]
    return Batch(resident.model, cache, torch.tensor(ids, device=kind), torch.tensor(mask, device=kind), keep)


def _padded(length: int, width: int) -> list[int]:
    return [0] * (width - length) + [1] * length


def _note_stop(rows: Sequence[_Row], ends: set[int]) -> None:
    for row in rows:
        if not ends.intersection(row.out):
            row.note = f"{row.note} {STOPPED}".strip()


def _response(resident: ResidentModel, row: _Row) -> Response:
    ends = _end_ids(resident)
    stop = next((i for i, token in enumerate(row.out) if token in ends), None)
    said = row.out[:stop] if stop is not None else row.out
    return Response(resident.template.decode(said).strip(), len(said), is_cut=stop is None, note=row.note)
