"""Gemini's wire: one structured question, asked until it is answered, refused or out of time.

Knows nothing of what is being judged. The SDK neither retries nor heeds the server's hints, so both are done here;
the key goes into the request's header and nowhere else, and no error of the SDK leaves this file.
"""

import contextlib
import json
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel

from core.errors import Cancelled, JudgeError
from core.settings import JUDGE

Schema = TypeVar("Schema", bound=BaseModel)

MAX_OUTPUT_TOKENS = 8192
MAX_REPLY_BYTES = 4 * 2**20
# A malformed verdict is asked for once more: what fails twice fails again, and each try is billed.
MAX_INVALID = 2
FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 30.0
MAX_HINT_S = 86_400.0
DAILY = re.compile(r"per\s?day|daily", re.IGNORECASE)
# Waits are cut into slices, so that Stop is heard.
SLICE_S = 0.25

NO_KEY = (
    "There is no Gemini key. Make one at aistudio.google.com/apikey and write GEMINI_API_KEY=... into .env; "
    "without it you can still vote yourself."
)


class Reason(StrEnum):
    """Why there is no verdict."""

    BLOCKED = "blocked"
    SAFETY = "safety"
    RECITATION = "recitation"
    TRUNCATED = "truncated"
    UNFINISHED = "unfinished"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    BAD_REQUEST = "bad_request"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    OFFLINE = "offline"


class Retry(StrEnum):
    """What a failure uses up: nothing is tried again after `NEVER`, and `FREE` costs only time."""

    NEVER = "never"
    COUNTED = "counted"
    ONCE = "once"
    FREE = "free"


@dataclass(frozen=True)
class Failure:
    reason: Reason
    retry: Retry = Retry.NEVER
    hint_s: float = 0.0


class Unreadable(Exception):
    """What came back is no reply at all: too large, too slow, or not a JSON object."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason.value)
        self.failure = failure


FINISHED_BADLY = {
    "MAX_TOKENS": Reason.TRUNCATED,
    "SAFETY": Reason.SAFETY,
    "PROHIBITED_CONTENT": Reason.SAFETY,
    "BLOCKLIST": Reason.SAFETY,
    "SPII": Reason.SAFETY,
    "RECITATION": Reason.RECITATION,
}
FINISHED_WELL = ("", "STOP", "FINISH_REASON_UNSPECIFIED")


class Gate:
    """Holds back every call of one judge, on any thread, until the server's hint has passed."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._opens_at = float("-inf")

    def hold(self, seconds: float) -> None:
        with self._lock:
            self._opens_at = max(self._opens_at, self._clock() + seconds)

    def is_passed(self, deadline: float, is_cancelled: Callable[[], bool]) -> bool:
        """Wait until calls may go out; False at once where that is after `deadline`. Cancelled where asked to stop."""
        while not is_cancelled():
            with self._lock:
                opens_at = self._opens_at
            left = opens_at - self._clock()
            if left <= 0:
                return self._clock() < deadline
            if opens_at >= deadline:
                return False
            self._sleep(min(left, SLICE_S))
        raise Cancelled("Judging was stopped. What is judged is kept.")


