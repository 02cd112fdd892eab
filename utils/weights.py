"""Weights: recognised by their keys and read, or written for other programs.

read() takes files of train.py, torchvision, timm, the official SimSiam code, lightly and
solo-learn; export() writes files for torchvision, timm, and programs without this code. In
this repository a backbone's weights have torchvision's names, as in resnet.py.

Like a checkpoint, a file of weights is hostile input: only tensors and a few checked facts are read
from it, and the backbone's must fit one network in every name and shape.
"""

import copy
import importlib
import io
import json
import os
import pathlib

import torch

from utils import checkpoint, data, plot, runs

# ------------------------------------------------------------------------------------------------
# In.

KINDS = (  # a prefix that only these weights have, the backbone's prefix, and whose names they are
    ("encoder.fc.", "encoder.", "official SimSiam"),
    ("projection_head.", "backbone.", "lightly"),
    ("4.0.", "", "lightly"),  # the backbone alone
    ("projector.0.", "backbone.", "solo-learn"),
    ("projector.0.", "encoder.", "solo-learn"),  # its older versions
    ("layer1.", "", "torchvision's names"),
)
# lightly's examples put torchvision's layers into an nn.Sequential, which numbers them; 2 and 3,
# ReLU and max-pool, have no weights.
NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # of each channel


def load_backbone(path, archs, parser, device="cpu"):
    """The backbone with the weights of a run folder or a file, and its config from read().

    It is in training mode, like any new network; extract_features() and export() switch it.
    archs: ARCHS of resnet.py   parser: of train.py's options (utils/ imports neither)
    """
    weights, config = read(path, archs, parser)
    backbone = network(config, archs)
    load_weights(path, backbone, weights)
    return backbone.to(device, memory_format=torch.channels_last), config


def network(config, archs, classes=0):
    """A network as a config from read() describes it, with new weights.

    classes: the number of outputs of a classifier, 0 for a backbone
    """
    made = archs[config["arch"]](stem=config["stem"], num_classes=classes,
                                  bf16=config.get("bf16", False))
    if "padding" in config:
        made.conv1.padding = (config["padding"],) * 2
    return made


def initialise(backbone, args, archs, parser):
    """Load the weights that --init names into the backbone of a new run.

    Its CIFAR stem pads by 1, also for weights of solo-learn, whose own pads by 2.
    """
    weights, config = read(args.init, archs, parser)
    ours, theirs = ([of[key] for key in ("arch", "stem")] for of in (vars(args), config))
    if ours != theirs:
        raise SystemExit("--init {0}: is a {3} with the {4} stem, but this run has a {1} with the"
                         " {2} stem; add --arch {3} --stem {4}".format(args.init, *ours, *theirs))
    load_weights(args.init, backbone, weights)


def read(path, archs, parser):
    """A backbone's weights and what is known about it: (state dict, config). Prints a summary.

    config: a run's options; for other weights arch, stem, mean and std (None if not known), and
    padding if conv1 does not pad by 1; "source": whose names the weights have
    SystemExit: in one line, why they are refused
    """
    path = pathlib.Path(path)
    tensors, about = ({}, {}) if path.is_dir() else read_file(path)
    if path.is_dir() or {"config", "model"} <= tensors.keys():
        saved = runs.load_checkpoint(path)
        config = {**saved["config"], "source": "train.py", "commit": str(saved.get("commit", ""))}
        config.pop("padding", None)  # no option of train.py, so not checked below
        checkpoint.check_config(path, config, parser)
        # The heads, and the target encoder of byol and moco, are left out.
        weights, whose = below("backbone.", saved["model"]), "its own"
    else:
        name = about.pop("arch", None), about.pop("stem", None)
        weights, config = recognise(path, tensors, archs, name)
        whose = "its own" if "mean" in about else "ImageNet's" if config["mean"] else "the images'"
        config.update(about)
    print(f"{path} ({config['source']}): {config['arch']}, {config['stem']} stem; mean and std:"
          f" {whose}")
    return weights, config


