"""Sensors: from light to the grey-green, hazy, slightly soft 8-bit pictures that satellites deliver."""

from dataclasses import dataclass

import cv2
import numpy as np

from aftermap.synthetic.texture import fractal_noise


@dataclass(frozen=True)
class Sensor:
    """One acquisition.

    Attributes:
        mean, contrast: aim for the brightness (0..255) and its standard deviation.
        tint: gain of red, green, blue. saturation: 1 keeps colours.
        gamma: curve of the tones. haze: veil in 0..255 with haze_colour.
        blur_px: point spread. coarse: sampled this many times coarser, then enlarged.
        sharpen: strength of edge enhancement after it.
        noise: standard deviation in 0..255. grain: share of it that is correlated.
        jpeg: quality of an intermediate compression, 0 for none.
    """

    mean: float
    contrast: float
    tint: tuple[float, float, float]
    saturation: float
    gamma: float
    haze: float
    haze_colour: tuple[float, float, float]
    blur_px: float
    coarse: float
    sharpen: float
    noise: float
    grain: float
    jpeg: int

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Sensor":
        """Draw a sensor, atmosphere and processing."""
        blue = rng.normal(0.87, 0.06)
        return cls(
            mean=float(np.clip(rng.normal(80, 19), 42, 135)),
            contrast=float(np.clip(rng.lognormal(np.log(31), 0.27), 15, 58)),
            tint=(float(np.clip(rng.normal(0.96, 0.04), 0.84, 1.03)), 1.0, float(np.clip(blue, 0.7, 0.99))),
            saturation=float(np.clip(rng.normal(0.66, 0.2), 0.28, 1.25)),
            gamma=float(np.clip(rng.normal(0.95, 0.16), 0.6, 1.4)),
            haze=float(rng.gamma(1.5, 6.0)),
            haze_colour=(
                float(rng.uniform(0.7, 1.0)),
                float(rng.uniform(0.85, 1.05)),
                float(rng.uniform(0.85, 1.2)),
            ),
            blur_px=float(rng.uniform(0.35, 0.85)),
            coarse=float(rng.choice([1.0, 1.25, 1.5, 1.9], p=[0.6, 0.2, 0.12, 0.08])),
            sharpen=float(rng.choice([0.0, 0.6, 1.2, 1.8]) * rng.uniform(0.5, 1.3)),
            noise=float(rng.gamma(1.6, 0.9)),
            grain=float(rng.uniform(0, 1)),
            jpeg=int(rng.integers(72, 97)) if rng.random() < 0.7 else 0,
        )


def expose(light: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
    """Turn light (H, W, 3; 1 = white paper in the sun) into an 8-bit RGB image (H, W, 3)."""
    image = np.clip(light, 0, 1.6) ** np.float32(sensor.gamma)
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * np.float32(sensor.saturation)
    image *= np.array(sensor.tint, np.float32)
    sample = image[::4, ::4].mean(axis=2)
    low, high = np.percentile(sample, [3, 97])
    middle = np.clip(sample, low, high)
    gain = np.clip(sensor.contrast / max(float(middle.std()), 1e-3), 90, 320)
    centre = float(np.clip(middle.mean(), 0.12, 0.6))
    dark = sensor.mean - gain * centre
    veil = np.array([0.95 * sensor.tint[0], 1.06, 0.84 * sensor.tint[2]], np.float32)
    image = image * np.float32(gain) + veil * np.float32(np.clip(dark, -40, 70))
    image = np.maximum(image, 0)
    image = image * np.float32(1 - sensor.haze / 300) + np.array(sensor.haze_colour, np.float32) * np.float32(
        sensor.haze
    )
    bright = image > 190
    image[bright] = 190 + 65 * (1 - np.exp(-(image[bright] - 190) / 80))
    image = _resolve(image, sensor)
    image += _sensor_noise(image, sensor, rng)
    picture = np.clip(np.round(image), 1, 255).astype(np.uint8)
    if sensor.jpeg:
        _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, sensor.jpeg])
        decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
        assert decoded is not None
        picture = decoded.astype(np.uint8)
    return picture


def _resolve(image: np.ndarray, sensor: Sensor) -> np.ndarray:
    """Blur, sample coarsely, enlarge again and sharpen."""
    height, width = image.shape[:2]
    image = cv2.GaussianBlur(image, (0, 0), sensor.blur_px)
    if sensor.coarse > 1.01:
        small = (max(8, round(width / sensor.coarse)), max(8, round(height / sensor.coarse)))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    if sensor.sharpen > 0:
        soft = cv2.GaussianBlur(image, (0, 0), 1.2 * max(1.0, sensor.coarse))
        image = image + np.float32(sensor.sharpen) * (image - soft)
    return image


def _sensor_noise(image: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
    shape = image.shape[:2]
    shared = rng.standard_normal(shape, dtype=np.float32)
    if sensor.grain > 0.5:
        shared = cv2.GaussianBlur(shared, (0, 0), 0.8) * np.float32(2.2)
    own = rng.standard_normal((*shape, 3), dtype=np.float32)
    own *= np.float32(0.45)
    own += shared[..., None]
    own *= np.float32(sensor.noise)
    return own


@dataclass(frozen=True)
class Clouds:
    """Thin cloud over part of an image: opacity and shadow, float32 (H, W) in 0..1."""

    opacity: np.ndarray
    shadow: np.ndarray

    @property
    def cover(self) -> float:
        """Share of pixels under visible cloud."""
        return float((self.opacity > 0.15).mean())


def sample_clouds(rng: np.random.Generator, size_px: int, gsd_m: float) -> Clouds:
    """Draw patches of thin to middling cloud, each with its shadow some way off."""
    field = fractal_noise(rng, size_px, rng.uniform(90, 240) / gsd_m, 6, rng.uniform(0.45, 0.62))
    opacity = np.clip(
        (field - rng.uniform(0.6, 1.8)) * rng.uniform(0.25, 0.7), 0, rng.uniform(0.2, 0.65)
    ).astype(np.float32)
    away = rng.uniform(40, 200) / gsd_m * np.array([np.cos(a := rng.uniform(0, 6.3)), np.sin(a)])
    move = np.array([[1, 0, away[0]], [0, 1, away[1]]], np.float32)
    shadow = cv2.warpAffine(opacity, move, (size_px, size_px), flags=cv2.INTER_LINEAR)
    shadow = cv2.GaussianBlur(shadow, (0, 0), max(1.0, 4 / gsd_m))
    return Clouds(opacity, shadow * np.float32(rng.uniform(0.3, 0.8)))


def cover(light: np.ndarray, clouds: Clouds) -> np.ndarray:
    """Light (H, W, 3) as seen through clouds and under their shadow."""
    shaded = light * (1 - 0.75 * clouds.shadow[..., None])
    veil = clouds.opacity[..., None]
    whole: np.ndarray = shaded * (1 - veil) + np.array([0.86, 0.88, 0.9], np.float32) * veil
    return whole
