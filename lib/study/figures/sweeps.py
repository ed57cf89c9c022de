"""The figure of any sweep."""

import seaborn as sns
from matplotlib.ticker import MaxNLocator

from ...initialization import INITIALIZATIONS, named
from .style import drawing, fitting, width


def plot_sweep(rows, x, y, hue, column=None):
    """Lines of a sweep's table, a panel for each value of a column.

    The bands are 95 % intervals of the mean over the rows that differ in nothing shown: seeds.
    """
    rows = rows.dropna(subset=[x, y])  # a float network has no bits
    columns = 1 if column is None else min(rows[column].nunique(), fitting(2))
    values = list(dict.fromkeys(rows[hue]))
    palette = "colorblind"
    if set(values) <= set(INITIALIZATIONS):
        palette = {name: named(name).color for name in values}
    with drawing():
        height = 2.6
        grid = sns.relplot(
            data=rows,
            x=x,
            y=y,
            hue=hue,
            style=hue,
            col=column,
            col_wrap=columns if column else None,
            kind="line",
            markers=True,
            dashes=False,
            palette=palette,
            errorbar=("ci", 95),
            seed=0,
            height=height,
            aspect=width() / columns / height * 0.85,
        )
        for axis in grid.axes.flat:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        grid.figure.set_figwidth(width())  # exactly: the legend's room was a guess
    return grid.figure
