"""Whether a person and the judge, asked about the same items, say the same.

Knows nothing of items or rulings, only of the outcomes on both sides; scikit-learn is imported only where it is used.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from core.stats import Interval, Outcome

# Rows and columns of the table. A flip says that neither is better, as a tie does.
PLACE = {Outcome.WIN: 0, Outcome.TIE: 1, Outcome.FLIP: 1, Outcome.LOSS: 2}
# Enough for the interval's second decimal; seeded, so that the same pairs have the same interval at every look.
RESAMPLES, RESAMPLE_SEED = 2_000, 1


@dataclass(frozen=True)
class Agreement:
    """Person against judge on the n pairs that both gave a verdict on.

    `table`: a row for what the person said (win, tie, loss of tuned), a column for what the judge said. `raw`: the
    share of equal verdicts. `kappa`: Cohen's; None, its interval too, where both gave one and the same verdict alone.
    """

    n: int
    table: tuple[tuple[int, ...], ...]
    raw: Interval | None
    kappa: float | None
    kappa_low: float | None
    kappa_high: float | None


def agreement(pairs: Sequence[tuple[Outcome, Outcome]]) -> Agreement:
    """The person's and the judge's outcomes of each item, held against each other.

    Kappa is agreement beyond what two independent raters of these habits would have: Cohen, "A Coefficient of
    Agreement for Nominal Scales", Educational and Psychological Measurement 20 (1960).
    """
    both = [(PLACE[person], PLACE[judge]) for person, judge in pairs if person in PLACE and judge in PLACE]
    count = Counter(both)
    table = tuple(tuple(count[row, column] for column in range(3)) for row in range(3))
    raw = Interval.of(sum(row == column for row, column in both), len(both)) if both else None
    if len({place for pair in both for place in pair}) < 2:
        return Agreement(len(both), table, raw, None, None, None)
    from sklearn.metrics import cohen_kappa_score

    return Agreement(len(both), table, raw, float(cohen_kappa_score(*zip(*both, strict=True))), *_interval(table))


def _interval(table: tuple[tuple[int, ...], ...]) -> tuple[float, float]:
    """Kappa's 95 % percentile bootstrap over pairs: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993).

    Drawing pairs anew is drawing their table anew. Kappa is written out, since scikit-learn takes 2 s for so many
    tables; those that leave it without a value (one verdict alone) are left out.
    """
    import numpy as np

    counts = np.array(table)
    n = counts.sum()
    draw = np.random.default_rng(RESAMPLE_SEED).multinomial(n, counts.ravel() / n, RESAMPLES).reshape(-1, 3, 3)
    observed = n * np.trace(draw, axis1=1, axis2=2)
    by_chance = (draw.sum(axis=1) * draw.sum(axis=2)).sum(axis=1)
    is_valued = by_chance < n * n
    kappas = (observed - by_chance)[is_valued] / (n * n - by_chance)[is_valued]
    low, high = np.percentile(kappas, [2.5, 97.5])
    return float(low), float(high)
