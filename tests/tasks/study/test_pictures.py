"""Pictures of studies: colors, numbers of elements, and paths that move without scripts."""

from __future__ import annotations

import re

import numpy as np

from tasks.study import grid_world, pictures


def test_colors_are_kept_and_ids_are_unique():
    drawings = []
    for _ in range(2):
        drawn, axes = pictures.figure()
        for color in pictures.COLORS:
            axes.plot([0, 1], color=color)
        drawings.append(pictures.svg(drawn))
    assert all(f"stroke: {color}" in drawings[0] for color in pictures.COLORS)
    ids = [set(re.findall(r'id="([^"]+)"', text)) for text in drawings]
    assert not ids[0] & ids[1]
    for text, own in zip(drawings, ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", text)) <= own
        assert set(re.findall(r'href="#([^"]+)"', text)) <= own


def test_dots_follow_their_paths_without_scripts():
    drawn, axes = pictures.figure()
    axes.set(xlim=(0, 10), ylim=(0, 1))
    steps = np.linspace(0, 1, 201)
    paths = {"inside": np.stack([10 * steps, steps], 1), "leaves": np.stack([20 * steps, steps], 1)}
    text = pictures.animated_paths(drawn, axes, paths)
    assert "<script" not in text
    assert "prefers-reduced-motion" in text
    assert len(re.findall("stroke-opacity: 0.6", text)) == len(paths)  # not in the legend
    frames = re.findall(r"@keyframes \S+?-(\d)\{(.*?)\}\}", text)
    assert [number for number, _ in frames] == ["0", "1"]
    places = [
        np.array(re.findall(r"translate\(([\d.]+)px,([\d.]+)px\)", frame), float)
        for _, frame in frames
    ]
    width, height = 72 * np.array([drawn.get_figwidth(), drawn.get_figheight()])
    for each in places:
        assert 50 < len(each) <= 70
        assert (each > 0).all()
        assert (each < (width, height)).all()
        assert (np.diff(each[:, 1]) < 0).all()  # upwards
    assert np.allclose(np.diff(places[0], axis=0), np.diff(places[0], axis=0)[0], atol=3)
    assert (places[1][len(places[1]) // 2 + 2 :, 0] == places[1][-1, 0]).all()  # at the border


def test_panels_within_a_slider_are_shown():
    """Each rule is about the children of the slider only, not about what they contain."""
    shown = {text: pictures.panels(["<svg></svg>"] * 2) for text in ("one", "two", "three")}
    text = pictures.slider(shown, "number")
    (name,) = re.findall(r'class="slider (\w+)"', text)
    assert f".{name}>div>div{{display:none}}" in text
    for number in range(3):
        assert f"#{name}-{number}:checked~div>.panel-{number}" in text
    assert not re.search(r"[\w*] div\b[^{}]*{display:none", text)


def test_the_marks_of_a_grid_world_can_be_read_on_their_cells():
    values = np.zeros((grid_world.SIZE, grid_world.SIZE, 4))
    values[grid_world.START] = 1.0  # the brightest cell
    text = grid_world.draw(values)
    found = re.findall(r'<text [^>]*?fill: (\S+?)[;"][^>]*>(.)<', text)
    assert len(found) == len(grid_world.CELLS)
    assert found.count((grid_world.DARK, "↑")) == 1
    assert found.count(("#ffffff", "↑")) == 19  # the other free cells, which are dark
