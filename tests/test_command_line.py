"""Commands on files of models: compress, inspect, evaluate, export."""

import re
import subprocess
import sys

import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from lib import __main__ as command_line
from lib import compression
from lib.compression import export_onnx, load
from lib.models import resolve
from lib.study import paths, tables

LOSS = r"^top-1: [\d.]+ % before, [\d.]+ % after; lost -?[\d.]+ points \[-?[\d.]+, [\d.]+\] on 40"


def small():
    """A network of ten classes for images of 224 pixels; called by name."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 8, stride=8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


NAME = "tests.test_command_line:small"


def run(capsys, *arguments):
    status = command_line.main(list(arguments))
    return status, *capsys.readouterr()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A compressed file, which no test changes."""
    path = str(tmp_path_factory.mktemp("compressed") / "small.safetensors")
    assert command_line.main(["compress", NAME, "--bits", "3", "--out", path]) == 0
    return path


def test_compressed_and_inspected(path, capsys):
    status, out, _ = run(capsys, "inspect", path)
    assert status == 0
    assert "the whole file" in out
    (row,) = [line.split() for line in out.splitlines() if line.split()[0] == "0"]
    assert row[:4] == ["0", "768", "8", "3"]
    assert len(load(path, small())[0].weight.unique()) == 8


def zeros():
    """Batches of two images, all black, with the labels 0 to 9."""
    for label in range(0, 10, 2):
        yield torch.zeros(2, 3, 224, 224), torch.tensor([label, label + 1])


class Blacks(torch.utils.data.Dataset):
    """The same as a dataset."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.zeros(3, 224, 224), index


TESTS = "tests.test_command_line"


@pytest.mark.parametrize("images", ["zeros", "Blacks"])
def test_evaluated_on_the_inputs_of_a_function(path, images, capsys):
    arguments = ("evaluate", path, "--arch", NAME, "--images", f"{TESTS}:{images}")
    status, out, _ = run(capsys, *arguments)
    assert (status, out) == (0, "top-1 10.00 % [1.79, 40.42] on 10 images\n")  # one black class
    black = int(load(path, small())(torch.zeros(1, 3, 224, 224)).argmax())
    status, out, _ = run(capsys, *arguments, "--n-images", str(black))
    assert f"top-1 0.00 % [0.00, {out.split()[-4].rstrip(']')}] on {black} images" in out


@pytest.fixture(scope="module")
def pictures(path, tmp_path_factory):
    """A folder of black pictures of class 0 and gray ones of class 1, and how the model sees it."""
    folder = tmp_path_factory.mktemp("pictures")
    levels, labels = (0, 128, 255), []
    model = load(path, small())
    for level in levels:
        inputs = torch.full((1, 3, 224, 224), level / 255)
        labels.append(int(model((inputs - 0.5) / 0.5).argmax()))
        (folder / str(labels[-1])).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 250), (level,) * 3).save(folder / str(labels[-1]) / f"{level}.png")
    rows = [f"{label}/{level}.png;{label}" for label, level in zip(labels, levels, strict=True)]
    (folder / "list.csv").write_text("\n".join(["path;label", *rows]))
    return folder


@pytest.mark.parametrize("name", [".", "list.csv"])
@pytest.mark.parametrize(
    "steps",
    [
        ["--mean", "0.5", "--std", "0.5", "--size", "256", "--crop", "224"],
        ["--mean", "127.5", "--std", "127.5", "127.5", "127.5", "--interpolation", "bicubic"],
        ["--transform", f"{TESTS}:half"],
    ],
)
def test_evaluated_on_pictures_with_its_preprocessing(path, pictures, name, steps, capsys):
    arguments = ["--arch", NAME, "--images", str(pictures / name), *steps]
    status, out, _ = run(capsys, "evaluate", path, *arguments)
    assert status == 0
    assert out.splitlines()[-1] == "top-1 100.00 % [43.85, 100.00] on 3 images"
    assert out.startswith("preprocessing: ")


def half(image):
    """A transform: mean and standard deviation 0.5."""
    pixels = torch.tensor(image.getpixel((0, 0))).float().view(3, 1, 1)
    return (pixels / 255 - 0.5).div(0.5).expand(3, 224, 224)


def test_images_that_are_nowhere(path, capsys):
    status, _, err = run(capsys, "evaluate", path, "--arch", NAME, "--images", "nowhere")
    assert (status, err) == (1, "error: nowhere is no folder, list or package.module:function.\n")


def test_steps_are_not_for_inputs_that_are_prepared(path, capsys):
    arguments = ("--arch", NAME, "--images", f"{TESTS}:zeros", "--crop", "224")
    status, _, err = run(capsys, "evaluate", path, *arguments)
    assert status == 1
    assert err == f"error: --crop: {TESTS}:zeros prepares its own inputs.\n"


@pytest.mark.parametrize("shape", ["1,3,224,224", "2, 3, 32, 48"])
def test_exported(path, tmp_path, shape, capsys):
    target = str(tmp_path / "small.onnx")
    arguments = ("export", path, "--arch", NAME, "--input-shape", shape, "--out", target)
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert "read back: the weights of 2 layers are equal bit by bit" in out
    found = onnx.load(target).graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in found[1:]] == list(map(int, shape.split(",")[1:]))


def test_an_export_asks_for_the_shape_that_nobody_says(path, tmp_path, capsys):
    status, _, err = run(capsys, "export", path, "--arch", NAME, "--out", str(tmp_path / "a.onnx"))
    assert status == 1
    assert "does not say the shape of its input: give --input-shape" in err


def test_an_export_takes_the_shape_that_torchvision_says(tmp_path, capsys):
    torch.manual_seed(0)
    checkpoint, path = str(tmp_path / "squeezenet.pth.tar"), str(tmp_path / "a.safetensors")
    torch.save({"state_dict": resolve("squeezenet1_1", weights=None).state_dict()}, checkpoint)
    arguments = (checkpoint, "--arch", "squeezenet1_1", "--bits", "1", "--init", "linear")
    assert run(capsys, "compress", *arguments, "--out", path)[0] == 0
    target = str(tmp_path / "squeezenet.onnx")
    status, out, _ = run(capsys, "export", path, "--out", target)
    assert status == 0
    assert "26 layers are equal" in out
    found = onnx.load(target).graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in found[1:]] == [3, 224, 224]


def words():
    """A model of token ids."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 3)).eval()


