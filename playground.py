"""Preference Playground: teach a local chat model by preference, and see whether it got better.

The entry of the app and of every command. A spawned process imports this file again, so nothing
heavy stands at its top, and it is written so that an old Python can read it and say that it is old.
"""

import importlib.util
import os
import sys

PACKAGES = (
    "dotenv",
    "yaml",
    "filelock",
    "psutil",
    "gguf",
    "gradio",
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
)


def what_is_missing():
    """One sentence with the way out, or '' where everything is there."""
    if sys.version_info < (3, 11):
        return (
            "Python 3.11 or newer is needed, and this is %d.%d: run make, or start it with a newer Python."
            % (sys.version_info[:2])
        )
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return (
            "Some packages are not installed (%s): run make, or pip install -r requirements.txt, "
            "and start it again with the Python that has them." % ", ".join(missing)
        )
    return ""


def main():
    missing = what_is_missing()
    if missing:
        print(missing, file=sys.stderr)
        return 1
    # Whatever is written from here on, by libraries and by the engine too, is for its owner alone.
    os.umask(0o077)
    from core.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
