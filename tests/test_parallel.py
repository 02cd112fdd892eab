"""Two processes compute what one computes.    pytest tests/test_parallel.py

This file is also the program that torchrun starts, once, as two processes on the CPU. They leave
what they find in files, and most laws compare that with what pytest's own process finds alone.
"""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy
import pytest
import torch
import torch.distributed as dist
import torch.distributed.run
from hypothesis import given
from PIL import Image
from strategies import TINY, forked, gradients, make_folder, normal, records, seeds, tiny, views
from torch import nn

import options
import train
from augment import Augment
from optim import SGD
from simsiam import effective_rank, output_std
from utils import checkpoint, data, faults, parallel, plot, sync_bn
from utils.runs import load_checkpoint

HOME = pathlib.Path(train.__file__).parent
COMMANDS = [  # every method, and every switch that changes what a process has to know of another
    *(["--method", method] for method in options.METHODS),
    ["--predictor", "none", "--no-stopgrad"], ["--predictor", "fixed", "--bn", "no-affine"],
    ["--symmetry", "asymmetric", "--similarity", "cross-entropy"], ["--accumulate", "2"],
    ["--method", "moco", "--symmetry", "asymmetric", "--queue", "12"],
    ["--method", "simclr", "--predictor", "mlp", "--stopgrad"],
    ["--method", "swav", "--predictor", "mlp", "--no-stopgrad"]]

# ------------------------------------------------------------------------------------------------
# What is computed by one process or by two.


def several_steps(*argv):
    """Three steps of a tiny network in float64: everything that comes of them, by name."""
    argv = [*(["--queue", "20"] if "moco" in argv else []), *argv]  # fewer keys than in three steps
    args = options.fill_in(options.parse(
        ["--arch", "resnet8", "--batch-size", "8", "--dim", "16", "--device", "cpu", *argv]), 8)
    torch.manual_seed(0)
    model, found = options.build(args).double(), {}
    loss_fn, sgd = parallel.averaged(model), SGD(train.param_groups(model), weight_decay=1e-3)
    if args.accumulate > 1:
        loss_fn = parallel.in_pieces(loss_fn, args.accumulate)
    for step in range(3):
        sgd.zero_grad()
        L, z1 = loss_fn(*(parallel.shard(normal(10 * step + i, 8, 3, 8, 8), args.accumulate)
                          for i in range(2)))
        L.backward()
        found |= {f"gradient {step} of {name}": w.grad.clone()
                  for name, w in model.named_parameters() if w.grad is not None}
        found[f"loss {step}"] = parallel.gather(L.detach()[None]).mean()
        sgd.step(0.1, 0.1)
    z1 = parallel.gather(z1.detach())
    return found | {"std": output_std(z1), "rank": effective_rank(z1)} | model.state_dict()


def drawn_views(K):
    """The views of a batch of 8 in K pieces, or of this process's slice: (2, n, 3, 20, 20)."""
    args, x = options.parse(["--accumulate", str(K)]), data.draw_shapes(12, 24, 0.3, seed=0)[0]
    augment = Augment(20, [0.5] * 3, [0.2] * 3)
    torch.manual_seed(3)
    run = train.Run(args, None, data.Data(x, *3 * [None], []), augment, None, None)
    return torch.stack(run.two_views(torch.randperm(12)[:8]))


def command(folder, name, *more):
    """The options of a run of four steps, in two epochs, on 16 images."""
    return ["--data", str(folder / "images"), "--arch", "resnet8", "--batch-size", "8", "--dim",
            "16", "--epochs", "2", "--lr", "0.1", "--device", "cpu", "--checkpoint-every", "1",
            "--out", str(folder / name), *more]


def run(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "plot_curves", lambda *_: None)
        return train.train(options.parse(command(*words)))


@contextlib.contextmanager
def struck(number, step):
    """A context in which the second process gets a signal in the middle of a step."""
    steps, before = [], SGD.step

    def strike(sgd, *lrs):
        steps.append(lrs)
        if len(steps) == step and parallel.rank() == 1:
            os.kill(os.getpid(), number)
        before(sgd, *lrs)

    SGD.step = strike
    yield
    SGD.step = before


