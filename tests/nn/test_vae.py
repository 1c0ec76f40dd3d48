from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from pyg_mmrec.nn import Code, FeatureVAE, ImageVAE
from pyg_mmrec.nn.loss import gaussian_kl, leakage_loss, reconstruction_loss


def test_divergence_equals_that_of_the_distributions() -> None:
    mean, log_var = torch.randn(5, 7), torch.randn(5, 7)
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0, 1)).mean(1)
    torch.testing.assert_close(gaussian_kl(mean, log_var), expected)


def test_reconstruction_equals_eq_9() -> None:
    x, y = np.random.default_rng(0).random((2, 3, 2, 4, 5))
    expected = [((a - b) ** 2).sum() / (2 * 6) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(reconstruction_loss(torch.from_numpy(x), torch.from_numpy(y), 6), expected)


def test_bound_is_that_of_a_linear_gaussian() -> None:
    """Eq. 9 and 10 together are, a latent dimension and but for a constant, the negative evidence bound."""
    x, mean, log_var, decoded = (torch.randn(4, size) for size in (6, 3, 3, 6))
    log_likelihood = Normal(decoded, 1).log_prob(x).sum(1) + 3 * math.log(2 * math.pi)
    bound = log_likelihood - kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0, 1)).sum(1)
    found = reconstruction_loss(x, decoded, 3) + gaussian_kl(mean, log_var)
    torch.testing.assert_close(found, -bound / 3)


def test_leakage_is_the_sum_of_squared_correlations() -> None:
    rng = np.random.default_rng(0)
    label, part = np.eye(3)[rng.integers(3, size=40)], rng.random((40, 5))
    expected = sum(np.corrcoef(label[:, k], part[:, c])[0, 1] ** 2 for k in range(3) for c in range(5))
    assert leakage_loss(torch.from_numpy(label), torch.from_numpy(part)).item() == pytest.approx(expected, rel=1e-3)


def test_leakage_is_none_where_classes_have_equal_means() -> None:
    label, part = torch.eye(4).repeat(10, 1), torch.randn(10, 1, 5).expand(10, 4, 5).reshape(40, 5)
    assert leakage_loss(label, part) < 1e-6
    assert leakage_loss(label, torch.ones(40, 5)) == 0
    assert leakage_loss(label[:0], part[:0]) == 0


def test_leakage_moves_dimensions_but_no_labels_and_cannot_be_scaled_away() -> None:
    label, part = torch.rand(30, 4).requires_grad_(), torch.randn(30, 5).requires_grad_()
    loss = leakage_loss(label, part)
    loss.backward()
    assert label.grad is None
    assert part.grad is not None
    assert abs((part.grad * (part - part.mean(0))).sum()) < 1e-4  # along the deviations themselves
    torch.testing.assert_close(leakage_loss(label, 7 * part + 3), loss, rtol=1e-3, atol=0)


def test_codes_are_sampled_in_training_only() -> None:
    vae = FeatureVAE(5, num_parts=2, channels=3)
    x = torch.randn(1, 5).expand(4000, 5)
    code = vae.train()(x)
    assert isinstance(code, Code)
    deviation = (0.5 * code.log_var[0]).exp()
    torch.testing.assert_close(code.part.std(0), deviation, rtol=0.1, atol=0)
    torch.testing.assert_close(code.part.mean(0), code.mean[0], rtol=0, atol=0.1 * deviation.max().item())
    still = vae.eval()(x)
    assert torch.equal(still.part, still.mean)


def test_features_are_standardised_and_held() -> None:
    vae, x = FeatureVAE(3, 1, 2), torch.randn(1000, 3) * torch.tensor([1.0, 20.0, 0.0]) + 5
    vae.start_from(x)
    z = vae.read(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0)[:2], torch.ones(2), atol=0.01, rtol=0)
    assert vae.read(x + 1000).max() == 5


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 64, 44), (1, 5, 7), (2, 3, 3)])
def test_pictures_of_any_size(shape: tuple[int, int, int]) -> None:
    vae = ImageVAE(shape, num_parts=2, channels=3)
    x = vae.read(torch.randint(256, (4, *shape), dtype=torch.uint8))
    assert 0 <= x.min() <= x.max() <= 1
    code = vae(x)
    assert code.part.shape == (4, 2, 3)
    losses = vae.losses(x, code, code.part)
    assert {name: value.shape for name, value in losses.items()} == {"reconstruction": (4,), "kl": (4,)}
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in vae.parameters())


def test_pictures_are_learned() -> None:
    """A bright square on the left or on the right is rebuilt from two numbers."""
    x = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
    side = torch.arange(64) % 2
    x[side == 0, :, 2:6, :4] = 255
    x[side == 1, :, 2:6, 4:] = 255
    vae = ImageVAE((1, 8, 8), num_parts=1, channels=2)
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.01)
    for _ in range(150):
        code = vae(vae.read(x))
        losses = vae.losses(vae.read(x), code, code.part)
        optimizer.zero_grad()
        (losses["reconstruction"] + 0.01 * losses["kl"]).mean().backward()
        optimizer.step()
    vae.eval()
    code = vae(vae.read(x))
    rebuilt = vae.decoder(code.part.flatten(1))
    assert (rebuilt.round() == vae.read(x)).float().mean() > 0.98


@pytest.mark.parametrize("cls", [FeatureVAE, ImageVAE])
def test_reset_draws_anew(cls: type[FeatureVAE] | type[ImageVAE]) -> None:
    vae = FeatureVAE(4, 1, 2) if cls is FeatureVAE else ImageVAE((1, 6, 6), 1, 2)
    before = [parameter.clone() for parameter in vae.parameters()]
    vae.reset_parameters()
    assert not any(torch.equal(one, two) for one, two in zip(before, vae.parameters(), strict=True))


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match=r"^'num_parts' must be positive \(got 0\)$"):
        FeatureVAE(4, 0, 2)
    with pytest.raises(ValueError, match=r"^'hidden_channels' must be positive \(got 0\)$"):
        ImageVAE((1, 4, 4), 1, 2, hidden_channels=0)
