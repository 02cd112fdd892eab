"""Laws of whole runs: what they leave, measure, repeat and resume.    pytest tests/test_train.py"""

import ctypes
import json
import math
import resource
from contextlib import nullcontext
from types import SimpleNamespace

import numpy
import pytest
import torch
from strategies import TINY, NeverWaits, forked, make_folder, message, records
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import augment
import lineval
import options
import simsiam
import train
from baselines import lejepa
from utils import checkpoint, console, data, device
from utils.runs import load_checkpoint

pytestmark = pytest.mark.usefixtures("small_shapes")


def test_a_run_leaves_its_files_and_lineval_reads_them(tmp_path, figures, capsys):
    out = tmp_path / "run"
    final = train.main([*TINY, "--out", str(out)])
    assert train.verdict(records(out), 16) in capsys.readouterr().out.replace("\n  ", " ")
    names = {"config.json", "metrics.jsonl", "checkpoint.pt", "views.png", "curves.png",
             ".simsiam-lock"}
    assert names == {file.name for file in out.iterdir()}
    assert [r["epoch"] for r in records(out)] == [0, 1, 2]
    for record in records(out):
        assert list(record) == ["epoch", "loss", "std", "rank", "knn", "lr", "images_per_s",
                                "seconds"] + ["pixels_knn"] * (record["epoch"] == 0)
        assert all(math.isfinite(value) for value in record.values())
    assert final == dict(records(out)[-1], out=str(out))
    result = lineval.main([str(out), "--epochs", "2", "--device", "cpu"])
    assert result["knn"] == pytest.approx(final["knn"])
    assert result == json.loads((out / "lineval.json").read_text())
    assert {"knn", "top1", "top5", "probe_lr"} <= set(result)


