"""The laws of experiments/: rows, logs, claims and tables.    pytest tests/test_experiments.py"""

import importlib
import itertools
import json
import math
import random
import types

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import lineval
import options
import train
from experiments import all as every
from experiments import logs, opt_optimizers, references, table, theory_spectrum
from experiments.claims import (Pair, all_above, below, claim_verdict, decide, difference,
                                every_run, holm, none_above, none_collapsed, t_quantile, t_tails)
from experiments.table import Claim
from simsiam import COLLAPSED_STD
from strategies import TINY, make_folder
from utils import data, plot
from utils.runs import load_checkpoint

pytestmark = pytest.mark.usefixtures("small_shapes")

MODULES = [importlib.import_module(f"experiments.{name}") for name in every.MODULES]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder for runs and results, instead of the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "results_dir", lambda scale: tmp_path / scale)
    return tmp_path


def write_log(row, knn, **more):
    """The log of a finished run of a row at the scale of shapes, with this accuracy."""
    path = logs.log_path(row, "shapes", 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {"image_size": 24, "top1": knn, "outputs": {}, **more}
    record = {**dict.fromkeys(table.DIGITS, 1.0), "knn": knn, "seconds": 1.0}
    path.write_text(json.dumps(config) + "\n" + json.dumps(record))


@pytest.mark.parametrize("scale", logs.SCALES)
@pytest.mark.parametrize("module", MODULES, ids=every.MODULES)
def test_a_table_s_rows_are_distinct_its_options_are_train_pys_and_its_claims_can_be_decided(
        module, scale, elsewhere):
    rows = table.rows(module, scale)
    for row in rows:
        options.fill_in(options.parse(logs.argv(row, scale, 0)), 24)
    record = {"loss": -0.9, "std": 0.9, "rank": 9.0, "knn": 90.0, "top1": 95.0,
              "outputs": {"centre": 0.1}}
    runs = {row.label: [record] * 2 for row in (*rows, *references.ROWS)}
    said = table.verdicts(table.claims(module, scale), rows, runs) if rows else ()
    assert not any("not run" in verdict for _, verdict, _ in said)


def of_my_own(*rows, claims=()):
    """A module of experiments/ that no list has."""
    spec = types.SimpleNamespace(name="experiments.mine")
    return types.SimpleNamespace(
        __doc__="Mine.", __spec__=spec, ROWS=list(rows), CLAIMS=list(claims))


def scaled(k):
    def study(run):
        return lambda x1, x2: (k * x1.mean(), x1)

    return study


@pytest.mark.parametrize("rows", [
    [table.Row("a"), table.Row("a", "--lr 1")], [table.Row("a"), table.Row("b")],
    [table.Row("k = 1", study=scaled(1)), table.Row("k = 2", study=scaled(2))]])
def test_rows_that_would_share_a_label_or_a_log_are_refused(rows):
    with pytest.raises(SystemExit, match=f"mine: the row '{rows[1].label}' has") as stop:
        table.rows(of_my_own(*rows), "shapes")
    assert "\n" not in stop.value.code


def test_a_claim_about_a_row_that_does_not_exist_is_refused_before_the_runs(
        elsewhere, monkeypatch):
    monkeypatch.setattr(logs, "train_row", lambda *_: pytest.fail("trained"))
    orders = [Claim("An order", below("untrained network", "a", "typo"))]
    with pytest.raises(SystemExit, match="mine: a claim is about 'typo', but no row"):
        table.main(of_my_own(table.Row("a"), claims=orders), [])
    facts = [Claim("A fact", every_run("typo", lambda record: True))]
    with pytest.raises(SystemExit, match="the claim 'A fact' is about 'typo', but no row of"):
        table.main(of_my_own(table.Row("a"), claims=facts), [])
    module = of_my_own(table.Row("a"), claims=facts)
    monkeypatch.setattr(every.importlib, "import_module", lambda name: module)
    with pytest.raises(SystemExit, match="the claim 'A fact' is about 'typo', but no row of"):
        every.main(["--only", "sec46_symmetry"])


@pytest.mark.parametrize("splits", [["unlabelled"], ["unlabelled", "train", "test"]])
def test_experiments_need_a_label_for_every_training_image(splits, elsewhere, monkeypatch):
    monkeypatch.setattr(logs, "SCALES", dict(logs.SCALES))
    monkeypatch.setattr(logs.train, "train", None)
    logs.use_photographs(str(make_folder(elsewhere / "own", splits=splits)))
    with pytest.raises(SystemExit, match="own: the experiments need a label for every"):
        logs.train_row(table.Row("a"), "photographs", 0)


def test_logs_of_other_images_are_not_taken_for_those_of_one_s_own(elsewhere, monkeypatch):
    monkeypatch.setattr(logs, "SCALES", dict(logs.SCALES))
    own, row = str(make_folder(elsewhere / "own")), table.Row("a")
    digest = data.load(own).digest()
    logs.use_photographs(own)  # there are no logs yet
    config = {**vars(options.fill_in(options.parse(logs.argv(row, "photographs", 0)), 8)),
              "top1": 50.0, "outputs": {}}
    record = json.dumps({**dict.fromkeys(table.DIGITS, 1.0), "epoch": 5})

    def write(seed, **more):
        path = logs.log_path(row, "photographs", seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**config, "seed": seed, **more}) + "\n" + record)

    write(0)  # older than the digests
    write(1, data_digest=digest)
    logs.log_path(row, "photographs", 3).write_text("")  # cut by a full disk
    logs.use_photographs(own)
    assert len(table.last_records(row, "photographs")) == 2
    write(2, data_digest={**digest, "training images": "others"})
    with pytest.raises(SystemExit, match="a: its logs are of different images") as stop:
        table.last_records(row, "photographs")
    assert "\n" not in stop.value.code
    logs.log_path(row, "photographs", 1).unlink()
    for asked in (lambda: logs.use_photographs(own), lambda: logs.train_row(row, "photographs", 4)):
        with pytest.raises(SystemExit, match="are of other images") as stop:
            asked()
        assert "\n" not in stop.value.code


