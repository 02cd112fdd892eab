"""Pictures: curves of runs, a sheet of views, nearest neighbours, and a map of features.

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


def line_style(i, n):
    """How to draw the i-th of n lines: colour, marker and dashes; they differ in grey too."""
    from matplotlib import cm

    return dict(color=cm.viridis(0.85 * i / max(1, n - 1)), marker="osv^DxP*"[i % 8], markersize=4,
                linestyle=("-", "--", ":", "-.")[i % 4])


def new_figure(columns, width, rows=1, height=3):
    """An empty figure of panels in rows and columns, rows of this height: figure, axis or axes."""
    import matplotlib

    matplotlib.use("Agg")  # draws into a file: a server has no screen
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=(width, rows * height), layout="constrained")


def save_figure(figure, path):
    """Write a figure to a PNG file, with a legend of its first panel's lines if they are named."""
    from matplotlib import pyplot

    # Matplotlib calls lines without a name _child0, _child1, ...; left to itself it would leave out
    # all other names that begin with _, too.
    handles = [each for each in (*figure.axes[0].lines, *figure.axes[0].collections)
               if not re.fullmatch(r"_child\d+", each.get_label())]
    if handles:
        labels = [each.get_label() for each in handles]
        # Names may be folder names: any bytes, and perhaps a $ that does not start a formula.
        labels = [label.encode("utf-8", "replace").decode() for label in labels]
        # First without them: until version 3.10 a legend leaves out names that begin with _.
        legend = figure.legend(handles, ["x"] * len(labels), loc="outside right center")
        for text, label in zip(legend.get_texts(), labels):
            text.set(parse_math=False, text=label)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100)
    pyplot.close(figure)  # or pyplot would keep it in memory
    atomic_write(path, picture.getvalue())


def plot_curves(path, runs, dim, references=None, began="untrained"):
    """Write the three panels of Fig. 2, and the effective rank as a fourth, to a PNG file.

    runs: {label: records of metrics.jsonl}   dim: d, or 0 if it differs between the runs
    references: {key of a record: {label: height}}, thin lines to compare with; the kNN of epoch 0
    of the first run is drawn, too, called `began`, and -1, the minimum of the cosine
    """
    panels = {  # key of a record: title, limits of the y axis, with room for the lines' names
        "loss": ("training loss", (-1.12, 0.05)),
        "std": (r"std of $z/\|z\|_2$, times $\sqrt{d}$", (0, 1.05)),
        "knn": ("kNN accuracy (%)", (0, 108)),
        "rank": ("effective rank of $z$" + f" (d = {dim})" * bool(dim), (0, None)),
    }
    figure, axes = new_figure(4, width=14)
    for i, (label, records) in enumerate(runs.items()):
        for axis, key in zip(axes, panels):
            points = [(r["epoch"], r[key]) for r in records if r[key] is not None]
            axis.plot(*zip(*points), label=label, **line_style(i, len(runs)))
    for axis, (key, (title, limits)) in zip(axes, panels.items()):
        axis.set(title=title, xlabel="epoch")
        # The limits are the same in all figures, so that they can be compared. But they are those
        # of the negative cosine; other losses are larger: the cross-entropy is about ln d.
        if key != "loss" or axis.get_ylim()[1] < 1:
            low, high = limits
            top = axis.dataLim.y1  # not finite if no rank is
            axis.set(ylim=(low, high or (1.05 * top if math.isfinite(top) else 1)))
            if key == "loss":
                reference_line(axis, -1, "minimum", va="top")
        axis.xaxis.get_major_locator().set_params(integer=True)
        for label, height in (references or {}).get(key, {}).items():
            reference_line(axis, height, label)
    first = next(iter(runs.values()))[0]
    if first["epoch"] == 0:
        reference_line(axes[2], first["knn"], began)
    save_figure(figure, path)


