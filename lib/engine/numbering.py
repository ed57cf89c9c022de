"""The two numberings of leaves, by the bits of floats and by their value.

A pass reads bits, and a shift of them is the quickest number of a leaf: its *slot*. Slots of
positive floats come first and ascend; those of negative floats follow and descend. Everything else
needs numbers that ascend with the floats: the *leaf number* is the same shift of the key.
"""

from typing import NewType

import numpy as np

Slots = NewType("Slots", np.ndarray)
LeafNumbers = NewType("LeafNumbers", np.ndarray)


def leaf_numbers(slots: Slots, n_leaves: int) -> LeafNumbers:
    """Leaf numbers of the given slots."""
    half = n_leaves // 2
    return np.where(slots < half, slots + half, n_leaves - 1 - slots)


def by_value(slots: Slots, n_leaves: int) -> Slots:
    """Ascending slots, put in the order of their leaf numbers."""
    negative = np.searchsorted(slots, n_leaves // 2)  # where the sign's bit is set
    return np.concatenate([slots[negative:][::-1], slots[:negative]])


def by_slot(table):
    """A table with an entry for each leaf number, put in the order of slots."""
    negative, positive = np.split(table, 2)
    return np.concatenate([positive, negative[::-1]])
