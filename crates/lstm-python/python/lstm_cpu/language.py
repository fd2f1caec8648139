"""Language models: trained, opened, measured, written with."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np
import numpy.typing as npt

from . import _native
from ._native import Tokenizer

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Model", "ScoredToken", "Tokenizer", "Stream", "from_torch", "load", "train"]

_Path = Union[str, "os.PathLike[str]"]
_Floats = npt.NDArray[np.float32]


class ScoredToken(NamedTuple):
    """A token of a scored text."""

    id: int
    text: str
    #: Its surprisal, in nats.
    nats: float
    #: How many tokens were likelier.
    rank: int


class Stream:
    """B streams of tokens through a model, from zero states."""

    def __init__(self, native: _native.Stream) -> None:
        self._native = native

    def step(self, ids: Sequence[int]) -> _Floats:
        """Takes a token for every stream; gives the logits of the next, ``[B, V]``."""
        return self._native.step([int(id) for id in ids])

    @property
    def state(self) -> tuple[_Floats, _Floats]:
        """The hidden and the cell states of all layers, one after the other: each layer's is ``[B, ·]``."""
        return self._native.state

    @state.setter
    def state(self, state: tuple[Any, Any]) -> None:
        h, c = state
        self._native.state = _array(h), _array(c)


class Model:
    """A trained language model: ``load(path)`` opens one, ``train(text)`` makes one.

    Texts are ``str``; a ``pathlib.Path`` is the file or the folder of a text.
    """

    def __init__(self, path: _Path) -> None:
        self.path = Path(path)
        self._native = _native.Model(self.path)
        self._streams: Stream | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return self._native.tokenizer

    @property
    def results(self) -> dict[str, Any]:
        """The epoch and the step it is from, and the perplexities of its training."""
        epoch, step, train, valid, test = self._native.card
        return {"epoch": epoch, "step": step, "train": train, "valid": valid, "test": test}

    def parameters(self) -> dict[str, _Floats]:
        """Every parameter by its name, PyTorch's where it has one."""
        return dict(self._native.parameters())

    def perplexity(self, text: str | Path) -> float:
        """The perplexity of a text."""
        nats, tokens, _ = self._native.loss(*_text(text))
        return math.exp(nats / tokens)

    def score(self, text: str | Path, *, alone: bool = False) -> list[list[ScoredToken]]:
        """Every token of a text, line by line. ``alone``: each line from a fresh state."""
        lines = self._native.score(*_text(text), alone)
        return [[ScoredToken(*token) for token in zip(*line)] for line in lines]

    def generate(
        self,
        prompt: str = "",
        *,
        length: int = 100,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 1,
    ) -> Iterator[tuple[int, str]]:
        """Writes on from a prompt, token by token: ids and texts. The options are those of ``lstm generate``."""
        return self._native.generate(
            prompt, length, temperature, top_k, top_p, min_p, repetition_penalty, seed
        )

    def inspect(self, text: str | Path, *, explain: Sequence[int] = ()) -> dict[str, Any]:
        """What the model does inside while it reads a text of at most 20,000 tokens, as ``lstm inspect --npz`` writes it.

        Returns:
            a dictionary of arrays: ``ids`` and ``nats`` ``[T]``, the surprisal of each token, not a number where it was given; for every
            layer ``layer1_i``, ``_f``, ``_g``, ``_o``, ``_c`` ``[T, H]`` and ``_h`` ``[T, R]``; and ``text``, a list. T counts the start
            before the first token. For each token to ``explain``, counted from 1: ``cause3_product`` and ``cause3_integrated``, what
            the tokens read before it add to its log-probability, by gradient times embedding and by integrated gradients;
            the first of them is at ``cause3_from``.
        """
        if isinstance(text, Path):
            text = text.read_text(encoding="utf-8")
        return self._native.inspect(text, list(explain))

    def stream(self, batch: int = 1) -> Stream:
        """B streams of tokens, from zero states."""
        return Stream(self._native.stream(batch))

    def step(self, ids: Sequence[int]) -> _Floats:
        """Takes a token for every row of the model's own stream; gives the logits of the next, ``[B, V]``.

        The first call says how many rows there are; ``reset`` begins anew.
        """
        if self._streams is None:
            self._streams = self.stream(len(ids))
        return self._streams.step(ids)

    @property
    def state(self) -> tuple[_Floats, _Floats] | None:
        """The states of the model's own stream, of which ``None`` says that it has read nothing."""
        return None if self._streams is None else self._streams.state

    def reset(self) -> None:
        """Lets the model's own stream begin anew."""
        self._streams = None

    def save(self, path: _Path) -> None:
        """Writes the whole model into one file, ``.safetensors``, which ``load`` and the command open."""
        self._native.save(_free(path))

    def to_torch(self) -> nn.Module:
        """The model as a ``torch.nn.Module`` of torch's own layers: tokens ``[T, B]`` in; logits ``[T, B, V]`` and the state out."""
        import torch

        with tempfile.TemporaryDirectory() as folder:
            weights, source = Path(folder) / "model.pt", Path(folder) / "model.py"
            self._native.write_torch(weights, source)
            spec = importlib.util.spec_from_file_location("lstm_cpu_exported", source)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            made: nn.Module = module.Network()
            made.load_state_dict(torch.load(weights, weights_only=True))
        return made

    def __repr__(self) -> str:
        return repr(self._native)


