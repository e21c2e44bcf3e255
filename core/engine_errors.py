"""What the engine says of an error that no request foresaw; the details go to its log."""

import logging
import uuid

from core import device, disk
from core.errors import OutOfMemory, PlaygroundError

log = logging.getLogger(__name__)

UNEXPECTED = "Something unexpected went wrong ({}). The engine's log holds the details under {}."
NO_ROOM = "There is not enough memory for this. Close other programs, or choose a smaller base."


def in_words(error: Exception) -> PlaygroundError:
    """To be called where the error is being handled."""
    if device.is_out_of_memory(error):
        return OutOfMemory(NO_ROOM)
    if said := disk.sentence(error):
        return PlaygroundError(said)
    mark = uuid.uuid4().hex[:8]
    log.exception("%s", mark)
    return PlaygroundError(UNEXPECTED.format(type(error).__name__, mark))