def test_a_log_of_another_file_s_study_of_the_same_name_is_refused(elsewhere, monkeypatch):
    row = table.Row("a", study=scaled(1))
    for older_or_own in ({}, {"study_file": "test_experiments"}):
        write_log(row, 50.0, **older_or_own)
        assert logs.read_log(row, "shapes", 0)
    write_log(row, 50.0, study_file="another")
    for again in (False, True):
        with pytest.raises(SystemExit, match="is of the study 'study' in another.py") as stop:
            logs.missing([row], "shapes", 1, again)
        assert "\n" not in stop.value.code


def test_no_run_goes_on_with_another_file_s_study_of_the_same_name(elsewhere, monkeypatch):
    begun = []
    monkeypatch.setattr(train, "train", lambda args, study: begun.append(args.out) or 1 / 0)
    for file in "one.py", "another.py":
        names = {}
        exec(compile("def study(run):\n    pass", file, "exec"), names)
        with pytest.raises(ZeroDivisionError):
            logs.train_row(table.Row("a", study=names["study"]), "shapes", 0)
    assert len({*begun}) == 2


@pytest.mark.parametrize("scale", logs.SCALES)
@pytest.mark.parametrize("module", MODULES, ids=every.MODULES)
def test_the_table_of_every_experiment_can_be_written_at_every_scale(module, scale, elsewhere):
    lines = table.table(module, scale).splitlines()
    assert lines[:2] == table.HEAD
    assert all(f"| {row.label} | " in "\n".join(lines) for row in table.rows(module, scale))


def test_the_seeds_of_a_row_differ_in_their_seed_and_their_log_and_in_nothing_else():
    runs = [vars(options.parse(logs.argv(references.UNTRAINED, "shapes", seed))) for seed in (0, 5)]
    assert [run.pop("seed") for run in runs] == [0, 5]
    assert runs[0] == runs[1]
    assert len({logs.log_path(references.UNTRAINED, "shapes", seed) for seed in (0, 5)}) == 2


def test_twice_the_epochs_are_twice_the_scale_s():
    row = table.Row("", times=2)
    assert options.parse(logs.argv(row, "shapes", 0)).epochs == 2 * logs.SCALES["shapes"].epochs


def test_a_finished_run_is_not_repeated_and_its_numbers_are_in_the_results(
        elsewhere, figures, monkeypatch, capsys):
    every.main(["--scale", "smoke", "--only", "sec45_similarity"])
    assert "nothing trained" not in capsys.readouterr().out
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("trained again"))
    every.main(["--scale", "smoke", "--only", "sec45_similarity"])
    assert "from logs, nothing trained" in capsys.readouterr().out
    smoke = elsewhere / "smoke"
    results = (smoke / "results.md").read_text()
    log = smoke / "logs" / "similarity-cross-entropy-seed-0.jsonl"
    config, *records = map(json.loads, log.read_text().splitlines())
    assert config["similarity"] == "cross-entropy" and config["top1"] > 0
    accuracies = f"{config['top1']:.1f} | {records[-1]['knn']:.1f}"
    assert f"| cross-entropy | `--similarity cross-entropy` | 63.2 | {accuracies} |" in results
    assert "(figures/sec45_similarity.png)" in results
    assert (smoke / "figures" / "sec45_similarity.png").exists()
    # A table of which only the row that all share has been run would say nothing.
    assert "tab2_batch_size" in results.partition("## Not run yet")[2]
    assert "## tab2_batch_size" not in results


# ------------------------------------------------------------------------------------------------
# Claims


def row(*numbers, key="top1"):
    """A row of runs with these accuracies."""
    return [{key: number} for number in numbers]


def words(pairs, last):
    """The verdict on a claim that is the only one of its table."""
    decided = decide([Claim("", pairs)], last)
    return claim_verdict([decided[pair][1] for pair in pairs])


@pytest.mark.parametrize("df, t", [(1, 12.706), (2, 4.303), (3, 3.182), (10, 2.228), (30, 2.042)])
def test_Students_t_is_that_of_the_tables(df, t):
    assert t_quantile(df) == pytest.approx(t, abs=1e-3)
    assert t_tails(t, df) == pytest.approx(0.05, abs=1e-4)
    assert t_tails(-t, df) == t_tails(t, df) and t_tails(0, df) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("df, t", [(1, 63.657), (2, 9.925), (4, 4.604), (30, 2.750)])
