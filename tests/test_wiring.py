"""Laws of the wiring: an option reaches what it is for, a number is what it says.

    pytest tests/test_wiring.py

Each option of train.py has a row in BUILT or TRAINED: a value, and what is true of a run with it
that is not true of one without. Each option of the scripts in LAWS has a law, which LAWS names. An
option of these scripts without a row fails.
"""

import contextlib
import importlib
import io
import pathlib
import re
import time

import numpy
import pytest
import torch
from PIL import Image
from strategies import TINY, records, shrink_shapes

import augment
import lineval
import options
import simsiam
import train
from baselines.byol import BYOL
from utils import checkpoint, data, plot, runs


class Stop(Exception):
    """Ends a run before its first step."""


def built(*flags):
    """The Run as train() makes it, before its first step."""
    found = []

    def study(run):
        found.append(run)
        raise Stop

    with contextlib.suppress(Stop), contextlib.redirect_stdout(io.StringIO()):
        train.train(options.parse([*TINY, *flags]), study)
    return found[0]


def linears(module):
    return [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]


def same_weights(run, seed):
    """Whether a run's weights are those that this seed gives."""
    torch.manual_seed(seed)
    expected = options.build(run.args).state_dict()
    return all(torch.equal(w, expected[name]) for name, w in run.model.state_dict().items())


BUILT = {  # option: value, other flags of both runs, what holds of the run
    "--data": ("shapes-tinted", "",
               lambda run: run.images.digest() == data.load("shapes-tinted").digest()),
    "--root": ("elsewhere", "", lambda run: run.loaded[1] == "elsewhere"),
    "--skip-bad-images": ("", "", lambda run: run.loaded[3]),
    "--image-size": ("16", "",
                     lambda run: run.images.train.shape[-1] == run.augment.size == 16),
    "--stored-size": ("12", "", lambda run: run.loaded[4] == 12),
    "--out": ("there", "", lambda run: run.out.name == "there" and run.out.is_dir()),
    "--seed": ("7", "", lambda run: same_weights(run, 7)),
    "--device": ("meta", "", lambda run: {run.images.train.device.type, *(
        w.device.type for w in run.model.parameters())} == {"meta"}),
    "--arch": ("resnet20", "", lambda run: len(run.model.backbone.layer1) == 3),
    "--bf16": ("", "", lambda run: run.model.backbone.bf16),
    "--stem": ("imagenet", "", lambda run: run.model.backbone.conv1.kernel_size == (7, 7)),
    "--dim": ("24", "", lambda run: linears(run.model.projector)[-1].out_features
              == linears(run.model.h)[-1].out_features == 24),
    "--pred-dim": ("7", "", lambda run: linears(run.model.h)[0].out_features == 7),
    "--proj-layers": ("3", "", lambda run: len(linears(run.model.projector)) == 3),
    "--epochs": ("5", "", lambda run: run.total_steps == run.last_step == 15),
    "--max-steps": ("5", "", lambda run: (run.total_steps, run.last_step) == (6, 5)),
    "--batch-size": ("32", "", lambda run: run.steps_per_epoch == 6),
    "--weight-decay": ("0.25", "", lambda run: run.optimizer.weight_decay == 0.25),
    "--crop-min": ("0.7", "", lambda run: run.augment.crop_scale == (0.7, 1.0)),
    "--blur": ("0.25", "", lambda run: run.augment.blur_p == 0.25),
    "--no-stopgrad": ("", "", lambda run: not run.model.D.keywords["stopgrad"]),
    "--predictor": ("none", "", lambda run: isinstance(run.model.h, torch.nn.Identity)),
    "--bn": ("none", "", lambda run: "BatchNorm1d" not in str(run.model)),
    "--similarity": ("cross-entropy", "", lambda run: run.model.D.keywords["similarity"]
                     is simsiam.cross_entropy),
    "--symmetry": ("asymmetric", "", lambda run: run.model.symmetry == "asymmetric"),
    "--method": ("byol", "", lambda run: type(run.model) is BYOL),
    "--encoder-momentum": ("0.5", "--method byol", lambda run: run.model.m == 0.5),
    "--queue": ("128", "--method moco", lambda run: len(run.model.queue) == 128),
    "--epsilon": ("0.5", "--method swav", lambda run: run.model.epsilon == 0.5),
    "--sigreg": ("0.5", "--method lejepa", lambda run: run.model.sigreg == 0.5),
}


