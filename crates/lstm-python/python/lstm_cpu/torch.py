"""PyTorch's ``nn.LSTM`` and ``nn.LSTMCell`` on the kernels of this package, in the memory that torch has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Union, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from . import _native

__all__ = ["LSTM", "Accelerated", "LSTMCell", "accelerate"]

# torch's threads spin while they wait: ours beside them would share the processors with them.
_native.find_openmp()

State = tuple[Tensor, Tensor]
States = tuple[Union[Tensor, tuple[Tensor, ...]], Union[Tensor, tuple[Tensor, ...]]]


def _count(number: int, thing: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


class _Course(NamedTuple):
    """How a pass runs."""

    layers: _native.Layers
    shape: tuple[int, int]
    lengths: list[int] | None
    batch_sizes: list[int] | None
    dropout: tuple[float, float, int] | None
    cells: bool
    threads: int
    bf16: bool
    # The arguments of torch's own pass, where it computes the same: for second derivatives.
    torch_options: tuple[bool, int, bool] | None


def _array(tensor: Tensor) -> Any:
    """The values where they lie, row by row."""
    return tensor.detach().contiguous().numpy()


def _arrays(tensors: Sequence[Tensor]) -> list[Any]:
    return [_array(tensor) for tensor in tensors]


def _run(course: _Course, keep: bool, input: Tensor, state: State | None, parameters: Sequence[Tensor]) -> Any:
    return course.layers.forward(
        _arrays(parameters),
        _array(input),
        course.shape,
        None if state is None else (_array(state[0]).reshape(-1), _array(state[1]).reshape(-1)),
        course.lengths,
        course.batch_sizes,
        course.dropout,
        keep,
        course.cells,
        course.threads,
        course.bf16,
    )


class _Recurrence(torch.autograd.Function):
    """A pass over a segment. Gives the output, h_n and c_n, both flat, and the cell states of every layer and direction."""

    @staticmethod
    def forward(
        ctx: Any, course: _Course, input: Tensor, h_0: Tensor | None, c_0: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        state = None if h_0 is None or c_0 is None else (h_0, c_0)
        output, h_n, c_n, ctx.kept, cells = _run(course, True, input, state, parameters)
        ctx.course = course
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, h_0, c_0, *parameters)
        given = tuple(torch.from_numpy(array) for array in (output, h_n, c_n, *cells))
        if cells:
            ctx.mark_non_differentiable(*given[3:])
        return given

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        course: _Course = ctx.course
        input, h_0, c_0, *parameters = ctx.saved_tensors
        d_output, d_h, d_c = gradients[:3]
        if torch.is_grad_enabled():
            return (None, *_differentiable(course, input, h_0, c_0, parameters, (d_output, d_h, d_c)))
        d_input, d_h_0, d_c_0, of_parameters = course.layers.backward(
            ctx.kept,
            _arrays(parameters),
            _array(input),
            None if h_0 is None else (_array(h_0).reshape(-1), _array(c_0).reshape(-1)),
            None if d_output is None else _array(d_output),
            None if d_h is None else _array(d_h),
            None if d_c is None else _array(d_c),
        )
        needs = ctx.needs_input_grad
        given = [torch.from_numpy(d_input) if needs[1] else None]
        for at, (start, d_start) in enumerate(((h_0, d_h_0), (c_0, d_c_0)), start=2):
            given.append(torch.from_numpy(d_start).reshape(start.shape) if needs[at] else None)
        of_needed = zip(of_parameters, needs[4:])
        return (None, *given, *(torch.from_numpy(d) if needed else None for d, needed in of_needed))


def _differentiable(
    course: _Course,
    input: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    parameters: Sequence[Tensor],
    gradients: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """The gradients by way of torch's own pass, which can be differentiated again."""
    if course.torch_options is None or course.dropout is not None:
        raise RuntimeError(
            "second derivatives are computed for what torch's own LSTM computes, without dropout; this layer differs from it "
            "or drops, so leave out create_graph=True"
        )
    bias, layers, bidirectional = course.torch_options
    directions = 2 if bidirectional else 1
    batch = course.shape[1]
    lstm: Any = torch._VF.lstm
    with torch.enable_grad():
        if h_0 is None or c_0 is None:
            hidden = parameters[1].shape[0] // 4
            recurrent = parameters[1].shape[1]
            state = [input.new_zeros(layers * directions, batch, size) for size in (recurrent, hidden)]
        else:
            state = [h_0, c_0]
        if course.batch_sizes is None:
            results = lstm(input, state, parameters, bias, layers, 0.0, False, bidirectional, False)
        else:
            sizes = torch.tensor(course.batch_sizes)
            results = lstm(input, sizes, state, parameters, bias, layers, 0.0, False, bidirectional)
        results = (results[0], results[1].reshape(-1), results[2].reshape(-1))
        wanted = [tensor for tensor in (input, h_0, c_0, *parameters) if tensor is not None and tensor.requires_grad]
        reached = [(result, d) for result, d in zip(results, gradients) if d is not None]
        found = iter(
            torch.autograd.grad(
                [result for result, _ in reached],
                wanted,
                [d for _, d in reached],
                create_graph=True,
                allow_unused=True,
            )
        )
    return [
        next(found) if tensor is not None and tensor.requires_grad else None
        for tensor in (input, h_0, c_0, *parameters)
    ]


