"""Tables of plain text."""

from lib.text import text_table


def test_names_are_aligned_left_and_numbers_right():
    rows = [{"layer": "conv", "bytes": 1234567}, {"layer": "a longer name", "bytes": 8}]
    assert text_table(rows, {"layer": str, "bytes": "{:,}".format}).splitlines() == [
        "layer              bytes",
        "conv           1,234,567",
        "a longer name          8",
    ]


def test_missing_values_and_none_leave_cells_empty_and_lines_end_without_spaces():
    rows = [{"a": "x"}, {"a": None, "b": 0}, {}]
    assert text_table(rows, {"a": str, "b": "{:.1f}".format}) == "a    b\nx\n   0.0\n"


def test_a_table_without_rows_has_its_names():
    assert text_table([], {"a": str, "b": str}) == "a  b"
