"""PyTorch's word-language-model example through this program, both ways.

    python bench/word_language_model.py [--data ../shared/data/penn_small] [--built target/release]

Needs torch (2.15), numpy and safetensors, and a folder with train.txt, valid.txt, test.txt; says so and stops where they are not there.
The network is the example's (an encoder, an LSTM, a decoder whose weights may be the encoder's), as are its tokens (words, `<eos>` after
every line, numbered as they first occur in the three texts), its batches (columns of one stream) and its measure: the mean loss over
ten columns. Written anew here, and trained for a minute at most.

- there → here: a model trained by PyTorch, tied and not, is converted to a run; `lstm eval` of the test text, one stream, is PyTorch's
  perplexity of one column, and the network of the file gives PyTorch's perplexity of the example's ten columns;
- here → there: a model trained by `lstm train`, tied and not, is converted to a .pt file; the example's model takes its weights and has
  the perplexity that `lstm eval` has.

Each to four digits.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

try:
    import torch
    from safetensors.torch import load_file, save_file
    from torch import nn
except ImportError as missing:
    print(f"skipped: {missing}")
    raise SystemExit(0)

ROOT = Path(__file__).resolve().parent.parent
SIZE, LAYERS, COLUMNS, SEGMENT = 48, 2, 10, 35


class RNNModel(nn.Module):
    """The example's names and shapes."""

    def __init__(self, tokens, tied):
        super().__init__()
        self.encoder = nn.Embedding(tokens, SIZE)
        self.rnn = nn.LSTM(SIZE, SIZE, LAYERS)
        self.decoder = nn.Linear(SIZE, tokens)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, tokens, state=None):
        hidden, state = self.rnn(self.encoder(tokens), state)
        return self.decoder(hidden), state


def words(path):
    return [word for line in path.read_text().splitlines() for word in [*line.split(), "<eos>"]]


def columns(tokens, count):
    """[T, count]: the stream cut into columns, what is over left out."""
    steps = len(tokens) // count
    return tokens[: steps * count].view(count, steps).t().contiguous()


def segments(data):
    for start in range(0, len(data) - 1, SEGMENT):
        steps = min(SEGMENT, len(data) - 1 - start)
        yield data[start : start + steps], data[start + 1 : start + 1 + steps]


@torch.no_grad()
def evaluate(model, data):
    """The example's measure: the mean loss of all but the first step."""
    model.eval()
    total, state = 0.0, None
    for x, y in segments(data):
        logits, state = model(x, state)
        total += len(x) * nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()).item()
    return math.exp(total / (len(data) - 1))


def train(model, data, steps):
    model.train()
    state = None
    for step, (x, y) in enumerate(segments(data)):
        if step == steps:
            break
        model.zero_grad()
        logits, state = model(x, state)
        state = tuple(part.detach() for part in state)
        nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 20 * parameter.grad
    return model


def same(what, ours, theirs):
    digits = [f"{value:.4g}" for value in (ours, theirs)]
    apart = abs(ours - theirs) / theirs
    print(f"{what}: {ours:.3f} here, {theirs:.3f} there ({apart:.0e})", flush=True)
    # Digits that would be rounded apart are the same where the values are.
    assert digits[0] == digits[1] or apart < 1e-5, (what, ours, theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/penn_small")
    parser.add_argument("--steps", type=int, default=60, help="training steps there; as many epochs of few words here")
    parser.add_argument("--built", type=Path, help="a folder with the command and examples/network, in place of a build")
    options = parser.parse_args()
    texts = {name: options.data / f"{name}.txt" for name in ("train", "valid", "test")}
    if missing := [path for path in texts.values() if not path.is_file()]:
        print(f"skipped: {missing[0]} is not there")
        return
    torch.set_num_threads(1)
    torch.manual_seed(1)
    built = options.built
    if built is None:
        subprocess.run(["cargo", "build", "--release", "--workspace", "--bins", "--examples"], cwd=ROOT, check=True)
        built = ROOT / "target/release"
    lstm, example = (built / "lstm").resolve(), (built / "examples/network").resolve()

    numbers = {}
    ids = {
        name: torch.tensor([numbers.setdefault(word, len(numbers)) for word in words(path)]) for name, path in texts.items()
    }
    # A part of the test text: every position's logits over all words pass through a file.
    head = 120
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "words.txt").write_text("".join(f"{word}\n" for word in numbers))
        short = folder / "short.txt"
        short.write_text("".join(texts["test"].read_text().splitlines(keepends=True)[:head]))
        few = torch.tensor([numbers[word] for word in words(short)])

        def measured(run, text):
            done = subprocess.run([lstm, "eval", run, text, "--json"], capture_output=True, text=True, check=True)
            return json.loads(done.stdout)

        def stream(order, path):
            """One column, which begins as this program's streams do: after the end of a line."""
            return torch.tensor([order["<eos>"], *(order[word] for word in words(path))])[:, None]

        for tied in (False, True):
            kind = "tied" if tied else "not tied"
            model = train(RNNModel(len(numbers), tied), columns(ids["train"], 20), options.steps)
            torch.save(model.state_dict(), folder / "theirs.pt")
            run = folder / f"run_{tied}"
            command = [lstm, "convert", folder / "theirs.pt", run, "--vocab", folder / "words.txt"]
            subprocess.run(command, check=True, capture_output=True)
            ours = measured(run, texts["test"])
            one = stream(numbers, texts["test"])
            assert ours["tokens"] == len(one) - 1, (ours["tokens"], len(one) - 1)
            same(f"trained there, {kind}, one stream", ours["perplexity"], evaluate(model, one))
            ten = columns(few, COLUMNS)
            save_file({"tokens": ten[:-1].float().contiguous()}, folder / "input.safetensors")
            files = [folder / "theirs.pt", folder / "input.safetensors", folder / "output.safetensors"]
            subprocess.run([example, *files], check=True)
            logits = load_file(folder / "output.safetensors")["values"].view(-1, len(numbers))
            loss = nn.functional.cross_entropy(logits.double(), ten[1:].flatten()).item()
            same(f"trained there, {kind}, ten columns", math.exp(loss), evaluate(model, ten))

        for tied in (False, True):
            kind = "tied" if tied else "not tied"
            run = folder / f"ours_{tied}"
            sizes = ["--tokenizer", "words", "--layers", LAYERS, "--hidden", SIZE, "--embedding", SIZE, "--residual=false"]
            length = ["--steps", options.steps, "--segment", SEGMENT, "--batch", 20, "--tied" if tied else "--tied=false"]
            inputs = ["train", texts["train"], "--valid", texts["valid"], "--test", texts["test"], "--out", run]
            command = [lstm, *inputs, *sizes, *length]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            subprocess.run([lstm, "convert", run, folder / "ours.pt", "--force"], check=True, capture_output=True)
            state = torch.load(folder / "ours.pt", mmap=True, weights_only=True)
            theirs = {"embedding": "encoder", "lstm": "rnn", "readout": "decoder"}
            renamed = {theirs[name.split(".")[0]] + name[name.index(".") :]: value for name, value in state.items()}
            model = RNNModel(len(state["embedding.weight"]), tied)
            model.load_state_dict(renamed, strict=True)
            tokens = json.loads((run / "tokenizer.json").read_text())["tokens"]
            order = {word: number for number, word in enumerate(tokens)}
            known = [order.get(word, order.get("<unk>")) for word in words(texts["test"])]
            ours = measured(run, texts["test"])
            one = torch.tensor([order["<eos>"], *known])[:, None]
            same(f"trained here, {kind}, one stream", ours["perplexity"], evaluate(model, one))


main()
