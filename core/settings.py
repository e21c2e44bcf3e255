"""Every number that a person may turn, declared once.

The sliders, the flags, the YAML and the checks all come from the tables below. A setting's
default may differ by method and by the size of the base, so it is asked for by `defaults`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from core.errors import SettingError


class Method(StrEnum):
    SFT = "sft"
    DPO = "dpo"
    # Two runs, one after the other: the second starts from the first one's adapter and is held to it.
    SFT_DPO = "sft+dpo"


class Size(StrEnum):
    """Bases under half a billion parameters want larger steps than 7B ones."""

    SMALL = "small"
    LARGE = "large"


SMALL_BELOW_PARAMETERS = 500_000_000

# The TRL losses that make sense on pairs alone; each may carry the SFT term on the chosen reply.
BASE_LOSSES = ("sigmoid", "ipo", "hinge", "robust", "apo_zero", "sigmoid_norm")
SFT_TERM = "+sft"
LOSSES = tuple(loss + term for loss in BASE_LOSSES for term in ("", SFT_TERM))
TARGETS = ("all-linear", "attention")


@dataclass(frozen=True)
class Setting:
    """One tunable value: what it may be, in what unit, and what it means."""

    name: str
    label: str
    default: Any
    help: str
    low: float = -math.inf
    high: float = math.inf
    step: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    methods: tuple[Method, ...] = tuple(Method)
    is_simple: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def range_text(self) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if isinstance(self.default, bool):
            return "true or false"
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.low:,.12g} to {self.high:,.12g}" + (f" {self.unit}" if self.unit else "")

    def check(self, value: Any) -> Any:
        """`value` in the setting's own type; SettingError where it is anything else."""
        converted = self._convert(value)
        if converted is None:
            raise SettingError(f"{self.label} must be {self.range_text()}, not {str(value)[:40]!r}.")
        return converted

    def _convert(self, value: Any) -> Any:
        if self.choices:
            return value if isinstance(value, str) and value in self.choices else None
        if isinstance(self.default, bool):
            return {"true": True, "false": False}.get(str(value).lower())
        if isinstance(value, bool):
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        if not math.isfinite(number) or not self.low <= number <= self.high:
            return None
        if isinstance(self.default, int):
            return int(number) if number == int(number) else None
        return number


def _table(*settings: Setting) -> dict[str, Setting]:
    return {setting.name: setting for setting in settings}


DPO_ONLY = (Method.DPO, Method.SFT_DPO)
FIRST_STAGE = (Method.SFT_DPO,)

TRAINING = _table(
    Setting("learning_rate", "Learning rate", 1e-5, "How far each step moves the adapter. Too high wrecks the "
            "model, too low changes nothing.", 1e-7, 1e-2, is_simple=True),
    Setting("beta", "Beta", 0.1, "How closely the policy is held to its reference: higher keeps it nearer.",
            0.01, 1.0, 0.01, methods=DPO_ONLY, is_simple=True),
    Setting("loss", "Loss", "sigmoid", "The preference loss. '+sft' also teaches the chosen reply itself, which "
            "changes what a small model says.", choices=LOSSES, methods=DPO_ONLY),
    Setting("label_smoothing", "Label noise", 0.1, "Share of pairs taken to be labelled the wrong way round; only the "
            "robust loss heeds it.", 0.01, 0.49, 0.01, methods=DPO_ONLY),
    Setting("sft_learning_rate", "Learning rate of SFT", 1e-4, "As the learning rate, for the SFT run before.",
            1e-7, 1e-2, methods=FIRST_STAGE, is_simple=True),
    Setting("sft_epochs", "Passes of SFT", 1, "As the passes, for the SFT run before.", 1, 20, 1,
            methods=FIRST_STAGE, is_simple=True),
    Setting("epochs", "Passes", 1, "How often the whole data is gone through.", 1, 20, 1, is_simple=True),
    Setting("batch_size", "Batch size", 1, "Pairs (or texts) computed at once; costs memory.", 1, 64, 1, "rows"),
    Setting("accumulation", "Accumulation", 8, "Batches added up before each step; costs time, no memory.",
            1, 128, 1, "batches"),
    Setting("max_length", "Max length", 512, "Prompt and reply together; what is longer is cut at the end.",
            32, 8192, 32, "tokens"),
    Setting("lora_rank", "LoRA rank", 16, "The adapter's width: more can learn more and costs memory.", 1, 256, 1),
    Setting("lora_alpha", "LoRA alpha", 32, "The adapter's weight is alpha divided by rank.", 1, 512, 1),
    Setting("lora_dropout", "LoRA dropout", 0.0, "Share of the adapter's inputs left out at random.", 0.0, 0.9, 0.01),
    Setting("target_modules", "Target modules", "all-linear", "Which layers the adapter sits on.", choices=TARGETS),
    Setting("warmup", "Warm-up", 0.1, "Share of the steps over which the learning rate rises.", 0.0, 0.9, 0.01),
    Setting("seed", "Seed", 42, "The same seed and data give the same adapter.", 0, 2**31 - 1, 1),
    Setting("gradient_checkpointing", "Gradient checkpointing", False, "Computes activations twice: less memory, "
            "about a third slower."),
    Setting("checkpoint_every", "Checkpoint every", 20, "A run that is cut off goes on from its last checkpoint.",
            1, 100_000, 1, "steps"),
    Setting("looks", "Looks", 5, "How often on its way a run measures held-out pairs and answers the pinned prompts; "
            "0 for never.", 0, 50, 1),
)  # fmt: skip