class Gemini:
    """A client of one model under one key. `clock` and `sleep` are seconds, and a test's to replace."""

    def __init__(
        self,
        key: str,
        model: str,
        base_url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
        timeout_s: float = JUDGE["judge_timeout_s"].default,
    ) -> None:
        self.model = model
        self._timeout_s = timeout_s
        self._key, self._base_url = key, base_url
        self._clock, self._draw = clock, draw
        self._gate = Gate(clock, sleep)
        self._lock = threading.Lock()
        self._client: Any = None

    def deadline(self) -> float:
        """When, by this client's clock, a verdict that is begun now is given up."""
        return self._clock() + float(JUDGE["judge_total_wait_s"].default)

    def ask(
        self, rules: str, question: str, schema: type[Schema], deadline: float, is_cancelled: Callable[[], bool]
    ) -> Schema | Failure:
        """The model's answer in `schema`, or why there is none. JudgeError where no call can succeed."""
        failure = Failure(Reason.RATE_LIMITED)
        used = {Retry.COUNTED: 0, Retry.ONCE: 0, Retry.FREE: 0}
        allowed = {Retry.COUNTED: JUDGE["judge_attempts"].default, Retry.ONCE: MAX_INVALID, Retry.FREE: float("inf")}
        while self._gate.is_passed(deadline, is_cancelled):
            reply = self._ask_once(rules, question, schema)
            if not isinstance(reply, Failure) or reply.retry is Retry.NEVER:
                return reply
            failure = reply
            used[reply.retry] += 1
            if reply.hint_s:
                self._gate.hold(reply.hint_s)
            if used[reply.retry] >= allowed[reply.retry]:
                break
            if not reply.hint_s:
                self._gate.hold(self._backoff_s(used[reply.retry]))
        return failure

    def _backoff_s(self, tries: int) -> float:
        """Full jitter: anything between nothing and a ceiling that doubles with each try."""
        return self._draw() * min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0**tries)

    def _ask_once(self, rules: str, question: str, schema: type[Schema]) -> Schema | Failure:
        import httpx2
        from google.genai import errors, types

        config = types.GenerateContentConfig(
            system_instruction=rules,
            response_mime_type="application/json",
            response_schema=schema,
            max_output_tokens=MAX_OUTPUT_TOKENS,
        )
        client = self._connected()
        refused: JudgeError | Failure
        try:
            return _read(client.models.generate_content(model=self.model, contents=question, config=config), schema)
        except errors.APIError as error:
            refused = self._refusal(error)
        except Unreadable as error:
            refused = error.failure
        except httpx2.TimeoutException:
            refused = Failure(Reason.TIMEOUT, Retry.COUNTED)
        except httpx2.HTTPError:
            refused = Failure(Reason.OFFLINE, Retry.COUNTED)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            # The SDK trips over replies of an unexpected shape in all of these ways.
            refused = Failure(Reason.INVALID, Retry.ONCE)
        if isinstance(refused, JudgeError):
            # Raised out here, so that no exception that knows the request, key included, hangs on to it.
            raise refused
        return refused

    def _connected(self) -> Any:
        """The SDK's client, made at the first call and kept: it closes its connections when it is forgotten."""
        with self._lock:
            if self._client is None:
                from google import genai
                from google.genai import types

                options = types.HttpOptions(
                    base_url=self._base_url,
                    timeout=round(self._timeout_s * 1000),
                    httpx_client=_bounded_client(self._timeout_s),
                    retry_options=types.HttpRetryOptions(attempts=1),
                )
                self._client = genai.Client(api_key=self._key, vertexai=False, http_options=options)
            return self._client

    def _refusal(self, error: Any) -> JudgeError | Failure:
        """What an error status means: for this call alone, or for all of them."""
        details = _details(error)
        hint_s = min(MAX_HINT_S, max(_retry_after_s(error), _retry_info_s(details)))
        if error.code == 429:
            is_daily = DAILY.search(f"{error.message} {json.dumps(details)}") is not None
            return self._no_more("daily_quota") if is_daily else Failure(Reason.RATE_LIMITED, Retry.FREE, hint_s)
        if error.code >= 500 or error.code in (408, 409):
            return Failure(Reason.SERVER_ERROR, Retry.COUNTED, hint_s)
        if error.code in (401, 403) or "API_KEY_INVALID" in json.dumps(details):
            return self._no_more("key")
        if error.code == 404:
            return self._no_more("model")
        if error.status == "FAILED_PRECONDITION":
            return self._no_more("account")
        return Failure(Reason.BAD_REQUEST) if error.code >= 400 else Failure(Reason.SERVER_ERROR, Retry.COUNTED, hint_s)

    def _no_more(self, why: str) -> JudgeError:
        kept = "What is judged so far is kept."
        sentences = {
            "key": f"Gemini refuses the key. Check GEMINI_API_KEY in .env. {kept}",
            "model": f"Gemini has no model named '{self.model}' for this key. Choose another judge model. {kept}",
            "account": f"Gemini does not serve this key's account (its region or its billing). {kept}",
            "daily_quota": f"Gemini's quota for the day is used up. {kept} Go on tomorrow, or with another key.",
        }
        return JudgeError(sentences[why])


def _read(reply: Any, schema: type[Schema]) -> Schema | Failure:
    """The parsed answer, or what stands in its way: the SDK raises for none of these."""
    if reply.prompt_feedback and reply.prompt_feedback.block_reason:
        return Failure(Reason.BLOCKED)
    finish = reply.candidates[0].finish_reason if reply.candidates else None
    finish = str(finish.value if finish else "").upper()
    if finish not in FINISHED_WELL:
        return Failure(FINISHED_BADLY.get(finish, Reason.UNFINISHED))
    return reply.parsed if isinstance(reply.parsed, schema) else Failure(Reason.INVALID, Retry.ONCE)


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


def _bounded_client(timeout_s: float) -> Any:
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
                        raise Unreadable(Failure(Reason.TOO_LARGE))
                    if time.monotonic() - started > timeout_s:
                        raise Unreadable(Failure(Reason.TIMEOUT, Retry.COUNTED))
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
    raise Unreadable(Failure(Reason.INVALID, Retry.COUNTED))
