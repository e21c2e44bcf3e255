"""What the Train tab's form says, as a request; and a request, as what the form shows.

Pure: no gradio. It checks only what the form alone can know; the data and the settings are checked
where they are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from core.client import RunRequest
from core.presets import KNOWN
from core.settings import PINNED_PROMPTS, SFT_TERM, TRAINING, Method, base_loss, checked_pinned, parse_method, used_by
from core.ui.data_form import DataForm
from core.ui.plan_views import shown_value

# The loss is one setting and two fields: a list of losses, and whether the SFT term is added.
TERM_FIELD = "sft_term"


@dataclass(frozen=True)
class TrainForm:
    """The form's values as they come: numbers may be text or None, and settings hold what all methods have."""

    data: DataForm = DataForm()
    model: str = ""
    method: str = Method.DPO
    from_adapter: str = ""
    pinned: str = "\n".join(PINNED_PROMPTS)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From the components' values by name."""
        own = {name: values[name] or "" for name in ("model", "method", "from_adapter", "pinned") if name in values}
        return cls(DataForm.of(values), **own, settings=settings_of(values))

    @classmethod
    def showing(cls, request: RunRequest) -> dict[str, Any]:
        """The values with which the fields stand for `request`; its settings alone are another matter."""
        pinned = PINNED_PROMPTS if request.pinned is None else request.pinned
        own = {name: vars(request)[name] for name in ("model", "method", "from_adapter")}
        return DataForm.showing(request) | own | {"pinned": "\n".join(pinned)}

    def request(self) -> RunRequest:
        """RequestError where the form is not filled in; its sentence fits on a button."""
        how = self.how()
        return replace(how, model=self.model, from_adapter=self.from_adapter, **self.data.request_part())

    def how(self) -> RunRequest:
        """The request without what is trained on what: method, settings and pinned prompts."""
        method = parse_method(self.method)
        used = {setting.name for setting in used_by(method, str(self.settings.get("loss", "")))}
        settings = {name: value for name, value in self.settings.items() if name in used}
        # A field that was emptied is no wish for the default.
        for name in [name for name, value in settings.items() if value is None]:
            TRAINING[name].check("")
        return RunRequest(method=method, pinned=self._pinned(), settings=settings)

    def _pinned(self) -> tuple[str, ...] | None:
        lines = tuple(line.strip() for line in self.pinned.splitlines() if line.strip())
        return None if lines == PINNED_PROMPTS else checked_pinned(lines)


def settings_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among a form's values, under their own names."""
    settings = {name: values[name] for name in TRAINING if name in values}
    if values.get(TERM_FIELD) and "loss" in settings:
        settings["loss"] = f"{settings['loss']}{SFT_TERM}"
    return settings


def shown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields show of `settings`."""
    shown = {name: shown_value(KNOWN[name], value) for name, value in settings.items()}
    if "loss" in settings:
        shown |= {"loss": base_loss(settings["loss"]), TERM_FIELD: settings["loss"].endswith(SFT_TERM)}
    return shown
