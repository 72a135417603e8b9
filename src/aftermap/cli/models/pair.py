"""`aftermap predict-pair`: two images to the two masks of the xView2 competition."""

from pathlib import Path

from aftermap.cli.checks import check_images, check_model, check_place
from aftermap.cli.output import say


def predict_pair(pre: Path, post: Path, localization: Path, damage: Path, /, *, model: str = "box") -> None:
    """Predict one pair of images into the two masks of the xView2 competition, as its containers did.

    The image of the Dockerfile does this where it is given four names of PNGs.

    Example: aftermap predict-pair pre.png post.png localization.png damage.png

    Args:
        pre: Image from before.
        post: Image from after, of the same size.
        localization: PNG to write: 0, and 1 where a building is.
        damage: PNG to write: 0, and 1 to 4 from no damage to destroyed where a building is.
        model: A model folder, an ensemble folder, an exported model, or box.
    """
    check_images(pre, post)
    check_model(model)
    check_place(localization, is_file=True)
    check_place(damage, is_file=True)

    from aftermap.workflows.scoring.pair import predict_pair as predict

    predict(model, pre, post, localization, damage)
    say(f"wrote {localization} and {damage}")
