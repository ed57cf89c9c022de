"""Weight sharing for neural networks by 1-D k-means on the distribution of the weights."""

from .clustering import Clustering, Prepared, cluster
from .initialization import INITIALIZATIONS
from .sharing import SharedLayer, SharedModel, plain_weights, share_weights

__all__ = [
    "INITIALIZATIONS",
    "Clustering",
    "Prepared",
    "SharedLayer",
    "SharedModel",
    "cluster",
    "plain_weights",
    "share_weights",
]
