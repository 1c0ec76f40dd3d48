from __future__ import annotations

from pyg_mmrec.models import ABAE, BetaVAE, DINPlus
from tests.models.model_tests import FeatureModelTests


class TestABAE(FeatureModelTests[ABAE]):
    model_class = ABAE
    init_args = {"num_parts": 4}  # noqa: RUF012


class TestBetaVAE(FeatureModelTests[BetaVAE]):
    model_class = BetaVAE
    init_args = {"num_parts": 4, "kl_weight": 0.1}  # noqa: RUF012


class TestDINPlus(FeatureModelTests[DINPlus]):
    model_class = DINPlus
    init_args = {"num_parts": 4, "kl_weight": 0.1}  # noqa: RUF012
