"""Every figure is drawn and read back: axes, lines, names.    pytest tests/test_figures.py"""

import sys

import pytest
import torch
from matplotlib import colormaps, pyplot
from matplotlib.colors import to_hex, to_rgba
from PIL import Image, ImageDraw

from experiments import opt_optimizers, table, theory_directpred, theory_spectrum
from experiments.table import Row
from utils import plot

VIRIDIS = colormaps["viridis"]


@pytest.fixture
def drawn(monkeypatch):
    """[(figure, path)] of all figures that a test draws; they stay open and are not written."""
    kept = []
    for module in (plot, opt_optimizers, theory_directpred, theory_spectrum):
        monkeypatch.setattr(module, "save_figure", lambda *args: kept.append(args))
    yield kept
    pyplot.close("all")


def look(line):
    """What tells a line from others: its colour, marker and dashes."""
    return to_hex(line.get_color()), line.get_marker(), line.get_linestyle()


STYLES = [(marker, dashes) for marker, dashes in zip("osv^DxP*", 2 * ["-", "--", ":", "-."])]


def looks(n):
    """What n lines look like: from the dark to the light end of viridis, but not to its yellow."""
    return [(to_hex(VIRIDIS(0.85 * i / max(1, n - 1))), *STYLES[i % 8]) for i in range(n)]


RECORDS = [dict(epoch=i, loss=-i / 4, std=0.2 * i, rank=5.0 + i, knn=10.0 + i) for i in range(3)]
PANELS = [("loss", -1.12, 0.05), ("sqrt{d}", 0, 1.05), ("kNN accuracy (%)", 0, 108),
          ("rank", 0, 1.05 * 8)]  # the largest rank is 8


@pytest.mark.parametrize("dim, began", [(32, "untrained"), (0, "loaded")])
def test_the_curves_have_four_panels_with_their_names_limits_and_one_style_a_run(dim, began, drawn):
    other = [dict(r, rank=r["rank"] + 1, knn=r["knn"] + 40) for r in RECORDS]
    lines = {"std": {"low": 0.1}, "rank": {"few": 2.0}, "knn": {"chance": 10.0, "pixels": 40.0}}
    plot.plot_curves("a path", {"first": RECORDS, "second": other}, dim, lines, began)
    ((figure, path),) = drawn
    assert path == "a path" and figure.get_size_inches().tolist() == [14, 3]
    for axis, key, (title, low, high) in zip(
            figure.axes, ("loss", "std", "knn", "rank"), PANELS, strict=True):
        assert title in axis.get_title() and axis.get_xlabel() == "epoch"
        assert axis.get_ylim() == pytest.approx((low, high))
        assert all(float(x).is_integer() for x in axis.xaxis.get_major_locator()())
        runs, rules = axis.lines[:2], axis.lines[2:]
        assert [line.get_label() for line in runs] == ["first", "second"]
        assert list(map(look, runs)) == looks(2)
        expected = {**lines.get(key, {}), **{"loss": {"minimum": -1}, "knn": {
            began: 10.0}}.get(key, {})}  # of the first run
        assert sorted(line.get_ydata()[0] for line in rules) == sorted(expected.values())
        for line in rules:  # across the whole panel, behind the curves, thinner and grey
            assert list(line.get_xdata()) == [0, 1] and line.get_zorder() < runs[0].get_zorder()
            assert line.get_linewidth() < runs[0].get_linewidth() and "0.6" == line.get_color()
        for text in axis.texts:  # at the right end, above its line; "minimum" below it
            x, y = text.get_position()
            assert y == expected[text.get_text()] and 0.9 < x < 1 and text.get_ha() == "right"
            assert text.get_va() == ("top" if text.get_text() == "minimum" else "bottom")
        assert len(axis.texts) == len(expected)
    assert figure.axes[3].get_title().endswith(" (d = 32)" if dim else "of $z$")


def test_the_references_are_the_two_bounds_of_a_collapse_and_the_chance_of_a_class():
    assert plot.references("abcde", 0.25, 3.0) == {
        "std": {"collapsed below": 0.25}, "rank": {"collapsed below": 3.0}, "knn": {"chance": 20}}


