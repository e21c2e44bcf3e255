"""The commands: what can be asked for, said to the user in one form, with one kind of exit.

Exit 0: done. 2: the request is wrong. 1: it failed while running. In both a sentence on stderr, never a traceback.
The work itself is in `headless`, which imports torch and is imported only when a command needs it.
"""

import argparse
import contextlib
import io
import json
import logging
import sys
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from core import disk, paths, redact, runs
from core.errors import PlaygroundError, RequestError
from core.settings import COMPARISON, COMPARISON_SEED, DATA, DECODING, STRENGTH, TRAINING, Method, Setting

INTERRUPTED = 130
DESCRIPTION = "Teach a local chat model by preference, and see whether it got better. Without a command: the app."
UNEXPECTED = "It failed with an unexpected error ({}). Details are in models/logs/commands.log under {}."
UNRECORDED = "It failed with an unexpected error ({}), and models/logs cannot be written to keep its details."


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message[:1].upper()}{message[1:]}. See: {self.prog} --help")


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code."""
    from core import ranks

    try:
        if not ranks.is_main():
            return _follow(arguments)
        asked = _parser().parse_args(arguments)
        redact.load_env()
        redact.install()
        result, code = COMMANDS[asked.command](asked)
    except PlaygroundError as error:
        print(redact.for_terminal(str(error)), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # the edge of the process: recorded in the log, a sentence here
        print(_record(error), file=sys.stderr)
        return 1
    if asked.json and result is not None:
        print(_as_json(result))
    return code


def _as_json(result: dict[str, Any]) -> str:
    """With what a terminal would obey spelled out: the same value, and one can look at it."""
    text = json.dumps(result, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _follow(arguments: Sequence[str]) -> int:
    """Another process of a run that was launched on several; what is wrong with the request, the main one says."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            asked = _parser().parse_args(arguments)
    except (PlaygroundError, SystemExit):
        return 0
    if asked.command == "train":
        from core import engine_process

        engine_process.set_environment()
        redact.load_env()
        redact.install()
        from core import follower

        follower.follow()
    return 0


def _record(error: Exception) -> str:
    if said := disk.sentence(error):
        return said
    mark = uuid.uuid4().hex[:8]
    log = logging.getLogger("commands")
    log.propagate = False
    try:
        paths.ensure_home()
        log.addHandler(redact.open_log("commands.log"))
    except (PlaygroundError, OSError):
        return UNRECORDED.format(type(error).__name__)
    log.exception("%s", mark)
    return UNEXPECTED.format(type(error).__name__, mark)


# What can be asked


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="playground.py", description=DESCRIPTION, allow_abbrev=False)
    parser.set_defaults(command="app")
    _app_flags(parser)
    commands = parser.add_subparsers(title="commands", parser_class=_Parser, metavar="COMMAND")
    for name, (words, flags) in FLAGS.items():
        command = commands.add_parser(name, help=words, description=words, allow_abbrev=False)
        command.set_defaults(command=name)
        command.add_argument("--json", action="store_true", help="print the result as one JSON object, last on stdout")
        flags(command)
    return parser


def _app_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--host", default="127.0.0.1", help="the address to serve on (127.0.0.1)")
    parser.add_argument(
        "--token", nargs="?", const="", default=None, help="ask whoever opens the page for this token, or for one that "
        "is made up; needed where --host lets other machines in",
    )  # fmt: skip
    parser.add_argument("--port", type=_port, default=7860, help="the port to serve on, or the next free one (7860)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; take a number from 1 to 65535")
    return int(text)


def _train_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", choices=list(Method), help="how to teach")
    parser.add_argument("--dataset", default="", help="'starter', a .jsonl, .json, .csv or .parquet file, or a Hub id")
    parser.add_argument("--recipe", choices=["seed", "recommended"], help="a whole run by name; flags beat it")
    parser.add_argument("--config", default="", help="repeat a run from its run.yaml; flags beat it")
    parser.add_argument("--model", default="", help="the starter (default), a folder, or a Hub id")
    parser.add_argument("--run", default="", help="the run's name; made up without")
    parser.add_argument("--from-adapter", default="", help="go on from this finished adapter")
    parser.add_argument(
        "--columns", default="", help="which columns of the data hold what, as prompt=question,chosen=best,rejected=bad"
    )
    parser.add_argument("--pin", action="append", metavar="PROMPT", help="answer this on the way; may be repeated")
    parser.add_argument("--resume", action="store_true", help="go on with --run from its last checkpoint")
    parser.add_argument("--no-trait", action="store_true", help="do not count the starter data's trait at the end")
    for setting in [*DATA.values(), *TRAINING.values()]:
        _setting_flag(parser, setting)


