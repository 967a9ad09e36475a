"""Optimisers by name, which parameters decay, and the schedule of the learning rate."""

import math

from lightly.utils.lars import LARS
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from training.settings import OptimiserName, OptimiserSettings

__all__ = ["LARS", "cosine_with_warmup", "make_optimiser", "parameter_groups", "scaled_learning_rate"]


def scaled_learning_rate(settings: OptimiserSettings, lesions_per_step: int) -> float:
    """Learning rate after warm-up (Goyal et al. 2017, arXiv:1706.02677).

    Args:
        settings: Section `optimiser`.
        lesions_per_step: Over all ranks and accumulated batches.
    """
    factor = lesions_per_step / settings.reference_batch if settings.reference_batch else 1.0
    return settings.learning_rate * factor


def parameter_groups(
    module: nn.Module, weight_decay: float, *, decay_norms_and_biases: bool
) -> list[dict[str, object]]:
    """Groups for an optimiser: with decay, and without.

    A group without decay is plain momentum SGD under LARS (lightly's, as the published one, scales no such group).

    Args:
        module: Whose trainable parameters are meant.
        weight_decay: Of the first group.
        decay_norms_and_biases: All parameters decay, in one group. Otherwise vectors and scalars (weights of norms,
            biases) do not, as in SimCLR.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if decay_norms_and_biases:
        return [{"params": parameters, "weight_decay": weight_decay}]
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def make_optimiser(module: nn.Module, settings: OptimiserSettings, lesions_per_step: int) -> Optimizer:
    """An optimiser for a module's trainable parameters, at the scaled learning rate."""
    rate = scaled_learning_rate(settings, lesions_per_step)
    groups = parameter_groups(module, settings.weight_decay, decay_norms_and_biases=settings.decay_norms_and_biases)
    match settings.name:
        case OptimiserName.LARS:
            lars: Optimizer = LARS(
                groups, lr=rate, momentum=settings.momentum, trust_coefficient=settings.trust_coefficient
            )
            return lars
        case OptimiserName.SGD:
            return SGD(groups, lr=rate, momentum=settings.momentum)
        case OptimiserName.ADAM:
            return Adam(groups, lr=rate)
        case OptimiserName.ADAMW:
            return AdamW(groups, lr=rate)


def cosine_with_warmup(
    optimiser: Optimizer, *, warmup_steps: int, total_steps: int, final_fraction: float = 0.0
) -> LambdaLR:
    """Linear from 0 to the optimiser's rate, then half a cosine to `final_fraction` of it; to be stepped every step.

    Step `warmup_steps` is the first at the full rate; step 0 is already above 0.

    References:
        Loshchilov and Hutter 2017, arXiv:1608.03983; Chen et al. 2020, arXiv:2002.05709, appendix B.6 (10 epochs).
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimiser, factor)
