"""The rows and claims of every experiment, written out by hand.    pytest tests/test_rows.py

The oracle is the paper (Figs. 2 and D.1, Tables 1 to 4 and B.1, Secs. 4.5, 4.6, 5.2 and 6.2) and,
for what it does not have, the docstrings of experiments/. The rows and claims in the repository's
results are compared elsewhere; here a wrong flag, a wrong number of the paper's or a wrong bound
fails even where no run has shown it yet.
"""

import importlib
import math

import pytest

import options
from experiments import all as every
from experiments import logs, opt_optimizers, references, table, theory_directpred
from experiments.claims import Pair
from experiments.table import Row

PLAIN = ""
ROWS = {  # module: {label: (options, the paper's number, study, times as many epochs)}, at shapes
    "references": {
        "untrained network": ("--lr 0 --epochs 1",),
        "supervised": (PLAIN, "", "supervised")},
    "fig2_stopgrad": {  # Fig. 2: 67.7 with stop-gradient, 0.1 without
        "with stop-gradient": (PLAIN, 67.7),
        "without": ("--no-stopgrad", 0.1),
        "without, 2 x the epochs": ("--no-stopgrad", "", "", 2)},
    "tab1_predictor": {  # Table 1
        "h's lr decayed": ("--predictor-lr cosine", 67.7),
        "(a) no predictor": ("--predictor none", 0.1),
        "no predictor, asymmetric loss": ("--predictor none --symmetry asymmetric", "fails"),
        "(b) h fixed": ("--predictor fixed", 1.5),
        "(c) h's lr constant": (PLAIN, 68.1)},
    "tab2_batch_size": {  # Table 2; the recipe's batch is 64
        "32": ("--batch-size 32",), "64": (PLAIN, 66.1), "128": ("--batch-size 128", 67.3),
        "256": ("--batch-size 256", 68.1), "512": ("--batch-size 512", 68.1),
        "1024": ("--batch-size 1024 --warmup-epochs 1", 68.0)},
    "tab3_batch_norm": {  # Table 3; the recipe's lr is 2
        "(a) none, lr / 10": ("--bn none --lr 0.2 --warmup-epochs 1", ""),
        "(b) hidden-only, lr / 10": ("--bn hidden --lr 0.2 --warmup-epochs 1", ""),
        "(a) none, lr of the others": ("--bn none --warmup-epochs 1", 34.6),
        "(b) hidden-only": ("--bn hidden", 67.4),
        "(c) default": (PLAIN, 68.1),
        "(d) all": ("--bn all", "unstable"),
        "(c) without affine": ("--bn no-affine", 68.2)},
    "sec45_similarity": {  # Sec. 4.5
        "cosine": (PLAIN, 68.1), "cross-entropy": ("--similarity cross-entropy", 63.2)},
    "sec46_symmetry": {  # Sec. 4.6
        "symmetric": (PLAIN, 68.1),
        "asymmetric": ("--symmetry asymmetric", 64.8),
        "asymmetric 2x": ("--symmetry asymmetric", 67.3, "asymmetric_2x")},
    "sec52_alternation": {  # Sec. 5.2; an epoch has 64 steps here
        "1 step (SimSiam)": (PLAIN, 68.1),
        "10 steps": (PLAIN, 68.7, "alternation-10"),
        "an epoch": (PLAIN, 67.0, "alternation-epoch")},
    "sec52_expectation": {  # Sec. 5.2; Table 1 (a) without the average
        "SimSiam": (PLAIN, 68.1),
        "no predictor, moving average m = 0.8": ("--predictor none", 55.0, "expectation-0.8"),
        "no predictor, no average": ("--predictor none", 0.1),
        "no predictor, untrained targets (m = 1)": ("--predictor none", "", "expectation-1.0"),
        "no predictor, moving average m = 0.8, 2 x the epochs": (
            "--predictor none", "", "expectation-0.8", 2)},
    "tab4_comparisons": {  # Table 4, 100 epochs
        "SimCLR": ("--method simclr", 66.5), "MoCo v2": ("--method moco", 67.4),
        "MoCo v2, asymmetric": ("--method moco --symmetry asymmetric",),
        "BYOL": ("--method byol", 66.5), "SwAV": ("--method swav", 66.5),
        "SimSiam": (PLAIN, 68.1), "Barlow Twins": ("--method barlow",),
        "VICReg": ("--method vicreg",), "LeJEPA": ("--method lejepa",),
        "LeJEPA without SIGReg": ("--method lejepa --sigreg 0",)},
    "sec62_methodology": {  # Sec. 6.2, and its footnote 2
        "SimCLR": ("--method simclr", 66.5),
        "SimCLR, predictor": ("--method simclr --predictor mlp", 66.4),
        "SimCLR, predictor, stop-gradient": (
            "--method simclr --predictor mlp --stopgrad", 66.0),
        "SwAV": ("--method swav", 66.5),
        "SwAV, predictor": ("--method swav --predictor mlp", 65.2),
        "SwAV, no stop-gradient": ("--method swav --no-stopgrad", "NaN"),
        "BYOL": ("--method byol", 66.5),
        "BYOL, no momentum encoder": (
            "--method byol --encoder-momentum 0", "0.3; 66.9 (10 x lr of h)"),
        "BYOL, no momentum encoder, lr of h decays": (
            "--method byol --encoder-momentum 0 --predictor-lr cosine",),
        "SimSiam": (PLAIN, 68.1)},
    "appB_dimension": {  # App. B; the recipe's d is 256
        "d = 64": ("--dim 64",), "d = 128": ("--dim 128",), "d = 256": (PLAIN, 65.3),
        "d = 512": ("--dim 512", 67.2), "d = 1024": ("--dim 1024", 67.5),
        "no bottleneck in h": ("--pred-dim 256",)},
    "figD1_cifar": {},
    "opt_losses": {
        "-cosine (half squared, normalised)": (PLAIN, 68.1),
        "half squared, raw": (PLAIN, "", "half squared raw"),
        "L1, normalised": (PLAIN, "", "L1 normalised"), "L1, raw": (PLAIN, "", "L1 raw"),
        "L2, normalised": (PLAIN, "", "L2 normalised"), "L2, raw": (PLAIN, "", "L2 raw"),
        "L-infinity, normalised": (PLAIN, "", "L-infinity normalised"),
        "L-infinity, raw": (PLAIN, "", "L-infinity raw"),
        "cross-entropy, normalised": (PLAIN, "", "cross-entropy normalised"),
        "cross-entropy, raw": ("--similarity cross-entropy", 63.2)},
    "opt_aggregation": {
        "arithmetic (Eq. 4)": (PLAIN, 68.1),
        **{name: (PLAIN, "", name) for name in (
            "geometric of distances", "geometric of similarities", "harmonic of similarities",
            "maximum", "squared mean")}},
    "opt_regularizers": {  # the recipe decays by 5e-4
        **{f"weight decay {v}": (f"--weight-decay {v}",) for v in ("0", "1e-5", "1e-4", "1e-3")},
        "weight decay 5e-4 (the recipe)": (PLAIN,),
        "5e-4, but not on BN and biases": (PLAIN, "", "matrices_decayed"),
        "spectral norm on h": (PLAIN, "", "spectral_predictor"),
        "spectral norm on h, h not decayed": (PLAIN, "", "spectral_predictor_undecayed"),
        "gradient clipped": (PLAIN, "", "clipped"),
        "orthogonal h": (PLAIN, "", "orthogonal_predictor")},
    "theory_directpred": {
        "learned MLP predictor": (PLAIN,), "DirectPred": (PLAIN, "", "directpred"),
        "no predictor": ("--predictor none",)},
    "theory_spectrum": {
        "SimSiam": (PLAIN,), "no stop-gradient": ("--no-stopgrad",),
        "no stop-gradient, no affine": ("--no-stopgrad --bn no-affine",),
        "no predictor": ("--predictor none",)},
    "shapes_robustness": {  # the recipe: lr 2, batch 64, d 256
        "the recipe": (PLAIN,), "lr halved": ("--lr 1",), "lr doubled": ("--lr 4",),
        "batch halved": ("--batch-size 32",), "d = 64": ("--dim 64",), "d = 512": ("--dim 512",),
        "bfloat16": ("--bf16",), "tinted images": ("--data shapes-tinted",),
        "no stop-gradient, no affine": ("--no-stopgrad --bn no-affine",)},
    "augmentations": {
        "all augmentations": (PLAIN,), "no crop": ("--crop-min 1",),
        **{name: (PLAIN, "", name) for name in ("no colour jitter", "no grayscale", "no flip")}},
    "details": {
        "the recipe": (PLAIN,), "ImageNet stem": ("--stem imagenet",),
        "three-layer projector": ("--proj-layers 3",), "one pass": (PLAIN, "", "one_pass")},
    "common_parts": {"train.py": (PLAIN,), "common parts": (PLAIN, "", "common_parts"),
                     "common views": (PLAIN, "", "common_views")},
}
ELSEWHERE = {  # scale: what differs there, where rows do
    "photographs": {  # lr 0.8, 781 steps per epoch
        "tab3_batch_norm": {
            **ROWS["tab3_batch_norm"],
            "(a) none, lr / 10": ("--bn none --lr 0.08 --warmup-epochs 1", ""),
            "(b) hidden-only, lr / 10": ("--bn hidden --lr 0.08 --warmup-epochs 1", "")},
        "sec52_alternation": {
            **ROWS["sec52_alternation"], "100 steps": (PLAIN, 68.9, "alternation-100")},
        "shapes_robustness": {}},
    "cifar": {  # App. D: lr 0.03, batch 512, d 2048; 97 steps per epoch
        "tab2_batch_size": {
            "64": ("--batch-size 64", 66.1), "128": ("--batch-size 128", 67.3),
            "256": ("--batch-size 256", 68.1), "512": (PLAIN, 68.1),
            "1024": ("--batch-size 1024 --warmup-epochs 10", 68.0),
            "2048": ("--batch-size 2048 --warmup-epochs 10", 67.9),
            "4096": ("--batch-size 4096 --warmup-epochs 10", 64.0)},
        "tab3_batch_norm": {
            **ROWS["tab3_batch_norm"],
            "(a) none, lr / 10": ("--bn none --lr 0.003 --warmup-epochs 10", ""),
            "(b) hidden-only, lr / 10": ("--bn hidden --lr 0.003 --warmup-epochs 10", ""),
            "(a) none, lr of the others": ("--bn none --warmup-epochs 10", 34.6)},
        "appB_dimension": {
            "d = 256": ("--dim 256", 65.3), "d = 512": ("--dim 512", 67.2),
            "d = 1024": ("--dim 1024", 67.5), "d = 2048": (PLAIN, 68.1),
            "no bottleneck in h": ("--pred-dim 2048",)},
        "figD1_cifar": {"SimSiam": ("--epochs 800 --predictor-lr cosine", "91.8 (linear)")},
        "shapes_robustness": {}, "common_parts": {}},
    "smoke": {}, "shapes": {},
}


