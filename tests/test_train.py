"""Whole runs of train.py and lineval.py, and their messages.    pytest tests/test_train.py"""

import ctypes
import json
import math
import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import augment
import data
import lineval
import options
import runs
import simsiam
import train
from runs import load_checkpoint

TINY = ["--epochs", "2", "--batch-size", "64", "--dim", "16", "--device", "cpu"]


@pytest.fixture
def figures():
    """Asks for real figures."""


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch, request):
    """Two hundred images in place of four thousand, and no figures that no test looks at."""
    if "figures" not in request.fixturenames:
        monkeypatch.setattr(runs, "plot_curves", lambda *_: None)
    small = {0: 192, 1: 64}
    draw = data.draw_shapes
    monkeypatch.setattr(
        data, "draw_shapes", lambda n, size, tint, seed: draw(small[seed], size, tint, seed)
    )


def records(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def message(*argv):
    """The plain line with which a command gives up."""
    with pytest.raises(SystemExit) as stop:
        train.main([str(a) for a in argv])
    assert isinstance(stop.value.code, str) and "\n" not in stop.value.code
    return stop.value.code


def test_a_run_leaves_its_files_and_lineval_reads_them(tmp_path, figures):
    out = tmp_path / "run"
    final = train.main([*TINY, "--out", str(out)])
    names = {"config.json", "metrics.jsonl", "checkpoint.pt", "views.png", "curves.png"}
    assert names == {file.name for file in out.iterdir()}
    assert [r["epoch"] for r in records(out)] == [0, 1, 2]
    for record in records(out):
        assert list(record) == [
            "epoch",
            "loss",
            "std",
            "rank",
            "knn",
            "lr",
            "images_per_s",
            "seconds",
        ]
        assert all(math.isfinite(value) for value in record.values())
    assert final == dict(records(out)[-1], out=str(out))
    result = lineval.main([str(out), "--epochs", "2", "--device", "cpu"])
    assert result["knn"] == pytest.approx(final["knn"])
    assert result == json.loads((out / "lineval.json").read_text())
    assert {"knn", "top1", "top5", "probe_lr"} <= set(result)


def test_a_run_stopped_at_any_step_and_resumed_is_the_run_never_stopped(tmp_path):
    ends = {}
    for stop in (None, 1, 3, 4):
        out = str(tmp_path / f"{stop}")
        if stop:
            train.main([*TINY, "--out", out, "--max-steps", str(stop)])
            train.main([*TINY, "--out", out, "--resume"])
        else:
            train.main([*TINY, "--out", out])
        ends[stop] = load_checkpoint(f"{out}/checkpoint.pt")
    timeless = lambda run: [
        {k: v for k, v in r.items() if k not in ("seconds", "images_per_s")} for r in run["records"]
    ]
    for run in ends.values():
        for name, value in ends[None]["model"].items():
            assert torch.equal(run["model"][name], value), name
        assert torch.equal(run["rng"], ends[None]["rng"])
        assert timeless(run) == timeless(ends[None])


def test_the_kNN_is_taken_when_it_is_due_and_at_the_end_and_changes_nothing_else(tmp_path, figures):
    ends = []
    for i, more in enumerate(([], ["--knn-every", "2"])):
        out = tmp_path / str(i)
        train.main([*TINY, "--epochs", "3", *more, "--out", str(out)])
        ends.append([{**r, "seconds": 0, "images_per_s": 0} for r in records(out)])
    always, seldom = ends
    assert [r["knn"] is None for r in seldom] == [False, True, False, False]
    assert [dict(r, knn=s["knn"]) for r, s in zip(always, seldom, strict=True)] == seldom


def test_one_seed_gives_one_result_and_another_another(tmp_path):
    losses = [
        train.main([*TINY, "--seed", s, "--out", str(tmp_path / str(i))])["loss"]
        for i, s in enumerate("001")
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    "flags",
    [
        "--no-stopgrad",
        "--predictor none",
        "--predictor fixed",
        "--predictor-lr cosine",
        "--bn none",
        "--bn hidden",
        "--bn no-affine",
        "--bn all",
        "--similarity cross-entropy",
        "--symmetry asymmetric",
        "--symmetry asymmetric2x",
        "--proj-layers 3",
        "--pred-dim 8",
        "--warmup-epochs 1",
        "--blur 0.5",
        "--stem imagenet",
        "--data shapes-tinted",
    ],
)
def test_every_switch_of_section_4_trains(tmp_path, flags):
    final = train.main([*TINY, "--max-steps", "1", "--out", str(tmp_path / "run"), *flags.split()])
    assert math.isfinite(final["loss"])


def test_a_fixed_predictor_stays_as_it_was_drawn_and_a_trained_one_does_not(tmp_path):
    for kind in ("fixed", "mlp"):
        out = tmp_path / kind
        train.main([*TINY, "--predictor", kind, "--out", str(out), "--max-steps", "1"])
        first = load_checkpoint(out / "checkpoint.pt")["model"]["h.0.weight"]
        train.main(["--out", str(out), "--resume"])
        last = load_checkpoint(out / "checkpoint.pt")["model"]["h.0.weight"]
        assert torch.equal(first, last) == (kind == "fixed")


def test_folders_of_small_images_get_appendix_D_and_larger_ones_section_3():
    def recipe(size, *argv):
        images = data.Data(
            *[torch.zeros(600, 3, size, size, dtype=torch.uint8), torch.zeros(600)] * 2, ["a", "b"]
        )
        args = train.parse(["--data", "somewhere", *argv])
        options.complete(args, images)
        return args

    small, large = recipe(32), recipe(65)
    assert (small.predictor_lr, small.crop_min) == ("cosine", 0.2)
    assert (large.predictor_lr, large.crop_min, large.blur) == ("constant", 0.2, 0.5)
    assert (small.arch, small.epochs, small.lr, small.weight_decay) == ("resnet18", 800, 0.03, 5e-4)
    assert (small.stem, small.proj_layers, small.blur, small.batch_size) == ("cifar", 2, 0, 512)
    assert (large.arch, large.epochs, large.lr, large.weight_decay) == ("resnet50", 100, 0.05, 1e-4)
    assert (large.stem, large.proj_layers, large.dim, large.pred_dim) == ("imagenet", 3, 2048, 512)
    tiny = recipe(32, "--arch", "resnet8")
    assert (tiny.lr, tiny.batch_size, tiny.dim, tiny.stem) == (0.8, 64, 256, "cifar")
    assert recipe(32, "--lr", "0.5", "--dim", "64").pred_dim == 16
    assert train.scaled_lr(small.lr, small.batch_size) == 0.06


def test_the_optimiser_decays_every_parameter_and_each_is_in_one_group(tmp_path):
    args = train.parse(TINY)
    options.complete(args, data.load("shapes"))
    model = options.build(args)
    f, h = train.groups(model)
    assert sorted(map(id, f + h)) == sorted(map(id, model.parameters()))
    assert {id(w) for w in h} == {id(w) for w in model.h.parameters()}
    parts = []
    train.train(train.parse([*TINY, "--max-steps", "1", "--out", str(tmp_path / "run")]),
                lambda run: (parts.append(run), train.two_views(run))[1])
    assert parts[0].optimizer.weight_decay == args.weight_decay > 0


def test_every_switch_of_section_4_reaches_the_model():
    def model(*argv):
        args = train.parse([*TINY, *argv])
        options.complete(args, data.load("shapes"))
        return options.build(args)

    default = model()
    assert default.stopgrad and default.symmetric and default.views == 2
    assert default.similarity is simsiam.negative_cosine
    assert [type(m).__name__[:5] for m in default.h] == ["Linea", "Batch", "ReLU", "Linea"]
    assert not model("--no-stopgrad").stopgrad
    assert model("--similarity", "cross-entropy").similarity is simsiam.cross_entropy
    assert not model("--symmetry", "asymmetric").symmetric
    assert model("--symmetry", "asymmetric2x").views == 4
    assert isinstance(model("--predictor", "none").h, torch.nn.Identity)
    assert not any(w.requires_grad for w in model("--predictor", "fixed").h.parameters())
    assert len(model("--proj-layers", "3").projector) == len(default.projector) + 3
    assert model("--pred-dim", "7").h[0].out_features == 7
    assert "BatchNorm1d" in str(default.h) and "BatchNorm1d" not in str(model("--bn", "none").h)


def test_bf16_and_compile_reach_the_network_and_are_printed(tmp_path, monkeypatch, capsys):
    compiled = []
    monkeypatch.setattr(options, "CXX", sys.executable)  # no compiler is asked to do anything
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    parts = []
    train.train(train.parse([*TINY, "--bf16", "--compile", "--max-steps", "1", "--out",
                             str(tmp_path / "run")]),
                lambda run: (parts.append(run), train.two_views(run))[1])
    (run,) = parts
    assert compiled == [run.model] and run.model.backbone.bf16
    assert all(w.dtype == torch.float32 for w in run.model.parameters())
    assert run.state["outputs"][0].dtype == run.state["losses"][0].dtype == torch.float32
    assert "bfloat16, compiled" in capsys.readouterr().out
    judged = lineval.main([str(tmp_path / "run"), "--epochs", "1", "--lr", "1"])
    assert judged["knn"] == run.state["records"][-1]["knn"]


class NeverWaits(TorchDispatchMode):
    """Refuses copies to another device that wait until it has done all it was asked before."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default and not kwargs.get("non_blocking"):
            assert torch.device(kwargs.get("device") or args[0].device) == args[0].device
        if function is torch.ops.aten.copy_.default:
            assert args[0].device == args[1].device
        return function(*args, **kwargs)


@pytest.mark.parametrize("method", options.METHODS)
def test_a_step_never_waits_for_the_device(method, monkeypatch):
    """The meta device has no values: to ask for one, for which a GPU would wait, is an error."""
    args = options.parse(["--method", method, "--batch-size", "8", "--device", "meta"])
    images = data.load("shapes")
    options.complete(args, images)
    model = options.build(args)
    always = dict(jitter_p=1.0, gray_p=1.0, blur_p=1.0)
    view = augment.Augment(args.image_size, args.mean, args.std, **always)
    sgd = train.SGD(train.groups(model))
    run = train.Run(args, None, images.to("meta"), view, model, sgd, {})
    loss_of = train.two_views(run)
    for script in (augment, train):
        monkeypatch.setattr(script, "to_device", lambda v, device: v.to(device, non_blocking=True))
    tensor = torch.tensor  # with a device it copies, and waits, but no mode sees it

    def on_the_cpu(*values, device="cpu", **kind):
        assert device == "cpu"
        return tensor(*values, **kind)

    monkeypatch.setattr(torch, "tensor", on_the_cpu)
    with NeverWaits():
        loss, _ = loss_of(torch.arange(8))
        sgd.zero_grad()
        loss.backward()
        sgd.step(0.1, 0.1)
    assert loss.device.type == "meta"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_memory_that_was_freed_is_used_again():
    script = """if True:
        import resource, sys, torch, train
        if sys.argv[1] == "tuned":
            train.tune_cpu()
        faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(20_000_000)
        before = faults()
        for _ in range(20):
            torch.ones(20_000_000)
        print(faults() - before)"""
    tuned, plain = (int(subprocess.run([sys.executable, "-c", script, how], capture_output=True,
                                       cwd=train.__file__.removesuffix("train.py"), check=True
                                       ).stdout) for how in ("tuned", "plain"))
    assert tuned < plain / 4


def test_an_epoch_visits_the_images_in_an_order_of_its_own_as_two_views_each(
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
def test_the_predictors_lr_stays_at_its_peak_or_decays_with_the_encoders(
        kind, tmp_path, monkeypatch):
    lrs, step = [], train.SGD.step
    monkeypatch.setattr(train.SGD, "step", lambda self, *lr: (lrs.append(lr), step(self, *lr)))
    train.main([*TINY, "--predictor-lr", kind, "--out", str(tmp_path / "run")])
    f, h = zip(*lrs)
    peak = train.scaled_lr(2.0, 64)
    assert f == tuple(train.cosine_lr(peak, t, 6) for t in range(6))
    assert h == ((peak,) * 6 if kind == "constant" else f)


@pytest.mark.parametrize("batch_size, images", [(64, 193), (192, 192)])
def test_an_incomplete_batch_is_left_out_and_an_epochs_measures_are_its_own(
        batch_size, images, tmp_path, monkeypatch):
    whole = data.load("shapes")
    doubled = whole._replace(train=whole.train.repeat(2, 1, 1, 1)[:images],
                             train_labels=whole.train_labels.repeat(2)[:images])
    monkeypatch.setattr(data, "load", lambda *_: doubled)
    train.main([*TINY, "--batch-size", str(batch_size), "--out", str(tmp_path / "run")])
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert [len(z) for z in saved["outputs"]] == [batch_size] * (images // batch_size)


# ------------------------------------------------------------------------------------------------
# What a user does wrong


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


def test_resuming_wants_a_checkpoint_and_the_options_of_the_run(tmp_path):
    assert "--out must name" in message("--resume")
    assert "no such checkpoint" in message("--resume", "--out", tmp_path)
    out = tmp_path / "run"
    train.main([*TINY, "--out", str(out), "--max-steps", "1"])
    assert "epochs 2 -> 5" in message("--resume", "--out", out, "--epochs", 5)
    assert "stopgrad True -> False" in message("--resume", "--out", out, "--no-stopgrad")


def test_a_flag_that_is_younger_than_the_run_had_its_default_there(tmp_path):
    out = tmp_path / "run"
    train.main([*TINY, "--max-steps", "1", "--out", str(out)])
    saved = load_checkpoint(out)
    del saved["config"]["bf16"]
    runs.write_checkpoint(out / "checkpoint.pt", saved)
    assert "bf16 False -> True" in message("--resume", "--bf16", "--out", out)
    train.main(["--resume", "--max-steps", "2", "--out", str(out)])


def test_compiling_without_a_compiler_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(options, "CXX", "no-such-compiler")
    assert "no-such-compiler" in message(*TINY, "--compile", "--out", tmp_path / "run")


def test_contradictions_end_in_one_line(tmp_path):
    out = ["--out", tmp_path / "run"]
    assert "and 192, the number" in message(*out, "--batch-size", 193)
    assert "below the 2 epochs" in message(*TINY, *out, "--warmup-epochs", 2)
    for flags in (["--crop-min", 0], ["--blur", 2], ["--lr", "nan"]):
        assert flags[0] in message(*out, *flags)
    assert "neither" in message(*out, "--data", "nowhere")
    (tmp_path / "file").touch()
    assert "cannot be made" in message("--out", tmp_path / "file" / "run")


def test_resuming_keeps_the_options_that_may_change_unless_told_otherwise(tmp_path):
    options = "--root", "elsewhere", "--checkpoint-every", "2", "--knn-every", "3"
    train.main([*TINY, *options, "--out", str(tmp_path), "--max-steps", "1"])
    resume = ["--resume", "--out", str(tmp_path)]
    kept, changed = train.parse(resume), train.parse([*resume, "--checkpoint-every", "5m"])
    assert (kept.root, kept.checkpoint_every, kept.max_steps) == ("elsewhere", "2", None)
    assert kept.knn_every == 3 and changed.checkpoint_every == "5m"


def test_resuming_a_run_that_is_at_its_end_returns_its_last_record(tmp_path):
    options = [*TINY, "--out", str(tmp_path), "--max-steps", "2"]
    assert train.main(options) == train.main([*options, "--resume"])


def test_resuming_on_other_data_is_refused(tmp_path, monkeypatch):
    out = tmp_path / "run"
    train.main([*TINY, "--out", str(out), "--max-steps", "1"])
    fewer = data.load("shapes")
    fewer = fewer._replace(train=fewer.train[:100], train_labels=fewer.train_labels[:100])
    monkeypatch.setattr(data, "load", lambda *_: fewer)
    assert "train images 192 -> 100" in message("--resume", "--out", out)


@pytest.mark.parametrize(
    "argv", [["--nonsense"], ["--bn", "some"], ["--epochs", "0"], ["--lr", "fast"],
             ["--device", "abacus"], ["--checkpoint-every", "0"], ["--checkpoint-every", "m"]])
def test_unknown_options_end_with_a_line_of_their_name(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(argv)
    assert stop.value.code == 2
    assert argv[0] in capsys.readouterr().err.splitlines()[-1]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    out = tmp_path / "run"
    said = message(*TINY, "--lr", 1e30, "--out", out)
    assert "epoch 1, step" in said and "lr" in said and "--lr" in said
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 0


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    for path in (tmp_path, tmp_path / "nowhere.pt"):
        with pytest.raises(SystemExit) as stop:
            lineval.main([str(path)])
        assert "\n" not in stop.value.code and "checkpoint" in stop.value.code
