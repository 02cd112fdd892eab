"""What the small scripts measure, pass on and print, by hand.    pytest tests/test_scripts.py"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import pathlib
import types

import pytest
import torch
from strategies import Elsewhere, decode_in_a_thread
from torchvision import transforms

import augment
import lineval
import options
import resnet
from experiments import all as every
from experiments import (benchmark, compare, cost, crops, finetune, logs, measures, peers,
                         references, speed, table)
from experiments.table import Claim, Row
from utils import data, weights

TORCH = importlib.metadata.version("torch")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder for runs and results, instead of the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "results_dir", lambda scale: tmp_path / scale)
    monkeypatch.setattr(logs, "SCALES", dict(logs.SCALES))
    return tmp_path


def arguments(monkeypatch, *argv):
    monkeypatch.setattr("sys.argv", ["script", *argv])


# ------------------------------------------------------------------------------------------------
# The command line of the experiments


ROWS = [Row("one row", "--lr 3"), Row("another", "--lr 4", seeds=1)]


def finish(row, scale, seed, *_, seconds=60.0):
    """Write the log of a finished run with numbers of its own; returns its path."""
    path = logs.log_path(row, scale, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    n = 2 * seed + len(row.label)
    config = {"image_size": 24, "top1": n + 0.5, "outputs": {}}
    last = {"epoch": 1, "loss": -n / 100, "std": n / 50, "rank": n + 0.25, "knn": n,
            "seconds": seconds}
    first = {**dict.fromkeys(last, 1.0), "epoch": 0}  # no number of it is among the results
    path.write_text("\n".join(map(json.dumps, (config, first, last))))
    return path


def test_all_py_says_what_is_left_to_do_trains_it_and_names_what_it_wrote(
        elsewhere, monkeypatch, capsys):
    own = types.SimpleNamespace(
        ROWS=ROWS,
        CLAIMS=[Claim("A claim", lambda last: bool(last["one row"]))],
        __doc__="What it is.\nMore.", pixels=lambda scale: None,
        __spec__=types.SimpleNamespace(name="experiments.own"))
    trained = []
    monkeypatch.setattr(every, "MODULES", ("references",))
    load = importlib.import_module  # matplotlib calls it, too
    monkeypatch.setattr(every.importlib, "import_module", lambda name, *of: (
        own if name == "experiments.references" else load(name, *of)))
    monkeypatch.setattr(references, "ROWS", [])
    monkeypatch.setattr(table, "figure", lambda *_: None)
    monkeypatch.setattr(logs, "train_row", lambda row, *rest: (
        trained.append((row.label, *rest)), finish(row, *rest, seconds=100.0 * len(trained)))[1])
    every.main(["--seeds", "2", "--only", "references"])
    # Seed by seed, and a row of one seed once; the time left is that of the median finished run of
    # seed 0, which take 100 and 200 seconds.
    assert capsys.readouterr().out.split("\n") == [
        "3 runs to do", "", "one row: `--lr 3` --seed 0",
        "2 runs to do, about 03:20", "", "another: `--lr 4` --seed 0",
        "1 run to do, about 02:30", "", "one row: `--lr 3` --seed 1",
        "0 runs to do", f"{elsewhere}/shapes/results.md", f"{elsewhere}/claims.md", ""]
    assert trained == [("one row", "shapes", 0, False), ("another", "shapes", 0, False),
                       ("one row", "shapes", 1, False)]
    results = (elsewhere / "shapes/results.md").read_text()
    assert "## own\n\nWhat it is.\n\n| run | flags | paper | linear (%) | kNN (%) | " in results
    rows = [line for line in results.splitlines() if line.startswith(("| one", "| another"))]
    assert rows == [  # seeds 0 and 1: 7 and 9
        "| one row | `--lr 3` |  | 8.5 ± 1.4 | 8.0 ± 1.4 | -0.080 ± 0.014 | 0.16 ± 0.03 |"
        " 8.2 ± 1.4 | 2 |",
        "| another | `--lr 4` |  | 7.5 | 7.0 | -0.070 | 0.14 | 7.2 | 1 |"]
    assert results.endswith("![own](figures/own.png)\n") and "for 3 seeds per row" in results
    assert "std·√d below 0.1 or an effective rank below 2.0" in " ".join(results.split())
    assert results.splitlines()[0].endswith(" of shapes")
    head, _, claim = (elsewhere / "claims.md").read_text().splitlines()[-3:]
    assert head == "| experiment | claim | shapes | photographs |"
    assert claim == "| own | A claim | **holds** so far (2 of 3 seeds) | **not run** |"


def test_a_single_experiment_trains_what_is_missing_and_prints_its_table_and_its_figure(
        elsewhere, monkeypatch, capsys):
    module = types.SimpleNamespace(ROWS=ROWS, CLAIMS=[], __doc__="What it is.",
                                   __spec__=types.SimpleNamespace(name="experiments.own"))
    finish(ROWS[0], "shapes", 0)
    trained = []
    monkeypatch.setattr(logs, "train_row", lambda row, *rest: (
        trained.append((row.label, *rest)), finish(row, *rest))[1])
    monkeypatch.setattr(table, "figure", lambda module, scale: f"the figure of {scale}")
    for argv in [], ["--again"]:
        table.main(module, argv)
        said = capsys.readouterr().out
        assert said == f"\n{table.table(module, 'shapes')}\n\nthe figure of shapes\n"
    assert trained == [("another", "shapes", 0, False), ("one row", "shapes", 0, True),
                       ("another", "shapes", 0, True)]
    table.main(module, [])
    assert capsys.readouterr().out.startswith("from logs, nothing trained\n\n| run | ")


def test_a_log_holds_the_options_in_effect_who_ran_it_where_and_every_epoch(
        elsewhere, monkeypatch, small_shapes):
    monkeypatch.setattr(lineval, "main", lambda argv: {"top1": 12.5, "probe_lr": 10.0})
    monkeypatch.setattr(logs, "load_run", lambda out: [out])
    monkeypatch.setattr(logs, "measure_outputs", lambda out: {"centre": 0.5})
    monkeypatch.setattr(logs, "machine", lambda: "a machine")
    monkeypatch.setattr(logs.runs, "commit", lambda: "abc")
    row = Row("a row", "--lr 3")
    path = logs.train_row(row, "smoke", 4)
    assert path == elsewhere / "smoke/logs/lr-3-seed-4.jsonl"
    config, *records = map(json.loads, path.read_text().splitlines())
    out = pathlib.Path("runs/experiments/smoke/lr-3-seed-4")
    assert records == [json.loads(line) for line in (out / "metrics.jsonl").open()]
    assert records and records[-1]["epoch"] > 0
    expected = {"lr": 3.0, "seed": 4, "epochs": 2, "top1": 12.5, "probe_lr": 10.0,
                "outputs": {"centre": 0.5},
                "commit": "abc", "machine": "a machine", "study": "", "study_file": "",
                "n_train": 192}
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize("fits, newest, again, goes_on, said", [
    (True, True, False, True, ""), (True, False, False, False, "of older code"),
    (False, True, False, False, "with other options"), (True, True, True, False, "an earlier run")])
def test_a_run_folder_is_continued_if_it_can_be_and_otherwise_moved_aside(
        fits, newest, again, goes_on, said, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    assert not logs.can_resume(out, ROWS[0], "smoke", 3, again)  # there is none
    out.mkdir()
    assert not logs.can_resume(out, ROWS[0], "smoke", 3, again) and out.exists()  # or it is empty
    (out / "checkpoint.pt").write_text("weights")
    saved = {"format": logs.checkpoint.FORMAT - (not newest), "config": {"of": "the run"}}
    monkeypatch.setattr(logs.runs, "load_checkpoint", lambda path: saved if path == out else None)
    monkeypatch.setattr(logs, "matches", lambda *args: (
        fits and args == (saved["config"], ROWS[0], "smoke", 3)))
    assert logs.can_resume(out, ROWS[0], "smoke", 3, again) is goes_on
    (kept,) = tmp_path.glob("run*/checkpoint.pt")
    assert (kept.parent == out) == goes_on and said in capsys.readouterr().out


def test_the_machine_is_the_processor_s_name_and_the_number_of_threads(monkeypatch):
    text = "model name\t: A Fine CPU 3000\nmodel name\t: A Fine CPU 3000\n"
    monkeypatch.setattr(pathlib.Path, "read_text", lambda self: text)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert logs.machine() == "A Fine CPU 3000, 7 threads"


# ------------------------------------------------------------------------------------------------
# crops.py


def test_crops_trains_three_seeds_of_both_kinds_and_prints_their_means_and_the_test(
        tmp_path, monkeypatch, capsys):
    (tmp_path / "train").mkdir()
    asked = []
    top1 = {"square": [50.0, 51.0, 52.0], "whole": [60.0, 62.0, 64.0]}

    def accuracy(name, home, sizes, *options):
        asked.append((name, sizes, *options))
        seed = options[1] if options[0] == "--seed" else "untrained"
        return {"top1": 20.0, "knn": 10.0} if seed == "untrained" else {
            "top1": top1[name][int(seed)], "knn": top1[name][int(seed)] - 5}

    monkeypatch.setattr(crops, "write_squares", lambda source, home: (
        asked.append(str(source)), (24, 32))[1])
    monkeypatch.setattr(crops, "accuracy", accuracy)
    monkeypatch.setattr(lineval, "main", lambda argv: (
        asked.append((argv[:2], pathlib.Path(argv[2]).name)), {"top1": 30.0, "knn": 25.0})[1])
    arguments(monkeypatch, str(tmp_path))
    crops.main()
    assert asked == [
        str(tmp_path), *((name, (24, 32), "--seed", str(seed)) for name in ("square", "whole")
                         for seed in (0, 1, 2)),
        ("square", (24, 32), "--lr", "0", "--epochs", "1"), (["--pixels", "--data"], "square")]
    # s² / n: 1 / 3 and 4 / 3; their root 1.291; 50 / 17 degrees of freedom, whose t is 3.217
    assert capsys.readouterr().out.splitlines() == [
        "square     linear 51.0 ± 1.0 %, kNN 46.0 ± 1.0 %, n = 3",
        "whole      linear 62.0 ± 2.0 %, kNN 57.0 ± 2.0 %, n = 3",
        "untrained  linear 20.0 %, kNN 10.0 %, n = 1",
        "pixels     linear 30.0 %, kNN 25.0 %, n = 1",
        "whole minus square: +11.0 (6.8 to 15.2) points, linear: holds"]


@pytest.mark.parametrize("name, stored", [("square", 24), ("whole", 32)])
def test_a_run_of_crops_has_views_of_the_square_s_side_and_is_evaluated_on_squares(
        name, stored, monkeypatch):
    runs = []
    monkeypatch.setattr(crops.train, "train", runs.append)
    monkeypatch.setattr(crops, "evaluated", lambda *args: runs.append(args) or {"top1": 5})
    home = pathlib.Path("home")
    assert crops.accuracy(name, home, (24, 32), "--seed", "2", "--lr", "0") == {"top1": 5}
    args, (out, squares) = runs
    assert squares == home / "square" and out == args.out
    assert (args.data, args.arch, args.image_size, args.stored_size, args.seed, args.lr,
            args.knn_every) == (f"home/{name}", "resnet8", 24, stored, 2, 0, 1000)


# ------------------------------------------------------------------------------------------------
# speed.py and cost.py


RESULTS = {"cpu": [], "cuda": []}  # rows of tables, by the device that they are of
for line in benchmark.RESULTS.read_text().splitlines():
    if line.startswith("## "):
        of_device = RESULTS["cuda" if "NVIDIA" in line else "cpu"]
    elif line.startswith("| ") and line.count("|") > 5:
        of_device.append(line.strip("| ").split(" | "))


@pytest.mark.parametrize("device, n_rows, newer, folders", [
    ("cpu", 25, {"a step of lejepa, the recipe for shapes"}, 4), ("cuda", 6, set(), 1)])
def test_every_row_of_the_results_is_one_that_speed_py_still_prints_in_that_order(
        device, n_rows, newer, folders, tmp_path, monkeypatch, capsys):
    asked, flops, side = [], 1000, 2048 if device == "cpu" else 8192

    class Counter:
        __init__ = lambda self, display: None
        __enter__ = lambda self: self
        __exit__ = lambda self, *_: None
        get_total_flops = lambda self: flops * asked[-1].batch_size

    def our_loop(folder, argv):
        args = asked[-1]
        fast = " --bf16 --compile" * (device == "cuda")
        assert argv == (f"--arch {args.arch}{fast} --batch-size {args.batch_size}"
                        f" --dim {args.dim}").split()
        assert not args.compile  # the network whose operations are counted
        return lambda: 8.0

    def rate(function, amount, times):
        args = asked[-1]  # all images once, or twenty products for the peak
        assert (amount, times) in ((2 * side**3 / flops, 20),
                                   (args.batch_size, written[-1] // args.batch_size))
        return 2.0

    written, raced = [], []
    fakes = {
        "tune": lambda device: None, "FlopCounterMode": Counter, "our_loop": our_loop, "rate": rate,
        "network": lambda args: (asked.append(args), (lambda: None, lambda: None))[1],
        "smooth_images": lambda n: torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
        "write_folder": lambda path, n: written.append(n),
        "peer_loop": lambda args, images, peer: lambda: 4.0,
        "torchvision_peer": lambda args: None, "lightly_peer": lambda args: None,
        "in_turns": lambda steps, n: {name: [2.0] * n for name in steps},
        "race": lambda what, ours, name, theirs, n: (
            raced.append(n), [(what, "s", 1.0, name, 3.0, 3.0)])[1],
        "two_processes": lambda: [(
            "train.py, the recipe for shapes, two processes of one thread", "images/s", 1.0,
            "one process of two threads", 3.0, 3.0)],
        "machine": lambda: "a machine"}
    for name, fake in fakes.items():
        monkeypatch.setattr(speed, name, fake)
    monkeypatch.setattr(speed, "DEVICE", device)
    monkeypatch.setattr(speed.options, "device", str)  # takes "cuda", even where there is none
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(1, 1))
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "speed.md")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name}'s")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "lightly")
    arguments(monkeypatch, "--peers")
    speed.main()
    said = capsys.readouterr().out.splitlines()
    assert said[1] == (f"## {datetime.date.today()}, a machine, torch torch's, torchvision"
                       " torchvision's, lightly lightly's")
    rows = [line.strip("| ").split(" | ") for line in said if line.count("|") == 7]
    assert rows[0] == "what | unit | ours | against | theirs | times as fast".split(" | ")
    printed = [(what, unit, against) for what, unit, _, against, *_ in rows[2:]]
    kept = [(row[0], row[1], row[3]) for row in RESULTS[device] if len(row) == 6][1:]
    assert len(kept) == n_rows and [row for row in printed if row in kept] == kept
    assert {row[0] for row in printed if row not in kept} == newer  # than the results
    ratios = {row[3]: row[-1] for row in rows[2:]}
    assert ratios["lightly"] == ratios["torchvision on PIL"] == "2.00"  # 8 against 4 images/s
    assert ratios["the peak"] == "4.00"
    assert ratios.get("from the cache", "3.00") == "3.00"  # 3 s against 1
    assert all(args.device == device for args in asked) and len(written) == folders


@pytest.mark.parametrize("on_gpu, options", [
    (False, "--arch resnet8"), (True, "--arch resnet18 --bf16 --compile")])
def test_cost_py_prints_a_line_for_every_point_and_on_a_CPU_those_of_the_results(
        on_gpu, options, monkeypatch):
    said, asked = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
    monkeypatch.setattr(cost, "machine", lambda: "a machine")
    monkeypatch.setattr(cost, "megabytes", lambda *argv: 533.4)
    monkeypatch.setattr(cost, "write_folder", lambda folder, n: (
        folder.mkdir(), (folder / "n").write_text(str(n))))
    monkeypatch.setattr(cost, "cost", lambda options, b, folder: (
        asked.append((options, b, int((folder / "n").read_text()))), (100.0, 7.6))[1])
    monkeypatch.setattr(cost, "report", lambda *lines: said.extend(lines))
    arguments(monkeypatch)
    cost.main()
    assert said[:4] == [
        f"\n## {datetime.date.today()}, a machine, torch {TORCH}: `train.py {options}`\n",
        "| batch | images | images/s | an epoch, s | memory, MB |", "|---|---|---|---|---|",
        "| | imports only | | | 533 |"]
    points = [(b, n) for _, b, n in asked]
    assert {o for o, _, _ in asked} == {options}
    assert said[4:] == [f"| {b} | {n} | 100 | {n // b * b / 100:.2f} | 8 |" for b, n in points]
    kept = [(int(row[0]), int(row[1])) for row in RESULTS["cpu"]
            if len(row) == 5 and row[0].isdigit()]
    if on_gpu:  # up to CIFAR-10's number of images
        kept = [*((2**i, 50000) for i in range(7, 13)), (512, 12500), (512, 25000)]
    assert points == kept


def test_the_memory_is_that_of_a_process_which_trains_for_two_epochs_with_these_options(
        monkeypatch):
    ran = []
    monkeypatch.setattr(cost.subprocess, "run", lambda argv, **how: (
        ran.append((argv, how)), types.SimpleNamespace(stdout="epoch 1\n12.5\n"))[1])
    monkeypatch.setattr(cost, "read_metrics", lambda out: [{"images_per_s": 1}])
    assert cost.megabytes() == 12.5 and cost.cost("--arch a", 4, "folder") == (1, 12.5)
    (imports, how), (argv, _) = ran
    assert imports[1:] == ["-c", cost.RUN] and how["cwd"] == logs.HERE.parent and how["check"]
    assert argv[3:-1] == "--data folder --arch a --batch-size 4 --epochs 2 --out".split()


def test_a_step_of_the_network_updates_its_weights_and_alone_it_only_has_gradients():
    args = speed.arguments(8, *"--arch resnet8 --dim 8 --batch-size 4".split())
    assert (args.image_size, args.dim, args.batch_size, args.device) == (8, 8, 4, "cpu")
    built = []
    with pytest.MonkeyPatch.context() as patch:
        build = speed.options.build
        patch.setattr(speed.options, "build",
                      lambda args: (built.append(build(args)), built[-1])[1])
        alone, step = speed.network(args)
    (model,) = built
    w = model.backbone.conv1.weight
    before = w.detach().clone()
    alone()
    once = w.grad.clone()
    alone()  # gradients of the same views do not add up
    assert torch.equal(w, before) and torch.allclose(w.grad, once, rtol=1e-2) and once.any()
    step()
    assert torch.allclose(w, before - 0.01 * (w.grad + 5e-4 * before), atol=1e-6)


def test_a_rate_is_what_all_calls_do_over_the_time_that_they_take(monkeypatch):
    clock = iter([10.0, 14.0])
    calls = []
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    assert benchmark.rate(lambda: calls.append(1), 6, 3) == 4.5 and len(calls) == 3


@pytest.fixture
def raced(monkeypatch):
    """Races are not run but kept: (what, ours, name, theirs, turns, threads)."""
    kept = []
    monkeypatch.setattr(speed, "race", lambda *args: kept.append((*args, torch.get_num_threads())))
    return kept


def test_views_are_raced_on_one_thread_and_the_others_come_back(raced, monkeypatch):
    threads = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    made, smooth = [], speed.smooth_images
    monkeypatch.setattr(speed, "smooth_images", lambda n: (made.append(n), smooth(5))[1])
    speed.views()
    ((_, ours, _, theirs, _, used),) = raced
    assert made == [512] and used == 1 and threads == [3, 1, 3]
    assert ours().shape == (5, 3, 32, 32) and [v.shape for v in theirs()] == [(3, 32, 32)] * 5


def test_kNN_is_raced_against_its_product_on_50000_and_10000_features(raced, monkeypatch):
    asked = []
    monkeypatch.setattr(lineval, "knn_predict", lambda *args: asked.append(args))
    monkeypatch.setattr(torch, "randn", lambda *shape: torch.zeros(*shape))
    speed.knn()
    raced[0][1]()
    ((bank, labels, query, classes),) = asked
    assert bank.shape == (50000, 512) and query.shape == (10000, 512) and classes == 10
    assert labels.bincount().tolist() == [5000] * 10


def test_decoding_is_raced_against_the_cache_and_forgets_it_each_time(raced, monkeypatch):
    decode_in_a_thread(monkeypatch)
    decoded, decode = [], data.read_folder
    monkeypatch.setattr(data, "read_folder", lambda path, *rest: (
        decoded.append(sorted(p.suffix for p in pathlib.Path(path).glob(".simsiam-*px*"))),
        decode(path, *rest))[1])

    def race(what, ours, name, theirs, turns):
        for function in (ours, theirs, ours):
            function()
        assert what == "reading 2 JPEGs of 32 px"

    monkeypatch.setattr(speed, "race", race)
    speed.decoding(2)
    assert decoded == [[], [".json", ".u8"], []]


def test_the_start_of_train_py_is_raced_against_the_import_of_torch(raced, monkeypatch):
    ran = []
    monkeypatch.setattr(speed.subprocess, "run", lambda argv, **_: ran.append(argv[1:]))
    speed.start()
    _, ours, _, theirs, *_ = raced[0]
    ours(), theirs()
    assert ran == [["train.py", "--help"], ["-c", "import torch"]]


def test_our_loop_gives_the_rate_of_its_last_epoch_the_second_if_the_first_is_compiled(
        monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(speed.train, "train", lambda args: (
        ran.append(args), print("noise"), {"images_per_s": 7.0})[2])
    for flags in (["--dim", "8"], ["--dim", "8", "--compile"]):
        assert speed.our_loop("a folder", flags)() == 7.0 and not capsys.readouterr().out
    for args, epochs in zip(ran, (1, 2), strict=True):
        assert (args.data, args.epochs, args.device, args.dim) == ("a folder", epochs, "cpu", 8)


def test_a_peer_s_view_is_drawn_as_ours_is_in_Appendix_A_without_blur():
    names = [type(step).__name__ for step in peers.PIL_VIEW.transforms]
    assert names == ["RandomResizedCrop", "RandomApply", "RandomGrayscale",
                     "RandomHorizontalFlip", "ToTensor", "Normalize"]
    crop, jitter, gray, flip, _, normalize = peers.PIL_VIEW.transforms
    assert (crop.size, crop.scale) == ((32, 32), (0.2, 1.0))
    (colours,) = jitter.transforms
    assert (jitter.p, gray.p, flip.p) == (0.8, 0.2, 0.5)
    assert (colours.brightness, colours.contrast, colours.saturation, colours.hue) == (
        (0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1))
    assert (normalize.mean, normalize.std) == ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    image = transforms.ToPILImage()(torch.rand(3, 32, 32))
    x1, x2 = peers.pil_views(image)
    assert x1.shape == x2.shape == (3, 32, 32) and not torch.equal(x1, x2)


def test_a_peer_trains_on_two_views_of_every_full_batch_and_counts_its_images(monkeypatch):
    seen, clock = [], iter([10.0, 12.0])
    model = torch.nn.Linear(1, 1)

    class Loader:
        def __init__(self, pairs, batch_size, **how):
            assert how["shuffle"] and how["drop_last"] and len(pairs) == 5
            self.batches = [torch.utils.data.default_collate([pairs[2 * i], pairs[2 * i + 1]])
                            for i in range(len(pairs) // batch_size)]

        __len__ = lambda self: len(self.batches)
        __iter__ = lambda self: iter(self.batches)

    def loss_fn(x1, x2):
        seen.append((x1.tolist(), x2.tolist()))
        return model(x1[:, None]).sum()

    monkeypatch.setattr(peers, "DataLoader", Loader)
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    peer = (lambda i: (torch.tensor(1.0 * i), torch.tensor(-1.0 * i))), model, loss_fn
    before = model.bias.item()
    rate = peers.peer_loop(argparse.Namespace(batch_size=2), [1, 2, 3, 4, 5], peer)()
    assert rate == 2 * 2 / 2 and model.bias.item() < before
    assert seen == [([1, 2], [-1, -2]), ([3, 4], [-3, -4])]


# ------------------------------------------------------------------------------------------------
# Fine-tuning, and the references


def fake_images(view_size=None):
    x = torch.randint(256, (20, 3, 12, 12), dtype=torch.uint8)
    y = torch.arange(20) % 4
    return data.Data(x, y[:16], x[:8], y[:8], list("abcd"), view_size)


def test_fine_tuning_prints_both_starts_and_exports_the_fine_tuned_network(monkeypatch, capsys):
    networks = {(start, lr): object() for start in (False, True) for lr in (0.1, 0.4, 1.6)}
    top1 = {(False, 0.1): 1, (False, 0.4): 2, (False, 1.6): 50.126, (True, 0.1): 70.5,
            (True, 0.4): 3, (True, 1.6): 4}
    monkeypatch.setattr(finetune, "train_classifier", lambda args, state, config, images, lr: (
        networks[bool(state), lr], top1[bool(state), lr]))
    exported = []
    monkeypatch.setattr(weights, "export", lambda *args: exported.append(args))
    args = argparse.Namespace(seed=0, finetune=7, export="x.pt", batch_size=4)
    config, images = {}, fake_images()
    found = finetune.finetune(args, resnet.resnet("resnet8", "cifar"), config, images)
    assert found == {"scratch": 50.126, "scratch_lr": 1.6, "finetuned": 70.5, "finetuned_lr": 0.1}
    assert capsys.readouterr().out == ("fine-tuned, 7 epochs: top-1 70.50 % (base lr 0.1); from"
                                       " scratch: 50.13 % (1.6)\n")
    assert exported == [("x.pt", networks[True, 0.1], config, list("abcd"))]


@pytest.mark.parametrize("view_size, size", [(None, 12), (8, 8)])
def test_a_classifier_learns_from_labelled_crops_and_flips_and_is_tested_on_whole_images(
        view_size, size, monkeypatch):
    fitted, tested, made = [], [], []
    monkeypatch.setattr(finetune, "fit", lambda *args: fitted.append(args))
    logits = torch.eye(4)[torch.tensor([0, 1, 2, 3, 1, 1, 2, 3])]
    monkeypatch.setattr(finetune, "extract_features", lambda *args: (
        tested.append(args), logits)[1])
    augment = finetune.Augment
    monkeypatch.setattr(finetune, "Augment", lambda *args, **p: (
        made.append(augment(*args, **p)), made[-1])[1])
    images, mean, std = fake_images(view_size), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    args = argparse.Namespace(seed=0, finetune=7, epochs=100, batch_size=5, device="cpu")
    config = dict(arch="resnet8", stem="cifar", padding=2, mean=mean, std=std)
    network, top1 = finetune.train_classifier(args, {}, config, images, 0.4)
    assert network.conv1.padding == (2, 2)
    assert top1 == 100 * 7 / 8 and network.fc.out_features == 4  # one of eight is wrong
    ((network_, test, *how),) = tested
    assert network_ is network and test is images.test and how == [mean, std, view_size]
    ((loss, sgd, x, y, lr, epochs, batch_size),) = fitted
    assert (lr, epochs, batch_size) == (0.4, 7, 5) and y is images.train_labels
    assert torch.equal(x, images.train[:16])
    assert loss(x[:3].as_subclass(Elsewhere)).shape == (3, 4)  # a set too large for the device
    assert (sgd.momentum, sgd.weight_decay) == (0.9, 1e-4)
    (T,) = made
    assert (T.size, T.mean, T.std, T.crop_scale) == (size, mean, std, (0.4, 1.0))
    assert (T.jitter_p, T.gray_p, T.blur_p, T.flip_p) == (0, 0, 0, 0.5)


def test_the_result_of_raw_pixels_says_which_code_and_machine_it_is_of(elsewhere, monkeypatch):
    monkeypatch.setattr(lineval, "main", lambda argv: {"knn": 1, "top1": 2})
    monkeypatch.setattr(logs, "machine", lambda: "a machine")
    monkeypatch.setattr(references.runs, "commit", lambda: "abc")
    expected = {"knn": 1, "top1": 2, "commit": "abc", "machine": "a machine"}
    assert references.pixels("shapes") == expected == references.pixels("shapes")
    assert json.loads((elsewhere / "shapes/logs/pixels.json").read_text()) == expected


# ------------------------------------------------------------------------------------------------
# What the other scripts print


def test_augment_py_says_what_the_picture_shows_and_by_default_of_shapes(
        elsewhere, monkeypatch, capsys, small_shapes):
    made, asked, load, real = [], [], data.load, augment.Augment
    monkeypatch.setattr(data, "load", lambda *args: (asked.append(args), load(*args))[1])
    monkeypatch.setattr(options, "Augment", lambda *args, **p: (
        made.append(real(*args, **p)), made[-1])[1])
    arguments(monkeypatch)
    augment.main()
    assert capsys.readouterr().out == "views.png: 16 images of shapes above two views of each\n"
    assert pathlib.Path("views.png").exists() and asked == [("shapes", "datasets", None, False)]
    (T,) = made
    images = load("shapes")
    assert (T.size, T.crop_scale, T.blur_p) == (12, (0.4, 1.0), 0.0)  # the recipe for shapes
    assert (T.mean, T.std) == images.mean_std()


@pytest.mark.parametrize("lr, used", [(None, 7.0), (3.0, 3.0)])
def test_lineval_prints_and_returns_kNN_and_the_probe_and_the_rate_that_it_used(
        lr, used, monkeypatch, capsys):
    right = {1: 81.257, 5: 99.5}
    calls = []
    monkeypatch.setattr(lineval, "knn_accuracy", lambda *args: (calls.append(args), 88.123)[1])
    monkeypatch.setattr(lineval, "choose_lr", lambda *args: (calls.append(args), 7.0)[1])
    monkeypatch.setattr(lineval, "fit_probe", lambda *args: (calls.append(args), "probe")[1])
    monkeypatch.setattr(lineval, "topk_accuracy", lambda *args: (calls.append(args),
                                                                 right[args[-1]])[1])
    images, x, x_test = fake_images(), torch.zeros(16, 2), torch.zeros(8, 2)
    y, y_test = images.train_labels, images.test_labels
    args = argparse.Namespace(run="", optimizer="sgd", epochs=3, batch_size=4, lr=lr)
    found = lineval.evaluate(args, images, x, x_test)
    assert found == {"knn": 88.123, "k": 2, "top1": 81.257, "top5": 99.5, "probe_lr": used}
    assert capsys.readouterr().out.splitlines() == [
        "kNN, k = 2: 88.12 % of 8 test images",
        f"linear probe, base lr {used:g}: top-1 81.26 %, top-5 99.50 %"]
    settings = 4, lineval.SGD, 3, 4
    expected = [(x, y, x_test, y_test), *[(x, y, *settings)] * (lr is None),
                (x, y, used, *settings), ("probe", x_test, y_test, 1), ("probe", x_test, y_test, 5)]
    assert [len(call) for call in calls] == [len(call) for call in expected]
    assert all(a is b or a == b for call, other in zip(calls, expected)
               for a, b in zip(call, other))


def test_a_block_of_neighbours_is_titled_by_its_run_s_measures_and_counts_those_of_the_class(
        monkeypatch):
    drawn, images = [], fake_images()  # test images 0 to 7 have the labels 0 1 2 3 0 1 2 3
    images = images._replace(train_labels=torch.arange(16) % 4, train=images.train[:16])
    bank = torch.eye(4)[images.train_labels] + 0.01 * torch.randn(16, 4)
    query = torch.eye(4)[torch.tensor([0, 1, 3, 2, 0, 1, 2, 3])]  # two are taken for each other
    monkeypatch.setattr(lineval, "load_backbone", lambda folder, device: (folder, {}))
    monkeypatch.setattr(compare.weights, "load_images", lambda *_: (images, None))
    monkeypatch.setattr(lineval, "features", lambda *_: (bank, query))
    monkeypatch.setattr(compare.plot, "save_neighbours", lambda *args: drawn.append(args))
    last = {"loss": -0.456, "std": 0.987, "rank": 12.34}
    compare.save_neighbours({"a run": ({}, [{}, last])}, "a path", classes=3, k=2)
    ((path, queries, blocks, labelled),) = drawn
    assert labelled and path == "a path" and torch.equal(queries, images.test[:3])
    ((title, neighbours, right),) = blocks
    assert title == "a run: loss -0.46, std 0.99, rank 12.3: 4 of 6 of the right class"
    assert neighbours.shape == (3, 2, 3, 12, 12) and right.tolist() == [[True] * 2, [True] * 2,
                                                                      [False] * 2]


def test_the_outputs_of_a_run_are_measured_on_about_2048_images_in_batches_of_the_run(
        monkeypatch):
    seen, W = [], torch.randn(3, 300, generator=torch.Generator().manual_seed(0))

    class Model:
        def load_state_dict(self, weights, strict):
            assert weights == {"projector.w": 1} and not strict  # without h

        def f(self, x):
            seen.append(len(x))
            return x.mean(dim=(2, 3)) @ W + torch.eye(len(x), 300)

    config = {"batch_size": 500, "crop_min": 0.5, "blur": 0.0, "mean": [0.5] * 3,
              "std": [0.2] * 3, "image_size": 4}
    monkeypatch.setattr(measures.runs, "load_checkpoint", lambda out: {
        "config": config, "model": {"projector.w": 1, "h.w": 2}})
    monkeypatch.setattr(measures.options, "build", lambda args: Model())
    images = fake_images()._replace(train=torch.randint(256, (3000, 3, 4, 4), dtype=torch.uint8))
    monkeypatch.setattr(data, "load", lambda *args: images)
    found, again = (measures.measure_outputs(*measures.load_run("a run")) for _ in range(2))
    assert seen == 16 * [500]  # 4 x 500 images, two views, twice
    assert found == again  # by a seed of its own
    shares = found["singular values"]
    assert len(shares) == 256 and shares == sorted(shares, reverse=True) and sum(shares) < 1
    assert all(value == float(f"{value:.4g}") for value in shares)