def _apply(course: _Course, input: Tensor, state: State | None, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Runs a pass, kept for its way back where anything asks for a gradient."""
    if torch.is_grad_enabled():
        h_0, c_0 = (None, None) if state is None else state
        inputs = [input, *parameters] if state is None else [input, *state, *parameters]
        if any(tensor.requires_grad for tensor in inputs):
            return cast("tuple[Tensor, ...]", _Recurrence.apply(course, input, h_0, c_0, *parameters))
    output, h_n, c_n, _, cells = _run(course, False, input, state, parameters)
    return tuple(torch.from_numpy(array) for array in (output, h_n, c_n, *cells))


def _why_not(name: str, tensors: Sequence[Tensor]) -> str | None:
    """Why these tensors cannot be computed with, if they cannot."""
    for tensor in tensors:
        if tensor.dtype != torch.float32:
            return f"{name} computes with torch.float32, got {tensor.dtype}; convert it, or use torch's own layer"
        if tensor.device.type != "cpu":
            return f"{name} computes on the CPU, got a tensor on {tensor.device}; move it, or use torch's own layer"
    return None


#: Whether products of bf16 are faster than those of float32 here; where they are not, autocast computes with float32.
_has_bf16 = _native.bf16_isa() in ("amx", "avx512bf16")


def _casts() -> bool:
    """Whether the caller asked for bfloat16 by ``torch.autocast``."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _each(values: Any, old: torch.dtype, new: torch.dtype) -> Any:
    """The same with every tensor of one type in another."""
    if isinstance(values, Tensor):
        return values.to(new) if values.dtype == old else values
    if isinstance(values, PackedSequence):
        return values._replace(data=_each(values.data, old, new))
    if isinstance(values, (list, tuple)):
        return tuple(_each(value, old, new) for value in values)
    return values


class LSTM(nn.LSTM):
    """``torch.nn.LSTM`` on the kernels of this package: the same arguments, parameters, names and results.

    Arguments:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size: as ``torch.nn.LSTM``.
            ``hidden_size`` may be a sequence, with a size for each layer; ``h_n`` and ``c_n`` are then tuples of one tensor
            ``[D, B, ·]`` a layer.
        return_cells: give the cell states after every step too.
        recurrent_dropout: the rate at which hidden-to-hidden weights are dropped, the same for all steps of a call (Merity
            et al. 2017); in training only.
        layer_norm: normalise ``W x``, ``W h`` and the cell state that is read (Ba, Kiros & Hinton 2016).
        zoneout: the rate at which units keep their states (Krueger et al. 2017), or a pair for cell and hidden states.
        peepholes: let the gates see the cell (Gers & Schmidhuber 2000).
        forget_bias: the sum of the forget gate's two biases at the start (Jozefowicz et al. 2015 suggest 1).

    Shapes:
        input ``[T, B, I]``, or ``[B, T, I]`` with ``batch_first``, or ``[T, I]``, or a ``PackedSequence``;
        output ``[T, B, D·R]``, likewise, where R is ``proj_size`` or ``hidden_size``, D the number of directions;
        ``h_0``, ``h_n`` ``[L·D, B, R]``; ``c_0``, ``c_n`` ``[L·D, B, H]``;
        with ``return_cells`` a tuple of the cell states of every layer, ``[T, B, D·H]`` as the output has it, which no
        gradient goes through.

    Under ``torch.autocast("cpu", torch.bfloat16)`` products multiply bfloat16 where the processor has instructions for that, states and sums
    stay float32, and results are bfloat16, as torch's are.

    >>> import torch, lstm_cpu
    >>> layer = lstm_cpu.LSTM(10, 20, num_layers=2)
    >>> output, (h_n, c_n) = layer(torch.randn(5, 3, 10))
    >>> output.shape, h_n.shape
    (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))
    >>> output.sum().backward()
    >>> lstm_cpu.LSTM(10, (32, 16), num_layers=2, layer_norm=True)
    LSTM(10, (32, 16), num_layers=2, layer_norm=True)
    """

    # Of modules that were nn.LSTM before `accelerate`, and of pickles made before an argument was there.
    _accelerated = False
    _layers: _native.Layers | None = None
    _sizes: tuple[int, ...] | None = None
    return_cells: bool = False
    recurrent_dropout: float = 0.0
    layer_norm: bool = False
    zoneout: tuple[float, float] = (0.0, 0.0)
    peepholes: bool = False
    forget_bias: float | None = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int | list[int] | tuple[int, ...],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        return_cells: bool = False,
        recurrent_dropout: float = 0.0,
        layer_norm: bool = False,
        zoneout: float | tuple[float, float] = 0.0,
        peepholes: bool = False,
        forget_bias: float | None = None,
    ) -> None:
        sizes = tuple(hidden_size) if isinstance(hidden_size, (list, tuple)) else None
        if sizes is not None and len(sizes) != num_layers:
            raise ValueError(f"hidden_size gives {_count(len(sizes), 'size')} for {_count(num_layers, 'layer')}; give one for each layer")
        if not 0.0 <= recurrent_dropout < 1.0:
            raise ValueError(f"recurrent_dropout is {recurrent_dropout}; it must be at least 0 and below 1")
        if forget_bias is not None and not bias:
            raise ValueError("forget_bias needs biases; leave out bias=False")
        if layer_norm and not bias:
            raise ValueError("layer_norm needs biases; leave out bias=False")
        # The first size stands for all until the parameters are made anew.
        first = cast(int, hidden_size) if sizes is None else max(sizes)
        super().__init__(
            input_size, first, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        )
        self.return_cells = return_cells
        self.recurrent_dropout = recurrent_dropout
        self.layer_norm = layer_norm
        self.zoneout = (zoneout, zoneout) if isinstance(zoneout, (int, float)) else (zoneout[0], zoneout[1])
        self.peepholes = peepholes
        self.forget_bias = forget_bias
        if sizes is not None:
            self._sizes = sizes
            self.hidden_size = cast(int, sizes)
        self._layers = self._native_layers()
        if sizes is not None or layer_norm or peepholes:
            self._make_parameters(device, dtype)
            self.reset_parameters()
        elif forget_bias is not None:
            self.reset_parameters()

    def _native_layers(self) -> _native.Layers:
        sizes = self._sizes or (self.hidden_size,) * self.num_layers
        return _native.Layers(
            self.input_size,
            list(sizes),
            self.bias,
            self.bidirectional,
            self.proj_size,
            self.peepholes,
            self.layer_norm,
            self.zoneout,
        )

    @property
    def _is_plain(self) -> bool:
        """Whether torch's own layer computes the same, dropout aside."""
        return not (self._sizes or self.layer_norm or self.peepholes or any(self.zoneout) or self.recurrent_dropout)

    def _make_parameters(self, device: Any, dtype: Any) -> None:
        """Those of the layers in place of torch's."""
        for name in self._flat_weights_names:
            delattr(self, name)
        assert self._layers is not None
        parameters = self._layers.parameters
        # Not by its names yet: torch would put each into its list, which is of the old ones.
        self._flat_weights_names = []
        for name, shape in parameters:
            setattr(self, name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        names = [name for name, _ in parameters]
        each = len(names) // (self.num_layers * (2 if self.bidirectional else 1))
        self._flat_weights_names = names
        self._all_weights = [names[at : at + each] for at in range(0, len(names), each)]
        self._flat_weights = [getattr(self, name) for name in names]

    def reset_parameters(self) -> None:
        """Gives every parameter a new initial value, as torch does: uniform within ±1/√H; gains one."""
        for name, weight in self.named_parameters():
            hidden = self._hidden_of(name)
            bound = 1.0 / math.sqrt(hidden) if hidden > 0 else 0.0
            if name.startswith("gain"):
                nn.init.ones_(weight)
            elif name.startswith("bias_cell"):
                nn.init.zeros_(weight)
            else:
                nn.init.uniform_(weight, -bound, bound)
            if self.forget_bias is not None and name.startswith(("bias_ih", "bias_hh")):
                with torch.no_grad():
                    weight[hidden : 2 * hidden].fill_(self.forget_bias / 2)

    def _hidden_of(self, name: str) -> int:
        if not self._sizes:
            return self.hidden_size
        return self._sizes[int(name.rsplit("_l", 1)[1].removesuffix("_reverse"))]

    def extra_repr(self) -> str:
        said = super().extra_repr()
        plain = {"return_cells": False, "recurrent_dropout": 0.0, "layer_norm": False, "peepholes": False}
        said += "".join(f", {name}={getattr(self, name)}" for name, value in plain.items() if getattr(self, name) != value)
        if any(self.zoneout):
            cell, hidden = self.zoneout
            said += f", zoneout={cell if cell == hidden else self.zoneout}"
        if self.forget_bias is not None:
            said += f", forget_bias={self.forget_bias}"
        return said

    def forward(self, input: Any, hx: Any = None) -> Any:
        if _casts():
            # As torch's layer under autocast: values of both types come in, bfloat16 goes out, or what came in where it is packed. States
            # and sums are float32 here.
            results = self._forward(_each(input, torch.bfloat16, torch.float32), _each(hx, torch.bfloat16, torch.float32))
            given = input.data.dtype if isinstance(input, PackedSequence) else torch.bfloat16
            return _each(results, torch.float32, given)
        return self._forward(input, hx)

    def _forward(self, input: Any, hx: Any) -> Any:
        packed = input if isinstance(input, PackedSequence) else None
        data: Tensor = input if packed is None else packed.data
        weights = cast("list[Tensor]", self._flat_weights)
        if data.dtype != torch.float32 or data.device.type != "cpu" or torch.is_autocast_enabled("cpu") and not _casts():
            if self._accelerated:
                return super().forward(input, hx)
            weight = weights[0]
            if data.dtype != weight.dtype and data.device == weight.device:
                self.check_input(data, None if packed is None else packed.batch_sizes)
            why = _why_not("lstm_cpu.LSTM", [data])
            if why is not None:
                raise TypeError(why)
        layers = self._layers
        if layers is None:
            layers = self._layers = self._native_layers()
        for weight in weights:
            if weight.dtype != torch.float32 or weight.device.type != "cpu":
                if self._accelerated:
                    return super().forward(input, hx)
                raise TypeError(_why_not("lstm_cpu.LSTM", weights))
        if packed is not None:
            return self._forward_packed(layers, packed, hx)
        if data.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {data.dim()}D instead")
        is_batched = data.dim() == 3
        if not is_batched:
            data = data.unsqueeze(1)
        elif self.batch_first:
            data = data.transpose(0, 1)
        state = self._initial(data.shape[1], hx, is_batched)
        if data.shape[2] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {data.shape[2]}"
            )
        output, h_n, c_n, *cells = self._run(layers, data, (data.shape[0], data.shape[1]), state, None, None)

        def shaped(sequence: Tensor) -> Tensor:
            if not is_batched:
                return sequence.squeeze(1)
            return sequence.transpose(0, 1) if self.batch_first else sequence

        states = self._states(h_n, c_n, data.shape[1], is_batched)
        if not self.return_cells:
            return shaped(output), states
        return shaped(output), states, tuple(shaped(cell) for cell in self._joined(cells))

    def _forward_packed(self, layers: _native.Layers, packed: PackedSequence, hx: Any) -> Any:
        data, batch_sizes, sorted_indices, unsorted_indices = packed
        if data.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {data.shape[-1]}"
            )
        sizes: list[int] = batch_sizes.tolist()
        batch, steps = sizes[0], len(sizes)
        if hx is not None and sorted_indices is not None:
            # A state's rows are those of the sequences as they came.
            hx = tuple(
                part.index_select(1, sorted_indices)
                if isinstance(part, Tensor)
                else tuple(one.index_select(1, sorted_indices) for one in part)
                for part in hx
            )
        state = self._initial(batch, hx, True)
        if self._layers_are_plain():
            output, h_n, c_n, *cells = self._run(layers, data, (steps, batch), state, None, sizes)
        else:
            # Cells that differ run masked: their loop goes through whole steps.
            padded, lengths = pad_packed_sequence(PackedSequence(data, batch_sizes))
            output, h_n, c_n, *cells = self._run(layers, padded, (steps, batch), state, lengths.tolist(), None)
            output = pack_padded_sequence(output, lengths).data
            cells = [pack_padded_sequence(cell, lengths).data for cell in cells]
        h, c = self._states(h_n, c_n, batch, True)
        if unsorted_indices is not None:
            h, c = (
                part.index_select(1, unsorted_indices)
                if isinstance(part, Tensor)
                else tuple(one.index_select(1, unsorted_indices) for one in part)
                for part in (h, c)
            )
        pack = lambda values: PackedSequence(values, batch_sizes, sorted_indices, unsorted_indices)  # noqa: E731
        if not self.return_cells:
            return pack(output), (h, c)
        return pack(output), (h, c), tuple(pack(cell) for cell in self._joined(cells))

    def _layers_are_plain(self) -> bool:
        return not (self.layer_norm or self.peepholes or any(self.zoneout))

    def _run(
        self,
        layers: _native.Layers,
        input: Tensor,
        shape: tuple[int, int],
        state: State | None,
        lengths: list[int] | None,
        batch_sizes: list[int] | None,
    ) -> tuple[Tensor, ...]:
        dropout = None
        if self.training:
            rate = self.dropout if self.num_layers > 1 else 0.0
            if rate or self.recurrent_dropout or any(self.zoneout):
                # torch's generator, so that its seed decides.
                dropout = (rate, self.recurrent_dropout, int(torch.randint(2**62, ())))
        options = (self.bias, self.num_layers, self.bidirectional) if self._is_plain else None
        threads, bf16 = torch.get_num_threads(), _casts() and _has_bf16
        course = _Course(layers, shape, lengths, batch_sizes, dropout, self.return_cells, threads, bf16, options)
        weights = cast("list[Tensor]", self._flat_weights)
        if dropout is not None and dropout[0] == 1.0:
            raise ValueError("dropout is 1, which leaves nothing of what a layer gives to the next; give less than 1")
        return _apply(course, input, state, weights)

    def _shapes(self, batch: int) -> list[tuple[int, int, int]]:
        """D, R and H of each layer that has a state of its own, or of all together."""
        directions = 2 if self.bidirectional else 1
        if not self._sizes:
            return [(self.num_layers * directions, self.proj_size or self.hidden_size, self.hidden_size)]
        return [(directions, self.proj_size or size, size) for size in self._sizes]

    def _initial(self, batch: int, hx: Any, is_batched: bool) -> State | None:
        """The initial state, checked."""
        if hx is None:
            return None
        parts = tuple((part,) if isinstance(part, Tensor) else tuple(part) for part in hx)
        shapes = self._shapes(batch)
        if len(parts) != 2 or any(len(part) != len(shapes) for part in parts):
            raise RuntimeError(f"hx must be (h_0, c_0), each of {_count(len(shapes), 'tensor')}, one a layer")
        if not is_batched and parts[0][0].dim() != 2 or is_batched and parts[0][0].dim() != 3:
            kind, dims = ("batched 3-D", 3) if is_batched else ("unbatched 2-D", 2)
            given = f"({parts[0][0].dim()}-D, {parts[1][0].dim()}-D)"
            raise RuntimeError(f"For {kind} input, hx and cx should also be {dims}-D but got {given} tensors")
        if not is_batched:
            parts = tuple(tuple(one.unsqueeze(1) for one in part) for part in parts)
        for at, part in enumerate(parts):
            for one, (directions, recurrent, hidden) in zip(part, shapes):
                expected = (directions, batch, (recurrent, hidden)[at])
                if tuple(one.shape) != expected:
                    raise RuntimeError(f"Expected hidden[{at}] size {expected}, got {list(one.shape)}")
            why = _why_not("lstm_cpu.LSTM", part)
            if why is not None:
                raise TypeError(why)
        if not self._sizes:
            return parts[0][0], parts[1][0]
        h, c = (torch.cat([one.reshape(-1) for one in part]) for part in parts)
        return h, c

    def _states(self, h_n: Tensor, c_n: Tensor, batch: int, is_batched: bool) -> States:
        """The final states as torch shapes them."""
        shapes = self._shapes(batch)
        if not self._sizes:
            directions, recurrent, hidden = shapes[0]
            h, c = h_n.view(directions, batch, recurrent), c_n.view(directions, batch, hidden)
            return (h, c) if is_batched else (h.squeeze(1), c.squeeze(1))
        cut = []
        for whole, at in ((h_n, 1), (c_n, 2)):
            parts = whole.split([shape[0] * batch * shape[at] for shape in shapes])
            parts = tuple(part.view(shape[0], batch, shape[at]) for part, shape in zip(parts, shapes))
            cut.append(parts if is_batched else tuple(part.squeeze(1) for part in parts))
        return cut[0], cut[1]

    def _joined(self, cells: Sequence[Tensor]) -> Iterator[Tensor]:
        """The directions of each layer side by side."""
        each = 2 if self.bidirectional else 1
        for at in range(0, len(cells), each):
            yield cells[at] if each == 1 else torch.cat(list(cells[at : at + each]), -1)