def read_file(path):
    """The contents of a file, and what export() says of it: arch, stem, mean, std and padding."""
    try:
        content = runs.read_regular(path.resolve())  # download caches are full of links
        if path.suffix != ".safetensors":
            saved = runs.load(content)
            return dict(saved.get("state_dict", saved)), {}
        tensors = safetensors(path).load(content)  # refuses a malformed header
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        said = header.get("__metadata__", {})
        about = {key: json.loads(said[key]) for key in (*IMAGENET, "padding") if key in said}
        normalisation = {key: about[key] for key in about if key != "padding"}
        if normalisation and checkpoint.differs(normalisation, IMAGENET, "metadata"):
            raise ValueError("its mean and std are impossible")
        if repr(about.get("padding", 2)) != "2":  # export() writes no other; 2.0 would equal 2
            raise ValueError("its padding is impossible")
        return tensors, about | {key: said[key] for key in ("arch", "stem") if key in said}
    except FileNotFoundError:
        raise SystemExit(f"{path}: no such checkpoint or file of weights; name another")
    except Exception as error:  # torch raises half a dozen kinds
        reason = " ".join(str(error).partition(". ")[0].split()) or type(error).__name__
        raise SystemExit(f"{path}: neither a checkpoint nor a file with only weights"
                         f" ({reason}); choose another")


def below(prefix, tensors):
    """The tensors whose names start with a prefix, named without it."""
    # lstrip() would strip letters: it would turn backbone.conv1 into v1.
    return {k.removeprefix(prefix): w for k, w in tensors.items() if k.startswith(prefix)}


def recognise(path, tensors, archs, name=None):
    """The backbone's weights in a file, and a config: arch, stem, mean, std and source.

    name: (arch, stem) if the file gives them; names and shapes must fit all the same
    """
    tensors = {str(key): value for key, value in tensors.items()}
    tensors = below("module.", tensors) or tensors  # DataParallel's prefix
    for mark, prefix, source in KINDS:
        weights = without_numbers(below(prefix, tensors))
        if below(mark, tensors) and "conv1.weight" in weights:
            break
    else:
        weights, source = tensors, ""  # perhaps our own export of a network that is not a ResNet
    # fc, a classifier or (official code) the projector, is left out; half precision is converted.
    weights = {key: w.float() if torch.is_tensor(w) and w.is_floating_point() else w
               for key, w in weights.items() if not (source and key.startswith("fc."))}
    with torch.device("meta"):  # networks without memory: names, shapes and types
        networks = {(arch, stem): make(stem=stem, num_classes=0, bf16=False).state_dict()
                    for arch, make in archs.items() for stem in ("cifar", "imagenet")}
    if name in networks:
        networks = {name: networks[name]}
    # {(arch, stem): zeros for BN's counts of batches}, which serve no purpose and older files lack
    fits = {}
    for this, like in networks.items():
        zeros = {key: torch.tensor(0) for key in like if key.endswith("num_batches_tracked")}
        if not checkpoint.differs({**zeros, **weights}, dict(like), "network"):
            fits[this] = zeros
    if len(several := sorted({arch for arch, _ in fits})) > 1:
        raise SystemExit(f"{path}: its layers fit {' and '.join(several)}; export .safetensors,"
                         " which names the network")
    if not fits:
        if source:
            raise SystemExit(f"{path} ({source}): its layers fit none of our networks"
                             f" ({' '.join(archs)}); choose another")
        first = " ".join(next(iter(tensors), "").split())[:50]
        raise SystemExit(f"{path}: weights of an unknown kind (the first is {first!r}); choose"
                         " train.py's, torchvision's, timm's, official SimSiam's, lightly's or"
                         " solo-learn's")
    source, ((arch, stem), zeros) = source or "lineval.py", next(iter(fits.items()))
    if bad := [key for key, w in weights.items() if not w.isfinite().all()]:
        raise SystemExit(f"{path} ({source}): its {bad[0]} is not finite; choose another")
    # The stem is the only hint at what images the weights were trained on.
    known = dict(IMAGENET) if stem == "imagenet" else dict.fromkeys(IMAGENET)
    if source == "solo-learn" and stem == "cifar":
        known["padding"] = 2  # which no weight shows
    return {**zeros, **weights}, {"arch": arch, "stem": stem, "source": source, **known}


