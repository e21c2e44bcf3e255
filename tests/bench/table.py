"""One line of the table of figures: what was measured, ours, theirs, how many times as good, and what it is held to."""

from collections.abc import Sequence
from dataclasses import dataclass

HEADINGS = ("what", "ours", "theirs", "ratio", "bar", "")


@dataclass(frozen=True)
class Row:
    """`is_good` is None where nothing is asked of the figure. A gate is about being right, not about being fast."""

    what: str
    ours: str
    theirs: str = ""
    ratio: str = ""
    bar: str = ""
    is_good: bool | None = None
    is_gate: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        verdict = {True: "pass", False: "**missed**", None: ""}[self.is_good]
        return (self.what, self.ours, self.theirs, self.ratio, self.bar, verdict)


def faster(what: str, ours: float, theirs: float, bar: float | None, unit: str = "s") -> Row:
    """Theirs over ours, which is to be at least `bar`."""
    return Row(
        what, f"{ours:,.3g} {unit}", f"{theirs:,.3g} {unit}", f"{theirs / ours:.2f}",
        f"at least {bar:g}" if bar else "", theirs >= bar * ours if bar else None,
    )  # fmt: skip


def within(what: str, ours: float, theirs: float, bar: float, unit: str = "s") -> Row:
    """Ours over theirs, which is to be at most `bar`."""
    return Row(
        what, f"{ours:,.3g} {unit}", f"{theirs:,.3g} {unit}", f"{ours / theirs:.2f}", f"at most {bar:g}",
        ours <= bar * theirs,
    )  # fmt: skip


def below(what: str, ours: float, bar: float, unit: str = "s") -> Row:
    """Ours alone, which is to be at most `bar`."""
    return Row(what, f"{ours:,.3g} {unit}", bar=f"at most {bar:g} {unit}", is_good=ours <= bar)


def gate(what: str, ours: str, theirs: str, bar: str, is_good: bool) -> Row:
    return Row(what, ours, theirs, "", bar, is_good, is_gate=True)


def as_markdown(rows: Sequence[Row]) -> str:
    """The rows as a table that a README can carry."""
    cells = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
