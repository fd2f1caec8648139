"""Drawn configurations beside torch.nn.LSTM: outputs, states, all gradients."""

import random

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed, so its layer is not there to compare with")
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import lstm_cpu

TOLERANCE = 1e-5


def assert_close(what, ours, theirs):
    scale = max(1.0, theirs.detach().abs().max().item()) if theirs.numel() else 1.0
    off = (ours.detach() - theirs.detach()).abs().max().item() if theirs.numel() else 0.0
    assert ours.shape == theirs.shape and off <= TOLERANCE * scale, f"{what} is off by {off} of {scale}"


def drawn(rng):
    """Arguments, and a case: batched, unbatched or packed, with states or without."""
    hidden = rng.choice([1, 2, 7, 16, 33, 40])
    arguments = dict(
        input_size=rng.choice([1, 3, 17]),
        hidden_size=hidden,
        num_layers=rng.choice([1, 1, 2, 3]),
        bias=rng.random() < 0.7,
        batch_first=rng.random() < 0.5,
        bidirectional=rng.random() < 0.5,
        proj_size=rng.randrange(1, hidden) if hidden > 1 and rng.random() < 0.3 else 0,
    )
    case = rng.choice(["batched", "unbatched", "packed", "packed unsorted", "not contiguous"])
    return arguments, case, rng.random() < 0.6


@pytest.mark.parametrize("seed", range(120))
def test_a_drawn_configuration_agrees(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    arguments, case, with_state = drawn(rng)
    theirs = nn.LSTM(**arguments)
    ours = lstm_cpu.LSTM(**arguments)
    ours.load_state_dict(theirs.state_dict())
    names = [name for name, _ in theirs.named_parameters()]
    needed = {name for name in names if rng.random() < 0.8}
    for module in (ours, theirs):
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in needed)
    steps, batch = rng.choice([1, 2, 9]), rng.choice([1, 2, 5, 20])
    size = arguments["input_size"]
    lengths = None
    if case == "unbatched":
        input = torch.randn(steps, size)
    elif case.startswith("packed"):
        lengths = [rng.randint(1, steps) for _ in range(batch)]
        lengths[rng.randrange(batch)] = steps
        if case == "packed":
            lengths.sort(reverse=True)
        input = torch.randn(steps, batch, size)
    else:
        input = torch.randn(batch, steps, size) if arguments["batch_first"] else torch.randn(steps, batch, size)
        if case == "not contiguous":
            input = torch.stack([input, input], -1)[..., 0]
    directions = 2 if arguments["bidirectional"] else 1
    rows = () if case == "unbatched" else (batch,)
    sizes = (arguments["proj_size"] or arguments["hidden_size"], arguments["hidden_size"])
    state = [torch.randn(arguments["num_layers"] * directions, *rows, size) for size in sizes]
    input_needed = rng.random() < 0.8
    found = []
    for module in (ours, theirs):
        x = input.clone().requires_grad_(input_needed)
        hx = tuple(part.clone().requires_grad_() for part in state) if with_state else None
        given = x
        if lengths is not None:
            given = pack_padded_sequence(x, lengths, enforce_sorted=case == "packed")
        output, (h_n, c_n) = module(given, hx)
        if isinstance(output, PackedSequence):
            output = output.data
        torch.manual_seed(seed)
        loss = sum((part * torch.randn(part.shape)).sum() for part in (output, h_n, c_n))
        if loss.requires_grad:
            loss.backward()
        gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
        gradients |= {"input": x.grad} | ({f"hx[{i}]": part.grad for i, part in enumerate(hx)} if hx else {})
        found.append(({"output": output, "h_n": h_n, "c_n": c_n}, gradients))
    for name in found[0][0]:
        assert_close(name, found[0][0][name], found[1][0][name])
    for name, gradient in found[1][1].items():
        if gradient is None:
            assert found[0][1][name] is None, name
        else:
            assert_close(f"the gradient of {name}", found[0][1][name], gradient)
