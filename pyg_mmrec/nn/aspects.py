"""Aspects of texts: what is said, in parts, and the texts rebuilt from them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor

from pyg_mmrec.nn.loss.disentangled import aspect_loss
from pyg_mmrec.nn.standardize import Standardize
from pyg_mmrec.nn.vae import Code
from pyg_mmrec.utils import SparseOperator, edge_scores, edge_softmax, edge_sum, take_rows, unit_rows
from pyg_mmrec.utils.checks import check_flag, check_int

#: Rows that k-means reads at most.
CLUSTERED_ROWS = 20_000


class AspectBranch(torch.nn.Module):
    r"""Reads texts as a part for each attribute, and rebuilds them as mixtures of aspects.

    From "Multimodal Disentangled Representation for Recommendation" (Eq. 2, 3, 14 and 15), after `"An Unsupervised
    Neural Attention Model for Aspect Extraction" <https://aclanthology.org/P17-1036>`_. With word vectors
    :math:`\mathbf{w}` and a learned matrix M,

    .. math::
        \mathbf{t} = \sum_k \mathrm{softmax}_k \Big(\mathbf{w}_k^\top \mathbf{M} \, \frac{1}{n} \sum_j \mathbf{w}_j
        \Big) \mathbf{w}_k, \quad \mathbf{v}_j = AE_j(\mathbf{t}), \quad
        \mathbf{t}' = \sum_j \mathrm{softmax}_j(fc_j(\mathbf{r}_j)) \, \mathbf{d}_j

    where each :math:`AE_j` and :math:`fc_j` is a linear map, and the aspects :math:`\mathbf{d}_j` have length one.

    Args:
        word_channels: Width of the word vectors, or of the features that stand in for :math:`\mathbf{t}`.
        num_parts: Number of attributes q, at most ``word_channels``, so that aspects can be orthogonal.
        channels: Dimensions c of each part.
        num_words: Number of words, 0 of which is padding; None where features are read.
        train_words: Whether word vectors are learned, or stay as they are set (default: False).
        num_negatives: g, other texts that each is compared with (default: 1; aspect extraction has 20, and the loss is
            their sum).

    Shapes:
        - **input:** ``[num_items, num_tokens]`` int64 words, or ``[num_items, word_channels]`` features
        - **output:** :class:`~pyg_mmrec.nn.Code`

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        word_channels: int,
        num_parts: int,
        channels: int,
        *,
        num_words: int | None = None,
        train_words: bool = False,
        num_negatives: int = 1,
    ) -> None:
        super().__init__()
        check_int(1, word_channels=word_channels, num_parts=num_parts, channels=channels, num_negatives=num_negatives)
        check_flag(train_words=train_words)
        if num_words is not None:
            check_int(2, num_words=num_words)
        if num_parts > word_channels:
            raise ValueError(
                f"a text of width {word_channels} has at most as many aspects, which are to be orthogonal (got "
                f"{num_parts} attributes): read fewer attributes from it or take wider word vectors"
            )
        self.num_parts, self.channels, self.num_negatives = num_parts, channels, num_negatives
        self.word, self.attention, self.standardize = None, None, None
        if num_words is None:
            self.standardize = Standardize(word_channels)
        else:
            self.word = torch.nn.Parameter(torch.empty(num_words, word_channels), requires_grad=train_words)
            self.attention = torch.nn.Parameter(torch.empty(word_channels, word_channels))  # M
        self.extract = torch.nn.Linear(word_channels, num_parts * channels)  # all AE_j
        self.weigh = torch.nn.Parameter(torch.empty(num_parts, channels))  # all fc_j
        self.weigh_bias = torch.nn.Parameter(torch.zeros(num_parts))
        self.aspect = torch.nn.Parameter(torch.empty(num_parts, word_channels))  # D
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws everything anew."""
        self.extract.reset_parameters()
        for parameter in (self.weigh, self.aspect, self.word):
            if parameter is not None:
                torch.nn.init.xavier_uniform_(parameter)
        torch.nn.init.zeros_(self.weigh_bias)
        with torch.no_grad():
            if self.word is not None:
                self.word[0] = 0
            if self.attention is not None:
                torch.nn.init.xavier_uniform_(self.attention)

    @torch.no_grad()
    def start_from(self, x: Tensor, word: Tensor | None = None) -> None:
        """Sets word vectors, or by what features are standardised, and the aspects to k-means centres of these.

        Args:
            x: Features of the items that have them; not read where there are words.
            word: ``[num_words, word_channels]`` word vectors; zeros for words without one.
        """
        if self.standardize is not None:
            self.standardize.start_from(x)
            rows = self.read(x)
        else:
            assert self.word is not None
            assert word is not None
            self.word.copy_(word)
            rows = self.word[self.word.abs().sum(1) > 0]
        rows = rows[rows.isfinite().all(1)]
        if rows.size(0) < self.num_parts:
            return
        step = -(-rows.size(0) // CLUSTERED_ROWS)
        rows = F.normalize(rows[::step], dim=-1).cpu()
        centre = KMeans(self.num_parts, n_init=5, random_state=0).fit(rows.numpy()).cluster_centers_
        self.aspect.copy_(F.normalize(torch.from_numpy(centre), dim=-1).to(self.aspect))

    def read(self, x: Tensor) -> Tensor:
        """Words as they are, features standardised."""
        out: Tensor = x if self.standardize is None else self.standardize(x)
        return out

    def forward(self, x: Tensor) -> Code:
        """The parts of each text, and the text itself as ``target``."""
        text = self.text(x)
        part = self.extract(text).unflatten(1, (self.num_parts, self.channels))
        return Code(part, part, target=text)

    def text(self, x: Tensor) -> Tensor:
        """``[num_items, word_channels]`` t (Eq. 2), or the features; zeros for a text without words."""
        if self.word is None or self.attention is None:
            return x
        words = self._words(x)
        mean = words.mean() @ self.word
        weight = edge_softmax(words, edge_scores(words, mean @ self.attention.t(), self.word))
        return edge_sum(words, weight, self.word)

    def mean_word(self, x: Tensor) -> Tensor:
        """``[num_items, word_channels]`` mean word vectors, or the features: what a negative text is (Eq. 15)."""
        return x if self.word is None else self._words(x).mean() @ self.word

    def _words(self, x: Tensor) -> SparseOperator:
        """Which words are in which text: nothing is computed for padding, and no vector is copied for each word."""
        assert self.word is not None
        text, place = (x > 0).nonzero().unbind(1)
        edge_index, once = torch.stack([x[text, place], text]), self.word.new_ones(text.numel())
        return SparseOperator.from_edge_index(edge_index, once, num_src=self.word.size(0), num_dst=x.size(0))

    def rebuilt(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """``[num_items, num_parts]`` weights p and ``[num_items, word_channels]`` texts t' of parts (Eq. 14)."""
        weight = ((part * self.weigh).sum(-1) + self.weigh_bias).softmax(-1)
        return weight, weight @ unit_rows(self.aspect)

    def losses(self, x: Tensor, code: Code, part: Tensor) -> dict[str, Tensor]:
        """``aspects`` (first term of Eq. 15), ``[num_items]``, from the parts that fusion gave."""
        assert code.target is not None
        mean, num_items = self.mean_word(x), x.size(0)
        if num_items < 2:
            return {"aspects": code.target.new_zeros(num_items)}
        step = torch.randint(1, num_items, (num_items, self.num_negatives), device=x.device)
        other = (torch.arange(num_items, device=x.device).unsqueeze(1) + step) % num_items  # never the text itself
        return {"aspects": aspect_loss(self.rebuilt(part)[1], code.target, take_rows(mean, other))}

    def extra_repr(self) -> str:  # noqa: D102
        return f"num_parts={self.num_parts}, channels={self.channels}"
