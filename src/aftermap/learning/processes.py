"""Several processes on one training: which of them writes, and how they wait for one another."""

import torch
from accelerate import PartialState
from accelerate.utils import broadcast


def is_main_process() -> bool:
    """Whether this process is the one that writes; of a single process true."""
    return bool(PartialState().is_main_process)


def wait_for_all() -> None:
    """Return when every process has got here; at once where there is one."""
    PartialState().wait_for_everyone()


def agree(value: bool) -> bool:
    """What the main process says, on every process."""
    state = PartialState()
    if state.num_processes == 1:
        return value
    told: torch.Tensor = broadcast(torch.tensor([int(value)], device=state.device), from_process=0)
    return bool(told.item())