def test_the_far_tail_of_t_is_that_of_the_tables(df, t):
    assert t_tails(t, df) == pytest.approx(0.01, rel=0.005)


def test_a_difference_is_Welchs():
    found = difference(Pair("a", "b"), {"a": row(1, 2, 3), "b": row(5, 7, 9)})
    # s² / n: 1 / 3 and 4 / 3; their sum 5 / 3; (5/3)² / ((1/3)² / 2 + (4/3)² / 2) = 50 / 17
    assert found.mean == 5 and found.error == pytest.approx((5 / 3) ** 0.5)
    assert found.df == pytest.approx(50 / 17)
    low, high = found.interval()
    assert low + high == pytest.approx(10)
    assert t_tails((5 - low) / found.error, found.df) == pytest.approx(0.05)


def test_Holm_compares_the_smallest_p_value_with_a_share_of_all_and_the_next_with_one_of_the_rest():
    assert holm({"a": 0.03, "b": 0.01, "c": 0.02}) == pytest.approx(  # 3 x 0.01, 2 x 0.02, 0.03
        {"b": 0.05 / 3, "c": 0.05 / 2, "a": 0.05 * 0.03 / 0.04})
    assert holm({"a": 0.0, "b": 0.8}) == pytest.approx({"a": 0.025, "b": 0.05}) and holm({}) == {}


@given(st.lists(st.floats(0, 1), max_size=9))
def test_what_Holm_calls_significant_is_so_by_his_step_down(p):
    bounds = [0.05 / (len(p) - i) for i in range(len(p))]
    steps = list(zip(sorted(p), bounds))
    assume(all(abs(q - bound) > 1e-9 for q, bound in steps))  # rounding would decide
    significant = list(itertools.takewhile(lambda step: step[0] < step[1], steps))
    levels = holm(dict(enumerate(p)))
    assert sum(p[k] < level for k, level in levels.items()) == len(significant)


def test_an_interval_leaves_out_the_claimed_bound_just_when_the_pair_is_decided():
    rng, decided = random.Random(0), set()
    for _ in range(200):
        last = {label: row(*(rng.gauss(mean, 3) for _ in range(3)))
                for label, mean in zip("abcd", (80, 85, 90, 99))}
        claims = [Claim("", below(*"abcd")), Claim("", all_above("a", "c", "d", by=4))]
        for pair, (found, verdict) in decide(claims, last).items():
            low, high = found.interval()
            assert (low <= pair.by <= high) == (verdict not in ("holds", "does not hold"))
            decided.add(verdict)
    assert {"holds", "no difference seen", "undecided"} <= decided


def test_of_tables_without_any_difference_at_most_one_in_twenty_is_said_to_have_one():
    rng, labels, wrong = random.Random(0), "abcdefghi", 0
    claims = [Claim("", none_above(*labels))]
    for _ in range(2000):
        last = {label: row(*(rng.gauss(90, 3) for _ in range(3))) for label in labels}
        wrong += {verdict for _, verdict in decide(claims, last).values()} != {"no difference seen"}
    assert wrong <= 0.06 * 2000


def test_an_order_holds_or_does_not_and_a_small_difference_is_none_seen():
    last = {"a": row(50, 51, 52), "b": row(80, 81, 82), "c": row(80.5, 81.5, 82.5)}
    assert words(below("a", "b"), last) == "holds"
    assert words(below("b", "a"), last) == "does not hold"
    assert words(below("b", "c"), last) == words(below("c", "b"), last) == "no difference seen"
    assert words(below("a", "b", "c"), last) == "no difference seen in 1 of 2"
    assert words(below("b", "a", "c"), last) == "does not hold"
    assert words(none_above("c", "a", "b"), last) == "no difference seen in 1 of 2"
    assert words(none_above("a", "b", "c"), last) == "does not hold"
    assert words(all_above("a", "b", "c"), last) == "holds"


def test_a_margin_shifts_the_order_and_what_lies_near_it_is_undecided():
    last = {"a": row(50, 51, 52), "b": row(80, 81, 82)}
    assert words(below("a", "b", by=20), last) == "holds"
    assert words(below("a", "b", by=40), last) == "does not hold"
    assert words(below("a", "b", by=30), last) == "undecided"
    assert words(all_above("b", "a", by=-40), last) == "holds"
    assert words(all_above("b", "a", by=-20), last) == "does not hold"


def test_rows_without_spread_differ_only_beyond_the_resolution_of_the_accuracy():
    same, near, far = row(100, 100, 100), row(99.9, 99.9, 99.9), row(95, 95, 95)
    assert words(below("a", "b"), {"a": same, "b": same}) == "no difference seen"
    assert words(below("a", "b"), {"a": near, "b": same}) == "no difference seen"
    assert words(below("a", "b"), {"a": far, "b": same}) == "holds"


def test_a_single_seed_and_a_diverged_run_allow_no_verdict_on_an_order():
    two, nan = row(80, 81), row(math.nan, 81)
    assert words(below("a", "b"), {"a": row(50), "b": two}) == "one seed: undecided"
    for last in ({"a": nan, "b": two}, {"a": two, "b": nan}):
        assert words(below("a", "b"), last) == "a run diverged: undecided"


