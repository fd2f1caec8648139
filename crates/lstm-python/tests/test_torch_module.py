"""LSTM as a module among torch's modules: copies, files, graphs, errors, and what torch's layer has not."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed, so there are no modules to be one of")
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import lstm_cpu

SHAPES = dict(num_layers=2, bidirectional=True, proj_size=3)


def pair(*arguments, **options):
    """Ours and torch's with the same parameters."""
    theirs = nn.LSTM(*arguments, **options)
    ours = lstm_cpu.LSTM(*arguments, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_it_starts_as_torch_does_and_looks_like_it():
    for options in ({}, SHAPES, {"bias": False, "batch_first": True, "dropout": 0.5, "num_layers": 2}):
        torch.manual_seed(1)
        theirs = nn.LSTM(4, 8, **options)
        torch.manual_seed(1)
        ours = lstm_cpu.LSTM(4, 8, **options)
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))
        assert [[p.shape for p in layer] for layer in ours.all_weights] == [
            [p.shape for p in layer] for layer in theirs.all_weights
        ]


@pytest.mark.parametrize("options", [SHAPES, {"layer_norm": True, "peepholes": True}, {"zoneout": 0.25}])
def test_copies_and_files_compute_the_same(options):
    ours = lstm_cpu.LSTM(4, 8, **options).eval()
    x = torch.randn(5, 2, 4)
    expected = ours(x)[0]
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for made in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(file, weights_only=False)):
        assert torch.equal(made(x)[0], expected) and repr(made) == repr(ours)
        made.weight_ih_l0.data.zero_()
    assert torch.equal(ours(x)[0], expected)


def test_nothing_is_kept_where_no_gradient_is_asked_for():
    ours = lstm_cpu.LSTM(4, 8)
    x = torch.randn(5, 2, 4)
    with torch.no_grad():
        assert not ours(x)[0].requires_grad
    with torch.inference_mode():
        assert not ours(x)[0].requires_grad
    ours.requires_grad_(False)
    assert not ours(x)[0].requires_grad
    assert ours(x.requires_grad_())[0].requires_grad


def test_twice_in_one_graph_and_twice_backward():
    ours, theirs = pair(4, 4, 2)
    x = torch.randn(5, 3, 4)
    found = []
    for module in (ours, theirs):
        first, state = module(x)
        second, _ = module(first, state)
        loss = (first * second).sum()
        loss.backward(retain_graph=True)
        once = [p.grad.clone() for p in module.parameters()]
        loss.backward()
        close([p.grad for p in module.parameters()], [2 * gradient for gradient in once])
        found.append([p.grad for p in module.parameters()])
    close(*found)


def test_memory_that_changed_since_is_noticed():
    ours = lstm_cpu.LSTM(4, 8)
    output = ours(torch.randn(5, 2, 4))[0]
    with torch.no_grad():
        ours.weight_hh_l0.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_optimizers_and_new_parameters_are_followed():
    ours, theirs = pair(4, 8)
    optimizers = [torch.optim.SGD(module.parameters(), 0.5) for module in (ours, theirs)]
    x = torch.randn(5, 2, 4)
    for _ in range(5):
        for module, optimizer in zip((ours, theirs), optimizers):
            optimizer.zero_grad()
            module(x)[0].square().sum().backward()
            optimizer.step()
    close(list(ours.parameters()), list(theirs.parameters()))
    ours.weight_hh_l0.data = torch.zeros(32, 8)
    theirs.weight_hh_l0.data = torch.zeros(32, 8)
    close(ours(x)[0], theirs(x)[0])
    transposed = torch.randn(8, 32).t()
    ours.weight_hh_l0 = nn.Parameter(transposed)
    theirs.weight_hh_l0 = nn.Parameter(transposed)
    close(ours(x)[0], theirs(x)[0])


def test_second_derivatives_are_those_of_torch():
    ours, theirs = pair(3, 4)
    x = torch.randn(4, 2, 3)
    found = []
    for module in (ours, theirs):
        start = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(module(start)[0].square().sum(), start, create_graph=True)
        gradient.square().sum().backward()
        found.append([start.grad, *(p.grad for p in module.parameters())])
    close(*found)
    dropped = lstm_cpu.LSTM(3, 4, 2, dropout=0.5)
    start = x.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(dropped(start)[0].sum(), start, create_graph=True)


