"""The laws of experiments/: rows, logs, claims and tables.    pytest tests/test_experiments.py"""

import importlib
import json
import types

import pytest

import options
import train
from experiments import all as every
from experiments import logs, opt_optimizers, table
from experiments.claims import below, none_above

pytestmark = pytest.mark.usefixtures("small_shapes")

MODULES = [importlib.import_module(f"experiments.{name}") for name in every.MODULES]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder for runs and results, instead of the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "results_dir", lambda scale: tmp_path / scale)
    return tmp_path


@pytest.mark.parametrize("scale", logs.SCALES)
@pytest.mark.parametrize("module", MODULES, ids=every.MODULES)
def test_a_table_s_rows_are_distinct_its_options_are_train_pys_and_its_claims_can_be_decided(
        module, scale):
    rows = table.rows(module, scale)
    assert len({row.label for row in rows}) == len({logs.log_path(row, scale, 0) for row in rows})
    for row in rows:
        options.fill_in(options.parse(logs.argv(row, scale, 0)), 24)
    record = {"loss": -0.9, "std": 0.9, "rank": 9.0, "knn": 90.0, "top1": 95.0,
              "outputs": {"centre": 0.1}}
    for claim in module.CLAIMS if rows else ():
        assert claim.holds({row.label: [record] * 2 for row in rows}) in (True, False)


def test_a_finished_run_is_not_repeated_and_its_numbers_are_in_the_results(
        elsewhere, figures, monkeypatch):
    every.main(["--scale", "smoke", "--only", "sec45_similarity"])
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("trained again"))
    every.main(["--scale", "smoke", "--only", "sec45_similarity"])
    smoke = elsewhere / "smoke"
    results = (smoke / "results.md").read_text()
    log = smoke / "logs" / "similarity-cross-entropy-seed-0.jsonl"
    config, *records = map(json.loads, log.read_text().splitlines())
    assert config["similarity"] == "cross-entropy" and config["top1"] > 0
    accuracies = f"{config['top1']:.1f} | {records[-1]['knn']:.1f}"
    assert f"| cross-entropy | 63.2 | {accuracies} |" in results
    assert "(figures/sec45_similarity.png)" in results
    assert (smoke / "figures" / "sec45_similarity.png").exists()


def test_an_order_holds_if_the_means_differ_by_two_standard_errors_of_the_difference():
    row = lambda *numbers: [{"knn": knn} for knn in numbers]
    last = {"a": row(1.0, 2.0), "b": row(2.9, 3.9), "c": row(2.95, 3.95)}  # the error: 0.71
    assert below("a", "b")(last) and below("a", "c")(last)
    assert not below("b", "a")(last) and not below("b", "c")(last)
    assert not below("a", "b", "c")(last)
    assert below("a", "b")({**last, "b": last["b"][:1]}) is None
    assert not below("a", "b")({**last, "b": row(2.3, 3.3)})
    assert none_above("b", "a", "c")(last) and not none_above("a", "c", "b")(last)
    assert not none_above("a", "a", "b")(last)
    assert none_above("a", "b")({**last, "b": last["b"][:1]}) is None


def test_a_run_that_diverges_is_logged_as_such_and_not_repeated(elsewhere):
    row = table.Row("wild", "--lr 1e30")
    logs.train_row(row, "smoke", 0)
    module = types.SimpleNamespace(ROWS=[row], CLAIMS=[])
    assert logs.missing([row], "smoke", 1) == []
    assert "| wild |  | nan | nan | nan |" in table.table(module, "smoke")


def test_a_run_with_other_options_must_be_done_again_but_a_newer_flag_does_not_matter(
        elsewhere, monkeypatch):
    rows = importlib.import_module("experiments.sec45_similarity").ROWS
    every.main(["--scale", "smoke", "--only", "sec45_similarity"])
    assert logs.missing(rows, "smoke", 1) == []
    path = logs.log_path(rows[0], "smoke", 0)
    config, *records = path.read_text().splitlines()
    older = {k: v for k, v in json.loads(config).items() if k != "method"}
    path.write_text("\n".join([json.dumps(older), *records]))
    assert logs.missing(rows, "smoke", 1) == []
    monkeypatch.setitem(options.RECIPES["shapes"], "lr", 0.5)
    assert logs.missing(rows, "smoke", 1) == [(row, 0) for row in rows]
    logs.train_row(rows[0], "smoke", 0)  # its folder holds a run of the old recipe
    assert json.loads(path.read_text().splitlines()[0])["lr"] == 0.5


def test_only_the_best_learning_rate_of_an_optimiser_gets_further_seeds(elsewhere):
    rows = opt_optimizers.grid("LARS", "shapes")
    assert opt_optimizers.best(rows, "shapes") is None
    for row, knn in zip(rows, (20, 30, 50, 40, 10)):
        path = logs.log_path(row, "shapes", 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"image_size": 24}) + "\n" + json.dumps({"knn": knn}))
    assert opt_optimizers.best(rows, "shapes") == rows[2]
    todo = logs.missing(opt_optimizers.ROWS("shapes"), "shapes", 2)
    assert [row.label for row, seed in todo if seed == 1] == [rows[2].label]


@pytest.mark.parametrize("module", [*every.MODULES, "all", "speed", "cost"])
def test_every_help_text_describes_its_module_and_fits_80_columns(module, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    script = importlib.import_module(f"experiments.{module}")
    monkeypatch.setattr("sys.argv", [module, "--help"])
    with pytest.raises(SystemExit) as stop:
        script.main(*[script] * (script.main is table.main))
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    first_line = script.__doc__.splitlines()[0]
    assert " ".join(first_line.split()) in " ".join(said.split())
