"""An upper bound of mutual information."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim.adam import adam


class CLUB(torch.nn.Module):
    r"""Contrastive log-ratio upper bound of the mutual information of paired samples.

    From `"CLUB: A Contrastive Log-ratio Upper Bound of Mutual Information" <https://arxiv.org/abs/2006.12013>`_, as
    SEA uses it (`Eq. 14 and 15 <https://arxiv.org/abs/2406.08270>`_):

    .. math::
        \mathrm{I}(\mathbf{x}; \mathbf{y}) \le \mathbb{E}_{p(\mathbf{x}, \mathbf{y})} [\ln q(\mathbf{y} | \mathbf{x})] -
        \mathbb{E}_{p(\mathbf{x})} \mathbb{E}_{p(\mathbf{y})} [\ln q(\mathbf{y} | \mathbf{x})]

    :math:`q(\mathbf{y} | \mathbf{x})` is a diagonal Gaussian, whose mean and tanh-bounded log-variance are perceptrons
    with one hidden layer. :meth:`fit` maximises its likelihood, and the value is a bound only where q comes close
    enough to the true conditional (Theorem 2): not before it is fitted, and not where it cannot be, such as on more
    than ``hidden_channels`` directions that depend on each other. The second expectation is taken over one random
    permutation of the samples.

    Several pairs of variables are fitted and bounded side by side, each with its own q. The weights of q are buffers:
    :meth:`fit` moves them by Adam with gradients written out by hand (50 steps per batch are what SEA's time goes
    into), and the optimiser that trains everything else does not see them. They and Adam's moments are part of the
    state.

    Args:
        num_pairs: How many pairs of variables (default: 1).
        in_channels: Width of x (default: 32, SEA's).
        out_channels: Width of y (default: 32, SEA's).
        hidden_channels: Width of the hidden layers (default: 8, SEA's).
        lr: Learning rate of q (default: 1e-4, SEA's).

    Shapes:
        - **input:** ``[num_pairs, num_samples, in_channels]``, ``[num_pairs, num_samples, out_channels]``
        - **output:** ``[num_pairs]`` bounds in nats, each at least 0

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(1, 500, 4)
        >>> club = CLUB(1, 4, 4, lr=1e-2)
        >>> club.fit(x, x, num_steps=200)
        >>> bool(club(x, x) > 2 * club(x, torch.randn(1, 500, 4)))
        True
    """

    weight: Tensor
    moments: Tensor
    step: Tensor

    def __init__(
        self,
        num_pairs: int = 1,
        in_channels: int = 32,
        out_channels: int = 32,
        *,
        hidden_channels: int = 8,
        lr: float = 1e-4,
    ) -> None:
        super().__init__()
        for name, size in (("num_pairs", num_pairs), ("in_channels", in_channels), ("out_channels", out_channels)):
            if size < 1:
                raise ValueError(f"'{name}' must be positive (got {size})")
        if hidden_channels < 1:
            raise ValueError(f"'hidden_channels' must be positive (got {hidden_channels})")
        if not 0 < lr < math.inf:
            raise ValueError(f"'lr' must be positive (got {lr})")
        self.num_pairs, self.lr = num_pairs, lr
        # The mean's perceptron and the log-variance's side by side: one first layer of double width, its biases in the
        # last row, and two second layers.
        k = self._hidden = hidden_channels
        self._shapes = [(in_channels + 1, 2 * k), (2 * k, out_channels), (2, out_channels)]
        size = sum(math.prod(shape) for shape in self._shapes)
        self.register_buffer("weight", torch.zeros(num_pairs, size))
        self.register_buffer("moments", torch.zeros(2, num_pairs, size))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws q anew, as :class:`torch.nn.Linear` does, and forgets Adam's moments."""
        self.moments.zero_()
        self.step.zero_()
        weight1, weight2, bias2 = self._split(self.weight)
        for part, fan_in in ((weight1, weight1.size(1) - 1), (weight2, self._hidden), (bias2, self._hidden)):
            part.uniform_(-(fan_in**-0.5), fan_in**-0.5)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """The bounds, differentiable in both samples.

        Args:
            x: ``[num_pairs, num_samples, in_channels]``.
            y: ``[num_pairs, num_samples, out_channels]``.
            mask: ``[num_pairs, num_samples]`` bool, the samples that count; all by default.
        """
        self._check(x, y)
        mean, log_variance = self.conditional(x)
        precision = (-log_variance).exp()
        other = self._permuted(y, mask)
        # Half the difference of the squared errors: all other terms of ln q cancel.
        log_ratio = ((mean - other).square() - (mean - y).square()).mul(precision).sum(-1) / 2
        return _mean(log_ratio, mask).clamp_min(0)

    def log_likelihood(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[num_pairs]`` mean of ln q(y | x)."""
        self._check(x, y)
        mean, log_variance = self.conditional(x)
        error = (mean - y).square() * (-log_variance).exp()
        return _mean(-(error + log_variance + math.log(2 * math.pi)).sum(-1) / 2, mask)

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor, mask: Tensor | None = None, num_steps: int = 50) -> None:
        """Moves q towards the samples by steps of Adam on the mean negative log-likelihood.

        Args:
            x: ``[num_pairs, num_samples, in_channels]``.
            y: ``[num_pairs, num_samples, out_channels]``.
            mask: As in :meth:`forward`.
            num_steps: How many steps (default: 50, SEA's).
        """
        self._check(x, y)
        if num_steps < 0:
            raise ValueError(f"'num_steps' must not be negative (got {num_steps})")
        x, y = x.detach().to(self.weight.dtype), y.detach().to(self.weight.dtype)
        count = torch.full((self.num_pairs, 1), x.size(1), dtype=x.dtype, device=x.device)
        if mask is not None:
            x, y = (part.masked_fill(~mask.unsqueeze(-1), 0) for part in (x, y))
            count = mask.sum(1, keepdim=True).clamp_min(1).to(x.dtype)
        x = torch.nn.functional.pad(x, (0, 1), value=1.0)  # a channel of ones carries the bias
        # Channels first: halves of the channels are then contiguous, which tanh and exp are much faster on.
        x, y = x.mT.contiguous(), y.mT.contiguous()
        widths = (2 * self._hidden, 2 * self._hidden, 2 * y.size(1), 2 * y.size(1))
        space = [x.new_empty(x.size(0), width, x.size(2)) for width in widths]
        with torch.autocast(x.device.type, enabled=False):
            for _ in range(num_steps):
                adam(
                    [self.weight],
                    [self._gradient(x, y, mask, space) / count],
                    [self.moments[0]],
                    [self.moments[1]],
                    [],
                    [self.step],
                    foreach=False,
                    amsgrad=False,
                    beta1=0.9,
                    beta2=0.999,
                    lr=self.lr,
                    weight_decay=0.0,
                    eps=1e-8,
                    maximize=False,
                )

    def _gradient(self, x: Tensor, y: Tensor, mask: Tensor | None, space: list[Tensor]) -> Tensor:
        """Gradient of the negative log-likelihood, summed over the samples; ``x`` ends with a channel of ones.

        Samples are ``[num_pairs, channels, num_samples]`` here. ``space`` holds what is as long as they are, so that no
        step maps fresh memory.
        """
        weight1, weight2, bias2 = self._split(self.weight)
        hidden, grad_hidden, out, grad = space
        k, width = self._hidden, y.size(1)
        block = weight2.new_zeros(x.size(0), 2 * k, 2 * width)  # both second layers in one product
        block[:, :k, :width], block[:, k:, width:] = weight2[:, :k], weight2[:, k:]
        torch.bmm(weight1.mT, x, out=hidden).relu_()
        torch.baddbmm(bias2.flatten(1).unsqueeze(2), block.mT, hidden, out=out)
        error, log_variance = out[:, :width].sub_(y), out[:, width:].tanh_()
        grad_mean, grad_log_variance = grad[:, :width], grad[:, width:]
        torch.neg(log_variance, out=grad_mean).exp_().mul_(error)  # error / variance
        # d/d log-variance of (error^2 / variance + log-variance) / 2, then through the tanh.
        torch.addcmul(out.new_tensor(0.5), grad_mean, error, value=-0.5, out=grad_log_variance)
        torch.ops.aten.tanh_backward(grad_log_variance, log_variance, grad_input=grad_log_variance)
        if mask is not None:
            grad.mul_(mask.unsqueeze(1))
        products = hidden @ grad.mT  # of which the diagonal blocks are wanted
        torch.bmm(block, grad, out=grad_hidden).mul_(hidden.sign_())
        parts = [x @ grad_hidden.mT, products[:, :k, :width], products[:, k:, width:], grad.sum(2)]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def _check(self, x: Tensor, y: Tensor) -> None:
        for name, part, channels in (("x", x, self._shapes[0][0] - 1), ("y", y, self._shapes[-1][1])):
            if part.dim() != 3 or part.size(0) != self.num_pairs or part.size(2) != channels or not part.size(1):
                raise ValueError(
                    f"'{name}' must have shape [{self.num_pairs}, num_samples, {channels}] (got {list(part.shape)})"
                )

    def conditional(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(y | x), ``[num_pairs, num_samples, out_channels]`` each."""
        weight1, weight2, bias2 = self._split(self.weight.clone())  # the next fit writes into the buffer
        k = self._hidden
        hidden = torch.relu(x @ weight1[:, :-1] + weight1[:, -1:])
        mean = hidden[..., :k] @ weight2[:, :k] + bias2[:, :1]
        return mean, torch.tanh(hidden[..., k:] @ weight2[:, k:] + bias2[:, 1:])

    def _split(self, weight: Tensor) -> list[Tensor]:
        parts = weight.split([math.prod(shape) for shape in self._shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    @staticmethod
    def _permuted(y: Tensor, mask: Tensor | None) -> Tensor:
        """The samples of each pair in a random order; those that do not count stay where they are."""
        perm = torch.randperm(y.size(1), device=y.device)
        if mask is None:
            return y[:, perm]
        order = torch.arange(y.size(1), device=y.device).repeat(y.size(0), 1)
        for row, counts in zip(order, mask, strict=True):
            row[counts] = perm[counts[perm]]
        return y.gather(1, order.unsqueeze(-1).expand_as(y))

    def extra_repr(self) -> str:  # noqa: D102
        return f"num_pairs={self.num_pairs}, lr={self.lr}"


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the samples that count."""
    return x.mean(-1) if mask is None else x.masked_fill(~mask, 0).sum(-1) / mask.sum(-1).clamp_min(1)
