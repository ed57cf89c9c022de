"""Files of a reader's own count for what is up to date."""

import os

import pytest

from lib.study.runs import fingerprint, notebook_path


def digest(**parameters):
    return fingerprint(notebook_path("12-model"), parameters)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "pictures/cat/1.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a picture")
    return path


def test_a_checkpoint_counts_by_its_content(tmp_path):
    path = tmp_path / "my.safetensors"
    path.write_bytes(b"before")
    before = digest(models=[str(path)])
    os.utime(path, (0, 0))
    assert digest(models=[str(path)]) == before
    path.write_bytes(b"after!")
    assert digest(models=[str(path)]) != before


def test_pictures_count_by_name_size_and_time(picture):
    def changed():
        nonlocal before
        found = before != (before := digest(root=str(picture.parents[1])))
        return found

    before = digest(root=str(picture.parents[1]))
    assert not changed()
    os.utime(picture, (0, 0))
    assert changed()
    picture.with_name("2.png").write_bytes(b"")
    assert changed()
    picture.rename(picture.with_name("3.png"))
    assert changed()


@pytest.mark.parametrize("file", ["nets/__init__.py", "nets/parts.py", "single.py"])
def test_packages_count_with_all_their_modules(tmp_path, monkeypatch, file):
    (tmp_path / "nets").mkdir()
    for name in ("nets/__init__.py", "nets/parts.py", "single.py"):
        (tmp_path / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    models = ["nets.any:function", "single:function", "alexnet", "builtins:dict"]
    before = digest(models=models)
    assert digest(models=models) == before
    (tmp_path / file).write_text("x = 1")
    assert digest(models=models) != before
