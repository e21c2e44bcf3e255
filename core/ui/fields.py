"""The tables of `core/settings.py` as form fields: one component a setting, chosen by the setting's kind."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from core.settings import TRAINING, Method, Setting, Size, defaults, parse_method, used_by

# Beyond this many positions a slider cannot be set exactly by hand.
MAX_SLIDER_POSITIONS = 200
LEARNING_RATES = ("5e-6", "1e-5", "2e-5", "5e-5", "1e-4", "2e-4", "5e-4", "1e-3")

# The event of each kind of field that says: this is what I want.
SETTLED = {
    gr.Slider: ("release",), gr.Number: ("input",), gr.Dropdown: ("input",), gr.Checkbox: ("input",),
    gr.Radio: ("input",), gr.Textbox: ("submit", "blur"), gr.File: ("upload", "clear"),
}  # fmt: skip


def build(settings: Sequence[Setting], method: Method, size: Size) -> dict[str, Component]:
    values = defaults(method, size)
    return {s.name: _field(s, shown_value(s, values[s.name]), method in s.methods) for s in settings}


def _field(setting: Setting, value: Any, is_visible: bool) -> Component:
    label = f"{setting.label} ({setting.unit})" if setting.unit else setting.label
    common: dict[str, Any] = {"label": label, "info": setting.help, "value": value, "visible": is_visible,
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


def shown_value(setting: Setting, value: Any) -> Any:
    """`value` as its field shows it: rates as 2e-4, the rest as they are."""
    if setting.step is None and isinstance(value, float):
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return value


def reseated(method: str, size: Size, turned: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An update for every setting's field: the method's defaults, `turned` over them, the unused hidden."""
    known = parse_method(method)
    values = defaults(known, size) | dict(turned or {})
    used = {setting.name for setting in used_by(known)}
    return {
        name: gr.update(value=shown_value(setting, values[name]), visible=name in used)
        for name, setting in TRAINING.items()
    }


def settled(fields: Sequence[Component]) -> list[Any]:
    """The events after which a plan made from `fields` is out of date."""
    return [getattr(field, event) for field in fields for kind, events in SETTLED.items()
            if isinstance(field, kind) for event in events]  # fmt: skip
