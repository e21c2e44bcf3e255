"""The tables of `core/settings.py` as form fields: one component a setting, chosen by the setting's kind."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from core.presets import Seat
from core.settings import BASE_LOSSES, DECODING, TRAINING, Setting, base_loss, used_by
from core.ui.plan_views import LOSS_NOTES, TERM_NOTE, shown_value
from core.ui.train_form import TERM_FIELD, shown_settings

# Beyond this many positions a slider cannot be set exactly by hand.
MAX_SLIDER_POSITIONS = 200
LEARNING_RATES = ("5e-6", "1e-5", "2e-5", "5e-5", "1e-4", "2e-4", "5e-4", "1e-3")

# The event of each kind of field that says: this is what I want.
SETTLED = {
    gr.Slider: ("input", "release"), gr.Number: ("input",), gr.Dropdown: ("input",), gr.Checkbox: ("input",),
    gr.Radio: ("input",), gr.Textbox: ("submit", "blur"), gr.File: ("upload", "clear"),
}  # fmt: skip


def build(settings: Sequence[Setting], seat: Seat) -> dict[str, Component]:
    """The fields by name, as the seat sets them; the loss is two of them."""
    values, used = seat.values(), {setting.name for setting in used_by(seat.method, seat.loss)}
    built: dict[str, Component] = {}
    for setting in settings:
        value = shown_value(setting, values.get(setting.name, setting.default))
        if setting.name == "loss":
            built |= _loss_fields(setting, value, setting.name in used)
        else:
            built[setting.name] = _field(setting, value, setting.name in used)
    return built


def _loss_fields(setting: Setting, loss: str, is_visible: bool) -> dict[str, Component]:
    base, common = base_loss(loss), {"visible": is_visible, "interactive": True}
    return {
        "loss": gr.Dropdown(list(BASE_LOSSES), value=base, label=setting.label, info=LOSS_NOTES[base],
                            elem_id="setting-loss", **common),
        TERM_FIELD: gr.Checkbox(base != loss, label="SFT term", info=TERM_NOTE, elem_id="setting-sft_term", **common),
    }  # fmt: skip


def _field(setting: Setting, value: Any, is_visible: bool) -> Component:
    common: dict[str, Any] = {"label": _label(setting), "info": setting.help, "value": value, "visible": is_visible,
                              "elem_id": f"setting-{setting.name}", "interactive": True}  # fmt: skip
    if setting.choices:
        return gr.Dropdown(choices=list(setting.choices), **common)
    if isinstance(setting.default, bool):
        return gr.Checkbox(**common)
    if setting.step is None:
        # A rate is felt in factors, not in differences.
        return gr.Dropdown(choices=list(LEARNING_RATES), allow_custom_value=True, **common)
    if (setting.high - setting.low) / setting.step <= MAX_SLIDER_POSITIONS:
        return gr.Slider(setting.low, setting.high, step=setting.step, **common)
    return gr.Number(**common)


def sliders(place: str, table: Mapping[str, Setting] = DECODING) -> dict[str, gr.Slider]:
    """A slider for each setting of how responses are drawn, by its name; `place` tells those of several tabs apart."""
    return {name: slider(place, setting) for name, setting in table.items()}


def slider(place: str, s: Setting, **layout: Any) -> gr.Slider:
    return gr.Slider(s.low, s.high, value=s.default, step=s.step, label=_label(s), info=s.help,
                     elem_id=f"{place}-{s.name}", **layout)  # fmt: skip


def _label(setting: Setting) -> str:
    return f"{setting.label} ({setting.unit})" if setting.unit else setting.label


def updates(values: Mapping[str, Any]) -> dict[str, Any]:
    """An update for every field of the settings: those among `values` show them, the others are hidden."""
    shown = shown_settings(values)
    notes = {"loss": {"info": LOSS_NOTES[shown["loss"]]}} if "loss" in shown else {}
    return {
        name: gr.update(value=shown[name], visible=True, **notes.get(name, {}))
        if name in shown
        else gr.update(visible=False)
        for name in (*TRAINING, TERM_FIELD)
    }


def settled(fields: Sequence[Component]) -> list[Any]:
    """The events after which a plan made from `fields` is out of date."""
    return [getattr(field, event) for field in fields for kind, events in SETTLED.items()
            if isinstance(field, kind) for event in events]  # fmt: skip