@pytest.mark.parametrize("scale", ELSEWHERE)
@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_its_options_its_study_and_the_paper_s_number(name, scale):
    expected = {label: (*row, *(PLAIN, "", "", 1)[len(row):])
                for label, row in ELSEWHERE[scale].get(name, ROWS[name]).items()}
    rows = table.rows(importlib.import_module(f"experiments.{name}"), scale)
    assert {row.label: (row.options, row.paper, row.study_name, row.times)
            for row in rows} == expected
    assert {(row.seeds, row.held_out) for row in rows} <= {(None, False)}


def test_every_module_has_its_rows_and_claims_here():
    assert {*ROWS, "opt_optimizers"} == {*CLAIMS, "opt_optimizers"} == {*every.MODULES}
    assert ELSEWHERE.keys() == logs.SCALES.keys()


RATES = {"shapes": "0.002 0.02 0.2 2 20", "photographs": "0.0008 0.008 0.08 0.8 8",
         "cifar": "3e-05 0.0003 0.003 0.03 0.3", "smoke": "0.2 2"}
OPTIMIZERS = "SGD", "SGD, no momentum", "Nesterov", "Adam", "AdamW", "LARS", "averaged SGD"


@pytest.mark.parametrize("scale", RATES)
def test_every_optimiser_tries_the_same_rates_on_held_out_images_once(scale, monkeypatch):
    monkeypatch.setattr(logs, "read_log", lambda *_: None)
    adam, *tried = opt_optimizers.ROWS(scale)
    rate = {"photographs": "0.8", "cifar": "0.03"}.get(scale, "2")  # the recipe's
    assert (adam.label, adam.options, adam.study_name) == (
        f"Adam, lr {rate}", f"--lr {rate}", "Adam")
    short = " --epochs 2" if scale == "photographs" else ""
    expected = [(f"{name}, lr {lr}, held out", f"--lr {lr}{short}",
                 "held out" if name == "SGD" else f"{name} held out", 1, True)
                for name in OPTIMIZERS for lr in RATES[scale].split()]
    assert [(row.label, row.options, row.study_name, row.seeds, row.held_out)
            for row in tried] == expected


