"""Block about the clustering beside other packages."""

import math

from ... import tables


def bench_block():
    """Median seconds of the fastest dedicated package and of ours, and their ratio."""
    table = tables.read_table("bench", "bench")
    table = table[table["n_weights"] == table["n_array"]]
    medians = table.groupby(["array", "n_clusters", "peer"])[
        ["seconds", "relative_inertia"]
    ].median()
    sizes = table.groupby("array")["n_array"].first()
    lines = []
    for array in ("conv4", "fc6", "fc7", "heavy-tailed"):
        for k in (16, 256):
            found = medians.loc[(array, k)]
            other = found.loc["flash1dkmeans"]
            ours = [
                _bench_cell(found.loc[peer], other) if peer in found.index else ""
                for peer in ("ours, weight-distribution", "ours, optimal")
            ]
            theirs = [f"{found.loc['copy', 'seconds']:.2g}", f"{other['seconds']:.3g}"]
            lines.append([array, f"{sizes[array]:,}", str(k), *theirs, *ours])
    note = (
        "In parentheses how many times as fast as flash1dkmeans, and its inertia over ours (above "
        "1 ours is better). A copy goes into memory that was touched before"
    )
    gaps = tables.read_table("bench", "gaps")
    link = "[`gaps.csv`](../results/bench/tables/gaps.csv)"
    *numbers, last = sorted(gaps["n_clusters"].unique())
    least = 10.0 ** math.floor(math.log10(gaps["gap"].max()))
    proven = (
        f"The optimal centers are proven to lie within "
        f"{math.ceil(gaps['gap'].max() / least) * least:.0e} of the best possible inertia, at all "
        f"{gaps['layer'].nunique()} layers and {', '.join(map(str, numbers))} and {last} centers "
        f"({link})"
    )
    heads = ["Array", "Weights", "Centers", "A copy, s", "flash1dkmeans, s", "Ours, s"]
    raced = tables.markdown([*heads, "Ours, optimal, s"], lines)
    return f"{raced}\n{note}. {proven}.\n\n{_ratios()}"


def _ratios():
    """Time of a clustering over that of something simpler: median, lowest and highest."""
    table, lines = tables.read_table("bench", "ratios"), []
    for (case, beside), rows in table.groupby(["case", "against"], sort=False):
        times = f"**{rows['ratio'].median():.3g}** [{rows['ratio'].min():.3g}, "
        times += f"{rows['ratio'].max():.3g}]"
        sizes = [f"{rows['n_weights'].iloc[0]:,}", str(rows["n_clusters"].iloc[0])]
        lines.append([case, *sizes, f"{rows['seconds'].median():.2g}", beside, times])
    heads = ["Clustered", "Weights", "Centers", "Ours, s", "Beside", "Times its seconds"]
    return tables.markdown(heads, lines)


def _bench_cell(ours, other):
    times = other["seconds"] / ours["seconds"]
    inertia = other["relative_inertia"] / ours["relative_inertia"]
    return f"{ours['seconds']:.2g} (**{times:.3g} times**; {inertia:.3f})"
