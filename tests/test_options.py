"""Laws of the command line: recipes, flags, and what is refused.    pytest tests/test_options.py"""

import math
import pathlib
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from strategies import TINY, message

import lineval
import options
import simsiam
import train
from baselines import simclr
from utils import data, device, faults, runs
from utils.runs import load_checkpoint

pytestmark = pytest.mark.usefixtures("small_shapes")


def model(*argv):
    """The model that a command line describes."""
    return options.build(options.complete(options.parse([*TINY, *argv]), data.load("shapes")))


def test_folders_of_small_images_get_the_recipe_of_appendix_D_and_larger_ones_that_of_section_3():
    def recipe(size, *argv):
        images = data.Data(
            *[torch.zeros(600, 3, size, size, dtype=torch.uint8), torch.zeros(600)] * 2, ["a", "b"])
        return options.complete(options.parse(["--data", "somewhere", *argv]), images)

    small, large = recipe(32), recipe(65)
    assert (small.predictor_lr, small.crop_min) == ("cosine", 0.2)
    assert (large.predictor_lr, large.crop_min, large.blur) == ("constant", 0.2, 0.5)
    assert (small.arch, small.epochs, small.lr, small.weight_decay) == ("resnet18", 800, 0.03, 5e-4)
    assert (small.stem, small.proj_layers, small.blur, small.batch_size) == ("cifar", 2, 0, 512)
    assert (large.arch, large.epochs, large.lr, large.weight_decay) == ("resnet50", 100, 0.05, 1e-4)
    assert (large.stem, large.proj_layers, large.dim, large.pred_dim) == ("imagenet", 3, 2048, 512)
    largest = recipe(64)  # the stem is for images up to 64 px, and so is the recipe
    assert (largest.arch, largest.stem, recipe(65).stem) == ("resnet18", "cifar", "imagenet")
    tiny = recipe(32, "--arch", "resnet8")
    assert (tiny.lr, tiny.batch_size, tiny.dim, tiny.stem) == (0.8, 64, 256, "cifar")
    assert recipe(32, "--lr", "0.5", "--dim", "64").pred_dim == 16
    course = recipe(32, "--data", "cifar100")
    assert (course.arch, course.stem, course.proj_layers, course.lr, course.batch_size) == (
        "resnet18", "cifar", 3, 0.05, 256)
    assert recipe(32, "--data", "cifar100", "--arch", "resnet8").lr == tiny.lr
    assert train.scaled_lr(small.lr, small.batch_size) == 0.06


def test_a_flag_comes_before_the_defaults_of_the_method_and_these_before_the_recipe():
    images = data.load("shapes")
    dims = [options.complete(options.parse(argv.split()), images).dim
            for argv in ("", "--method simclr", "--method simclr --dim 16")]
    assert dims == [options.RECIPES["shapes"]["dim"], options.OPTIONS["simclr"]["dim"], 16]
    assert len(set(dims)) == 3


def test_completing_the_options_leaves_the_given_ones_as_they_were():
    args = options.parse(TINY)
    before = dict(vars(args))
    completed = options.complete(args, data.load("shapes"))
    assert vars(args) == before and args.lr is None and completed.lr == 2.0


@pytest.mark.parametrize("flags", [
    "--no-stopgrad", "--predictor none", "--predictor fixed", "--predictor-lr cosine", "--bn none",
    "--bn hidden", "--bn no-affine", "--bn all", "--similarity cross-entropy",
    "--symmetry asymmetric", "--proj-layers 3", "--pred-dim 8", "--warmup-epochs 1", "--blur 0.5",
    "--stem imagenet", "--data shapes-tinted"])
def test_every_switch_of_section_4_trains(tmp_path, flags):
    final = train.main([*TINY, "--max-steps", "1", "--out", str(tmp_path / "run"), *flags.split()])
    velocity, _ = load_checkpoint(tmp_path / "run")["optimizer"]["velocity"]  # of all but h
    assert math.isfinite(final["loss"]) and all(v.any() for v in velocity if v.ndim > 1)


def test_by_default_the_model_is_the_paper_s_and_a_fixed_predictor_is_not_trained():
    default = model()  # the other switches: test_wiring.py
    assert default.D.keywords == {"stopgrad": True, "similarity": simsiam.negative_cosine}
    assert default.symmetry == "symmetric"
    assert [type(m).__name__[:5] for m in default.h] == ["Linea", "Batch", "ReLU", "Linea"]
    assert all(w.requires_grad for w in default.parameters())
    assert not any(w.requires_grad for w in model("--predictor", "fixed").h.parameters())


