"""Extractors by name: whether one can run here, and loading it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters import weights as registry
from fmcib_module.adapters.radiomics import RadiomicsExtractor, check_installed, measured_names
from fmcib_module.adapters.runner import Encoder, choose_device, load_encoder
from fmcib_module.core.errors import ConfigError, WeightsError
from fmcib_module.core.extractors import CARDS, Extractor, ExtractorCard, Region

OWN_NETWORK: Final = ("fmcib", "mini")
"""Extractors whose network is the chain's own, on any of its engines."""


@dataclass(frozen=True, slots=True)
class ExtractorChoice:
    """An extractor that can run here.

    Attributes:
        card: Which one.
        weights: Registry name or path of its weights; empty where it needs none.
        weights_sha256: Of them, verified; empty where it needs none.
    """

    card: ExtractorCard
    weights: str
    weights_sha256: str


class NetworkExtractor:
    """A network as an `Extractor`.

    Attributes:
        card: Which one.
        weights_sha256: Of its weights.
        feature_names: Empty: its features have only numbers.
        encoder: What runs it.
    """

    feature_names: tuple[str, ...] = ()

    def __init__(self, card: ExtractorCard, encoder: Encoder) -> None:
        """Wrap a loaded network."""
        self.card = card
        self.encoder = encoder
        self.weights_sha256 = encoder.weights.sha256

    def encode(self, patches: Sequence[Region]) -> NDArray[np.float32]:
        """(n, n_features) float32; batches that run out of memory are halved."""
        if not patches:
            return np.empty((0, self.encoder.n_features), dtype=np.float32)
        return self.encoder.encode(np.stack([region.voxels for region in patches]))


def choose_extractor(wanted: str) -> ExtractorChoice:
    """Check that an extractor can run here; nothing is loaded.

    Args:
        wanted: A name of `CARDS`, or NAME=FILE for that network with weights from a file.

    Raises:
        ConfigError: There is no such extractor, or the software it needs is not installed.
        WeightsError: Its weights are absent, damaged or without a known checksum.
    """
    name, _, path = wanted.partition("=")
    card = next((card for card in CARDS if card.name == name), None)
    if card is None:
        known = ", ".join(card.name for card in CARDS)
        raise ConfigError(f"there is no extractor {name!r}", "extractor", f"use one of: {known}; or NAME=FILE")
    if card.form.needs_mask:
        check_installed()
        if path:
            raise ConfigError(f"{name} has no weights", "extractor", f"write {name}")
        return ExtractorChoice(card, "", "")
    if name not in OWN_NETWORK and find_spec("torch") is None:
        raise ConfigError("torch is not installed", f"extractor {name}", "run it where torch is")
    info = registry.verify(path or name)
    if path and info.sha256 not in {entry.sha256 for entry in registry.list_weights() if entry.name == name}:
        card = replace(card, version=f"file {info.name}", note=f"{registry.UNKNOWN_NOTE}; {card.note}".strip("; "))
    return ExtractorChoice(card, path or name, info.sha256)


def load_extractor(wanted: str, *, device: str = "auto", engine: str = "auto", precision: str = "float32") -> Extractor:
    """Load an extractor once.

    Args:
        wanted: As `choose_extractor`.
        device: auto, cpu or cuda.
        engine: Of `fmcib` and `mini`, as `load_encoder`; the others run on torch.
        precision: Of `fmcib` and `mini`, as `load_encoder`; the others compute in float32.

    Raises:
        ConfigError: As `choose_extractor`, or there is no such device or engine here.
        WeightsError: As `choose_extractor`, or the weights do not fit the network.
    """
    choice = choose_extractor(wanted)
    card = choice.card
    if card.form.needs_mask:
        return RadiomicsExtractor(card)
    if card.name in OWN_NETWORK:
        encoder = load_encoder(choice.weights, device=device, engine=engine, precision=precision)
    else:
        encoder = _torch_encoder(choice, choose_device(device))
    if encoder.n_features != card.n_features:
        if "=" not in wanted:
            what = f"the network gives {encoder.n_features} features, expected {card.n_features}"
            raise WeightsError(what, card.name, f"fetch the weights of {card.name} again")
        card = replace(card, n_features=encoder.n_features)
    return NetworkExtractor(card, encoder)


def feature_names(name: str) -> tuple[str, ...]:
    """Of each feature of an extractor; empty where they have only numbers."""
    return measured_names() if next(card for card in CARDS if card.name == name).form.needs_mask else ()


def _torch_encoder(choice: ExtractorChoice, device: str) -> Encoder:
    from fmcib_module.adapters.checkpoint import load_weights  # torch
    from fmcib_module.adapters.engine_torch import TorchForward
    from fmcib_module.adapters.extractor_networks import network_from_tensors

    info, tensors = load_weights(choice.weights)
    network = network_from_tensors(choice.card.name, tensors, info.name)
    info = replace(info, n_features=int(network.n_features))  # type: ignore[arg-type]  # a module's attribute
    return Encoder(TorchForward(network, device), info, device, edge=choice.card.form.edge)
