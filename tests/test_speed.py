"""That experiments/speed.py and cost.py measure fairly.    pytest tests/test_speed.py"""

import pathlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import options
from experiments import benchmark, cost, peers, speed
from experiments.peers import torchvision_peer
from simsiam import SimSiam
from utils import runs


def test_peers_without_lightly_are_refused_before_anything_is_timed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["speed.py", "--peers"])
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        speed.main()
    assert "pip install lightly" in capsys.readouterr().err


def test_rivals_take_turns_the_first_turn_does_not_count_and_medians_are_compared(monkeypatch):
    calls, clock = [], [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])

    def lasting(name, *seconds):
        return lambda: (clock.append(clock.pop() + seconds[calls.count(name)]), calls.append(name))

    ours, theirs = lasting("ours", 9, 2, 1, 4), lasting("theirs", 1, 4, 5, 6)
    assert benchmark.race("what", ours, "name", theirs, 3) == [("what", "s", 2, "name", 5, 2)]
    assert calls == ["ours", "theirs"] * 4
    assert benchmark.compared("what", "images/s", [2, 6, 4], "name", [2, 2, 4])[5] == 1


def test_train_py_and_a_peer_are_timed_on_the_same_network_and_images(monkeypatch):
    seen, forward = set(), SimSiam.forward

    def noted(self, *views):
        seen.update((sum(w.numel() for w in self.parameters()), v.shape) for v in views)
        return forward(self, *views)

    monkeypatch.setattr(SimSiam, "forward", noted)
    monkeypatch.setattr(speed, "rate", lambda function, amount, times: benchmark.rate(
        function, amount, 1))  # otherwise the peak takes forty products of large matrices
    rows = speed.loops({"peer": torchvision_peer}, "resnet8", 8, 16, 16, 1)
    assert len(seen) == 1 and (8, 3, 32, 32) in seen.pop()
    assert [row[3] for row in rows] == ["the network alone", "peer", "the peak"]
    assert all(min(ours, theirs, ratio) > 0 for _, _, ours, _, theirs, ratio in rows)


def test_every_comparison_of_speed_py_becomes_a_row_and_rows_are_appended_to_the_results(
        tmp_path, monkeypatch, capsys):
    compared, launched, built = [], [], []

    def race(what, ours, name, theirs, turns):
        compared.append(turns)
        assert callable(ours) and callable(theirs)
        return [(what, "s", 2.0, name, 5.0, 2.5)]

    def in_turns(steps, turns):
        compared.append(turns)
        return {name: [2.0] * turns for name, step in steps.items() if callable(step)}

    def launch(argv, env, **_):
        launched.append(env["OMP_NUM_THREADS"])
        out, rate = pathlib.Path(argv[-1]), 30.0 if "torch.distributed.run" in argv else 10.0
        out.mkdir()
        runs.write_metrics(out, [{"images_per_s": 1.0}, {"images_per_s": rate}])

    monkeypatch.setattr(speed, "CPU_SIZES", [])
    monkeypatch.setattr(speed, "DEVICE", "cpu")
    monkeypatch.setattr(speed, "network", lambda args: (
        built.append((args.method, args.bf16, args.compile)), print)[:2])
    monkeypatch.setattr(speed, "race", race)
    monkeypatch.setattr(speed, "in_turns", in_turns)
    monkeypatch.setattr(speed, "write_folder", lambda *_: None)
    monkeypatch.setattr(speed.subprocess, "run", launch)
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "speed.md")
    monkeypatch.setattr("sys.argv", ["speed"])
    (tmp_path / "speed.md").write_text("older\n")
    speed.main()
    written = (tmp_path / "speed.md").read_text()
    assert written == "older\n" + capsys.readouterr().out and "torchvision" in written
    rows = [line.split(" | ") for line in written.splitlines() if line.endswith("0 |")]
    assert len(rows) == 2 + (len(options.METHODS) - 1) + 5 and len(compared) == 6
    two = next(row for row in rows if "two processes" in row[0])
    assert two[1:] == ["images/s", "30", "one process of two threads", "10", "3.00 |"]
    assert launched == ["1", "2"] * 4
    assert built == [("simsiam", False, False), ("simsiam", True, False), ("simsiam", True, True),
                     *((method, False, False) for method in options.METHODS)]
    assert all(row[5] in ("1.00 |", "2.50 |") for row in rows if row is not two)


