"""That experiments/speed.py and cost.py measure fairly.    pytest tests/test_speed.py"""

import pathlib
import sys

import pytest

import options
from experiments import benchmark, cost, speed
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
    assert images_per_s > 0 and memory > cost.megabytes() >= 0
