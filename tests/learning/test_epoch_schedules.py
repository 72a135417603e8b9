"""Schedules that move once per epoch, against the worked numbers of the published system."""

import pytest

from aftermap.errors import RecipeError
from aftermap.learning.configs.optimizer import CompatCosineConfig, ExponentialConfig
from aftermap.learning.optimizer import lr_factor


def rates(schedule, epochs, *, steps_per_epoch=3):
    """The factor of each epoch, which must not change inside it."""
    found = []
    for epoch in range(epochs):
        steps = range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch)
        inside = {lr_factor(schedule, step, steps=999, steps_per_epoch=steps_per_epoch) for step in steps}
        assert len(inside) == 1
        found.append(inside.pop())
    return found


def test_the_published_cosine_falls_to_zero_in_ten_epochs_and_rises_again():
    down = [1, 0.975528, 0.904508, 0.793893, 0.654508, 0.5, 0.345492, 0.206107, 0.095492, 0.024472, 0]
    found = rates(CompatCosineConfig(kind="compat-cosine"), 31)
    assert found[:11] == pytest.approx(down, abs=1e-6)
    assert found[10:21] == pytest.approx(down[::-1], abs=1e-6)
    assert found[30] == pytest.approx(0, abs=1e-12)


def test_the_exponential_schedule_multiplies_after_every_epoch():
    found = [1e-3 * factor for factor in rates(ExponentialConfig(kind="exponential"), 45)]
    assert found[:4] == pytest.approx([1e-3, 9.6e-4, 9.216e-4, 8.84736e-4], rel=1e-9)
    assert found[44] == pytest.approx(1.6593357e-4, rel=1e-7)


@pytest.mark.parametrize(
    "schedule", [CompatCosineConfig(kind="compat-cosine"), ExponentialConfig(kind="exponential")]
)
def test_a_schedule_by_epoch_is_refused_where_there_are_none(schedule):
    with pytest.raises(RecipeError, match=f"schedule {schedule.kind} counts epochs"):
        lr_factor(schedule, 0, steps=5)
