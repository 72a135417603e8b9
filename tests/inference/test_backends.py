import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.artefacts.store import load_model
from aftermap.errors import BackendWarning, ModelError
from aftermap.inference.backends.base import Execution, Network, thread_count
from aftermap.inference.backends.onnxruntime import providers
from aftermap.inference.backends.opening import open_network
from aftermap.inference.backends.pytorch import TorchNetwork
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.predictor import Predictor
from aftermap.models.configs import CustomConfig
from backend_models import BGR, KINDS, export, pictures, save

RUNTIMES = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model folder of every kind."""
    root = tmp_path_factory.mktemp("models")
    return {kind: save(root / kind.replace(" ", "-"), config) for kind, config in KINDS.items()}


@pytest.fixture(scope="module")
def exports(tmp_path_factory, folders):
    """The model for two dates exported for both runtimes, with normalisation inside."""
    root = tmp_path_factory.mktemp("exports")
    return {
        runtime: export(folders["two dates"], root / runtime, kind)
        for runtime, kind in (("openvino", "openvino"), ("onnxruntime", "onnx"))
    }


def difference(name, runtime, images, valid=None, reference=None, **options):
    expected = open_predictor(reference or name, Options(**options)).predict(images, valid)
    found = open_predictor(name, Options(backend=runtime, **options)).predict(images, valid)
    assert found.dtype == np.float32 and found.shape == expected.shape
    return np.abs(found - expected).max()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_runtime_gives_the_probabilities_of_torch(folders, kind, runtime):
    dates = load_model(folders[kind]).card.dates
    assert difference(folders[kind], runtime, pictures(dates)) < 1e-4


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_model_in_the_box_runs_everywhere(runtime):
    assert difference("box", runtime, pictures()) < 1e-4


def test_what_is_lent_is_what_is_given():
    predictor = open_predictor("box", Options(backend="openvino"))
    given = predictor.predict(pictures())
    np.testing.assert_array_equal(predictor.predict_lent(pictures()), given)
    np.testing.assert_array_equal(predictor.predict(pictures()), given)


@pytest.mark.parametrize("hole", [False, True])
def test_images_are_prepared_in_kept_memory_as_in_new(hole):
    network = open_network("box", Execution(backend="openvino"))
    for images in (pictures(), pictures()[..., ::-1]):
        valid = np.ones((len(images), 2, *images.shape[-2:]), bool)
        valid[:, 1, :9, :5] = not hole
        found, expected = network.prepare(images, valid), Network.prepare(network, images, valid)
        np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.real
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_sees_the_same_on_a_real_pair(shared_data, runtime):
    folder = shared_data / "xbd-real" / "santa-rosa-wildfire" / "images"
    pre = sorted(folder.glob("*_pre_disaster.*"))[0]
    dates = [cv2.imread(str(path)) for path in (pre, pre.with_name(pre.name.replace("_pre_", "_post_")))]
    images = np.stack([date[200:456, 200:456, ::-1].transpose(2, 0, 1) for date in dates])[None]
    assert images.std() > 10 and difference("box", runtime, images) < 1e-4


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_network_takes_windows_of_any_size_and_number(folders, runtime):
    network, plain = (
        open_predictor(folders["two dates"], Options(backend=backend)) for backend in (runtime, "torch")
    )
    for size, batch in (((64, 64), 1), ((32, 96), 3), ((128, 64), 2), ((64, 64), 1)):
        images = pictures(size=size, batch=batch)
        assert np.abs(network.predict(images) - plain.predict(images)).max() < 1e-4


@pytest.mark.parametrize(
    "options", [{"tta": "full"}, {"tta": "flips", "averaging": "logits"}, {"scales": (0.5, 1)}]
)
def test_views_are_averaged_outside_of_the_runtime(folders, options):
    assert difference(folders["two dates"], "openvino", pictures(), **options) < 1e-4


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bands_normalisation_and_pixels_without_data_are_as_in_torch(tmp_path, runtime):
    name = save(tmp_path / "bgr", KINDS["two dates"], **BGR, temperature=1.7, damage_weights=(1, 2, 0.5, 3))
    valid = np.ones((2, 2, 64, 96), bool)
    valid[0, 1, :20] = valid[1, 0, :, 50:] = False
    assert difference(name, runtime, pictures(), valid) < 1e-4


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_exported_models_run_on_their_own_runtime_without_being_asked(folders, exports, runtime):
    for options in (Options(), Options(backend="auto"), Options(backend=runtime)):
        predictor = open_predictor(exports[runtime], options)
        assert predictor.execution["backend"] == runtime and predictor.network.raw
    assert difference(exports[runtime], None, pictures(), reference=folders["two dates"]) < 1e-4


def test_exported_models_ignore_the_variable_that_auto_follows(exports, monkeypatch):
    monkeypatch.setenv("AFTERMAP_BACKEND", "torch")
    assert open_predictor(exports["openvino"], Options(backend="auto")).execution["backend"] == "openvino"


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_an_exported_model_on_another_runtime_is_refused(exports, backend):
    with pytest.raises(ModelError, match=f"is exported for openvino, which {backend} does not run"):
        open_predictor(exports["openvino"], Options(backend=backend))


def test_normalisation_inside_takes_views_and_scales(folders, exports):
    images, reference = pictures(size=(64, 64)), folders["two dates"]
    assert difference(exports["openvino"], None, images, reference=reference, tta="full") < 1e-4
    # at other scales pixels are rounded to whole numbers before the normalisation
    assert difference(exports["openvino"], None, images, reference=reference, scales=(0.5,)) < 5e-3


def test_an_exported_ensemble_is_one_network(tmp_path, folders):
    parts = [Ingredient(folders["one date"]), Ingredient(folders["two dates"], weight=2)]
    card, members = compose("pair", parts)
    save_ensemble(tmp_path / "pair", card, members)
    name = export(tmp_path / "pair", tmp_path / "exported", "openvino")
    assert isinstance(open_predictor(name), Predictor)
    assert difference(name, None, pictures(), reference=tmp_path / "pair") < 1e-4


@pytest.mark.parametrize("low_memory", [False, True])
def test_the_members_of_an_ensemble_run_on_the_backend_asked_for(tmp_path, folders, low_memory):
    card, members = compose("pair", [Ingredient(folders["one date"]), Ingredient(folders["two dates"])])
    save_ensemble(tmp_path / "pair", card, members)
    predictor = open_predictor(
        tmp_path / "pair", Options(backend="openvino", low_memory=low_memory, threads=1)
    )
    assert (
        np.abs(predictor.predict(pictures()) - open_predictor(tmp_path / "pair").predict(pictures())).max()
        < 1e-4
    )
    assert predictor.execution == {"backend": "openvino", "device": "cpu", "threads": 1, "precision": "f32"}


def test_an_ensemble_tells_what_its_members_do_not_share(tmp_path, folders, monkeypatch):
    card, members = compose("pair", [Ingredient(folders["one date"]), Ingredient(folders["two dates"])])
    save_ensemble(tmp_path / "pair", card, members)
    predictor = open_predictor(tmp_path / "pair", Options(threads=1))
    predictor._executions["two-dates"] = {
        "backend": "openvino",
        "device": "cpu",
        "threads": 1,
        "precision": "f32",
    }
    told = predictor.execution
    assert told["device"] == "cpu" and "backend" not in told
    assert told["members"] == {"one-date": {"backend": "torch"}, "two-dates": {"backend": "openvino"}}


class Raw(Network):
    """Takes raw values and remembers them; its logits share one piece of memory, as OpenVINO's do."""

    backend, multiple, raw, sha256 = "openvino", 1, True, "0"

    def __init__(self, **card):
        values = {
            "name": "raw",
            "model": CustomConfig(target="none:none", classes=2),
            "dates": 1,
            "scheme": "building",
            "training": TrainingRecord(data="none", data_licence="none"),
            "licence": "MIT",
        }
        self.card = Card(**values | card)
        self.seen = []

    def take(self, array):
        return array

    def __call__(self, images):
        self.seen.append(images.copy())
        if not hasattr(self, "memory"):
            self.memory = np.zeros((len(images), 2, *images.shape[-2:]), np.float32)
        self.memory[:] = images[:, 0, :2] / np.float32(100)
        return self.memory


