"""Runs PyTorch against this program over files of drawn networks, both ways.

    python bench/pytorch_files.py [--draws 40] [--seed 1]

Needs torch (2.15) and safetensors; builds the command and the example `network` itself. Of each drawn network (layers, directions,
projection, biases, sizes, stored form, container, embedding and readout, tied or not):

- PyTorch saves it, this program reads it: outputs, final states and the LSTM's gradients are compared, each to 1e-5 of its
  largest value, with PyTorch's in float64;
- `lstm convert` writes it again as .pt and .safetensors: `load_state_dict(strict=True)` of the same modules takes it,
  `torch.load(mmap=True, weights_only=True)` too, with the same bits; so does the class that `--module` wrote.
"""

import argparse
import importlib.util
import random
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-5


class Drawn(nn.Module):
    """Embedding and readout are there or not."""

    def __init__(self, draw):
        super().__init__()
        size = draw["input"]
        directions = 2 if draw["bidirectional"] else 1
        gives = directions * (draw["projection"] or draw["hidden"])
        if draw["vocabulary"]:
            self.encoder = nn.Embedding(draw["vocabulary"], size)
        self.rnn = nn.LSTM(
            size,
            draw["hidden"],
            draw["layers"],
            bias=draw["bias"],
            bidirectional=draw["bidirectional"],
            proj_size=draw["projection"],
        )
        if draw["readout"]:
            self.decoder = nn.Linear(gives, draw["readout"], bias=draw["bias"])
            if draw["tied"]:
                self.decoder.weight = self.encoder.weight

    def forward(self, x, state):
        x = self.encoder(x) if hasattr(self, "encoder") else x
        if x.requires_grad is False and x.is_leaf:
            x = x.requires_grad_()
        x.retain_grad()
        hidden, state = self.rnn(x, state)
        hidden.retain_grad()
        values = self.decoder(hidden) if hasattr(self, "decoder") else hidden
        return x, hidden, values, state


def draw_network(rng):
    hidden = rng.choice([1, 2, 5, 8, 17, 33])
    layers = rng.randint(1, 3)
    draw = {
        "layers": layers,
        "hidden": hidden,
        "input": rng.choice([1, 3, 7, 16]),
        "bidirectional": rng.random() < 0.4,
        "projection": rng.randint(1, hidden - 1) if hidden > 1 and rng.random() < 0.4 else 0,
        "bias": rng.random() < 0.8,
        "form": rng.choice([torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16]),
        "container": rng.choice(["zip", "zip", "legacy", "safetensors"]),
        "vocabulary": rng.choice([0, 11]),
        "readout": rng.choice([0, 4]),
        "tied": False,
        "steps": rng.randint(1, 9),
        "rows": rng.randint(1, 4),
    }
    if draw["vocabulary"] and rng.random() < 0.5:
        directions = 2 if draw["bidirectional"] else 1
        draw |= {"tied": True, "readout": draw["vocabulary"], "input": directions * (draw["projection"] or hidden)}
    return draw


def compare(what, got, expected, draw):
    expected = expected.detach().double().flatten()
    assert got.numel() == expected.numel(), (what, got.numel(), expected.numel(), draw)
    largest = max(expected.abs().max().item(), 1e-3)
    apart = (got.double().flatten() - expected).abs().max().item() / largest
    assert apart <= TOLERANCE, f"{what}: {apart:.1e} of its largest value; {draw}"
    return apart


def check(draw, folder, lstm, example):
    torch.manual_seed(draw["seed"])
    model = Drawn(draw)
    # The values that the file holds.
    state_dict = {name: value.to(draw["form"]) for name, value in model.state_dict().items()}
    model = model.double()
    model.load_state_dict(state_dict)
    if draw["tied"]:
        state_dict["decoder.weight"] = state_dict["encoder.weight"]
    suffix = "safetensors" if draw["container"] == "safetensors" else "pt"
    path = folder / f"theirs.{suffix}"
    if suffix == "safetensors":
        save_file({name: value.clone() for name, value in state_dict.items()}, path)
    else:
        torch.save(state_dict, path, _use_new_zipfile_serialization=draw["container"] == "zip")

    directions = 2 if draw["bidirectional"] else 1
    shape = (draw["layers"] * directions, draw["rows"])
    h_0 = torch.randn(*shape, draw["projection"] or draw["hidden"])
    c_0 = torch.randn(*shape, draw["hidden"])
    given = {"h_0": h_0, "c_0": c_0}
    if draw["vocabulary"]:
        x = torch.randint(0, draw["vocabulary"], (draw["steps"], draw["rows"]))
        given["tokens"] = x.float()
    else:
        given["vectors"] = torch.randn(draw["steps"], draw["rows"], draw["input"])
        x = given["vectors"].double()
    read, hidden, values, (h_n, c_n) = model(x, (h_0.double(), c_0.double()))
    given["d_output"] = torch.randn(hidden.shape)
    hidden.backward(given["d_output"].double(), retain_graph=True)
    save_file(given, folder / "input.safetensors")
    subprocess.run([example, path, folder / "input.safetensors", folder / "output.safetensors"], check=True)
    ours = load_file(folder / "output.safetensors")
    apart = [
        compare("values", ours["values"], values, draw),
        compare("h_n", ours["h_n"], h_n, draw),
        compare("c_n", ours["c_n"], c_n, draw),
        compare("gradient of the input", ours["gradient.input"], read.grad, draw),
    ]
    for name, parameter in model.rnn.named_parameters():
        apart.append(compare(f"gradient of {name}", ours[f"gradient.{name}"], parameter.grad, draw))

    # And back.
    for suffix in ("pt", "safetensors"):
        out = folder / f"ours.{suffix}"
        command = [lstm, "convert", path, out, "--to", "pytorch", "--module", "--force"]
        subprocess.run(command, check=True, capture_output=True)
        back = torch.load(out, mmap=True, weights_only=True) if suffix == "pt" else load_file(out)
        bare = not draw["vocabulary"] and not draw["readout"]
        start = "" if bare else "lstm."
        lstm_alone = {name.removeprefix(start): value for name, value in back.items() if name.startswith(start)}
        # Biases that theirs had not are zero in ours.
        fresh = nn.LSTM(
            draw["input"],
            draw["hidden"],
            draw["layers"],
            bidirectional=draw["bidirectional"],
            proj_size=draw["projection"],
        )
        fresh.load_state_dict(lstm_alone, strict=True)
        for name, value in model.rnn.state_dict().items():
            assert torch.equal(value.float(), fresh.state_dict()[name]), (name, draw)
        source = importlib.util.spec_from_file_location("module", out.with_suffix(".py"))
        module = importlib.util.module_from_spec(source)
        source.loader.exec_module(module)
        network = module.load().double()
        with torch.no_grad():
            again, (h, c) = network(x, (h_0.double(), c_0.double()))
        apart += [compare("values of the module", again, values, draw), compare("its h_n", h, h_n, draw)]
        if draw["tied"]:
            assert network.readout.weight is network.embedding.weight
    return max(apart)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    subprocess.run(["cargo", "build", "--release", "--workspace", "--bins", "--examples"], cwd=ROOT, check=True)
    lstm, example = ROOT / "target/release/lstm", ROOT / "target/release/examples/network"
    rng = random.Random(options.seed)
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        for index in range(options.draws):
            draw = draw_network(rng) | {"seed": index}
            worst = max(worst, check(draw, Path(folder), lstm, example))
    print(f"{options.draws} networks, both ways: at most {worst:.1e} of a tensor's largest value apart")


main()
