"""Set-up: what a person is told when something is missing, and that nothing is done twice."""

import importlib.util
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

import playground
from core.paths import PROJECT_ROOT

VERSION = (3, 11, 7)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def setup_env():
    """tools/setup_env.py as a module; it is a script, and in no package."""
    spec = importlib.util.spec_from_file_location("setup_env", PROJECT_ROOT / "tools" / "setup_env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(setup_env, tmp_path):
    """A checkout with requirements, and no .venv yet."""
    (tmp_path / "requirements.txt").write_text("one==1\n")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements.txt\ntwo==2\n")
    return setup_env.Environment(tmp_path)


@pytest.fixture
def installed(setup_env, checkout):
    """The same with a .venv whose packages were installed, tests and all."""
    checkout.python.parent.mkdir(parents=True)
    checkout.python.symlink_to(sys.executable)
    for name in ("requirements.txt", "requirements-dev.txt"):
        checkout.stamp(name).write_text(setup_env.digest(checkout.root, name))
    return checkout


def test_an_old_python_is_told_which_one_is_needed(setup_env):
    with pytest.raises(setup_env.SetupError) as told:
        setup_env.check_python((3, 9, 6), "/usr/bin/python3")
    assert str(told.value) == (
        "Python 3.11 or newer is needed, and /usr/bin/python3 is 3.9: install one (python.org, "
        "'brew install python@3.12', or your distribution's package) and run make PYTHON=/path/to/it."
    )


def test_a_python_without_venv_is_told_the_package_to_install(setup_env, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else name)
    with pytest.raises(setup_env.SetupError) as told:
        setup_env.check_venv(VERSION)
    assert str(told.value) == (
        "This Python has no ensurepip module: install it with 'sudo apt-get install python3.11-venv' "
        "(or take a Python from python.org) and run make again."
    )


def test_a_full_disk_is_told_before_anything_is_installed(setup_env, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(9e9, 6e9, 3e9))
    with pytest.raises(setup_env.SetupError, match=r"needs 6 GB of free disk, and .* has 3\.0 GB: free some space"):
        setup_env.check_disk(tmp_path)


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)': /simple/trl/\n"
            "ERROR: No matching distribution found for trl==1.16.0",
            "The package index cannot be reached, and the packages come from there: go online (or set pip's "
            "index and proxy) and run make again; what is installed already stays.",
        ),
        (
            "ERROR: No matching distribution found for torch==2.13.0",
            "torch==2.13.0 does not exist for Python 3.11 on this machine: run make again with another Python, "
            "such as make PYTHON=python3.12, after removing .venv.",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "The disk is full: the packages need about 6 GB. Free some space and run make again; "
            "what is installed already stays.",
        ),
        (
            "ERROR: something new",
            "pip could not install the packages (ERROR: something new): see .venv/setup.log, then run make again.",
        ),
    ],
)
def test_what_pip_says_becomes_one_sentence(setup_env, printed, told):
    assert setup_env.explain(printed, VERSION) == told


def test_a_second_make_starts_no_process(setup_env, installed, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("a process was started"))
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a process was started"))
    setup_env.bring_packages(installed, "requirements.txt")
    setup_env.bring_packages(installed, "requirements-dev.txt")


def test_changed_requirements_are_installed_anew(setup_env, installed):
    (installed.root / "requirements.txt").write_text("one==1.1\n")
    assert not installed.is_installed("requirements.txt")
    assert not installed.is_installed("requirements-dev.txt")


def test_a_venv_whose_python_has_gone_is_not_taken_for_whole(installed):
    installed.python.unlink()
    installed.python.symlink_to("/no/such/python")
    assert not installed.is_installed("requirements.txt")
    assert not installed.runs_pip()


def test_an_interrupted_install_leaves_no_stamp(setup_env, installed, monkeypatch):
    def cut_off(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_env, "wait", cut_off)
    (installed.root / "requirements.txt").write_text("one==1.1\n")
    with pytest.raises(KeyboardInterrupt):
        setup_env.install(installed, "requirements.txt", VERSION)
    assert not list(installed.folder.glob(".*.sha256"))


def test_the_program_says_what_is_missing_without_a_traceback():
    done = subprocess.run(
        [sys.executable, "-S", str(PROJECT_ROOT / "playground.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Some packages are not installed (dotenv, yaml, ")
    assert done.stderr.endswith(
        "): run make, or pip install -r requirements.txt, and start it again with the Python that has them.\n"
    )
    assert done.stderr.count("\n") == 1


def test_the_program_tells_an_old_python_that_it_is_old(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 6))
    assert playground.what_is_missing() == (
        "Python 3.11 or newer is needed, and this is 3.9: run make, or start it with a newer Python."
    )


def test_the_entry_stays_small_and_imports_nothing_heavy():
    text = (PROJECT_ROOT / "playground.py").read_text()
    assert len(text.splitlines()) <= 60
    code = "import sys, playground; print(sorted({'torch', 'gradio', 'pandas', 'core.cli'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_without_any_python_says_where_to_get_one():
    done = subprocess.run(
        ["make", "-s", "setup", "PYTHON=/no/such/python3"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("No Python was found as '/no/such/python3': install Python 3.11 or newer (python.org")


def test_every_variable_of_the_example_is_empty_and_explained():
    lines = Path(PROJECT_ROOT / ".env.example").read_text().splitlines()
    names = [line[:-1] for line in lines if line.endswith("=") and not line.startswith("#")]
    assert names == ["HUGGINGFACE_TOKEN", "GEMINI_API_KEY", "PLAYGROUND_HOME", "GOOGLE_GEMINI_BASE_URL"]
    assert "#     install -m 600 .env.example .env" in lines
