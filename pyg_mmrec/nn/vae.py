"""Variational autoencoders of images and of feature vectors, behind one interface."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Conv2d, ConvTranspose2d, LeakyReLU, Linear, Sequential

from pyg_mmrec.nn.loss.disentangled import gaussian_kl, reconstruction_loss
from pyg_mmrec.nn.standardize import Standardize
from pyg_mmrec.utils.checks import check_int

#: Channels of the convolutions, from the picture inwards; further layers have as many as the last.
WIDTHS = (16, 32, 64)

#: Convolutions halve a picture until its shorter side is at most this.
SMALLEST = 4

#: Features are held to so few deviations from the mean: squared errors of outliers would drown everything else.
MOST_DEVIATIONS = 5.0


class Code(NamedTuple):
    """What a branch makes of items: a part for each of its attributes."""

    part: Tensor  #: ``[num_items, num_parts, channels]``, sampled in training where the branch is variational
    mean: Tensor  #: the same without sampling
    log_var: Tensor | None = None  #: of the sampling
    target: Tensor | None = None  #: what a text branch reconstructs, ``[num_items, word_channels]``

    def of(self, item: Tensor) -> Code:
        """The code of some of the items, indices or a mask."""
        log_var, target = (None if field is None else field[item] for field in (self.log_var, self.target))
        return Code(self.part[item], self.mean[item], log_var, target)


class VariationalBranch(torch.nn.Module):
    r"""Encoder to means and logarithms of variances of latent parts, and decoder from parts.

    From "Multimodal Disentangled Representation for Recommendation" (Eq. 1, 9 to 11; the autoencoder of `Kingma and
    Welling <https://arxiv.org/abs/1312.6114>`_). A subclass gives ``encoder`` (to ``2 * num_parts * channels``) and
    ``decoder`` (from ``num_parts * channels`` to what was read), and ``read``, raw content in the form that is encoded.

    Args:
        num_parts: Number of attributes m.
        channels: Dimensions c of each; there are :math:`N = m c` latent dimensions.
    """

    encoder: Sequential
    decoder: Sequential

    def __init__(self, num_parts: int, channels: int) -> None:
        super().__init__()
        check_int(1, num_parts=num_parts, channels=channels)
        self.num_parts, self.channels = num_parts, channels

    def reset_parameters(self) -> None:
        """Draws all layers anew."""
        for module in self.modules():
            if isinstance(module, (Linear, Conv2d, ConvTranspose2d)):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Code:
        """The code of what :meth:`read` gave; sampled in training mode."""
        mean, log_var = self.encoder(x).unflatten(1, (2, self.num_parts, self.channels)).unbind(1)
        log_var = log_var.clamp(-20, 10)  # the exponential stays finite
        part = mean + (0.5 * log_var).exp() * torch.randn_like(mean) if self.training else mean
        return Code(part, mean, log_var)

    def losses(self, x: Tensor, code: Code, part: Tensor) -> dict[str, Tensor]:
        """``reconstruction`` (Eq. 9) from the parts that fusion gave, and ``kl`` (Eq. 10); ``[num_items]`` each."""
        assert code.log_var is not None
        reconstructed = self.decoder(part.flatten(1)).view_as(x)
        return {
            "reconstruction": reconstruction_loss(x, reconstructed, self.num_parts * self.channels),
            "kl": gaussian_kl(code.mean.flatten(1), code.log_var.flatten(1)),
        }


class FeatureVAE(VariationalBranch):
    """Variational autoencoder of feature vectors, with one hidden layer each way.

    Features are standardised by :meth:`start_from` and held to five deviations.

    Args:
        in_channels: Width of the features.
        num_parts: Number of attributes.
        channels: Dimensions of each.
        hidden_channels: Width of the hidden layers (default: 128).

    Shapes:
        - **input:** ``[num_items, in_channels]``
        - **output:** :class:`Code`
    """

    def __init__(self, in_channels: int, num_parts: int, channels: int, hidden_channels: int = 128) -> None:
        super().__init__(num_parts, channels)
        check_int(1, in_channels=in_channels, hidden_channels=hidden_channels)
        size = num_parts * channels
        self.encoder = Sequential(Linear(in_channels, hidden_channels), LeakyReLU(), Linear(hidden_channels, 2 * size))
        self.decoder = Sequential(Linear(size, hidden_channels), LeakyReLU(), Linear(hidden_channels, in_channels))
        self.standardize = Standardize(in_channels)

    def start_from(self, x: Tensor) -> None:
        """Sets by what features are standardised, from those of the items that have them."""
        self.standardize.start_from(x)

    def read(self, x: Tensor) -> Tensor:
        """Standardised features."""
        z: Tensor = self.standardize(x)
        return z.clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)


class ImageVAE(VariationalBranch):
    """Variational autoencoder of images, with convolutions that halve the picture.

    Args:
        shape: Channels, height and width of the images.
        num_parts: Number of attributes.
        channels: Dimensions of each.
        hidden_channels: Width of the linear layer between picture and code, each way (default: 128).

    Shapes:
        - **input:** ``[num_items, *shape]`` uint8, read as numbers from 0 to 1
        - **output:** :class:`Code`
    """

    def __init__(self, shape: tuple[int, int, int], num_parts: int, channels: int, hidden_channels: int = 128) -> None:
        super().__init__(num_parts, channels)
        check_int(1, hidden_channels=hidden_channels)
        colours, height, width = shape
        steps = [(height, width)]
        while min(steps[-1]) > SMALLEST:
            steps.append(((steps[-1][0] + 1) // 2, (steps[-1][1] + 1) // 2))
        widths = [colours, *(WIDTHS[min(step, len(WIDTHS) - 1)] for step in range(len(steps) - 1))]
        inner = widths[-1] * steps[-1][0] * steps[-1][1]
        down: list[torch.nn.Module] = []
        up: list[torch.nn.Module] = []
        for outer, deeper, size in zip(widths[:-1], widths[1:], steps[:-1], strict=True):
            down += [Conv2d(outer, deeper, 3, stride=2, padding=1), LeakyReLU()]
            even = (1 - size[0] % 2, 1 - size[1] % 2)
            up = [LeakyReLU(), ConvTranspose2d(deeper, outer, 3, stride=2, padding=1, output_padding=even), *up]
        code = num_parts * channels
        self.encoder = Sequential(
            *down,
            torch.nn.Flatten(),
            Linear(inner, hidden_channels),
            LeakyReLU(),
            Linear(hidden_channels, 2 * code),
        )
        self.decoder = Sequential(
            Linear(code, hidden_channels),
            LeakyReLU(),
            Linear(hidden_channels, inner),
            torch.nn.Unflatten(1, (widths[-1], *steps[-1])),
            *up,
            torch.nn.Sigmoid(),
        )

    def read(self, x: Tensor) -> Tensor:
        """Pixels from 0 to 1."""
        return x.to(next(self.parameters()).dtype) / 255
