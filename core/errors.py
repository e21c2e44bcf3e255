"""Errors whose text is the sentence that a user reads.

Every error says what is wrong, with the value, and the way out. `exit_code` is the
command line's answer: 2 where the request was wrong, 1 where it failed while running.
"""


class PlaygroundError(Exception):
    """It failed while running; `str(e)` is one sentence for the user."""

    exit_code = 1


class RequestError(PlaygroundError):
    """The request itself is wrong; nothing was started."""

    exit_code = 2


class SettingError(RequestError):
    """A setting's value is unknown, of the wrong kind or out of range."""


class DataError(RequestError):
    """The preference data cannot be used."""


class ModelError(RequestError):
    """The base model is missing, unreadable or not supported."""


class AdapterError(RequestError):
    """The adapter is missing, damaged, or belongs to another base."""


class InertAdapter(AdapterError):
    """The adapter changes nothing that the base says."""


class BusyError(RequestError):
    """Something else is going on that excludes this."""


class JudgeError(PlaygroundError):
    """The judge answers no call any more; `reason` says why in a word: key_refused, quota, model or account."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class OutOfMemory(PlaygroundError):
    """The device has no room for what was asked."""


class NonFiniteLoss(PlaygroundError):
    """Training left the finite numbers."""


class EngineDied(PlaygroundError):
    """The engine process ended; the sentence names the cause."""


class Cancelled(PlaygroundError):
    """The user asked to stop."""
