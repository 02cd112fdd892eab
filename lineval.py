"""Judging the features: kNN classifier (Fig. 2, Fig. D.1) and linear probe (Sec. 3, App. A).

    python lineval.py runs/shapes                    a run folder, or a checkpoint.pt
    python lineval.py runs/cifar --data cifar100     features of another set of images

The feature is the backbone's global average pool, in eval mode; the projector is left out.
Both classifiers are judged on every test image. Prints, and writes lineval.json: knn, top1, top5.
"""

import argparse
import pathlib

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import trange

import data
from augment import normalize
from optim import LARS, SGD, cosine_lr, scaled_lr
from resnet import resnet
from runs import load_checkpoint, write_json

# ------------------------------------------------------------------------------------------------
# Features, and the kNN classifier that follows the training.


@torch.no_grad()
def features(backbone, images, mean, std):
    """Backbone features of whole images: (N, 3, S, S) uint8 -> (N, features) float32.

    The backbone runs in eval mode, in which BN uses its running statistics and leaves them alone,
    and goes back to the mode it was in.
    """
    mode, device = backbone.training, next(backbone.parameters()).device
    backbone.eval()
    chunks = []
    for x in images.split(500):
        x = normalize(x.to(device).float() / 255, mean, std)
        chunks.append(backbone(x.contiguous(memory_format=torch.channels_last)))
    backbone.train(mode)
    return torch.cat(chunks)


def knn_predict(bank, labels, query, classes, k=200, T=0.1):
    """Weighted kNN (Wu et al., arXiv 1805.01978, Sec. 3.4): the class with the most votes.

    bank: (M, c) features   labels: (M,) int64   query: (N, c)   returns: (N,) int64
    The k most similar rows of the bank vote with weight exp(cosine / T). The paper gives neither k
    nor T; 200 and 0.1 are those of the authors' MoCo demo on CIFAR.
    """
    bank = F.normalize(bank, dim=1).T
    predictions = []
    for q in F.normalize(query, dim=1).split(500):  # bounds the memory: 500 x M similarities
        cosine, i = (q @ bank).topk(k, dim=1)  # (500, k)
        votes = torch.zeros(len(q), classes, device=q.device, dtype=q.dtype)
        votes.scatter_add_(1, labels[i], (cosine / T).exp())
        predictions.append(votes.argmax(dim=1))
    return torch.cat(predictions)


