"""Pictures: the curves of one run or of several, a sheet of views, and a map of features.

matplotlib and torchvision are imported inside the functions: it takes time, and --help, for one,
draws nothing.
"""

import contextlib
import io
import pathlib

from utils.runs import atomic_write


def line_style(i, n):
    """How to draw the i-th of n lines: colour, marker and dashes; they differ in grey too."""
    from matplotlib import cm

    return dict(color=cm.viridis(0.85 * i / max(1, n - 1)), marker="osv^DxP*"[i % 8], markersize=4,
                linestyle=("-", "--", ":", "-.")[i % 4])


def new_figure(columns, width, height=3):
    """An empty figure of panels side by side: figure, axes."""
    import matplotlib

    matplotlib.use("Agg")  # draws into a file: a server has no screen
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=(width, height), layout="constrained")


def save_figure(figure, path):
    """Write a figure to a PNG file, with a legend of its first panel's lines if they are named."""
    from matplotlib import pyplot

    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        # Names may be those of folders: of any bytes, and with a $, which starts no formula here.
        labels = [label.encode("utf-8", "replace").decode() for label in labels]
        for text in figure.legend(handles, labels, loc="outside right center").get_texts():
            text.set_parse_math(False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100)
    pyplot.close(figure)  # or pyplot would keep it in memory
    atomic_write(path, picture.getvalue())


def plot_curves(path, runs, dim, references=None):
    """Write the three panels of Fig. 2, and the effective rank as a fourth, to a PNG file.

    runs: {label: records of metrics.jsonl}   dim: d, or 0 if it differs between the runs
    references: {label: kNN accuracy}, thin lines to compare with; the untrained network's, epoch 0
    of the first run, is always there, as is the least loss, -1
    """
    panels = {  # key of a record: title, limits of the y axis
        "loss": ("training loss", (-1.05, 0.05)),
        "std": (r"std of $z/\|z\|_2$, times $\sqrt{d}$", (0, 1.05)),
        "knn": ("kNN accuracy (%)", (0, 100)),
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
            axis.set(ylim=limits)
            if key == "loss":
                reference_line(axis, -1, "minimum", va="top")
        axis.xaxis.get_major_locator().set_params(integer=True)
    first, references = next(iter(runs.values()))[0], dict(references or {})
    if first["epoch"] == 0:
        references["untrained"] = first["knn"]
    for label, knn in references.items():
        reference_line(axes[2], knn, label)
    save_figure(figure, path)


def reference_line(axis, y, label, va="bottom"):
    """Draw a thin line across a panel, with its name at the right end."""
    axis.axhline(y, color="0.6", linewidth=0.6, zorder=0)
    axis.text(0.99, y, label, transform=axis.get_yaxis_transform(), color="0.4", fontsize=6,
              ha="right", va=va)


def save_views(originals, views, path):
    """Write a sheet of images to a PNG file: in each column an original above its views.

    originals: (N, 3, S, S) in [0, 1]   views: a list of tensors like it   path: a pathlib.Path
    """
    import torch
    from torchvision.utils import save_image

    sheet = torch.cat([originals, *views])
    scale = max(1, 72 // sheet.shape[3])  # small images are enlarged to about 72 px
    for axis in (2, 3):
        sheet = sheet.repeat_interleave(scale, dim=axis)
    picture = io.BytesIO()
    save_image(sheet, picture, format="png", nrow=len(originals))
    atomic_write(path, picture.getvalue())


def plot_map(path, x, labels, classes):
    """Draw features (N, c) in the plane, coloured by label (N,): a PNG file.

    Their first two principal components, and if scikit-learn is installed t-SNE beside them: of
    2000 at most, at length 1, as kNN compares them   classes: the names of the labels
    """
    import torch
    from matplotlib import colormaps

    step = -(-len(x) // 2000)  # not the first 2000: folders are sorted by class
    x, labels = torch.nn.functional.normalize(x[::step].cpu().float(), dim=1), labels[::step].cpu()
    u, s, _ = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)
    share = s[:2].square() / s.square().sum()
    panels = {f"PCA: {share[0]:.0%} and {share[1]:.0%} of the variance": u[:, :2] * s[:2]}
    with contextlib.suppress(ImportError):
        from sklearn.manifold import TSNE

        tsne = TSNE(perplexity=min(30, len(x) / 4), random_state=0)
        panels["t-SNE"] = torch.from_numpy(tsne.fit_transform(x.numpy()))
    figure, axes = new_figure(len(panels), 5 * len(panels) + 2, height=5)
    few = len(classes) <= 20
    colours = colormaps["tab10" if len(classes) <= 10 else "tab20" if few else "hsv"]
    for axis, (title, points) in zip(axes if len(panels) > 1 else [axes], panels.items()):
        for label, name in enumerate(classes):
            axis.scatter(*points[labels == label].T, s=14, linewidths=0, alpha=0.7,
                         color=colours(label if few else label / len(classes)),
                         marker="osv^DXP*"[label % 8], label=name if few else None)
        axis.set(title=title, xticks=[], yticks=[])
    save_figure(figure, pathlib.Path(path))