@pytest.mark.parametrize("init, began", [(None, "untrained"), ("w.pt", "loaded")])
def test_the_picture_of_a_run_has_its_own_curves_and_says_what_epoch_0_was(
        init, began, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(train.plot, "plot_curves", lambda *args: drawn.append(args))
    record = dict(epoch=0, std=1.0, rank=9.0, knn=30.0)
    args = SimpleNamespace(dim=8, classes=list("abcd"), init=init)
    train.finish(SimpleNamespace(args=args, out=tmp_path, state=train.State(records=[record])))
    lines = train.plot.references("abcd", 0.1, 2.0)
    assert drawn == [(tmp_path / "curves.png", {tmp_path.name: [record]}, 8, lines, began)]


def test_the_last_words_of_a_run_are_its_verdict_with_the_reasons_for_it():
    def verdict(std, rank, knn):
        untrained = {"std": 0.99, "rank": 130.0, "knn": 15.8, "pixels_knn": 41.02}
        return train.verdict([untrained, {"std": std, "rank": rank, "knn": knn}], 256)

    assert verdict(0.984, 17.71, 88.7) == ("not collapsed: std 0.984, rank 17.7 of 256, kNN 88.7 %"
                                           " (untrained 15.8 %, raw pixels 41.0 %)")
    left = "; kNN ends at 29.2 % (untrained 15.8 %, raw pixels 41.0 %)"
    assert verdict(0.007, 1.2, 29.2) == (
        f"collapsed: std 0.007 (below 0.1), rank 1.2 of 256 (below 2){left}")
    assert verdict(0.007, 2.3, 29.2) == f"collapsed: std 0.007 (below 0.1), rank 2.3 of 256{left}"
    assert verdict(1.0, 1.2, 29.2) == f"collapsed: std 1.000, rank 1.2 of 256 (below 2){left}"


def test_the_last_kNN_of_a_run_is_the_last_that_was_measured():
    """A run stopped between two evaluations, and resumed with no step left, ends between them."""
    record = dict(std=1.0, rank=9.0)
    measured = [dict(record, knn=knn) for knn in (30.0, 40.0, None)]
    assert train.verdict(measured, 16).endswith("kNN 40.0 % (untrained 30.0 %)")


def test_raw_pixels_are_measured_once_as_lineval_does_and_stand_beside_the_run(
        tmp_path, figures, capsys):
    out = tmp_path / "run"
    train.main([*TINY, "--max-steps", "2", "--out", str(out)])
    said = capsys.readouterr().out
    train.main(["--resume", "--out", str(out), "--device", "cpu"])
    assert "raw pixels   " in said and "raw pixels   " not in capsys.readouterr().out
    expected = lineval.main(["--pixels", "--data", "shapes", "--epochs", "1", "--lr", "1"])["knn"]
    first, *others = records(out)
    assert first["pixels_knn"] == expected != first["knn"]
    assert not any("pixels_knn" in record for record in others)
    column = first_line(said, "epoch   0").index("kNN")
    assert first_line(said, "raw pixels")[column:] == f"kNN {expected:5.1f} %"


def first_line(text, beginning):
    return next(line for line in text.splitlines() if line.startswith(beginning))


def test_raw_pixels_are_not_measured_without_labels_or_if_there_are_too_many(monkeypatch):
    monkeypatch.setattr(train.runs, "write_metrics", lambda *_: None)
    monkeypatch.setattr(train, "knn_eval", lambda run, backbone: 40.0)
    for train_pixels, test_pixels, classes, measured in (
            (200_000_000, 0, "ab", True), (200_000_001, 0, "ab", False),
            (4, 200_000_000, "ab", False), (4, 0, "", False)):
        images = SimpleNamespace(labelled=torch.empty(train_pixels, device="meta"),
                                 test=torch.empty(test_pixels, device="meta"))
        state = train.State(records=[{}])
        train.measure_pixels(SimpleNamespace(
            args=SimpleNamespace(classes=classes), images=images, state=state, out=None))
        assert state.records == [{"pixels_knn": 40.0} if measured else {}]


def test_without_labels_the_verdict_is_about_the_outputs_alone():
    bare = [{"std": std, "rank": 9.0, "knn": None} for std in (0.9, 0.01, 0.9)]
    assert train.verdict(bare, 16) == "not collapsed: std 0.900, rank 9.0 of 16"
    assert train.verdict(bare[:2], 16) == "collapsed: std 0.010 (below 0.1), rank 9.0 of 16"


def test_a_run_on_images_without_labels_goes_on_and_only_its_features_are_written(
        tmp_path, figures, capsys):
    folder, out = make_folder(tmp_path / "u", splits=("unlabelled",), n=40), str(tmp_path / "run")
    argv = [*TINY, "--data", str(folder), "--arch", "resnet8", "--batch-size", "40", "--out", out]
    train.main([*argv, "--max-steps", "3"])
    assert "80 training and 0 test images of 8 px,\n  no labels, on cpu" in capsys.readouterr().out
    whole = train.main([*argv[:-1], out + "-whole"])
    assert f"next: python lineval.py {out}-whole --features" in capsys.readouterr().out
    resumed = train.main(["--resume", "--out", out, "--device", "cpu"])
    assert [r["knn"] for r in records(tmp_path / "run")] == [None] * 3
    assert all(resumed[key] == whole[key] for key in ("epoch", "loss", "std", "rank"))
    features = ["--features", str(tmp_path / "f.npz")]
    for wrong in ([], [*features, "--map", str(tmp_path / "m.png")], [*features, "--finetune", "1"],
                  [*features, "--labels", "0.5"]):
        with pytest.raises(SystemExit, match="has no labels"):
            lineval.main([out, *wrong])
    assert lineval.main([out, *features]) is None
    saved = numpy.load(tmp_path / "f.npz")
    assert saved["x_train"].shape == (80, 64) and len(saved["files_train"]) == 80
    assert len(saved["x_test"]) == len(saved["y_train"]) == 0
    other = lineval.main([out, "--data", str(make_folder(tmp_path / "l", n=4)), "--epochs", "1"])
    assert set(other) >= {"knn", "top1"}


def test_the_estimate_counts_three_passes_per_step_and_one_per_evaluated_image(capsys):
    images = SimpleNamespace(train=range(9000), labelled=range(700), test=range(100))
    for last_step, knn_every, said, compile in (
            (100, 1, "20:00", False), (100, 3, "18:00", False), (50, 5, "09:30", True)):
        # 20 batches of two views
        args = SimpleNamespace(batch_size=20, knn_every=knn_every, compile=compile)
        console.print_eta(SimpleNamespace(images=images, args=args, last_step=last_step,
                                          steps_per_epoch=25), 3.0)
        line = capsys.readouterr().out
        assert f"about {said}," in line
        assert line.endswith(", not compiled\n" if compile else "one batch\n")


def test_the_estimate_is_printed_even_if_epoch_0_has_only_one_batch(tmp_path, monkeypatch, capsys):
    x, y = torch.randint(256, (4096, 3, 8, 8), dtype=torch.uint8), torch.arange(4096) % 10
    images = data.Data(x, y, x[:64], y[:64], [*data.SHAPES])
    monkeypatch.setattr(data, "shapes", lambda *_, **__: images)
    train.main([*TINY, "--batch-size", "2048", "--max-steps", "1", "--out", str(tmp_path / "run")])
    assert capsys.readouterr().out.count("this will take about") == 1


def test_kNN_is_evaluated_when_due_and_at_the_end_and_changes_nothing_else(tmp_path, figures):
    ends = []
    for i, more in enumerate(([], ["--knn-every", "2"])):
        out = tmp_path / str(i)
        train.main([*TINY, "--epochs", "3", *more, "--out", str(out)])
        ends.append([{**r, "seconds": 0, "images_per_s": 0} for r in records(out)])
    always, seldom = ends
    assert [r["knn"] is None for r in seldom] == [False, True, False, False]
    assert [dict(r, knn=s["knn"]) for r, s in zip(always, seldom, strict=True)] == seldom


def test_the_same_seed_gives_the_same_result_and_another_seed_another(tmp_path):
    losses = [
        train.main([*TINY, "--seed", s, "--out", str(tmp_path / str(i))])["loss"]
        for i, s in enumerate("001")
    ]
    assert losses[0] == losses[1] != losses[2]


def test_a_fixed_predictor_stays_as_initialised_and_a_trained_one_does_not(tmp_path):
    for kind in ("fixed", "mlp"):
        out = tmp_path / kind
        train.main([*TINY, "--predictor", kind, "--out", str(out), "--max-steps", "1"])
        first = load_checkpoint(out / "checkpoint.pt")["model"]["h.0.weight"]
        train.main(["--out", str(out), "--resume"])
        last = load_checkpoint(out / "checkpoint.pt")["model"]["h.0.weight"]
        assert torch.equal(first, last) == (kind == "fixed")


def test_the_optimiser_decays_every_parameter_and_each_is_in_exactly_one_group(tmp_path):
    args = options.complete(options.parse(TINY), data.load("shapes"))
    model = options.build(args)
    f, h = train.param_groups(model)
    assert sorted(map(id, f + h)) == sorted(map(id, model.parameters()))
    assert {id(w) for w in h} == {id(w) for w in model.h.parameters()}
    parts = []
    train.train(options.parse([*TINY, "--max-steps", "1", "--out", str(tmp_path / "run")]),
                lambda run: (parts.append(run), run.model)[1])
    assert parts[0].optimizer.weight_decay == args.weight_decay > 0


@pytest.mark.parametrize("method", options.METHODS)
def test_a_step_never_waits_for_the_device(method, monkeypatch):
    """The meta device has no values: reading one, for which a GPU would wait, is an error."""
    args = options.parse(["--method", method, "--batch-size", "8", "--device", "meta"])
    images = data.load("shapes")
    args = options.complete(args, images)
    model = options.build(args)
    always = dict(jitter_p=1.0, gray_p=1.0, blur_p=1.0)
    view = augment.Augment(args.image_size, args.mean, args.std, **always)
    sgd = train.SGD(train.param_groups(model))
    run = train.Run(args, None, images.to("meta"), view, model, sgd)
    for script in (augment, lejepa, train):
        monkeypatch.setattr(script, "to_device", lambda v, device: v.to(device, non_blocking=True))
    tensor = torch.tensor  # with a device it copies, and waits, but no mode sees it

    def on_the_cpu(*values, device="cpu", **kind):
        assert device == "cpu"
        return tensor(*values, **kind)

    monkeypatch.setattr(torch, "tensor", on_the_cpu)
    with NeverWaits():
        loss, _ = run.model(*run.two_views(torch.arange(8)))
        sgd.zero_grad()
        loss.backward()
        sgd.step(0.1, 0.1)
    assert loss.device.type == "meta"


class NoFloat64(TorchDispatchMode):
    """Refuses operations whose result is float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        assert not any(isinstance(v, torch.Tensor) and v.dtype == torch.float64
                       for v in tree_leaves(found)), function
        return found


@pytest.mark.parametrize("method", options.METHODS)
def test_nothing_that_a_device_computes_is_float64(method):
    """Most GPUs compute float64 at a 32nd or 64th of the speed of float32."""
    images = data.load("shapes")
    args = options.parse(["--method", method, "--batch-size", "8", "--device", "cpu"])
    args = options.complete(args, images)
    model, view = options.build(args), augment.Augment(args.image_size, args.mean, args.std)
    run = train.Run(args, None, images, view, model, None)
    probe = torch.nn.Linear(model.backbone.num_features, 10)
    with NoFloat64():
        for kind in (train.SGD, lineval.LARS):
            optimizer = kind(train.param_groups(model), weight_decay=0.1)
            loss, z = run.model(*run.two_views(torch.arange(8)))
            loss.backward()
            optimizer.step(0.1, 0.1)
        simsiam.output_std(z), simsiam.effective_rank(z)
        x = lineval.extract_features(model.backbone, images.test, args.mean, args.std)
        lineval.knn_accuracy(x, images.test_labels, x, images.test_labels)
        lineval.topk_accuracy(probe, x, images.test_labels, 5)


def print_faults():
    """The page faults of five large tensors that come and go, before and after tune_cpu()."""
    faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for prepare in (lambda: None, device.tune_cpu):
        prepare()
        for _ in range(5):  # the heap grows until a freed block fits the next request
            torch.ones(10_000_000)
        before = faults()
        for _ in range(5):
            torch.ones(10_000_000)
        print(faults() - before)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_memory_is_reused(tmp_path):
    forked(print_faults, log=tmp_path / "log").join()
    plain, tuned = map(int, (tmp_path / "log").read_text().split())
    assert tuned < plain / 4


def test_every_epoch_has_a_new_order_of_the_images_and_two_views_of_each(
        tmp_path, monkeypatch):
    seen, forward = [], simsiam.SimSiam.forward
    monkeypatch.setattr(
        simsiam.SimSiam, "forward", lambda self, *x: (seen.append(x), forward(self, *x))[1])
    orders = []
    for steps in (3, 6):  # the last step of the first epoch, and of the second
        train.main([*TINY, "--max-steps", str(steps), "--out", str(tmp_path / "run"),
                    *["--resume"] * (steps > 3)])
        orders.append(load_checkpoint(tmp_path / "run")["order"])
    assert all(torch.equal(order.sort()[0], torch.arange(192)) for order in orders)
    assert not torch.equal(*orders) and not torch.equal(orders[0], torch.arange(192))
    assert seen and not any(torch.equal(x1, x2) for x1, x2 in seen)


@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_the_lr_of_the_predictor_stays_at_its_peak_or_decays_with_the_encoder(
        kind, tmp_path, monkeypatch):
    lrs, step = [], train.SGD.step
    monkeypatch.setattr(train.SGD, "step", lambda self, *lr: (lrs.append(lr), step(self, *lr)))
    train.main([*TINY, "--predictor-lr", kind, "--out", str(tmp_path / "run")])
    f, h = zip(*lrs)
    peak = train.scaled_lr(2.0, 64)
    assert f == tuple(train.cosine_lr(peak, t, 6) for t in range(6))
    assert h == ((peak,) * 6 if kind == "constant" else f)


@pytest.mark.parametrize("batch_size, images", [(64, 193), (192, 192)])
def test_an_incomplete_batch_is_left_out_and_each_epoch_measures_only_its_own_steps(
        batch_size, images, tmp_path, monkeypatch):
    whole = data.load("shapes")
    doubled = whole._replace(train=whole.train.repeat(2, 1, 1, 1)[:images],
                             train_labels=whole.train_labels.repeat(2)[:images])
    monkeypatch.setattr(data, "load", lambda *_: doubled)
    train.main([*TINY, "--batch-size", str(batch_size), "--out", str(tmp_path / "run")])
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert [len(z) for z in saved["outputs"]] == [batch_size] * (images // batch_size)


def test_a_run_is_never_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, "--max-steps", "1"]
    outs = [
        train.main(flags)["out"],
        train.main(flags)["out"],
        train.main([*flags, "--no-stopgrad"])["out"],
    ]
    assert outs == ["runs/shapes", "runs/shapes-2", "runs/shapes-no-stopgrad"]
    assert "holds a run" in message(*flags, "--out", "runs/shapes")


def test_resuming_a_finished_run_returns_its_last_record(tmp_path):
    options = [*TINY, "--out", str(tmp_path), "--max-steps", "2"]
    assert train.main(options) == train.main([*options, "--resume"])


def test_resuming_on_other_data_is_refused(tmp_path, monkeypatch):
    out = tmp_path / "run"
    train.main([*TINY, "--out", str(out), "--max-steps", "1"])
    fewer = data.load("shapes")
    fewer = fewer._replace(train=fewer.train[:100], train_labels=fewer.train_labels[:100])
    monkeypatch.setattr(data, "load", lambda *_: fewer)
    assert "n train 192 -> 100" in message("--resume", "--out", out)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    out = tmp_path / "run"
    said = message(*TINY, "--lr", 1e29, "--out", out)
    assert "epoch 1, step" in said and "lr" in said and "--lr" in said
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 0


def test_a_study_of_one_s_own_takes_all_options_and_what_it_keeps_may_grow(
        tmp_path, monkeypatch, small_shapes):
    def study(run):
        run.state.extra.update(best=None, seen=[0])

        def loss_fn(x1, x2):
            L, z1 = run.model(x1, x2)
            kept = run.state.extra
            kept["best"] = min(L.item(), kept["best"] or 0.0)
            kept["seen"].append(run.state.step)
            return L, z1

        return loss_fn

    for more in ["--max-steps", "2"], ["--resume"]:
        monkeypatch.setattr("sys.argv", ["own.py", *TINY, "--out", str(tmp_path / "run"), *more])
        train.main(study=study)
    extra = load_checkpoint(tmp_path / "run")["extra"]
    assert extra["best"] < 0 and extra["seen"] == [0, 0, 1, 2, 3, 4, 5]


def test_a_study_under_torchrun_is_refused_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(train.parallel, "world_size", lambda: 2)
    entered = []
    monkeypatch.setattr(train.parallel, "group", lambda: (entered.append(1), nullcontext())[1])
    with pytest.raises(SystemExit, match="needs its batch as a whole"):
        train.main(["--out", str(tmp_path / "run")], study=lambda run: run.model)
    assert entered and not (tmp_path / "run").exists()


def test_a_weight_or_a_buffer_that_is_not_finite_stops_the_run_though_every_loss_is(tmp_path):
    found = []

    def study(run):
        found.append(run)
        return run.model

    args = options.parse([*TINY, "--max-steps", "4", "--out", str(tmp_path / "run")])
    train.train(args, study)
    run = found[0]
    train.check_finite(run)  # all is well
    where = "weights or buffers that are not finite at epoch 2, step 4, lr"
    for v in run.model.h[0].weight, run.model.backbone.bn1.running_var:
        for number in math.inf, -math.inf, math.nan:
            with torch.no_grad():
                before = v.clone()
                v[0] = number
            with pytest.raises(train.Diverged, match=where):
                train.check_finite(run)
            v.data.copy_(before)
    for number in math.inf, math.nan:
        run.state.losses = [torch.tensor(v) for v in (0.0, number, 0.0)]
        with pytest.raises(train.Diverged, match=f"loss is {number} at epoch 1, step 3, lr"):
            train.check_finite(run)


def test_the_progress_bar_stops_a_run_whose_last_loss_is_not_finite():
    state = train.State(step=3, losses=[torch.tensor(v) for v in (-0.25, -0.5)])
    run = SimpleNamespace(state=state, model=nn.Linear(1, 1), steps_per_epoch=10)
    assert train.status(run) == "loss -0.500"
    state.losses.append(torch.tensor(math.nan))
    with pytest.raises(train.Diverged, match="loss is nan at epoch 1, step 3,"):
        train.status(run)


def test_a_loss_that_is_not_finite_is_not_saved_within_an_epoch_either(
        tmp_path, monkeypatch, small_shapes):
    """As with --checkpoint-every 10m, or after Ctrl-C."""
    def study(run):
        def loss_fn(x1, x2):
            L, z1 = run.model(x1, x2)
            return (math.nan if run.state.step == 1 else 1) * L, z1

        return loss_fn

    monkeypatch.setattr(checkpoint, "is_due", lambda run: True)
    with pytest.raises(train.Diverged, match="at epoch 1, step 2,"):
        train.train(options.parse([*TINY, "--out", str(tmp_path / "run")]), study)
    assert load_checkpoint(tmp_path / "run")["step"] == 1
