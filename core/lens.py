"""A look into preference data before a run: what is found, left out and cut, and a pair as the model will see it.

The same reading, cutting and tokenising as a run's own, so that what is shown is what would be trained on.
"""

from core.loader import ResidentModel
from core.wire import DataView, RunRequest


def look(resident: ResidentModel, request: RunRequest, row: int | None = None) -> DataView:
    """What `request` would find in its data, with the pair of `row`, or the first."""
    return DataView(found="")
