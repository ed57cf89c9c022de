"""Files of weights that may be larger than memory, clustered tensor by tensor."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from .clustering import check_n_clusters, cluster

FLOATS = ("F16", "BF16", "F32", "F64")  # safetensors' names of what can be clustered


def cluster_file(path, n_clusters, *, names=None, at_least=2, progress=iter, **options):
    """Cluster the tensors of a safetensors file, one after another.

    Only one tensor is in memory at a time, with its labels and what clustering it takes: together
    less than twice the largest tensor.

    Parameters
    ----------
    path : path-like
    n_clusters : int
        Centers of each tensor.
    names : sequence of str, optional
        By default every floating-point tensor of `at_least` so many dimensions.
    at_least : int
    progress : callable
        Wraps the names.
    **options
        Passed to `cluster`.

    Yields
    ------
    tuple of (str, Clustering)

    Raises
    ------
    ValueError
        If the file is none of safetensors, lacks a name, or a tensor cannot be clustered; with the
        tensor's name.
    """
    check_n_clusters(n_clusters)
    try:
        file = safe_open(Path(path), "pt")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from error
    with file:
        known = list(file.keys())
        if names is None:
            names = [name for name in known if _is_weight(file.get_slice(name), at_least)]
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{path} lacks the tensors {unknown}; it has {known}.")
        for name in progress(names):
            weights = file.get_tensor(name)
            try:
                yield name, cluster(weights, n_clusters, **options)
            except (TypeError, ValueError) as error:
                raise type(error)(f"tensor {name!r}: {error}") from error
            del weights  # before the next one is read


def _is_weight(part, at_least):
    return part.get_dtype() in FLOATS and len(part.get_shape()) >= at_least
