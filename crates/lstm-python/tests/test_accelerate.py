"""accelerate(model): in place, with the same parameters; what is left alone is said."""

import copy
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed, so there is no model to accelerate")
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, TensorDataset

import lstm_cpu


class WordLanguageModel(nn.Module):
    """The model of PyTorch's word-language-model example."""

    def __init__(self, tokens, size, layers, dropout):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(tokens, size)
        self.rnn = nn.LSTM(size, size, layers, dropout=dropout)
        self.decoder = nn.Linear(size, tokens)

    def forward(self, input, hidden):
        output, hidden = self.rnn(self.drop(self.encoder(input)), hidden)
        return nn.functional.log_softmax(self.decoder(self.drop(output)).view(-1, self.decoder.out_features), 1), hidden


def test_training_curves_lie_on_each_other():
    torch.manual_seed(1)
    theirs = WordLanguageModel(50, 32, 2, 0.0)
    ours = copy.deepcopy(theirs)
    assert lstm_cpu.accelerate(ours).exchanged == ["rnn"]
    # Tokens with something to learn: each follows from the one before.
    text = torch.arange(201 * 10).reshape(201, 10) ** 2 % 50
    curves = []
    for model in (ours, theirs):
        torch.manual_seed(2)
        hidden = tuple(torch.zeros(2, 10, 32) for _ in range(2))
        curve = []
        for step in range(200):
            at = step % 20 * 10
            hidden = tuple(part.detach() for part in hidden)
            model.zero_grad()
            output, hidden = model(text[at : at + 10], hidden)
            loss = nn.functional.nll_loss(output, text[at + 1 : at + 11].reshape(-1))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(parameter.grad, alpha=-0.3)
            curve.append(loss.item())
        curves.append(curve)
    # At a rate of 1, where training is chaotic, torch with oneDNN and without differ by 0.025.
    assert curves[1][-1] < 0.5 * curves[1][0]
    assert max(abs(a - b) for a, b in zip(*curves)) < 1e-4


def test_the_objects_stay_what_they_are():
    model = nn.ModuleDict({"rnn": nn.LSTM(4, 8), "cell": nn.LSTMCell(4, 8)})
    rnn, weight = model["rnn"], model["rnn"].weight_hh_l0
    optimizer = torch.optim.Adam(model.parameters())
    calls = []
    rnn.register_forward_hook(lambda *_: calls.append(1))
    done = lstm_cpu.accelerate(model)
    assert done.exchanged == ["rnn", "cell"] and not done.left_alone
    assert model["rnn"] is rnn and rnn.weight_hh_l0 is weight and isinstance(rnn, nn.LSTM)
    before = weight.clone()
    rnn(torch.randn(3, 2, 4))[0].sum().backward()
    optimizer.step()
    assert calls and not torch.equal(weight, before)
    assert not lstm_cpu.accelerate(model).exchanged
    alone = nn.LSTM(4, 8)
    assert str(lstm_cpu.accelerate(alone)) == "the model itself: exchanged" and type(alone) is lstm_cpu.LSTM


def test_what_is_left_alone_is_said():
    class Own(nn.LSTM):
        pass

    model = nn.ModuleDict(
        {
            "gru": nn.GRU(2, 3),
            "wide": nn.LSTM(2, 3).double(),
            "own": Own(2, 3),
            "normed": weight_norm(nn.LSTM(2, 3), "weight_hh_l0"),
            "meta": nn.LSTM(2, 3, device="meta"),
            "linear": nn.Linear(2, 3),
        }
    )
    done = lstm_cpu.accelerate(model)
    assert not done.exchanged and set(done.left_alone) == {"gru", "wide", "own", "normed", "meta"}
    for name, said in [("gru", "GRU"), ("wide", "float64"), ("own", "Own"), ("normed", "parametriz"), ("meta", "no values")]:
        assert said in done.left_alone[name] and f"{name}: left alone" in str(done)
    assert str(lstm_cpu.accelerate(nn.Linear(2, 3))) == "there is no LSTM in this model"


