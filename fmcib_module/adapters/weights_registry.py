"""The registry of weights: each line is checked by its SHA-256 before it is used."""

from dataclasses import dataclass
from typing import Final

PAPER: Final = (
    "Pai S, Bontempi D, Hadzic I, et al. Foundation model for cancer imaging biomarkers. "
    "Nature Machine Intelligence 2024;6:354-367. doi:10.1038/s42256-024-00807-9"
)


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One line of the registry.

    Attributes:
        name: What the user writes.
        file_name: Name of the file, in the package or in the cache folder `<cache>/<name>`.
        sha256: Of the file; empty where the publisher gives none and no public record does: such a file is taken by
            its path, or fetched with a checksum that the user states.
        size: Bytes; rounded, or an upper bound, where `url` is set.
        licence: SPDX identifier.
        citation: What to cite.
        n_features: Features per patch.
        note: What a reader of the results should know; empty for the published weights.
        url: Where it is fetched from; empty for a packaged file.
    """

    name: str
    file_name: str
    sha256: str
    size: int
    licence: str
    citation: str
    n_features: int
    note: str = ""
    url: str = ""


REGISTRY: Final = (
    WeightsEntry(
        name="ct-fm",
        file_name="model.safetensors",
        sha256="",
        size=312_000_000,
        licence="MIT",
        citation="Pai S, Hadzic I, Bontempi D, et al. Vision foundation models for computed tomography. "
        "arXiv:2501.09001",
        n_features=512,
        note="for --extractor ct-fm; no SHA-256 of the publisher's file is known",
        url="https://huggingface.co/project-lighter/ct_fm_feature_extractor/resolve/main/model.safetensors",
    ),
    WeightsEntry(
        name="fmcib",
        file_name="model_weights.torch",
        # The publisher gives no SHA-256. This one is pinned by a public study that loads the file of this record
        # strictly and with weights_only; a fetch that differs is refused, and `sha256=` states another on purpose.
        sha256="8cc92ec452d1099a6de6bbfdb9e124c79d750e513a86ce6be6d91d187aca4bc2",
        size=738_000_000,
        licence="CC-BY-NC-4.0",
        citation=PAPER,
        n_features=4096,
        url="https://zenodo.org/records/10528450/files/model_weights.torch?download=1",
    ),
    WeightsEntry(
        name="med3d",
        file_name="resnet_50.pth",
        # The publisher gives no SHA-256 either. Several public studies that took the file from the publisher's archive
        # record this one, with 318 tensors that load strictly.
        sha256="5b6189cafbee2f5604a7279b62bc163365aa6a86a377e1dc260a14275cacbd84",
        size=184_885_051,
        licence="MIT",
        citation="Chen S, Ma K, Zheng Y. Med3D: transfer learning for 3D medical image analysis. arXiv:1904.00625",
        n_features=2048,
        note="for --extractor med3d: MedicalNet's ResNet50 of eight data sets",
        url="https://huggingface.co/TencentMedicalNet/MedicalNet-Resnet50/resolve/main/resnet_50.pth",
    ),
    WeightsEntry(
        name="mini",
        file_name="mini.safetensors",
        sha256="607981c007243801f08112ca7ee2978a5ca516966dd7373de8673fd585b51b9e",
        size=11_681_128,
        licence="CC-BY-3.0 AND Apache-2.0 AND BSD-3-Clause",
        citation="",
        n_features=512,
        note="small network trained by us on open CT: for trying the chain and for tests, not the published model, "
        "not for conclusions",
    ),
    WeightsEntry(
        name="models-genesis",
        file_name="Genesis_Chest_CT.pt",
        sha256="",
        size=400_000_000,
        licence="MIT",
        citation="Zhou Z, Sodha V, Pang J, et al. Models Genesis. Medical Image Analysis 2021;67:101840. "
        "doi:10.1016/j.media.2020.101840",
        n_features=4096,
        note="for --extractor models-genesis; no SHA-256 of the publisher's file is known",
        url="https://huggingface.co/MrGiovanni/ModelsGenesis/resolve/main/Genesis_Chest_CT.pt",
    ),
)
