"""Labelled images in every layout, made here; labels that are the model's; damaged files."""

import multiprocessing
import time

import numpy as np
import pytest
import torch
from PIL import Image

from lib import images as datasets
from lib.images import ImagesError, imagenet_classes, labels_of, open_images
from lib.vision import torchvision

CATEGORIES = torchvision.models.AlexNet_Weights.DEFAULT.meta["categories"]
TENCH, PARACHUTE = "n01440764", "n03888257"


def to_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def picture(path, level=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 6), level if mode == "L" else (level, 0, 0)).save(path)
    return path


def test_the_classes_are_torchvisions_thousand():
    found = imagenet_classes()
    assert [wnid for wnid, _ in found] == sorted({wnid for wnid, _ in found})
    assert sorted(number for _, number in found) == list(range(1, 1001))
    places = labels_of([TENCH, "n02102040", PARACHUTE], CATEGORIES)
    assert [CATEGORIES[p] for p in places.values()] == ["tench", "English springer", "parachute"]


def test_a_folder_of_classes_gives_the_models_labels(tmp_path):
    for name, level in (("parachute", 1), ("English_springer", 2), ("golf ball", 3)):
        picture(tmp_path / name / "a.png", level)
    picture(tmp_path / "golf ball" / "deep" / "b.JPEG", 4)
    images = open_images("folder", tmp_path, transform=to_tensor, categories=CATEGORIES)
    assert [CATEGORIES[label] for label in images.labels] == [
        "English springer",
        "golf ball",
        "golf ball",
        "parachute",
    ]
    image, label = images[0]
    assert image[0, 0, 0] == 2
    assert label == CATEGORIES.index("English springer")


def test_gray_images_become_color_and_broken_ones_are_named(tmp_path):
    picture(tmp_path / "0" / "gray.png", 7, "L")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "broken.png").write_bytes(b"not a picture")
    images = open_images("folder", tmp_path, transform=to_tensor, categories=["a", "b"])
    assert images[0][0].shape == (3, 6, 8)
    assert (images[0][0] == 7).all()
    with pytest.raises(ImagesError, match=r"broken\.png cannot be read as an image"):
        images[1]


def test_a_prefix_has_all_classes_in_turn(tmp_path):
    for name, number in (("0", 3), ("1", 1), ("2", 2)):
        for i in range(number):
            picture(tmp_path / name / f"{i}.png", i)
    images = open_images("folder", tmp_path, transform=to_tensor, categories=["a", "b", "c"])
    assert images.first(5).labels.tolist() == [0, 1, 2, 0, 2]
    assert images.first(99).labels.tolist() == [0, 1, 2, 0, 2, 0]
    assert images.first(None).labels.tolist() == [0, 1, 2, 0, 2, 0]


@pytest.mark.parametrize("n_images", [0, -1, 2.5, "3", True])
def test_a_number_of_images_is_checked(tmp_path, n_images):
    picture(tmp_path / "0" / "a.png")
    images = open_images("folder", tmp_path, transform=to_tensor)
    with pytest.raises(ImagesError, match=rf"n_images={n_images!r} must be a positive whole"):
        images.first(n_images)


@pytest.mark.parametrize("name", ["a.gif", "a.heic", "deep/a.SVG"])
def test_pictures_of_other_kinds_are_not_passed_over(tmp_path, name):
    picture(tmp_path / "0" / "a.png")
    (tmp_path / "0" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "0" / name).write_bytes(b"")
    with pytest.raises(ImagesError, match=rf"{name} is of a kind that is not read: convert it"):
        open_images("folder", tmp_path, transform=to_tensor)
    (tmp_path / "0" / name).rename(tmp_path / "0" / "notes.txt")
    assert len(open_images("folder", tmp_path, transform=to_tensor)) == 1


def test_pictures_without_a_class_are_not_passed_over(tmp_path):
    picture(tmp_path / "0" / "a.png")
    picture(tmp_path / "b.JPG")
    with pytest.raises(ImagesError, match=r"b\.JPG is in no folder of a class"):
        open_images("folder", tmp_path, transform=to_tensor)


@pytest.mark.parametrize("suffix", torchvision.datasets.folder.IMG_EXTENSIONS)
def test_every_kind_of_file_that_torchvision_knows_is_an_image(tmp_path, suffix):
    picture(tmp_path / "0" / f"a{suffix}", mode="L")
    images = open_images("folder", tmp_path, transform=to_tensor)
    assert images[0][0].shape == (3, 6, 8)