def test_a_run_that_diverged_is_not_one_that_did_not_collapse():
    fine, wild = ({"std": std, "rank": rank} for std, rank in ((0.9, 9.0), (math.nan, math.nan)))
    assert none_collapsed({"a": [fine], "b": [fine]}) and not none_collapsed({"a": [fine, wild]})
    assert not none_collapsed({"a": [fine], "b": [{"std": 0.01, "rank": 9.0}]})


def test_the_mean_of_a_row_is_NaN_if_one_of_its_runs_diverged():
    assert table.fmt([math.nan, 1.0, 2.0]) == "nan ± nan" and table.fmt([math.nan]) == "nan"
    assert table.line("a row", "", "", [{"top1": math.nan}, {"top1": 1.0}]).startswith(
        "| a row |  |  | nan ± nan |")


def test_one_pair_can_refute_a_claim_and_the_rest_of_a_verdict_is_of_its_weakest_pair():
    order = ["does not hold", "a run diverged: undecided", "one seed: undecided",
             "no difference seen", "holds"]
    for a, b in itertools.product(order, repeat=2):
        weakest = min(a, b, key=order.index)
        count = (a, b).count(weakest) if weakest == "no difference seen" else 0
        assert claim_verdict([a, b]) == weakest + f" in {count} of 2" * bool(count)


def test_a_verdict_comes_with_its_differences_and_says_how_many_seeds_it_rests_on():
    rows = [table.Row("a"), table.Row("b")]
    claims = [Claim("A fact", lambda last: len(last.values()) == 2),
              Claim("An order", below("a", "b")),
              Claim("With a reference", below("untrained network", "b"))]
    say = lambda **runs: "\n".join(f"* {text}: {words}{more}" for text, words, more
                                   in table.verdicts(claims, rows, runs))
    both = dict(a=row(50, 51, 52), b=row(80, 81, 82))
    assert "* An order: **holds**\n" in say(**both, **{"untrained network": row(1, 2, 3)})
    said = say(**both)  # another pair, of which a row has not been run, may make Holm stricter
    assert ("* A fact: **holds**\n* An order: **holds** so far (other rows: 0 of 3 seeds)\n"
            "  * b minus a: +30.0 (27.7 to 32.3)\n* With a reference: **not run**") in said
    assert "**holds** so far (2 of 3 seeds)" in say(a=row(50, 51), b=row(80, 81))
    assert "**no difference seen** so far (2 of 3 seeds)" in say(a=row(50, 51), b=row(50, 52))
    assert "**does not hold** so far (2 of 3 seeds)" in say(a=row(80, 81), b=row(50, 51))
    assert "**one seed: undecided**\n" in say(a=row(50), b=row(80)) + "\n"
    assert "**a run diverged: undecided**\n" in say(a=row(50, 51), b=row(80, math.nan))
    assert "b minus a: +0.0 (-" in say(a=row(50.02, 51), b=row(50, 51))  # not -0.0
    assert say(a=row(50), b=[]).count("**not run**") == 3


def test_a_fact_about_one_row_does_not_wait_for_the_others():
    rows = [table.Row("a"), table.Row("b")]
    claims = [Claim("Of a", every_run("a", lambda record: record["top1"] > 40)),
              Claim("Of b", every_run("b", lambda record: True))]
    said = table.verdicts(claims, rows, {"a": row(50, 51, 52), "b": []})
    assert said == [("Of a", "**holds**", ""), ("Of b", "**not run**", "")]
    said = table.verdicts(claims, rows, {"a": row(50, 30), "b": row(1)})
    assert said[0][1] == "**does not hold**"  # one run is enough
    assert said[1][1] == "**holds** so far (1 of 3 seeds)"


def test_table_3_s_rows_with_BN_are_judged_without_those_that_have_none():
    module = importlib.import_module("experiments.tab3_batch_norm")
    healthy = {"std": 0.9, "rank": 9.0, "top1": 90.0}
    runs = {row.label: [healthy] * 3 * ("none" not in row.label) for row in module.ROWS("shapes")}
    *_, (text, verdict, _) = table.verdicts(module.CLAIMS, module.ROWS("shapes"), runs)
    assert text == "(b), (c) and (d) do not collapse" and verdict == "**holds**"


def test_every_table_ends_with_the_references_that_have_been_run(elsewhere):
    module = types.SimpleNamespace(ROWS=[table.Row("own")], CLAIMS=[])
    write_log(references.UNTRAINED, 20.0)
    (elsewhere / "shapes" / "logs" / "pixels.json").write_text('{"knn": 35, "top1": 40}')
    *_, untrained, pixels = table.table(module, "shapes").splitlines()
    assert untrained.startswith("| untrained network | `--lr 0 --epochs 1` |")
    assert pixels == "| raw pixels |  |  | 40.0 | 35.0 |  |  |  | 1 |"
    write_log(references.SUPERVISED, 90.0)
    lines = table.reference_lines("shapes", list("abcd"))
    assert lines["knn"] == {"chance": 25, "raw pixels": 35, "supervised": 90}
    assert [*lines["std"].values()] == [COLLAPSED_STD] and len(lines["rank"]) == 1