def test_pixels_without_data_become_the_rounded_mean_in_the_order_given():
    network = Raw(
        bands=("blue", "green", "red"), normalisation=Normalisation(mean=(10.4, 20, 30.6), std=(1, 1, 1))
    )
    images = np.full((1, 1, 3, 1, 2), 200, np.uint8)
    Predictor(network).predict(images, np.array([True, False]).reshape(1, 1, 1, 2))
    (seen,) = network.seen
    assert seen.dtype == np.uint8
    assert seen[0, 0, :, 0].tolist() == [[200, 31], [200, 20], [200, 10]]


def test_raw_values_are_rounded_at_other_scales():
    network = Raw()
    images = np.tile(np.array([0, 255], np.uint8).repeat(2), (1, 1, 3, 4, 1))
    Predictor(network, scales=(2.0,)).predict(images)
    (seen,) = network.seen
    # bilinear between 0 and 255 at a quarter and three quarters of the way
    assert seen.dtype == np.uint8 and seen[0, 0, 0, 3].tolist() == [0, 0, 0, 64, 191, 255, 255, 255]


def test_logits_outlive_the_next_call_of_a_network_that_overwrites_them():
    predictor = Predictor(Raw())
    first = predictor.logits(np.full((1, 1, 3, 4, 4), 100, np.uint8))
    predictor.logits(np.full((1, 1, 3, 4, 4), 200, np.uint8))
    assert np.unique(first).tolist() == [1.0]


