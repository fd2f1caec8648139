"""Makes the golden files beside it: PyTorch's outputs, final states, gradients and training losses, in safetensors.

    pip install torch numpy safetensors
    python make.py

The CPU build of torch is enough. The tests read the files and need no Python.
"""

import copy
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy, nll_loss
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = pathlib.Path(__file__).parent


def save(name, tensors, **metadata):
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    metadata = {key: str(value) for key, value in metadata.items()} | {"torch": torch.__version__}
    save_file(tensors, HERE / f"{name}.safetensors", metadata)


def under_a_loss(inputs, results, parameters):
    """All of these with a random linear loss over the results, and its gradients."""
    loss = {key: torch.randn_like(value) for key, value in results.items()}
    torch.autograd.backward(list(results.values()), list(loss.values()))
    tensors = inputs | results
    tensors |= {f"gradient.{key}": value.grad for key, value in inputs.items()}
    tensors |= {f"loss.{key}": value for key, value in loss.items()}
    for key, value in parameters:
        tensors |= {key: value, f"gradient.{key}": value.grad}
    return tensors


def lstm(name, input, hidden, layers, steps, batch, projection=0, bidirectional=False, lengths=None):
    """nn.LSTM under a random linear loss over the output and the final states."""
    torch.manual_seed(layers + 10 * projection + 100 * bidirectional)
    model = nn.LSTM(input, hidden, layers, proj_size=projection, bidirectional=bidirectional)
    states = layers * (1 + bidirectional)
    recurrent = projection or hidden
    x = torch.randn(steps, batch, input, requires_grad=True)
    h_0 = torch.randn(states, batch, recurrent, requires_grad=True)
    c_0 = torch.randn(states, batch, hidden, requires_grad=True)
    if lengths is None:
        output, (h_n, c_n) = model(x, (h_0, c_0))
    else:
        packed, (h_n, c_n) = model(pack_padded_sequence(x, lengths, enforce_sorted=False), (h_0, c_0))
        output, _ = pad_packed_sequence(packed, total_length=steps)
    results = {"output": output, "h_n": h_n, "c_n": c_n}
    tensors = under_a_loss({"input": x, "h_0": h_0, "c_0": c_0}, results, model.named_parameters())
    if lengths is not None:
        tensors["lengths"] = torch.tensor(lengths, dtype=torch.int32)
    save(name, tensors, layers=layers, projection=projection, bidirectional=bidirectional)


