"""Lists as spreadsheets, scripts and hands write them."""

import pytest

from lib.lists import ListError, read_list


def read(path, data):
    path.write_bytes(data)
    return list(read_list(path, ("path", "label")))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_separator_and_line_end(tmp_path, separator, encoding, end):
    lines = ["path,label", "a b.png,Löwe", "é.png,猫"]
    text = end.join(line.replace(",", separator) for line in lines)
    found = read(tmp_path / "list.csv", text.encode(encoding))
    assert found == [(2, ["a b.png", "Löwe"]), (3, ["é.png", "猫"])]


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"label,path\ndog,a.png\n", [(2, ["a.png", "dog"])]),
        (b" Path , LABEL ,split\na.png , dog, val\n", [(2, ["a.png", "dog"])]),
        (b',path,label\n0,a.png,"golf, ball"\n', [(2, ["a.png", "golf, ball"])]),
        (b"path,label\n\n,,\na.png,dog,,\n\n", [(4, ["a.png", "dog"])]),
        (b"sep=;\npath;label\na,b.png;dog\n", [(3, ["a,b.png", "dog"])]),
        (
            b'path,label\n"a\nb.png",dog\nc.png,cat',
            [(3, ["a\nb.png", "dog"]), (4, ["c.png", "cat"])],
        ),
        (b"path,label\n", []),
    ],
)
def test_rows(tmp_path, data, rows):
    assert read(tmp_path / "list.csv", data) == rows


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "needs a first line `path,label`"),
        (b"file,class\na,b\n", "needs a first line `path,label`"),
        (b"path,label,label\na,b,c\n", "needs a first line `path,label`"),
        (b"path,label\na.png,dog\nb.png\n", "line 3: no label"),
        (b"path,label\na.png,dog\n\n,cat\n", "line 4: no path"),
        (b"path,label\na.png,  \n", "line 2: no label"),
        (b"path,label\na,b.png,dog\n", "line 2: 3 cells, the header has 2: put a cell with a"),
        (b"path,label\na.png,dog\nb.png,L\xf6we\n", "line 3: not UTF-8 .*save the list as UTF-8"),
        ("path,label\na.png,dog\n".encode("utf-16-le"), "line 1: not UTF-8"),
        ("path,label\na.png,dog\n".encode("utf-16")[:-1], "line 2: not UTF-16"),
        (b'path,label\n"a.png,dog\nb.png,cat\n', "line 3: unexpected end of data"),
    ],
)
def test_faults_are_named_by_file_and_line(tmp_path, data, message):
    with pytest.raises(ListError, match=rf"list\.csv,? ?{message}"):
        read(tmp_path / "list.csv", data)