def test_the_short_way_to_probabilities_is_the_long_one(folders, tmp_path, monkeypatch):
    name = save(tmp_path / "m", KINDS["two dates"], temperature=1.3, damage_weights=(1, 4, 0.2, 2))
    predictor = open_predictor(name)
    short = predictor.predict(pictures())
    monkeypatch.setattr(Predictor, "_is_plain", False)
    np.testing.assert_allclose(short, predictor.predict(pictures()), atol=2e-6)
    assert np.abs(short.sum(axis=1) - 1).max() < 1e-5


def test_torch_on_a_processor_is_the_model_bit_for_bit(folders):
    loaded = load_model(folders["two dates"])
    images = torch.randn(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = open_network(folders["two dates"])
    with torch.inference_mode():
        expected = loaded.model.to(memory_format=torch.channels_last)(images)
    assert torch.equal(network(images), expected) and network.precision == "f32"


def test_openvino_answers_the_same_after_it_gave_its_memory_back(exports):
    network = open_network(exports["openvino"])
    images = network.prepare(np.random.default_rng(1).integers(0, 256, (1, 2, 3, 64, 64), dtype=np.uint8))
    before = network(images).copy()
    network.release()
    np.testing.assert_array_equal(network(images), before)


def test_openvino_calculates_in_float32_unless_the_card_or_the_user_says_otherwise(
    folders, exports, tmp_path
):
    def hint(name, **options):
        request = open_network(name, Execution(backend="openvino", **options))._request
        return request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT").to_string()

    accepted = export(folders["two dates"], tmp_path / "bf16", "openvino", execution="bf16")
    has_bf16 = hint(accepted) == "bf16"
    assert hint(folders["two dates"]) == hint(exports["openvino"]) == hint(accepted, precision="f32") == "f32"
    if has_bf16:
        assert (
            open_network(accepted).execution["precision"]
            == hint(exports["openvino"], precision="bf16")
            == "bf16"
        )
    else:
        with pytest.raises(ModelError, match="does not run in bf16"):
            hint(exports["openvino"], precision="bf16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "f16"}, "torch does not run in f16 on cpu"),
        ({"compiled": True}, "torch.compile is for GPUs"),
        ({"precision": "f16", "backend": "openvino"}, "openvino does not run in f16"),
        ({"precision": "bf16", "backend": "onnxruntime"}, "onnxruntime does not run in bf16 on a processor"),
        ({"compiled": True, "backend": "openvino"}, "torch.compile is nothing for openvino"),
        ({"threads": -1, "backend": "openvino"}, "-1 threads: expected 0"),
        ({"threads": -1}, "-1 threads: expected 0"),
        (
            {"backend": "tensorflow"},
            "backend 'tensorflow': expected one of auto, torch, onnxruntime, openvino",
        ),
    ],
)
def test_what_a_runtime_cannot_do_is_one_line(folders, options, message):
    with pytest.raises(ModelError, match=message) as raised:
        open_predictor(folders["two dates"], Options(**options))
    assert "\n" not in str(raised.value)