def trained(out, *flags):
    """What four steps of a run with these flags did: rates, records, and when it was saved."""
    lrs, saved = [], []
    step, save = train.SGD.step, checkpoint.save
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(train.SGD, "step", lambda self, *lr: (lrs.append(lr), step(self, *lr)))
        patch.setattr(checkpoint, "save", lambda run: (saved.append(run.state.step), save(run)))
        train.train(options.parse([*TINY, "--max-steps", "4", "--out", str(out), *flags]))
    f, h = zip(*lrs)
    return {"f": f, "h": h, "saved": saved, "knn": [r["knn"] is None for r in records(out)]}


PEAK = 2.0 * 64 / 256  # the recipe's lr, for a batch of 64
TRAINED = {  # option: value, what holds of the run's four steps, three of which are an epoch
    "--lr": ("0.8", lambda run: run["f"][0] == run["h"][0] == 0.8 * 64 / 256),
    "--warmup-epochs": ("1", lambda run: run["f"][:3] == pytest.approx(
        [PEAK / 3, PEAK * 2 / 3, PEAK])),
    "--predictor-lr": ("cosine", lambda run: run["f"] == run["h"]),
    "--checkpoint-every": ("2", lambda run: run["saved"] == [0, 4]),
    "--knn-every": ("2", lambda run: run["knn"] == [False, True, False]),
}
ELSEWHERE = {"--resume", "--compile", "--init", "--accumulate", "--local-bn"}
# in tests/test_train.py, test_options.py, test_weights.py, and test_parallel.py the last two, which
# have a law below as well: that train.py heeds them


def test_every_option_of_train_py_has_a_row_here_and_a_help_text():
    help_of = {action.option_strings[-1]: action.help for action in options.parser()._actions}
    assert help_of.keys() - {"--help"} == {*BUILT, *TRAINED} | ELSEWHERE and all(help_of.values())


PROBE = "test_the_options_reach_the_probe_which_is_fitted_to_training_and_tested_on_test_images"
PLACE = "test_data_root_and_device_of_lineval_py_come_before_the_run_s_own"
VIEWS = "test_the_options_of_augment_py_reach_the_views"
RUNS = "test_the_options_of_the_experiments_reach_their_runs"
GRADES = "test_the_options_of_the_grader_reach_the_grading_and_every_file_has_its_own_form"
LAWS = {  # script: {option: the law that it reaches what it is for}
    "lineval": {
        "--pixels": "test_raw_pixels_are_evaluated_without_a_network_and_nothing_is_written",
        "--data": PLACE, "--root": PLACE, "--device": PLACE, "--seed": PROBE, "--optimizer": PROBE,
        "--lr": PROBE, "--epochs": PROBE, "--batch-size": PROBE,
        "--labels": "test_with_a_share_of_the_labels_kNN_and_probe_learn_from_those_images_only",
        "--finetune": "test_fine_tuning_starts_from_the_weights_and_its_rival_from_scratch",
        "--export": "test_an_export_alone_needs_no_images_and_evaluates_nothing",
        "--features": "test_features_are_written_with_the_labels_and_names_of_their_images",
        "--map": "test_the_map_of_lineval_is_of_the_test_images_and_their_classes",
        "--skip-bad-images": "test_lineval_leaves_out_bad_images_of_any_set_if_told_to"},
    "augment": dict.fromkeys(
        ("--data", "--root", "--image-size", "--crop-min", "--blur", "--seed", "--out",
         "--skip-bad-images"), VIEWS),
    "experiments.all": {
        "--scale": RUNS, "--seeds": RUNS, "--only": RUNS, "--dry-run": RUNS,
        "--again": "test_again_repeats_a_run_from_the_start_and_keeps_the_old_log_until_it_has"
                   "_succeeded",
        "--photographs": "test_photographs_may_lie_in_any_folder_and_where_they_lie_does_not"
                         "_matter"},
    "experiments.compare": dict.fromkeys(
        ("--neighbours", "--out"),
        "test_every_run_s_neighbours_are_those_of_its_own_features_for_the_same_test_images"),
    "experiments.speed": {
        "--peers": "test_peers_without_lightly_are_refused_before_anything_is_timed"},
    "exercises.grade": dict.fromkeys(
        ("--exercises", "--json", "--csv", "--junit", "--gradescope", "--at-once"), GRADES),
}