@pytest.mark.parametrize("n", [1, 2, 9])
def test_lines_go_from_dark_to_light_and_repeat_their_markers_after_eight(n):
    _, axis = plot.new_figure(1, 3)
    for i in range(n):
        axis.plot([0, 1], **plot.line_style(i, n))
    assert list(map(look, axis.lines)) == looks(n)
    assert {line.get_markersize() for line in axis.lines} == {4}
    pyplot.close("all")


def test_a_figure_has_the_panels_and_the_size_asked_for():
    figure, axes = plot.new_figure(2, width=6, rows=3, height=2)
    assert axes.shape == (3, 2) and figure.get_size_inches().tolist() == [6, 6]
    assert pyplot.get_backend().lower() == "agg"
    pyplot.close("all")


def test_the_legend_names_the_lines_of_the_first_panel_in_order_as_plain_text(tmp_path):
    figure, axes = plot.new_figure(2, width=6)
    for name in "b", "a $x$", "c\udcff":
        axes[0].plot([0, 1], label=name)
    axes[1].plot([0, 1], label="of the second panel")
    plot.save_figure(figure, tmp_path / "a.png")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["b", "a $x$", "c?"]
    assert not any(text.get_parse_math() for text in legend.get_texts())
    assert legend._outside_loc == "right"  # does not cover a line
    assert Image.open(tmp_path / "a.png").size == (600, 300)
    assert figure.number not in pyplot.get_fignums()  # closed


def test_each_row_of_a_sheet_of_views_is_named_in_the_middle_of_its_images(tmp_path, monkeypatch):
    named, real = [], ImageDraw.Draw
    monkeypatch.setattr(ImageDraw, "Draw", lambda image: type("", (), {
        "text": lambda self, at, text, fill: named.append((text, at, fill))
        or real(image).text(at, text, fill=fill)})())
    x = torch.rand(2, 3, 36, 36)
    plot.save_views(x, [x, x], tmp_path / "views.png")
    assert [text for text, _, _ in named] == ["image", "view 1", "view 2"]
    for row, (_, (x, y), fill) in enumerate(named):
        middle = 2 + 74 * row + 36  # images of 36 px are enlarged to 72, with 2 px between them
        assert 0 < x < plot.MARGIN and abs(y + 6 - middle) <= 2 and fill == "black"
    assert Image.open(tmp_path / "views.png").size == (plot.MARGIN + 2 * 74 + 2, 3 * 74 + 2)
    plot.save_views(torch.rand(2, 3, 100, 100), [], tmp_path / "views.png")  # not enlarged
    assert Image.open(tmp_path / "views.png").size == (plot.MARGIN + 2 * 102 + 2, 102 + 2)


@pytest.mark.parametrize("classes, palette", [
    (3, "tab10"), (10, "tab10"), (20, "tab20"), (21, "hsv")])
