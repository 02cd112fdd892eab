"""How good are the features? kNN (Fig. 2, Fig. D.1) and linear evaluation (Sec. 3, App. A).

    python lineval.py runs/shapes                     a run folder of train.py, or other weights
    python lineval.py runs/cifar10 --data cifar100    the same features on other images
    python lineval.py --pixels --data shapes          no network: what the pixels alone can tell

The feature of an image is the output of the backbone's global average pool ("pool5" in the paper);
the projector is left out. Labels serve only two simple classifiers, which are fitted to frozen
features of the training images and tested on all test images; train.py also runs kNN. (Only
--finetune trains the network on them.) The results are printed and, for a run, written to its
folder: lineval.json, on other images or fewer labels lineval-*.json.

Its latest output, after `python train.py` on one thread (seed 0; over seeds 0 to 2 kNN is
87.7 ± 6.0 and top-1 94.9 ± 0.7):

    runs/shapes (train.py): resnet8, cifar stem; mean and std: its own
    kNN, k = 200: 88.70 % of 1000 test images
    linear probe, base lr 100: top-1 94.10 %, top-5 100.00 %
"""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import trange

from augment import center_crop, normalize
from optim import LARS, SGD, cosine_lr, scaled_lr
from options import parser
from resnet import ARCHS
from utils import parallel, runs, weights
from utils.arguments import device, positive, seed
from utils.console import plain_errors
from utils.device import tune

# ------------------------------------------------------------------------------------------------
# Features, and the kNN classifier.


@torch.no_grad()
def extract_features(backbone, images, mean, std, size=None):
    """The features of images as they are: (N, 3, C, C) uint8 -> (N, backbone.num_features).

    mean, std: of each channel, as in pre-training   size: S, the side of views, if it is not C.
    Nothing in the backbone changes: linear evaluation freezes it (Sec. 3).
    """
    # --pixels has no parameters: then the images stay where they are.
    mode, device = backbone.training, next(backbone.parameters(), images).device
    # In train mode BN normalises by the batch: a feature would depend on the other images, and
    # BN's running statistics would move, so that looking at a run would change it.
    backbone.eval()
    chunks = []
    for x in images.split(500 if images.shape[3] <= 64 else 100):  # a ResNet-50 takes gigabytes
        # No augmentation: an image is seen as it is, or a large photograph without its border.
        x = normalize(center_crop(x.to(device), size), mean, std)
        chunks.append(backbone(x.contiguous(memory_format=torch.channels_last)))
    backbone.train(mode)
    return torch.cat(chunks)


def knn_predict(bank, labels, query, classes, k=200, T=0.1):
    """Weighted kNN (Wu et al., arXiv 1805.01978, Sec. 3.4): the class with the most votes.

    The k rows of the bank with the largest cosine to a row of the query vote for their own class,
    each with weight exp(cosine / T).
    bank: (M, c) features   labels: (M,) int64 in [0, classes)   query: (N, c)   k ≤ M   T > 0
    returns: (N,) int64
    """
    # here: k = 200 and T = 0.1, as in the demo for CIFAR-10 of facebookresearch/moco. The paper
    # gives neither; its first author names 200 and 0.2 (issue 10 of the official code, on GitHub
    # facebookresearch/simsiam); Wu et al. have T = 0.07.
    # With rows of length 1, q @ bank is the cosine, as in Eq. 1; otherwise the longest rows of the
    # bank would be the nearest to most queries.
    bank = F.normalize(bank, dim=1).T  # (c, M)
    predictions = []
    for q in F.normalize(query, dim=1).split(500):  # all N x M cosines at once can fill the memory
        cosine, i = (q @ bank).topk(k, dim=1)  # (500, k)
        votes = torch.zeros(len(q), classes, device=q.device, dtype=q.dtype)
        # With T = 0.1 a neighbour whose cosine is larger by 0.1 weighs e times as much. softmax()
        # divides exp() by its sum, which moves no vote, and does not overflow if T < 0.011.
        votes.scatter_add_(1, labels[i], (cosine / T).softmax(dim=1))  # (500, classes)
        predictions.append(votes.argmax(dim=1))
    return torch.cat(predictions)


