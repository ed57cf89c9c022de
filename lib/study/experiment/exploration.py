"""What the exploring notebook asks of the study's network: its weights, and its accuracy."""

from ...evaluation import wilson_interval
from .data import load_convolutions
from .evaluation import Evaluation, Setting
from .network import LAYERS
from .training import load_networks


def to_explore(experiment, n_images):
    """Weights of the headline network's layers by name, and what measures its accuracy.

    Before the experiment has trained a network they are the convolutions', and None.
    """
    try:
        networks = load_networks(experiment)
    except FileNotFoundError:
        print(
            f"The convolutions alone, and no accuracy: `make reproduce EXPERIMENT={experiment}` "
            "trains the classifier."
        )
        found = load_convolutions()
        named = {name: f"{path}.weight" for name, path in LAYERS.items()}
        return {name: found[path] for name, path in named.items() if path in found}, None
    network = next(iter(networks.values()))
    weights = {name: network.get_submodule(path).weight for name, path in LAYERS.items()}
    return weights, AccuracyOf(networks, n_images)


class AccuracyOf:
    """Top-1 of the headline network with every layer shared, in words.

    Parameters
    ----------
    networks : dict of str to torch.nn.Module
    n_images : int
        First test images.
    """

    def __init__(self, networks, n_images):
        name = next(iter(networks))
        self.networks, self.n_images, self._evaluation = {name: networks[name]}, n_images, None

    def __call__(self, bits, init, gamma, revise):
        """Top-1 of both scopes, and of the float network."""
        if self._evaluation is None:
            self._evaluation = Evaluation(self.networks, self.n_images)
        setting = Setting(init, bits, revise, None, 0, gamma)
        found = {scope: self._top1(top) for _, scope, top, _ in self._evaluation.run(setting)}
        ((_, _, top, _),) = self._evaluation.run(None, ["conv"])
        return (
            f"top-1 on {self.n_images} images: conv {found['conv']}, all {found['all']}, "
            f"float {self._top1(top)}"
        )

    def _top1(self, top):
        right = int((top[:, 0] == self._evaluation.images.labels).sum())
        low, high = wilson_interval(right, self.n_images)
        return f"{100 * right / self.n_images:.1f} % [{low:.1f}, {high:.1f}]"
