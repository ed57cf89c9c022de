"""Figures for papers, from the committed tables: widths, fonts, texts that can be read, LaTeX."""

import base64
import io
import os
import re
import shutil
import subprocess
import zlib

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from fontTools.ttLib import TTFont

from lib import files
from lib.initialization import INITIALIZATIONS
from lib.study import figures, paths, tables
from lib.study.publish import paper
from lib.study.tables import comparison

EVERY = [
    (experiment, name)
    for experiment in comparison.COMMITTED
    for name, _ in paper.every_figure(experiment)
    if not name.startswith("centers-") or name in ("centers-conv2-4bits", "centers-fc6-8bits")
]


@pytest.fixture(autouse=True)
def agg():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def test_every_committed_figure_is_drawn_from_tables_alone():
    for experiment in comparison.COMMITTED:
        names = {name for name, _ in paper.every_figure(experiment)}
        folder = paths.results_folder(experiment) / "figures"
        committed = {path.stem for path in folder.glob("*.png")}
        assert names == committed - {"first-conv2-4bits"}  # 00-method's, of a layer's weights


@pytest.mark.parametrize(
    ("style", "columns"),
    [
        ("icml", 1),  # acm's columns are nearly as wide
        *(
            pytest.param(*venue, marks=pytest.mark.slow)
            for venue in (("icml", 2), ("neurips", 1), ("neurips", 2), ("ieee", 1), ("ieee", 2))
        ),
    ],
)
@pytest.mark.parametrize(("experiment", "name"), EVERY)
def test_width_is_exact_and_no_text_overlaps(overlapping_texts, experiment, name, style, columns):
    venue = paper.VENUES[style]
    width = venue.column if columns == 1 else venue.text
    draw = dict(paper.every_figure(experiment))[name]
    with figures.look(width, paper.settings(venue)):
        figure = draw()
        assert figure.get_figwidth() == width
        assert figure.get_figheight() < 9.5
        assert overlapping_texts(figure) == []


@pytest.fixture(params=["few tables", pytest.param("all tables", marks=pytest.mark.slow)])
def few(request, tmp_path, monkeypatch):
    """Three tables of `full`, in slow tests all; of the centers, those of conv2 at 4 bits."""
    shutil.copytree(paths.ROOT / "results/full", tmp_path / "full")
    monkeypatch.setenv("RESULTS", str(tmp_path))
    folder = tmp_path / "full/tables"
    rows = pd.read_csv(folder / "distribution.csv", dtype=str)
    rows = rows[rows["layer"].eq("conv2") & rows["bits"].eq("4")]
    rows.to_csv(folder / "distribution.csv", index=False)
    for path in folder.glob("*.csv"):
        if request.param == "few tables" and path.stem not in ("claims", "density", "distribution"):
            path.unlink()
    return tmp_path


@pytest.mark.slow
def test_the_same_bytes_twice_and_fonts_that_are_embedded(few):
    folder = paper.write_paper("full", "ieee", 1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"claims.pdf", "claims.svg", "centers-conv2-4bits.pdf", "table-claims.tex"} <= set(
        before
    )
    for path in folder.iterdir():
        path.unlink()
    paper.write_paper("full", "ieee", 1)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for name, data in before.items():
        if name.endswith(".pdf"):
            plain = data + b"".join(_streams(data))
            assert b"/Type3" not in plain
            assert b"/FontFile2" in plain  # TrueType, embedded
            box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", plain)
            assert float(box[1]) == pytest.approx(72 * 252 / 72.27, abs=0.01), name
        if name.endswith(".svg"):
            inside = rb"font-family:'DejaVu Serif';src:url\(data:font/ttf;base64,(.*?)\)"
            face = re.search(inside, data)
            font = TTFont(io.BytesIO(base64.b64decode(face[1])))
            texts = re.findall(r"<(?:text|tspan)[^>]*>([^<]+)", data.decode())
            assert {ord(c) for c in "".join(texts) if c != "\n"} <= set(font.getBestCmap())
            assert "glyf" in font  # outlines of TrueType
            assert set(re.findall(rb"font-family: '([^']+)'", data)) == {b"DejaVu Serif"}
        if name.endswith(".pgf"):
            assert str(paths.ROOT).encode() not in data


