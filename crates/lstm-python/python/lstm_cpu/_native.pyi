from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]

__version__: str

def set_threads(threads: int) -> None:
    """Sets the number of threads that the kernels use; 0 for as many as there are processors."""

def get_threads() -> int:
    """The number of threads that the kernels use."""

def isa() -> str:
    """The instruction set that the kernels use."""

def bf16_isa() -> str:
    """What computes products of bf16: ``amx`` and ``avx512bf16`` have instructions for them."""

def find_openmp() -> bool: ...
def after_fork() -> None: ...

class Pass:
    """A pass forward, kept for its way back."""

class Layers:
    """The layers of an LSTM, without parameters."""

    def __init__(
        self,
        input_size: int,
        hidden_sizes: list[int],
        bias: bool = True,
        bidirectional: bool = False,
        proj_size: int = 0,
        peepholes: bool = False,
        layer_norm: bool = False,
        zoneout: tuple[float, float] = (0.0, 0.0),
    ) -> None: ...
    @property
    def parameters(self) -> list[tuple[str, list[int]]]: ...
    def forward(
        self,
        parameters: list[_Floats],
        input: _Floats,
        shape: tuple[int, int],
        state: tuple[_Floats, _Floats] | None = None,
        lengths: list[int] | None = None,
        batch_sizes: list[int] | None = None,
        dropout: tuple[float, float, int] | None = None,
        keep: bool = True,
        cells: bool = False,
        threads: int = 0,
        bf16: bool = False,
    ) -> tuple[_Floats, _Floats, _Floats, Pass | None, list[_Floats]]: ...
    def backward(
        self,
        pass_: Pass,
        parameters: list[_Floats],
        input: _Floats,
        state: tuple[_Floats, _Floats] | None = None,
        d_output: _Floats | None = None,
        d_h: _Floats | None = None,
        d_c: _Floats | None = None,
    ) -> tuple[_Floats, _Floats, _Floats, list[_Floats]]: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

class Tokenizer:
    """Text into token ids and back."""

    @staticmethod
    def load(path: Path) -> Tokenizer:
        """Reads a ``tokenizer.json`` of this program."""
    @property
    def kind(self) -> str:
        """What a token is: words, chars, bytes or a kind of subwords."""
    def token(self, id: int) -> str:
        """The token with this id, as the vocabulary has it."""
    def id(self, token: str) -> int | None:
        """The id of a token, if there is one."""
    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
    def decode(self, ids: list[int]) -> str:
        """The text of ids."""
    def __len__(self) -> int: ...

class Tokens:
    def __iter__(self) -> Tokens: ...
    def __next__(self) -> tuple[int, str]: ...

class Stream:
    state: tuple[_Floats, _Floats]

    def step(self, ids: list[int]) -> _Floats: ...

class Model:
    def __init__(self, path: Path) -> None: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def card(self) -> tuple[int, int, float, float | None, float | None]: ...
    def parameters(self) -> list[tuple[str, _Floats]]: ...
    def loss(self, text: str | None, path: Path | None) -> tuple[float, int, int]: ...
    def score(
        self, text: str | None, path: Path | None, alone: bool
    ) -> list[tuple[list[int], list[str], list[float], list[int]]]: ...
    def generate(
        self,
        prompt: str,
        length: int,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        repetition_penalty: float,
        seed: int,
    ) -> Tokens: ...
    def inspect(self, text: str, explain: list[int]) -> dict[str, Any]: ...
    def stream(self, batch: int) -> Stream: ...
    def save(self, path: Path) -> None: ...
    def write_torch(self, path: Path, module: Path) -> None: ...

def import_torch(path: Path, vocabulary: Path, model: Path, map: list[tuple[str, str]]) -> None: ...
def train(
    text: Path | None,
    folder: Path,
    callback: Callable[[dict[str, Any]], None] | None = None,
    *,
    preset: str | None = None,
    replace: bool = False,
    epochs: int | None = None,
    steps: int | None = None,
    budget: float | None = None,
    tokenizer: str | None = None,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    hidden: list[int] | None = None,
    layers: int | None = None,
    embedding: int | None = None,
    batch: int | None = None,
    segment: int | None = None,
    dropout: float | None = None,
    patience: int | None = None,
    seed: int | None = None,
    pretrained: tuple[Path, str] | None = None,
    settings: str | None = None,
) -> None: ...