def test_what_is_not_computed_is_refused_in_a_sentence():
    ours = lstm_cpu.LSTM(4, 8)
    with pytest.raises(TypeError, match="torch.float32, got torch.float64"):
        copy.deepcopy(ours).double()(torch.randn(5, 2, 4).double())
    with pytest.raises(ValueError, match="does not match weight dtype"):
        ours(torch.randn(5, 2, 4, dtype=torch.float64))
    with pytest.raises(TypeError, match="on meta"):
        ours(torch.randn(5, 2, 4, device="meta"))
    with pytest.raises(RuntimeError, match="input_size. Expected 4, got 3"):
        ours(torch.randn(5, 2, 3))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[1\] size \(1, 2, 8\)"):
        ours(torch.randn(5, 2, 4), (torch.zeros(1, 2, 8), torch.zeros(1, 3, 8)))
    with pytest.raises(ValueError, match="2 sizes for 3 layers"):
        lstm_cpu.LSTM(4, (8, 8), 3)
    with pytest.raises(ValueError, match="1 size for 2 layers"):
        lstm_cpu.LSTM(4, (8,), 2)
    with pytest.raises(RuntimeError, match="each of 1 tensor, one a layer"):
        lstm_cpu.LSTM(4, (8,), 1)(torch.randn(5, 2, 4), ((), ()))
    with pytest.raises(ValueError, match="`zoneout` is 1"):
        lstm_cpu.LSTM(4, 8, zoneout=1.0)
    with pytest.raises(ValueError, match="proj_size"):
        lstm_cpu.LSTM(4, 8, proj_size=8)


def test_dropout_is_of_torch_s_generator_and_keeps_the_mean():
    ours = lstm_cpu.LSTM(4, 64, 2, dropout=0.5)
    x = torch.randn(20, 8, 4)
    torch.manual_seed(3)
    first = ours(x)[0]
    torch.manual_seed(3)
    assert torch.equal(ours(x)[0], first) and not torch.equal(ours(x)[0], first)
    ours.eval()
    assert torch.equal(ours(x)[0], ours(x)[0])
    close(pair(4, 8)[0].eval()(x)[0].shape, torch.Size([20, 8, 8]))
    # The way back drops what the way forward dropped: the gradient is the slope.
    ours = lstm_cpu.LSTM(3, 16, 2, dropout=0.5, recurrent_dropout=0.25).train()
    weight, x = ours.weight_hh_l0, torch.randn(6, 4, 3)

    def loss():
        torch.manual_seed(5)
        return ours(x)[0].square().sum()

    loss().backward()
    direction = torch.randn_like(weight)
    with torch.no_grad():
        around = []
        for step in (1e-2, -2e-2):
            weight.add_(step * direction)
            around.append(loss())
    slope = (around[0] - around[1]) / 2e-2
    close((weight.grad * direction).sum(), slope, 2e-2)


def test_cell_states_of_every_step():
    ours = lstm_cpu.LSTM(4, 8, 2, bidirectional=True, return_cells=True)
    x = torch.randn(5, 3, 4)
    output, (_, c_n), cells = ours(x)
    assert [cell.shape for cell in cells] == [(5, 3, 16)] * 2
    for layer, cell in enumerate(cells):
        close(cell[-1, :, :8], c_n[2 * layer])
        close(cell[0, :, 8:], c_n[2 * layer + 1])
    packed, (_, of_packed), cells = ours(pack_padded_sequence(x, [2, 5, 3], enforce_sorted=False))
    padded, _ = pad_packed_sequence(cells[1]._replace(data=cells[1].data))
    close(padded[1, 0, :8], of_packed[2, 0])
    output.sum().backward()


def test_layers_of_their_own_sizes():
    ours = lstm_cpu.LSTM(4, (8, 5), 2)
    layers = [nn.LSTM(4, 8), nn.LSTM(8, 5)]
    for at, layer in enumerate(layers):
        layer.load_state_dict({k.replace(f"l{at}", "l0"): v for k, v in ours.state_dict().items() if k.endswith(f"l{at}")})
    x = torch.randn(6, 3, 4)
    first, (h_0, c_0) = layers[0](x)
    second, (h_1, c_1) = layers[1](first)
    output, (h, c) = ours(x)
    close(output, second)
    close([*h, *c], [h_0, h_1, c_0, c_1])
    again, _ = ours(x, (h, c))
    close(again, layers[1](layers[0](x, (h_0, c_0))[0], (h_1, c_1))[0])
    (output.sum() + c[0].sum()).backward()
    (second.sum() + c_0.sum()).backward()
    close(ours.weight_ih_l0.grad, layers[0].weight_ih_l0.grad)
    assert repr(ours) == "LSTM(4, (8, 5), num_layers=2)"


