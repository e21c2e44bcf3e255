"""Who may import whom: the page stays light, the torch half stays below, and only core/ui knows Gradio.

Read from the sources, so that an import inside a function counts too; and seen once in a process of its own.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from core.paths import PROJECT_ROOT

CORE = PROJECT_ROOT / "core"
TORCH_WORLD = {"torch", "transformers", "peft", "trl", "accelerate", "safetensors", "tokenizers", "gguf"}
# Dear to import: only inside the functions that need them.
ON_FIRST_USE = {"scipy", "sklearn", "google", "datasets", "huggingface_hub", "pyarrow"}
# The torch half, above which nothing of it is imported.
BELOW = {
    "adapters", "base_files", "catalogue", "chat_cache", "chat_template", "checkpoints", "decode", "device", "engine",
    "engine_errors", "estimate", "evaluate", "fingerprint", "follower", "fused_head", "generate", "headless",
    "headless_compare", "inspection", "lean_step", "lens", "loader", "lora_pass", "planning", "probe", "ranks",
    "reference_file", "run_request", "run_work", "runner", "shared_prefix", "starter", "takeaway", "template_sandbox",
    "terminal", "token_rows", "trainer", "voices", "watch",
}  # fmt: skip
# The two doors: the client and the commands name the engine, and the engine's first file names the rest. Of several
# processes, the commands ask which one they are.
DOORS = {("client", "engine_process"), ("cli", "engine_process"), ("cli", "headless"), ("cli", "ui"),
         ("cli", "ranks"), ("cli", "follower"), ("engine_process", "engine")}  # fmt: skip
FILES = sorted(path for path in CORE.rglob("*.py") if path.stem != "__init__")
ABOVE = [path for path in FILES if path.parent != CORE or path.stem not in BELOW]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts)


@cache
def imports(path: Path, is_deep: bool) -> frozenset[str]:
    """Dotted names of all that a file imports: at its top, or with `is_deep` inside its functions as well."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if is_deep else _at_import(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def _at_import(tree: ast.AST):
    for node in ast.iter_child_nodes(tree):
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not is_for_types and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from _at_import(node)


def roots(names) -> set[str]:
    return {name.partition(".")[0] for name in names}


def own(names) -> set[str]:
    """Which files of core are imported: 'runs', 'ui', ..."""
    return {name.split(".")[1] for name in names if name.startswith("core.")}


def test_every_file_of_the_torch_half_is_there():
    assert {path.stem for path in FILES if path.parent == CORE} >= BELOW


@pytest.mark.parametrize("path", ABOVE, ids=name_of)
def test_what_is_above_never_names_torch_and_reaches_down_only_through_the_doors(path):
    assert not roots(imports(path, is_deep=True)) & TORCH_WORLD
    assert not roots(imports(path, is_deep=False)) & ON_FIRST_USE
    downward = {(path.stem, name) for name in own(imports(path, is_deep=True)) if name in BELOW}
    assert downward <= DOORS
    assert not own(imports(path, is_deep=False)) & BELOW


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_page_knows_gradio(path):
    if path.parent == CORE:
        assert "gradio" not in roots(imports(path, is_deep=True))
        inner = {(path.stem, "ui")} if "ui" in own(imports(path, is_deep=True)) else set()
        assert inner <= DOORS


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_two_files_import_each_other(path):
    for other in FILES:
        if name_of(other) in imports(path, is_deep=False) and other != path:
            assert name_of(path) not in imports(other, is_deep=False)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_entry_is_short_and_imports_nothing_heavy():
    entry = PROJECT_ROOT / "playground.py"
    assert len(entry.read_text().splitlines()) <= 60
    assert roots(imports(entry, is_deep=False)) <= set(sys.stdlib_module_names)
    assert own(imports(entry, is_deep=True)) == {"cli"}


# What only the page pays for is in tests/ui/test_imports.py.
def test_a_spawned_engine_and_the_cheap_commands_import_nothing_heavy():
    watched = sorted(TORCH_WORLD | ON_FIRST_USE - {"google"} | {"gradio", "pandas", "google.genai"})
    code = (
        "import sys, playground, core.engine_process, core.client, core.export, core.judge, core.compare, core.stats\n"
        "from core.cli import main; assert main(['train', '--methid', 'x']) == 2 and main(['runs']) == 0\n"
        f"print(*(n for n in {watched!r} if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_the_engine_starts_without_what_only_a_run_needs():
    reached: set[str] = set()
    new = {"engine"}
    while new:
        reached |= new
        new = own(name for file in new for name in imports(CORE / f"{file}.py", is_deep=False)) - reached
    assert reached > {"runner", "evaluate", "planning"}
    assert not {"trl", "datasets"} & roots(name for file in reached for name in imports(CORE / f"{file}.py", False))