def test_what_the_kernels_do_not_compute_goes_to_torch():
    model = nn.LSTM(4, 8)
    expected = copy.deepcopy(model)
    lstm_cpu.accelerate(model)
    x = torch.randn(5, 2, 4)
    assert torch.equal(model.double()(x.double())[0], expected.double()(x.double())[0])
    model.float(), expected.float()

    def of_float16(layer):
        """Torch's layer computes with it on some processors alone."""
        with torch.autocast("cpu", torch.float16):
            try:
                return layer(x)[0].tolist()
            except RuntimeError as error:
                return str(error)

    assert of_float16(model) == of_float16(expected)
    # Second derivatives too.
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[0].sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert model.weight_hh_l0.grad is not None


class _Features(torch.utils.data.Dataset):
    """Features that the workers of a loader compute with a layer of their own process."""

    def __init__(self, layer):
        self.layer = layer

    def __len__(self):
        return 8

    def __getitem__(self, at):
        with torch.no_grad():
            return self.layer(torch.full((20, 4), float(at)))[0][-1]


def test_workers_of_a_loader():
    layer = lstm_cpu.LSTM(4, 64)
    big = torch.randn(30, 64, 4)
    # The team of threads of this process is at work before the others are forked from it.
    layer(big)[0].sum().backward()
    alone = torch.stack([_Features(layer)[at] for at in range(8)])
    together = torch.cat(list(DataLoader(_Features(layer), batch_size=4, num_workers=2, multiprocessing_context="fork")))
    torch.testing.assert_close(together, alone)


def test_a_forked_process_hires_threads_of_its_own():
    import os

    torch.set_num_threads(2)
    layer = lstm_cpu.LSTM(64, 128)
    x = torch.randn(30, 64, 64)
    with torch.no_grad():
        expected = layer(x)[0].numpy()
        child = os.fork()
        if child == 0:
            # Numpy compares: torch's own threads did not come along either.
            os._exit(0 if (layer(x)[0].numpy() == expected).all() else 1)
    torch.set_num_threads(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_layers_run_on_the_threads_that_torch_has():
    # In a process of its own: others start threads of the package's own.
    code = """
import glob, torch, lstm_cpu
torch.set_num_threads(2)
layer, x = lstm_cpu.LSTM(64, 128), torch.randn(30, 64, 64)
torch.ones(1_000_000).sum()
names = lambda: sorted(open(path).read().strip() for path in glob.glob("/proc/self/task/*/comm"))
before = names()
layer(x)[0].sum().backward()
assert lstm_cpu._native.find_openmp()
assert names() == before and not any(name.startswith("lstm-") for name in before), (before, names())
first = layer(x)[0]
torch.set_num_threads(1)
assert torch.equal(layer(x)[0], first)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("threads are counted by way of /proc")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_side_by_side():
    from concurrent.futures import ThreadPoolExecutor

    layer = lstm_cpu.LSTM(8, 32)
    inputs = [torch.randn(20, 4, 8) for _ in range(16)]
    with torch.no_grad():
        expected = [layer(x)[0] for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: layer(x)[0].detach(), inputs))
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


def test_one_graph_backward_from_several_threads():
    from concurrent.futures import ThreadPoolExecutor

    layer = lstm_cpu.LSTM(8, 64)
    x = torch.randn(60, 8, 8, requires_grad=True)
    loss = layer(x)[0].square().sum()
    (expected,) = torch.autograd.grad(loss, x, retain_graph=True)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: torch.autograd.grad(loss, x, retain_graph=True)[0], range(16)))
    assert all(torch.equal(gradient, expected) for gradient in found)


def test_the_loader_of_tensors_trains():
    model = nn.LSTM(4, 8, batch_first=True)
    lstm_cpu.accelerate(model)
    data = TensorDataset(torch.randn(8, 5, 4))
    for (x,) in DataLoader(data, batch_size=4, num_workers=1):
        model(x)[0].sum().backward()
    assert model.weight_hh_l0.grad.abs().sum() > 0
