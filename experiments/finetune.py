"""What pre-training is worth to a classifier: fine-tuning against training from scratch.

    python lineval.py RUN --finetune 10                             all labels
    python lineval.py RUN --finetune 100 --labels 0.1               a tenth of the labels
    python lineval.py RUN --finetune 10 --export classifier.pt2     keep the classifier

The whole network learns from labels, once starting from the weights of the run and once from
scratch, with the same steps, crops and flips. Each start has the best of three learning rates,
chosen on held-out training images: one rate for both would decide which start looks better.
The paper fine-tunes only detectors (Table 5).
"""

import torch

from augment import Augment
from lineval import extract_features, fit, percentage
from optim import SGD
from resnet import ARCHS
from utils import weights
from utils.console import counted

LRS = (0.1, 0.4, 1.6)  # base learning rates
WEIGHT_DECAY = 1e-4
CROP_MIN = 0.4  # views need not be as hard to match as in pre-training


def finetune(args, backbone, config, images):
    """Train a classifier from a backbone's weights, and one from scratch.

    returns: {"scratch": top-1 in percent, "scratch_lr": ..., "finetuned": ..., "finetuned_lr": ...}
    args: of lineval.py; with --export the fine-tuned classifier is written
    config: of weights.read()
    """
    held_out, result = images.held_out(), {}
    if min(args.batch_size, len(held_out.train_labels)) < 2:
        raise SystemExit("--finetune: BN needs batches of at least two images; choose a larger"
                         " share with --labels, or a larger --batch-size")
    torch.manual_seed(args.seed)
    # In this order, so that `network` ends as the fine-tuned one, for --export.
    for start, state in ("scratch", {}), ("finetuned", backbone.state_dict()):
        train = lambda images, lr: train_classifier(args, state, config, images, lr)
        lr = max(LRS, key=lambda lr: train(held_out, lr)[1])
        network, result[start] = train(images, lr)
        result[f"{start}_lr"] = lr
    print("fine-tuned, {}: top-1 {finetuned:.2f} % (base lr {finetuned_lr:g}); from scratch:"
          " {scratch:.2f} % ({scratch_lr:g})".format(
              counted(args.finetune, "epoch"), **result))
    if args.export:
        weights.export(args.export, network, config, images.classes)
    return result


def train_classifier(args, state, config, images, lr):
    """A network trained from the weights in `state`, and its top-1 accuracy in percent."""
    torch.manual_seed(args.seed)  # the same crops and order for every start and learning rate
    network = weights.network(config, ARCHS, len(images.classes))
    network.load_state_dict({**network.state_dict(), **state})  # state has no fc: it starts anew
    network.to(args.device, memory_format=torch.channels_last)
    mean, std = config["mean"], config["std"]
    size = images.view_size or images.train.shape[3]
    augment = Augment(size, mean, std, CROP_MIN, jitter_p=0, gray_p=0, blur_p=0)
    optimizer = SGD([network.parameters()], weight_decay=WEIGHT_DECAY)
    # To the device batch by batch: a set that does not fit there has stayed on the CPU.
    fit(lambda x: network(augment(x.to(args.device))), optimizer, images.labelled,
        images.train_labels, lr, args.finetune, args.batch_size)
    predicted = extract_features(network, images.test, mean, std, images.view_size).argmax(dim=1)
    return network, percentage(predicted == images.test_labels)