# Small: measured on the starter model, see DECISIONS.md. Large: the usual LoRA recipe for a 7B base.
DEFAULTS: dict[tuple[Method, Size], dict[str, Any]] = {
    (Method.DPO, Size.SMALL): {"learning_rate": 5e-4, "loss": "sigmoid+sft", "epochs": 2, "batch_size": 4,
                               "accumulation": 1},
    (Method.SFT, Size.SMALL): {"learning_rate": 2e-4, "epochs": 2, "batch_size": 4, "accumulation": 1},
    (Method.SFT_DPO, Size.SMALL): {"learning_rate": 2e-4, "loss": "sigmoid", "epochs": 1, "batch_size": 4,
                                   "accumulation": 1, "sft_learning_rate": 2e-4, "sft_epochs": 2},
    (Method.DPO, Size.LARGE): {"learning_rate": 1e-5, "loss": "sigmoid"},
    (Method.SFT, Size.LARGE): {"learning_rate": 1e-4},
    (Method.SFT_DPO, Size.LARGE): {"learning_rate": 1e-5, "loss": "sigmoid", "sft_learning_rate": 1e-4},
}  # fmt: skip
# By the token a margin is some hundred times smaller. ipo aims at 1 / (2 beta) of it: 5 nats a token at the usual 0.1.
LOSS_DEFAULTS: dict[str, dict[str, Any]] = {"ipo": {"beta": 1.0}, "sigmoid_norm": {"beta": 1.0}}

# Why a default is what it is, and who says so: of one method, or of all methods on a base of that size.
REASONS: dict[tuple[str, Method | None, Size], str] = {
    ("learning_rate", Method.DPO, Size.SMALL): "at 2e-4 the starter model learnt the label of its "
    "habit and not the end (measured, DECISIONS.md)",
    ("learning_rate", Method.SFT, Size.SMALL): "every token of the reply teaches, and TRL's documentation names about "
    "1e-4 for adapters of larger models",
    ("learning_rate", Method.SFT_DPO, Size.SMALL): "DPO begins where SFT ended, so smaller steps do",
    ("learning_rate", Method.DPO, Size.LARGE): "about 1e-5 for adapters (TRL's documentation of DPO)",
    ("learning_rate", Method.SFT, Size.LARGE): "about 1e-4 for adapters (TRL's documentation of SFT)",
    ("learning_rate", Method.SFT_DPO, Size.LARGE): "about 1e-5 for adapters (TRL's documentation of DPO)",
    ("loss", Method.DPO, Size.SMALL): "without the SFT term a small base ranks replies and still speaks as before",
    ("loss", Method.SFT_DPO, Size.SMALL): "SFT has taught the reply already",
    ("loss", None, Size.LARGE): "the loss of the DPO paper (Rafailov et al. 2023)",
    ("beta", None, Size.SMALL): "the usual value (Rafailov et al. 2023)",
    ("beta", None, Size.LARGE): "the usual value (Rafailov et al. 2023)",
    ("epochs", None, Size.SMALL): "a small base needs to see the starter's few pairs twice",
    ("epochs", Method.SFT_DPO, Size.SMALL): "SFT has gone through the data before",
    ("epochs", None, Size.LARGE): "one pass, as in the alignment handbook's recipes for 7B bases",
    ("batch_size", None, Size.SMALL): "four pairs of a small base are computed at once",
    ("batch_size", None, Size.LARGE): "one pair of a large base fills the memory",
    ("accumulation", None, Size.SMALL): "the batch holds four pairs already",
    ("accumulation", None, Size.LARGE): "eight single pairs make one steady step",
    ("sft_learning_rate", None, Size.SMALL): "as for SFT alone",
    ("sft_learning_rate", None, Size.LARGE): "about 1e-4 for adapters (TRL's documentation of SFT)",
    ("sft_epochs", None, Size.SMALL): "as for SFT alone",
    ("sft_epochs", None, Size.LARGE): "as for SFT alone",
}
LOSS_REASONS = {
    "ipo": "ipo aims at a margin of 1 / (2 beta) a token: half a nat at 1, and 5 nats at 0.1 (TRL, after Azar et al. "
    "2023)",
    "sigmoid_norm": "by the token margins are small, and Tülu 3 takes a beta of 5, beyond this range (Lambert et al. "
    "2024)",
}

