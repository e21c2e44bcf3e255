"""The sliders of how responses are drawn, out of the table of settings."""

from collections.abc import Mapping

import gradio as gr

from core.settings import DECODING, Setting


def sliders(place: str, table: Mapping[str, Setting] = DECODING) -> dict[str, gr.Slider]:
    """One slider a setting, by its name; `place` tells those of several tabs apart."""
    return {
        name: gr.Slider(
            s.low, s.high, value=s.default, step=s.step, label=_label(s.label, s.unit), info=s.help,
            elem_id=f"{place}-{name}",
        )
        for name, s in table.items()
    }  # fmt: skip


def _label(label: str, unit: str) -> str:
    return f"{label} ({unit})" if unit else label
