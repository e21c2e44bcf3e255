"""What the page's process pays for at its start: nothing of torch's world, nothing that only a click needs."""

import subprocess
import sys

from core import paths

HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "scipy", "sklearn", "google.genai")
LOOK = f"""
import sys
import core.ui.app, core.ui.page
print(*[name for name in {HEAVY} if name in sys.modules])
"""


def test_the_page_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=paths.PROJECT_ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == []


def test_starting_the_app_imports_gradio_only_after_its_environment_is_hardened():
    look = "import sys; import core.ui.app; print('gradio' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=paths.PROJECT_ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "False"