class LSTMCell(nn.LSTMCell):
    """``torch.nn.LSTMCell`` on the kernels of this package: the same arguments, parameters, names and results.

    Shapes: input ``[B, I]`` or ``[I]``; ``h``, ``c`` ``[B, H]`` or ``[H]``. For a sequence, ``LSTM`` takes a tenth of the time.

    >>> import torch, lstm_cpu
    >>> cell = lstm_cpu.LSTMCell(10, 20)
    >>> h, c = cell(torch.randn(3, 10))
    >>> h, c = cell(torch.randn(3, 10), (h, c))
    >>> h.shape
    torch.Size([3, 20])
    """

    _accelerated = False
    _layers: _native.Layers | None = None

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        weights = [self.weight_ih, self.weight_hh]
        if self.bias:
            weights += [self.bias_ih, self.bias_hh]
        given = [input, *weights] if hx is None else [input, *hx, *weights]
        why = _why_not("lstm_cpu.LSTMCell", given)
        if why is not None or torch.is_autocast_enabled("cpu"):
            if self._accelerated:
                return super().forward(input, hx)
            if why is not None:
                raise TypeError(why)
        if input.dim() not in (1, 2):
            raise ValueError(f"LSTMCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if hx is not None:
            for at, part in enumerate(hx):
                if part.dim() not in (1, 2):
                    raise ValueError(f"LSTMCell: Expected hx[{at}] to be 1D or 2D, got {part.dim()}D instead")
        is_batched = input.dim() == 2
        data = input if is_batched else input.unsqueeze(0)
        batch = data.shape[0]
        expected = (batch, self.hidden_size) if is_batched else (self.hidden_size,)
        if data.shape[1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {data.shape[1]} expected {self.input_size}")
        for at, part in enumerate(hx or ()):
            if part.shape[-1] != self.hidden_size:
                raise RuntimeError(
                    f"hidden{at} has inconsistent hidden_size: got {part.shape[-1]}, expected {self.hidden_size}"
                )
            if part.dim() != input.dim() or is_batched and part.shape[0] != batch:
                found = part.shape[0] if part.dim() == 2 else 1
                raise RuntimeError(f"Input batch size {batch} doesn't match hidden{at} batch size {found}")
        if self._layers is None:
            self._layers = _native.Layers(self.input_size, [self.hidden_size], self.bias)
        options = (self.bias, 1, False)
        course = _Course(self._layers, (1, batch), None, None, None, False, torch.get_num_threads(), False, options)
        state = None if hx is None else cast(State, tuple(part.reshape(1, batch, self.hidden_size) for part in hx))
        _, h, c = _apply(course, data.unsqueeze(0), state, weights)
        return h.view(expected), c.view(expected)


@dataclass
class Accelerated:
    """What ``accelerate`` did: the modules that were exchanged, and those that were left alone, with the reason."""

    exchanged: list[str] = field(default_factory=list)
    left_alone: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        said = [f"{name or 'the model itself'}: exchanged" for name in self.exchanged]
        said += [f"{name or 'the model itself'}: left alone, {why}" for name, why in self.left_alone.items()]
        return "\n".join(said) or "there is no LSTM in this model"


def _reason(module: nn.Module) -> str | None:
    """Why a module that is an LSTM of some kind is left as it is."""
    parametrized = getattr(module, "parametrizations", None) is not None
    if parametrized:
        return "its parameters are parametrized; remove the parametrizations first"
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.is_meta:
            return f"{name} has no values yet; load them first"
        if parameter.dtype != torch.float32:
            return f"{name} is {parameter.dtype}, which the kernels do not compute with; convert it to torch.float32"
        if parameter.device.type != "cpu":
            return f"{name} is on {parameter.device}; the kernels are the CPU's"
    if type(module) not in (nn.LSTM, nn.LSTMCell):
        return f"it is a {type(module).__module__}.{type(module).__qualname__}, which may compute something else"
    if isinstance(module, nn.LSTM) and module.num_layers > 1 and module.dropout >= 1.0:
        return f"its dropout is {module.dropout}; the kernels drop less than everything"
    if isinstance(module, nn.LSTM) and module.proj_size >= module.hidden_size:
        return "its projection is as large as its hidden state"
    return None


def accelerate(model: nn.Module) -> Accelerated:
    """Makes every ``nn.LSTM`` and ``nn.LSTMCell`` of ``model`` run on the kernels of this package, in place.

    The modules stay the objects that they are, with their parameters, hooks and names: an optimizer that was made before keeps
    working, and so do checkpoints. What the kernels do not compute, another type or device, autocast of float16, goes to torch's own
    layer, call by call. Gives what was exchanged, and what was left alone and why.

    >>> import torch, lstm_cpu
    >>> model = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(4, 8), "gru": torch.nn.GRU(4, 8)})
    >>> print(lstm_cpu.accelerate(model))
    rnn: exchanged
    gru: left alone, it is a torch.nn.modules.rnn.GRU, and these are the kernels of LSTMs
    """
    done = Accelerated()
    for name, module in model.named_modules():
        if isinstance(module, (LSTM, LSTMCell)):
            continue
        if isinstance(module, (nn.LSTM, nn.LSTMCell)):
            why = _reason(module)
            if why is not None:
                done.left_alone[name] = why
                continue
            # Not a new module: whoever holds the old one holds this one.
            module.__class__ = LSTM if isinstance(module, nn.LSTM) else LSTMCell
            module._accelerated = True
            done.exchanged.append(name)
        elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            kind = f"{type(module).__module__}.{type(module).__qualname__}"
            done.left_alone[name] = f"it is a {kind}, and these are the kernels of LSTMs"
        elif "LSTM" in type(module).__name__:
            kind = f"{type(module).__module__}.{type(module).__qualname__}"
            if not any(isinstance(child, (nn.LSTM, nn.LSTMCell)) for child in module.children()):
                done.left_alone[name] = f"it is a {kind}, which is not torch.nn.LSTM"
    return done