def without_numbers(weights):
    """Weights with torchvision's names, if theirs are the numbers of an nn.Sequential."""
    if "0.weight" not in weights:
        return weights
    parts = {key: key.partition(".") for key in weights}
    return {NUMBERED.get(n, n) + dot + rest: weights[k] for k, (n, dot, rest) in parts.items()}


def load_weights(path, network, weights):
    """Load the weights of a backbone; SystemExit if names, shapes or types differ."""
    # load_state_dict() would convert whole numbers silently, and complex ones with a warning.
    if wrong := checkpoint.differs(weights, dict(network.state_dict()), "network"):
        raise SystemExit(f"{path}: not a checkpoint of train.py (its {wrong} does not fit); choose"
                         " another")
    network.load_state_dict(weights)


# ------------------------------------------------------------------------------------------------
# Out.


def safetensors(path):
    """The module safetensors.torch, which is not in requirements.txt; path: the file it is for."""
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError:
        raise SystemExit(f"{path}: this format needs a package: pip install safetensors")


def export(path, network, config, classes=()):
    """Write a backbone, or a classifier of these classes, and print how to load it.

    path: .pt: a state dict   .safetensors: the same, with metadata such as mean and std
    .pt2: a program that takes any number of images of one size
    """
    network = copy.deepcopy(network).to("cpu", memory_format=torch.contiguous_format).eval()
    network.bf16 = False  # whoever loads it decides
    about = {**config, "classes": list(classes)}
    about = {key: about[key] for key in ("arch", "stem", "padding", "image_size", "mean", "std",
                                         "commit", "classes") if about.get(key)}  # what is known
    state = dict(network.state_dict())
    ending, file = pathlib.Path(path).suffix, io.BytesIO()
    if ending == ".pt":
        torch.save(state, file)
    elif ending == ".safetensors":
        text = {key: v if isinstance(v, str) else json.dumps(v) for key, v in about.items()}
        file.write(safetensors(path).save(state, {"format": "pt", **text}))
    else:
        size = about.get("image_size", 224 if about["stem"] == "imagenet" else 32)
        program = torch.export.export(network, (torch.zeros(2, 3, size, size),),
                                      dynamic_shapes=({0: torch.export.Dim("N")},))
        torch.export.save(program, file, extra_files={"about.json": json.dumps(about)})
    runs.atomic_write(pathlib.Path(path), file.getvalue())
    print(f"{path}: {about['arch']}, {about['stem']} stem; to load it:")
    print("".join(f"    {line}\n" for line in usage(path, network, about)), end="")


def usage(path, network, about):
    """Lines of Python that load what export() wrote."""
    arch, stem, classes = about["arch"], about["stem"], len(about.get("classes", ()))
    ending, name = pathlib.Path(path).suffix, repr(str(path))
    if ending == ".pt2":
        lines = [f"net = torch.export.load({name}).module()"]
    elif arch in ("resnet18", "resnet34", "resnet50"):
        lines = [f"net = torchvision.models.{arch}({f'num_classes={classes}' * bool(classes)})",
                 f"# or net = timm.create_model({arch!r}, num_classes={classes})"]
        if stem == "cifar":
            padding = network.conv1.padding[0]
            lines += ["conv = torch.nn.Conv2d",
                      f"net.conv1 = conv(3, 64, 3, padding={padding}, bias=False)",
                      "net.maxpool = torch.nn.Identity()"]
        lines += ["net.fc = torch.nn.Identity()"] * (not classes)
    else:
        lines = [f"net = resnet.resnet({arch!r}, {stem!r}, {classes})  # resnet.py"]
    if ending == ".pt":
        lines += [f"net.load_state_dict(torch.load({name}))"]
        if "padding" in about or about.get("mean") not in (None, IMAGENET["mean"]):
            lines += ["# for lineval.py export .safetensors: only that keeps what is not a weight"]
    if ending == ".safetensors":
        lines += [f"net.load_state_dict(safetensors.torch.load_file({name}))"]
    if "mean" in about:
        numbers = (" ".join(f"{v:.3f}" for v in about[key]) for key in IMAGENET)
        lines += ["# images: RGB, 0 to 1, minus {}, divided by {}".format(*numbers)]
    return lines


