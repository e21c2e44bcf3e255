"""The playground's own process without its page, for tests that end it: `python -m tests.faults.page NAME`.

Everything is as `core.ui.app.launch` does it, but what would serve the page starts the run NAME, or goes on with it.
"""

import sys
from types import SimpleNamespace

from core import cli, paths, runs
from core.client import EngineClient, RunRequest

SETTINGS = {"learning_rate": 1e-2, "epochs": 8, "batch_size": 4, "accumulation": 1, "lora_rank": 4, "max_length": 256,
            "checkpoint_every": 20, "looks": 0}  # fmt: skip


def open_run(client: EngineClient, *_: object) -> tuple[str, object]:
    name = sys.argv[1]
    if runs.has_adapter(name) or paths.run_dir(name).exists():
        client.resume_run(name)
    else:
        data = str(paths.home() / "pairs.jsonl")
        client.start_run(RunRequest("sft", data, run=name, held_out=0, settings=SETTINGS))
    return "http://127.0.0.1:1/", SimpleNamespace(close=lambda verbose: None)


if __name__ == "__main__":
    from core.ui import app

    app.open_page = open_run
    sys.exit(cli.main(["--no-browser"]))