def test_a_figure_of_a_module_s_own_gets_all_its_logs_and_curves_only_those_of_equal_length(
        elsewhere, monkeypatch):
    drawn = []
    rows = [table.Row("a"), table.Row("b", "--lr 1", times=2), table.Row("no log", "--lr 2")]
    monkeypatch.setattr(plot, "plot_curves", lambda path, runs, *_, ends: drawn.append([*runs]))
    monkeypatch.setattr(table, "reference_lines", lambda *_: {})
    for row in rows[:2]:
        write_log(row, 50.0, dim=options.RECIPES["shapes"]["dim"], classes=[])
    module = types.SimpleNamespace(ROWS=rows, __spec__=types.SimpleNamespace(name="x.own"))
    assert table.figure(module, "shapes") == elsewhere / "shapes" / "figures" / "own.png"
    module.figure = lambda runs, path: drawn.append([*runs, path.name])
    table.figure(module, "shapes")
    assert drawn == [["a"], ["a", "b", "own.png"]]


def test_a_run_counts_by_its_last_epoch_in_the_table_and_as_a_line_in_the_figure(elsewhere):
    write_log(references.SUPERVISED, 90.0)
    path = logs.log_path(references.SUPERVISED, "shapes", 0)
    config, last = path.read_text().splitlines()
    path.write_text("\n".join([config, last.replace("90.0", "15.0"), last]))
    assert table.reference_lines("shapes", "ab")["knn"]["supervised"] == 90
    assert [r["knn"] for r in table.last_records(references.SUPERVISED, "shapes")] == [90]


@pytest.mark.parametrize("name", ["tab4_comparisons", "sec62_methodology"])
def test_a_table_of_methods_says_that_it_does_not_rank_them(name, elsewhere):
    module = importlib.import_module(f"experiments.{name}")
    write_log(module.ROWS[0], 20.0)
    said = table.table(module, "shapes")
    assert module.NOTE in said.splitlines() and "does not rank" in module.NOTE


def test_the_results_say_which_runs_a_figure_leaves_out(elsewhere):
    for name, left_out in (("fig2_stopgrad", True), ("sec46_symmetry", False)):
        module = importlib.import_module(f"experiments.{name}")
        for row in module.ROWS:
            write_log(row, 20.0)
        text = every.write_results([module], [], "shapes").read_text()
        assert ("Not drawn: the runs of twice the epochs" in text) == left_out


def test_a_module_is_in_the_results_from_its_second_row_on_and_only_named_before(elsewhere):
    module = importlib.import_module("experiments.tab1_predictor")
    for finished, row in enumerate(module.ROWS):
        said = every.write_results([module], [], "shapes").read_text()
        assert ("## tab1_predictor" in said) == (finished >= 2)
        assert ("## Not run yet\n\ntab1_predictor" in said) == (finished < 2)
        write_log(row, 20.0)


@pytest.mark.parametrize("scale", ["shapes", "photographs"])
def test_the_tables_in_the_repository_are_those_that_its_logs_give(scale, tmp_path, monkeypatch):
    committed = logs.results_dir(scale)
    for each in every.BOTH:  # the optimisers' grids on photographs depend on those on shapes
        (tmp_path / each).mkdir()
        (tmp_path / each / "logs").symlink_to(logs.results_dir(each) / "logs")
    monkeypatch.setattr(logs, "results_dir", lambda scale: tmp_path / scale)
    written = every.write_results(MODULES, [], scale)
    assert written.read_text() == (committed / "results.md").read_text()


def test_the_differences_of_all_claims_are_those_of_linear_accuracies_that_have_two_seeds(
        monkeypatch):
    runs = {"low": (10, 20), "high": (40, 44), "once": (5,)}
    module = types.SimpleNamespace(
        __spec__=types.SimpleNamespace(name="experiments.own"),
        ROWS=[table.Row("low", paper=1.0), table.Row("high", "--lr 1", paper=3.5),
              table.Row("once", "--lr 2")],
        CLAIMS=[Claim("An order", below("once", "low", "high")),
                Claim("By kNN", below("high", "low", key="knn")),
                Claim("By two points", below("low", "high", by=2.0))])
    monkeypatch.setattr(table, "runs_of", lambda module, scale: {
        label: [{"top1": x, "knn": x} for x in numbers] for label, numbers in runs.items()
        if scale == "shapes"})
    found = every.all_differences([module])
    assert [*found] == [("own", "high minus low"), ("own", "high minus low, above 2")]
    for by, each in zip((0, 2), found.values()):
        mean, (low, high) = each.pop("shapes")
        assert mean == 27 and low < 27 < high and mean - low == pytest.approx(high - mean)
        assert each == {"by": by, "paper": 2.5}


