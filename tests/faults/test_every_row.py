"""Every fault has its line in the README beside this file, and every test that it names is there."""

import re
from pathlib import Path

from core import paths

TABLE = Path(__file__).with_name("README.md")
FAULTS = range(1, 135)
NAMED = re.compile(r"`([\w/]+\.py)::(?:(\w+)::)?(\w+)`")


def lines() -> dict[int, str]:
    found = re.findall(r"^\| (\d+) \| (.*?) ?\|$", TABLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {int(number): where for number, where in found}


def test_every_fault_has_its_line():
    known = lines()
    assert [number for number in FAULTS if not known.get(number)] == []


def test_every_test_that_is_named_is_there():
    missing = []
    for number, where in lines().items():
        for file, group, name in NAMED.findall(where):
            path = paths.PROJECT_ROOT / "tests" / file
            source = path.read_text(encoding="utf-8") if path.exists() else ""
            if f"def {name}(" not in source or (group and f"class {group}" not in source):
                missing.append(f"{number}: {file}::{name}")
    assert missing == []


def test_a_test_with_a_number_stands_on_that_number_s_line():
    known, strays = lines(), []
    for file in Path(__file__).parent.glob("test_*.py"):
        for number, rest in re.findall(r"def test_(\d{3})(\w+)\(", file.read_text(encoding="utf-8")):
            if f"test_{number}{rest}" not in known.get(int(number), ""):
                strays.append(f"{file.name}: test_{number}{rest}")
    assert strays == []
