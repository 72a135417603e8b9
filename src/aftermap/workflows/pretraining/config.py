"""What can be said about pretraining an encoder on images without labels."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from aftermap.artefacts.card import Normalisation
from aftermap.config import Config
from aftermap.data.augment.operations import DEFAULT, Operations
from aftermap.data.scene import Split
from aftermap.learning.configs.optimizer import OptimizerConfig
from aftermap.learning.configs.pretraining import MaskedImageConfig, PretrainingConfig
from aftermap.learning.experiments.notify import NotifyConfig
from aftermap.learning.experiments.tracking import RecordsConfig
from aftermap.learning.precision import Precision
from aftermap.models.configs.encoder import EncoderName, EncoderOptions, EncoderWeights


class PretrainDataConfig(Config):
    """Whose images are learned from; labels play no part.

    Attributes:
        manifests: prepared datasets; every date of a scene is an image of its own.
        events: whose scenes are taken; none takes all.
        splits: whose scenes are taken; none takes all.
        held_out: share of the scenes, by a hash of their names, that only measures how far the learning is.
        licence: of the images.
    """

    manifests: list[Path]
    events: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    description: str = ""
    licence: str = "not stated"


class PretrainRecipe(Config):
    """One run of pretraining.

    Attributes:
        encoder_name, encoder_depth, encoder_options: as in the models that are to begin with it.
        encoder_weights: where it begins itself.
        encoder_licence: of the file that `encoder_weights` names; needed where its metadata say none.
        objective: `masked-image` or `vicreg`.
        crop_px, batch_size, augment: what it is shown.
        keep: `last` is usual: the held-out loss says little of what features are worth.
        licence: of the weights; where it is not stated, a training that begins with them asks for it.
    """

    kind: Literal["pretrain"] = "pretrain"
    name: str = "encoder"
    data: PretrainDataConfig
    encoder_name: EncoderName = "resnet18"
    encoder_depth: int = Field(default=5, ge=1)
    encoder_weights: EncoderWeights = None
    encoder_options: EncoderOptions = Field(default_factory=dict)
    encoder_licence: str = ""
    objective: PretrainingConfig = MaskedImageConfig()
    crop_px: int = Field(default=192, ge=1)
    batch_size: int = Field(default=16, ge=2)
    augment: Operations | None = DEFAULT
    normalisation: Normalisation = Normalisation()
    optimizer: OptimizerConfig = OptimizerConfig()
    precision: Precision = "auto"
    steps: int = Field(default=1000, ge=1)
    evaluate_every: int = Field(default=250, ge=1)
    save_every: int = Field(default=0, ge=0)
    keep: Literal["best", "last"] = "last"
    records: RecordsConfig = RecordsConfig()
    notify: NotifyConfig = NotifyConfig()
    seed: int = 0
    threads: int = Field(default=0, ge=0)
    licence: str = "not stated"
