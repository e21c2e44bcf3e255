"""Where things live, and how they get there in one piece.

`PLAYGROUND_HOME` is the folder that holds `models/`; the project's root where unset.
"""

import contextlib
import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import PlaygroundError, RequestError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
ASSETS = PROJECT_ROOT / "assets"
STARTER_NAME = "smollm2-135m-instruct"

# More than any file of the program's own that is read in one piece.
MAX_READ_BYTES = 64 * 2**20

# A name is a folder's name on every system, and never a path.
SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

# An adapter of such a name could be asked, and something else would answer.
RESERVED = {"base": "the untouched model", "default": "the adapter in training"}


def home() -> Path:
    return Path(os.environ.get("PLAYGROUND_HOME") or PROJECT_ROOT).expanduser().resolve()


def base_dir() -> Path:
    return home() / "models" / "base"


def finetuned_dir() -> Path:
    return home() / "models" / "finetuned"


def logs_dir() -> Path:
    return home() / "models" / "logs"


def page_dir() -> Path:
    """What the page was sent, and copies of what it hands out; empty whenever no page is served."""
    return logs_dir() / "page"


def new_page_dir() -> Path:
    """One more folder in there; Gradio hands out what lies in it, and the rest of models/ stays closed to it."""
    page_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
    return Path(tempfile.mkdtemp(dir=page_dir()))


def prompts_dir() -> Path:
    return home() / "models" / "prompts"


def merged_dir() -> Path:
    return home() / "models" / "merged"


def ensure_home() -> None:
    """Make the folders, for their owner alone, and prove that they can be written."""
    # Bases are public, and their folder may be shared on purpose.
    private = (finetuned_dir(), logs_dir(), prompts_dir(), merged_dir())
    for folder in (base_dir(), *private):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder in private:
                keep_private(folder)
            if os.access(folder, os.W_OK):
                continue
            error = OSError(errno.EROFS, "it is read-only")
        except OSError as found:
            error = found
        raise unwritable(folder, error)


def unwritable(path: Path, error: OSError) -> PlaygroundError:
    """What a home that cannot be written says, and the way out."""
    way_out = "Make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Make it writable"
    return PlaygroundError(
        f"{path} cannot be written ({error.strerror or 'it is not a folder'}). {way_out}, or set PLAYGROUND_HOME to a "
        "folder of yours."
    )


def keep_private(path: Path) -> None:
    """Others may do nothing with it, whoever made it: git lets everybody read its folders."""
    if os.name != "posix":
        return
    found = path.stat()
    if found.st_uid == os.getuid() and found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        # There are disks without modes.
        with contextlib.suppress(PermissionError):
            path.chmod(stat.S_IMODE(found.st_mode) & stat.S_IRWXU)


def is_name(name: object) -> bool:
    return isinstance(name, str) and SLUG.fullmatch(name) is not None and ".." not in name


def check_name(name: Any, what: str = "run") -> str:
    """The name itself where it is a plain slug; RequestError where it is anything else."""
    if is_name(name):
        return str(name)
    shown = repr(name)[:60]
    raise RequestError(
        f"{shown} is not a usable name for a {what}: take up to 64 lower-case letters, digits, '-', '_' and '.', "
        "starting with a letter or digit."
    )


def run_dir(name: str) -> Path:
    """A run's folder; links are not followed, so no name leads out of `finetuned/`."""
    folder = finetuned_dir() / check_name(name)
    if name in RESERVED:
        raise RequestError(f"'{name}' is no name for a run: {RESERVED[name]} is called so. Take another.")
    if folder.is_symlink():
        raise RequestError(f"The run '{name}' is a link, and links inside models/finetuned are not followed.")
    return folder


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, flushed and renamed onto it when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with writing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """A file's whole text; ValueError for what JSON cannot hold."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    # A file's name may be no Unicode; spelled out with a backslash, half a character is JSON too.
    return text.encode(errors="backslashreplace").decode()


def read_json(path: Path) -> Any:
    """The file's value, or None where it is absent or damaged."""
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None


def read_text(path: Path, most: int = MAX_READ_BYTES) -> str:
    """A file's text; OSError where there is none, ValueError where it is no UTF-8 or has more than `most` bytes.

    Devices and pipes are no files: they never end, or never begin.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "It is not a file", str(path))
    if path.stat().st_size > most:
        raise ValueError(f"more than {most:,} bytes")
    return path.read_text(encoding="utf-8-sig")
