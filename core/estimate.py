"""Time and memory of a run before it starts: arithmetic over its rows, its settings and the base's shape.

What a pass costs is measured by core/probe.py. What a layer keeps for its backward pass is counted in `_kept`: what
autograd saves there in transformers' Llama and Mistral with a LoRA on all linear layers.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core import evaluate, generate, ranks
from core.chat_template import PrefixError
from core.forecast import Costs, Forecast
from core.runs import Phase
from core.settings import (
    LOOK_MAX_PAIRS,
    MAX_PINNED,
    PINNED_MAX_NEW_TOKENS,
    TRAIT_MAX_NEW_TOKENS,
    Method,
    Settings,
)
from core.token_rows import TokenPair, cut, grouped_order
from core.watch import look_steps

# Over a bare pass: what the adapter's layers and the optimiser add to a step, what recomputing activations adds, and
# what choosing a token adds to the pass that it takes. Measured on the starter model.
STEP_COST = 1.45
CHECKPOINTING_COST = 1.3
SPEAKING_COST = 1.3
# Tokens of a pinned prompt, template included.
PINNED_TOKENS = 48

# Interpreter and libraries, where memory is counted by process.
PROCESS_BYTES = 650_000_000
# On the CPU: what the C library's heap holds in pieces too small for what is asked next, as a share of what all layers
# keep, without gradient checkpointing and with it. Measured, see DECISIONS.md.
HEAP_SHARE = {False: 1.1, True: 0.8}
# float32: weight and gradient, and Adam's two moments.
ADAPTER_BYTES = 8
OPTIMISER_BYTES = 8
# TRL's fused head holds logits of so many tokens by so many words at once, and so many copies of them: forward and
# back where they are computed in torch, and on CUDA, in place.
HEAD_TOKENS = 4096
HEAD_WORDS = 32_768
HEAD_COPIES = {"trained": 9.0, "measured": 4.5}
HEAD_COPIES_IN_PLACE = 2.0
# Of rows that are not known, the share of tokens that are a reply's.
REPLY_SHARE = 0.5
SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads")


@dataclass(frozen=True)
class Shape:
    """What the arithmetic needs to know of a base."""

    num_parameters: int
    num_layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    dtype_bytes: int

    @classmethod
    def of(cls, config: Mapping[str, Any], num_parameters: int, dtype_bytes: int) -> "Shape | None":
        """From a transformers text configuration; None where it names its sizes otherwise."""
        sizes = [config[name] for name in SIZES if isinstance(config.get(name), int)]
        if len(sizes) < len(SIZES):
            return None
        layers, hidden, intermediate, vocabulary, heads = sizes
        head_size = config.get("head_dim") or hidden // heads
        kv_heads = config.get("num_key_value_heads") or heads
        return cls(num_parameters, layers, hidden, intermediate, vocabulary, heads, kv_heads, head_size, dtype_bytes)


@dataclass(frozen=True)
class Job:
    """What a run of one method has to do; without rows, they are not known yet. `is_following`: it goes on from an
    adapter, which DPO is held to. Rows are filled up to a multiple of `pad_to` tokens; where `is_shared`, both replies
    of a pair stand in one. `is_reference_kept`: what DPO is held to has been measured before."""

    method: Method
    settings: Settings
    train: Sequence[TokenPair] = ()
    held_out: Sequence[TokenPair] = ()
    passages: Sequence[TokenPair] = ()
    num_pinned: int = MAX_PINNED
    is_trait_counted: bool = False
    is_following: bool = False
    pad_to: int = 1
    is_shared: bool = True
    is_reference_kept: bool = False

    @property
    def is_one_row(self) -> bool:
        """Whether both replies of a pair go through the model in one row."""
        return self.method is Method.DPO and self.is_shared

    @property
    def sequences(self) -> int:
        return 2 if self.method is Method.DPO and not self.is_one_row else 1

    def batches(self) -> list[tuple[int, int]]:
        """Tokens of every batch of one pass, padding included, in the order in which they come, and how many of them
        are scored."""
        # Of several processes, the one whose share has the longest rows: the others wait for it.
        size, at_once = self.settings.batch_size, self.settings.batch_size * ranks.count()
        lengths = [self.length(row) for row in self.train]
        order = grouped_order(lengths, at_once, self.settings.seed, 0)
        chunks = (
            [self.train[i] for i in order[start : start + at_once][-size:]] for start in range(0, len(order), at_once)
        )
        return [
            (self.sequences * len(chunk) * max(map(self.width, chunk)), sum(map(self.scored, chunk)))
            for chunk in chunks
        ]

    def length(self, row: TokenPair) -> int:
        """Tokens of the row as it is trained on."""
        if self.method is Method.SFT:
            return row.taught_length
        return row.shared_length if self.is_one_row else row.length

    def width(self, row: TokenPair) -> int:
        """The same, filled up."""
        return -(-self.length(row) // self.pad_to) * self.pad_to

    def scored(self, row: TokenPair) -> int:
        """Tokens whose log-probability training asks for."""
        return len(row.chosen_ids) + (len(row.rejected_ids) if self.method is Method.DPO else 0)

    @property
    def prompts(self) -> list[int]:
        """Tokens of the prompts to which the trait is counted."""
        return [len(row.prompt_ids) for row in self.held_out] if self.is_trait_counted else []

    def under(self, settings: Settings) -> "Job":
        """The same with the batches and lengths of other settings; rows that are then of no use are left out."""
        names = ("batch_size", "accumulation", "gradient_checkpointing", "max_length")
        own = replace(self.settings, **{name: getattr(settings, name) for name in names})
        if own.max_length == self.settings.max_length:
            return replace(self, settings=own)
        train, held_out = (_shortened(rows, own.max_length) for rows in (self.train, self.held_out))
        return replace(self, settings=own, train=train, held_out=held_out)


def _shortened(rows: Sequence[TokenPair], max_length: int) -> list[TokenPair]:
    found = []
    for row in rows:
        with contextlib.suppress(PrefixError):
            found.append(cut(row, max_length))
    return found


# Time


def forecast(costs: Costs, job: Job) -> Forecast:
    """Seconds from the first pass to the last; reading, tokenising and saving are no part of it."""
    contenders = 3 if job.is_following else 2
    look_s = _scoring_s(costs, job, job.held_out[:LOOK_MAX_PAIRS]) + _pinned_s(costs, job)
    steps_s = _steps_s(costs, job)
    look_at = look_steps(len(steps_s), job.settings.looks)
    steps_s = [seconds + (look_s if step in look_at else 0.0) for step, seconds in enumerate(steps_s, 1)]
    phases = {
        Phase.REFERENCE: _reference_s(costs, job),
        Phase.PINNED: _pinned_s(costs, job),
        Phase.TRAINING: sum(steps_s),
        Phase.EVALUATING: contenders * _scoring_s(costs, job, job.held_out) + 2 * _scoring_s(costs, job, job.passages),
        Phase.TRAIT: 2 * _speaking_s(costs, job.prompts, TRAIT_MAX_NEW_TOKENS),
    }
    return Forecast(phases, steps_s)


def _steps_s(costs: Costs, job: Job) -> list[float]:
    factor = STEP_COST * (CHECKPOINTING_COST if job.settings.gradient_checkpointing else 1.0)
    seconds = [factor * costs.step.of(*batch) for batch in job.batches()]
    steps = [sum(seconds[i : i + job.settings.accumulation]) for i in range(0, len(seconds), job.settings.accumulation)]
    return steps * job.settings.epochs


def _reference_s(costs: Costs, job: Job) -> float:
    if job.method is Method.SFT or job.is_reference_kept:
        return 0.0
    return _scoring_s(costs, job, job.train)


def _scoring_s(costs: Costs, job: Job, rows: Sequence[TokenPair]) -> float:
    return sum(costs.forward.of(*batch) for batch in _scored_batches(job, rows))


def _scored_batches(job: Job, rows: Sequence[TokenPair]) -> list[tuple[int, int]]:
    """Tokens of every batch in which `rows` are measured, padding included, and how many of them are replies'."""
    return [
        (
            len(batch) * evaluate.num_tokens(rows[batch[0]], job.is_shared, job.pad_to),
            sum(len(rows[i].chosen_ids) + len(rows[i].rejected_ids) for i in batch),
        )
        for batch in evaluate.batches(rows, job.is_shared, job.pad_to)
    ]