@pytest.mark.parametrize("name", options.METHODS)
def test_a_method_is_the_class_of_the_file_with_its_name(name):
    method = options.METHODS[name]
    assert method.__module__.rpartition(".")[2] == name
    assert method.__name__.lower().startswith(name)
    assert type(model("--method", name)) is method


def test_bf16_and_compile_reach_the_network_and_are_printed(tmp_path, monkeypatch, capsys):
    compiled, parts, calls = [], [], []

    def compile(self, mode):
        compiled.append((self, mode))
        self._compiled_call_impl = lambda *views: (calls.append(views), self.forward(*views))[1]

    monkeypatch.setenv("CXX", sys.executable)  # no compiler is asked to do anything
    monkeypatch.setattr(torch.nn.Module, "compile", compile)
    train.train(options.parse([*TINY, "--bf16", "--compile", "--max-steps", "1", "--out",
                               str(tmp_path / "run")]),
                lambda run: (parts.append(run), run.model)[1])
    (run,) = parts
    assert compiled == [(run.model, "default")] and run.model.backbone.bf16
    assert len(calls) == 1  # that of the step: epoch 0 does without the compiler
    assert all(w.dtype == torch.float32 for w in run.model.parameters())
    assert run.state.outputs[0].dtype == run.state.losses[0].dtype == torch.float32
    assert "bfloat16, compiled" in capsys.readouterr().out
    evaluated = lineval.main([str(tmp_path / "run"), "--epochs", "1", "--lr", "1"])
    assert evaluated["knn"] == run.state.records[-1]["knn"]


@pytest.mark.parametrize("processes, pieces, device, mode", [
    (1, "1", "cuda:1", "reduce-overhead"), (2, "1", "cuda", "default"), (1, "2", "cuda", "default"),
    (1, "1", "cpu", "default")])
def test_a_network_compiled_for_one_gpu_and_whole_batches_is_replayed_as_a_graph(
        processes, pieces, device, mode, monkeypatch):
    modes = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode: modes.append(mode))
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_, **__: self)
    monkeypatch.setattr(options.parallel, "world_size", lambda: processes)
    args = options.fill_in(options.parse(["--compile", "--accumulate", pieces]), 24)
    args.device = device
    options.build(args)
    assert modes == [mode]