def test_a_folder_to_be_timed_has_the_training_images_asked_for_and_64_for_kNN(tmp_path):
    benchmark.write_folder(tmp_path, 5)
    images = {split: len(list((tmp_path / split).rglob("*.jpg"))) for split in ("train", "test")}
    assert images == {"train": 5, "test": 64}
    assert len(list((tmp_path / "train").iterdir())) == 2  # classes


def test_the_cost_of_a_run_is_the_rate_of_its_second_epoch(monkeypatch):
    def megabytes(*argv):
        assert argv[:6] == ("--data", "a folder", "--arch", "resnet8", "--batch-size", "4")
        records = [{"images_per_s": 10.0 * epoch} for epoch in range(3)]
        runs.write_metrics(pathlib.Path(argv[-1]), records)
        return 5.0

    monkeypatch.setattr(cost, "megabytes", megabytes)
    assert cost.cost("--arch resnet8", 4, "a folder") == (20.0, 5.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is read from /proc")
def test_the_cost_of_a_run_is_that_of_a_process_of_its_own(tmp_path):
    benchmark.write_folder(tmp_path, 16)
    images_per_s, memory = cost.cost("--arch resnet8 --dim 16", 8, tmp_path)
    assert images_per_s > 0 and 5000 > memory > cost.megabytes() > 50


def test_on_a_GPU_the_clock_is_read_when_its_work_is_done(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("waited"))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: done.append("read"))
    for device, expected in ("cpu", ["read"]), ("cuda", ["waited", "read"]):
        monkeypatch.setattr(benchmark, "DEVICE", device)
        done.clear()
        benchmark.now()
        assert done == expected


def test_our_views_are_raced_without_blur_as_the_peer_s_are(monkeypatch):
    made, real = [], speed.Augment
    monkeypatch.setattr(speed, "race", lambda *_: None)
    monkeypatch.setattr(speed, "Augment", lambda *args, **p: (
        made.append(real(*args, **p)), made[-1])[1])
    monkeypatch.setattr(speed, "smooth_images", lambda n: torch.zeros(
        1, 3, 4, 4, dtype=torch.uint8))
    speed.views()
    assert [T.blur_p for T in made] == [0]


def test_a_peer_computes_in_bfloat16_if_train_py_does():
    for flags in [], ["--bf16"]:
        args = options.fill_in(options.parse(["--arch", "resnet8", "--device", "cpu", *flags]), 24)
        _, model, _ = peers.torchvision_peer(args)
        assert model.backbone.bf16 is bool(flags)


def test_the_peer_of_lightly_has_the_gradients_of_SimSiam(monkeypatch):
    """With stand-ins for lightly's classes, as their documentation has them."""
    def mlp(*layers):
        return nn.Sequential(*sum(([nn.Linear(a, b, bias=not bn), *[bn] * bool(bn),
                                    *[relu] * bool(relu)] for a, b, bn, relu in layers), []))

    loss = SimpleNamespace(NegativeCosineSimilarity=lambda: lambda p, z: -(
        torch.cosine_similarity(p, z).mean()))
    heads = SimpleNamespace(ProjectionHead=lambda layers: mlp(*layers))
    modules = SimpleNamespace(heads=heads, SimSiamPredictionHead=lambda a, b, c: mlp(
        (a, b, nn.BatchNorm1d(b), nn.ReLU()), (b, c, None, None)))
    transforms = SimpleNamespace(SimSiamTransform=lambda *_, **__: None)
    for name, module in {
            "lightly": ModuleType("lightly"), "lightly.loss": loss,
            "lightly.models": ModuleType("models"), "lightly.models.modules": modules,
            "lightly.models.modules.heads": heads, "lightly.transforms": transforms}.items():
        monkeypatch.setitem(sys.modules, name, module)
    args = options.fill_in(options.parse(["--dim", "16", "--device", "cpu"]), 24)
    _, theirs, loss_fn = peers.lightly_peer(args)
    ours = options.build(args)
    with torch.no_grad():
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.copy_(b)
    two_views = [torch.randn(8, 3, 24, 24) for _ in range(2)]
    for L in ours(*two_views)[0], loss_fn(*two_views):
        L.backward()
    assert all(torch.allclose(a.grad, b.grad, atol=1e-5)
               for a, b in zip(ours.parameters(), theirs.parameters()))
