"""A write that failed, in words: what is wrong with the disk, and what to do about it.

Every library that writes says it in its own way; some only in their text.
"""

import errno
import re

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
UNKNOWN = "The disk is full or cannot be written"
TORCH_SAVE = ("inline_container.cc", "PytorchStreamWriter", "iostream error")


NOT_WRITTEN = "{}, so this could not be saved. Put that right and try again."


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
