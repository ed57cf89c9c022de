"""Tables as Markdown and as LaTeX, and numbers as readers want them."""

import pandas as pd

LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"γ": r"$\gamma$"}
)


def markdown(heads, rows):
    """A Markdown table of texts."""
    lines = [heads, ["---"] * len(heads), *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def latex(heads, rows, align=None):
    r"""A LaTeX table of texts, with the rules of the package booktabs.

    Parameters
    ----------
    heads : sequence of str
    rows : sequence of sequences of str
    align : str, optional
        "l" or "r" for each column; by default all to the left.
    """
    head, *body = (" & ".join(map(latex_text, line)) + r" \\" for line in (heads, *rows))
    lines = [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    start = f"\\begin{{tabular}}{{{align or 'l' * len(heads)}}}"
    return "\n".join([start, *lines, r"\end{tabular}"]) + "\n"


def latex_text(text):
    """Text with LaTeX's special characters escaped."""
    return text.translate(LATEX)


def for_readers(frame):
    """Heads, rows and alignment of a table: numbers to four digits and to the right."""
    numeric = (
        pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
        for kind in frame.dtypes
    )
    align = "".join("r" if found else "l" for found in numeric)
    return list(frame.columns), frame.astype(object).map(number).to_numpy().tolist(), align


def number(value):
    """A cell for readers: at most four significant digits, nothing where there is no value."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    return f"{value:.4g}"
