"""What may come back over Gemini's wire, and what each of it means for this call and the next.

Knows nothing of waiting or asking again. The SDK raises for some failures and is silent about others; here they all
become a `Failure` of this one call or a `Stop` of all of them.
"""

import contextlib
import json
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel

Schema = TypeVar("Schema", bound=BaseModel)

MAX_REPLY_BYTES = 4 * 2**20
MAX_HINT_S = 86_400.0
DAILY = re.compile(r"per\s?day|daily", re.IGNORECASE)
FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.IGNORECASE | re.DOTALL)
FINISHED_WELL = ("", "STOP", "FINISH_REASON_UNSPECIFIED")


class Reason(StrEnum):
    """Why one call gave no verdict."""

    BLOCKED = "blocked"
    TRUNCATED = "truncated"
    INVALID = "invalid"
    BAD_REQUEST = "bad_request"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    OFFLINE = "offline"


class Stop(StrEnum):
    """Why no further call can succeed."""

    KEY_REFUSED = "key_refused"
    QUOTA = "quota"
    MODEL = "model"
    ACCOUNT = "account"


@dataclass(frozen=True)
class Failure:
    """`hint_s`: for how long the server would have no further call."""

    reason: Reason
    hint_s: float = 0.0


class Unreadable(Exception):
    """What came back is no reply at all: too large, too slow, or not a JSON object."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def read(reply: Any, schema: type[Schema]) -> Schema | Failure:
    """The parsed answer, or what stands in its way: the SDK raises for none of these."""
    if reply.prompt_feedback and reply.prompt_feedback.block_reason:
        return Failure(Reason.BLOCKED)
    finish = reply.candidates[0].finish_reason if reply.candidates else None
    finish = str(finish.value if finish else "").upper()
    if finish not in FINISHED_WELL:
        return Failure(Reason.TRUNCATED if finish == "MAX_TOKENS" else Reason.BLOCKED)
    if isinstance(reply.parsed, schema):
        return reply.parsed
    return _unfenced(reply.text or "", schema) or Failure(Reason.INVALID)


def _unfenced(text: str, schema: type[Schema]) -> Schema | None:
    """An answer that is well-formed but for the code fence around it."""
    match = FENCED.fullmatch(text)
    if match:
        with contextlib.suppress(ValueError):
            return schema.model_validate_json(match[1])
    return None


def refusal(error: Any) -> Stop | Failure:
    """What an error status means: for this call alone, or for all of them."""
    details = _details(error)
    hint_s = min(MAX_HINT_S, max(_retry_after_s(error), _retry_info_s(details)))
    if error.code == 429:
        is_daily = DAILY.search(f"{error.message} {json.dumps(details)}") is not None
        return Stop.QUOTA if is_daily else Failure(Reason.RATE_LIMITED, hint_s)
    if error.code in (401, 403) or "API_KEY_INVALID" in json.dumps(details):
        return Stop.KEY_REFUSED
    if error.code == 404:
        return Stop.MODEL
    if error.status == "FAILED_PRECONDITION":
        return Stop.ACCOUNT
    is_request_wrong = 400 <= error.code < 500 and error.code not in (408, 409)
    return Failure(Reason.BAD_REQUEST if is_request_wrong else Reason.SERVER_ERROR, hint_s)


def _details(error: Any) -> list[Any]:
    """The error's details, as the wire has them: a list of typed objects; anything else counts as none."""
    body = error.details if isinstance(error.details, dict) else {}
    inner = body.get("error")
    details = inner.get("details") if isinstance(inner, dict) else None
    return details if isinstance(details, list) else []


def _retry_after_s(error: Any) -> float:
    """The Retry-After header, as seconds or as a date; 0 where there is none."""
    text = str(error.response.headers.get("retry-after", "")) if error.response is not None else ""
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0


def _retry_info_s(details: list[Any]) -> float:
    """google.rpc.RetryInfo's delay, written like "17s" or "1.5s"; 0 where there is none."""
    delays = [0.0]
    for detail in details:
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            with contextlib.suppress(ValueError):
                delays.append(float(str(detail.get("retryDelay", "")).removesuffix("s")))
    return max(delays)


def bounded_client(timeout_s: float) -> Any:
    """An HTTP client whose replies are JSON objects of bounded size, read in bounded time.

    It takes no proxy and no credentials from the environment, and follows no redirect: that would carry the key along.
    """
    import httpx2

    class BoundedClient(httpx2.Client):
        def send(self, request: Any, **options: Any) -> Any:
            started = time.monotonic()
            streamed = super().send(request, **{**options, "stream": True})
            try:
                body = bytearray()
                for piece in streamed.iter_bytes():
                    body += piece
                    if len(body) > MAX_REPLY_BYTES:
                        raise Unreadable(Reason.INVALID)
                    if time.monotonic() - started > timeout_s:
                        raise Unreadable(Reason.TIMEOUT)
            finally:
                streamed.close()
            headers = {name: value for name, value in streamed.headers.items() if name == "retry-after"}
            content = _json_object(bytes(body), streamed.status_code)
            return httpx2.Response(streamed.status_code, headers=headers, content=content, request=request)

    return BoundedClient(trust_env=False, follow_redirects=False, timeout=timeout_s)


def _json_object(body: bytes, status: int) -> bytes:
    """The body where it is a JSON object. An error's may be anything: its status says enough."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(body)
        if isinstance(value, list) and len(value) == 1 and status != 200:
            value = value[0]
        if isinstance(value, dict):
            return json.dumps(value).encode()
    if status != 200:
        return b"{}"
    raise Unreadable(Reason.INVALID)
