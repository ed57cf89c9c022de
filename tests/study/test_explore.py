"""What sliders ask: numbers that are those of `cluster`, in a moment, and a real JupyterLab."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image

import lib
from lib.study import explore, paths
from lib.study.experiment.data import load_convolutions
from lib.study.experiment.exploration import to_explore
from lib.study.explore import Explorer, reading


@pytest.fixture(scope="module")
def explorer():
    weights = load_convolutions()
    return Explorer(
        {
            "conv1": weights["features.0.weight"],
            "conv2": weights["features.3.weight"],
            "conv4": weights["features.8.weight"],
            "other": np.random.default_rng(0).normal(size=1000).astype(np.float32),
        }
    )


@pytest.mark.parametrize("layer", ["conv1", "conv2", "other"])
@pytest.mark.parametrize("init", lib.INITIALIZATIONS)
def test_a_look_tells_what_cluster_does(explorer, layer, init):
    look = explorer.look(layer, 3, init)
    weights = torch.as_tensor(explorer.weights[layer])
    found = lib.cluster(weights, 8, init=init)
    np.testing.assert_array_equal(look.centers, found.centers)
    assert look.losses.sum() == pytest.approx(found.inertia, rel=1e-6)
    assert look.history[-1] == found.inertia
    errors = (weights.double() - found.centers[found.labels.long()]).square()
    by_cell = [errors[found.labels == j].sum().item() for j in found.labels.unique()]
    np.testing.assert_allclose(look.losses, by_cell, rtol=1e-6, atol=1e-12)
    assert look.bound <= look.optimal <= found.inertia * (1 + 1e-9)
    assert look.size == -(-3 * weights.numel() // 8) + 32


def test_centers_of_hardly_any_weight_are_counted():
    weights = np.append(np.random.default_rng(0).uniform(0, 1, 5000), [100.0, 50.0])
    look = Explorer({"toy": weights}).look("toy", 3, "linear", revise=False, step=0)
    assert look.n_rare == 7  # the first of eight equal steps to 100 has nearly all
    assert look.shares.sum() == pytest.approx(1)


def test_the_reading_says_where_each_initialization_ends(explorer):
    looks = [explorer.look("conv2", 4, "linear", revise=False), explorer.look("conv2", 4)]
    linear, ours = looks
    text = reading(looks)
    assert (
        f"From *linear* the inertia goes from {linear.history[0] / linear.optimal:.2f} to" in text
    )
    assert f"in {len(ours.history) - 1} iterations" in text
    assert f"{linear.n_rare} of 16 centers have fewer than one weight in a thousand" in text
    few = Explorer({"few": np.float32([0, 1, 1, 2])}).look("few", 2, "linear", revise=False)
    assert "the inertia goes from 0 to 0 in" in reading([few])


def test_steps_are_those_of_the_path(explorer):
    whole = explorer.look("conv2", 3, "linear", revise=False)
    n_iter = len(whole.history) - 1
    assert n_iter > 3
    first = explorer.look("conv2", 3, "linear", revise=False, step=0)
    np.testing.assert_array_equal(first.centers, first.initial)
    third = explorer.look("conv2", 3, "linear", revise=False, step=3)
    assert third.losses.sum() == pytest.approx(whole.history[3])
    np.testing.assert_array_equal(third.history, whole.history)
    assert explorer.look("conv2", 3, "linear", revise=False, step=999).step == n_iter


def test_linear_centers_leave_conv2s_error_in_few_cells(explorer):
    linear = explorer.look("conv2", 4, "linear", revise=False, step=0)
    ours = explorer.look("conv2", 4, step=0)
    few = np.sort(linear.losses)[-3:].sum() / linear.losses.sum()
    assert few > 0.9 > np.sort(ours.losses)[-3:].sum() / ours.losses.sum()
    assert linear.history[0] > 3 * ours.history[0]
    assert "16 centers, iteration 0 of" in linear.summary


def test_pictures_change_with_the_look_and_come_back(explorer):
    looks = [explorer.look("conv2", bits) for bits in (2, 4)]
    other = explorer.look("conv4", 2)
    pngs = [explorer.png(look) for look in (looks[0], looks[1], other, looks[0])]
    assert pngs[0] == pngs[3]
    assert len(set(pngs)) == 3


@pytest.mark.parametrize("look", [("conv2", 4, "linear"), ("other", 1, "random"), ("conv1", 8)])
def test_no_text_of_the_picture_overlaps(explorer, overlapping_texts, look):
    assert overlapping_texts(explorer.picture(explorer.look(*look))) == []


@pytest.mark.slow
def test_an_animation_has_a_frame_for_each_iteration(explorer, tmp_path):
    n = explorer.animation(tmp_path / "a.gif", "other", 2, init="linear", revise=False)
    assert n == len(explorer.look("other", 2, "linear", revise=False).history)
    with Image.open(tmp_path / "a.gif") as found:
        assert (found.format, found.n_frames) == ("GIF", n)


def test_a_layer_is_prepared_once_for_all_looks(monkeypatch):
    """What takes long is done before the sliders move: sorting, and the density."""
    prepared, densities = [], []

    def count(into, function):
        return lambda *given, **options: into.append(1) or function(*given, **options)

    monkeypatch.setattr(explore, "Prepared", count(prepared, explore.Prepared))
    monkeypatch.setattr(explore, "adaptive_density", count(densities, explore.adaptive_density))
    rng = np.random.default_rng(0)
    explorer = Explorer({name: rng.normal(size=500).astype(np.float32) for name in "ab"})
    for layer in "abba":
        for bits, gamma in ((2, 0.25), (3, 0.5)):
            explorer.png(explorer.look(layer, bits, gamma=gamma))
        explorer.png(explorer.look(layer, 2, "linear", step=1))
    assert (len(prepared), len(densities)) == (2, 2)


def test_fewer_weights_than_centers():
    explorer = Explorer({"few": np.float32([0, 1, 1, 2]), "five": np.arange(5, dtype=np.float32)})
    assert "inertia 0;" in explorer.look("few", 2).summary
    assert "no error" in explorer.look("few", 2, "linear").summary
    assert "times the proven bound" in explorer.look("five", 2).summary
    assert len({explorer.png(explorer.look(layer, 2)) for layer in ("few", "five", "few")}) == 2


def test_controls_start_each_initialization_as_it_is_known(explorer):
    box = explorer.controls(layer="conv1", bits=2)
    _, bits, init, gamma, revise, _ = (w for row in box.children[:2] for w in row.children)
    assert revise.value
    init.value = "linear"
    assert not revise.value
    assert gamma.disabled
    init.value = "weight-distribution"
    assert revise.value
    bits.value = 3
    assert "8 centers" in box.children[2].value


def test_an_accuracy_that_fails_says_so(explorer):
    def fails(**setting):
        raise RuntimeError("no <network>")

    box = explorer.controls(fails, layer="conv1", bits=2)
    button, message = box.children[2].children
    button.click()
    assert message.value == "RuntimeError: no &lt;network&gt;"
    assert not button.disabled


def test_without_a_trained_network_the_convolutions_are_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS", str(tmp_path))
    weights, accuracy = to_explore("embedded", 10)
    assert list(weights) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert accuracy is None
    assert "make reproduce EXPERIMENT=embedded" in capsys.readouterr().out


@pytest.fixture
def jupyter(tmp_path):
    """JupyterLab on the notebooks, with a small trained network; its address."""
    config = {"n_images": 200, "n_held_out": 100, "epochs": 1}
    (tmp_path / "embedded").mkdir()
    (tmp_path / "embedded/networks.json").write_text(json.dumps([config]))
    tree = tmp_path / "tree/notebooks"  # a copy: JupyterLab saves by itself
    tree.mkdir(parents=True)
    shutil.copy(paths.ROOT / "notebooks/explore.ipynb", tree)
    settings = tmp_path / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false"}')  # else it asks, over the picture
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", f"--port={port}"]
    command += [
        "--expose-app-in-browser",
        "--allow-root",
        "--IdentityProvider.token=secret",
        "--ServerApp.port_retries=0",
    ]
    command += [
        f"--notebook-dir={tree.parent}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    environment = os.environ | {"RESULTS": str(tmp_path), "PYTHONPATH": str(paths.ROOT)}
    environment |= {"JUPYTER_CONFIG_DIR": str(tmp_path), "JUPYTERLAB_SETTINGS_DIR": str(tmp_path)}
    environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(tmp_path)}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api?token=secret")
                break
            time.sleep(0.1)
        yield f"{address}/lab/tree/notebooks/explore.ipynb?token=secret"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.mark.slow
def test_in_jupyterlab_sliders_move_the_picture(jupyter, open_page, keep_picture):
    with open_page(jupyter, height=1400) as (page, _, errors):
        page.locator(".jp-Notebook .jp-InputArea").first.wait_for(timeout=60_000)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
        page.wait_for_timeout(1000)  # its connection is made twice
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        image = page.locator(".widget-image")
        image.wait_for(timeout=120_000)

        def changed(act):
            before = image.get_attribute("src")
            act()
            page.wait_for_function(
                "src => document.querySelector('.widget-image').src !== src", arg=before
            )

        layer, init = page.locator(".widget-dropdown select").all()
        bits, gamma, step = page.locator(".widget-slider .noUi-handle").all()

        def slide(handle, key):
            handle.focus()
            changed(lambda: page.keyboard.press(key))

        slide(gamma, "ArrowLeft")
        changed(lambda: init.select_option("linear"))  # unrevised, as it is known
        page.locator(".widget-html-content", has_text="iteration 395 of 395").wait_for()
        keep_picture(page.locator(".jp-OutputArea-output:has(.widget-image)"), "explore")
        slide(step, "Home")
        page.locator(".widget-html-content", has_text="iteration 0 of 395").wait_for()
        changed(lambda: page.locator(".widget-checkbox input").check())
        changed(lambda: layer.select_option("conv4"))
        slide(bits, "ArrowRight")
        page.get_by_text("conv4: 32 centers").wait_for()
        page.get_by_role("button", name="measure the accuracy").click()
        page.get_by_text("top-1 on 500 images").wait_for(timeout=120_000)
        assert page.locator(".jp-RenderedText[data-mime-type*='stderr']").count() == 0
        assert [error for error in errors if "favicon" not in error] == []
