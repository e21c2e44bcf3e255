"""The sliders of how responses are drawn, out of the table of settings."""

import gradio as gr

from core.settings import DECODING


def sliders(place: str) -> dict[str, gr.Slider]:
    """One slider a decoding setting, by its name; `place` tells those of several tabs apart."""
    return {
        name: gr.Slider(
            s.low, s.high, value=s.default, step=s.step, label=_label(s.label, s.unit), info=s.help,
            elem_id=f"{place}-{name}",
        )
        for name, s in DECODING.items()
    }  # fmt: skip


def _label(label: str, unit: str) -> str:
    return f"{label} ({unit})" if unit else label