def test_a_replaced_image_has_another_digest(tmp_path):
    def digest(**options):
        return open_images("folder", tmp_path, transform=to_tensor, **options).digest()

    path = picture(tmp_path / "0" / "a.png", 5)
    before = digest()
    assert digest() == before
    assert digest(label_map={"0": 1}) != before
    time.sleep(0.01)
    picture(path, 6)
    assert digest() != before


@pytest.mark.parametrize("where", ["val", "ILSVRC/Data/CLS-LOC/val", "."])
def test_imagenet_in_folders_of_wordnet_ids(tmp_path, where):
    for wnid in (PARACHUTE, TENCH):
        picture(tmp_path / where / wnid / f"{wnid}_1.JPEG")
    images = open_images("imagenet", tmp_path, transform=to_tensor, categories=CATEGORIES)
    assert [CATEGORIES[label] for label in images.labels] == ["tench", "parachute"]


def test_imagenet_in_one_folder_with_the_kits_numbers(tmp_path):
    numbers = dict(imagenet_classes())
    for i in (1, 2):
        picture(tmp_path / "val" / f"ILSVRC2012_val_{i:08}.JPEG")
    truth = tmp_path / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    truth.parent.mkdir(parents=True)
    truth.write_text(f"{numbers[PARACHUTE]}\n{numbers[TENCH]}\n")
    images = open_images("imagenet", tmp_path, transform=to_tensor, categories=CATEGORIES)
    assert [CATEGORIES[label] for label in images.labels] == ["parachute", "tench"]


def test_imagenet_in_one_folder_with_kaggles_list(tmp_path):
    for i in (1, 2):
        picture(tmp_path / f"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_{i:08}.JPEG")
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n"
        f"ILSVRC2012_val_00000002,{PARACHUTE} 1 2 3 4\n"
        f"ILSVRC2012_val_00000001,{TENCH} 1 2 3 4 {TENCH} 1 2 3 4\n"
    )
    images = open_images("imagenet", tmp_path, transform=to_tensor, categories=CATEGORIES)
    assert [CATEGORIES[label] for label in images.labels] == ["tench", "parachute"]


def test_a_list_of_paths(tmp_path):
    picture(tmp_path / "pictures" / "one.png", 5)
    list_ = tmp_path / "list.csv"
    list_.write_text("path,label\npictures/one.png,golf ball\n")
    images = open_images("csv", list_, transform=to_tensor, categories=CATEGORIES)
    assert images.labels.tolist() == [CATEGORIES.index("golf ball")]
    assert images[0][0][0, 0, 0] == 5
    list_.write_text("path,label\npictures/two.png,golf ball\n")
    with pytest.raises(ImagesError, match=r"list\.csv, line 2: .*two\.png is not there"):
        open_images("csv", list_, transform=to_tensor, categories=CATEGORIES)
    list_.write_bytes("\ufeffpath;label\r\npictures/one.png;574\r\n\r\n".encode())
    assert open_images("csv", list_, transform=to_tensor).labels.tolist() == [574]
    list_.write_text("path,label\npictures/one.png,cat\npictures/one.png,dog\n")
    with pytest.raises(ImagesError, match=r"line 3: .*one\.png is 'dog', but 'cat' in line 2"):
        open_images("csv", list_, transform=to_tensor)
    list_.write_text("path,label\npictures/one.png\n")
    with pytest.raises(ImagesError, match=r"list\.csv, line 2: no label"):
        open_images("csv", list_, transform=to_tensor)
    list_.write_text("file,class\n")
    with pytest.raises(ImagesError, match="needs a first line `path,label`"):
        open_images("csv", list_, transform=to_tensor)


@pytest.mark.parametrize(
    ("names", "categories", "label_map", "expected"),
    [
        (["cat", "dog"], ["dog", "cat"], None, [1, 0]),
        (["cat", "dog"], ["x", "y"], None, [0, 1]),  # none is known: their order
        (["cat", "dog"], ["x", "y", "z"], {"cat": 2, "dog": "x"}, [2, 0]),
        (["0", "1"], ["x", "y", "z"], {0: 2, 1: "x"}, [2, 0]),  # as YAML reads them
        (["0", "cat"], ["x", "y", "z"], {0: 2, "cat": 1}, [2, 1]),
        (["1.5", "cat"], ["x", "y", "z"], {"cat": "x", 1.5: "z"}, [2, 0]),
        (["0", "2"], ["x", "y", "z"], None, [0, 2]),
        (["3", "7"], None, None, [3, 7]),
        ([TENCH], None, None, [0]),
        (["Golf-Ball"], CATEGORIES, None, [574]),
    ],
)
def test_labels(names, categories, label_map, expected):
    assert list(labels_of(names, categories, label_map).values()) == expected