def mogrified(name, input, hidden, rounds, rank=0, layers=2, steps=6, batch=3):
    """Layers whose input and hidden state gate one another before every step (Melis et al. 2019), as `lstm` saves them."""
    torch.manual_seed(rounds + 10 * rank)
    parameters = {}
    for layer in range(layers):
        own = input if layer == 0 else hidden
        shapes = {"weight_ih": (4 * hidden, own), "weight_hh": (4 * hidden, hidden), "bias_ih": (4 * hidden,), "bias_hh": (4 * hidden,)}
        for kind, count, n, m in (("input", (rounds + 1) // 2, own, hidden), ("hidden", rounds // 2, hidden, own)):
            if count > 0:
                shapes[f"weight_mogrify_{kind}"] = (count * n, rank or m)
            if count > 0 and rank:
                shapes[f"weight_mogrify_{kind}_right"] = (count * rank, m)
        parameters |= {f"{key}_l{layer}": nn.Parameter(torch.randn(shape) * 0.6) for key, shape in shapes.items()}
    x = torch.randn(steps, batch, input, requires_grad=True)
    h_0 = torch.randn(layers, batch, hidden, requires_grad=True)
    c_0 = torch.randn(layers, batch, hidden, requires_grad=True)

    def round_of(pair, index, get):
        changed, read = index % 2, 1 - index % 2
        kind = f"weight_mogrify_{('input', 'hidden')[changed]}"
        matrix = get(kind).unflatten(0, (-1, pair[changed].shape[1]))[index // 2]
        if rank:
            matrix = matrix @ get(kind + "_right").unflatten(0, (-1, rank))[index // 2]
        pair[changed] = 2 * torch.sigmoid(pair[read] @ matrix.T) * pair[changed]

    outputs, h_n, c_n = x, [], []
    for layer in range(layers):
        get = lambda key: parameters[f"{key}_l{layer}"]
        h, c, given = h_0[layer], c_0[layer], []
        for step in outputs:
            pair = [step, h]
            for index in range(rounds):
                round_of(pair, index, get)
            h, c = torch._VF.lstm_cell(pair[0], (pair[1], c), get("weight_ih"), get("weight_hh"), get("bias_ih"), get("bias_hh"))
            given.append(h)
        outputs = torch.stack(given)
        h_n.append(h)
        c_n.append(c)
    results = {"output": outputs, "h_n": torch.stack(h_n), "c_n": torch.stack(c_n)}
    tensors = under_a_loss({"input": x, "h_0": h_0, "c_0": c_0}, results, parameters.items())
    save(name, tensors, layers=layers, projection=0, bidirectional=False, rounds=rounds, rank=rank)


def exponential(name, input, hidden, layers=2, steps=6, batch=3):
    """Layers of sLSTM cells by the paper's stabilised equations (Beck et al. 2024, 8 to 17), f a sigmoid; a state is c / n and n."""
    torch.manual_seed(17)
    parameters = {}
    for layer in range(layers):
        own = input if layer == 0 else hidden
        shapes = {"weight_ih": (4 * hidden, own), "weight_hh": (4 * hidden, hidden), "bias_ih": (4 * hidden,), "bias_hh": (4 * hidden,)}
        parameters |= {f"{key}_l{layer}": nn.Parameter(torch.randn(shape) * 0.8) for key, shape in shapes.items()}
    x = torch.randn(steps, batch, input, requires_grad=True)
    h_0 = torch.randn(layers, batch, hidden, requires_grad=True)
    c_0 = torch.cat([torch.randn(layers, batch, hidden), 0.2 + torch.rand(layers, batch, hidden)], -1).requires_grad_()
    outputs, h_n, c_n = x, [], []
    for layer in range(layers):
        get = lambda key: parameters[f"{key}_l{layer}"]
        h, (mean, n), given = h_0[layer], c_0[layer].chunk(2, -1), []
        c, m = mean * n, torch.zeros_like(n)
        for step in outputs:
            sums = step @ get("weight_ih").T + get("bias_ih") + h @ get("weight_hh").T + get("bias_hh")
            i, f, z, o = sums.chunk(4, -1)
            log_f = nn.functional.logsigmoid(f)
            stabiliser = torch.maximum(log_f + m, i)
            i, f = torch.exp(i - stabiliser), torch.exp(log_f + m - stabiliser)
            c, n, m = f * c + i * torch.tanh(z), f * n + i, stabiliser
            h = torch.sigmoid(o) * c / n
            given.append(h)
        outputs = torch.stack(given)
        h_n.append(h)
        c_n.append(torch.cat([c / n, n * torch.exp(m)], -1))
    results = {"output": outputs, "h_n": torch.stack(h_n), "c_n": torch.stack(c_n)}
    tensors = under_a_loss({"input": x, "h_0": h_0, "c_0": c_0}, results, parameters.items())
    save(name, tensors, layers=layers, projection=0, bidirectional=False, exponential=True)


class LanguageModel(nn.Module):
    def __init__(self, vocabulary, embedding, hidden, layers):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers)
        self.readout = nn.Linear(hidden, vocabulary)

    def forward(self, tokens, targets, state):
        output, state = self.lstm(self.embedding(tokens), state)
        return cross_entropy(self.readout(output).flatten(0, 1), targets.flatten()), state


def stream(vocabulary, steps, batch):
    """Tokens a model can learn something about: each is mostly a function of the one before it."""
    tokens = torch.randint(vocabulary, (steps + 1, batch))
    for step in range(1, steps + 1):
        rule = (3 * tokens[step - 1] + 1) % vocabulary
        tokens[step] = torch.where(torch.rand(batch) < 0.9, rule, tokens[step])
    return tokens


def language_model():
    """One step: the loss and every gradient."""
    torch.manual_seed(3)
    vocabulary, embedding, hidden, layers, steps, batch = 23, 6, 7, 2, 5, 3
    model = LanguageModel(vocabulary, embedding, hidden, layers)
    tokens = stream(vocabulary, steps, batch)
    h_0, c_0 = torch.randn(2, layers, batch, hidden)
    loss, (h_n, c_n) = model(tokens[:-1], tokens[1:], (h_0, c_0))
    loss.backward()
    tensors = {"tokens": tokens.int(), "h_0": h_0, "c_0": c_0, "h_n": h_n, "c_n": c_n, "loss": loss}
    for key, value in model.named_parameters():
        tensors |= {key: value, f"gradient.{key}": value.grad}
    save("language_model", tensors, layers=layers)


def regularised():
    """One step with tied embeddings, layers of different sizes, a residual connection, AR, TAR and label smoothing."""
    torch.manual_seed(5)
    vocabulary, embedding, sizes, steps, batch = 23, 5, [6, 6, 4], 5, 3
    alpha, beta, epsilon = 2.0, 1.0, 0.1
    table = nn.Parameter(torch.randn(vocabulary, embedding))
    projection = nn.Parameter(torch.randn(embedding, sizes[-1]))
    bias = nn.Parameter(torch.randn(vocabulary))
    layers = [nn.LSTM(input, hidden) for input, hidden in zip([embedding, *sizes], sizes)]
    tokens = stream(vocabulary, steps, batch)
    x = table[tokens[:-1]]
    for layer in layers:
        h, _ = layer(x)
        # The first layer reads the embedding, which is no layer.
        x = h + x if layer is not layers[0] and h.shape == x.shape else h
    scores = (x @ projection.T @ table.T + bias).flatten(0, 1)
    targets = tokens[1:].flatten()
    loss = cross_entropy(scores, targets)
    descended = cross_entropy(scores, targets, label_smoothing=epsilon)
    descended = descended + alpha * x.pow(2).mean() + beta * (x[1:] - x[:-1]).pow(2).mean()
    descended.backward()
    parameters = {"embedding.weight": table, "readout_projection.weight": projection, "readout.bias": bias}
    for number, layer in enumerate(layers):
        parameters |= {f"lstm.{key.replace('l0', f'l{number}')}": value for key, value in layer.named_parameters()}
    tensors = {"tokens": tokens.int(), "loss": loss}
    for key, value in parameters.items():
        tensors |= {key: value, f"gradient.{key}": value.grad}
    save("regularised", tensors)


def mixture():
    """One step of a tied mixture of softmaxes, and what each token of the vocabulary is given at every place."""
    torch.manual_seed(6)
    vocabulary, embedding, hidden, softmaxes, steps, batch = 23, 5, 7, 4, 5, 3
    table = nn.Parameter(torch.randn(vocabulary, embedding))
    bias = nn.Parameter(torch.randn(vocabulary))
    lstm = nn.LSTM(embedding, hidden)
    prior = nn.Linear(hidden, softmaxes, bias=False)
    latent = nn.Linear(hidden, softmaxes * embedding, bias=False)
    tokens = stream(vocabulary, steps, batch)
    h, _ = lstm(table[tokens[:-1]])
    z = latent(h).tanh().unflatten(-1, (softmaxes, embedding))
    each = (z @ table.T + bias).softmax(-1)
    log_p = (prior(h).softmax(-1).unsqueeze(-1) * each).sum(-2).log()
    loss = nll_loss(log_p.flatten(0, 1), tokens[1:].flatten())
    loss.backward()
    parameters = {"embedding.weight": table, "readout.bias": bias}
    parameters |= {"mixture_prior.weight": prior.weight, "mixture_latent.weight": latent.weight}
    parameters |= {f"lstm.{key}": value for key, value in lstm.named_parameters()}
    tensors = {"tokens": tokens.int(), "loss": loss, "scores": log_p}
    for key, value in parameters.items():
        tensors |= {key: value, f"gradient.{key}": value.grad}
    save("mixture", tensors)


def training_losses(model, optimizer, tokens, segment, clip):
    """Truncated back-propagation through time with carried state: the loss and gradient norm of every step."""
    optimizer = optimizer(model.parameters())
    shape = (model.lstm.num_layers, tokens.shape[1], model.lstm.hidden_size)
    state = tuple(torch.zeros(shape, dtype=model.readout.bias.dtype) for _ in "hc")
    losses, norms = [], []
    for start in range(0, len(tokens) - 1, segment):
        inputs, targets = tokens[start : start + segment], tokens[start + 1 : start + segment + 1]
        optimizer.zero_grad()
        loss, state = model(inputs, targets, tuple(part.detach() for part in state))
        loss.backward()
        norms.append(clip_grad_norm_(model.parameters(), clip))
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), torch.stack(norms)


def training(name, optimizer, clip, steps=200, segment=5):
    torch.manual_seed(5)
    vocabulary, embedding, hidden, layers, batch = 17, 6, 9, 2, 4
    model = LanguageModel(vocabulary, embedding, hidden, layers)
    tensors = {key: value.detach().clone() for key, value in model.named_parameters()}
    tokens = stream(vocabulary, steps * segment, batch)
    exact, _ = training_losses(copy.deepcopy(model).double(), optimizer, tokens, segment, clip)
    losses, norms = training_losses(model, optimizer, tokens, segment, clip)
    apart = ((losses - exact).abs() / exact).max().item()
    clipped = (norms > clip).sum().item()
    print(f"{name}: loss {losses[0]:.3f} -> {losses[-1]:.3f}, {clipped} of {steps} steps clipped, {apart:.1e} from f64")
    # Too large a rate makes the run chaotic: rounding alone would then part any two implementations.
    assert apart < 2e-5, "choose a smaller rate"
    tensors |= {"tokens": tokens.int(), "losses": losses, "norms": norms}
    save(name, tensors, layers=layers, segment=segment, clip=clip)


class ByGates(nn.Module):
    """The same language model whose gates' weights are parameters of their own."""

    def __init__(self, model):
        super().__init__()
        self.embedding, self.readout, self.lstm = model.embedding, model.readout, model.lstm
        self.gates, self.names = nn.ParameterDict(), []
        for name, value in list(model.lstm.named_parameters()):
            parts = value.chunk(4) if value.dim() == 2 else [value]
            self.names.append((name, len(parts)))
            self.gates.update({f"{name}_{part}": nn.Parameter(block.detach().clone()) for part, block in enumerate(parts)})
            value.requires_grad = False

    def forward(self, tokens, targets, state):
        weights = [torch.cat([self.gates[f"{name}_{part}"] for part in range(parts)]) for name, parts in self.names]
        x = self.embedding(tokens)
        output, *state = torch._VF.lstm(x, state, weights, True, self.lstm.num_layers, 0.0, False, False, False)
        return cross_entropy(self.readout(output).flatten(0, 1), targets.flatten()), state


def muon(model, rate, decay):
    """PyTorch's Muon for the gates' matrices, its AdamW for the rest. It rounds to bfloat16; that is taken from it here."""
    own = [value for value in model.gates.values() if value.dim() == 2]
    rest = [value for value in model.parameters() if value.requires_grad and not any(value is gate for gate in own)]
    options = {"lr": rate, "weight_decay": decay}
    both = [torch.optim.Muon(own, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw", **options)]
    both.append(torch.optim.AdamW(rest, **options))

    class Both:
        def zero_grad(self):
            [one.zero_grad() for one in both]

        def step(self):
            rounding, torch.Tensor.bfloat16 = torch.Tensor.bfloat16, lambda values: values.clone()
            [one.step() for one in both]
            torch.Tensor.bfloat16 = rounding

    return Both()


def training_muon(rate=0.006, decay=0.1, clip=0.3, steps=60, segment=5):
    torch.manual_seed(7)
    vocabulary, embedding, hidden, layers, batch = 17, 6, 9, 2, 4
    model = LanguageModel(vocabulary, embedding, hidden, layers)
    tensors = {key: value.detach().clone() for key, value in model.named_parameters()}
    tokens = stream(vocabulary, steps * segment, batch)
    apart = [ByGates(copy.deepcopy(model)).to(kind) for kind in (torch.float64, torch.float32)]
    (exact, _), (losses, norms) = (
        training_losses(one, lambda _: muon(one, rate, decay), tokens, segment, clip) for one in apart
    )
    apart = ((losses - exact).abs() / exact).max().item()
    print(f"muon: loss {losses[0]:.3f} -> {losses[-1]:.3f}, {(norms > clip).sum().item()} of {steps} clipped, {apart:.1e} from f64")
    assert apart < 2e-5, "choose a smaller rate"
    tensors |= {"tokens": tokens.int(), "losses": losses, "norms": norms}
    save("training_muon", tensors, layers=layers, segment=segment, clip=clip, rate=rate, decay=decay)


def main():
    torch.set_num_threads(1)
    for layers in (1, 2, 3):
        lstm(f"layers_{layers}", input=3, hidden=5, layers=layers, steps=6, batch=3)
    lstm("bidirectional", input=3, hidden=5, layers=2, steps=6, batch=3, bidirectional=True)
    lstm("projection", input=3, hidden=7, layers=2, steps=5, batch=3, projection=3)
    lstm("projection_bidirectional", input=4, hidden=6, layers=3, steps=5, batch=2, projection=5, bidirectional=True)
    lstm("lengths", input=3, hidden=5, layers=2, steps=7, batch=4, lengths=[3, 7, 1, 5])
    lstm("lengths_bidirectional", input=3, hidden=5, layers=2, steps=7, batch=4, bidirectional=True, lengths=[3, 7, 1, 5])
    lstm("lengths_projection", input=3, hidden=5, layers=2, steps=6, batch=3, projection=2, bidirectional=True, lengths=[2, 6, 4])
    mogrified("mogrified", input=4, hidden=5, rounds=5)
    mogrified("mogrified_rank", input=4, hidden=5, rounds=4, rank=2)
    exponential("exponential", input=4, hidden=5)
    language_model()
    regularised()
    mixture()
    training("training_sgd", lambda parameters: torch.optim.SGD(parameters, lr=1.5), clip=0.5)
    training("training_adam", lambda parameters: torch.optim.Adam(parameters, lr=0.02), clip=0.5)
    training_muon()


if __name__ == "__main__":
    main()
