"""What the exploring notebook asks of the study's network: its weights, and its accuracy."""

from .evaluation import Evaluation, Setting, wilson_interval
from .network import LAYERS


def weights_of(networks):
    """Weights of the headline network's layers by name."""
    network = next(iter(networks.values()))
    return {name: network.get_submodule(path).weight for name, path in LAYERS.items()}


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
