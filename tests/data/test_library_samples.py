import io
import json

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from aftermap.classes import IGNORE
from aftermap.data.checking.doctor import check
from aftermap.data.legends import legend_named
from aftermap.data.preparing.prepare import prepare, prepare_source
from aftermap.data.readers.samples.columns import Columns
from aftermap.data.readers.samples.dataset import Meaning, Part, samples_dataset
from aftermap.data.scene import read_bands, read_image, read_mask
from aftermap.errors import DataError, DataWarning, InputError

BUILDINGS = Meaning(labels="building")
CHANGE = Meaning(legend_named(("background", "changed")))
IMAGES = np.random.default_rng(3).integers(0, 256, (5, 6, 8, 3), np.uint8)
MASKS = np.random.default_rng(4).integers(0, 2, (5, 6, 8), np.uint8)


class Field:
    """Samples as torchgeo gives them: tensors' stand-ins, two dates stacked, numbers as float."""

    def __init__(self, root, split="train", season="wet"):
        assert season in ("wet", "dry")
        if not root.endswith("field"):
            raise FileNotFoundError(f"Dataset not found in {root}")
        self.numbers = [0, 1, 2] if split == "train" else [3]

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        n = self.numbers[index]
        first = IMAGES[n].transpose(2, 0, 1).astype("float32")
        return {"image": np.stack([first, 255 - first]), "mask": MASKS[n][None].astype("int64")}


def png(array):
    held = io.BytesIO()
    Image.fromarray(array).save(held, "PNG")
    return {"bytes": held.getvalue(), "path": None}


def rows(numbers):
    """A table as `datasets` writes it: files of images in a struct of bytes and path."""
    return pyarrow.table(
        {
            "image": [png(IMAGES[n]) for n in numbers],
            "label": [png(MASKS[n] * 255) for n in numbers],
            "place": [f"Haití {n}" for n in numbers],
        }
    )


def save_to_disk(folder, tables, **info):
    """The layout of `Dataset.save_to_disk` of datasets 5.2."""
    folder.mkdir(parents=True)
    names = [f"data-{k:05d}-of-{len(tables):05d}.arrow" for k in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pyarrow.ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps(info))


def agrees(scene, number, *, target="building"):
    same = (read_image(scene.pre) == IMAGES[number].transpose(2, 0, 1)).all()
    return bool(same) and bool((read_mask(scene, target=target) == MASKS[number]).all())