def main(folder):
    """What each of the two processes does."""
    found = {"steps": {" ".join(argv): several_steps(*argv) for argv in COMMANDS},
             "local": several_steps("--local-bn"), "views": {K: drawn_views(K) for K in (1, 2)}}
    x = torch.arange(14.0).view(7, 2)
    found["rows"], double = [], lambda x: (found["rows"].append(len(x)), 2 * x)[1]
    found["spread"] = [parallel.spread(double, x[:n]) for n in (1, 2, 7)]
    found["agree"] = parallel.agree(parallel.rank() == 1, True, False)
    found["first"], calls = parallel.is_first(), []
    found["of rank 0"] = parallel.from_rank_0(lambda: calls.append(1) or {"rank": parallel.rank()})
    found["calls"] = len(calls)
    w = torch.ones(2, requires_grad=True)
    (parallel.gather((w + parallel.rank())[None]) * torch.tensor([[1.0, 10], [100, 1000]])
     ).sum().backward()
    found["gathered"] = parallel.gather(w.detach()[None] + parallel.rank()), w.grad
    x = 100 + 0.01 * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    bn = nn.BatchNorm1d(3, eps=0)
    sync_bn.synchronise(bn)
    found["far from zero"] = parallel.gather(bn(parallel.shard(x)).detach())
    bn.running_mean.fill_(parallel.rank())
    parallel.share_buffers(bn)
    found["shared"] = bn.running_mean.tolist()
    torch.save(found, folder / f"{parallel.rank()}.pt")
    run(folder, "two")
    run(folder, "two then one", "--max-steps", "3")
    run(folder, "one then two", "--resume")
    with struck(signal.SIGTERM, step=3):
        try:
            run(folder, "interrupted")
        except SystemExit as stop:
            (folder / f"stopped {parallel.rank()}").write_text(str(stop.code))
    with struck(signal.SIGKILL, step=4):
        run(folder, "killed")


# ------------------------------------------------------------------------------------------------
# The launch, and its laws.


def torchrun(program, *more, log_dir, processes=2):
    """The words of torchrun that start a program in several processes."""
    return ["--nproc-per-node", str(processes), "--log-dir", str(log_dir), "--redirects", "3",
            *more, str(program)]


