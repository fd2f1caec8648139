"""LSTM networks on fast CPU kernels: PyTorch's ``nn.LSTM`` and whole language models.

In a PyTorch program one line makes every ``nn.LSTM`` run on these kernels, forward and backward::

    import lstm_cpu
    print(lstm_cpu.accelerate(model))

``train(text, folder)`` and ``load(folder)`` give language models, which measure texts, write, and become modules of torch.

``LSTM`` and ``LSTMCell`` are modules with PyTorch's arguments, parameters and results, and more arguments besides. They need
``torch``, which is imported when they are first asked for; everything else needs numpy alone.
"""

from __future__ import annotations

import os as _os
from typing import TYPE_CHECKING

from . import _native
from ._native import __version__, get_threads, isa, set_threads
from .language import Model, ScoredToken, Stream, Tokenizer, from_torch, load, train

if TYPE_CHECKING:
    from .torch import LSTM, Accelerated, LSTMCell, accelerate

__all__ = [
    "LSTM",
    "Accelerated",
    "LSTMCell",
    "Model",
    "ScoredToken",
    "Stream",
    "Tokenizer",
    "__version__",
    "accelerate",
    "from_torch",
    "get_threads",
    "isa",
    "load",
    "set_threads",
    "train",
]

_OF_TORCH = ("LSTM", "LSTMCell", "Accelerated", "accelerate")

if hasattr(_os, "register_at_fork"):
    # The workers of a DataLoader are forked, and threads do not come along.
    _os.register_at_fork(after_in_child=_native.after_fork)


def __getattr__(name: str) -> object:
    if name in _OF_TORCH:
        from . import torch

        return getattr(torch, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_OF_TORCH))
