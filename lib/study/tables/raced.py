"""Parts of the table `bench`: whole arrays, growing ones, and matrices with a codebook a row."""

PARTS = r"(?P<kind>[^,]+), (?P<rows>\d+) rows of (?P<columns>\d+)(?P<weighted>, weighted)?"


def is_growing(bench):
    """Whether each row is of the first weights of an array."""
    return bench["array"].str.endswith("growth")


def is_of_rows(bench):
    """Whether each row is of a matrix each of whose rows gets a codebook of its own."""
    return bench["array"].str.contains(" rows of ")


def growing(bench):
    """Rows of growing arrays whose peer could have all weights."""
    return bench[is_growing(bench) & (bench["n_weights"] == bench["n_array"])]


def of_rows(bench):
    """Rows of matrices, with columns `kind`, `shape` (rows x weights in a row) and `weighted`."""
    found = bench[is_of_rows(bench)]
    parts = found["array"].str.extract(PARTS)
    shape = parts["rows"] + " × " + parts["columns"]
    return found.assign(kind=parts["kind"], shape=shape, weighted=parts["weighted"].notna())