def test_cells_that_differ():
    x, start = torch.randn(1, 3, 4), (torch.randn(1, 3, 8), torch.randn(1, 3, 8))
    # Peepholes of zero see nothing.
    ours, theirs = lstm_cpu.LSTM(4, 8, peepholes=True), nn.LSTM(4, 8)
    nn.init.zeros_(ours.weight_peephole_l0)
    ours.load_state_dict(theirs.state_dict() | {"weight_peephole_l0": ours.weight_peephole_l0})
    close(ours(x, start)[1], theirs(x, start)[1])
    # In evaluation zoneout is its expectation.
    ours = lstm_cpu.LSTM(4, 8, zoneout=(0.25, 0.5)).eval()
    ours.load_state_dict(theirs.state_dict())
    _, (h, c) = theirs(x, start)
    _, (zoned_h, zoned_c) = ours(x, start)
    close(zoned_c, 0.25 * start[1] + 0.75 * c)
    close(zoned_h, 0.5 * start[0] + 0.5 * h)
    # Layer normalisation by the equations.
    ours = lstm_cpu.LSTM(4, 8, layer_norm=True)
    p = dict(ours.named_parameters())
    sums = [F.layer_norm(x[0] @ p["weight_ih_l0"].t(), (32,)) * p["gain_ih_l0"] + p["bias_ih_l0"]]
    sums += [F.layer_norm(start[0][0] @ p["weight_hh_l0"].t(), (32,)) * p["gain_hh_l0"] + p["bias_hh_l0"]]
    i, f, g, o = (sums[0] + sums[1]).chunk(4, -1)
    c = f.sigmoid() * start[1][0] + i.sigmoid() * g.tanh()
    h = o.sigmoid() * (F.layer_norm(c, (8,)) * p["gain_cell_l0"] + p["bias_cell_l0"]).tanh()
    close(ours(x, start)[1], (h[None], c[None]), 1e-4)
    theirs = torch.autograd.grad(h.sum(), list(p.values()))
    close(torch.autograd.grad(ours(x, start)[1][0].sum(), list(p.values())), theirs, 1e-4)


@pytest.mark.parametrize("options", [{"layer_norm": True}, {"peepholes": True}, {"zoneout": 0.25}, SHAPES])
def test_packed_is_padded_without_the_padding(options):
    ours = lstm_cpu.LSTM(4, 8, **options).eval()
    x, lengths = torch.randn(6, 4, 4), [3, 6, 1, 4]
    packed, (h, _) = ours(pack_padded_sequence(x, lengths, enforce_sorted=False))
    padded, _ = pad_packed_sequence(packed)
    for row, length in enumerate(lengths):
        alone, (of_row, _) = ours(x[:length, row])
        close(padded[:length, row], alone)
        close(h[:, row], of_row)


def test_forget_gates_that_start_open():
    ours = lstm_cpu.LSTM(4, 8, forget_bias=1.0)
    assert torch.equal(ours.bias_ih_l0[8:16] + ours.bias_hh_l0[8:16], torch.ones(8))


@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_is_torch_s_cell(bias):
    theirs, ours = nn.LSTMCell(4, 8, bias), lstm_cpu.LSTMCell(4, 8, bias)
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    for shape in [(3,), ()]:
        found = []
        for module in (ours, theirs):
            module.zero_grad()
            torch.manual_seed(1)
            state = None
            for _ in range(4):
                state = module(torch.randn(*shape, 4), state)
            (state[0].sum() + state[1].square().sum()).backward()
            found.append([*state, *(p.grad.clone() for p in module.parameters())])
        close(*found)
    with pytest.raises(RuntimeError, match="input_size"):
        ours(torch.randn(3, 5))
    with pytest.raises(TypeError, match="float64"):
        ours(torch.randn(3, 4).double())
    assert torch.equal(copy.deepcopy(ours)(torch.ones(2, 4))[0], ours(torch.ones(2, 4))[0])


@pytest.mark.parametrize("packed", [False, True])
def test_autocast_gives_what_torch_gives_and_is_nearer_to_float32(packed):
    torch.manual_seed(5)
    ours, theirs = pair(24, 40, num_layers=2, bidirectional=True)
    accelerated = copy.deepcopy(theirs)
    lstm_cpu.accelerate(accelerated)
    x = torch.randn(9, 6, 24)
    pack = lambda x: pack_padded_sequence(x, [9, 9, 7, 4, 2, 1]) if packed else x  # noqa: E731

    def results(layer, autocast):
        given = x.clone().requires_grad_()
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output, (h, c) = layer(pack(given))
        output = output.data if packed else output
        (output.float().square().sum() + h.float().sum() + c.float().sum()).backward()
        return [output, h, c, given.grad, *(p.grad.clone() for p in layer.parameters())]

    exact, mine = results(theirs, False), results(ours, True)
    try:
        others = results(theirs, True)
    except RuntimeError as error:
        # torch 2.15's own layer raises where the processor has no AVX-512, of padded input.
        assert not packed and "primitive descriptor" in str(error), error
        others = [value.to(torch.bfloat16) if place < 3 else value for place, value in enumerate(exact)]
    for one, (a, b, e) in enumerate(zip(mine, others, exact)):
        assert a.dtype == b.dtype and a.shape == b.shape, one
        scale = e.abs().max()
        mine_off, others_off = ((value.float() - e).abs().max() / scale for value in (a, b))
        # Of packed input torch's layer computes in float32 under autocast.
        assert mine_off <= (0.02 if packed else max(1.5 * others_off, 0.005)), (one, mine_off, others_off)
    assert all(torch.equal(a, b) for a, b in zip(results(accelerated, True), mine))
    # What came in as bfloat16 is taken too, with a state.
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        state = torch.zeros(4, 6, 40, dtype=torch.bfloat16)
        assert ours(pack(x.bfloat16()), (state, state))[1][0].dtype == torch.bfloat16