def neighbours(labels, classes):
    """k for a bank with these labels (M,): 200, or half the size of a class if that is less.

    returns: an int, at least 1; the size of a class is M / classes; both are rounded down
    """
    # here: 200 suits CIFAR-10, which has 5000 images per class. With a k above the size of a class
    # other classes would get votes even if the features were perfect.
    return max(1, min(200, len(labels) // classes // 2))


def knn_accuracy(bank, labels, query, query_labels):
    """The percentage of the query that kNN on the bank classifies correctly (Fig. 2, right).

    bank: (M, c) training features   labels: (M,)   query: (N, c) test features   query_labels: (N,)
    """
    classes = int(labels.max()) + 1
    k = neighbours(labels, classes)
    predicted = parallel.spread(lambda q: knn_predict(bank, labels, q, classes, k), query)
    return percentage(predicted == query_labels)


def percentage(right):
    """The percentage of True entries: (N,) bool -> a float in [0, 100]."""
    return 100 * (right.sum().item() / len(right))  # a mean in float32 would round


# ------------------------------------------------------------------------------------------------
# The linear probe. Its features are frozen: with fine-tuning they would also learn from labels.
#
# App. A: LARS, base lr 0.02 (0.1 in the official code), batch 4096, 90 epochs, no weight decay.
# here: by default SGD, batch 256, 100 epochs; App. A tried such a probe, too, with base lr 30, and
# ended about 1 % lower. The options can set the paper's values, but on shapes these mean one step
# per epoch, too few in all.
# here: the features are computed once, without augmentation, which is fast. The official code
# computes them anew at every step, from random crops and flips; the paper does not say.

# here: the base learning rate is the best of these on images held out of the training set; while
# the best is the lowest or highest tried, the next one beyond it is tried, too. Which one is right
# depends on the scale of the features, and so on the backbone and the run.
LRS = (0.1, 1.0, 10.0, 100.0)


def fit(logits, optimizer, x, labels, base_lr, epochs, batch_size):
    """Minimise the cross-entropy of logits(x) over the parameters of an optimiser.

    logits: (n, ...) -> (n, classes)   x: (N, ...)   labels: (N,) int64
    An epoch takes x in a new order, in batches of batch_size, or of N if that is less; a last
    incomplete batch is left out. The learning rate is base_lr · (size of a batch) / 256 and decays
    along a cosine over all steps.
    """
    batch_size = min(batch_size, len(x))
    steps_per_epoch = len(x) // batch_size
    total_steps, lr = epochs * steps_per_epoch, scaled_lr(base_lr, batch_size)
    for step in trange(total_steps, desc=f"base lr {base_lr:g}", leave=False, disable=None):
        if step % steps_per_epoch == 0:
            # Drawn on the CPU, so that a seed gives the same order on every device.
            order = torch.randperm(len(x)).to(x.device).split(batch_size)
        i = order[step % steps_per_epoch]
        optimizer.zero_grad()
        F.cross_entropy(logits(x[i]), labels[i]).backward()
        optimizer.step(cosine_lr(lr, step, total_steps))


def fit_probe(x, labels, base_lr, classes, optimizer, epochs, batch_size):
    """Fit a linear classifier to frozen features, as fit() does (App. A).

    x: (N, c)   labels: (N,) int64   returns: nn.Linear(c, classes)
    optimizer: the class SGD or LARS, to be made with momentum 0.9 and no weight decay
    Weights start as Gaussian numbers with std 0.01, biases at 0.
    """
    probe = nn.Linear(x.shape[1], classes)
    # As in the official code; the paper does not say. All classes start about equally likely.
    nn.init.normal_(probe.weight, std=0.01)
    nn.init.zeros_(probe.bias)
    probe.to(x.device)  # drawn on the CPU, like the order of the batches
    fit(probe, optimizer([probe.parameters()]), x, labels, base_lr, epochs, batch_size)
    return probe


@torch.no_grad()
def topk_accuracy(probe, x, labels, k):
    """The percentage of rows of x (N, c) whose label (N,) is among the k largest logits.

    probe: a network (N, c) -> (N, probe.out_features)   returns: a float in [0, 100]
    It is 100 if there are at most k classes. A row with logits that are not finite does not count.
    """
    logits = probe(x)
    top = logits.topk(min(k, probe.out_features), dim=1).indices  # (N, k)
    # With too high a learning rate all logits are NaN. topk() then returns the same k classes for
    # every row, which would look like the accuracy of chance.
    return percentage((top == labels[:, None]).any(dim=1) & logits.isfinite().all(dim=1))


def choose_lr(x, labels, *settings):
    """The base lr with the best top-1 accuracy on a random tenth of x, held out of the fit.

    x: (N, c) training features   labels: (N,)   settings: fit_probe's arguments after base_lr
    The tenth, N // 10 rows but at least one, is the same for all. LRS is tried first; then, while
    the best lr is the lowest tried, lr / 10, and while it is the highest, 10 lr. Of equals the
    first wins.
    """
    # Not on the test images: the best of several test accuracies is no longer a fair estimate.
    order = torch.randperm(len(x)).to(x.device)
    tenth = max(1, len(x) // 10)
    seen, held_out = order[tenth:], order[:tenth]

    def accuracy(lr):
        probe = fit_probe(x[seen], labels[seen], lr, *settings)
        return topk_accuracy(probe, x[held_out], labels[held_out], 1)

    tried = {lr: accuracy(lr) for lr in LRS}
    # Raw pixels of CIFAR-10 do best at 1e-4; with the best of LRS they lose three points.
    while (best := max(tried, key=tried.get)) in (min(tried), max(tried)):
        further = best / 10 if best == min(tried) else best * 10
        tried[further] = accuracy(further)
    return best


def evaluate(args, images, x, x_test):
    """kNN and the probe on features of training and test images: prints and returns the results."""
    if not (x.isfinite().all() and x_test.isfinite().all()):
        raise SystemExit(f"{args.run}: its features are not finite; choose other weights")
    # --pixels: images that do not fit into the GPU's memory stay on the CPU.
    y, y_test = (labels.to(x.device) for labels in (images.train_labels, images.test_labels))
    knn, k = knn_accuracy(x, y, x_test, y_test), neighbours(y, len(images.classes))
    print(f"kNN, k = {k}: {knn:.2f} % of {len(y_test)} test images")
    optimizer = {"sgd": SGD, "lars": LARS}[args.optimizer]
    settings = len(images.classes), optimizer, args.epochs, args.batch_size
    lr = choose_lr(x, y, *settings) if args.lr is None else args.lr
    probe = fit_probe(x, y, lr, *settings)  # on all training images, the held-out ones included
    top1, top5 = (topk_accuracy(probe, x_test, y_test, n) for n in (1, 5))
    print(f"linear probe, base lr {lr:g}: top-1 {top1:.2f} %, top-5 {top5:.2f} %")
    return {"knn": knn, "k": k, "top1": top1, "top5": top5, "probe_lr": lr}


# ------------------------------------------------------------------------------------------------
# The command line.


def parse(argv=None):
    p = argparse.ArgumentParser(
        prog="python lineval.py", usage="%(prog)s [option ...] [WEIGHTS]",
        description="Evaluate features by kNN and a linear probe.")
    g = p.add_argument
    g("run", nargs="?", metavar="WEIGHTS", help="a run folder of train.py, its checkpoint.pt, or"
      " weights of torchvision, timm, official SimSiam, lightly or solo-learn")
    g("--pixels", action="store_true", help="instead of WEIGHTS: evaluate raw pixels; needs --data")
    g("--data", help="images to use instead of the run's own, named as in train.py")
    g("--root", help="the folder of cifar10, cifar100 and stl10 (default: the run's own, else"
      " datasets)")
    g("--skip-bad-images", action="store_true", help="as in train.py (default: as the run did)")
    g("--labels", type=float, default=1.0, metavar="SHARE", help="use only this share of the"
      " training images, such as 0.01, equally many of each class (default: 1)")
    g("--seed", type=seed, default=0, help="seed of everything random (default: 0)")
    g("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu",
      help="cpu, cuda, cuda:1, ... (default: cuda if there is one, else cpu)")
    g = p.add_argument_group("the linear probe").add_argument
    g("--optimizer", choices=("sgd", "lars"), default="sgd", help="(default: sgd; lars in App. A)")
    g("--lr", type=float, help="base lr; the actual one is lr x batch size / 256 (default: the"
      f" best of {', '.join(f'{lr:g}' for lr in LRS)} on held-out training images; lower or higher"
      " ones are tried while the best is at an end; 0.02 in App. A)")
    g("--epochs", type=positive, default=100, help="(default: 100; 90 in App. A)")
    g("--batch-size", type=positive, default=256, help="(default: 256; 4096 in App. A)")
    g = p.add_argument_group("more than an evaluation").add_argument
    g("--finetune", type=positive, metavar="EPOCHS", help="also train the whole network as a"
      " classifier, once from WEIGHTS and once from scratch")
    weights.add_options(g)
    return weights.checked(p.parse_args(argv), p.error)


def load_backbone(path, device="cpu"):
    """The backbone of a run or of other weights, and its config: see weights.read()."""
    return weights.load_backbone(path, ARCHS, parser(), device)


def features(images, backbone, config):
    """The features of the training images (M, c) and of the test images (N, c).

    images: a Data   config: has "mean" and "std", which normalise the images
    Of the training images only those with a label, unless no image has one.
    """
    train = images.labelled if images.classes else images.train
    return [extract_features(backbone, split, config["mean"], config["std"], images.view_size)
            for split in (train, images.test)]


@plain_errors
def main(argv=None):
    """Evaluate as a command line says; returns the accuracies, or None if there are none."""
    args = parse(argv)
    tune(args.device)  # as in train.py, so that kNN is the same number
    torch.manual_seed(args.seed)
    # Raw pixels are a baseline: where they do well, a network that does well proves little.
    backbone, config = (nn.Flatten(), {}) if args.pixels else load_backbone(args.run, args.device)
    if args.export and not args.finetune:
        return weights.export(args.export, backbone, config)
    images, path = weights.load_images(args, config)  # also fills in config's mean and std
    weights.check_labels(args, images)
    x, x_test = features(images, backbone, config)
    weights.save_features(args, images, x, x_test)
    if not images.classes:
        return None
    result = {**evaluate(args, images, x, x_test), **vars(args)}
    if args.finetune:
        from experiments.finetune import finetune  # here, because it imports fit() from this file

        result.update(finetune(args, backbone, config, images))
    if path:
        runs.write_json(path, result)
    return result


if __name__ == "__main__":
    main()
