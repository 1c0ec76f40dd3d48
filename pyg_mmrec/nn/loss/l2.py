"""Penalties on embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def embedding_l2(*embeddings: Tensor, form: Literal["squared", "norm"] = "squared") -> Tensor:
    r"""L2 penalty on the embeddings of a batch, in either of the two forms in circulation.

    ``'squared'`` is the papers' :math:`\frac{1}{2B} \sum_t \lVert \mathbf{E}_t \rVert_2^2` (`LightGCN
    <https://arxiv.org/abs/2002.02126>`_, Eq. 15, per example). ``'norm'`` is the field's toolboxes'
    :math:`\frac{1}{B} \sum_t \lVert \mathbf{E}_t \rVert_2`, where each norm is taken over the whole matrix and not
    squared: at equal weight it is some orders of magnitude weaker, so the weights do not carry over.

    Args:
        embeddings: Matrices ``[batch_size, channels]``, usually the layer-0 embeddings of users, positive and
            negative items. B is the first one's number of rows.
        form: ``'squared'`` (default) or ``'norm'``.

    Raises:
        ValueError: If there are no embeddings, or ``form`` is neither of the two.

    Example:
        >>> embedding_l2(torch.ones(2, 2), torch.ones(2, 2))
        tensor(2.)
        >>> embedding_l2(torch.ones(2, 2), torch.ones(2, 2), form='norm')
        tensor(2.)
    """
    if not embeddings:
        raise ValueError("'embeddings' must hold at least one matrix (got none)")
    if form == "squared":
        total = torch.stack([embedding.square().sum() for embedding in embeddings]).sum() / 2
    elif form == "norm":
        total = torch.stack([torch.linalg.vector_norm(embedding) for embedding in embeddings]).sum()
    else:
        raise ValueError(f"'form' must be 'squared' or 'norm' (got {form!r})")
    return total / embeddings[0].size(0)