SCALES = {  # what a plain row of each scale trains
    "smoke": dict(data="shapes", epochs=2, max_steps=2, image_size=8, arch="resnet8", lr=2.0,
                  batch_size=64, knn_every=1, predictor_lr="constant"),
    "shapes": dict(data="shapes", epochs=20, max_steps=None, image_size=24, arch="resnet8", lr=2.0,
                   batch_size=64, knn_every=1, predictor_lr="constant", crop_min=0.4),
    "photographs": dict(data="cifar10", epochs=5, max_steps=None, arch="resnet8", lr=0.8,
                        batch_size=64, knn_every=3, predictor_lr="constant", crop_min=0.2),
    "cifar": dict(data="cifar10", epochs=100, max_steps=None, arch="resnet18", lr=0.03,
                  batch_size=512, knn_every=10, predictor_lr="constant", dim=2048, compile=True),
}


@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_is_what_its_comment_says(scale):
    given = options.parse(logs.argv(Row("plain"), scale, 3))
    args = vars(options.fill_in(given, given.image_size or SCALES[scale].get("image_size", 32)))
    assert {key: args[key] for key in SCALES[scale]} == SCALES[scale] and args["seed"] == 3
    probe = "--epochs 1 --lr 1" if scale == "smoke" else ""
    assert logs.SCALES[scale].probe == probe and table.SEEDS == 3