def _pinned_s(costs: Costs, job: Job) -> float:
    return _speaking_s(costs, [PINNED_TOKENS] * job.num_pinned, PINNED_MAX_NEW_TOKENS) if job.settings.looks else 0.0


def _speaking_s(costs: Costs, prompts: Sequence[int], new_tokens: int) -> float:
    """Responses side by side, each as long as it may get: the prompts at once, then a token of each row a pass."""
    return sum(
        costs.forward.of(rows * longest, rows) + SPEAKING_COST * new_tokens * costs.forward.of(rows, rows)
        for rows, longest in _spoken_batches(prompts, new_tokens)
    )


def _spoken_batches(prompts: Sequence[int], new_tokens: int) -> list[tuple[int, int]]:
    """How many rows are answered at once, and the longest prompt among them."""
    longest = max(prompts, default=0)
    most = max(1, min(generate.MAX_BATCH_ROWS, generate.MAX_BATCH_TOKENS // (longest + new_tokens)))
    return [(len(prompts[start : start + most]), longest) for start in range(0, len(prompts), most)]


# Memory


@dataclass(frozen=True)
class Load:
    """The most tokens that go through the model at once, padding included, and how many of them have their logits
    computed: in training and where pairs are measured. `said` are those that a response's cache holds."""

    longest: int
    trained: int
    trained_scored: int
    measured: int
    measured_scored: int
    said: int

    @classmethod
    def of(cls, job: Job) -> "Load":
        """The batch with the longest row, and the largest replies together."""
        if not job.train:
            return cls._unknown(job)
        size = job.settings.batch_size
        longest = max(map(job.width, job.train))
        measured = [*_scored_batches(job, job.held_out), *_scored_batches(job, job.passages)]
        measured += _scored_batches(job, job.train) if job.method is Method.DPO else []
        trait = _spoken_batches(job.prompts, TRAIT_MAX_NEW_TOKENS)
        said = [rows * (prompt + TRAIT_MAX_NEW_TOKENS) for rows, prompt in trait]
        return cls(
            longest=longest,
            trained=job.sequences * min(size, len(job.train)) * longest,
            trained_scored=sum(sorted(map(job.scored, job.train))[-size:]),
            measured=max(tokens for tokens, _ in measured),
            measured_scored=max(replies for _, replies in measured),
            said=max([*said, job.num_pinned * (PINNED_TOKENS + PINNED_MAX_NEW_TOKENS)]),
        )

    @classmethod
    def _unknown(cls, job: Job) -> "Load":
        """Of rows that are not here yet: all as long as they may be, and so both replies."""
        longest, measured = job.settings.max_length, evaluate.BATCH_TOKENS
        if job.is_one_row:
            longest += int(REPLY_SHARE * longest) + 1
        trained = job.sequences * job.settings.batch_size * longest
        said = job.num_pinned * (PINNED_TOKENS + PINNED_MAX_NEW_TOKENS)
        return cls(longest, trained, int(trained * REPLY_SHARE), measured, int(measured * REPLY_SHARE), said)


def num_trainable(shape: Shape, settings: Settings) -> int:
    """Parameters of a LoRA: its rank times what each layer that it sits on takes in and gives out."""
    attended, shared = shape.num_heads * shape.head_size, shape.num_kv_heads * shape.head_size
    widths = 2 * (shape.hidden + attended) + 2 * (shape.hidden + shared)
    if settings.target_modules == "all-linear":
        widths += 3 * (shape.hidden + shape.intermediate)
    return settings.lora_rank * shape.num_layers * widths


def parts(shape: Shape, job: Job, kind: str) -> dict[str, int]:
    """Bytes of the run's peak by what they are for; together they are the peak."""
    load, trainable = Load.of(job), num_trainable(shape, job.settings)
    kept = load.trained * _kept(shape, job.settings.lora_rank, load.longest, kind)
    # Checkpointing keeps what goes into each layer, and all of the one layer that is computed again.
    saved = load.trained * shape.num_layers * shape.hidden * shape.dtype_bytes + kept // shape.num_layers
    trained = saved if job.settings.gradient_checkpointing else kept
    # (activations, logits) at one time: while it trains, measures and speaks.
    times = [
        (trained, _logits(shape, load.trained_scored, "trained", kind)),
        (load.measured * _passing(shape), 0),
        (0, _logits(shape, load.measured_scored, "measured", kind)),
        (load.said * _cached(shape), 0),
    ]
    activations, logits = max(times, key=sum)
    if kind == "cpu":
        # What the heap has held once, it keeps; logits are too large for it.
        activations = max(time[0] for time in times) + int(HEAP_SHARE[job.settings.gradient_checkpointing] * kept)
        logits = max(time[1] for time in times)
    found = {
        "weights": shape.num_parameters * shape.dtype_bytes,
        "adapter": trainable * ADAPTER_BYTES,
        "optimiser": trainable * OPTIMISER_BYTES,
        "activations": activations,
        "logits": logits,
    }
    return found | ({"process": PROCESS_BYTES} if kind == "cpu" else {})


def _kept(shape: Shape, rank: int, longest: int, kind: str) -> int:
    """Bytes a token that all layers keep for the backward pass."""
    attended, size = shape.num_heads * shape.head_size, shape.dtype_bytes
    # Queries, keys, values and what attention makes of them; the gate before and after, and what it is multiplied by.
    layer = size * (4 * attended + 3 * shape.intermediate)
    # What the norms and the adapter's layers take in is float32: in half precision, each has a copy of its own.
    layer += 4 * 2 * shape.hidden
    copies = 2 * shape.hidden + shape.intermediate
    layer += 4 * (copies if size == 4 else copies + 3 * shape.hidden + attended)
    layer += 4 * 7 * rank
    # Attention keeps its weights on MPS, in half precision twice; elsewhere a mask.
    weights = 4 if size == 4 else 6
    layer += longest * (shape.num_heads * weights if kind == "mps" else 4)
    return shape.num_layers * layer


def _passing(shape: Shape) -> int:
    """Bytes a token at the widest place of a pass forward that keeps nothing."""
    wide = 4 if shape.dtype_bytes == 4 else 6
    return shape.dtype_bytes * (wide * shape.intermediate + 4 * shape.hidden)


def _cached(shape: Shape) -> int:
    """Bytes a token of a response's keys and values."""
    return 2 * shape.num_layers * shape.num_kv_heads * shape.head_size * shape.dtype_bytes


def _logits(shape: Shape, scored: int, when: str, kind: str) -> int:
    copies, size = (HEAD_COPIES_IN_PLACE, shape.dtype_bytes) if kind == "cuda" else (HEAD_COPIES[when], 4)
    return int(copies * size * min(scored, HEAD_TOKENS) * min(shape.vocabulary, HEAD_WORDS))