class Found(Exception):
    """Carries a script's parser out of its main()."""


def options_of(script, monkeypatch):
    """The actions of a script's parser that are options."""
    def found(parser, *_):
        raise Found(parser)

    monkeypatch.setattr("argparse.ArgumentParser.parse_args", found)
    with pytest.raises(Found) as stop:
        importlib.import_module(script).main()
    return [action for action in stop.value.args[0]._actions if action.option_strings]


@pytest.mark.parametrize("script", ["train", "lineval", "augment", "experiments.all"])
def test_a_default_is_what_the_help_text_says(script, monkeypatch):
    checked = 0
    for action in options_of(script, monkeypatch):
        said = re.search(r"\(default: ([^;),]+)", action.help or "")
        in_words = action.dest == "device" or isinstance(action.default, (bool, list, tuple))
        if said and action.default is not None and not in_words:
            assert type(action.default)(said[1]) == action.default, action.dest
            checked += 1
    assert checked


@pytest.mark.parametrize("script", LAWS)
def test_every_option_of_the_other_scripts_has_a_law_and_a_help_text(script, monkeypatch):
    help_of = {action.option_strings[-1]: action.help for action in options_of(script, monkeypatch)}
    assert help_of.keys() - {"--help"} == LAWS[script].keys() and all(help_of.values())
    laws = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))
    for law in LAWS[script].values():
        assert laws.count(f"def {law}(") == 1, law


