"""How the page looks: colours, type and spacing. Knows no component of ours.

Every pair of text and ground below passes WCAG AA in light and in dark; a test holds them to it.
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

TEXT, TEXT_DARK = "#23262a", "#e9e7e1"
MUTED, MUTED_DARK = "#5a5850", "#aeb0ad"
PAGE, PAGE_DARK = "#f6f4ef", "#141718"
CARD, CARD_DARK = "#ffffff", "#1d2022"
FIELD, FIELD_DARK = "#ffffff", "#24282a"
LINE, LINE_DARK = "#e2dfd6", "#33383a"
# The edge of a field is a control's boundary, so it has to stand out by 3 to 1.
EDGE, EDGE_DARK = "#8f8b80", "#70767a"
ACCENT, ACCENT_DARK = "#1f6f60", "#7fcdb9"
ON_ACCENT, ON_ACCENT_DARK = "#ffffff", "#0a211e"
STOP, STOP_DARK = "#a3342b", "#f0998f"

# (what it is, text, ground, least contrast)
PAIRS = (
    ("text", TEXT, PAGE, 4.5), ("text on a card", TEXT, CARD, 4.5), ("muted", MUTED, PAGE, 4.5),
    ("muted on a card", MUTED, CARD, 4.5), ("button", ON_ACCENT, ACCENT, 4.5), ("link", ACCENT, PAGE, 4.5),
    ("stop", STOP, CARD, 4.5), ("field edge", EDGE, FIELD, 3.0),
    ("dark text", TEXT_DARK, PAGE_DARK, 4.5), ("dark text on a card", TEXT_DARK, CARD_DARK, 4.5),
    ("dark muted", MUTED_DARK, PAGE_DARK, 4.5), ("dark muted on a card", MUTED_DARK, CARD_DARK, 4.5),
    ("dark button", ON_ACCENT_DARK, ACCENT_DARK, 4.5), ("dark link", ACCENT_DARK, PAGE_DARK, 4.5),
    ("dark stop", STOP_DARK, CARD_DARK, 4.5), ("dark field edge", EDGE_DARK, FIELD_DARK, 3.0),
)  # fmt: skip


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two hex colours, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def build() -> Base:
    theme = Base(
        primary_hue=PINE,
        secondary_hue=STONE,
        neutral_hue=STONE,
        font=(LocalFont("Source Sans Pro", weights=(400, 700)), "system-ui", "sans-serif"),
        font_mono=(LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
    )
    return theme.set(**_surfaces(), **_fields(), **_buttons())


def _surfaces() -> dict[str, str]:
    return {
        "body_background_fill": PAGE, "body_background_fill_dark": PAGE_DARK,
        "body_text_color": TEXT, "body_text_color_dark": TEXT_DARK,
        "body_text_color_subdued": MUTED, "body_text_color_subdued_dark": MUTED_DARK,
        "background_fill_primary": CARD, "background_fill_primary_dark": CARD_DARK,
        "background_fill_secondary": STONE.c100, "background_fill_secondary_dark": STONE.c800,
        "border_color_primary": LINE, "border_color_primary_dark": LINE_DARK,
        "border_color_accent": ACCENT, "border_color_accent_dark": ACCENT_DARK,
        "color_accent": ACCENT, "color_accent_soft": PINE.c50, "color_accent_soft_dark": PINE.c900,
        "link_text_color": ACCENT, "link_text_color_dark": ACCENT_DARK,
        "block_background_fill": CARD, "block_background_fill_dark": CARD_DARK,
        "block_border_color": LINE, "block_border_color_dark": LINE_DARK,
        "block_border_width": "1px", "block_shadow": "none", "block_radius": "10px",
        "block_title_text_color": TEXT, "block_title_text_color_dark": TEXT_DARK,
        "block_title_text_weight": "700", "block_title_background_fill": "none",
        "block_label_text_color": MUTED, "block_label_text_color_dark": MUTED_DARK,
        "block_label_background_fill": CARD, "block_label_background_fill_dark": CARD_DARK,
        "block_label_border_width": "0px", "block_label_shadow": "none",
        "block_info_text_color": MUTED, "block_info_text_color_dark": MUTED_DARK,
        "panel_background_fill": CARD, "panel_background_fill_dark": CARD_DARK,
        "panel_border_width": "0px", "layout_gap": "14px", "form_gap_width": "0px",
        "table_even_background_fill": CARD, "table_even_background_fill_dark": CARD_DARK,
        "table_odd_background_fill": STONE.c50, "table_odd_background_fill_dark": STONE.c800,
        "table_border_color": LINE, "table_border_color_dark": LINE_DARK,
        "shadow_drop": "none", "shadow_drop_lg": "0 6px 24px rgb(0 0 0 / 0.10)",
    }  # fmt: skip


def _fields() -> dict[str, str]:
    return {
        "input_background_fill": FIELD, "input_background_fill_dark": FIELD_DARK,
        "input_border_color": EDGE, "input_border_color_dark": EDGE_DARK,
        "input_border_color_focus": ACCENT, "input_border_color_focus_dark": ACCENT_DARK,
        "input_border_width": "1px", "input_radius": "8px", "input_shadow": "none",
        "input_placeholder_color": MUTED, "input_placeholder_color_dark": MUTED_DARK,
        "checkbox_label_background_fill": FIELD, "checkbox_label_background_fill_dark": FIELD_DARK,
        "checkbox_label_background_fill_selected": PINE.c50, "checkbox_label_background_fill_selected_dark": PINE.c900,
        "checkbox_label_border_color": LINE, "checkbox_label_border_color_dark": LINE_DARK,
        "checkbox_label_border_color_selected": ACCENT, "checkbox_label_border_color_selected_dark": ACCENT_DARK,
        "checkbox_label_text_color_selected": TEXT, "checkbox_label_text_color_selected_dark": TEXT_DARK,
        "checkbox_label_shadow": "none", "checkbox_border_color": EDGE, "checkbox_border_color_dark": EDGE_DARK,
        "checkbox_background_color_selected": ACCENT, "checkbox_background_color_selected_dark": PINE.c500,
        "checkbox_border_color_selected": ACCENT, "checkbox_border_color_selected_dark": ACCENT_DARK,
        "slider_color": ACCENT, "slider_color_dark": ACCENT_DARK,
    }  # fmt: skip


def _buttons() -> dict[str, str]:
    return {
        "button_border_width": "1px", "button_transition": "background-color 0.12s ease",
        "button_large_radius": "8px", "button_medium_radius": "8px", "button_small_radius": "8px",
        "button_large_text_weight": "700", "button_medium_text_weight": "700",
        "button_primary_background_fill": ACCENT, "button_primary_background_fill_dark": ACCENT_DARK,
        "button_primary_background_fill_hover": PINE.c700, "button_primary_background_fill_hover_dark": PINE.c200,
        "button_primary_border_color": ACCENT, "button_primary_border_color_dark": ACCENT_DARK,
        "button_primary_text_color": ON_ACCENT, "button_primary_text_color_dark": ON_ACCENT_DARK,
        "button_secondary_background_fill": CARD, "button_secondary_background_fill_dark": FIELD_DARK,
        "button_secondary_background_fill_hover": STONE.c100, "button_secondary_background_fill_hover_dark": STONE.c700,
        "button_secondary_border_color": EDGE, "button_secondary_border_color_dark": EDGE_DARK,
        "button_secondary_text_color": TEXT, "button_secondary_text_color_dark": TEXT_DARK,
        "button_cancel_background_fill": CARD, "button_cancel_background_fill_dark": CARD_DARK,
        "button_cancel_border_color": STOP, "button_cancel_border_color_dark": STOP_DARK,
        "button_cancel_text_color": STOP, "button_cancel_text_color_dark": STOP_DARK,
        "button_cancel_background_fill_hover": "#fbeeec", "button_cancel_background_fill_hover_dark": "#3a2422",
    }  # fmt: skip
