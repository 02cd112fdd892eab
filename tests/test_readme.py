"""The README tells the truth about the code.    pytest tests/test_readme.py"""

import importlib
import pathlib
import re
from itertools import permutations

import pytest

from experiments import all as every
from experiments import references, table

HOME = pathlib.Path(__file__).parent.parent
README = (HOME / "README.md").read_text()
SCRIPTS = ["simsiam", "resnet", "augment", "optim", "options", "train", "lineval"]
PATHS = [HOME / f"{name}.py" for name in SCRIPTS] + sorted((HOME / "utils").glob("*.py"))


def deviations(path):
    """What the README lists for a script, an item each: "* `script`: one; two; three."."""
    name = re.escape(str(path.relative_to(HOME)))
    found = re.findall(rf"^\* `{name}`: (.*?)\.\n(?=\*|\n)", README, re.M | re.S)
    return [item for items in found for item in items.split(";")]


def words(text):
    """What two texts on one subject may share: beginnings of words, and letters of formulas."""
    common = {"code", "like", "official"[:5], "paper", "that", "which", "with"}
    return {word[:5] for word in re.findall(r"[a-z]{4,}|\bT\b|γ", text)} - common


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(HOME)))
def test_each_deviation_of_a_script_in_the_README_goes_with_a_tagged_comment_of_its_own(path):
    tagged = re.findall(r"\bhere:(?=((?:.*\n){1,4}))", path.read_text())  # and three lines more
    comments, listed = ([words(text) for text in texts] for texts in (tagged, deviations(path)))
    assert len(listed) == len(comments)
    assert any(all(a & b for a, b in zip(listed, order)) for order in permutations(comments))


def test_every_baseline_says_at_its_top_what_differs():
    for path in (HOME / "baselines").glob("[!_]*.py"):
        assert "here:" in path.read_text().split('"""')[1], path


def test_every_link_of_the_README_leads_to_a_file():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links and all((HOME / link).exists() for link in links)


def test_the_README_has_at_most_1300_words():
    assert len(README.split()) <= 1300


def test_scripts_of_the_paper_and_utils_import_nothing_that_builds_on_them():
    for name in ("simsiam", "resnet", "augment", "optim"):
        imports = re.findall(r"^(?:from|import) (\w+)", (HOME / f"{name}.py").read_text(), re.M)
        assert not {*SCRIPTS, "utils", "baselines", "experiments"} & set(imports), name
    for path in (HOME / "utils").glob("*.py"):
        imports = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.M)
        assert not {*SCRIPTS, "baselines", "experiments"} & set(imports), path


# ------------------------------------------------------------------------------------------------
# The table of results.

TABLE = re.findall(r"^\| ([^|]+?) \| ([^|]*?) ?\| ([^|]+?) \| ([^|]+?) \|$", README, re.M)[1:]


def rows_called(name):
    """The rows of the experiments with the flags that a name of TABLE has, or else that label."""
    modules = [importlib.import_module(f"experiments.{module}") for module in every.MODULES]
    rows = [row for module in modules for row in table.rows(module, "photographs")]
    if "`" not in name:
        return [row for row in rows if row.label == name]
    flags = name.split("`")[1].removeprefix("python train.py")
    return [row for row in rows if row.options == flags and not row.study]


def test_the_README_has_a_table_of_results_with_what_they_are_compared_with():
    names = [name for name, *_ in TABLE]
    assert len(TABLE) > 9 and {"raw pixels", "untrained network", "supervised"} < {*names}


@pytest.mark.parametrize("name, paper, photographs, shapes", TABLE)
def test_a_number_in_the_README_is_that_of_the_logs(name, paper, photographs, shapes):
    for scale, number in ("photographs", photographs), ("shapes", shapes):
        runs = ([references.pixels(scale)] if name == "raw pixels" else
                table.last_records(rows_called(name)[0], scale))
        assert len(runs) == (1 if name == "raw pixels" else 3)
        assert table.fmt([run["top1"] for run in runs]) == number
    printed = re.findall(r"\d+\.\d|unstable", paper)
    assert {*printed} <= {str(row.paper) for row in rows_called(name)}
    assert bool(printed) == bool(paper)
