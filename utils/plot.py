"""Pictures: curves, differences, a sheet of views, nearest neighbours, and a map of features.

matplotlib and torchvision are imported inside the functions: importing takes time, and --help,
for one, draws nothing.
"""

import contextlib
import io
import math
import pathlib
import re

import torch

from utils.runs import atomic_write


# Colours that the colour-blind can tell apart: Okabe and Ito's, without their yellow. With seven of
# them, eight markers and four dashes only the 57th line looks like the first.
COLOURS = "#000000", "#D55E00", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"


def line_style(i):
    """How to draw the i-th line: colour, marker and dashes; lines differ in grey too."""
    return dict(color=COLOURS[i % 7], marker="osv^DxP*"[i % 8], markersize=4,
                linestyle=("-", "--", ":", "-.")[i % 4])


def new_figure(columns, width, rows=1, height=3):
    """An empty figure of panels in rows and columns, rows of this height: figure, axis or axes."""
    # Not by pyplot, which keeps every figure, wants a screen, and in a notebook shows its pictures.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, rows * height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def legend_columns(labels, width):
    """How many columns of a legend fit side by side into a figure of this width, in inches."""
    # About eleven characters to the inch; a line's sample and the space around take eight.
    return max(1, min(len(labels), int(11 * width) // (8 + max(map(len, labels)))))


def save_figure(figure, path, legend="right"):
    """Write a figure to a PNG file, with a legend of its first panel's lines if they are named.

    legend: where it stands, outside the panels: "right", "upper" or "lower"
    """
    # Matplotlib calls lines without a name _child0, _child1, ...; left to itself it would leave out
    # all other names that begin with _, too.
    handles = [each for each in (*figure.axes[0].lines, *figure.axes[0].collections)
               if not re.fullmatch(r"_child\d+", each.get_label())]
    if handles:
        labels = [each.get_label() for each in handles]
        # Names may be folder names: any bytes, and perhaps a $ that does not start a formula.
        labels = [label.encode("utf-8", "replace").decode() for label in labels]
        columns = 1 if legend == "right" else legend_columns(labels, figure.get_figwidth())
        # First without them: until version 3.10 a legend leaves out names that begin with _.
        drawn = figure.legend(handles, ["x"] * len(labels), loc=f"outside {legend} center",
                              ncols=columns)
        for text, label in zip(drawn.get_texts(), labels):
            text.set(parse_math=False, text=label)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100)
    atomic_write(path, picture.getvalue())


def plot_curves(path, runs, dim, references=None, began="untrained", ends=None):
    """Write the three panels of Fig. 2, and the effective rank as a fourth, to a PNG file.

    runs: {label: records of metrics.jsonl}   dim: d, or 0 if it differs between the runs
    references: {key of a record: {label: height}}, thin lines to compare with; drawn, too: kNN at
    epoch 0 of the first run, called `began`, and of raw pixels; and -1, the cosine's minimum
    ends: {label: the last records of all seeds}, drawn as circles
    """
    references = {key: dict(lines) for key, lines in (references or {}).items()}
    labelled = any(r["knn"] is not None for records in runs.values() for r in records)
    knn_title = "kNN accuracy (%)" if labelled else "kNN accuracy: no labels"
    panels = {  # key of a record: title, limits of the y axis
        "loss": ("training loss", (-1.1, 0.05)),
        "std": (r"std of $z/\|z\|_2$, times $\sqrt{d}$", (0, 1.05)),
        # Up to the supervised run, if there is one: no other comes near it on photographs.
        "knn": (knn_title, (0, 1.05 * references.get("knn", {}).get("supervised", 100))),
        "rank": ("effective rank of $z$" + f" (d = {dim})" * bool(dim), (0.9, None)),
    }
    figure, axes = new_figure(2, width=9, rows=2, height=2.8 + 0.1 * math.ceil(
        len(runs) / legend_columns(runs, 9)))
    for axis, (key, (title, limits)) in zip(axes.flat, panels.items()):
        for i, (label, records) in enumerate(runs.items()):
            draw_curve(axis, key, label, records, (ends or {}).get(label, ()), line_style(i))
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        set_limits(axis, key, *limits)
        if key == "loss" and axis.get_ylim() == limits:
            references["loss"] = {"minimum": -1}
        elif key == "loss" and len(runs) > 1:
            axis.set_title(f"{title} (of different kinds)")
        first = next(iter(runs.values()))[0]
        if key == "knn" and first["epoch"] == 0 and first["knn"] is not None:
            references.setdefault("knn", {})[began] = first["knn"]
            if first.get("pixels_knn") is not None:
                references["knn"]["raw pixels"] = first["pixels_knn"]
        if key == "knn" and not labelled:
            axis.axis("off")
        reference_lines(axis, references.get(key, {}))
    save_figure(figure, path, "lower")


def draw_curve(axis, key, label, records, ends, style):
    """Draw one run's curve in one panel, and where the curves of all seeds end."""
    points = [(r["epoch"], r[key]) for r in records if r[key] is not None]
    axis.plot(*zip(*points), label=label, markevery=math.ceil(len(points) / 25), **style)
    axis.plot([r["epoch"] for r in ends], [r[key] for r in ends], "o", color=style["color"],
              markersize=5, fillstyle="none")


def set_limits(axis, key, low, high):
    """Give a panel the limits that it has in all figures, so that they can be compared."""
    bottom, top = axis.dataLim.intervaly
    if key == "rank":  # 1 and 2 decide whether it has collapsed, and healthy runs have 10 to 1000
        axis.set_yscale("log", subs=[])
        axis.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        axis.yaxis.set_major_formatter("{x:g}")
        high = max(10, 1.3 * top) if math.isfinite(top) else 10
    # The limits of the loss are the negative cosine's. Others differ: the cross-entropy is about
    # ln d. Several of them in one panel cannot be compared.
    if key != "loss" or (low <= bottom and top <= high) or not math.isfinite(bottom):
        axis.set_ylim(low, high)


def plot_differences(path, found, scales):
    """Write a panel per scale with differences, their intervals and the paper's, to a PNG file.

    found: {(group, name of a difference): {scale: (mean, (low, high)), "by": bound, "paper": mean}}
    where a scale or the paper may be missing
    """
    names = []  # one per line of the figure: differences, each group below its own name
    for group, name in found:
        names += [] if (group, None) in names else [(group, None)]
        names.append((group, name))
    figure, axes = new_figure(len(scales), width=10, height=0.17 * len(names) + 2)
    for axis, scale in zip(axes, scales):
        measured = [(y, found[key]) for y, key in enumerate(names) if scale in found.get(key, ())]
        draw_differences(axis, [
            (y, each["by"], each[scale][0], *each[scale][1], each.get("paper", math.nan))
            for y, each in measured])
        axis.set(title=scale, xlim=(-99, 99), ylim=(len(names), -1))
        axis.set_xlabel("percentage points; logarithmic beyond 5", fontsize=8)
        axis.set_yticks(range(len(names)), [])
    axes[0].set_yticks(range(len(names)), [name or group for group, name in names], fontsize=7)
    for text, (_, name) in zip(axes[0].get_yticklabels(), names):
        text.set_fontweight("normal" if name else "bold")
    save_figure(figure, path, "upper")


def draw_differences(axis, rows):
    """Draw a panel of plot_differences().   rows: [(y, bound, mean, low, high, the paper's)]"""
    # Both 1 point and 70 points matter: linear up to 5, logarithmic beyond.
    axis.set_xscale("symlog", linthresh=5, linscale=0.7)
    y, bounds, means, lows, highs, papers = zip(*rows) if rows else [()] * 6
    axis.hlines(y, -99, 99, color="0.92", linewidth=0.6, zorder=0)  # to guide the eye
    axis.hlines(y, lows, highs, color="0.5", zorder=1)
    # An interval that leaves the panel ends in an arrow.
    axis.scatter([-98] * len(y), y, [16 * (low < -99) for low in lows], color="0.5", marker="<")
    axis.scatter([98] * len(y), y, [16 * (high > 99) for high in highs], color="0.5", marker=">")
    axis.scatter(bounds, y, 60, color="0.5", marker="|", linewidth=0.8, zorder=1,
                 label="the bound that the claim names")
    axis.scatter(means, y, 12, color="black", label="difference, and its interval")
    axis.scatter(papers, [each + 0.25 for each in y], 14, color="red", marker="x",
                 label="the paper's difference")
    ticks = (-50, -10, -5, -2, 0, 2, 5, 10, 50)
    axis.set_xticks(ticks, ticks, fontsize=7)
    axis.tick_params(axis="x", top=True, labeltop=True)  # the figure is a page high


def references(classes, std, rank):
    """Lines for plot_curves(): std and rank below which outputs have collapsed; chance kNN."""
    return {"std": {f"collapsed\nbelow {std:g}": std},
            "rank": {f"collapsed\nbelow {rank:g}": rank},
            "knn": {"chance": 100 / len(classes)} if classes else {}}


def reference_lines(axis, heights):
    """Draw thin lines across a panel, and to its right their names.   heights: {name: y}"""
    previous = -1.0
    for label, y in sorted(heights.items(), key=lambda line: line[1]):
        axis.axhline(y, color="0.6", linewidth=0.6, zorder=0)
        # As a share of the panel's height; names of lines that are close keep apart.
        _, place = (axis.transScale + axis.transLimits).transform((0, y))
        previous = max(place, previous + 0.07)
        axis.text(1.02, previous, label, transform=axis.transAxes, color="0.3", fontsize=8,
                  va="center")


MARGIN, HEAD = 48, 14  # pixels to the left of and above the views, for names and numbers


def save_views(originals, views, path):
    """Write a sheet of images to a PNG file: in each column, numbered, an original above its views.

    originals: (N, 3, S, S) in [0, 1]   views: a list of tensors like it   path: a pathlib.Path
    """
    from PIL import Image, ImageDraw
    from torchvision.transforms.functional import to_pil_image
    from torchvision.utils import make_grid

    sheet = torch.cat([originals, *views])
    scale = max(1, 72 // sheet.shape[3])  # small images are enlarged, to at most 72 px
    for axis in (2, 3):
        sheet = sheet.repeat_interleave(scale, dim=axis)
    grid = to_pil_image(make_grid(sheet, nrow=len(originals)))
    labelled = Image.new("RGB", (MARGIN + grid.width, HEAD + grid.height), "white")
    labelled.paste(grid, (MARGIN, HEAD))
    names = ["image", *(f"view {i + 1}" for i in range(len(views)))]
    middle = lambda i, n, length: length * (2 * i + 1) // (2 * n)  # of the i-th of n parts
    for i, name in enumerate(names):
        y = HEAD + middle(i, len(names), grid.height)
        ImageDraw.Draw(labelled).text((6, y - 6), name, fill="black")
    for i in range(len(originals)):
        x = MARGIN + middle(i, len(originals), grid.width)
        ImageDraw.Draw(labelled).text((x - 4, 1), str(i + 1), fill="black")
    picture = io.BytesIO()
    labelled.save(picture, format="png")
    atomic_write(path, picture.getvalue())


def plot_map(path, x, labels, classes):
    """Draw features (N, c) in the plane, coloured by label (N,): a PNG file.

    Their first two principal components and, if scikit-learn is installed, t-SNE: of at most 2000
    features, scaled to length 1, as kNN compares them   classes: the names of the labels
    """
    from matplotlib import colormaps

    step = math.ceil(len(x) / 2000)  # not the first 2000: folders are sorted by class
    x, labels = torch.nn.functional.normalize(x[::step].cpu().float(), dim=1), labels[::step].cpu()
    u, s, _ = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)
    share = s[:2].square() / s.square().sum()
    panels = {f"PCA: {share[0]:.0%} and {share[1]:.0%} of the variance": u[:, :2] * s[:2]}
    with contextlib.suppress(ImportError):
        from sklearn.manifold import TSNE

        tsne = TSNE(perplexity=min(30, len(x) / 4), random_state=0)
        panels["t-SNE"] = torch.from_numpy(tsne.fit_transform(x.numpy()))
    figure, _ = new_figure(len(panels), 5 * len(panels) + 2, height=5)
    few = len(classes) <= 20
    colours = colormaps["tab10" if len(classes) <= 10 else "tab20" if few else "hsv"]
    for axis, (title, points) in zip(figure.axes, panels.items()):
        for label, name in enumerate(classes):
            axis.scatter(*points[labels == label].T, s=14, linewidths=0, alpha=0.7,
                         color=colours(label if few else label / len(classes)),
                         marker="osv^DXP*"[label % 8], label=name if few else None)
        axis.set(title=title, xticks=[], yticks=[])
    save_figure(figure, pathlib.Path(path))


def save_neighbours(path, queries, blocks, labelled=True):
    """Write a PNG file that shows images beside their nearest neighbours, a block for each run.

    queries: (n, 3, S, S) uint8   blocks: a list of (title, neighbours (n, k, 3, S, S) uint8, the
    nearest first, right (n, k) bool: which of them get a frame)   labelled: whether there are
    classes, and so frames
    """
    from matplotlib.patches import Rectangle

    query, rest = "test" if labelled else "image", "; framed: of the same class" * labelled

    n, k = blocks[0][2].shape
    figure, _ = new_figure(1, width=0.55 * (k + 1.5), rows=len(blocks), height=0.55 * n + 0.5)
    for axis, (title, neighbours, right) in zip(figure.axes, blocks):
        for row in range(n):
            # A gap of half an image sets the query apart.
            for x, image in zip([-0.5, *range(1, k + 1)], [queries[row], *neighbours[row]]):
                axis.imshow(image.permute(1, 2, 0).numpy(), extent=(x, x + 1, n - row - 1, n - row))
        for row, column in right.nonzero().tolist():
            axis.add_patch(Rectangle((1 + column + 0.05, n - row - 0.95), 0.9, 0.9, fill=False,
                                     edgecolor="limegreen", linewidth=2))
        axis.set(xlim=(-0.5, k + 1), ylim=(0, n), aspect="equal")
        for x, name in ((-0.5, query), (1, f"nearest training images{rest}")):
            axis.text(x, n + 0.05, name, fontsize=7, color="0.4")
        axis.set_title(title, fontsize=8, loc="left", pad=14, parse_math=False)
        axis.axis("off")
    save_figure(figure, path)