def test_a_difference_has_the_same_name_at_both_scales_though_its_learning_rates_differ():
    pairs = {"shapes": ("Adam, lr 2", "SGD, lr 0.02"), "photographs": ("Adam, lr 0.8", "SGD, lr 8")}
    names = {every.difference_name(Pair(low, high), scale) for scale, (high, low) in pairs.items()}
    assert names == {"Adam, the recipe's lr minus SGD"}
    assert every.difference_name(Pair("lr halved", "(a) none, lr / 10", by=-2.0), "shapes") == (
        "(a) none, lr / 10 minus lr halved, above -2")


def test_the_list_of_claims_in_the_repository_is_the_one_that_its_logs_give():
    committed = logs.HERE / "results" / "claims.md"
    assert every.all_claims(MODULES) == committed.read_text()


# ------------------------------------------------------------------------------------------------
# Logs


def test_a_run_that_diverges_is_logged_as_such_and_not_repeated(elsewhere):
    row = table.Row("wild", "--lr 9e29")
    logs.train_row(row, "smoke", 0)
    module = types.SimpleNamespace(ROWS=[row], CLAIMS=[])
    assert logs.missing([row], "smoke", 1) == []
    assert "| wild | `--lr 9e29` |  | nan | nan | nan |" in table.table(module, "smoke")
    assert every.time_left([row], "smoke", 1).startswith(", about ")  # its seconds are known


def test_a_run_with_other_options_must_be_done_again_but_a_newer_flag_does_not_matter(
        elsewhere, monkeypatch):
    monkeypatch.setattr(logs, "filled_in", logs.filled_in.__wrapped__)  # the recipe will change
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


def test_the_learning_rate_of_the_best_held_out_kNN_alone_gets_all_seeds_on_the_whole_set(
        elsewhere):
    rows = opt_optimizers.grid("LARS", "shapes")
    assert opt_optimizers.best("LARS", "shapes") is None
    for row, knn in zip(rows.values(), (math.nan, 30, 50, 40, 10)):
        assert row.held_out
        write_log(row, knn)
    best = opt_optimizers.best("LARS", "shapes")
    assert best.label == f"LARS, lr {list(rows)[2]}" and f"--lr {list(rows)[2]}" in best.options
    assert not best.held_out and best.study.__name__ == "LARS"
    todo = logs.missing(opt_optimizers.ROWS("shapes"), "shapes", 2)
    adam = f"Adam, lr {options.RECIPES['shapes']['lr']:g}"  # for the claim about it
    assert [row.label for row, seed in todo if seed == 1] == [best.label, adam]


@pytest.mark.parametrize("lowest, knn, grid", [
    ("0.002", (10, 20, 50, 40, 30), "0.002 0.02 0.2 2 20"),
    ("0.002", (10, 20, 30, 40, 50), "0.002 0.02 0.2 2 20 200"),
    ("0.002", (10, 20, 30, 40, 50, 60), "0.002 0.02 0.2 2 20 200 2000"),
    ("0.002", (10, 20, 30, 40, 50, math.nan), "0.002 0.02 0.2 2 20 200"),
    ("0.002", (60, 20, 30, 40, 50), "0.0002 0.002 0.02 0.2 2 20"),
    ("0.0002", (70, 60, 20, 30, 40, 50), "2e-05 0.0002 0.002 0.02 0.2 2 20"),
    ("0.002", (15, 15, 15, 10, 10), "0.002 0.02 0.2 2 20"),  # none has learned anything
])
def test_a_grid_is_widened_as_long_as_its_best_learning_rate_is_at_its_edge(
        elsewhere, lowest, knn, grid):
    study = opt_optimizers.optimized_by("Adam")
    for i, percent in enumerate(knn):
        lr = f"{float(lowest) * 10**i:g}"
        write_log(table.Row(f"Adam, lr {lr}", f"--lr {lr}", study=study, held_out=True), percent)
    assert " ".join(opt_optimizers.grid("Adam", "shapes")) == grid
    new = len(grid.split()) > len(knn)  # it has to be run before the best can be named
    assert (opt_optimizers.best("Adam", "shapes") is None) == new


@pytest.mark.parametrize("knn, grid", [
    ((10, 20, 40, 25, 19), "0.008 0.08 0.8"),
    ((math.nan, 20, 40, 25, 19), "0.008 0.08 0.8"),
    ((19, 20, 25, 40, 39), "0.008 0.08 0.8 8"),
    ((10, 20, 40, 25), "0.0008 0.008 0.08 0.8 8"),  # a grid with gaps says nothing
])
def test_a_grid_on_photographs_starts_with_the_rates_that_had_half_of_the_best_kNN_on_shapes(
        elsewhere, knn, grid):
    for row, percent in zip(opt_optimizers.grid("Adam", "shapes").values(), knn):
        write_log(row, percent)
    assert " ".join(opt_optimizers.grid("Adam", "photographs")) == grid


