"""What settings are set for (a method, a base's size, a loss, how much is to be done), and what a change of it moves.

Pure; knows neither the page nor torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from core.errors import SettingError
from core.settings import DATA, TRAINING, Method, Setting, Size, defaults, used_by, why


class Preset(StrEnum):
    QUICK = "quick look"
    STANDARD = "standard"
    THOROUGH = "thorough"


PRESET_NOTES = {
    Preset.QUICK: "Few pairs, once: shows that all of it works, and teaches little.",
    Preset.STANDARD: "Every setting at its default.",
    Preset.THOROUGH: "More pairs, more passes and a closer watch. Mind the held-out accuracy: it may memorise.",
}
# What a preset takes from the data, and what it sets otherwise than the defaults; without an entry, nothing.
PRESETS: dict[tuple[Preset, Method, Size], dict[str, Any]] = {
    (Preset.QUICK, Method.DPO, Size.SMALL): {"limit": 64, "looks": 2, "epochs": 1},
    (Preset.QUICK, Method.SFT, Size.SMALL): {"limit": 64, "looks": 2, "epochs": 1},
    (Preset.QUICK, Method.SFT_DPO, Size.SMALL): {"limit": 64, "looks": 2, "sft_epochs": 1},
    (Preset.QUICK, Method.DPO, Size.LARGE): {"limit": 100, "looks": 2},
    (Preset.QUICK, Method.SFT, Size.LARGE): {"limit": 100, "looks": 2},
    (Preset.QUICK, Method.SFT_DPO, Size.LARGE): {"limit": 100, "looks": 2},
    (Preset.THOROUGH, Method.DPO, Size.SMALL): {"limit": 5000, "looks": 10, "epochs": 3},
    (Preset.THOROUGH, Method.SFT, Size.SMALL): {"limit": 5000, "looks": 10, "epochs": 3},
    (Preset.THOROUGH, Method.SFT_DPO, Size.SMALL): {"limit": 5000, "looks": 10, "epochs": 2},
    (Preset.THOROUGH, Method.DPO, Size.LARGE): {"limit": 5000, "looks": 10},
    (Preset.THOROUGH, Method.SFT, Size.LARGE): {"limit": 5000, "looks": 10, "epochs": 2},
    (Preset.THOROUGH, Method.SFT_DPO, Size.LARGE): {"limit": 5000, "looks": 10},
}
# A preset's rows are the data's, the rest are settings.
KNOWN: dict[str, Setting] = {"limit": DATA["limit"], **TRAINING}


@dataclass(frozen=True)
class Seat:
    """What the form's settings are set for. `loss` is empty for a method without one."""

    method: Method = Method.DPO
    size: Size = Size.SMALL
    preset: Preset = Preset.STANDARD
    loss: str = ""

    @classmethod
    def of(cls, method: Method, size: Size, preset: Preset = Preset.STANDARD, loss: str = "") -> Self:
        own = own_loss(method, size)
        return cls(method, size, preset, own and (loss or own))

    def following(self, method: Method, size: Size, preset: Preset, loss: str) -> Self:
        """The seat after a change: the loss that is shown stays, unless method or size have another of their own."""
        own = own_loss(method, size)
        return self.of(method, size, preset, loss if own == own_loss(self.method, self.size) else own)

    def values(self) -> dict[str, Any]:
        """Every setting that is used here, and the rows, as they are set to begin with."""
        given = {"limit": DATA["limit"].default, **defaults(self.method, self.size, self.loss), "loss": self.loss}
        given |= PRESETS.get((self.preset, self.method, self.size), {})
        return {name: given[name] for name in ("limit", *(s.name for s in used_by(self.method, self.loss)))}


def own_loss(method: Method, size: Size) -> str:
    return str(defaults(method, size)["loss"]) if method in TRAINING["loss"].methods else ""


@dataclass(frozen=True)
class Move:
    """A setting that was moved. `is_own`: what stood there was the person's. Without a reason it is the preset's."""

    setting: Setting
    before: Any
    after: Any
    is_own: bool
    reason: str


def reseat(old: Seat, new: Seat, shown: Mapping[str, Any]) -> tuple[dict[str, Any], list[Move]]:
    """What the settings are to show after the change, and what of it moved; what does not depend on it stays."""
    before, after = old.values(), new.values()
    values = {name: shown[name] if before.get(name) == value else value for name, value in after.items()}
    moves = [
        Move(KNOWN[name], shown[name], value, not is_same(name, shown[name], before[name]), _reason(name, old, new))
        for name, value in values.items()
        if name in before and not is_same(name, shown[name], value)
    ]
    return values, moves


def _reason(name: str, old: Seat, new: Seat) -> str:
    return why(name, new.method, new.size, new.loss) if old.preset == new.preset else ""


def turned(seat: Seat, shown: Mapping[str, Any]) -> list[Move]:
    """What the person has set otherwise than the seat does; `before` is the seat's value, `after` the person's."""
    return [
        Move(KNOWN[name], value, shown[name], True, "")
        for name, value in seat.values().items()
        if not is_same(name, shown[name], value)
    ]


def is_same(name: str, one: Any, other: Any) -> bool:
    """Whether two ways to write the setting's value come to the same; a field may show a number as text."""
    try:
        return bool(KNOWN[name].check(one) == KNOWN[name].check(other))
    except SettingError:
        return False