def test_windows_smaller_than_the_graph_takes_are_refused(folders, tmp_path):
    name = export(folders["one date"], tmp_path / "m", "openvino", inside=False, least_px=64)
    with pytest.raises(ModelError, match="takes no images of 32 x 96 px: at least 64 px"):
        open_predictor(name).predict(pictures(1, (32, 96)))


def test_half_precision_that_overflows_falls_back_with_a_warning(folders):
    network = TorchNetwork(load_model(folders["two dates"]))
    network.precision = "f16"
    inside = network._model
    factors = iter([float("inf"), 1.0])
    network._forward = network._model = lambda images: inside(images) * next(factors)
    images = torch.zeros(1, 2, 3, 32, 32)
    with pytest.warns(BackendWarning, match="overflows in half precision: float32 is used"):
        logits = network(images)
    assert torch.isfinite(logits).all() and network.precision == "f32"


def test_a_network_that_cannot_be_compiled_runs_uncompiled(folders):
    network = TorchNetwork(load_model(folders["two dates"]))

    def broken(images):
        raise RuntimeError("no compiler here")

    network._forward = broken
    images = torch.zeros(1, 2, 3, 32, 32)
    with pytest.warns(BackendWarning, match="cannot be compiled"):
        logits = network(images)
    assert torch.equal(logits, network(images)) and "compiled" not in network.execution


def test_torch_takes_the_threads_asked_for_and_gives_them_back(folders):
    before = torch.get_num_threads()
    network = open_network(folders["one date"], Execution(threads=before + 1))
    during = []
    network._model.register_forward_hook(lambda *_: during.append(torch.get_num_threads()))
    network(torch.zeros(1, 1, 3, 32, 32))
    assert during == [before + 1] and torch.get_num_threads() == before
    assert network.execution["threads"] == before + 1


def test_runtimes_follow_the_threads_asked_for_then_the_environment(folders, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert (thread_count(0), thread_count(2)) == (3, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for runtime in RUNTIMES:
        assert open_network(folders["one date"], Execution(backend=runtime)).execution["threads"] == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert thread_count(0) == 0


GPU = "cuda:1"
EVERYTHING = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("precision", "half"),
    [("auto", {"trt_fp16_enable": True}), ("f16", {"trt_fp16_enable": True}), ("f32", {})],
)
def test_tensorrt_goes_before_cuda_on_a_gpu(monkeypatch, precision, half):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: EVERYTHING)
    assert providers(GPU, precision) == [
        ("TensorrtExecutionProvider", {"device_id": 1} | half),
        ("CUDAExecutionProvider", {"device_id": 1}),
        ("CPUExecutionProvider", {}),
    ]


def test_cuda_alone_calculates_in_float32(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: EVERYTHING[1:])
    assert [name for name, _ in providers(GPU)] == EVERYTHING[1:]
    with pytest.raises(ModelError, match="onnxruntime does not run in f16 here"):
        providers(GPU, "f16")


def test_a_gpu_without_a_provider_is_refused(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: EVERYTHING[2:])
    with pytest.raises(
        ModelError, match="no provider for cuda:1: install onnxruntime-gpu, or use --backend torch"
    ):
        providers(GPU)


def test_the_processor_is_used_even_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: EVERYTHING)
    assert providers("cpu") == [("CPUExecutionProvider", {})]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compiled", [False, True])
def test_half_precision_on_a_gpu_is_near_float32(folders, compiled):
    exact, half = (
        open_predictor(folders["two dates"], Options(device="cuda", precision=precision, compiled=compiled))
        for precision in ("f32", "auto")
    )
    gap = np.abs(exact.predict(pictures()) - half.predict(pictures()))
    assert half.execution["precision"] == "f16" and 0 < gap.max() < 2e-2 and gap.mean() < 1e-3