def launch(folder):
    """torchrun; its two processes are forks, which import nothing anew."""
    torch.distributed.run.main([
        *torchrun(__file__, "--standalone", "--run-path", "--start-method", "fork",
                  log_dir=folder / "logs"), str(folder)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of the launch; "one" and "one then two" are runs of this process alone."""
    folder = tmp_path_factory.mktemp("parallel")
    for i, file in enumerate(sorted(make_folder(folder / "images", n=8).rglob("*.png"))):
        # Noise: flat images have a tiny std, and so inputs of size 100, with rounding to match.
        noise = numpy.random.default_rng(i).integers(256, size=(16, 16, 3), dtype=numpy.uint8)
        Image.fromarray(noise).save(file)
    run(folder, "one")
    run(folder, "one then two", "--max-steps", "1")
    launched = forked(launch, folder, log=folder / "log")
    launched.join()
    assert launched.exitcode == 1, (folder / "log").read_text()  # the killed process
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """What the two processes found."""
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def said(folder, rank, stream):
    return next((folder / "logs").glob(f"*/attempt_0/{rank}/{stream}.log")).read_text()


def furthest(a, b):
    """The largest difference between two results, relative to values above 1, and its name."""
    assert a.keys() == b.keys()
    return max((float(((a[name].double() - b[name]).abs() / a[name].abs().clamp(min=1)).max()),
                name) for name in a)


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_two_processes_compute_what_one_computes_on_the_whole_batch(argv, found):
    one, two = several_steps(*argv), found[0]["steps"][" ".join(argv)]
    assert any(name.startswith("gradient 2") for name in one)
    difference, name = furthest(one, two)
    assert difference < 1e-6, name


def test_the_ranks_are_equal_to_the_last_bit(found):
    for argv, first in found[0]["steps"].items():
        assert furthest(first, found[1]["steps"][argv])[0] == 0, argv


def test_local_BN_computes_something_else(found):
    one = several_steps()
    assert furthest(one, found[0]["local"])[0] > 1e-2


def test_shared_statistics_are_those_of_rank_0(found):
    assert [found[rank]["shared"] for rank in range(2)] == [[0.0] * 3] * 2


@pytest.mark.parametrize("K", [1, 2])
def test_the_views_of_the_ranks_are_the_slices_of_the_views_of_one_process(K, found):
    whole = drawn_views(K).unflatten(1, (K, 2, -1))  # (2, K, 2, 4 / K, 3, 20, 20)
    for rank in range(2):
        assert torch.equal(found[rank]["views"][K], whole[:, :, rank].flatten(1, 2))


def test_the_ranks_share_work_rows_gradients_flags_and_what_rank_0_finds(found):
    for rank in range(2):
        x = torch.arange(14.0).view(7, 2)
        assert all(torch.equal(y, 2 * x[:n]) for n, y in zip((1, 2, 7), found[rank]["spread"]))
        assert found[rank]["rows"] == [1, 1, [4, 3][rank]]  # each has half of the work
        assert found[rank]["agree"] == [True, True, False]
        assert found[rank]["of rank 0"] == {"rank": 0}
        assert found[rank]["first"] == found[rank]["calls"] == (rank == 0)
        rows, gradient = found[rank]["gathered"]
        assert rows.tolist() == [[1, 1], [2, 2]]
        assert gradient.tolist() == [[2, 20], [200, 2000]][rank]  # of the sum of both losses


def test_SyncBN_is_exact_where_the_mean_is_ten_thousand_times_the_std(found):
    x = 100 + 0.01 * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    exact = (x.double() - x.double().mean(dim=0)) / x.double().std(dim=0, correction=0)
    assert (found[0]["far from zero"] - exact).abs().max() < 5e-3


def test_a_whole_run_of_two_ends_as_one_does_and_so_do_both_kinds_of_resumed_runs(folder):
    run(folder, "two then one", "--resume")
    straight = load_checkpoint(folder / "one")
    for name in ("two", "two then one", "one then two"):
        ended = load_checkpoint(folder / name)
        difference, weight = furthest(straight["model"], ended["model"])
        assert difference < 1e-5, (name, weight)
        assert torch.equal(straight["rng"], ended["rng"])
        for a, b in zip(records(folder / "one"), records(folder / name), strict=True):
            for key in a.keys() - {"seconds", "images_per_s"}:
                assert a[key] == pytest.approx(b[key], abs=1e-4), key


def test_a_signal_to_one_process_stops_all_at_the_same_step_and_the_run_can_be_resumed(folder):
    assert [(folder / f"stopped {rank}").read_text() for rank in range(2)] == ["143"] * 2
    assert said(folder, 0, "stderr").count("stopped after step 3 of 4") == 1
    assert said(folder, 0, "stderr").count("torchrun may now print a traceback") == 1
    assert load_checkpoint(folder / "interrupted")["step"] == 3
    run(folder, "interrupted", "--resume")
    ends = [load_checkpoint(folder / name)["model"] for name in ("one", "interrupted")]
    assert furthest(*ends)[0] < 1e-5


def test_when_one_process_is_killed_the_other_says_so_in_one_line_and_the_run_can_be_resumed(
        folder):
    last = said(folder, 0, "stderr").splitlines()[-1]
    assert last.startswith("another process of this run has ended") and "--resume" in last
    assert last.isascii() and "report" not in last  # gloo's advice to its developers
    assert "Traceback" not in said(folder, 0, "stderr")
    assert load_checkpoint(folder / "killed")["step"] == 2
    run(folder, "killed", "--resume")
    ends = [load_checkpoint(folder / name)["model"] for name in ("one", "killed")]
    assert furthest(*ends)[0] < 1e-5


def test_rank_0_alone_prints(folder):
    assert "run folder" in said(folder, 0, "stdout")
    assert said(folder, 1, "stdout") == said(folder, 1, "stderr") == ""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("error", [
    SystemExit("--lr: no"), SystemExit(143), ValueError("a fault"),
    RuntimeError("NCCL error. ncclInvalidUsage. Last error: Duplicate GPU detected")])
def test_what_ends_a_process_under_torchrun_by_its_own_fault_stays_as_it_is(error, monkeypatch):
    words = f"RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT={free_port()}"
    for word in [*words.split(), "TORCHELASTIC_RUN_ID=any"]:
        monkeypatch.setenv(*word.split("="))
    handlers = []
    monkeypatch.setattr(parallel.signal, "signal", lambda *of: handlers.append(of))
    with pytest.raises(type(error)) as raised, parallel.group():
        raise error
    assert raised.value is error
    # What it has to say must not be cut off by torchrun, which ends all processes after the first.
    has_said_why = getattr(error, "code", "") == 143
    assert handlers == [(signal.SIGTERM, signal.SIG_IGN)] * (not has_said_why)
    dist.destroy_process_group()
    with parallel.group():
        assert dist.is_initialized()
    assert not dist.is_initialized()


@pytest.fixture
def several(monkeypatch):
    """Make threads of this process believe that they are processes of one run."""
    me, store = threading.local(), dist.HashStore()
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)

    def start(P, function, is_first=lambda rank: rank == 0):
        monkeypatch.setattr(parallel, "world_size", lambda: P)
        monkeypatch.setattr(parallel, "rank", lambda: me.rank)
        monkeypatch.setattr(parallel, "is_first", lambda: is_first(me.rank))
        threads = [threading.Thread(target=lambda rank=rank: (
            setattr(me, "rank", rank), function(rank))) for rank in range(P)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return start


def test_nobody_goes_on_before_the_last_has_arrived(several):
    arrived = []

    def process(rank):
        for turn in range(3):
            time.sleep(0.02 * ((rank + turn) % 3))
            arrived.append((turn, rank))
            parallel.wait_for_all()
            assert len(arrived) >= 3 * (turn + 1), "it did not wait"
        arrived.append("end")

    several(3, process)
    assert [turn for turn, _ in arrived[:9]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert arrived[9:] == ["end"] * 3


def test_who_waits_notices_that_another_has_failed_perhaps_on_another_machine(several):
    ended = []

    def process(rank):
        if rank == 1:
            parallel.count("errors", 1)
            return
        with pytest.raises(SystemExit, match="another process of this run has ended"):
            parallel.wait_for_all()
        ended.append(rank)

    several(3, process)
    assert sorted(ended) == [0, 2]


def test_no_process_of_a_stopped_run_ends_before_rank_0_has_saved(several):
    events = []

    def process(rank):
        if rank == 0:
            time.sleep(0.1)
            events.append("saved")
        with pytest.raises(SystemExit):
            train.stopped(SimpleNamespace(
                out="run", state=SimpleNamespace(step=1), last_step=2), None, [])
        events.append("ended")

    several(2, process)
    assert events == ["saved", "ended", "ended"]


def test_a_folder_is_decoded_by_rank_0_then_by_the_first_of_each_machine_then_read_by_all(several):
    events, found = [], {}

    def load():
        events.append("starts")
        time.sleep(0.05)
        events.append("ends")
        return len(events)

    def process(rank):
        found[rank] = parallel.one_first(load)

    several(3, process, is_first=lambda rank: rank != 1)  # rank 2 is on a machine of its own
    assert events == ["starts", "ends"] * 3 and found == {0: 2, 2: 4, 1: 6}


@pytest.mark.slow
def test_two_machines_are_like_two_processes_of_one(folder):
    """Two launches that meet on the loopback, as on two machines that share a disk."""
    port = free_port()
    launches = [subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run",
         *torchrun(HOME / "train.py", "--nnodes", "2", "--node-rank", str(i), "--master-addr",
                   "127.0.0.1", "--master-port", str(port), processes=1,
                   log_dir=folder / f"machine {i}"), *command(folder, "machines")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}) for i in range(2)]
    assert [launch.wait() for launch in launches] == [0, 0]
    ends = [load_checkpoint(folder / name)["model"] for name in ("one", "machines")]
    assert furthest(*ends)[0] < 1e-5


# ------------------------------------------------------------------------------------------------
# --accumulate, and what is refused.


@given(seeds)
def test_the_gradient_of_a_batch_in_pieces_is_that_of_the_batch_without_BN_and_not_with_it(seed):
    for bn, same in (("none", True), ("default", False)):
        model, (x1, x2) = tiny(seed, bn=bn), views(seed)
        whole = gradients(model, model(x1, x2)[0])
        loss_fn = parallel.in_pieces(model, 3)
        model.zero_grad()
        L, z1 = loss_fn(x1, x2)
        L.backward()
        assert all(torch.allclose(w.grad, whole[name], atol=1e-12)
                   for name, w in model.named_parameters()) == same
        if same:
            assert torch.allclose(L, model(x1, x2)[0]) and torch.allclose(z1, model.f(x1))


def test_a_piece_leaves_memory_before_the_next_is_computed():
    model, passes = tiny(), []

    def loss_fn(x1, x2):
        L, z1 = model(x1, x2)
        passes.append("forward")
        L.register_hook(lambda _: passes.append("backward"))
        return L, z1

    parallel.in_pieces(loss_fn, 3)(*views(0))[0].backward()
    assert passes == 3 * ["forward", "backward"]


@pytest.mark.parametrize("processes, argv, refusal", [
    (3, [], "--batch-size 64: must be a multiple of 3"),
    (1, ["--accumulate", "5"], "--batch-size 64: must be a multiple of 5"),
    (2, ["--accumulate", "64"], "--batch-size 64: must be a multiple of 128"),
    (1, ["--accumulate", "64"], "larger one or a smaller --accumulate than 64"),
    (64, ["--local-bn"], "leaves BN fewer than the two"),
    (1, ["--accumulate", "2", "--method", "byol"], "--accumulate: --method byol"),
    (2, ["--device", "meta"], "--device meta: under torchrun")])
def test_what_processes_or_pieces_cannot_do_is_refused_in_one_line(
        processes, argv, refusal, monkeypatch, small_shapes):
    monkeypatch.setattr(parallel, "world_size", lambda: processes)
    monkeypatch.setattr(parallel, "from_rank_0", lambda function: function())
    with pytest.raises(SystemExit) as stop:
        options.complete(options.parse(["--device", "cpu", *argv]), data.load("shapes"))
    assert refusal in stop.value.code and "\n" not in stop.value.code


def test_a_checkpoint_that_is_due_in_one_process_is_written_by_all(
        tmp_path, monkeypatch, small_shapes):
    """Their clocks differ, and each would wait for ever for the others' part of it."""
    saved = []
    monkeypatch.setattr(train.parallel, "agree", lambda *flags: [
        flag or i == 1 for i, flag in enumerate(flags)])
    monkeypatch.setattr(checkpoint, "save", lambda run: saved.append(run.state.step))
    train.main([*TINY, "--checkpoint-every", "10m", "--max-steps", "2", "--out",
                str(tmp_path / "run")])
    assert saved == [0, 1, 2]


def test_each_process_of_torchrun_has_a_GPU_of_its_machine(monkeypatch):
    asked = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(dist, "init_process_group", asked.append)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with parallel.group():
        pass
    assert asked == [1, "cpu:gloo,cuda:nccl"]


def test_the_processes_of_one_machine_are_compared_with_its_own_GPUs(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(faults.parallel, "world_size", lambda: 16)  # on two machines
    args = SimpleNamespace(device="cuda", compile=False, bf16=False)
    for here, refused in (8, False), (9, True):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
        assert any(wrong for wrong, words in faults.machine_faults(args)
                   if "than this machine has GPUs" in words) is refused


def test_SyncBN_of_bfloat16_computes_its_statistics_in_float32_as_BN_does(monkeypatch):
    monkeypatch.setattr(parallel.dist, "all_reduce", lambda x: None)  # one process
    x = (100 + torch.randn(64, 3, 4, 4)).bfloat16()
    ours, theirs = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    sync_bn.synchronise(ours)
    y, expected = ours(x), theirs(x.float())
    assert y.dtype == torch.bfloat16 and torch.allclose(y.float(), expected, atol=0.05)
    assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-4)
    assert torch.allclose(ours.running_var, theirs.running_var, atol=1e-4)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):  # a fork inherits torchrun's handlers
        signal.signal(number, signal.SIG_DFL)
    try:
        with parallel.group():
            main(pathlib.Path(sys.argv[1]))
    except SystemExit as stop:  # Python would print it after the end of torchrun's log
        print(stop, file=sys.stderr)
        raise