@pytest.fixture
def saved(tmp_path):
    save_to_disk(tmp_path / "roofs" / "train", [rows([0, 1, 2]), rows([3])], license="CC BY 4.0")
    save_to_disk(tmp_path / "roofs" / "validation", [rows([4])])
    (tmp_path / "roofs" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    return tmp_path / "roofs"


LABEL = {"columns": Columns(mask="label"), "meaning": Meaning(labels="building", foreground=255)}


def test_a_saved_dataset_becomes_scenes_in_its_sets_with_its_licence(saved, tmp_path):
    manifest = prepare_source(saved, tmp_path / "out", kind="hugging_face", **LABEL, name_column="place")
    assert [(s.name, s.split) for s in manifest.scenes] == [
        *((f"Haití {n}", "train") for n in range(4)),
        ("Haití 4", "validation"),
    ]
    assert all(agrees(scene, number) for number, scene in enumerate(manifest.scenes))
    assert manifest.licence == "CC BY 4.0"
    assert not check(manifest).errors


def test_parquet_files_are_read_by_row_group_and_give_events(tmp_path):
    source = tmp_path / "hub" / "data"
    source.mkdir(parents=True)
    parquet.write_table(rows([0, 1, 2]), source / "train-00000-of-00001.parquet", row_group_size=2)
    parquet.write_table(rows([4]), source / "test-00000-of-00001.parquet")
    manifest = prepare_source(
        tmp_path / "hub", tmp_path / "out", kind="hugging_face", **LABEL, event_column="place"
    )
    assert [(s.name, s.split, s.event) for s in manifest.scenes] == [
        ("test-000000", "test", "Haití 4"),
        *((f"train-{n:06d}", "train", f"Haití {n}") for n in range(3)),
    ]
    assert all(agrees(scene, n) for scene, n in zip(manifest.scenes, (4, 0, 1, 2), strict=True))


def test_nested_lists_are_images_with_bands_first_or_last(tmp_path):
    lists = {"mask": [MASKS[n].tolist() for n in (0, 1)]}
    lists["image"] = [IMAGES[0].tolist(), IMAGES[1].tolist()]
    save_to_disk(tmp_path / "last", [pyarrow.table(lists)])
    lists["image"] = [IMAGES[n].transpose(2, 0, 1).tolist() for n in (0, 1)]
    save_to_disk(tmp_path / "first", [pyarrow.table(lists)])
    for name in ("first", "last"):
        manifest = prepare_source(
            tmp_path / name, tmp_path / f"{name}-out", kind="hugging_face", meaning=BUILDINGS
        )
        assert [agrees(scene, n) for n, scene in enumerate(manifest.scenes)] == [True, True]


def test_a_folder_of_images_with_metadata_names_its_masks(tmp_path):
    folder = tmp_path / "pictures" / "train"
    folder.mkdir(parents=True)
    for n in (0, 1):
        Image.fromarray(IMAGES[n]).save(folder / f"{n}.png")
    Image.fromarray(MASKS[0]).save(folder / "m0.png")
    (folder / "metadata.csv").write_text("file_name,mask_file_name\n0.png,m0.png\n1.png,\n")
    manifest = prepare_source(tmp_path / "pictures", tmp_path / "out", kind="hugging_face", meaning=BUILDINGS)
    assert [(s.split, s.is_labelled) for s in manifest.scenes] == [("train", True), ("train", False)]
    assert agrees(manifest.scenes[0], 0)


def test_a_class_that_gives_samples_by_number_becomes_pairs_in_several_processes(tmp_path):
    manifest = prepare_source(
        tmp_path / "field", tmp_path / "out", kind="torchgeo", dataset="test_library_samples:Field", meaning=CHANGE,
        splits=("train", "val"), arguments={"season": "dry"},
    )  # fmt: skip
    assert [(s.name, s.split, s.event) for s in manifest.scenes] == [
        *((f"train-{n:06d}", "train", "field") for n in range(3)),
        ("val-000000", "validation", "field"),
    ]
    assert all(agrees(scene, n, target="classes") for n, scene in enumerate(manifest.scenes))
    assert (read_image(manifest.scenes[1].post) == 255 - IMAGES[1].transpose(2, 0, 1)).all()
    assert manifest.legend.names == ("background", "changed")


def test_scenes_made_of_the_same_pixels_are_taken_over(tmp_path):
    samples = [{"image": IMAGES[n], "mask": MASKS[n]} for n in (0, 1)]
    prepare(samples_dataset(samples, meaning=BUILDINGS), tmp_path)
    files = [tmp_path / "images" / f"{n:06d}.tif" for n in (0, 1)]
    before = [path.stat().st_mtime_ns for path in files]
    samples[1]["image"] = IMAGES[2]
    prepare(samples_dataset(samples, meaning=BUILDINGS), tmp_path)
    after = [path.stat().st_mtime_ns for path in files]
    assert after[0] == before[0] and after[1] != before[1]
    assert (read_image(files[1]) == IMAGES[2].transpose(2, 0, 1)).all()


def test_numbers_of_other_ranges_become_eight_bits_and_bands_keep_their_names(tmp_path):
    image = np.linspace(0, 1, 4 * 6 * 8).reshape(4, 6, 8).astype("float32")
    columns = Columns(bands=("red", "green", "-", "nir"), limits=(0, 1))
    meaning = Meaning(legend_named(("dry", "wet")))
    made = prepare(
        samples_dataset([{"image": image, "mask": MASKS[0]}], meaning=meaning, columns=columns), tmp_path
    )
    expected = np.floor(image[[0, 1, 3]].astype("float64") * 255 + 0.5).astype("uint8")
    assert np.abs(read_bands(made.scenes[0], ("red", "green", "nir")).astype(int) - expected).max() <= 1
    assert made.legend.background is None


def test_samples_that_lie_somewhere_keep_their_georeference(tmp_path):
    bounds = (slice(500_000.0, 500_004.0, 0.5), slice(599_997.0, 600_000.0, 0.5), slice(None))
    sample = {"image": IMAGES[0], "mask": MASKS[0], "crs": "EPSG:32630", "bounds": bounds}
    scene = prepare(samples_dataset([sample], meaning=BUILDINGS), tmp_path).scenes[0]
    assert (scene.grid.crs, scene.grid.transform) == ("EPSG:32630", (0.5, 0, 500_000, 0, -0.5, 600_000))
    assert scene.resolution_m == pytest.approx(0.5, rel=1e-3)


def test_masks_of_255_alone_are_warned_of(tmp_path):
    samples = {"train": Part([{"image": IMAGES[0], "mask": MASKS[0] * 255}])}
    with pytest.warns(DataWarning, match="pass --foreground 255"):
        made = prepare(samples_dataset(samples, meaning=BUILDINGS), tmp_path)
    assert set(np.unique(read_mask(made.scenes[0], target="building"))) == {0, IGNORE}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": IMAGES[0].astype("float32") / IMAGES[0].max()}, "expected whole numbers from 0 to 255.*--range 0,1"),
        ({"image": IMAGES[0] // 128}, "no values but 0 and 1: pass --range"),
        ({"image": IMAGES[0][..., :2]}, "shape|2 bands|8 bands|bands, expected 3"),
        ({"image": None}, "has no image: it has image, mask"),
        ({"image": "nowhere.png"}, "nowhere.png"),
        ({"image": {"bytes": b"no image", "path": "x.png"}}, "its image file"),
        ({"mask": MASKS[0] * 3}, "the value 3, expected 0, 1, 255"),
        ({"mask": MASKS[0].astype("int64") - 1}, "from -1 to 0, expected numbers of classes"),
        ({"mask": MASKS[0][:4]}, "mask of 8 x 4 pixels, its image 8 x 6"),
        ({"image": np.stack([IMAGES[0]] * 3)}, r"expected \(C, H, W\), or both dates"),
    ],
)  # fmt: skip
def test_what_is_no_sample_is_refused_in_words(tmp_path, change, said):
    sample = {"image": IMAGES[0], "mask": MASKS[0], **change}
    with pytest.raises(DataError, match=said):
        prepare(samples_dataset([sample], meaning=BUILDINGS), tmp_path, strict=True)


def test_what_is_no_dataset_is_refused_in_words(saved, tmp_path):
    def hugging_face(source=saved, **options):
        return prepare_source(source, tmp_path / "out", kind="hugging_face", **{**LABEL, **options})

    with pytest.raises(InputError, match="has no column mask of masks: it has image, label, place"):
        hugging_face(columns=Columns())
    with pytest.raises(InputError, match=r"the name of sample 0 of .* cannot be that of a file"):
        samples = [{"image": IMAGES[0], "mask": MASKS[0]}]
        samples_dataset({"": Part(samples, names=["../../etc"])}, meaning=BUILDINGS)
    with pytest.raises(InputError, match="has no column before"):
        hugging_face(columns=Columns(image="before", mask="label"))
    with pytest.raises(InputError, match="learned from red, green and blue"):
        hugging_face(columns=Columns(mask="label", bands=("red", "green", "nir")))
    with pytest.raises(DataError, match="expected a folder of datasets' save_to_disk"):
        hugging_face(tmp_path / "nowhere")
    (saved / "train" / "data-00000-of-00002.arrow").write_bytes(b"no stream")
    with pytest.raises(DataError, match=r"cannot read .*data-00000"):
        hugging_face()
    with pytest.raises(InputError, match="--labels building, --labels damage, --classes"):
        Meaning()
    for wrong, said in (
        ({"dataset": "test_library_samples:Meadow"}, "has no Meadow"),
        ({"dataset": "test_library_samples:Field", "arguments": {"season": "cold"}}, "refuses its arguments"),
        (
            {"dataset": "test_library_samples:Field", "arguments": {"download": True}},
            "download is not possible",
        ),
        ({"dataset": "test_library_samples:Field", "tile_px": 32}, "leave --tile-px out"),
    ):
        with pytest.raises(InputError, match=said):
            prepare_source(tmp_path / "field", tmp_path / "out", kind="torchgeo", meaning=CHANGE, **wrong)
    with pytest.raises(DataError, match="is not what test_library_samples:Field reads"):
        prepare_source(
            tmp_path, tmp_path / "o", kind="torchgeo", dataset="test_library_samples:Field", meaning=CHANGE
        )


def test_datasets_and_torchgeo_themselves_give_the_same(tmp_path):
    """With the libraries themselves, where torchgeo is installed beside `datasets` (it is no requirement)."""
    pytest.importorskip("torchgeo")
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features({"image": datasets.Image(), "mask": datasets.Array2D((6, 8), "uint8")})
    held = {"image": [Image.fromarray(IMAGES[n]) for n in (0, 1, 2)], "mask": list(MASKS[:3])}
    whole = datasets.Dataset.from_dict(held, features=kinds)
    whole.select([2, 0]).save_to_disk(tmp_path / "chosen")
    whole.to_parquet(tmp_path / "all.parquet", batch_size=2)
    for source, numbers in ((tmp_path / "chosen", (2, 0)), (tmp_path / "all.parquet", (0, 1, 2))):
        made = prepare_source(
            source, tmp_path / source.stem, kind="hugging_face", meaning=BUILDINGS, overwrite=True
        )
        assert all(agrees(scene, n) for scene, n in zip(made.scenes, numbers, strict=True))
    for role, arrays in {"A": IMAGES, "B": 255 - IMAGES, "label": MASKS * 255}.items():
        (tmp_path / "levir" / role).mkdir(parents=True)
        for n in range(3):
            Image.fromarray(arrays[n]).save(tmp_path / "levir" / role / f"{'test' if n else 'train'}_{n}.png")
    made = prepare_source(
        tmp_path / "levir", tmp_path / "pairs", kind="torchgeo", dataset="LEVIRCD", meaning=CHANGE,
        splits=("train", "test"), workers=2,
    )  # fmt: skip
    assert [agrees(s, n, target="classes") for s, n in zip(made.scenes, (1, 2, 0), strict=True)] == [True] * 3
