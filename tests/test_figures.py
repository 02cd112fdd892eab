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

@pytest.fixture
def drawn(monkeypatch):
    """The arguments of save_figure() for all figures that a test draws; they stay open."""
    kept = []
    for module in (plot, opt_optimizers, theory_directpred, theory_spectrum):
        monkeypatch.setattr(module, "save_figure", lambda *args: kept.append(args))
    yield kept


def look(line):
    """What tells a line from others: its colour, marker and dashes."""
    return to_hex(line.get_color()), line.get_marker(), line.get_linestyle()


# Okabe and Ito's palette, without its yellow, which is too pale on white.
PALETTE = ["#000000", "#d55e00", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9"]


def looks(n):
    """What n lines look like."""
    return [(PALETTE[i % 7], "osv^DxP*"[i % 8], ["-", "--", ":", "-."][i % 4]) for i in range(n)]


RECORDS = [dict(epoch=i, loss=-i / 4, std=0.2 * i, rank=5.0 + i, knn=10.0 + i) for i in range(3)]
PANELS = [("loss", -1.1, 0.05), ("sqrt{d}", 0, 1.05), ("kNN accuracy (%)", 0, 105),
          ("rank", 0.9, 1.3 * 8)]  # the largest rank is 8


@pytest.mark.parametrize("dim, began", [(32, "untrained"), (0, "loaded")])
def test_the_curves_have_four_panels_with_their_names_limits_and_one_style_a_run(dim, began, drawn):
    other = [dict(r, rank=r["rank"] + 1, knn=r["knn"] + 40) for r in RECORDS]
    lines = {"std": {"low": 0.1}, "rank": {"few": 2.0}, "knn": {"chance": 2.0, "pixels": 40.0}}
    ends = {"second": [dict(other[-1], std=0.3), dict(other[-1], std=0.5)]}
    plot.plot_curves("a path", {"first": RECORDS, "second": other}, dim, lines, began, ends)
    ((figure, path, legend),) = drawn
    assert (path, legend) == ("a path", "lower") and figure.get_figwidth() == 9
    for axis, key, (title, low, high) in zip(
            figure.axes, ("loss", "std", "knn", "rank"), PANELS, strict=True):
        assert title in axis.get_title() and axis.get_xlabel() == "epoch"
        assert axis.get_ylim() == pytest.approx((low, high))
        assert axis.get_yscale() == ("log" if key == "rank" else "linear")
        assert all(float(x).is_integer() for x in axis.xaxis.get_major_locator()())
        first, its_ends, second, dots, *rules = axis.lines
        runs = first, second
        assert [line.get_label() for line in runs] == ["first", "second"]
        assert list(map(look, runs)) == looks(2)
        assert not len(its_ends.get_xdata()) and look(dots) == (PALETTE[1], "o", "None")
        assert dots.get_xydata().tolist() == [[r["epoch"], r[key]] for r in ends["second"]]
        expected = {**lines.get(key, {}), **{"loss": {"minimum": -1}, "knn": {
            began: 10.0}}.get(key, {})}  # of the first run
        assert sorted(line.get_ydata()[0] for line in rules) == sorted(expected.values())
        for line in rules:  # across the whole panel, behind the curves, thinner and grey
            assert list(line.get_xdata()) == [0, 1] and line.get_zorder() < runs[0].get_zorder()
            assert line.get_linewidth() < runs[0].get_linewidth() and "0.6" == line.get_color()
        for text in axis.texts:  # to the right of the panel, at the height of its line
            assert text.get_transform() == axis.transAxes
            x, share = text.get_position()
            line = axis.transData.transform((0, expected[text.get_text()]))
            assert x > 1 and axis.transAxes.transform((0, share))[1] == pytest.approx(line[1])
            assert (text.get_ha(), text.get_va()) == ("left", "center")
        assert len(axis.texts) == len(expected)
    assert figure.axes[3].get_title().endswith(" (d = 32)" if dim else "of $z$")


@pytest.mark.parametrize("losses, said", [
    ((-0.5, -0.6), ""), ((5.5, -0.6), " (of different kinds)"), ((5.5,), "")])
def test_several_losses_are_said_to_be_of_different_kinds_unless_they_fit_the_cosine_s_limits(
        losses, said, drawn):
    plot.plot_curves("a path", {str(L): [dict(r, loss=L) for r in RECORDS] for L in losses}, 8)
    assert drawn[0][0].axes[0].get_title() == "training loss" + said


def test_names_of_lines_at_the_same_height_stand_one_above_the_other(drawn):
    _, axis = plot.new_figure(1, 3)
    axis.set_ylim(0, 100)
    plot.reference_lines(axis, {"b": 11.0, "a": 10.0, "far": 50.0, "c": 11.0})
    places = {text.get_text(): text.get_position()[1] for text in axis.texts}
    assert places == {key: pytest.approx(y) for key, y in (
        ("a", 0.1), ("b", 0.17), ("c", 0.24), ("far", 0.5))}


def test_no_curve_of_kNN_needs_more_room_than_the_supervised_one(drawn):
    plot.plot_curves("a path", {"a": RECORDS}, 8, {"knn": {"supervised": 60.0}})
    assert drawn[0][0].axes[2].get_ylim() == pytest.approx((0, 63))


def test_long_curves_have_few_markers_and_short_ones_one_at_each_epoch(drawn):
    for n, every in (3, 1), (25, 1), (26, 2), (450, 18):
        records = [dict(RECORDS[0], epoch=i) for i in range(n)]
        plot.plot_curves("a path", {"a": records}, 8)
        assert drawn[-1][0].axes[0].lines[0].get_markevery() == every


def test_the_references_are_the_two_bounds_of_a_collapse_and_the_chance_of_a_class():
    assert plot.references("abcde", 0.25, 3.0) == {
        "std": {"collapsed\nbelow 0.25": 0.25}, "rank": {"collapsed\nbelow 3": 3.0},
        "knn": {"chance": 20}}


def test_lines_have_the_colours_of_Okabe_and_Ito_and_56_of_them_look_different():
    _, axis = plot.new_figure(1, 3)
    for i in range(57):
        axis.plot([0, 1], **plot.line_style(i))
    found = list(map(look, axis.lines))
    assert found == looks(57) and len({*found}) == 56
    assert {line.get_markersize() for line in axis.lines} == {4}


def test_a_figure_has_the_panels_and_the_size_asked_for():
    figure, axes = plot.new_figure(2, width=6, rows=3, height=2)
    assert axes.shape == (3, 2) and figure.get_size_inches().tolist() == [6, 6]
    assert not pyplot.get_fignums()  # a notebook shows those that pyplot knows


def test_the_legend_names_the_lines_of_the_first_panel_in_order_as_plain_text(tmp_path):
    figure, axes = plot.new_figure(2, width=6)
    for name in "b", "a $x$", "c\udcff":
        axes[0].plot([0, 1], label=name)
    axes[1].plot([0, 1], label="of the second panel")
    plot.save_figure(figure, tmp_path / "a.png")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["b", "a $x$", "c?"]
    assert not any(text.get_parse_math() for text in legend.get_texts())
    assert legend._outside_loc == "right" and legend._ncols == 1  # does not cover a line
    assert Image.open(tmp_path / "a.png").size == (600, 300)


def test_a_legend_above_or_below_has_as_many_columns_as_fit(tmp_path):
    for where in "upper", "lower":
        for width, length, columns in (9, 20, 3), (9, 80, 1), (9, 400, 1), (9, 1, 4), (12, 20, 4):
            figure, axis = plot.new_figure(1, width)
            for i in range(4):
                axis.plot([0, 1], label=str(i) * length)
            plot.save_figure(figure, tmp_path / "a.png", where)
            assert figure.legends[0]._outside_loc == where
            assert figure.legends[0]._ncols == columns


def test_each_row_and_column_of_a_sheet_of_views_is_named_in_its_middle(tmp_path, monkeypatch):
    named, real = [], ImageDraw.Draw
    monkeypatch.setattr(ImageDraw, "Draw", lambda image: type("", (), {
        "text": lambda self, at, text, fill: named.append((text, at, fill))
        or real(image).text(at, text, fill=fill)})())
    x = torch.rand(2, 3, 36, 36)
    plot.save_views(x, [x, x], tmp_path / "views.png")
    assert [text for text, _, _ in named] == ["image", "view 1", "view 2", "1", "2"]
    assert all(fill == "black" for _, _, fill in named)
    # Images of 36 px are enlarged to 72, with 2 px between them.
    for row, (_, (x, y), _) in enumerate(named[:3]):
        assert 0 < x < plot.MARGIN and abs(y + 6 - (plot.HEAD + 2 + 74 * row + 36)) <= 2
    for column, (_, (x, y), _) in enumerate(named[3:]):
        assert 0 < y < plot.HEAD and abs(x + 4 - (plot.MARGIN + 2 + 74 * column + 36)) <= 2
    size = lambda: Image.open(tmp_path / "views.png").size
    assert size() == (plot.MARGIN + 2 * 74 + 2, plot.HEAD + 3 * 74 + 2)
    plot.save_views(torch.rand(2, 3, 100, 100), [], tmp_path / "views.png")  # not enlarged
    assert size() == (plot.MARGIN + 2 * 102 + 2, plot.HEAD + 102 + 2)


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
    ((figure, path, _),) = drawn
    assert "toy" in figure.get_suptitle()
    starts = [(p, s) for p in (0.05, 0.4, 0.8) for s in (0.1, 0.5, 1.0)]
    # η = 1 / (4 (1 + v)) with v = 1 / 4 is 0.2.
    assert asked == [(*start, pytest.approx(eta)) for eta in (0.1, 0.24) for start in starts]
    assert path == "a path" and len(figure.axes) == 2
    for axis, share in zip(figure.axes, ("0.5", "1.2")):
        assert f"= {share} of the threshold" in axis.get_title()
        assert axis.get_xlabel()[0] == "p" and axis.get_ylabel()[0] == "s"
        assert axis.get_xlim() == (0, 1) and axis.get_ylim() == (0, 1.6)
        assert axis.get_legend_handles_labels()[1] == [
            "starts at p = 0.05", "start", "end", "starts at p = 0.4", "starts at p = 0.8"]
        paths, dots, crosses = (axis.lines[i::3] for i in range(3))
        assert [tuple(dot.get_xydata()[0]) for dot in dots] == starts
        assert {tuple(cross.get_xydata()[0]) for cross in crosses} == {(0.1, 0.2)}
        assert {line.get_marker() for line in dots} == {"."}
        assert {line.get_marker() for line in crosses} == {"x"}
        for i, line in enumerate(paths):  # three starts share a p
            colour, _, dashes = looks(3)[i // 3]
            assert look(line) == (colour, "", dashes)  # markers would hide the path


def test_the_spectra_are_logarithmic_and_the_bars_have_the_colours_of_their_lines(drawn):
    outputs = {"singular values": [0.6, 0.4], "centre": 0.6, "alignment": 1.5, "uniformity": -2.0}
    diverged = {"diverged": ({"outputs": {"centre": float("nan")}}, [])}
    theory_spectrum.figure(
        diverged | {name: ({"outputs": outputs}, []) for name in "abc"}, "a path")
    ((figure, path, _),) = drawn
    spectrum, bars = figure.axes
    assert path == "a path" and spectrum.get_yscale() == "log" and bars.get_yscale() == "linear"
    assert "singular values" in spectrum.get_title() and spectrum.get_xlabel() == "number"
    assert spectrum.get_ylim() == (1e-10, 2)  # the first is almost 1
    assert list(map(look, spectrum.lines)) == looks(3)
    assert [to_hex(bar.get_facecolor()) for bar in bars.patches] == [
        colour for colour, _, _ in looks(3) for _ in range(4)]
    assert bars.lines[0].get_ydata()[0] == 0  # uniformity is negative
    assert [label.get_text().partition("\n")[0] for label in bars.get_xticklabels()] == [
        "$m_o$", "$m_r$", "alignment", "uniformity"]
    assert [text.get_text() for text in bars.texts] == 3 * ["0.60", "0.80", "1.50", "-2.00"]
    for i, tick in enumerate(bars.get_xticks()):  # in the middle of its group
        group = [bar for bar in bars.patches if i - 0.5 < bar.get_x() < i + 0.5]
        assert tick == pytest.approx(sum(bar.get_x() + bar.get_width() / 2 for bar in group) / 3)
        assert len(group) == 3 and sum(bar.get_width() for bar in group) == pytest.approx(0.8)


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
    found = {
        ("one", "a - b"): {"shapes": (3.0, (-1.0, 7.0)), "photographs": (1.0, (0.5, 1.5)), "by": 0},
        ("two", "c - d"): {"photographs": (-20.0, (-130.0, -10.0)), "by": -1, "paper": -2.0},
        ("two", "e - f"): {"photographs": (20.0, (-10.0, 100.0)), "by": 0}}
    plot.plot_differences("a path", found, ("shapes", "photographs"))
    ((figure, path, legend),) = drawn
    assert (path, legend) == ("a path", "upper")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["one", "a - b", "two", "c - d", "e - f"]  # each group below its name
    weights = [label.get_fontweight() for label in figure.axes[0].get_yticklabels()]
    assert weights == ["bold", "normal", "bold", "normal", "normal"]
    expected = [  # per panel: intervals, arrows to the left and right, bounds, means, the paper's
        ([[-1, 7, 1]], [], [], [[0, 1]], [[3, 1]], []),
        ([[0.5, 1.5, 1], [-130, -10, 3], [-10, 100, 4]], [3], [4], [[0, 1], [-1, 3], [0, 4]],
         [[1, 1], [-20, 3], [20, 4]], [[-2, 3.25]])]
    for axis, scale, (intervals, left, right, *marks) in zip(
            figure.axes, ("shapes", "photographs"), expected, strict=True):
        assert axis.get_title() == scale and "points" in axis.get_xlabel()
        assert axis.get_xlim() == (-99, 99) and axis.yaxis_inverted()  # the first is on top
        _, lines, *arrows, bounds, means, papers = axis.collections  # the first: to guide the eye
        assert [[*segment[:, 0], segment[0, 1]] for segment in lines.get_segments()] == intervals
        for arrow, rows in zip(arrows, (left, right), strict=True):
            sizes = arrow.get_sizes().tolist()
            assert [y for (_, y), size in zip(arrow.get_offsets().data, sizes) if size] == rows
        for dots, points in zip((bounds, means, papers), marks, strict=True):
            assert [p for p in dots.get_offsets().data.tolist() if p[0] == p[0]] == points


@pytest.mark.parametrize("dims, said", [((32, 32), 32), ((32, 64), 0)])
def test_a_table_s_figure_has_the_curves_of_seed_0_the_recipe_first_and_the_ends_of_all_seeds(
        dims, said, tmp_path, monkeypatch):
    got = []
    rows = [Row("a", "--lr 1"), Row("b"), Row("a longer run", times=2)]
    first = {"epoch": 0, "loss": 0.5}
    logs = {row.label: ({"dim": dim, "classes": list("abcd")}, [first, {"epoch": 1}])
            for row, dim in zip(rows, (*dims, 32))}
    monkeypatch.setattr(table.logs, "results_dir", lambda scale: tmp_path / scale)
    monkeypatch.setattr(table.logs, "read_log", lambda row, scale, seed: (
        logs.get(row.label) if (scale, seed) == ("shapes", 0) else None))
    monkeypatch.setattr(table, "last_records", lambda row, scale: [row.label, scale])
    monkeypatch.setattr(plot, "plot_curves", lambda *args, **more: got.append((*args, more)))
    spec = type("", (), {"name": "experiments.own"})
    module = type("", (), {"ROWS": rows, "__spec__": spec})
    path = table.figure(module, "shapes")
    ((to, curves, dim, references, more),) = got
    assert to == path == tmp_path / "shapes/figures/own.png" and path.parent.is_dir()
    assert [*curves] == ["b", "a"] and curves["b"] == logs["b"][1] and dim == said
    assert more == {"ends": {label: [label, "shapes"] for label in "ab"}}
    assert references["knn"] == {"chance": 25} and 0.1 in references["std"].values()
    assert 2.0 in references["rank"].values()


def test_a_study_has_no_loss_at_epoch_0_because_train_py_measures_SimSiam_s_there():
    records = [{"epoch": 0, "loss": 0.5, "knn": 10.0}, {"epoch": 1, "loss": 0.25, "knn": 20.0}]
    assert table.curve(Row("a", "--lr 1"), records) == records
    study = Row("a", study=lambda run: run.model)
    assert table.curve(study, records) == [{"epoch": 0, "loss": None, "knn": 10.0}, records[1]]
    assert table.curve(study, records[1:]) == records[1:]
