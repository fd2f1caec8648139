"""Makes sequences_*.safetensors: PyTorch's scores, loss and gradients of models over packed sequences, one file a pooling; and
sequences_numbers.safetensors, of sequences of numbers through a linear map, from initial states that are learned, to numbers.

    python crates/lstm/tests/golden/sequences.py

Needs a CPU build of torch (2.15) and safetensors.
"""

import pathlib

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = pathlib.Path(__file__).parent
VOCABULARY, SIZE, HIDDEN, LAYERS, OUTPUTS = 11, 4, 5, 2, 3
LENGTHS = [6, 4, 4, 1]


class Classifier(nn.Module):
    def __init__(self, pooling):
        super().__init__()
        width = 2 * HIDDEN
        self.pooling = pooling
        self.embedding = nn.Embedding(VOCABULARY, SIZE)
        self.lstm = nn.LSTM(SIZE, HIDDEN, LAYERS, bidirectional=True)
        if pooling == "attention":
            self.attention = nn.Module()
            self.attention.weight = nn.Parameter(0.3 * torch.randn(width, width))
            self.attention.bias = nn.Parameter(0.3 * torch.randn(width))
            self.attention.vector = nn.Parameter(torch.randn(width))
        self.head = nn.Linear(3 * width if pooling == "concat" else width, OUTPUTS)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embedding(tokens), lengths)
        states, _ = pad_packed_sequence(self.lstm(packed)[0])
        steps = torch.arange(tokens.shape[0])[:, None]
        inside = (steps < lengths[None, :])[:, :, None]
        last = torch.stack([
            torch.cat([states[length - 1, row, :HIDDEN], states[0, row, HIDDEN:]])
            for row, length in enumerate(lengths.tolist())
        ])
        mean = (states * inside).sum(0) / lengths[:, None]
        largest = states.masked_fill(~inside, -torch.inf).amax(0)
        if self.pooling == "attention":
            hidden = torch.tanh(states @ self.attention.weight.T + self.attention.bias)
            scores = (hidden @ self.attention.vector)[:, :, None].masked_fill(~inside, -torch.inf)
            pooled = (torch.softmax(scores, 0) * states).sum(0)
        else:
            pooled = {"last": last, "mean": mean, "max": largest, "concat": torch.cat([last, mean, largest], 1)}[self.pooling]
        return self.head(pooled)


for pooling in ["last", "mean", "max", "attention", "concat"]:
    torch.manual_seed(len(pooling))
    model = Classifier(pooling)
    lengths = torch.tensor(LENGTHS)
    tokens = torch.randint(0, VOCABULARY, (max(LENGTHS), len(LENGTHS)))
    classes = torch.tensor([2, 0, 1, 0])
    values = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 1], [1, 0, 0]])
    weights = torch.tensor([0.5, 1.5, 2.0])
    scores = model(tokens, lengths)
    losses = {
        # The mean over the rows of weighted losses: PyTorch's own "mean" divides by the weights.
        "class": (cross_entropy(scores, classes, weight=weights, reduction="none")).mean(),
        "smooth": cross_entropy(scores, classes, label_smoothing=0.1),
        "classes": binary_cross_entropy_with_logits(scores, values, reduction="none").sum(1).mean(),
    }
    tensors = {"tokens": tokens.int(), "lengths": lengths.int(), "classes": classes.int(), "values": values, "weights": weights}
    tensors["scores"] = scores
    for name, loss in losses.items():
        model.zero_grad()
        loss.backward(retain_graph=True)
        tensors[f"loss.{name}"] = loss[None]
        tensors |= {f"grad.{name}.{key}": value.grad.clone() for key, value in model.named_parameters()}
    tensors |= dict(model.named_parameters())
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    save_file(tensors, HERE / f"sequences_{pooling}.safetensors", {"torch": torch.__version__})


class Regressor(nn.Module):
    WIDTH, OUTPUTS = 6, 2

    def __init__(self):
        super().__init__()
        self.input = nn.Linear(self.WIDTH, SIZE)
        self.lstm = nn.LSTM(SIZE, HIDDEN, LAYERS, bidirectional=True)
        self.initial = nn.ParameterDict({
            f"{kind}_l{layer}{suffix}": nn.Parameter(0.5 * torch.randn(HIDDEN))
            for layer in range(LAYERS)
            for suffix in ["", "_reverse"]
            for kind in "hc"
        })
        self.head = nn.Linear(2 * HIDDEN, self.OUTPUTS)

    def forward(self, numbers, lengths):
        names = [f"_l{layer}{suffix}" for layer in range(LAYERS) for suffix in ["", "_reverse"]]
        rows = len(lengths)
        h_0, c_0 = (torch.stack([self.initial[kind + name].expand(rows, -1) for name in names]) for kind in "hc")
        states, _ = pad_packed_sequence(self.lstm(pack_padded_sequence(self.input(numbers), lengths), (h_0, c_0))[0])
        inside = (torch.arange(numbers.shape[0])[:, None] < lengths[None, :])[:, :, None]
        return self.head((states * inside).sum(0) / lengths[:, None])


torch.manual_seed(9)
model = Regressor()
lengths = torch.tensor(LENGTHS)
numbers = torch.randn(max(LENGTHS), len(LENGTHS), Regressor.WIDTH)
values = torch.randn(len(LENGTHS), Regressor.OUTPUTS)
scores = model(numbers, lengths)
loss = mse_loss(scores, values)
loss.backward()
tensors = {"numbers": numbers, "lengths": lengths.int(), "values": values, "scores": scores, "loss": loss[None]}
tensors |= dict(model.named_parameters())
tensors |= {f"grad.{key}": value.grad.clone() for key, value in model.named_parameters()}
tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
save_file(tensors, HERE / "sequences_numbers.safetensors", {"torch": torch.__version__})