# ------------------------------------------------------------------------------------------------
# Claims. An order is a chain "low < high" of linear accuracies, or several; [knn], [loss]: of that;
# [by -2]: by more than this. A fact is the rows it is about, and what must hold of each run.

HEALTHY, COLLAPSED = "healthy", "collapsed"
EVERY = "every row"
CLAIMS = {
    "references": ["untrained network < supervised"],
    "fig2_stopgrad": [
        (["without"], "loss", "<", -0.98), (["with stop-gradient"], "loss", ">", -0.98),
        (["without"], "std", "<", 0.1), (["with stop-gradient"], "std", ">", 0.9),
        (["with stop-gradient"], HEALTHY), "without < with stop-gradient",
        "without < with stop-gradient [knn]", "without < untrained network",
        (["without, 2 x the epochs"], COLLAPSED)],
    "tab1_predictor": [
        (["(a) no predictor"], COLLAPSED), "(a) no predictor < (c) h's lr constant",
        (["no predictor, asymmetric loss"], COLLAPSED),
        (["(b) h fixed"], HEALTHY), "(c) h's lr constant < (b) h fixed [loss]",
        "(b) h fixed < (c) h's lr constant", "(b) h fixed < untrained network",
        "h's lr decayed < (c) h's lr constant"],
    "tab2_batch_size": [
        "256 < 64; 256 < 128; 256 < 512; 256 < 1024 [by -2]", (EVERY, HEALTHY)],
    "tab3_batch_norm": [
        "(a) none, lr / 10 < (b) hidden-only < (c) default", "(d) all < (c) default",
        "(c) default < (c) without affine [by -1]", (["(a) none, lr / 10"], HEALTHY),
        (["(a) none, lr of the others"], HEALTHY),
        (["(b) hidden-only", "(c) default", "(d) all", "(c) without affine"], HEALTHY)],
    "sec45_similarity": ["cross-entropy < cosine", (["cross-entropy"], HEALTHY)],
    "sec46_symmetry": ["asymmetric < asymmetric 2x < symmetric", (EVERY, HEALTHY)],
    "sec52_alternation": [
        "1 step (SimSiam) < 10 steps; 1 step (SimSiam) < an epoch [by -2]",
        "1 step (SimSiam) < 10 steps", (EVERY, HEALTHY)],
    "sec52_expectation": [
        "no predictor, no average < no predictor, moving average m = 0.8 < SimSiam",
        "no predictor, untrained targets (m = 1) < no predictor, moving average m = 0.8",
        (["no predictor, moving average m = 0.8"], HEALTHY),
        (["no predictor, no average"], COLLAPSED),
        (["no predictor, moving average m = 0.8, 2 x the epochs"], HEALTHY)],
    "tab4_comparisons": [
        "; ".join(f"untrained network < {name}" for name in (
            "SimCLR", "MoCo v2", "MoCo v2, asymmetric", "BYOL", "SwAV", "SimSiam", "Barlow Twins",
            "VICReg")),
        "SimCLR < SimSiam; MoCo v2 < SimSiam; BYOL < SimSiam; SwAV < SimSiam",
        "untrained network < LeJEPA", (["LeJEPA"], HEALTHY),
        (["LeJEPA without SIGReg"], COLLAPSED)],
    "sec62_methodology": [
        "SimCLR, predictor < SimCLR; SimCLR, predictor, stop-gradient < SimCLR",
        "SwAV, predictor < SwAV", (["SwAV, no stop-gradient"], "loss", "is", math.nan),
        (["BYOL, no momentum encoder"], HEALTHY),
        (["BYOL, no momentum encoder, lr of h decays"], HEALTHY)],
    "appB_dimension": ["d = 256 < d = 512", (["no bottleneck in h"], HEALTHY)],
    "figD1_cifar": [(["SimSiam"], "knn", ">", 80)],
    "opt_losses": [
        (EVERY, HEALTHY),
        "; ".join(f"{label} < -cosine (half squared, normalised)" for label in ROWS["opt_losses"]
                  if label[0] != "-"),
        "half squared, raw < -cosine (half squared, normalised)",
        "cross-entropy, raw < -cosine (half squared, normalised)"],
    "opt_aggregation": [
        (EVERY, HEALTHY),
        "; ".join(f"{label} < arithmetic (Eq. 4)" for label in ROWS["opt_aggregation"]
                  if "Eq. 4" not in label)],
    "opt_regularizers": [
        (EVERY, HEALTHY),
        "; ".join(f"{label} < weight decay 5e-4 (the recipe)" for label in ROWS["opt_regularizers"]
                  if "recipe" not in label)],
    "theory_directpred": [
        "no predictor < DirectPred", "learned MLP predictor < DirectPred [by -2]",
        (["DirectPred"], HEALTHY), ([], None)],  # the last is about the toy model
    "theory_spectrum": [
        (["no stop-gradient"], "m_r", "<", 0.2), (["SimSiam"], "m_r", ">", 0.9)],
    "shapes_robustness": [
        "; ".join(f"the recipe < {label}" for label in (
            "lr halved", "lr doubled", "batch halved", "d = 64", "d = 512")) + " [by -10]",
        "the recipe < bfloat16 [by -2]", (["tinted images"], HEALTHY),
        "tinted images < the recipe [by 30]",
        (["no stop-gradient, no affine"], "std", ">", 0.1),
        "no stop-gradient, no affine < the recipe"],
    "augmentations": [
        "no crop < all augmentations", "no colour jitter < all augmentations", (EVERY, HEALTHY)],
    "details": [
        "ImageNet stem < the recipe", "the recipe < one pass; one pass < the recipe [by -2]",
        (EVERY, HEALTHY)],
    "common_parts": ["train.py < common parts; common parts < train.py [by -2]"],
}