def test_each_class_of_a_map_has_a_colour_and_up_to_twenty_a_name(
        classes, palette, drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    names, labels = [f"class {i}" for i in range(classes)], torch.arange(84) % classes
    x = torch.randn(84, 4, generator=torch.Generator().manual_seed(0))
    plot.plot_map("a path", x, labels, names)
    ((figure, path),) = drawn
    (axis,) = figure.axes
    assert str(path) == "a path" and figure.get_size_inches().tolist() == [7, 5]
    assert not len(axis.get_xticks()) and not len(axis.get_yticks())  # directions mean nothing
    few = classes <= 20
    assert axis.get_legend_handles_labels()[1] == (names if few else [])
    unit = torch.nn.functional.normalize(x, dim=1)
    directions = torch.linalg.eigh(torch.cov(unit.T))[1].flip(1)[:, :2]
    expected = (unit - unit.mean(dim=0)) @ directions  # up to the signs of the directions
    for label, group in enumerate(axis.collections):
        colour = colormaps[palette](label if few else label / classes)
        assert to_rgba(group.get_facecolor()[0])[:3] == pytest.approx(colour[:3])
        points = torch.from_numpy(group.get_offsets().data).float()
        assert torch.allclose(points.abs(), expected[labels == label].abs(), atol=1e-4)
    shapes = [group.get_paths()[0].vertices.shape for group in axis.collections]
    assert len(set(shapes)) > 1  # markers differ, too


def test_neighbours_stand_in_a_grid_with_a_head_over_the_query_and_one_over_the_rest(drawn):
    images = torch.zeros(3, 4, 3, 8, 8, dtype=torch.uint8)
    right = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]], dtype=torch.bool)
    plot.save_neighbours("a path", images[:, 0], [("a", images, right), ("a", images, right)])
    ((figure, path),) = drawn
    assert path == "a path" and len(figure.axes) == 2  # one above the other
    width, height = figure.get_size_inches()
    assert width == pytest.approx(0.55 * 5.5) and height == pytest.approx(2 * (0.55 * 3 + 0.5))
    for axis in figure.axes:
        assert axis.get_xlim() == (-0.5, 5) and axis.get_ylim() == (0, 3)
        assert axis.get_aspect() in (1, "equal") and not axis.axison
        for image in axis.images:
            left, end, bottom, top = image.get_extent()
            assert end - left == top - bottom == 1
        assert {image.get_extent()[0] for image in axis.images} == {-0.5, 1, 2, 3, 4}
        test, nearest = axis.texts
        assert (test.get_text(), test.get_position()[0]) == ("test", -0.5)
        assert nearest.get_text().startswith("nearest") and nearest.get_position()[0] == 1
        for frame in axis.patches:  # within its image
            assert (frame.get_width(), frame.get_height()) == (0.9, 0.9) and not frame.get_fill()
            assert [frame.get_x() % 1, frame.get_y() % 1] == pytest.approx([0.05, 0.05])
    assert figure.axes[0].get_position().y0 > figure.axes[1].get_position().y0


# ------------------------------------------------------------------------------------------------
# The figures of single experiments


