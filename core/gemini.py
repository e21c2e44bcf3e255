"""Gemini under one key: one structured question, asked until it is answered, refused or out of time.

Knows nothing of what is being judged. The SDK neither retries nor heeds the server's hints, so both are done here;
the key goes into the request's header and nowhere else, and no error of the SDK leaves this file.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any
from urllib.parse import urlsplit

from core.errors import JudgeError, RequestError
from core.gemini_wire import Failure, Reason, Schema, Stop, Unreadable, bounded_client, read, refusal
from core.pacing import SLICE_S, Pace, stop_if
from core.settings import JUDGE

MAX_OUTPUT_TOKENS = 8192
# Low, since thinking is billed as output and observations come first anyway. Older families know no levels.
THINKS_BY_LEVEL = "gemini-3"
# Asked again, they would come out the same.
FINAL = {Reason.BLOCKED, Reason.TRUNCATED, Reason.BAD_REQUEST}
TROUBLES = {Reason.SERVER_ERROR, Reason.TIMEOUT, Reason.OFFLINE}
# A malformed verdict is asked for once more: what fails twice fails again, and each try is billed.
MAX_INVALID = 2
# A call as a whole, in time-outs of each of its parts.
TIMEOUTS_A_CALL = 3
FIRST_BACKOFF_S, MAX_BACKOFF_S, MAX_DOUBLINGS = 1.0, 30.0, 10

NO_KEY = (
    "There is no Gemini key. Make one at aistudio.google.com/apikey and write GEMINI_API_KEY=... into .env; "
    "without it you can still vote yourself."
)
KEPT = "What is judged so far is kept."
SENTENCES = {
    Stop.KEY_REFUSED: f"Gemini refuses the key. Check GEMINI_API_KEY in .env. {KEPT}",
    Stop.MODEL: f"Gemini has no model named '{{model}}' for this key. Choose another judge model. {KEPT}",
    Stop.ACCOUNT: f"Gemini does not serve this key's account (its region or its billing). {KEPT}",
    Stop.QUOTA: f"Gemini's quota for the day is used up. {KEPT} Go on tomorrow, or with another key.",
}


class Gemini:
    """A client of one model under one key, for any number of threads; RequestError where either cannot be used.

    `clock`, `sleep` and `draw` are for tests.
    """

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
        if not key:
            raise RequestError(NO_KEY)
        self.model = model
        self.pace = Pace(JUDGE["judge_rate_per_s"].default, clock, sleep)
        self._timeout_s = timeout_s
        self._key, self._base_url = key, _checked_url(base_url)
        self._clock, self._draw = clock, draw
        self._lock = threading.Lock()
        self._client: Any = None
        self._stop: Stop | None = None

    def deadline(self) -> float:
        """When, by this client's clock, a verdict that is begun now is given up."""
        return self.pace.deadline(JUDGE["judge_total_wait_s"].default)

    def ask(
        self, rules: str, question: str, schema: type[Schema], deadline: float, is_cancelled: Callable[[], bool]
    ) -> Schema | Failure:
        """The model's answer in `schema`, or why there is none. JudgeError where no call can succeed, on any thread."""

        def check() -> None:
            stop_if(is_cancelled)
            if self._stop:
                raise self._no_more(self._stop)

        # Before its turn: threads that wait for a connection together would all go out at once.
        self._connected()
        reply: Schema | Failure | Stop = Failure(Reason.RATE_LIMITED)
        tries: Counter[Reason] = Counter()
        not_before = float("-inf")
        while self.pace.is_passed(deadline, check, not_before):
            reply = self._asked_once(rules, question, schema, is_cancelled)
            self._tell_pace(reply)
            if not isinstance(reply, Failure):
                break
            tries[reply.reason] += 1
            if _is_given_up(reply.reason, tries):
                break
            not_before = self._clock() + (0 if reply.hint_s else self._backoff_s(tries[reply.reason]))
        if isinstance(reply, Stop):
            self._stop = reply
            raise self._no_more(reply)
        return reply

    def _no_more(self, stop: Stop) -> JudgeError:
        return JudgeError(SENTENCES[stop].format(model=self.model), stop.value)

    def _tell_pace(self, reply: object) -> None:
        match reply:
            case Failure(Reason.RATE_LIMITED, hint_s):
                self.pace.refused(hint_s)
            case Failure(reason, hint_s) if reason in TROUBLES:
                self.pace.failed(hint_s)
            case _:
                self.pace.answered()

    def _backoff_s(self, tries: int) -> float:
        """Full jitter: anything between nothing and a ceiling that doubles with each try."""
        return self._draw() * min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(tries, MAX_DOUBLINGS))

    def _asked_once(
        self, rules: str, question: str, schema: type[Schema], is_cancelled: Callable[[], bool]
    ) -> Schema | Failure | Stop:
        """`_ask_once` on a thread of its own: nobody sits out a server that stalls, or one that drips its headers."""
        answer: Future[Schema | Failure | Stop] = Future()

        def run() -> None:
            try:
                answer.set_result(self._ask_once(rules, question, schema))
            except BaseException as error:
                # A thread's edge: raised again where it is waited for.
                answer.set_exception(error)

        threading.Thread(target=run, daemon=True, name="gemini").start()
        # Connecting, sending and each read have the whole time-out for themselves.
        until = time.monotonic() + self._timeout_s * TIMEOUTS_A_CALL
        while not wait([answer], SLICE_S).done:
            stop_if(is_cancelled)
            if time.monotonic() > until:
                return Failure(Reason.TIMEOUT)
        return answer.result()

    def _ask_once(self, rules: str, question: str, schema: type[Schema]) -> Schema | Failure | Stop:
        import httpx2
        from google.genai import errors, types

        thinking = types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW)
        config = types.GenerateContentConfig(
            system_instruction=rules,
            response_mime_type="application/json",
            response_schema=schema,
            max_output_tokens=MAX_OUTPUT_TOKENS,
            thinking_config=thinking if self.model.startswith(THINKS_BY_LEVEL) else None,
        )
        try:
            reply = self._connected().models.generate_content(model=self.model, contents=question, config=config)
            return read(reply, schema)
        except errors.APIError as error:
            return refusal(error)
        except Unreadable as error:
            return Failure(error.reason)
        except httpx2.TimeoutException:
            return Failure(Reason.TIMEOUT)
        except httpx2.HTTPError:
            return Failure(Reason.OFFLINE)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            # The SDK trips over replies of an unexpected shape in all of these ways.
            return Failure(Reason.INVALID)

    def _connected(self) -> Any:
        """The SDK's client, made at the first call and kept: it closes its connections when it is forgotten."""
        with self._lock:
            if self._client is None:
                from google import genai
                from google.genai import types

                options = types.HttpOptions(
                    base_url=self._base_url,
                    timeout=round(self._timeout_s * 1000),
                    httpx_client=bounded_client(self._timeout_s),
                    retry_options=types.HttpRetryOptions(attempts=1),
                )
                self._client = genai.Client(api_key=self._key, vertexai=False, http_options=options)
            return self._client


def _is_given_up(reason: Reason, tries: Counter[Reason]) -> bool:
    """A 429 uses up no attempt."""
    used = tries.total() - tries[Reason.RATE_LIMITED]
    attempts = JUDGE["judge_attempts"].default
    return reason in FINAL or used >= attempts or tries[Reason.INVALID] >= MAX_INVALID


def _checked_url(url: str | None) -> str | None:
    """The judge's address; RequestError where the key would travel unencrypted, or nowhere."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    is_local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and is_local)):
        return url
    raise RequestError("GOOGLE_GEMINI_BASE_URL must be an https:// address (or http:// on this machine). Correct it.")