def pairs(text):
    """The pairs of an order as it is written above."""
    text, _, more = text.removesuffix("]").partition(" [")
    chains = [chain.split(" < ") for chain in text.split("; ")]
    key = more if more in ("knn", "loss") else "top1"
    by = float(more.removeprefix("by ")) if more.startswith("by") else 0.0
    return [Pair(low, high, key, by) for chain in chains for low, high in zip(chain, chain[1:])]


def record(**changes):
    """The last record of a run about which nothing is odd."""
    m_r = changes.pop("m_r", 0.5)
    return {"loss": -0.9, "std": 0.5, "rank": 9.0, "knn": 50.0, "top1": 60.0,
            "outputs": {"centre": (1 - m_r**2) ** 0.5}, **changes}


def cases(kind, sign=None, bound=None):
    """Records of which a fact is true, and others of which it is not, at either side of its bound.
    """
    healthy = [record(std=0.101, rank=2.01)]
    collapsed = [record(std=0.099), record(rank=1.99)]
    if kind == HEALTHY:
        return healthy, [*collapsed, record(std=math.nan, rank=math.nan)]
    if kind == COLLAPSED:
        return collapsed, healthy
    if sign == "is":
        return [record(**{kind: bound})], [record()]
    inside, outside = ((bound + d) for d in ((-1e-3, 1e-3) if sign == "<" else (1e-3, -1e-3)))
    return [record(**{kind: inside})], [record(**{kind: outside})]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_about_its_rows_and_its_bound(name):
    module = importlib.import_module(f"experiments.{name}")
    scale = "cifar" if name == "figD1_cifar" else "shapes"
    labels = [row.label for row in table.rows(module, scale)]
    for claim, expected in zip(table.claims(module, scale), CLAIMS[name], strict=True):
        if isinstance(expected, str):
            assert claim.test == pairs(expected), claim.text
            continue
        about, *fact = expected
        if not about:
            continue
        about = labels if about == EVERY else about
        holds, fails = cases(*fact)
        for good in holds:
            fine = {label: [good, good] for label in labels}
            assert claim.test(fine), claim.text
            for label in labels:  # a single seed of a row that the claim is about refutes it
                for bad in fails:
                    assert claim.test({**fine, label: [good, bad]}) is (label not in about), (
                        claim.text, label)