def test_a_model_of_token_ids_is_exported(tmp_path, capsys):
    path, name = str(tmp_path / "words.safetensors"), f"{TESTS}:words"
    assert run(capsys, "compress", name, "--bits", "2", "--out", path)[0] == 0
    target = str(tmp_path / "words.onnx")
    shaped = ("--input-shape", "1,3", "--input-dtype", "int64")
    status, out, err = run(capsys, "export", path, "--arch", name, *shaped, "--out", target)
    assert (status, err) == (0, "")
    assert "1 layers are equal" in out


def test_an_export_with_other_weights_is_an_error(path, tmp_path, capsys, monkeypatch):
    def rescales(model, target, inputs):
        with torch.no_grad():
            model[4].parametrizations.weight.original.mul_(2)
        size = export_onnx(model, target, inputs)
        model[4].parametrizations.weight.original.data.div_(2)
        return size

    monkeypatch.setattr(compression, "export_onnx", rescales)
    target = str(tmp_path / "small.onnx")
    arguments = ("--arch", NAME, "--input-shape", "1,3,224,224", "--out", target)
    status, _, err = run(capsys, "export", path, *arguments)
    assert status == 1
    assert "small.onnx has other weights than the model in 4." in err


@pytest.mark.slow
def test_the_headline_file_is_as_accurate_as_the_frontier_says(capsys):
    """Within half the width of a 95 % interval: 1.4 points."""
    n_images = 2000
    path = paths.ROOT / "results/compress/headline/alexnet.safetensors"
    found = tables.read_table("compress", "frontier")
    (sizes,) = set(tables.read_table("compress", "sizes")["file"])
    (expected,) = found.loc[found["file"] == sizes, "top1"]
    study = "lib.study.experiment"
    arguments = ("--arch", f"{study}.network:alexnet", "--images", f"{study}.data:test_images")
    status, out, _ = run(capsys, "evaluate", str(path), *arguments, "--n-images", str(n_images))
    assert status == 0
    assert abs(float(re.search(r"top-1 ([\d.]+) %", out)[1]) - expected) < 63 / n_images**0.5