DATA = _table(
    Setting("limit", "Rows", 1000, "How many rows are read for training, from the first on.", 8, 1_000_000, 1, "rows"),
    Setting("held_out", "Held out", 200, "Rows kept from training to measure on; 0 for none.", 0, 100_000, 1, "rows"),
    Setting("split_seed", "Split seed", 0, "0 holds out the last rows; any other number draws the held-out rows at "
            "random, the same ones each time.", 0, 2**31 - 1, 1),
)  # fmt: skip
# Unless told, a quarter of what was read is held out, and never more than the table's default.
HELD_OUT_SHARE = 0.25
MIN_USABLE_ROWS = 8
# What a run answers on its way, unless told otherwise; each look costs one short greedy response a prompt.
PINNED_PROMPTS = (
    "How can I start exercising again after a long break?",
    "My neighbour's dog barks all night. What should I do?",
    "Explain in a few sentences why the sky is blue.",
)
MAX_PINNED = 5
MAX_PINNED_CHARS = 500
PINNED_MAX_NEW_TOKENS = 96
# Held-out pairs that a look measures: enough to see a trend, few enough to cost seconds.
LOOK_MAX_PAIRS = 32
# Several sources joined are mixed in an order that is the same on every machine.
SHUFFLE_SEED = 1122

DECODING = _table(
    Setting("max_new_tokens", "Longest response", 512, "A response is cut here, and marked as cut.", 1, 4096, 1,
            "tokens"),
    Setting("temperature", "Temperature", 0.7, "0 always says the likeliest; higher is more varied.", 0.0, 2.0, 0.05),
    Setting("top_p", "Top p", 0.9, "Only the likeliest words that make up this share are drawn from.", 0.05, 1.0, 0.05),
)  # fmt: skip

# An engine that starts and in so long has not used so much of a processor hangs; one that is not up after so long, too.
ENGINE_SILENT_S = 30.0
ENGINE_SIGN_OF_LIFE_S = 0.1
ENGINE_START_S = 600.0

STRENGTH = Setting("strength", "Adapter strength", 1.0, "0 is base, 1 as trained, more overdoes it.", 0.0, 1.5, 0.05)

TRAIT_MAX_NEW_TOKENS = 128
COMPARISON = _table(
    Setting("samples", "Draws of each prompt", 1, "Each is a pair to decide on; they are averaged within the prompt.",
            1, 5, 1),
    Setting("placebo_share", "Placebo pairs", 0.2, "Pairs in which both sides are base, as a share of the prompts: "
            "what is said of them is noise.", 0.0, 1.0, 0.1),
)  # fmt: skip
COMPARISON_SEED = Setting("seed", "Seed", 0, "The responses are drawn from it; the sides are not.", 0, 2**31 - 1, 1)
# A comparison's pairs that go to the engine at once: two rows each, of 512 tokens at most unless told otherwise, fill
# one batch of the engine. What was answered before a stop or a crash is kept by this much.
COMPARISON_BATCH_ITEMS = 12

