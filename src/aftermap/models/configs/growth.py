"""How a model grows, as data."""

from typing import Literal

Initialisation = Literal["random", "background", "background-rebias", "previous-head"]
"""How the rows of new classes start.

`random`: as those of a new model. `background`: each as the background's row with bias b_bkg - ln(n + 1), n the
number of new classes. `background-rebias`: so, and the background's own bias becomes that too; then the old classes'
probabilities are exactly what they were, and the background shares its own equally with the new ones (until they are
learned, a class may then be the likeliest that the whole background would have beaten).
`previous-head`: as `background`, but from the first channel of the head of the step before, which is the background
only after the first step.

Source: Cermelli et al. 2020 (MiB), section 3.4, is `background-rebias`.
"""