def test_a_held_out_run_neither_trains_on_nor_is_measured_by_the_test_images(
        elsewhere, monkeypatch):
    monkeypatch.setattr(lineval, "main", lambda argv: pytest.fail("measured by the test images"))
    kept = []
    row = table.Row("a", study=lambda run: (kept.append(run), run.model)[1], held_out=True, seeds=1)
    logs.train_row(row, "smoke", 0)
    run, full = kept[0], data.load("shapes", image_size=8)
    assert all(map(torch.equal, run.images[:4], full.held_out()[:4])) and len(run.images.test) == 20
    assert len(run.state.order) == len(full.train) - 20 == load_checkpoint(run.out)[
        "config"]["n_train"]
    config, records = logs.read_log(row, "smoke", 0)
    assert "top1" not in config and records[-1]["knn"] is not None
    assert config["study_file"] == "test_experiments"
    plain = row._replace(held_out=False)
    assert logs.log_path(plain, "smoke", 0) != logs.log_path(row, "smoke", 0)
    module = types.SimpleNamespace(ROWS=[row], CLAIMS=[])
    linear = table.table(module, "smoke").splitlines()[2].split("|")[4]
    assert not linear.strip()


def test_a_run_on_held_out_images_is_resumed_on_the_same_images(elsewhere):
    row = table.Row("a", held_out=True, seeds=1)
    argv = [*TINY, "--out", "run"]
    train.train(options.parse([*argv, "--max-steps", "3"]), row.whole_study)
    train.train(options.parse([*argv, "--resume"]), row.whole_study)
    assert load_checkpoint("run")["step"] == 4  # 172 images: two steps per epoch


@pytest.mark.parametrize("scale, written", [
    ("shapes", True), ("photographs", True), ("smoke", False)])
def test_the_claims_are_written_anew_with_the_results_of_either_scale(scale, written, elsewhere):
    every.main(["--scale", scale, "--only", "sec45_similarity", "--dry-run"])
    assert (elsewhere / "claims.md").exists() is written


def test_every_run_of_a_scale_is_measured_by_the_probe_of_that_scale(elsewhere, monkeypatch):
    asked, row = [], table.Row("a row")
    monkeypatch.setattr(logs, "load_run", lambda out: [out])
    monkeypatch.setattr(logs, "measure_outputs", lambda out: {"of": str(out)})
    monkeypatch.setattr(lineval, "main", lambda argv: asked.append(argv) or {
        "top1": 12.5, "probe_lr": 10.0})
    logs.train_row(row, "smoke", 0)
    ((out, *probe),) = asked
    assert " ".join(probe) == logs.SCALES["smoke"].probe != ""
    config, _ = logs.read_log(row, "smoke", 0)
    assert config["top1"] == 12.5 and config["outputs"] == {"of": out}
    assert config["probe_lr"] == 10.0  # the best of a grid: is it at the edge?


def test_the_bars_of_the_spectra_stand_above_the_names_of_their_measures(monkeypatch):
    figures = []
    monkeypatch.setattr(theory_spectrum, "save_figure", lambda figure, *_: figures.append(figure))
    outputs = {"singular values": [0.7, 0.3], "centre": 0.6, "alignment": 1.5, "uniformity": -2.0}
    theory_spectrum.figure({"a": ({"outputs": outputs}, []), "b": ({"outputs": outputs}, [])}, None)
    spectrum, bars = figures[0].axes
    assert spectrum.lines[0].get_xydata().tolist() == [[1, 0.7], [2, 0.3]]
    names = [label.get_text().partition("\n")[0] for label in bars.get_xticklabels()]
    heights = {"$m_o$": 0.6, "$m_r$": 0.8, "alignment": 1.5, "uniformity": -2.0}
    for i, bar in enumerate(bars.patches):  # those of one run, then those of the other
        assert bar.get_height() == pytest.approx(heights[names[i % 4]])
        assert abs(bar.get_x() + bar.get_width() / 2 - bars.get_xticks()[i % 4]) < 0.5


def test_again_repeats_a_run_from_the_start_and_keeps_the_old_log_until_it_has_succeeded(
        elsewhere, monkeypatch, capsys):
    module = importlib.import_module("experiments.sec45_similarity")
    argv = ["--scale", "smoke", "--only", "sec45_similarity"]
    every.main(argv)
    path = logs.log_path(module.ROWS[1], "smoke", 0)
    first = path.read_text()
    path.write_text(first.replace('"loss"', '"old": 1, "loss"'))

    def fails(*_):
        raise SystemExit("no")

    with monkeypatch.context() as patch:
        patch.setattr(train, "train", fails)
        with pytest.raises(SystemExit, match="no"):
            every.main([*argv, "--again"])
    assert '"old": 1' in path.read_text()
    capsys.readouterr()
    every.main([*argv, "--again"])
    said = capsys.readouterr().out
    assert "2 runs to do" in said and "nothing trained" not in said
    assert "held an earlier run" in said  # and the new one did not continue it
    again = [json.loads(text.splitlines()[-1])["loss"] for text in (first, path.read_text())]
    assert '"old": 1' not in path.read_text() and again[0] == again[1]