def test_float32_products_are_tf32_on_any_device_but_a_cpu(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    for name in ("cpu", "cuda"):
        device.tune(name)
    assert asked == ["high"]


# ------------------------------------------------------------------------------------------------
# What is refused, each in one plain line


FREE = {"--data", "--root", "--out", "--init"}  # any text may be their value
VALUED = {action.option_strings[-1] for action in options.parser()._actions if action.nargs is None}


@pytest.mark.parametrize(
    "argv", [*([option, "abacus"] for option in sorted(VALUED - FREE)),
             ["--nonsense"], ["--epochs", "0"], ["--checkpoint-every", "0"],
             ["--checkpoint-every", "m"],
             ["--checkpoint-every", "9" * 4500], ["--epochs", "9" * 4500], ["--dim", "9" * 10],
             ["--queue", "1000000000000"], ["--seed", "18446744073709551616"], ["--seed", "x"]])
def test_a_wrong_option_or_value_is_refused_in_a_line_that_names_it(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(argv)
    assert stop.value.code == 2
    assert argv[0] in capsys.readouterr().err.splitlines()[-1]


def test_contradictions_are_refused_in_one_line(tmp_path):
    out = ["--out", tmp_path / "run"]
    assert "and 192, the number" in message(*out, "--batch-size", 193)
    assert "below the 2 epochs" in message(*TINY, *out, "--warmup-epochs", 2)
    for flags in (["--crop-min", 0], ["--blur", 2], ["--lr", "nan"], ["--weight-decay", -1],
                  ["--weight-decay", 1e300], ["--weight-decay", "nan"],
                  ["--encoder-momentum", 1, "--method", "byol"]):
        assert message(*out, *flags).startswith(str(flags[0]))
    assert "images of 12 px" in message(*out, "--stored-size", 32)
    assert "neither" in message(*out, "--data", "nowhere")
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    assert "cannot be" in message("--out", tmp_path / "file" / "run")


BOUNDS = {  # option: its smallest and largest value, and what is just beyond either
    "--batch-size": ("2 192", "1 193"), "--warmup-epochs": ("0 1", "-1 2"),
    "--crop-min": ("1e-9 1", "0 1.01"), "--blur": ("0 1", "-0.01 1.01"),
    "--lr": ("0 9e29", "-1e-9 1e30 nan"), "--weight-decay": ("0 9e29", "-1e-9 1e30 nan"),
    "--encoder-momentum": ("0 0.9999", "-0.01 1"), "--sigreg": ("0 1", "-0.01 1.01"),
    "--epsilon": ("0.025 1", "0 0.024 1.01 nan"),
    "--accumulate": ("1 32", "3 64"), "--proj-layers": ("2 3", "1 4"),
    **{option: ("1 1000000000", "0 -1 1000000001") for option in (
        "--epochs", "--knn-every", "--max-steps", "--dim", "--pred-dim", "--queue")},
    "--seed": ("0 4294967295", "-1 4294967296"),
    "--checkpoint-every": ("1 1m 999999999", "0 0m 1000000000")}
METHOD = {"--encoder-momentum": "byol", "--sigreg": "lejepa", "--queue": "moco",
          "--epsilon": "swav"}


@pytest.mark.parametrize("option", BOUNDS)
def test_a_bound_is_accepted_and_what_lies_beyond_it_is_refused(option, capsys):
    def completed(value):
        argv = [*TINY, "--method", METHOD.get(option, "simsiam"), f"{option}={value}"]
        args = options.complete(options.parse(argv), data.load("shapes"))
        return vars(args)[option[2:].replace("-", "_")]

    accepted, refused = map(str.split, BOUNDS[option])
    for value in accepted:
        assert completed(value) == type(completed(value))(value)
    for value in refused:
        with pytest.raises(SystemExit) as stop:
            completed(value)
        said = f"{stop.value.code} {capsys.readouterr().err.splitlines()[-1:]}"
        assert option in said or option == "--accumulate" and "--batch-size 64" in said


def test_with_synchronised_BN_a_process_may_have_a_single_image(monkeypatch):
    monkeypatch.setattr(options.parallel, "world_size", lambda: 64)
    monkeypatch.setattr(options.parallel, "from_rank_0", lambda function: function())
    argv = ["--device", "cpu", "--batch-size", "64"]
    assert options.complete(options.parse(argv), data.load("shapes")).batch_size == 64


@pytest.mark.parametrize("compiler", ["no-such-compiler", "/bin/false"])
def test_compiling_without_a_compiler_is_refused_in_one_line(compiler, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", compiler)
    assert compiler in message(*TINY, "--compile", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setenv("CC", compiler)
    args = options.parse(["--compile", "--device", "cpu"])
    args.device = "cuda"  # which parse() would refuse on a machine without one
    assert [words for wrong, words in faults.machine_faults(args) if wrong and "CC" in words]


def test_without_a_named_compiler_a_GPU_may_use_gcc_or_clang(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    for present in "gcc", "clang", "":
        monkeypatch.setattr(device, "runs", lambda program: program == present)
        assert device.broken_compiler("cuda") == ("" if present else "gcc")


def test_a_GPU_on_which_this_torch_cannot_compute_is_refused_in_one_line(monkeypatch, capsys):
    """As by a Pascal GPU, for which there are no kernels: it can allocate memory."""
    def add(*_):
        raise RuntimeError("CUDA error: no kernel image is available\nmore lines")

    monkeypatch.setattr(torch.Tensor, "add_", add)
    for name, reason in (("meta", "(CUDA error: no kernel image is available); try cpu"),
                         ("mps", "choose cpu"), ("mps:0", "choose cpu")):
        with pytest.raises(SystemExit):
            options.parse(["--device", name])
        assert capsys.readouterr().err.splitlines()[-1].endswith(reason)


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bfloat16_is_refused_on_a_GPU_that_only_emulates_it(has_bf16, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported",
                        lambda including_emulation=True: has_bf16 or including_emulation)
    args = options.parse(["--bf16", "--device", "cpu"])
    for args.device, refused in (("cpu", False), ("cuda", not has_bf16)):
        complaints = [words for wrong, words in faults.machine_faults(args) if wrong]
        assert refused == any("--bf16: this GPU" in words for words in complaints)


def test_cpu_0_is_the_cpu_and_is_tuned_like_it():
    assert options.parse(["--device", "cpu:0"]).device == "cpu"


def test_resuming_requires_a_checkpoint_and_the_options_of_the_run(tmp_path):
    assert "--out must name" in message("--resume")
    assert "no such checkpoint" in message("--resume", "--out", tmp_path)
    out = tmp_path / "run"
    train.main([*TINY, "--out", str(out), "--max-steps", "1"])
    assert "epochs 2 -> 5" in message("--resume", "--out", out, "--epochs", 5)
    assert "stopgrad True -> False" in message("--resume", "--out", out, "--no-stopgrad")


def test_a_flag_newer_than_the_run_had_its_default_there(tmp_path):
    out = tmp_path / "run"
    train.main([*TINY, "--max-steps", "1", "--out", str(out)])
    saved = load_checkpoint(out)
    del saved["config"]["bf16"]
    runs.write_checkpoint(out / "checkpoint.pt", saved)
    assert "bf16 False -> True" in message("--resume", "--bf16", "--out", out)
    train.main(["--resume", "--max-steps", "2", "--out", str(out)])


def test_a_resumed_run_keeps_every_option_but_those_of_this_machine_and_call(tmp_path):
    train.main([*TINY, "--max-steps", "1", "--out", str(tmp_path)])
    saved, default = load_checkpoint(tmp_path), vars(options.parse([]))
    saved["config"].update(
        seed=7, warmup_epochs=1, accumulate=2, bf16=True, local_bn=True, skip_bad_images=True,
        checkpoint_every="7", knn_every=7, init="weights.pt", data="shapes-tinted", root="other")
    runs.write_checkpoint(tmp_path / "checkpoint.pt", saved)
    resumed = vars(options.parse(["--resume", "--out", str(tmp_path)]))
    for key in default.keys() - {"resume", "out", "max_steps", "device", "compile", "method"}:
        kept = saved["config"][key]
        assert resumed[key] == kept and (kept is None or kept != default[key]), key


def test_resuming_keeps_the_options_that_may_change_unless_told_otherwise(tmp_path):
    flags = "--root", "elsewhere", "--checkpoint-every", "2", "--knn-every", "3"
    train.main([*TINY, *flags, "--out", str(tmp_path), "--max-steps", "1"])
    resume = ["--resume", "--out", str(tmp_path)]
    kept, changed = options.parse(resume), options.parse([*resume, "--checkpoint-every", "5m"])
    assert (kept.root, kept.checkpoint_every, kept.max_steps) == ("elsewhere", "2", None)
    assert kept.knn_every == 3 and changed.checkpoint_every == "5m"


def test_a_size_that_the_images_do_not_have_is_refused():
    args = options.parse([*TINY, "--data", "cifar10", "--image-size", "16"])
    with pytest.raises(SystemExit, match="--image-size 16: --data cifar10 has images of 12 px"):
        options.complete(args, data.load("shapes"))


RECIPES = {
    **{f"--data cifar10 --arch {arch}": dict(epochs=5, lr=0.8, batch_size=64, dim=256)
       for arch in ("resnet8", "resnet20")},
    "--data cifar10 --method moco": dict(queue=8192, encoder_momentum=0.99),
    "--data cifar100": dict(arch="resnet18", dim=2048, proj_layers=3, epochs=100, batch_size=256,
                            lr=0.05, weight_decay=1e-4, predictor_lr="constant", crop_min=0.2,
                            blur=0.5),
    "--data cifar100 --method moco": dict(queue=4096, encoder_momentum=0.99)}


@pytest.mark.parametrize("argv", RECIPES)
def test_a_command_line_gets_the_recipe_of_its_data_and_network(argv):
    args = vars(options.fill_in(options.parse(argv.split()), 32))
    assert {key: args[key] for key in RECIPES[argv]} == RECIPES[argv]


def test_a_method_may_ask_for_the_length_of_the_run_and_others_keep_theirs(monkeypatch):
    class Scheduled(simclr.SimCLR):
        def __init__(self, backbone, dim, epochs, batch_size):
            """Of another signature."""

    monkeypatch.setattr(simclr, "SimCLR", Scheduled)
    anew = SimpleNamespace(**runpy.run_path(pathlib.Path(options.__file__)))
    for method in "simsiam", "simclr":
        args = anew.fill_in(anew.parse(["--method", method, "--batch-size", "32"]), 24)
        assert (args.epochs, args.batch_size) == (20, 32)
    assert anew.OPTIONS["simclr"].keys() == {"dim", "epochs", "batch_size"}