def _setting_flag(parser: argparse.ArgumentParser, setting: Setting) -> None:
    said = f"{setting.help} ({setting.range_text()})".replace("%", "%%")
    if isinstance(setting.default, bool):
        parser.add_argument(setting.flag, action=argparse.BooleanOptionalAction, default=None, help=setting.help)
    else:
        parser.add_argument(setting.flag, default=None, metavar="VALUE", help=said)


def _model_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="", help="the base, where it is not the one that the adapter was trained on")


def _compare_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", default="", help="the adapter to hold against its base")
    parser.add_argument(
        "--prompts", default="", help='quick (default), standard, full, harmlessness, held-out, a set of yours, or a '
        'file: a JSON list of {"id", "category", "prompt"}',
    )  # fmt: skip
    parser.add_argument("--judge", choices=["gemini", "none"], default="none", help="who decides (none)")
    parser.add_argument("--csv", default="", help="write the table here as well")
    parser.add_argument("--resume", default="", metavar="JOURNAL", help="go on with a comparison that was cut off")
    parser.add_argument(
        "--replay", default="", metavar="JOURNAL", help="print and write again what a comparison came to"
    )
    _model_flag(parser)
    for setting in [*COMPARISON.values(), *DECODING.values(), COMPARISON_SEED]:
        _setting_flag(parser, setting)


def _chat_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", required=True, help="an adapter's name, or 'base'")
    parser.add_argument("--prompt", default="", help="one question; a conversation without it")
    _model_flag(parser)
    _setting_flag(parser, STRENGTH)


def _check_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", required=True, help="the adapter's name")
    _model_flag(parser)


def _push_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", required=True, help="the adapter to push")
    parser.add_argument("--to", required=True, metavar="OWNER/NAME", help="what it is to be called on the Hub")
    parser.add_argument("--merged", action="store_true", help="push the merged model instead; merge it first")
    parser.add_argument("--public", action="store_true", help="let everybody see it")


FLAGS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "train": ("Teach a base from preference data.", _train_flags),
    "compare": ("Hold an adapter against its base, blind.", _compare_flags),
    "chat": ("Talk to the base or to an adapter.", _chat_flags),
    "check": ("Verify an adapter: files, base, numbers, effect, one response.", _check_flags),
    "merge": ("Write an adapter and its base as one model.", _check_flags),
    "push": ("Put an adapter or its merged model on the Hub, private unless told otherwise.", _push_flags),
    "runs": ("List the runs.", lambda parser: None),
}


# What is done


def _app(asked: argparse.Namespace) -> tuple[dict[str, Any] | None, int]:
    from core.ui.app import launch

    launch(asked.host, asked.port, not asked.no_browser, asked.token)
    return None, 0


def _runs(asked: argparse.Namespace) -> tuple[dict[str, Any] | None, int]:
    found = runs.list_runs()
    for run in found if not asked.json else ():
        line = f"{run.name:28} {run.method:4} {run.status:12} {run.step}/{run.steps} steps  {run.dataset}"
        line += f"  {run.reason}" if run.status is runs.RunStatus.FAILED else ""
        print(" ".join(redact.for_terminal(line).splitlines()))
    if not found and not asked.json:
        print("No runs yet. Start one: python playground.py train --method dpo --dataset starter")
    kept = ("name", "method", "status", "step", "steps", "base", "dataset", "created_at", "reason", "result")
    return {"runs": [{key: getattr(run, key) for key in kept} for run in found]}, 0


def _push(asked: argparse.Namespace) -> tuple[dict[str, Any] | None, int]:
    from core.push import push

    url = push(asked.adapter, asked.to, asked.merged, asked.public)
    if not asked.json:
        print(f"Pushed to {url}, where {'everybody sees it' if asked.public else 'it is private'}.")
    return {"url": url}, 0


def _headless(name: str) -> Callable[[argparse.Namespace], tuple[dict[str, Any] | None, int]]:
    def run(asked: argparse.Namespace) -> tuple[dict[str, Any] | None, int]:
        from core import engine_process

        engine_process.set_environment()
        from core import headless

        result: tuple[dict[str, Any] | None, int] = headless.COMMANDS[name](asked)
        return result

    return run


HEADLESS = ("train", "compare", "chat", "check", "merge")
COMMANDS = {"app": _app, "runs": _runs, "push": _push, **{name: _headless(name) for name in HEADLESS}}
