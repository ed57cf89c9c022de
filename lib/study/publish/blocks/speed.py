"""Blocks about the clustering beside other packages."""

import math

from ... import tables
from ...experiment.peers import COPY, FLASH, FLASH_SORTED, OPTIMAL, OURS
from ...tables.raced import growing, of_rows

BOTH = (False, True)  # without sample weights, and with them


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
            other = found.loc[FLASH]
            ours = [
                _bench_cell(found.loc[peer], other) if peer in found.index else ""
                for peer in (OURS, OPTIMAL)
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


def rows_block():
    """A codebook a row: how many times as fast as flash1dkmeans over the rows."""
    bench = tables.read_table("bench", "bench")
    seconds, lines = _of_rows(bench, "seconds"), []
    for (shape, k), found in seconds.groupby(["shape", "n_clusters"], sort=False):
        beside, after_sort = (
            [
                _of_kinds(found, peer, weighted, flash)
                for peer in (OURS, OPTIMAL)
                for weighted in BOTH
            ]
            for flash in (FLASH, FLASH_SORTED)
        )
        cells = [f"{one} ({other})" for one, other in zip(beside, after_sort, strict=True)]
        lines.append([shape, str(k), *cells])
    heads = ["Rows", "Centers", "Ours", "Ours, weighted", "Ours, optimal", "Optimal, weighted"]
    inertia = _of_rows(bench, "relative_inertia")
    more = 100 * (inertia[OURS] / inertia[FLASH] - 1)
    note = (
        "Times as fast as flash1dkmeans' function in a parallel loop, on normal / heavy-tailed "
        "weights; in parentheses beside its function for rows that NumPy has sorted. Our inertia "
        f"differs from that of flash1dkmeans by {more.min():.1f} to {more.max():+.2f} %"
    )
    return tables.markdown(heads, lines) + f"\n{note}.\n"


def _of_rows(bench, column):
    """Medians by shape, number of centers, kind and weighting; a column for each peer."""
    keys = ["shape", "n_clusters", "kind", "weighted"]
    return of_rows(bench).pivot_table(column, keys, "peer", "median", sort=False)


def _of_kinds(seconds, peer, weighted, flash):
    times = (seconds[flash] / seconds[peer]).xs(weighted, level="weighted")
    return " / ".join(f"{value:.2g}" for value in times)


def targets_block():
    """What the engine was to reach, and the worst that it reached in the committed run."""
    bench = tables.read_table("bench", "bench")
    ratios = tables.read_table("bench", "ratios").groupby("case")["ratio"].median()
    lines = [
        [what, f"at least {limit:g}", f"{value:.2g}", _reached(value >= limit)]
        for what, limit, value in [*_row_targets(bench), *_size_targets(bench)]
    ]
    for what, limit, end in (
        ("all layers, times the seconds of a copy", 8, "all layers"),
        ("weighted, times not weighted", 2, ", weighted"),
        ("a codebook a channel, times one codebook", 5, "a codebook a channel"),
    ):
        value = ratios[ratios.index.str.endswith(end)].max()
        lines.append([what, f"at most {limit:g}", f"{value:.2g}", _reached(value <= limit)])
    return tables.markdown(["In the worst of the cases", "Target", "Measured", ""], lines)


def _row_targets(bench):
    """What is to be reached with a codebook a row, by how much, and what was."""
    rows = _of_rows(bench, "seconds")
    for k, limit in ((8, 2.5), (16, 2)):
        times = (rows[FLASH] / rows[OURS]).xs(k, level="n_clusters")
        for weighted, name in zip(BOTH, ("", ", weighted"), strict=True):
            what = f"a codebook a row, {k} centers{name}, times as fast as flash1dkmeans"
            yield what, limit, times.xs(weighted, level="weighted").min()
    yield "the same, optimal", 1, (rows[FLASH] / rows[OPTIMAL]).min()


def _size_targets(bench):
    """The same of arrays by their number of weights."""
    seconds = growing(bench).pivot_table("seconds", ["n_weights", "n_clusters"], "peer", "median")
    n, k = (seconds.index.get_level_values(name) for name in seconds.index.names)
    others = [name for name in seconds if name not in (OURS, OPTIMAL, COPY)]

    def times(peer, beside, where):
        return (seconds[beside].min(axis=1) / seconds[peer])[where].min()

    any_peer = "times as fast as any peer"
    yield (
        f"from 1,000 weights and 16 centers on, {any_peer}",
        1,
        times(OURS, others, (n >= 1000) & (k >= 16)),
    )
    yield (
        f"from 10,000 weights on at 4 centers, {any_peer}",
        1,
        times(OURS, others, (n >= 10_000) & (k == 4)),
    )
    for peer, least, centers, limit in (
        ("ckwrap", 1000, 2, 1),
        ("ckwrap", 1000, 16, 3),
        ("kmeans1d", 1000, 2, 10),
        (FLASH, 100_000, 2, 1),
    ):
        what = f"optimal, from {least:,} weights and {centers} centers on, times {peer}"
        yield what, limit, times(OPTIMAL, [peer], (n >= least) & (k >= centers))


def _reached(met):
    return "met" if met else "missed"


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