def test_a_file_does_not_choose_what_code_runs(path, capsys):
    status, _, err = run(capsys, "evaluate", path, "--images", f"{TESTS}:zeros")
    assert status == 1
    assert f"say so, if you trust it: --arch {NAME}" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "missing.safetensors"], "missing.safetensors"),
        (["compress", "nothing", "--out", "it"], "unknown model 'nothing'"),
        (["compress", NAME, "--init", "nothing", "--out", "it"], "init='nothing' is unknown"),
        (["compress", NAME, "--layers", "9", "--out", "it"], "choose layers from"),
        (["compress", NAME, "--out", "/proc/nothing/it"], "cannot write"),
        (["compress", "nowhere:net", "--out", "it"], "No module named 'nowhere'"),
        (["compress", "tests:net", "--out", "it"], "tests:net cannot be called"),
    ],
)
def test_errors_in_one_line(arguments, message, capsys):
    status, _, err = run(capsys, *arguments)
    assert status == 1
    assert message in err
    assert err.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["compress", NAME], "the following arguments are required: --out"),
        (["compress", NAME, "--bits", "17", "--out", "it"], "17 must be from 1 to 16"),
        (["compress", NAME, "--bits", "-1", "--out", "it"], "-1 must be from 1 to 16"),
        (["evaluate", "it"], "the following arguments are required: --images"),
        (["evaluate", "it", "--images", "a", "--n-images", "0"], "0 must be a positive whole"),
        (["export", "it", "--out", "a.tflite"], "a.tflite must end in .onnx or .mlpackage"),
        (["export", "it", "--out", "a.onnx", "--input-shape", "1,x"], "1,x must be positive"),
        (["export", "it", "--out", "a.onnx", "--input-shape", "1,-3"], "1,-3 must be positive"),
    ],
)
def test_misuse_exits_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_modules_of_the_working_folder_are_found(tmp_path):
    """By an installed script, too, whose search path begins with the script's own folder."""
    (tmp_path / "mine.py").write_text("from torch.nn import Linear\nnet = lambda: Linear(9, 9)\n")
    code = "import sys; sys.path.remove(''); from lib.__main__ import main; sys.exit(main())"
    arguments = ["compress", "mine:net", "--bits", "1", "--out", "it"]
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, check=True)
    assert (tmp_path / "it").is_file()


@pytest.fixture
def noise(tmp_path):
    """A folder of two folders of pictures of noise."""
    generator = torch.Generator().manual_seed(0)
    for i in range(40):
        pixels = torch.randint(256, (32, 32, 3), generator=generator, dtype=torch.uint8)
        folder = tmp_path / "pictures" / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")
    return str(tmp_path / "pictures")


def test_compressed_by_a_folder_of_pictures(noise, tmp_path, capsys):
    path = str(tmp_path / "new.safetensors")
    arguments = ("compress", NAME, "--images", noise, "--bits", "3", "--out", path)
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert "bits a weight" in out
    assert re.search(r"same top-1 as before: [\d.]+ % \[[\d.]+, [\d.]+\] of 40 images", out)
    (row,) = [row for row in compression.describe(path) if row["layer"] == "all layers"]
    assert row["bits_per_weight"] == pytest.approx(3, rel=0.03)
    assert load(path, small())[0].weight.unique().numel() > 8


def test_compressed_as_far_as_labelled_pictures_allow(noise, tmp_path, capsys):
    path = str(tmp_path / "new.safetensors")
    arguments = ("compress", NAME, "--images", noise, "--max-loss", "10", "--out", path)
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert re.search(LOSS, out, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ratio", "8"), "need --images"),
        (("--bits", "2.5"), "whole number"),
        (("--images", "nowhere", "--bits", "2"), "nowhere"),
        (("--images", "."), "how small"),
    ],
)
def test_compression_that_cannot_be(options, message, tmp_path, capsys):
    status, _, error = run(capsys, "compress", NAME, *options, "--out", str(tmp_path / "a"))
    assert status == 1
    assert message in error
