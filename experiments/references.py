"""What to compare accuracies with: raw pixels, an untrained network, supervised training.

    python -m experiments.references

Raw pixels need no network (`python lineval.py --pixels`): if they solve a set, a network that
solves it has shown nothing. The untrained network is a run with learning rate 0. The supervised one
has the same backbone, views, optimiser and epochs, and learns from the labels. Every table of
results.md ends with these rows, as far as they have been run.
"""

import json
import shlex
import sys

import torch.nn.functional as F
from torch import nn

import lineval
import options
from augment import to_device
from experiments import logs
from experiments.claims import below
from experiments.table import Claim, Row, main
from optim import SGD
from utils import runs


def supervised(run):
    """A study: cross-entropy with the labels on both views.

    std and rank are of the features, but at epoch 0, before the study has begun, of SimSiam's z.
    """
    model, labels = run.model, run.images.train_labels
    c, classes = model.backbone.num_features, len(run.args.classes)
    model.classifier = nn.Linear(c, classes).to(labels.device)
    trained = [*model.backbone.parameters(), *model.classifier.parameters()]
    run.optimizer = SGD([trained, []], weight_decay=run.args.weight_decay)  # no predictor

    def loss_fn(x1, x2):
        y = labels[to_device(run.indices, labels.device)]
        features = model.backbone(x1), model.backbone(x2)  # two passes, as SimSiam's
        return sum(F.cross_entropy(model.classifier(v), y) for v in features) / 2, features[0]

    return loss_fn


UNTRAINED = Row("untrained network", "--lr 0 --epochs 1")
SUPERVISED = Row("supervised", study=supervised)
ROWS = [UNTRAINED, SUPERVISED]
CLAIMS = [Claim("Learning from labels is better than not learning",
                below(UNTRAINED.label, SUPERVISED.label))]


def pixels_path(scale):
    """Where pixels() keeps its result."""
    return logs.results_dir(scale) / "logs" / "pixels.json"


def pixels(scale):
    """kNN and linear accuracy of raw pixels: lineval's result, computed once and kept in a file."""
    path = pixels_path(scale)
    if not path.exists():
        args = options.parse(shlex.split(logs.SCALES[scale].options))
        path.parent.mkdir(parents=True, exist_ok=True)
        result = lineval.main(["--pixels", "--data", args.data, *logs.SCALES[scale].probe.split()])
        runs.write_json(path, {**result, "commit": runs.commit(), "machine": logs.machine()})
    return json.loads(path.read_text())


if __name__ == "__main__":
    main(sys.modules[__name__])
