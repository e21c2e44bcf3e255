"""A write that failed, in words: what is wrong with the disk, what to do about it, and room to say so.

Every library that writes says it in its own way; some only in their text.
"""

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path

REASONS = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "Your share of the disk is used up",
    errno.EFBIG: "A file has reached the size that is allowed here",
    errno.EACCES: "The folder may not be written",
    errno.EPERM: "The folder may not be written",
    errno.EROFS: "The disk can only be read",
    errno.EIO: "The disk failed",
}
# safetensors keeps the system's number in its text, torch.save none at all.
NUMBER = re.compile(r"\(os error (\d+)\)")
NOT_WRITTEN = "{}, so this could not be saved. Put that right and try again."
UNKNOWN = "The disk is full or cannot be written"
# For a run's last word, should the disk be full to the last byte by then.
ROOM = ".room.new"
ROOM_BYTES = 64 * 1024
TORCH_SAVE = ("inline_container.cc", "PytorchStreamWriter", "iostream error")


def is_full(error: BaseException) -> bool:
    """Whether less on the disk would put it right."""
    return reason(error) in (REASONS[errno.ENOSPC], REASONS[errno.EDQUOT], UNKNOWN)


def sentence(error: BaseException) -> str:
    """What a user reads of a write that failed; empty where the error is none of the disk's."""
    found = reason(error)
    return NOT_WRITTEN.format(found) if found else ""


def reason(error: BaseException) -> str:
    """The start of a sentence for the user; empty where the error is none of the disk's."""
    if isinstance(error, OSError):
        return REASONS.get(error.errno or 0, "")
    found = NUMBER.search(str(error))
    if found:
        return REASONS.get(int(found[1]), "")
    return UNKNOWN if any(word in str(error) for word in TORCH_SAVE) else ""


def keep_room(folder: Path) -> None:
    """Take some room in a run's folder, where there is any; `sweep` frees it."""
    with contextlib.suppress(OSError):
        (folder / ROOM).mkdir(exist_ok=True)
        # What a disk that compresses cannot make smaller.
        (folder / ROOM / "room").write_bytes(os.urandom(ROOM_BYTES))


def sweep(folder: Path) -> None:
    """Remove what a failed or killed write left aside in a run's folder, and the room that was kept."""
    for aside in (*folder.glob(".*.new"), *folder.glob("checkpoints/.*.new")):
        shutil.rmtree(aside, ignore_errors=True)
