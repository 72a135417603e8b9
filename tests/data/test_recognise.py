"""What a folder is taken for: every kind by the names of its files, and nothing where they do not tell."""

import pytest

import made_releases as made
from aftermap.data.preparing.prepare import prepare_source
from aftermap.data.readers.published.pairs import CHANGE_FOLDERS
from aftermap.data.readers.published.recognise import recognise
from aftermap.errors import DataError

NAMES = {
    "xbd": ("t/images/a_1_pre_disaster.webp", "t/images/a_1_post_disaster.webp", "t/labels/a_1_post_disaster.json"),
    "xbd targets": ("images/a_1_pre_disaster.png", "images/a_1_post_disaster.png", "targets/a_post_disaster_target.png"),
    "isprs --city potsdam": ("2_Ortho_RGB/top_potsdam_2_10_RGB.tif",),
    "isprs --city vaihingen": ("top/top_mosaic_09cm_area1.tif",),
    "isaid": ("train/Instance_masks/images/P0000_instance_color_RGB.png",),
    "agrivision": ("train/images/rgb/a.jpg", "train/images/nir/a.jpg"),
    "opencities": ("train_metadata.csv", "catalog.json"),
    "opencities catalogue": ("train_tier_1/catalog.json",),
    "spacenet": ("RGB-PanSharpen/x_img1.tif", "geojson/buildings/buildings_img1.geojson"),
    "photographs --release voc": ("VOC2012/JPEGImages/1.jpg", "VOC2012/SegmentationClass/1.png"),
    "photographs --release ade20k": ("images/training/1.jpg", "annotations/training/1.png"),
    "photographs --release cityscapes": ("leftImg8bit/train/a/a_leftImg8bit.png", "gtFine/train/a/a_gtFine_labelIds.png"),
}  # fmt: skip

NAMES["folder"] = ("pre/a.tif", "post/a.tif", "footprints/a.geojson")


@pytest.mark.parametrize("kind", NAMES)
def test_older_kinds_by_their_names(tmp_path, kind):
    for name in NAMES[kind]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = recognise(tmp_path)
    word = kind.split()[0]
    assert found.known.kind == word and found.known.command(tmp_path).startswith(
        f"aftermap data prepare {word} "
    )
    if "--" in kind:
        assert found.known.command(tmp_path).endswith(kind.removeprefix(f"{word} "))
    assert NAMES[kind][0] in found.why


def test_releases_by_their_layouts(tmp_path):
    makers = {
        "flair": made.flair,
        "bright": lambda root: made.bright(root, ("a_1",)),
        "xbd-s12": made.sentinel,
        "crasar-u-droids": made.droids,
        "spacenet8": made.floods,
        "fotbcd-instances": made.outlines,
        "rescuenet": made.drone_photographs,
        **{name: (lambda root, f=folders: made.change(root, f)) for name, folders in CHANGE_FOLDERS.items()},
    }
    for number, (name, make) in enumerate(makers.items()):
        source = make(tmp_path / f"folder {number}")
        found = recognise(source)
        assert found.known.options == {"release": name}, name
        manifest = prepare_source(
            source, tmp_path / f"out-{name}", kind=found.known.kind, **found.known.options
        )
        assert manifest.options["release"] == name
    assert "'" in recognise(source).known.command(source)
    with pytest.raises(DataError, match="Nearest"):
        recognise(made.levels(tmp_path / "florida"))
    assert recognise(made.levels(tmp_path / "IDA-BD")).known.options == {"release": "ida-bd"}


def test_plain_folders_of_masks_of_buildings(tmp_path):
    made.image(tmp_path / "images" / "a.png")
    made.mask(tmp_path / "masks" / "a.png", [0, 255])
    assert recognise(tmp_path).known.kind == "folder"
    made.mask(tmp_path / "masks" / "a.png", [0, 3])
    with pytest.raises(DataError, match=r"not clearly any dataset\. Nearest: .*folder .* --legend NAME"):
        recognise(tmp_path)


def test_a_vector_file_beside_images_is_asked_about(tmp_path):
    made.image(tmp_path / "images" / "a.png")
    (tmp_path / "labels.geojson").touch()
    with pytest.raises(DataError, match=r"Nearest: .*--footprints FILE"):
        recognise(tmp_path)


def test_a_table_of_samples_wins_over_masks_beside_images(tmp_path):
    made.image(tmp_path / "70_after.png")
    made.mask(tmp_path / "70_mask.png", [0, 1])
    assert recognise(tmp_path).known.kind == "folder"
    (tmp_path / "metadata.csv").write_text("file_name,mask\n70_after.png,70_mask.png\n")
    with pytest.raises(
        DataError, match=r"Nearest: 'aftermap data prepare huggingface .*--image COLUMN --mask COLUMN"
    ):
        recognise(tmp_path)


def test_what_could_be_two_is_asked_about(tmp_path):
    made.drone_photographs(tmp_path / "drones", last=9)
    with pytest.raises(DataError, match=r"Nearest: .*--release rescuenet.*--release floodnet"):
        recognise(tmp_path / "drones")
    made.levels(tmp_path / "pairs")
    with pytest.raises(DataError, match=r"Nearest: .*--release ida-bd"):
        recognise(tmp_path / "pairs")
    made.bright(tmp_path / "both", ("a_1",))
    made.change(tmp_path / "both", ("A", "B", "label"))
    with pytest.raises(DataError, match=r"could be one of 2: choose .*bright.*levir-cd"):
        recognise(tmp_path / "both")


def test_what_is_nothing_is_said(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        recognise(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="holds nothing that is known"):
        recognise(tmp_path)
    (tmp_path / "manifest.json").touch()
    with pytest.raises(DataError, match="is prepared already"):
        recognise(tmp_path)