def test_the_claim_about_the_toy_model_depends_on_the_threshold(monkeypatch):
    threshold, toy = theory_directpred.THRESHOLD, theory_directpred.CLAIMS[-1].test
    assert toy({})
    for factor in 0.5, 3:
        monkeypatch.setattr(theory_directpred, "THRESHOLD", factor * threshold)
        assert not toy({})


def test_the_claim_about_the_longer_alternations_has_100_steps_where_there_are_such_rows():
    module = importlib.import_module("experiments.sec52_alternation")
    cheap, better, _ = module.CLAIMS("photographs")
    one = "1 step (SimSiam) < "
    assert cheap.test == pairs(f"{one}10 steps; {one}100 steps; {one}an epoch [by -2]")
    assert better.test == pairs(f"{one}10 steps; {one}100 steps")


def test_the_claims_about_optimisers_compare_their_best_rows_and_Adam_at_SGD_s_rate(monkeypatch):
    best = {name: Row(f"{name}, lr {i}") for i, name in enumerate(OPTIMIZERS)}
    monkeypatch.setattr(opt_optimizers, "best", lambda name, scale: best[name])
    none_better, adam = opt_optimizers.CLAIMS("shapes")
    assert none_better.test == pairs("; ".join(
        f"{best[name].label} < SGD, lr 0" for name in OPTIMIZERS[1:]))
    assert adam.test == pairs("Adam, lr 2 < Adam, lr 3")


def test_the_raw_pixels_of_a_scale_are_kept_beside_its_logs():
    assert references.pixels_path("shapes") == logs.HERE / "results/shapes/logs/pixels.json"
    assert logs.results_dir("smoke").parts == ("runs", "smoke")
