"""The laws of utils/plot.py: what its pictures show.    pytest tests/test_plot.py"""

import io
import math

import matplotlib.figure
import numpy
import pytest
import torch
from PIL import Image

from utils import plot


def curves(monkeypatch, records, dim=8, references=None):
    """The panels of plot_curves(), which are not saved but looked at: loss, std, kNN, rank."""
    figures = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, path, _: figures.append(figure))
    plot.plot_curves("unused.png", {"run": records}, dim, references)
    return figures[0].axes


def named_lines(panel, runs=1):
    """{label: y} of a panel's reference lines, which come after the curves and their ends."""
    heights = sorted(line.get_ydata()[0] for line in panel.lines[2 * runs :])
    return {text.get_text(): y for text, y in zip(panel.texts, heights, strict=True)}


RECORDS = [dict(epoch=i, loss=-i / 4, std=0.9, rank=5.0, knn=None if i == 1 else 10.0 * i)
           for i in range(3)]


def test_each_panel_draws_one_key_of_the_records_and_leaves_out_what_was_not_measured(monkeypatch):
    panels = curves(monkeypatch, RECORDS)
    drawn = [panel.lines[0].get_xydata().tolist() for panel in panels]
    for points, key in zip(drawn, ("loss", "std", "knn", "rank"), strict=True):
        assert points == [[r["epoch"], r[key]] for r in RECORDS if r[key] is not None]


def test_without_labels_the_panel_of_kNN_is_empty_and_says_why(monkeypatch):
    bare = curves(monkeypatch, [dict(r, knn=None) for r in RECORDS],
                  references=plot.references([], 0.1, 2.0))
    assert [panel.axison for panel in bare] == [True, True, False, True]
    assert bare[2].get_title() == "kNN accuracy: no labels" and not named_lines(bare[2])
    labelled = curves(monkeypatch, RECORDS, references=plot.references("ab", 0.1, 2.0))
    assert labelled[2].axison and named_lines(labelled[2])["chance"] == 50


@pytest.mark.parametrize("loss, shared", [(-0.9, True), (5.5, False), (0.3, False), (-2, False)])
def test_the_panel_of_a_cosine_ends_at_minus_1_and_that_of_a_larger_loss_shows_it(
        loss, shared, monkeypatch):
    low, high = curves(monkeypatch, [dict(r, loss=loss) for r in RECORDS])[0].get_ylim()
    assert low < loss < high and ((low, high) == (-1.1, 0.05)) == shared


def test_the_kNN_of_raw_pixels_is_a_line_of_its_own_if_it_was_measured(monkeypatch):
    for value, named in ((41.0, True), (None, False)):
        first = dict(RECORDS[0], epoch=0, pixels_knn=value)
        found = named_lines(curves(monkeypatch, [first, *RECORDS[1:]])[2])
        assert found.get("raw pixels") == (value if named else None)
        assert found["untrained"] == first["knn"] and len(found) == 1 + named


def test_without_an_epoch_0_or_with_another_loss_there_is_no_line_for_it(monkeypatch):
    panels = curves(monkeypatch, [dict(r, loss=5.5) for r in RECORDS[2:]])
    assert not named_lines(panels[0]) and not named_lines(panels[2])


@pytest.mark.parametrize("name", ["_old", "__", "_child", "$", "é"])
def test_the_legend_has_every_run_whatever_its_name(name, tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: found.extend(
        text.get_text() for text in figure.legends[0].get_texts()))
    plot.plot_curves(tmp_path / "x.png", {name: RECORDS, "new": RECORDS}, 8)
    assert found == [name, "new"]


def test_a_run_whose_rank_is_never_a_number_has_a_figure(tmp_path):
    plot.plot_curves(tmp_path / "x.png", {"a": [dict(r, rank=math.nan) for r in RECORDS]}, 8)
    assert (tmp_path / "x.png").exists()


def test_a_figure_is_written_as_a_complete_png_with_a_legend_if_its_lines_are_named(tmp_path):
    for label in ("named", None):
        figure, axes = plot.new_figure(2, width=6)
        axes[0].plot([0, 1], label=label)
        plot.save_figure(figure, tmp_path / "figure.png")
        Image.open(io.BytesIO((tmp_path / "figure.png").read_bytes())).load()
        assert len(figure.legends) == bool(label)


def read_png(path):
    """A picture as numbers in [0, 1]: (H, W, 3)."""
    return torch.from_numpy(numpy.array(Image.open(path).convert("RGB"))) / 255


def test_each_original_stands_above_its_own_views_and_each_row_has_a_name(tmp_path):
    originals = torch.rand(3, 3, 24, 24)
    plot.save_views(originals, [1 - originals, originals / 2], tmp_path / "views.png")
    sheet = read_png(tmp_path / "views.png")
    names = []
    for row, images in enumerate((originals, 1 - originals, originals / 2)):
        strip = sheet[plot.HEAD + 2 + 74 * row :][:72]
        for column, image in enumerate(images):  # each is 3 times as large, with 2 px between them
            cell = strip[:, plot.MARGIN + 2 + 74 * column :][:, :72][::3, ::3].permute(2, 0, 1)
            assert (cell - image).abs().max() < 1 / 255
        names.append(strip[:, : plot.MARGIN])
    for i, name in enumerate(names):
        assert name.amax() == 1 and name.amin() < 0.1  # black on white
        assert not any(torch.equal(name, other) for other in names[:i])


def test_a_block_has_each_query_before_its_neighbours_and_frames_the_right_ones(
        tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, path: figures.append(figure))
    queries = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    neighbours = torch.randint(256, (2, 4, 3, 8, 8), dtype=torch.uint8)
    right = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0]], dtype=torch.bool)
    plot.save_neighbours("unused.png", queries, [
        ("a", neighbours, right), ("b $x_$", neighbours.flip(1), right.flip(1))])
    for axis, block, marks in zip(figures[0].axes, (neighbours, neighbours.flip(1)),
                                  (right, right.flip(1)), strict=True):
        shown = sorted(axis.images, key=lambda i: (-i.get_extent()[2], i.get_extent()[0]))
        expected = [image for row in (0, 1) for image in (queries[row], *block[row])]
        for drawn, image in zip(shown, expected, strict=True):
            assert torch.equal(torch.from_numpy(drawn.get_array().data), image.permute(1, 2, 0))
        frames = {(1 - int(p.get_y()), int(p.get_x()) - 1) for p in axis.patches}
        assert frames == {tuple(place) for place in marks.nonzero().tolist()}
    assert [axis.get_title(loc="left") for axis in figures[0].axes] == ["a", "b $x_$"]
