"""YAML as people write it: what they mean, and what is refused, with file and line."""

import pytest

from lib.study.written import Written, WrittenError

ANYTHING = {"type": "object", "description": "a mapping"}


def written(tmp_path, text, schema=ANYTHING, name="mine.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Written(path, schema)


def test_numbers_words_and_keys_as_people_mean_them(tmp_path):
    text = (
        "rate: 1e-3\nlarge: 2E5\ncount: 010\ntime: 1:30\nno: on\n3: three\n0.5: half\n"
        "country: NO\nflag: true\nnothing:\nday: 2024-05-01x\n"
    )
    assert written(tmp_path, text).content == {
        "rate": 0.001,
        "large": 2e5,
        "count": 10,
        "time": "1:30",
        "no": "on",
        3: "three",
        0.5: "half",
        "country": "NO",
        "flag": True,
        "nothing": None,
        "day": "2024-05-01x",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", 'mine.yaml, line 3: found duplicate key "a"'),
        ("a:\n  b: 1\n  b: 1", 'mine.yaml, line 3: found duplicate key "b"'),
        ("1: a\n1: b", "mine.yaml, line 2: found duplicate key"),
        ("a: [1, 2", "mine.yaml, line 1: this is not YAML"),
        ("a: 1\n\tb: 2", "mine.yaml, line 2: this is not YAML"),
        ("a: !!python/object/apply:os.system [ls]", "mine.yaml, line 1: this is not YAML: could"),
        ("", "mine.yaml, line 1: a mapping is needed, got None"),
        ("- 1", r"mine.yaml, line 1: a mapping is needed, got \[1\]"),
        (b"a: \xff", "mine.yaml is not UTF-8"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    with pytest.raises(WrittenError, match=message):
        written(tmp_path, text)


def test_where_a_value_stands(tmp_path):
    schema = ANYTHING | {
        "properties": {"list": {"items": {"type": "integer", "description": "a whole number"}}}
    }
    with pytest.raises(WrittenError, match=r"line 4: list.2: a whole number is needed, got 'x'"):
        written(tmp_path, "list:\n  - 1\n  - 2\n  - x\n", schema)
    found = written(tmp_path, "a:\n  b: 1\n\n  c:\n    - d: 2\n")
    assert found.at("a", "c", 0, "d") == "mine.yaml, line 5"
    assert found.at("a", "nowhere") == "mine.yaml, line 1"


def test_a_byte_order_mark_and_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, b"\xef\xbb\xbfa: 1")
    assert Written("~/mine.yaml", ANYTHING).content == {"a": 1}
    with pytest.raises(WrittenError, match=r"cannot read .*other\.yaml: No such file"):
        Written("~/other.yaml", ANYTHING)
