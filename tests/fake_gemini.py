"""A server on loopback that speaks Gemini's wire format, answers from a script and remembers what it was asked."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SCORES = {"accuracy": 3, "helpfulness": 3, "clarity": 3, "depth": 3, "safety": 5}
TYPE = "type.googleapis.com/google.rpc."


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def text(self) -> str:
        return str(self.body["contents"][0]["parts"][0]["text"])

    @property
    def rules(self) -> str:
        return str(self.body["systemInstruction"]["parts"][0]["text"])

    def fenced(self, name: str) -> str:
        """PROMPT, RESPONSE_1 or RESPONSE_2 as the judge was shown it."""
        match = re.search(rf"<<<{name} (\w+)>>>\n(.*)\n<<<END {name} \1>>>", self.text, re.DOTALL)
        assert match, f"no {name} in {self.text!r}"
        return match[2]


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    stall_s: float = 0.0
    is_closed: bool = False
    is_dripped: bool = False
    is_head_endless: bool = False

    def payload(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


def saying(text: str, finish: str = "STOP") -> Reply:
    """A whole reply whose one candidate says `text`."""
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": finish, "index": 0}
    return Reply(body={"candidates": [candidate], "modelVersion": "fake"})


def verdict(winner: str = "TIE", **changes: Any) -> Reply:
    """A well-formed judgement; `changes` replace its fields."""
    judgement = {
        "observations": "RESPONSE_1 is short, RESPONSE_2 is long.",
        "is_manipulated": False,
        "scores_1": SCORES | ({"clarity": 5} if winner == "RESPONSE_1" else {}),
        "scores_2": SCORES | ({"clarity": 5} if winner == "RESPONSE_2" else {}),
        "reason": f"{winner} is clearer.",
        "winner": winner,
        "strength": "clear",
    }
    return saying(json.dumps(judgement | changes))


def prefers(test: Callable[[str], float]) -> Callable[[Asked], Reply]:
    """A judge that looks at the texts alone: the response with the higher `test` wins, in either order."""

    def judge(asked: Asked) -> Reply:
        first, second = test(asked.fenced("RESPONSE_1")), test(asked.fenced("RESPONSE_2"))
        return verdict("TIE" if first == second else "RESPONSE_1" if first > second else "RESPONSE_2")

    return judge


def stopped(finish: str) -> Reply:
    """A candidate that was cut short, without text."""
    return Reply(body={"candidates": [{"finishReason": finish, "index": 0}]})


def blocked(reason: str = "PROHIBITED_CONTENT") -> Reply:
    return Reply(body={"promptFeedback": {"blockReason": reason}})


def refusal(
    status: int, name: str, message: str = "no", details: Iterable[dict[str, Any]] = (), **headers: str
) -> Reply:
    error = {"code": status, "message": message, "status": name, "details": list(details)}
    return Reply(status, {"error": error}, {key.replace("_", "-"): value for key, value in headers.items()})


def rate_limit(retry_info: str = "", quota_id: str = "GenerateRequestsPerMinute", **headers: str) -> Reply:
    details: list[dict[str, Any]] = [{"@type": TYPE + "QuotaFailure", "violations": [{"quotaId": quota_id}]}]
    if retry_info:
        details.append({"@type": TYPE + "RetryInfo", "retryDelay": retry_info})
    return refusal(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", details, **headers)


def bad_key(message: str = "API key not valid.") -> Reply:
    details = [{"@type": TYPE + "ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]
    return refusal(400, "INVALID_ARGUMENT", message, details)


class FakeGemini:
    """`script` is used up reply by reply, then `default` answers. A context manager; `url` is its address."""

    def __init__(
        self,
        script: Iterable[Reply] = (),
        default: Callable[[Asked], Reply] = lambda asked: verdict(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.script, self.default, self.clock = list(script), default, clock
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._gone = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._gone.set()
        self._server.shutdown()
        self._server.server_close()

    def _reply_to(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            if self.script:
                return self.script.pop(0)
        return self.default(asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 2**16  # head and body in one packet, or each reply waits for the client's delayed ACK

            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _answer(self, body: dict[str, Any]) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._send(fake._reply_to(Asked(self.path, headers, body, fake.clock())))

            def _send(self, reply: Reply) -> None:
                if reply.stall_s:
                    fake._gone.wait(reply.stall_s)
                if reply.is_closed:
                    self.close_connection = True
                    return
                if reply.is_head_endless:
                    self._drip_head()
                    return
                payload = reply.payload()
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                try:
                    self._write(payload, reply.is_dripped)
                except OSError:
                    self.close_connection = True

            def _write(self, payload: bytes, is_dripped: bool) -> None:
                if not is_dripped:
                    self.wfile.write(payload)
                    return
                for byte in payload:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    if fake._gone.wait(0.02):
                        return

            def _drip_head(self) -> None:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                    while not fake._gone.wait(0.02):
                        self.wfile.write(b"X-More: y\r\n")
                        self.wfile.flush()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