def test_an_interrupted_run_of_a_row_goes_on_where_it_stopped(elsewhere, monkeypatch):
    row, step, steps = table.Row("a row"), train.SGD.step, []

    def interrupted(*args):
        steps.append(args)
        if len(steps) == 2:
            raise KeyboardInterrupt
        step(*args)

    monkeypatch.setattr(train.SGD, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        logs.train_row(row, "smoke", 0)
    monkeypatch.setattr(train, "start", lambda run: pytest.fail("started again"))
    logs.train_row(row, "smoke", 0)
    assert logs.missing([row], "smoke", 1) == []


def test_raw_pixels_are_evaluated_once_on_the_scale_s_images_by_its_probe(
        elsewhere, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(lineval, "main", lambda argv: asked.append(argv) or {"knn": 1, "top1": 2})
    monkeypatch.setattr(logs, "SCALES", dict(logs.SCALES))
    monkeypatch.setattr(logs, "missing", lambda *_: [])
    table.main(references, ["--scale", "smoke"])
    assert asked == [["--pixels", "--data", "shapes", "--epochs", "1", "--lr", "1"]]
    said = capsys.readouterr().out
    assert "from logs, nothing trained" in said and "| raw pixels |  |  | 2.0 | 1.0 |" in said
    every.main(["--scale", "smoke", "--only", "references"])  # finds the result of the first
    every.main(["--scale", "cifar", "--only", "references", "--dry-run"])
    assert len(asked) == 1
    every.main(["--scale", "cifar", "--only", "references"])
    table.main(references, ["--scale", "photographs", "--photographs", "my $x"])
    assert asked[1:] == [["--pixels", "--data", "cifar10"], ["--pixels", "--data", "my $x"]]


def test_the_options_of_the_experiments_reach_their_runs(elsewhere, monkeypatch):
    ran = []

    def train_row(row, scale, seed, again=False):
        ran.append((row.label, scale, seed, again))
        return logs.log_path(row, scale, seed)

    monkeypatch.setattr(logs, "train_row", train_row)
    module = importlib.import_module("experiments.sec46_symmetry")
    labels = [row.label for row in module.ROWS]
    both = [(label, "smoke", seed, False) for seed in (0, 1) for label in labels]
    argv = ["--scale", "smoke", "--seeds", "2"]
    every.main([*argv, "--only", "sec46_symmetry"])
    assert ran == both
    ran.clear()
    table.main(module, argv)
    assert ran == both
    ran.clear()
    every.main([*argv, "--only", "sec46_symmetry", "--dry-run"])
    assert not ran and (elsewhere / "smoke" / "results.md").exists()
    every.main(["--only", "sec46_symmetry"])
    assert ran == [(label, "shapes", 0, False) for label in labels]


@pytest.mark.parametrize("wrong", ["--seeds 0", "--seeds -3", "--photographs somewhere"])
def test_options_of_experiments_that_cannot_be_meant_are_refused(wrong, elsewhere, capsys):
    for main in every.main, lambda argv: table.main(references, argv):
        with pytest.raises(SystemExit) as stop:
            main(["--scale", "smoke", *wrong.split()])
        assert stop.value.code == 2 and wrong.split()[0] in capsys.readouterr().err


def test_photographs_may_lie_in_any_folder_and_where_they_lie_does_not_matter(
        elsewhere, monkeypatch):
    monkeypatch.setattr(logs, "SCALES", dict(logs.SCALES))
    monkeypatch.setattr(logs, "missing", lambda *_: [])  # only the option counts
    row = table.Row("a row", "--lr 3")
    before = logs.log_path(row, "photographs", 0)
    every.main(["--scale", "photographs", "--only", "sec45_similarity", "--photographs", "my $x/a"])
    args = options.parse(logs.argv(row, "photographs", 0))
    assert args.data == "my $x/a" and args.lr == 3 and args.arch == "resnet8"
    config = {**vars(options.fill_in(args, 32)), "data": "elsewhere/b"}
    assert logs.matches(config, row, "photographs", 0)
    assert logs.log_path(row, "photographs", 0) == before
    assert not logs.matches({**config, "lr": 2}, row, "photographs", 0)
    shapes = {**vars(options.fill_in(options.parse([]), 24)), "data": "shapes-tinted"}
    assert not logs.matches(shapes, table.Row("another"), "shapes", 0)


@pytest.mark.parametrize("module", [*every.MODULES, "all", "compare", "speed", "cost"])
def test_every_help_text_describes_its_module(module, monkeypatch, capsys):
    script = importlib.import_module(f"experiments.{module}")
    monkeypatch.setattr("sys.argv", [module, "--help"])
    with pytest.raises(SystemExit) as stop:
        script.main(*[script] * (script.main is table.main))
    assert stop.value.code == 0
    said = capsys.readouterr().out
    first_line = script.__doc__.splitlines()[0]
    assert " ".join(first_line.split()) in " ".join(said.split())


def test_an_order_may_be_about_any_column_of_the_table():
    for key in table.DIGITS:
        last = {"a": [{key: 1.0}, {key: 1.1}], "b": [{key: 9.0}, {key: 9.1}]}
        assert difference(Pair("a", "b", key), last).mean == pytest.approx(8)


def test_a_run_that_diverged_has_a_verdict_on_its_spectrum(tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "results_dir", lambda scale: tmp_path / scale)
    rows = [table.Row("SimSiam", "--lr 9e29"), table.Row("no stop-gradient", "--lr 1e29")]
    for row in rows:
        logs.train_row(row, "smoke", 0)
    last = {row.label: table.last_records(row, "smoke") for row in rows}
    assert [claim.test(last) for claim in theory_spectrum.CLAIMS] == [False, False]