def _array(values: Any) -> _Floats:
    """Numbers of any library, where they lie: by DLPack, or as numpy takes them."""
    if not isinstance(values, np.ndarray) and hasattr(values, "__dlpack__"):
        values = np.from_dlpack(values)
    return np.ascontiguousarray(values, np.float32).reshape(-1)


def _text(text: str | Path) -> tuple[str | None, Path | None]:
    return (None, text) if isinstance(text, Path) else (text, None)


def load(path: _Path) -> Model:
    """Opens a model file, or the best model of a run folder."""
    return Model(path)


def from_torch(
    module: nn.Module | Mapping[str, Any],
    path: _Path,
    *,
    vocabulary: _Path | Sequence[str],
    map: Mapping[str, str] | None = None,
) -> Model:
    """Makes a model of this package of a PyTorch language model: an embedding, an LSTM, a linear readout.

    Arguments:
        module: the model, or its state dict.
        path: the model file that is written, ``.safetensors``.
        vocabulary: its tokens, in the order of their ids; or the file that has them, a line each, or a ``tokenizer.json``.
        map: where a tensor belongs that is not found by itself, their name to ours.
    """
    import torch

    path = _free(path)
    state = module if isinstance(module, Mapping) else module.state_dict()
    with tempfile.TemporaryDirectory() as partial:
        weights = Path(partial) / "model.pt"
        torch.save(dict(state), weights)
        if isinstance(vocabulary, (str, os.PathLike)):
            words = Path(vocabulary)
        else:
            words = Path(partial) / "words.txt"
            words.write_text("".join(f"{word}\n" for word in vocabulary), encoding="utf-8")
        _native.import_torch(weights, words, path, list((map or {}).items()))
    return Model(path)


def _free(path: _Path) -> Path:
    """A path that nothing has yet."""
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} is there already; choose another name, or remove it")
    return path


def train(
    text: _Path | None,
    folder: _Path,
    *,
    preset: str | None = None,
    replace: bool = False,
    epochs: int | None = None,
    steps: int | None = None,
    budget: float | None = None,
    tokenizer: str | None = None,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    hidden: int | Sequence[int] | None = None,
    layers: int | None = None,
    embedding: int | None = None,
    batch: int | None = None,
    segment: int | None = None,
    dropout: float | None = None,
    patience: int | None = None,
    seed: int | None = None,
    pretrained: _Path | None = None,
    pretrained_vocabulary: str = "keep",
    settings: Mapping[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    progress: bool = False,
) -> Model:
    """Trains a model on a text, as ``lstm train`` does; what is not named is the preset's, or chosen for the text.

    Arguments:
        text: a file or a folder of files; ``None`` for the built-in language.
        folder: the run's, from which the command goes on too.
        pretrained: a run folder or a model file to go on from, and what becomes of its vocabulary: ``"keep"``, ``"extend"`` or ``"match"``.
        settings: any other setting by its name in ``config.toml``, such as ``{"training.weight_decay": 1e-6, "model.tied": True}``.
        callback: is called with every event, a dictionary whose ``"event"`` is ``"started"``, ``"step"``, ``"validated"``,
            ``"epoch ended"``, ``"averaging"``, ``"evaluating"`` or ``"tested"``. An exception that it raises ends the
            training as Ctrl-C does: a checkpoint is written first, and ``lstm train --resume`` goes on.
        progress: show a bar, if ``tqdm`` is installed.
        others: as the options of the command of these names.
    """
    bar = _bar() if progress else None

    def observe(event: dict[str, Any]) -> None:
        if bar is not None:
            _show(bar, event)
        if callback is not None:
            callback(event)

    if not replace and Path(folder).exists() and any(Path(folder).iterdir()):
        raise FileExistsError(f"{folder} is there already; choose another folder, or give replace=True")
    try:
        _native.train(
            None if text is None else Path(text),
            Path(folder),
            observe if callback is not None or bar is not None else None,
            preset=preset,
            replace=replace,
            epochs=epochs,
            steps=steps,
            budget=budget,
            tokenizer=tokenizer,
            optimizer=optimizer,
            learning_rate=learning_rate,
            hidden=[hidden] if isinstance(hidden, int) else None if hidden is None else list(hidden),
            layers=layers,
            embedding=embedding,
            batch=batch,
            segment=segment,
            dropout=dropout,
            patience=patience,
            seed=seed,
            pretrained=None if pretrained is None else (Path(pretrained), pretrained_vocabulary),
            settings=None if settings is None else json.dumps(dict(settings)),
        )
    finally:
        if bar is not None:
            bar.close()
    return Model(folder)


def _bar() -> Any:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return None
    return tqdm(total=1.0, bar_format="{percentage:3.0f}% |{bar}| {postfix}")


def _show(bar: Any, event: dict[str, Any]) -> None:
    if event["event"] == "step":
        bar.update(event["progress"] - bar.n)
        bar.set_postfix_str(f"epoch {event['epoch']}, {math.exp(min(event['epoch_loss'], 700.0)):.2f}", refresh=False)
    elif event["event"] == "validated" and event["valid"] is not None:
        bar.set_postfix_str(f"epoch {event['epoch']}, valid {event['valid']:.2f}")
