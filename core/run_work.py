"""What a run has to do, read back from its own folder and checked against what it was made for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import preferences, runs
from core.errors import DataError, ModelError
from core.loader import BASE, ResidentModel
from core.preferences import PreferenceData
from core.run_request import DATA_FILE
from core.settings import Method, Settings, checked_pinned, parse_method, size_of


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


def read(resident: ResidentModel, folder: Path) -> Work:
    """The run's own files; RequestError where they are no longer what the run was started with."""
    config = runs.read_config(folder / "run.yaml")
    if config.get("base_fingerprint") != resident.fingerprint:
        raise ModelError(f"This run was started on {config.get('model')}, and {resident.name} is loaded.")
    data = preferences.read_snapshot(folder / DATA_FILE)
    if data.sha256 != config.get("data_sha256"):
        raise DataError("The run's data has changed since it was started. Start a new run.")
    method = parse_method(config.get("method"))
    settings = Settings.of(method, size_of(resident.num_parameters), config.get("settings"))
    from_adapter = str(config.get("from_adapter") or "")
    if from_adapter:
        resident.attach(from_adapter)
    pinned = checked_pinned(config.get("pinned"))
    return Work(method, settings, data, from_adapter, bool(config.get("is_trait_counted")), pinned, config)