@pytest.mark.parametrize(
    ("names", "categories", "message"),
    [
        (
            ["cat", "unicorn"],
            ["cat", "dog"],
            r"classes \['unicorn'\] of 1 are none",
        ),
        (["cat", "dog", "elk"], ["x", "y"], "give label_map"),
        ([TENCH], ["x", "y"], "are none of the model's 2 categories"),
        (["5"], ["x", "y"], r"labels {'5': 5} are beyond the model's 2 outputs"),
    ],
)
def test_classes_that_cannot_be_told_are_named(names, categories, message):
    with pytest.raises(ImagesError, match=message):
        labels_of(names, categories)


def test_a_map_of_no_class_is_refused():
    message = r"label_map names \['moggie'\], none of the 2 classes of the images: .* dog, moggy"
    with pytest.raises(ImagesError, match=message):
        labels_of(["dog", "moggy"], ["cat", "dog"], {"moggie": "cat"})


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ({0: 1, "0": 0}, "label_map names the class '0' twice"),
        ({"0": True}, "'0' is mapped to True; expected the number or the name of an output"),
        ({"0": 1.0}, r"'0' is mapped to 1\.0; expected"),
        ({"0": None}, "'0' is mapped to None; expected"),
        ({"0": -1}, r"labels {'0': -1} are beyond"),
    ],
)
def test_a_map_to_no_output_is_refused(label_map, message):
    with pytest.raises(ImagesError, match=message):
        labels_of(["0"], ["x", "y"], label_map)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imagenet", "get ILSVRC2012_img_val.tar .* from image-net.org"),
        ("folder", "no images in"),
        ("csv", "is not there: a list with the columns path,label"),
        ("imagenot", "source='imagenot' is unknown: choose from imagenet, imagenette"),
    ],
)
def test_what_is_missing_is_said(tmp_path, source, message):
    root = tmp_path / "list.csv" if source == "csv" else tmp_path
    with pytest.raises(ImagesError, match=message):
        open_images(source, root, transform=to_tensor)


def test_a_root_is_needed():
    with pytest.raises(ImagesError, match="source='folder' needs root="):
        open_images("folder", transform=to_tensor)


@pytest.mark.parametrize(
    ("source", "kind", "what"),
    [
        ("imagenette", "Imagenette", r"imagenette2-320\.tgz, of the project fastai/imagenette"),
        ("cifar10", "CIFAR10", r"cifar-10-python\.tar\.gz, of www\.cs\.toronto\.edu.*"),
    ],
)
def test_without_a_network_downloads_say_what_to_get(tmp_path, monkeypatch, source, kind, what):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, kind, unreachable)
    with pytest.raises(ImagesError, match=f"{what}, is not in .*no route.*put it there by hand"):
        open_images(source, tmp_path, transform=to_tensor)


def test_imagenette_by_hand(tmp_path, monkeypatch):
    for wnid in (PARACHUTE, TENCH):
        picture(tmp_path / "imagenette2-320/val" / wnid / "1.JPEG")
    with pytest.raises(ImagesError, match=r"has 2 of Imagenette's 3925 images: remove .*-320, and"):
        open_images("imagenette", tmp_path, transform=to_tensor, categories=CATEGORIES)
    monkeypatch.setattr(datasets, "IMAGENETTE_IMAGES", 2)
    images = open_images("imagenette", tmp_path, transform=to_tensor, categories=CATEGORIES)
    assert [CATEGORIES[label] for label in images.labels] == ["tench", "parachute"]


def slow_imagenette(root, **_):
    """Unpacks a picture, and a second one later, as torchvision would but for its size."""
    picture(root / "imagenette2-320/val" / TENCH / "1.JPEG")
    time.sleep(1)
    picture(root / "imagenette2-320/val" / PARACHUTE / "1.JPEG")


def open_slow_imagenette(root):
    datasets.IMAGENETTE_IMAGES = 2
    torchvision.datasets.Imagenette = slow_imagenette
    return len(open_images("imagenette", root, transform=to_tensor, categories=CATEGORIES))


def test_imagenette_is_unpacked_by_one_process_at_a_time(tmp_path):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(open_slow_imagenette, [tmp_path, tmp_path], chunksize=1) == [2, 2]


def test_an_image_without_a_name_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "full" / "1.png")
    with pytest.raises(ImagesError, match="empty has no images"):
        open_images("folder", tmp_path, transform=to_tensor)
