"""Weights and accuracy of the study's network for the notebook that explores it."""

from ...evaluation import wilson_interval
from .distribution import convolution_weights, network_weights
from .evaluation import Evaluation, Setting
from .training import load_networks


def to_explore(experiment, n_images):
    """Weights of the headline network by the layer's name, and its `AccuracyOf`.

    Before the experiment has trained a network: weights of the convolutions, and None.
    """
    try:
        networks = load_networks(experiment)
    except FileNotFoundError:
        print(
            f"The convolutions alone, and no accuracy: `make reproduce EXPERIMENT={experiment}` "
            "trains the classifier."
        )
        return convolution_weights(), None
    network = next(iter(networks.values()))
    return network_weights(network), AccuracyOf(networks, n_images)


class AccuracyOf:
    """Measures top-1 of the headline network with shared layers, and says it in a sentence.

    Parameters
    ----------
    networks : dict of str to torch.nn.Module
        By name, the headline one first.
    n_images : int
        Number of first test images.
    """

    def __init__(self, networks, n_images):
        name = next(iter(networks))
        self.networks, self.n_images, self._evaluation = {name: networks[name]}, n_images, None

    def __call__(self, bits, init, gamma, revise):
        """Top-1 of both scopes, and of the float network."""
        if self._evaluation is None:
            self._evaluation = Evaluation(self.networks, self.n_images)
        setting = Setting(init, bits, revise, None, 0, gamma)
        shared = {scope: self._top1(top) for _, scope, top, _ in self._evaluation.run(setting)}
        ((_, _, top, _),) = self._evaluation.run(None, ["conv"])
        return (
            f"top-1 on {self.n_images} images: conv {shared['conv']}, all {shared['all']}, "
            f"float {self._top1(top)}"
        )

    def _top1(self, top):
        right = int((top[:, 0] == self._evaluation.images.labels).sum())
        low, high = wilson_interval(right, self.n_images)
        return f"{100 * right / self.n_images:.1f} % [{low:.1f}, {high:.1f}]"