JUDGE = _table(
    Setting("judge_attempts", "Attempts", 4, "How often one call is tried; a 429 uses up none.", 1, 20, 1),
    Setting("judge_total_wait_s", "Total wait", 600, "The longest that one verdict may take.", 1, 86_400, 1, "s"),
    Setting("judge_timeout_s", "Call time-out", 60, "The longest that one call may take.", 10, 600, 1, "s"),
    Setting("judge_rate_per_s", "Calls a second", 4.0, "How fast calls go out, all threads together; a 429 halves "
            "it, down to one a second.", 1.0, 50.0, 0.5, "calls"),
    Setting("judge_threads", "Pairs at once", 4, "How many pairs are judged side by side.", 1, 16, 1, "pairs"),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """A run's settings, all checked. Those that the method does not use stay at their defaults."""

    learning_rate: float
    beta: float
    loss: str
    label_smoothing: float
    sft_learning_rate: float
    sft_epochs: int
    epochs: int
    batch_size: int
    accumulation: int
    max_length: int
    lora_rank: int
    lora_alpha: int
    lora_dropout: float
    target_modules: str
    warmup: float
    seed: int
    gradient_checkpointing: bool
    checkpoint_every: int
    looks: int

    @classmethod
    def of(cls, method: Method, size: Size, values: Mapping[str, Any] | None = None) -> Self:
        """The method's defaults with `values` over them; SettingError names what is unknown or out of range."""
        values = {name: value for name, value in (values or {}).items() if value is not None}
        reject_unknown(values, TRAINING)
        merged = defaults(method, size, str(values.get("loss", ""))) | values
        return cls(**{field.name: TRAINING[field.name].check(merged[field.name]) for field in fields(cls)})

    def as_dict(self, method: Method) -> dict[str, Any]:
        """Only what `method` uses."""
        return {name: value for name, value in asdict(self).items() if method in TRAINING[name].methods}


@dataclass(frozen=True)
class Decoding:
    """How responses are drawn. `temperature` 0 is greedy, whatever the rest."""

    max_new_tokens: int = DECODING["max_new_tokens"].default
    temperature: float = DECODING["temperature"].default
    top_p: float = DECODING["top_p"].default
    seed: int = 0

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Checked against the table; SettingError as a sentence."""
        seed = TRAINING["seed"].check(values.pop("seed", 0))
        reject_unknown(values, DECODING)
        return cls(seed=seed, **{name: DECODING[name].check(value) for name, value in values.items()})


def defaults(method: Method, size: Size, loss: str = "") -> dict[str, Any]:
    """Every training setting's default for this method, with this loss or its own, on a base of this size."""
    values = {name: setting.default for name, setting in TRAINING.items()} | DEFAULTS[method, size]
    return values | LOSS_DEFAULTS.get(base_loss(loss or values["loss"]), {})


def why(name: str, method: Method, size: Size, loss: str) -> str:
    """The reason for the setting's default, with its source; empty where there is nothing to say."""
    if name in LOSS_DEFAULTS.get(base_loss(loss), {}):
        return LOSS_REASONS[base_loss(loss)]
    return REASONS.get((name, method, size)) or REASONS.get((name, None, size), "")


def base_loss(loss: str) -> str:
    """The loss without its SFT term."""
    return loss.removesuffix(SFT_TERM)


def used_by(method: Method, loss: str = "") -> list[Setting]:
    """The settings that have a meaning for `method`; label noise only with the loss that reckons with it."""
    return [s for s in TRAINING.values() if method in s.methods
            and (s.name != "label_smoothing" or base_loss(loss or "robust") == "robust")]  # fmt: skip


def reject_unknown(names: Iterable[str], table: Mapping[str, Setting]) -> None:
    unknown = sorted(set(names) - set(table))
    if unknown:
        raise SettingError(f"There is no setting named '{unknown[0]}'. There are: {', '.join(table)}.")


def checked_pinned(prompts: object) -> tuple[str, ...]:
    """The prompts to answer on the way, the usual ones for None; SettingError where they are too many or too long."""
    if prompts is None:
        return PINNED_PROMPTS
    if not isinstance(prompts, list | tuple) or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise SettingError("Pinned prompts must be texts, one a line.")
    if len(prompts) > MAX_PINNED or any(len(p) > MAX_PINNED_CHARS for p in prompts):
        raise SettingError(f"There may be {MAX_PINNED} pinned prompts of at most {MAX_PINNED_CHARS} characters each.")
    return tuple(prompts)


def parse_method(value: object) -> Method:
    if isinstance(value, str) and value in set(Method):
        return Method(value)
    raise SettingError(f"Method must be one of {', '.join(Method)}, not {str(value)[:40]!r}.")


def size_of(num_parameters: int) -> Size:
    return Size.SMALL if num_parameters < SMALL_BELOW_PARAMETERS else Size.LARGE
