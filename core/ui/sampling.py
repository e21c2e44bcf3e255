"""The sliders of how responses are drawn, out of the table of settings."""

import gradio as gr

from core.settings import DECODING


def sliders() -> dict[str, gr.Slider]:
    """One slider a decoding setting, by its name."""
    return {
        name: gr.Slider(s.low, s.high, value=s.default, step=s.step, label=_label(s.label, s.unit), info=s.help)
        for name, s in DECODING.items()
    }


def _label(label: str, unit: str) -> str:
    return f"{label} ({unit})" if unit else label