def test_the_phase_planes_are_named_and_each_p_has_a_style_of_its_own(drawn, monkeypatch):
    asked = []
    monkeypatch.setattr(theory_directpred, "trajectory", lambda p, s, eta: (
        asked.append((p, s, eta)), ([p, 0.1], [s, 0.2]))[1])
    theory_directpred.figure({}, "a path")
    ((figure, path),) = drawn
    starts = [(p, s) for p in (0.05, 0.4, 0.8) for s in (0.1, 0.5, 1.0)]
    # η = 1 / (4 (1 + v)) with v = 1 / 4 is 0.2.
    assert asked == [(*start, pytest.approx(eta)) for eta in (0.1, 0.24) for start in starts]
    assert path == "a path" and len(figure.axes) == 2
    for axis, share in zip(figure.axes, ("0.5", "1.2")):
        assert f"= {share} of the threshold" in axis.get_title()
        assert axis.get_xlabel()[0] == "p" and axis.get_ylabel()[0] == "s"
        assert axis.get_xlim() == (0, 1) and axis.get_ylim() == (0, 1.6)
        assert axis.get_legend_handles_labels()[1] == ["p = 0.05", "p = 0.4", "p = 0.8"]
        paths, dots = axis.lines[::2], axis.lines[1::2]
        assert [tuple(dot.get_xydata()[0]) for dot in dots] == starts
        for i, line in enumerate(paths):  # three starts share a p
            colour, _, dashes = looks(3)[i // 3]
            assert look(line) == (colour, "", dashes)  # markers would hide the path


def test_the_spectra_are_logarithmic_and_the_bars_have_the_colours_of_their_lines(drawn):
    outputs = {"singular values": [0.6, 0.4], "centre": 0.6, "alignment": 1.5, "uniformity": -2.0}
    diverged = {"diverged": ({"outputs": {"centre": float("nan")}}, [])}
    theory_spectrum.figure(
        diverged | {name: ({"outputs": outputs}, []) for name in "abc"}, "a path")
    ((figure, path),) = drawn
    spectrum, bars = figure.axes
    assert path == "a path" and spectrum.get_yscale() == "log" and bars.get_yscale() == "linear"
    assert "singular values" in spectrum.get_title() and spectrum.get_xlabel() == "number"
    assert spectrum.get_ylim() == (1e-5, 1)
    assert list(map(look, spectrum.lines)) == looks(3)
    assert [to_hex(bar.get_facecolor()) for bar in bars.patches] == [
        colour for colour, _, _ in looks(3) for _ in range(4)]
    assert bars.lines[0].get_ydata()[0] == 0  # uniformity is negative
    assert [label.get_text() for label in bars.get_xticklabels()] == [
        "$m_o$", "$m_r$", "alignment", "uniformity"]


def test_the_optimisers_are_drawn_over_a_logarithmic_rate_each_in_its_own_style(drawn):
    logs = {f"{name}, lr {lr}, held out": (None, [{"knn": 50.0}])
            for name in opt_optimizers.OPTIMIZERS for lr in (0.1, 1)}
    opt_optimizers.figure(logs, "a path")
    ((figure, path),) = drawn
    (axis,) = figure.axes
    assert path == "a path" and axis.get_xscale() == "log" and axis.get_yscale() == "linear"
    assert axis.get_ylim() == (0, 102) and list(map(look, axis.lines)) == looks(7)
    assert "learning rate" in axis.get_xlabel() and "kNN" in axis.get_ylabel()
    assert "held-out" in axis.get_title() and "seed 0" in axis.get_title()


def test_a_difference_is_drawn_with_its_interval_where_its_scale_has_it_and_the_paper_s_beside_it(
        drawn):
    found = {"a - b": {"shapes": (3.0, (-1.0, 7.0)), "photographs": (1.0, (0.5, 1.5)), "by": 0.0},
             "c - d": {"photographs": (-20.0, (-30.0, -10.0)), "by": -1.0, "paper": -2.0}}
    plot.plot_differences("a path", found, ("shapes", "photographs"))
    ((figure, path),) = drawn
    expected = [([[-1, 7]], [[3, 0]], []),
                ([[0.5, 1.5], [-30, -10]], [[1, 0], [-20, 1]], [[-2, 1]])]
    for axis, scale, (intervals, means, papers) in zip(
            figure.axes, ("shapes", "photographs"), expected, strict=True):
        assert axis.get_title() == scale and "points" in axis.get_xlabel()
        lines = [list(line.get_xdata()) for line in axis.lines]
        assert lines[::2] == intervals and axis.yaxis_inverted()  # the first is on top
        assert lines[1::2] == [[0, 0], [-1, -1]][: len(intervals)]  # the claims' bounds
        ours, theirs = (dots.get_offsets().data.tolist() for dots in axis.collections)
        assert ours == means and [point for point in theirs if point[0] == point[0]] == papers
    assert path == "a path"
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["a - b", "c - d"]


@pytest.mark.parametrize("dims, said", [((32, 32), 32), ((32, 64), 0)])
def test_a_table_s_figure_has_the_curves_of_seed_0_and_d_if_it_is_the_same_for_all(
        dims, said, tmp_path, monkeypatch):
    asked, got = [], []
    rows = [Row("a"), Row("b", "--lr 1")]
    logs = {row.label: ({"dim": dim, "classes": list("abcd")}, [row.label])
            for row, dim in zip(rows, dims)}
    monkeypatch.setattr(table.logs, "results_dir", lambda scale: tmp_path / scale)
    monkeypatch.setattr(table.logs, "read_log", lambda row, scale, seed: (
        asked.append((scale, seed)), logs.get(row.label))[1])
    monkeypatch.setattr(plot, "plot_curves", lambda *args: got.append(args))
    spec = type("", (), {"name": "experiments.own"})
    module = type("", (), {"ROWS": rows, "__spec__": spec})
    path = table.figure(module, "shapes")
    ((to, curves, dim, references),) = got
    assert to == path == tmp_path / "shapes/figures/own.png" and path.parent.is_dir()
    assert curves == {"a": ["a"], "b": ["b"]} and dim == said and {*asked} == {("shapes", 0)}
    assert references["knn"] == {"chance": 25} and references["std"] == {"collapsed below": 0.1}
    assert references["rank"] == {"collapsed below": 2.0}
