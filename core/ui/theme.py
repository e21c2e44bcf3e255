"""How the page looks: colours, type and spacing. Knows no component of ours.

Every pair of text and ground passes WCAG AA in light and in dark; a test holds them to it.
The fonts are whole families that ship with Gradio, since other bundled weights lack most letters.
"""

from pathlib import Path

from gradio.themes.base import Base
from gradio.themes.utils.colors import Color
from gradio.themes.utils.fonts import LocalFont

from core.paths import ASSETS

STYLES: list[Path] = sorted(ASSETS.glob("*.css"))
ICON: Path = ASSETS / "icon.png"

PINE = Color(
    c50="#eef7f4", c100="#d8ece6", c200="#b3d9ce", c300="#83c0b0", c400="#52a391", c500="#2f8775",
    c600="#1f6f60", c700="#195a4f", c800="#174840", c900="#143b35", c950="#0a211e", name="pine",
)  # fmt: skip
STONE = Color(
    c50="#faf9f6", c100="#f3f1ec", c200="#e5e2da", c300="#d0ccc2", c400="#a09c92", c500="#757269",
    c600="#5a5850", c700="#3a3a38", c800="#272a2b", c900="#1d2022", c950="#141718", name="stone",
)  # fmt: skip

# In light, and in dark.
Shades = tuple[str, str]
TEXT: Shades = "#23262a", "#e9e7e1"
MUTED: Shades = "#5a5850", "#aeb0ad"
PAGE: Shades = "#f6f4ef", "#141718"
CARD: Shades = "#ffffff", "#1d2022"
FIELD: Shades = "#ffffff", "#24282a"
LINE: Shades = "#e2dfd6", "#33383a"
# The edge of a field is a control's boundary, so it has to stand out by 3 to 1.
EDGE: Shades = "#8f8b80", "#70767a"
ACCENT: Shades = "#1f6f60", "#7fcdb9"
ON_ACCENT: Shades = "#ffffff", "#0a211e"
STOP: Shades = "#a3342b", "#f0998f"
SOFT: Shades = PINE.c50, PINE.c900
QUIET: Shades = STONE.c100, STONE.c800

SHADES: dict[str, Shades] = {
    "body_background_fill": PAGE, "body_text_color": TEXT, "body_text_color_subdued": MUTED,
    "background_fill_primary": CARD, "background_fill_secondary": QUIET,
    "border_color_primary": LINE, "border_color_accent": ACCENT, "color_accent_soft": SOFT, "link_text_color": ACCENT,
    "block_background_fill": CARD, "block_border_color": LINE, "block_title_text_color": TEXT,
    "block_label_text_color": MUTED, "block_label_background_fill": CARD, "block_info_text_color": MUTED,
    "panel_background_fill": CARD, "table_even_background_fill": CARD,
    "table_odd_background_fill": (STONE.c50, STONE.c800), "table_border_color": LINE,
    "input_background_fill": FIELD, "input_border_color": EDGE, "input_border_color_focus": ACCENT,
    "input_placeholder_color": MUTED, "slider_color": ACCENT,
    "checkbox_label_background_fill": FIELD, "checkbox_label_background_fill_selected": SOFT,
    "checkbox_label_border_color": LINE, "checkbox_label_border_color_selected": ACCENT,
    "checkbox_label_text_color_selected": TEXT, "checkbox_border_color": EDGE,
    "checkbox_background_color_selected": (ACCENT[0], PINE.c500), "checkbox_border_color_selected": ACCENT,
    "button_primary_background_fill": ACCENT, "button_primary_background_fill_hover": (PINE.c700, PINE.c200),
    "button_primary_border_color": ACCENT, "button_primary_text_color": ON_ACCENT,
    "button_secondary_background_fill": (CARD[0], FIELD[1]),
    "button_secondary_background_fill_hover": (STONE.c100, STONE.c700), "button_secondary_border_color": EDGE,
    "button_secondary_text_color": TEXT, "button_cancel_background_fill": CARD, "button_cancel_border_color": STOP,
    "button_cancel_text_color": STOP, "button_cancel_background_fill_hover": ("#fbeeec", "#3a2422"),
}  # fmt: skip
SHAPES = {
    "color_accent": ACCENT[0], "shadow_drop": "none", "shadow_drop_lg": "0 6px 24px rgb(0 0 0 / 0.10)",
    "block_border_width": "1px", "block_shadow": "none", "block_radius": "10px", "block_title_text_weight": "700",
    "block_title_background_fill": "none", "block_label_border_width": "0px", "block_label_shadow": "none",
    "panel_border_width": "0px", "layout_gap": "14px", "form_gap_width": "0px",
    "input_border_width": "1px", "input_radius": "8px", "input_shadow": "none", "checkbox_label_shadow": "none",
    "button_border_width": "1px", "button_transition": "background-color 0.12s ease",
    "button_large_radius": "8px", "button_medium_radius": "8px", "button_small_radius": "8px",
    "button_large_text_weight": "700", "button_medium_text_weight": "700",
}  # fmt: skip


def build() -> Base:
    theme = Base(
        primary_hue=PINE,
        secondary_hue=STONE,
        neutral_hue=STONE,
        font=(LocalFont("Source Sans Pro", weights=(400, 700)), "system-ui", "sans-serif"),
        font_mono=(LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
    )
    light = {name: shades[0] for name, shades in SHADES.items()}
    dark = {f"{name}_dark": shades[1] for name, shades in SHADES.items()}
    return theme.set(**SHAPES, **light, **dark)
