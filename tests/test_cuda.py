"""What a GPU computes is what the CPU computes.    pytest -m gpu"""

import math

import pytest
import torch
from strategies import TINY, records
from torch._dynamo.utils import counters

import lineval
import options
import train
from augment import Augment
from utils import data
from utils.runs import load_checkpoint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    pytest.mark.usefixtures("small_shapes"),
]

ON_GPU = [*TINY, "--device", "cuda"]


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Products and convolutions in float32, not TF32, and by the same kernels in every run."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    yield
    torch.set_float32_matmul_precision(before)


def a_run(device, *flags):
    """A run on shapes and its views; the same seed gives the same weights and draws everywhere."""
    torch.manual_seed(0)
    images = data.load("shapes")
    args = options.complete(options.parse(["--device", device, "--batch-size", "64", *flags]),
                            images)
    model = options.build(args)
    sgd = train.SGD(train.param_groups(model), weight_decay=args.weight_decay)
    return train.Run(args, None, images.to(device), options.augmentation(args), model, sgd)


def a_step(run):
    """Loss, projections and gradients of a step, on the CPU; the step is then taken."""
    loss, z = run.model(*run.two_views(torch.arange(64)))
    run.optimizer.zero_grad()
    loss.backward()
    grads = torch.cat([w.grad.flatten() for w in run.model.parameters() if w.grad is not None])
    run.optimizer.step(0.1, 0.1)
    return [v.detach().cpu().double() for v in (loss, z, grads)]


def error(found, expected):
    """‖found - expected‖ / ‖expected‖."""
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("size", (16, 40))
def test_views_equal_the_cpus_for_the_same_draws(size):
    x = data.load("shapes").train[:64]
    augment = Augment(size, (0.5,) * 3, (0.25,) * 3, jitter_p=1.0, gray_p=0.5, blur_p=0.5)
    draws = augment.draw(64, x.shape[2])
    assert torch.allclose(augment(x.cuda(), draws).cpu(), augment(x, draws), atol=1e-4)


@pytest.mark.parametrize("method", options.METHODS)
def test_three_steps_equal_the_cpus(method):
    on_cpu, on_gpu = (a_run(device, "--method", method) for device in ("cpu", "cuda"))
    for _ in range(3):
        torch.manual_seed(1)
        expected = a_step(on_cpu)
        torch.manual_seed(1)
        for found, value in zip(a_step(on_gpu), expected):
            assert error(found, value) < 1e-3
    assert all(w.is_cuda for w in on_gpu.model.state_dict().values())


@pytest.mark.parametrize("flags, bound", [
    ("", 1e-4), ("--bf16", 0.1), ("--compile", 1e-4), ("--bf16 --compile", 0.1)])
def test_faster_arithmetic_gives_the_gradient_of_float64_up_to_rounding(flags, bound):
    reference, fast = a_run("cuda"), a_run("cuda", *flags.split())
    reference.model.double()
    torch.manual_seed(1)
    x1, x2 = reference.two_views(torch.arange(64))
    gradients = []
    for run, views in ((reference, (x1.double(), x2.double())), (fast, (x1, x2))):
        for _ in range(3):  # with --compile the second is recorded as a graph, the third replayed
            run.optimizer.zero_grad()
            run.model(*views)[0].backward()
        gradients.append(torch.cat([w.grad.flatten().double() for w in run.model.parameters()]))
    assert error(gradients[1], gradients[0]) < bound


@pytest.mark.parametrize("method", options.METHODS)
def test_a_step_never_waits_for_the_gpu(method):
    run = a_run("cuda", "--method", method)
    a_step(run)  # the first one may wait: for memory, kernels and handles
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.optimizer.zero_grad()
        loss, z = run.model(*run.two_views(torch.arange(64)))
        loss.backward()
        run.optimizer.step(0.1, 0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(loss.item())


def test_lejepa_whose_directions_are_drawn_on_the_cpu_can_be_compiled(tmp_path):
    train.main([*ON_GPU, "--method", "lejepa", "--compile", "--out", str(tmp_path / "run")])
    assert all(math.isfinite(r["loss"]) for r in records(tmp_path / "run"))


def test_images_that_did_not_fit_into_the_gpus_memory_can_be_held_out():
    images = data.load("shapes")
    there = images._replace(train_labels=images.train_labels.cuda(),
                            test_labels=images.test_labels.cuda())
    assert torch.equal(there.held_out().train, images.held_out().train)


@pytest.mark.parametrize("stop", (2, 3, 5))
def test_a_run_resumed_on_a_gpu_ends_as_one_that_was_never_stopped(stop, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train.main([*ON_GPU, "--out", str(whole)])
    train.main([*ON_GPU, "--out", str(parts), "--max-steps", str(stop)])
    train.main(["--resume", "--out", str(parts), "--device", "cuda"])
    a, b = (load_checkpoint(out, "cpu")["model"] for out in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert [r["loss"] for r in records(whole)] == [r["loss"] for r in records(parts)]


@pytest.mark.parametrize("flags", [
    *(f"--method {method}" for method in options.METHODS if method != "lejepa"), "--accumulate 2"])
def test_a_compiled_run_learns_what_an_eager_one_does_and_keeps_the_outputs_of_earlier_steps(
        flags, tmp_path):
    # Not LeJEPA, whose random directions may be other ones when compiled.
    runs = {}
    counters.clear()
    for flag in ([], ["--compile"]):
        out = tmp_path / str(len(flag))
        train.main([*ON_GPU, *flags.split(), *flag, "--epochs", "4", "--out", str(out)])
        runs[len(flag)] = records(out)
        assert torch.get_float32_matmul_precision() == "high"  # TF32, for the heads
    assert counters["stats"]["unique_graphs"] and not counters["inductor"]["cudagraph_skips"]
    for eager, compiled in zip(runs[0], runs[1]):
        for name in ("loss", "std", "rank"):
            assert compiled[name] == pytest.approx(eager[name], abs=0.02, rel=0.05)


def test_lineval_finds_the_same_on_the_gpu_and_the_cpu(tmp_path):
    train.main([*TINY, "--out", str(tmp_path)])
    found = [lineval.main([str(tmp_path), "--lr", "1", "--epochs", "5", "--device", device])
             for device in ("cpu", "cuda")]
    assert torch.get_float32_matmul_precision() == "high"  # as in training
    for name in ("knn", "top1"):
        assert abs(found[0][name] - found[1][name]) < 5
