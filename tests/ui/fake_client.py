"""A client without an engine that remembers what it was asked, and says what it is told to say."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from core import paths, runs
from core.client import BaseCard, EnginePhase, EngineState, RunPlan, RunRequest
from core.settings import Method
from core.wire import DataView, Merged

STARTER = BaseCard(
    name=paths.STARTER_NAME, label="SmolLM2-135M-Instruct", size_bytes=538_000_000, num_parameters=134_515_008,
    fit="fits", sentence="It fits.",
)  # fmt: skip
MISTRAL = BaseCard(
    name="mistralai/Mistral-7B-Instruct-v0.3", label="Mistral-7B-Instruct-v0.3", size_bytes=14_500_000_000,
    num_parameters=7_248_023_552, fit="won't fit", sentence="It won't fit.",
)  # fmt: skip

READY = EngineState(
    phase=EnginePhase.READY, message="Ready", base=STARTER.name, device="cpu", dtype="float32",
    reason="this processor has no fast half precision", num_parameters=STARTER.num_parameters, memory_bytes=540_000_000,
)  # fmt: skip

PLAN = RunPlan(
    method="dpo", base=STARTER.name, pairs=120, held_out=40, left_out={}, steps=60, batch=4, duration_s=240.0,
    memory_bytes=2_100_000_000, memory_limit=8_000_000_000, fit="fits", download_bytes=0, sentence="",
)  # fmt: skip


DATA = DataView(
    found="160 pairs with the columns prompt, chosen and rejected.", num_rows=160, train_rows=tuple(range(1, 121)),
    held_out_rows=tuple(range(121, 161)), prompt_lengths=(40,) * 160, chosen_lengths=(60,) * 160,
    rejected_lengths=(80,) * 160, sha256="0" * 64,
)  # fmt: skip


class FakeClient:
    """`asked` is what it was asked, in order; `refusal`, where set, is raised instead of an answer."""

    def __init__(self, state: EngineState = READY) -> None:
        self.now = state
        self.asked: list[tuple[str, Any]] = []
        self.refusal: Exception | None = None
        self.plan = PLAN
        self.data = DATA

    def __getattr__(self, verb: str) -> Callable[..., None]:
        """stop_run, pause_run, resume_run and whatever else only has to be heard."""
        return lambda *args: self._hear(verb, *args)

    def _hear(self, verb: str, *args: Any) -> None:
        self.asked.append((verb, *args) if args else (verb,))
        if self.refusal is not None:
            raise self.refusal

    def state(self) -> EngineState:
        return self.now

    def list_bases(self) -> list[BaseCard]:
        return [STARTER, MISTRAL]

    def preview(self, request: RunRequest) -> RunPlan:
        self._hear("preview", request)
        return replace(self.plan, method=request.method, base=request.model or self.now.base)

    def look_at_data(self, request: RunRequest, row: int | None = None) -> DataView:
        self._hear("look_at_data", request, row)
        return self.data

    def merge(self, adapter: str, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Merged:
        self._hear("merge", adapter)
        return Merged(str(paths.home() / "models" / "merged" / adapter), 0.0, "It answers alike.")

    def start_run(self, request: RunRequest) -> str:
        self._hear("start_run", request)
        run = runs.create(Method(request.method), base=self.now.base, dataset=request.dataset, steps=60)
        return run.name