def save_features(args, images, x, x_test):
    """Write what --features and --map ask for.   x, x_test: features (M, c), (N, c)"""
    if args.features:
        write_features(args.features, images, x, x_test)
    if args.map:
        plot.plot_map(args.map, x_test, images.test_labels, images.classes)


def write_features(path, images, x, x_test):
    """Write features (M, c) and (N, c), labels, class names and file names to an .npz file."""
    import numpy

    file = io.BytesIO()
    text = lambda words: numpy.array(words, dtype=str)  # also if there are none
    numpy.savez(file, x_train=x.cpu(), y_train=images.train_labels.cpu(), x_test=x_test.cpu(),
                y_test=images.test_labels.cpu(), classes=text(images.classes),
                files_train=text(images.names[0][:len(x)]), files_test=text(images.names[1]))
    runs.atomic_write(pathlib.Path(path), file.getvalue())
    print(f"{path}: features of {len(x)} training and {len(x_test)} test images")


# ------------------------------------------------------------------------------------------------
# The options of lineval.py that concern weights, and the images to evaluate them on.


def add_options(g):
    """Add the options of lineval.py that write files.   g: a parser's add_argument"""
    g("--export", metavar="FILE", help="write the backbone and stop, or with --finetune write the"
      " classifier; FILE must end in .pt, .safetensors or .pt2")
    g("--features", metavar="FILE.npz", help="also write the features, labels and file names")
    g("--map", metavar="FILE.png", help="also draw the features of the test images in the plane")


def checked(args, error):
    """The options of lineval.py, if they make sense.   error: reports a line and stops"""
    if bool(args.run) == args.pixels or args.pixels and not args.data:
        error("name a run or other weights, or --pixels and --data")
    if args.pixels and (args.finetune or args.export):
        error("--pixels: there is no network for --finetune or --export")
    if args.export and not args.finetune and (args.features or args.map):
        error("--export: without --finetune it writes the backbone and stops; use --features and"
              " --map in a separate call")
    if args.lr is not None and not 0 < args.lr <= 1e6:
        error(f"--lr {args.lr}: must be above 0 and at most a million")
    if not 0 < args.labels <= 1:
        error(f"--labels {args.labels}: must be above 0 and at most 1")
    own = [os.path.realpath(p) for p in (args.run or "", f"{args.run}/checkpoint.pt")]
    for option, endings in {"export": (".pt", ".safetensors", ".pt2"), "features": (".npz",),
                            "map": (".png",)}.items():
        path = getattr(args, option)
        if path and pathlib.Path(path).suffix not in endings:  # ".pt" alone has none
            error(f"--{option} {path}: must end in {' or '.join(endings)}, after a name")
        if path and os.path.realpath(path) in own:
            error(f"--{option} {path}: would overwrite the weights; choose another name")
        if path and not os.path.isdir(os.path.dirname(path) or "."):
            error(f"--{option} {path}: there is no such folder; make it, or choose another")
    return args


def load_images(args, config):
    """The images, on the device, and the file for the result, None if it is only printed.

    If not given, args.data and args.root are set to the run's own, and config's mean and std to
    those of the images.
    """
    args.data, args.root = args.data or config.get("data"), args.root or config.get("root")
    if not args.data:
        raise SystemExit("--data: must name the images, as in train.py; these weights do not")
    images = data.load(args.data, args.root or "datasets", config.get("image_size"),
                       args.skip_bad_images or config.get("skip_bad_images", False),
                       config.get("stored_size", config.get("image_size")))
    if config.get("mean") is None:
        config["mean"], config["std"] = images.mean_std()
    path = None
    if config.get("source") == "train.py":
        folder = args.run if os.path.isdir(args.run) else os.path.dirname(args.run)
        path = pathlib.Path(folder) / checkpoint.result_name(config, images, args.data)
    if args.labels < 1:
        images = images.with_labels(args.labels)
        path = path and path.with_stem(f"{path.stem}-labels-{args.labels:g}")
    return images.to(args.device), path


def check_labels(args, images):
    """SystemExit if the images have no labels and more is asked for than their features."""
    if not images.classes and (args.map or args.finetune or args.labels < 1 or not args.features):
        raise SystemExit(f"--data {args.data}: has no labels; use --features FILE.npz alone, or"
                         " choose other images to evaluate on")