def plot_differences(path, found, scales):
    """Write a panel per scale with differences, their intervals and the paper's, to a PNG file.

    found: {name of a difference: {scale: (mean, (low, high)), "by": bound, "paper": mean}}, where
    a scale or the paper may be missing
    """
    figure, axes = new_figure(len(scales), width=14, height=0.2 * len(found) + 1)
    for axis, scale in zip(axes, scales):
        # Both 1 point and 70 points matter: linear up to 5, logarithmic beyond.
        axis.set_xscale("symlog", linthresh=5, linscale=0.7)
        rows = [(y, each["by"], *each[scale], each.get("paper", math.nan))
                for y, each in enumerate(found.values()) if scale in each]
        for y, by, _, (low, high), _ in rows:
            axis.plot([low, high], [y, y], color="0.5", zorder=1)
            axis.plot([by, by], [y - 0.4, y + 0.4], color="0.6", linewidth=0.8, zorder=0)
        y, _, means, _, paper = zip(*rows) if rows else [()] * 5
        axis.scatter(means, y, color="black", s=16, label="difference, and its interval")
        axis.scatter(paper, y, color="red", marker="x", s=24, label="the paper's difference")
        ticks = (-50, -20, -10, -5, -2, 0, 2, 5, 10, 20, 50)
        axis.set_xticks(ticks, ticks, fontsize=8)
        axis.tick_params(axis="x", top=True, labeltop=True)  # the figure is a page high
        axis.set(title=scale, xlabel="percentage points", xlim=(-99, 99), ylim=(len(found), -1))
        axis.set_yticks(range(len(found)), found if axis is axes[0] else [], fontsize=8)
    save_figure(figure, path)


def references(classes, std, rank):
    """Lines for plot_curves(): std and rank below which outputs have collapsed; chance kNN."""
    return {"std": {"collapsed below": std}, "rank": {"collapsed below": rank},
            "knn": {"chance": 100 / len(classes)}}


def reference_line(axis, y, label, va="bottom"):
    """Draw a thin line across a panel, with its name at the right end."""
    axis.axhline(y, color="0.6", linewidth=0.6, zorder=0)
    axis.text(0.99, y, label, transform=axis.get_yaxis_transform(), color="0.4", fontsize=6,
              ha="right", va=va)


MARGIN = 48  # pixels to the left of the views, for the names of the rows


def save_views(originals, views, path):
    """Write a sheet of images to a PNG file: in each column an original above its views.

    originals: (N, 3, S, S) in [0, 1]   views: a list of tensors like it   path: a pathlib.Path
    """
    from PIL import Image, ImageDraw
    from torchvision.transforms.functional import to_pil_image
    from torchvision.utils import make_grid

    sheet = torch.cat([originals, *views])
    scale = max(1, 72 // sheet.shape[3])  # small images are enlarged to about 72 px
    for axis in (2, 3):
        sheet = sheet.repeat_interleave(scale, dim=axis)
    grid = to_pil_image(make_grid(sheet, nrow=len(originals)))
    labelled = Image.new("RGB", (MARGIN + grid.width, grid.height), "white")
    labelled.paste(grid, (MARGIN, 0))
    for i, name in enumerate(["image", *(f"view {i + 1}" for i in range(len(views)))]):
        y = grid.height * (2 * i + 1) // (2 * (1 + len(views)))  # the middle of the row
        ImageDraw.Draw(labelled).text((6, y - 6), name, fill="black")
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


def save_neighbours(path, queries, blocks):
    """Write a PNG file that shows images beside their nearest neighbours, a block for each run.

    queries: (n, 3, S, S) uint8   blocks: a list of (title, neighbours (n, k, 3, S, S) uint8, the
    nearest first, right (n, k) bool: which of them get a frame)
    """
    from matplotlib.patches import Rectangle

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
        for x, name in ((-0.5, "test"), (1, "nearest training images; framed: of the same class")):
            axis.text(x, n + 0.05, name, fontsize=7, color="0.4")
        axis.set_title(title, fontsize=8, loc="left", pad=14, parse_math=False)
        axis.axis("off")
    save_figure(figure, path)