def neighbours(labels, classes):
    """k: 200 as usual in the field, or half a class where that is less."""
    return max(1, min(200, len(labels) // classes // 2))


def knn_accuracy(bank, labels, query, query_labels):
    """Percent of the query, features of all test images, that kNN on the bank classifies right."""
    classes = int(labels.max()) + 1
    predicted = knn_predict(bank, labels, query, classes, neighbours(labels, classes))
    return 100 * float((predicted == query_labels).double().mean())


# ------------------------------------------------------------------------------------------------
# The linear probe.

LRS = (0.1, 1.0, 10.0, 100.0)  # base learning rates to choose from


def fit_probe(x, labels, base_lr, classes, optimizer, epochs, batch_size):
    """A linear classifier on frozen features: x (N, c), labels (N,) -> nn.Linear(c, classes).

    App. A: momentum 0.9, no weight decay, cosine decay, lr = base lr x batch size / 256.
    here: features are computed once, of whole images, where the paper draws a crop at every step.
    """
    probe = nn.Linear(x.shape[1], classes, device=x.device)
    nn.init.normal_(probe.weight, std=0.01)
    nn.init.zeros_(probe.bias)
    optimizer = optimizer([probe.parameters()])
    batch_size = min(batch_size, len(x))
    per_epoch = len(x) // batch_size
    steps, lr = epochs * per_epoch, scaled_lr(base_lr, batch_size)
    for step in trange(steps, desc=f"probe at base lr {base_lr:g}", leave=False, disable=None):
        if step % per_epoch == 0:
            order = torch.randperm(len(x)).to(x.device).split(batch_size)
        i = order[step % per_epoch]
        optimizer.zero_grad()
        F.cross_entropy(probe(x[i]), labels[i]).backward()
        optimizer.step(cosine_lr(lr, step, steps))
    return probe


@torch.no_grad()
def topk_accuracy(probe, x, labels, k):
    """Percent of the rows of x whose label is among the k largest logits."""
    top = probe(x).topk(min(k, probe.out_features), dim=1).indices
    return 100 * float((top == labels[:, None]).any(dim=1).double().mean())


def choose_lr(x, labels, *how):
    """The base lr of LRS that is best on a tenth of the training features, left out of the fit."""
    order = torch.randperm(len(x)).to(x.device)
    tenth = max(1, len(x) // 10)
    seen, held_out = order[tenth:], order[:tenth]

    def accuracy(lr):
        probe = fit_probe(x[seen], labels[seen], lr, *how)
        return topk_accuracy(probe, x[held_out], labels[held_out], 1)

    return max(LRS, key=accuracy)


# ------------------------------------------------------------------------------------------------


def load_backbone(path, device="cpu"):
    """The backbone of a run folder or checkpoint, built by its own config: backbone, config."""
    saved = load_checkpoint(path, device)
    config, prefix = saved["config"], "backbone."
    weights = {k.removeprefix(prefix): w for k, w in saved["model"].items() if k.startswith(prefix)}
    backbone = resnet(config["arch"], config["stem"], bf16=config.get("bf16", False))
    backbone.load_state_dict(weights)
    return backbone.to(device, memory_format=torch.channels_last), config


def positive(text):
    """An argparse type: a whole number above 0."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return int(text)


def device(text):
    """An argparse type: a device that torch can use on this machine."""
    try:
        torch.empty(1, device=text)
    except Exception as error:  # torch raises half a dozen kinds
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"{text} cannot be used here ({reason}); try cpu")
    return text


def parse(argv=None):
    p = argparse.ArgumentParser(description="kNN and linear probe on the features of a run.")
    g = p.add_argument
    g("run", help="a run folder of train.py, or a checkpoint.pt")
    g("--data", help="a set other than the run's own, named as in train.py")
    g("--root", help="where cifar10 and cifar100 are kept (default: the run's own)")
    g("--optimizer", choices=("sgd", "lars"), default="sgd", help="of the probe (default: sgd)")
    g("--lr", type=float, help="base lr of the probe, used as lr x batch size / 256 (default: the"
      f" best of {', '.join(f'{lr:g}' for lr in LRS)} on a held-out tenth of the training set)")
    g("--epochs", type=positive, default=100, help="of the probe (default: 100; 90 in App. A)")
    g("--batch-size", type=positive, default=256,
      help="of the probe (default: 256; 4096 in App. A)")
    g("--seed", type=int, default=0, help="of the probe (default: 0)")
    g("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu",
      help="cpu, cuda, ... (default: cuda where there is one)")
    return p.parse_args(argv)


def main(argv=None):
    """Evaluate as a command line says; returns what lineval.json holds."""
    args = parse(argv)
    torch.manual_seed(args.seed)
    backbone, config = load_backbone(args.run, args.device)
    args.data, args.root = args.data or config["data"], args.root or config["root"]
    images = data.load(args.data, args.root, config["image_size"], config["skip_bad_images"])
    images = images.to(args.device)
    x, x_test = (
        features(backbone, split, config["mean"], config["std"])
        for split in (images.train, images.test)
    )
    y, y_test = images.train_labels, images.test_labels
    knn = knn_accuracy(x, y, x_test, y_test)
    print(f"kNN: {knn:.2f} % of {len(y_test)} test images")

    optimizer = {"sgd": SGD, "lars": LARS}[args.optimizer]
    how = len(images.classes), optimizer, args.epochs, args.batch_size
    lr = choose_lr(x, y, *how) if args.lr is None else args.lr
    probe = fit_probe(x, y, lr, *how)
    top1, top5 = (topk_accuracy(probe, x_test, y_test, k) for k in (1, 5))
    print(f"linear probe, base lr {lr:g}: top-1 {top1:.2f} %, top-5 {top5:.2f} %")

    result = {"knn": knn, "top1": top1, "top5": top5, "probe_lr": lr, **vars(args)}
    run = pathlib.Path(args.run)
    write_json((run if run.is_dir() else run.parent) / "lineval.json", result)
    return result


if __name__ == "__main__":
    main()
