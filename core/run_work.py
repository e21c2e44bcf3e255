"""What a run has to do, read back from its own folder and checked against what it was made for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import checkpoints, preferences, run_request, runs
from core.errors import AdapterError, DataError, ModelError, RequestError
from core.loader import BASE, ResidentModel
from core.preferences import PreferenceData
from core.settings import Method, Settings, checked_pinned, parse_method, size_of

CHANGED = "The run '{}' was trained with {} {} so far, and now it would be {}. Put that back, or start a new run."
# Of run.yaml, what a checkpoint depends on besides settings and versions. An adapter may have been renamed since.
KEPT = ("method", "base_fingerprint", "data_sha256", "from_adapter_sha256")


@dataclass(frozen=True)
class Work:
    """Everything that `runner.execute` needs to know of a run."""

    method: Method
    settings: Settings
    data: PreferenceData
    from_adapter: str
    is_trait_counted: bool
    pinned: tuple[str, ...]
    config: dict[str, Any]

    @property
    def reference(self) -> str:
        """The contender that DPO holds its policy to; none for SFT."""
        return (self.from_adapter or BASE) if self.method is Method.DPO else ""

    @property
    def made_of(self) -> dict[str, Any]:
        """What its checkpoints are trained with, by name."""
        kept = {name: str(self.config.get(name, "")) for name in KEPT}
        return kept | self.settings.as_dict(self.method) | run_request.versions()


def read(resident: ResidentModel, folder: Path) -> Work:
    """The run's own files; RequestError where they are no longer what the run was started with."""
    config = runs.read_config(folder / "run.yaml")
    if config.get("base_fingerprint") != resident.fingerprint:
        raise ModelError(f"This run was started on {config.get('model')}, and {resident.name} is loaded.")
    data = preferences.read_snapshot(folder / run_request.DATA_FILE)
    if data.sha256 != config.get("data_sha256"):
        raise DataError("The run's data has changed since it was started. Start a new run.")
    method = parse_method(config.get("method"))
    settings = Settings.of(method, size_of(resident.num_parameters), config.get("settings"))
    from_adapter = str(config.get("from_adapter") or "")
    if from_adapter:
        resident.attach(from_adapter)
        if resident.mark(from_adapter) != config.get("from_adapter_sha256", resident.mark(from_adapter)):
            raise AdapterError(f"The adapter '{from_adapter}' has changed since this run was started. Start a new run.")
    pinned = checked_pinned(config.get("pinned"))
    work = Work(method, settings, data, from_adapter, bool(config.get("is_trait_counted")), pinned, config)
    _check_unchanged(work, folder)
    return work


def _check_unchanged(work: Work, folder: Path) -> None:
    """RequestError where the run's checkpoints were trained with something else than it would go on with."""
    now = work.made_of
    for name, was in checkpoints.made_of(folder / "checkpoints").items():
        if now.get(name) != was:
            raise RequestError(CHANGED.format(folder.name, name, str(was)[:40], str(now.get(name))[:40]))