def _streams(data):
    for part in re.findall(rb"stream\r?\n(.*?)endstream", data, re.S):
        try:
            yield zlib.decompress(part)
        except zlib.error:
            continue


@pytest.mark.parametrize(
    ("style", "columns", "message"),
    [
        ("nature", 1, "style='nature' is unknown: choose from icml, neurips, ieee, acm"),
        ("icml", 3, "columns=3 must be 1 or 2"),
    ],
)
def test_unknown_styles_and_widths_are_refused(style, columns, message):
    with pytest.raises(ValueError, match=message):
        paper.write_paper("full", style, columns)


def test_without_results_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="make reproduce EXPERIMENT=full"):
        paper.write_paper("full", "icml", 1)


def test_what_an_earlier_run_left_is_gone(few):
    left = few / "full/paper/icml-1/left.pdf"
    files.write_atomically(left, b"")
    shutil.rmtree(few / "full/tables")
    (few / "full/tables").mkdir()
    folder = paper.write_paper("full", "icml", 1)
    assert [path.name for path in folder.iterdir()] == ["include.tex"]


def test_every_committed_table_is_there_and_the_longest_summed_up():
    for experiment in comparison.COMMITTED:
        frames = dict(paper.every_table(experiment))
        folder = paths.results_folder(experiment) / "tables"
        committed = {path.stem for path in folder.glob("*.csv")}
        assert set(frames) == committed - {"density", "distribution", "passes"}  # too long to print
        assert max(map(len, frames.values())) <= 200
    accuracy = dict(paper.every_table("full"))["accuracy"]
    assert list(accuracy.columns) == ["scope", "bits", "iterations", *INITIALIZATIONS]
    table = tables.read_table("full", "accuracy")
    rows = table[(table["network"] == "normal-0") & (table["n_images"] == 2000)]
    rows = rows[(rows["init"] == "linear") & rows["revise"].eq(False)]  # a float network has none
    (expected,) = rows.query("bits == 3 and max_iter == 20 and scope == 'conv'")["top1"]
    found = accuracy.query("scope == 'conv' and bits == 3 and iterations == '20'")["linear"]
    assert found.tolist() == [expected]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "columns"), [("icml", 1), pytest.param("ieee", 2, marks=pytest.mark.slow)]
)
def test_the_snippets_compile_at_the_width_of_the_column(few, style, columns):
    folder = paper.write_paper("full", style, columns)
    log = _compiled("pdflatex", folder, "\\extrafloats{100}", "\\input{include}\n\\clearpage")
    assert "Overfull" not in log
    assert "Float too large" not in log


@pytest.mark.slow
def test_pgf_compiles_with_what_the_snippets_name(few):
    folder = paper.write_paper("full", "icml", 1)
    preamble = "\\usepackage{pgf}\n\\providecommand{\\mathdefault}[1]{#1}"
    log = _compiled("xelatex", folder, preamble, "\\input{centers-conv2-4bits.pgf}")
    assert "Missing character" not in log


def _compiled(program, folder, preamble, body):
    """The log of a document with the columns of the venue; where CI is set, TeX must be there."""
    if not shutil.which(program):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no {program}")
    venue = paper.VENUES[folder.name.split("-")[0]]
    gap = venue.text - 2 * venue.column
    (folder / "test.tex").write_text(
        "\\documentclass[10pt,twocolumn,letterpaper]{article}\n"
        f"\\usepackage[textwidth={venue.text:.5f}in,textheight=9in,columnsep={gap:.5f}in]{{geometry}}\n"
        f"\\usepackage{{graphicx,booktabs}}\n{preamble}\n"
        f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "test.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "test.log").read_text()