@pytest.mark.parametrize("option", BUILT)
def test_an_option_reaches_the_part_of_the_run_that_it_is_for(
        option, tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    loaded, load = [], data.load
    monkeypatch.setattr(data, "load", lambda *args: (loaded.append(args), load(*args))[1])
    value, others, holds = BUILT[option]
    for flags, expected in (others.split(), False), ([*others.split(), option, value], True):
        loaded.clear()
        run = built(*filter(None, flags))
        run.loaded = loaded[0]
        assert bool(holds(run)) is expected


def test_the_header_names_processes_and_pieces_if_there_are_several(
        tmp_path, monkeypatch, capsys, small_shapes):
    monkeypatch.chdir(tmp_path)

    def said(processes, **flags):
        run = built()
        vars(run.args).update(flags)
        with monkeypatch.context() as patch:
            patch.setattr(options.parallel, "world_size", lambda: processes)
            options.describe(run)
        return capsys.readouterr().out.splitlines()[1]

    assert said(1).endswith("on cpu") and said(1, accumulate=2).endswith("in 2 pieces")
    assert said(2).endswith("on cpu, 2 processes, BN synchronised")
    assert said(2, local_bn=True).endswith("on cpu, 2 processes, BN local")


HEADER = {  # option: what the header says of its value, and would not say of the default
    "--arch resnet20": "network: resnet20,", "--stem imagenet": "imagenet stem",
    "--bf16": ", bfloat16;", "--dim 24": "dim 24", "--pred-dim 7": "pred dim 7",
    "--proj-layers 3": "proj layers 3", "--predictor fixed": "predictor fixed",
    "--no-stopgrad": "without stop-gradient", "--bn all": "bn all",
    "--similarity cross-entropy": "similarity cross-entropy",
    "--symmetry asymmetric": "symmetry asymmetric", "--lr 3": "lr 3 x 32 / 256 = 0.375",
    "--batch-size 32": "x 32 / 256",
    "--weight-decay 0.25": "weight decay 0.25;", "--epochs 5": "5 epochs of 6 steps",
    "--warmup-epochs 1": "1 of warm-up", "--crop-min 0.7": "70% to 100% of the area",
    "--blur 0.25": "blur 0.25;", "--seed 7": "seed 7"}


def test_the_header_says_what_is_in_effect(tmp_path, monkeypatch, capsys, small_shapes):
    monkeypatch.chdir(tmp_path)
    said = []
    for flags in "", " ".join(HEADER):
        options.describe(built(*flags.split()))
        said.append(" ".join(capsys.readouterr().out.split()))
    assert [text for text in HEADER.values() if text in said[0]] == []
    assert [text for text in HEADER.values() if text not in said[1]] == []
    assert "with stop-gradient" in said[0]
    assert said[0].startswith(
        "shapes: 192 training and 64 test images of 12 px, 10 classes, on cpu")


@pytest.mark.parametrize("flags, said", [
    ("", "constant"), ("--predictor-lr cosine", "cosine"), ("--predictor fixed", None),
    ("--predictor none", None), ("--method barlow", None)])
def test_the_header_gives_the_schedule_of_a_predictor_that_learns(
        flags, said, tmp_path, monkeypatch, capsys, small_shapes):
    monkeypatch.chdir(tmp_path)
    options.describe(built(*flags.split()))
    header = capsys.readouterr().out.splitlines()
    assert not any(line.endswith(":") for line in header)  # barlow has no options of its own
    line = [line for line in header if line.startswith("SGD")][0]
    assert re.findall(r"(\w+) for the predictor", line) == [said] * bool(said)


WIDTHS = {  # flags: the width of every linear layer of projector and h
    "--method byol --dim 24 --pred-dim 7": ([7, 24], [7, 24]),
    "--method moco --dim 24": ([64, 24], []),
    "--method simclr --dim 24 --pred-dim 7": ([64, 24], []),
    "--method simclr --dim 24 --pred-dim 7 --predictor mlp": ([64, 24], [7, 24]),
    "--method simclr --dim 24 --predictor mlp": ([64, 24], [6, 24]),
    "--method swav --dim 24 --pred-dim 7": ([24, 24], []),
    "--method swav --dim 24 --pred-dim 7 --predictor mlp": ([24, 24], [7, 30]),
    **{f"--method {name} --dim 24 --proj-layers 3": ([24, 24, 24], [])
       for name in ("barlow", "vicreg", "lejepa")}}


def test_the_widths_on_a_command_line_reach_the_heads_of_every_method():
    for flags, widths in WIDTHS.items():
        args = options.parse(["--device", "cpu", *flags.split()])
        model = options.build(options.fill_in(args, 24))
        assert tuple([layer.out_features for layer in linears(head)]
                     for head in (model.projector, model.h)) == widths, flags
    assert {flags.split()[1] for flags in WIDTHS} == options.METHODS.keys() - {"simsiam"}


@pytest.mark.parametrize("method", options.METHODS)
def test_epoch_0_only_measures(method, tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    run = built("--method", method, *["--queue", "128"] * (method == "moco"))
    before = {name: w.clone() for name, w in run.model.state_dict().items()}
    train.start(run)
    for name, w in run.model.state_dict().items():  # of BN the running statistics move
        assert torch.equal(w, before[name]) or "running" in name or "num_batches" in name, name
    assert run.model.training and not any(z.requires_grad for z in run.state.losses)


@pytest.mark.parametrize("batch, batches", [(64, 32), (100, 21), (1000, 3)])
def test_epoch_0_measures_2048_images_or_the_batches_that_hold_them(
        batch, batches, tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    run = built()
    run.args.batch_size = batch
    run.images = run.images._replace(train=run.images.train[:1].expand(6400, -1, -1, -1))
    monkeypatch.setattr(train, "evaluate", lambda run: None)
    monkeypatch.setattr(train, "measure_pixels", lambda run: None)
    taken, two_views = [], run.two_views
    run.two_views = lambda indices: (taken.append(indices), two_views(indices))[1]
    train.start(run)
    assert len(run.state.losses) == batches
    taken = torch.cat(taken)  # from all over the set: a folder is sorted by class
    assert len(taken.unique()) == len(taken) and not torch.equal(taken, taken.sort().values)


def test_a_batch_in_pieces_goes_through_the_network_one_piece_after_another(
        tmp_path, monkeypatch, small_shapes):
    forward, seen = simsiam.SimSiam.forward, []
    monkeypatch.setattr(simsiam.SimSiam, "forward", lambda model, *x: (
        seen.append(len(x[0])), forward(model, *x))[1])
    trained(tmp_path, "--accumulate", "2")
    assert seen == [64] * 3 + [32] * 8  # the untrained network's statistics, then four steps


@pytest.mark.parametrize("flags", [[], ["--local-bn"]])
def test_with_local_BN_the_running_statistics_are_shared_before_an_evaluation(
        flags, tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    run, done = built(*flags), []
    monkeypatch.setattr(train.parallel, "share_buffers", done.append)
    monkeypatch.setattr(train, "extract_features", lambda *_: (
        done.append("features"), torch.eye(2))[1])
    monkeypatch.setattr(train, "knn_accuracy", lambda *_: 50.0)
    train.knn_eval(run, run.model.backbone)
    assert done == [run.model] * len(flags) + ["features"] * 2


def test_kNN_is_computed_on_the_device_also_of_pixels_that_did_not_fit_there(
        tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    run, devices = built(), []
    run.args.device = "meta"  # a second device
    monkeypatch.setattr(train, "knn_accuracy", lambda bank, y, query, y_test: devices.extend(
        [bank.device.type, query.device.type]))
    train.knn_eval(run, torch.nn.Flatten())
    assert devices == ["meta"] * 2


@pytest.mark.parametrize("processes, flags", [(1, ["--accumulate", "2"]), (2, ["--local-bn"])])
def test_a_study_that_would_not_get_whole_batches_is_refused(
        processes, flags, tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train.parallel, "world_size", lambda: processes)
    with pytest.raises(SystemExit, match="the study study needs its batch as a whole"):
        built(*flags)
    assert not [*tmp_path.iterdir()]


def test_a_run_ends_with_its_schedule_even_if_max_steps_is_more(
        tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    assert built("--max-steps", "50").last_step == 6


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Four steps of a run without any of the options of TRAINED."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_shapes(patch)
        return trained(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("option", TRAINED)
def test_an_option_reaches_the_steps_that_it_is_for(option, plain, tmp_path, small_shapes):
    value, holds = TRAINED[option]
    assert holds(trained(tmp_path, option, value)) and not holds(plain)


def test_two_views_are_of_the_images_with_these_numbers_normalised(
        tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    run, indices = built("--blur", "0"), torch.tensor([7, 3, 190])
    run.augment.jitter_p = run.augment.gray_p = run.augment.flip_p = 0
    run.augment.crop_scale = 1.5, 2.0  # no box fits: the whole image
    x = run.images.train[indices] / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (run.args.mean, run.args.std))
    for view in run.two_views(indices):
        assert torch.allclose(view, (x - mean) / std, atol=1e-4)


# ------------------------------------------------------------------------------------------------
# The numbers of a run, computed by hand from what its steps returned


class Watched:
    """A run of two epochs of three steps, stopped after the fourth and resumed.

    The clock shows 2 s more after each forward pass of a batch, 50 s more after each evaluation by
    kNN, and hardly moves otherwise.
    """

    def __init__(self, out, monkeypatch):
        self.out, self.steps, self.now, self.printed = out, [], 1000.0, io.StringIO()
        monkeypatch.setattr(time, "monotonic", lambda: self.tick(1e-6))
        forward = simsiam.SimSiam.forward
        monkeypatch.setattr(simsiam.SimSiam, "forward",
                            lambda model, *x: (self.tick(2), forward(model, *x))[1])
        knn_eval = train.knn_eval
        monkeypatch.setattr(train, "knn_eval", lambda *args: (self.tick(50), knn_eval(*args))[1])
        flags = [*TINY, "--out", str(out)]
        with contextlib.redirect_stdout(self.printed):
            train.train(options.parse([*flags, "--max-steps", "4"]), self.study)
            self.stopped = records(out)[-1]
            self.now += 500  # nobody trains
            self.final = train.train(options.parse(["--resume", "--out", str(out)]), self.study)

    def tick(self, seconds):
        self.now += seconds
        return self.now

    def study(self, run):
        model = run.model

        def loss_fn(x1, x2):
            L, z1 = model(x1, x2)
            self.steps.append((L.item(), z1.detach(), run.indices))
            return L, z1

        return loss_fn


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        shrink_shapes(patch)
        return Watched(tmp_path_factory.mktemp("watched") / "run", patch)


def epochs(watched):
    """The records after the first and the second epoch, each with its three steps."""
    whole = {r["epoch"]: r for r in records(watched.out)}
    return (whole[1], watched.steps[:3]), (whole[2], watched.steps[3:])


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps(watched):
    for record, steps in epochs(watched):
        assert record["loss"] == pytest.approx(sum(L for L, _, _ in steps) / 3, abs=1e-6)


def test_std_and_rank_are_those_of_all_outputs_of_the_epoch(watched):
    for record, steps in epochs(watched):
        z = torch.cat([z for _, z, _ in steps])
        assert record["std"] == pytest.approx(simsiam.output_std(z).item(), abs=1e-5)
        assert record["rank"] == pytest.approx(simsiam.effective_rank(z).item(), rel=1e-4)


def test_an_epoch_trains_on_each_image_once(watched):
    for _, steps in epochs(watched):
        seen = torch.cat([indices for _, _, indices in steps])
        assert torch.equal(seen.sort()[0], torch.arange(192))


def test_the_lr_of_a_record_is_that_of_its_last_step(watched):
    (first, _), (second, _) = epochs(watched)
    assert first["lr"] == train.cosine_lr(PEAK, 2, 6)
    assert second["lr"] == train.cosine_lr(PEAK, 5, 6)


def test_the_seconds_count_on_after_a_resume_without_the_pause(watched):
    untrained, (first, _), (second, _) = records(watched.out)[0], *epochs(watched)
    # An evaluation, and before it that of raw pixels.
    assert first["seconds"] - untrained["seconds"] == pytest.approx(6 + 2 * 50, abs=0.1)
    # Two evaluations: one of them before the pause.
    assert second["seconds"] - first["seconds"] == pytest.approx(6 + 2 * 50, abs=0.1)


def test_a_rate_counts_images_not_views_and_only_the_steps_of_an_epoch_since_the_resume(watched):
    (first, _), (second, _) = epochs(watched)
    assert watched.stopped["epoch"] == pytest.approx(4 / 3)
    for record in first, watched.stopped, second:
        assert record["images_per_s"] == pytest.approx(64 / 2, rel=0.01)


def test_the_pictures_of_train_py_and_augment_py_show_two_different_views(
        watched, tmp_path, monkeypatch, small_shapes):
    monkeypatch.setattr("sys.argv", ["augment.py", "--out", str(tmp_path / "views.png")])
    augment.main()
    for folder in watched.out, tmp_path:
        sheet = torch.from_numpy(numpy.array(Image.open(folder / "views.png")))
        image, view1, view2 = (sheet[plot.HEAD + 2 + 74 * row :, plot.MARGIN :][:72]
                               for row in range(3))
        assert not torch.equal(view1, view2) and not torch.equal(image, view1)


def test_the_picture_of_a_run_shows_images_from_all_over_its_set(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(plot, "save_views", lambda images, *_: shown.append(images))
    monkeypatch.setattr(train, "evaluate", lambda run: None)
    monkeypatch.setattr(train, "measure_pixels", lambda run: None)
    run = built("--out", str(tmp_path))
    for n in 500, 100, 5:
        run.images = run.images._replace(train=run.images.train[:n])
        run.images.train[:] = torch.arange(n).mul(255).div(n).view(n, 1, 1, 1)  # in order
        train.start(run)
        found = shown.pop()[:, 0, 0, 0].tolist()
        assert 4 < len(found) <= 16 and found[0] == 0
        assert max(b - a for a, b in zip(found, [*found[1:], 1.0])) <= 2 / len(found)


def test_what_is_printed_written_returned_and_saved_is_the_same(watched):
    written = records(watched.out)
    assert runs.load_checkpoint(watched.out)["records"] == written
    assert watched.final == dict(written[-1], out=str(watched.out))
    lines = [line for line in watched.printed.getvalue().splitlines()
             if line.startswith("epoch ") and "1.33" not in line]  # of the step that it stopped at
    for record, line in zip(written, lines, strict=True):
        said = [float(word) for word in line.split() if word[0] in "-0123456789" and word != "-"]
        names = "epoch", "loss", "std", "rank", "knn", "lr", "seconds"
        for name, value, step in zip(names, said, (5e-3, *[5e-4] * 2, 0.05, 0.05, 5e-5, 0.5),
                                     strict=True):
            assert abs(record[name] - value) <= step * 1.01, name


def test_about_2048_outputs_are_kept_the_newest():
    state = train.State()
    for i in range(5):
        train.remember(state, torch.tensor(0.0), torch.full((700, 2), float(i)))
    assert [int(z[0, 0]) for z in state.outputs] == [2, 3, 4]  # 2100: without 2 it would be 1400
    assert len(state.losses) == 5


def test_all_of_a_photograph_kept_larger_than_its_views_is_cropped_and_kNN_sees_it_as_a_view(
        tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    run, drawn, seen = built(), [], []
    run.augment.size = run.args.image_size = 8  # of images that are kept at 12 px
    draw, extract = run.augment.draw, train.extract_features
    run.augment.draw = lambda n, size: (drawn.append(size), draw(n, size))[1]
    monkeypatch.setattr(train, "extract_features", lambda *args: (
        seen.append(args[-1]), extract(*args))[1])
    train.start(run)  # views.png, three batches, kNN on two sets, the same of raw pixels
    assert drawn == [12] * 4 and seen == [8] * 4


def test_the_step_of_a_batch_in_pieces_is_along_the_mean_gradient_of_all_of_them(
        tmp_path, monkeypatch, small_shapes):
    forward, step, pieces, same, rates = simsiam.SimSiam.forward, train.SGD.step, [], [], []

    def noted(model, *views):
        pieces.extend([(model, views)] * torch.is_grad_enabled())
        return forward(model, *views)

    def compared(sgd, *lrs):
        parameters = sum(sgd.param_groups, [])
        got = [w.grad for w in parameters]
        sgd.zero_grad()
        for model, views in pieces:
            (forward(model, *views)[0] / len(pieces)).backward()
        same.append(len(pieces) == 2 and all(
            torch.allclose(w.grad, g, atol=1e-5) for w, g in zip(parameters, got)))
        pieces.clear()
        rates.append(lrs)
        step(sgd, *lrs)

    monkeypatch.setattr(simsiam.SimSiam, "forward", noted)
    monkeypatch.setattr(train.SGD, "step", compared)
    train.main([*TINY, "--accumulate", "2", "--max-steps", "2", "--out", str(tmp_path / "run")])
    assert same == [True, True]
    assert rates == [(train.cosine_lr(PEAK, step, 6), PEAK) for step in (0, 1)]  # of whole batches


def test_what_is_read_ahead_is_what_the_next_step_takes(tmp_path, monkeypatch, small_shapes):
    shared, ahead = [], []
    monkeypatch.setattr(train.parallel, "shard", lambda x, parts=1: (
        shared.append((x.tolist(), parts)), x)[1])
    monkeypatch.setattr(data.Data, "prefetch", lambda images, indices: ahead.append(shared[-1]))
    train.main([*TINY, "--accumulate", "2", "--max-steps", "3", "--out", str(tmp_path / "run")])
    trained = [call for call in shared if len(call[0]) == 64 and call[1] == 2]
    first, *following = trained[-5::2]  # of each step: what it takes, then what is read ahead
    assert ahead == following and len(ahead) == 2 and first not in ahead


def test_the_bar_of_a_run_counts_its_own_steps_from_where_it_is_to_where_it_ends(
        tmp_path, monkeypatch, small_shapes):
    bars = []

    @contextlib.contextmanager
    def progress_bar(total, done, status):
        bars.append([total, done])
        yield lambda: bars[-1].append(status()[:4])

    monkeypatch.setattr(train, "progress_bar", progress_bar)
    out = ["--out", str(tmp_path / "run")]
    train.main([*TINY, *out, "--max-steps", "2"])
    train.main(["--resume", *out, "--max-steps", "5"])  # of six
    assert bars == [[2, 0, *2 * ["loss"]], [5, 2, *3 * ["loss"]]]


def test_the_estimate_is_from_the_second_batch_as_the_first_also_allocates_memory(
        tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    run, clock, asked, seconds = built(), [0.0], [], iter([100.0, 2.0, 7.0])
    forward = run.model.forward
    run.model.forward = lambda *x: (clock.append(clock[-1] + next(seconds)), forward(*x))[1]
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    monkeypatch.setattr(train, "print_eta", lambda run, seconds: asked.append(seconds))
    monkeypatch.setattr(train, "evaluate", lambda run: None)
    monkeypatch.setattr(train, "measure_pixels", lambda run: None)
    train.start(run)
    assert asked == [2.0]


def test_the_pictures_of_views_show_colours_from_0_to_1_and_not_normalised_ones(
        tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    shown = []
    monkeypatch.setattr(plot, "save_views", lambda images, views, path: shown.extend(
        [images, *views]))
    monkeypatch.setattr(train, "evaluate", lambda run: None)
    monkeypatch.setattr(train, "measure_pixels", lambda run: None)
    train.start(built())
    monkeypatch.setattr("sys.argv", ["augment.py"])
    augment.main()
    assert len(shown) == 6 and all(0 <= x.min() and x.max() <= 1 for x in shown)


def test_what_is_kept_of_a_step_outlives_its_memory_and_its_graph():
    """With --compile on a GPU the next step writes into the same memory."""
    state, w = train.State(), torch.ones((), requires_grad=True)
    L, z1 = -0.5 * w, w * torch.ones(3, 2)
    train.remember(state, L, z1)
    with torch.no_grad():
        L.fill_(9.0), z1.fill_(9.0)
    assert state.losses[0] == -0.5 and (state.outputs[0] == 1).all()
    assert not state.losses[0].requires_grad and not state.outputs[0].requires_grad


def test_several_processes_together_keep_the_outputs_that_one_would(monkeypatch):
    def kept(processes):
        monkeypatch.setattr(train.parallel, "world_size", lambda: processes)
        state = train.State()
        for i in range(9):
            train.remember(state, torch.tensor(0.0), torch.full((700 // processes, 2), float(i)))
        return [int(z[0, 0]) for z in state.outputs]

    assert kept(1) == kept(4) == [6, 7, 8]


def test_the_header_gives_the_side_of_stored_images_and_of_views_where_they_differ(
        tmp_path, monkeypatch, capsys, small_shapes):
    monkeypatch.chdir(tmp_path)
    run = built()
    for stored, image, said in (32, 16, "views of 16 px: "), (32, 32, "views: "):
        run.args.stored_size, run.args.image_size = stored, image
        options.describe(run)
        header = capsys.readouterr().out
        assert "test images of 32 px," in header and f"\n{said}" in header


def test_a_run_of_one_epoch_is_not_said_to_have_epochs(
        tmp_path, monkeypatch, capsys, small_shapes):
    monkeypatch.chdir(tmp_path)
    for epochs, said in (1, "\n  1 epoch of 3 steps"), (2, "\n  2 epochs of 3 steps"):
        options.describe(built("--epochs", str(epochs)))
        assert said in capsys.readouterr().out


def test_a_GPU_is_used_if_there_is_one(monkeypatch):
    monkeypatch.setattr(lineval, "device", str)  # takes "cuda", even where there is none
    for there, device in (True, "cuda"), (False, "cpu"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
        assert options.parser().get_default("device") == device
        assert lineval.parse(["run"]).device == device
