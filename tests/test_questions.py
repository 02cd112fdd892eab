"""docs/questions.md: commands parse, numbers were measured.    pytest tests/test_questions.py"""

import ast
import importlib
import json
import pathlib
import re
import runpy
import shlex
import sys

import pytest
import torch
from strategies import TINY, Parsed, only_parse

import train
from experiments.claims import Pair, difference

HOME = pathlib.Path(__file__).parent.parent
QUESTIONS = (HOME / "docs/questions.md").read_text()
COMMANDS = re.findall(r"^    (\S.*)$", QUESTIONS, re.M)
SUMMARY = HOME / "experiments/results/README.md"
LINEVAL = HOME / "lineval.py"
RESULTS = [path.read_text() for path in SUMMARY.parent.rglob("*.md") if path != SUMMARY]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # another test has imported it
@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("pytest")
                                     and c != "python simsiam.py"])  # has no options
def test_a_script_accepts_the_command_of_an_answer(command, monkeypatch):
    python, *words = shlex.split(command, comments=True)
    if python == "torchrun":
        words = words[[word.endswith(".py") for word in words].index(True):]
    monkeypatch.chdir(HOME)
    only_parse(monkeypatch)
    monkeypatch.setattr(sys, "argv", words[words[0] == "-m":])
    with pytest.raises(Parsed):
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")


def test_a_script_accepts_the_words_that_a_notebook_passes_to_its_main():
    calls = re.findall(r"^(?:\w+ = )?(\w+)\.main\((\[.*?\])\)", QUESTIONS, re.M)
    assert {script for script, _ in calls} == {"train", "lineval"}
    for script, words in calls:
        importlib.import_module(script).parse(ast.literal_eval(words))


def test_the_lines_of_Python_in_answers_run(tmp_path, monkeypatch, small_shapes):
    blocks = re.findall(r"^```python\n(.*?)^```", QUESTIONS, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    train.main([*TINY, "--epochs", "1", "--max-steps", "1", "--out", "runs/shapes"])
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 10))
    net.num_features = 10
    names = {"net": net, **{x: torch.rand(4, 3, 8, 8) for x in ("x1", "x2")},
             "x": torch.randint(256, (4, 3, 12, 12), dtype=torch.uint8)}
    for block in blocks[1:]:  # the first trains, in a notebook
        exec(block, names)
    assert names["features"].shape == (4, 64) and names["loss"].shape == ()
    assert 0 < names["std"] <= 1 <= names["rank"]


def test_the_tests_that_answers_name_exist():
    named = [re.fullmatch(r"pytest (\S+) -k (\w+)", c) for c in COMMANDS if c[:6] == "pytest"]
    assert named
    for match in named:
        assert re.search(rf"def test_\w*{match[2]}", (HOME / match[1]).read_text())


def test_every_answer_has_a_command():
    answers = QUESTIONS.split("\n### ")[1:]
    assert len(answers) > 10
    for answer in answers:
        assert re.search(r"^    (python|pytest|torchrun) ", answer, re.M), answer[:60]


@pytest.mark.parametrize("text, least", [
    (QUESTIONS, 6), (SUMMARY.read_text(), 6), (LINEVAL.read_text(), 2)],
    ids=["questions", "summary", "lineval"])
def test_every_mean_and_std_of_a_text_stands_in_a_table(text, least):
    numbers = re.findall(r"-?[\d.]+ ± [\d.]*\d", " ".join(text.split()))
    assert len(numbers) >= least
    for number in numbers:
        whole = rf"(?<![\d.-]){re.escape(number)}(?![\d.]*\d)"  # not the end of a longer one
        assert any(re.search(whole, text) for text in RESULTS), number


BN = "bn-{}-lr-{}-warmup-epochs-1"
AFTERWARDS = {  # the summary's †: (scale, the logs of the lower row, of the higher one)
    ("photographs", "bn-none-warmup-epochs-1", "bn-hidden"),
    ("shapes", "bn-none-warmup-epochs-1", "bn-hidden"),
    ("photographs", BN.format("none", "0.08"), BN.format("hidden", "0.08")),
    ("shapes", BN.format("none", "0.2"), BN.format("hidden", "0.2")),
    ("photographs", "symmetry-asymmetric", ""), ("shapes", "symmetry-asymmetric", "")}


def accuracies(scale, name):
    """The linear accuracies of a row's three runs, as difference() takes them."""
    folder, start = SUMMARY.parent / scale / "logs", f"{name}-seed".lstrip("-")
    logs = [(folder / f"{start}-{seed}.jsonl").read_text().splitlines() for seed in range(3)]
    return [{"top1": json.loads(config)["top1"]} for config, *_ in logs]


def test_every_interval_of_the_summary_stands_in_a_table_or_is_computed_from_the_logs():
    pairs = (difference(Pair("low", "high"), {"low": accuracies(scale, low),
                                              "high": accuracies(scale, high)})
             for scale, low, high in AFTERWARDS)
    computed = {"({:.1f} to {:.1f})".format(*pair.interval()) for pair in pairs}
    text, found = " ".join(SUMMARY.read_text().split()), set()
    other_sign = lambda x: x[1:] if x[0] == "-" else f"-{x}"
    for low, high in re.findall(r"[(,;] ?(-?\d+\.\d) to (-?\d+\.\d)(?=[);,])", text):
        said, turned = f"({low} to {high})", f"({other_sign(high)} to {other_sign(low)})"
        found.add(said)
        assert said in computed or any(said in table or turned in table for table in RESULTS), said
    assert computed <= found and len(found) > 40


def test_the_epochs_of_Appendix_D_in_the_summary_are_those_of_its_log():
    log = (SUMMARY.parent / "cifar/logs/jpeg-copy-450-epochs.jsonl").read_text().splitlines()
    ours = {record["epoch"]: record for record in map(json.loads, log[1:])}
    rows = re.findall(r"\| (\d+) \| (-[\d.]+) \| -[\d.]+ \| ([\d.]*) ?\|", SUMMARY.read_text())
    assert len(rows) == 12
    for epoch, loss, knn in rows:
        record = ours[int(epoch)]
        assert f"{record['loss']:.3f}" == loss
        assert knn == ("" if record["knn"] is None else f"{record['knn']:.1f}")


def test_every_link_of_an_answer_leads_to_a_file():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", QUESTIONS)
    assert links
    for link in links:
        assert (HOME / "docs" / link).exists(), link
