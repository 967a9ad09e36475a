"""The five methods: an encoder, what is put on it, and a loss of its views."""

from collections.abc import Callable
from typing import Final

from training.methods.autoencoder import AutoEncoderMethod
from training.methods.base import Method, Progress, StepOutput
from training.methods.mixed import MixedSimCLR
from training.methods.modified_simclr import ModifiedSimCLR
from training.methods.nnclr import NNCLR
from training.methods.simclr import SimCLR
from training.methods.swav import SwAV
from training.settings import MethodName, MethodSettings, NetworkSettings

__all__ = ["METHODS", "Method", "Progress", "StepOutput", "make_method"]

METHODS: Final[dict[MethodName, Callable[[NetworkSettings, MethodSettings], Method]]] = {
    MethodName.MODIFIED_SIMCLR: ModifiedSimCLR,
    MethodName.SIMCLR: SimCLR,
    MethodName.SWAV: SwAV,
    MethodName.NNCLR: NNCLR,
    MethodName.AUTOENCODER: AutoEncoderMethod,
    MethodName.MIXED: MixedSimCLR,
}


def make_method(network: NetworkSettings, method: MethodSettings) -> Method:
    """A method with random weights from torch's global generator."""
    return METHODS[method.name](network, method)
