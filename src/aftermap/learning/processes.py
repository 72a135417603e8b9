"""Several processes on one training: which of them writes, and how they wait for one another."""

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, parse_flag_from_env


def is_main_process() -> bool:
    """Whether this process is the one that writes; a single one is."""
    return bool(_state().is_main_process)


def process_count() -> int:
    """How many processes share the training."""
    return int(_state().num_processes)


def wait_for_all() -> None:
    """Return when every process has got here; at once where there is one."""
    _state().wait_for_everyone()


def agree(value: bool) -> bool:
    """What the main process says, on every process."""
    state = _state()
    if state.num_processes == 1:
        return value
    told: torch.Tensor = broadcast(torch.tensor([int(value)], device=state.device), from_process=0)
    return bool(told.item())


def _state() -> PartialState:
    """The state of this process; whoever asks first sets it up, so as accelerate would for a training."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
