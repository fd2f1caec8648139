"""Makes pytorch/*: files as PyTorch and those around it write them, each with what PyTorch computes from it.

    python crates/lstm/tests/golden/pytorch.py

Needs a CPU build of torch (2.15), numpy and safetensors. NAME.pt or NAME.safetensors is the file; NAME.expected.safetensors has
an input (`tokens` [T, B] or `vectors` [T, B, I]), the `output` of every step, and the final states of the last LSTM.
"""

import collections
import io
import pickle
import struct
import tarfile
from pathlib import Path

import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.nn.utils import parametrizations

HERE = Path(__file__).parent / "pytorch"
STEPS, ROWS = 4, 2


class LanguageModel(nn.Module):
    """Names and parts of PyTorch's word_language_model example."""

    def __init__(self, vocabulary=7, size=4, hidden=5, layers=2, tied=False):
        super().__init__()
        self.encoder = nn.Embedding(vocabulary, size)
        self.rnn = nn.LSTM(size, hidden, layers)
        self.decoder = nn.Linear(hidden, vocabulary)
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, tokens):
        output, state = self.rnn(self.encoder(tokens))
        return self.decoder(output), state


class Tagger(nn.Module):
    """Both directions, projected; reads vectors."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2)
        self.head = nn.Linear(4, 6)

    def forward(self, vectors):
        output, state = self.lstm(vectors)
        return self.head(output), state


class WeightDropped(nn.Module):
    """One layer of AWD-LSTM as fastai wraps it: the raw recurrent weights beside those that were dropped last."""

    def __init__(self, size, hidden):
        super().__init__()
        self.module = nn.LSTM(size, hidden)
        self.weight_hh_l0_raw = nn.Parameter(self.module.weight_hh_l0.detach().clone())
        with torch.no_grad():
            self.module.weight_hh_l0.mul_(torch.bernoulli(torch.full_like(self.module.weight_hh_l0, 0.5)) * 2)

    def forward(self, x, state):
        kept = self.module.weight_hh_l0.detach().clone()
        with torch.no_grad():
            self.module.weight_hh_l0.copy_(self.weight_hh_l0_raw)
            result = self.module(x, state)
            self.module.weight_hh_l0.copy_(kept)
        return result


class Awd(nn.Module):
    """AWD-LSTM: layers of different sizes, each an LSTM of its own, a tied readout, a second name for the table."""

    def __init__(self):
        super().__init__()
        encoder = nn.Module()
        encoder.encoder = nn.Embedding(7, 4)
        encoder.encoder_dp = nn.Module()
        encoder.encoder_dp.emb = encoder.encoder
        encoder.rnns = nn.ModuleList([WeightDropped(4, 6), WeightDropped(6, 6), WeightDropped(6, 4)])
        decoder = nn.Module()
        decoder.decoder = nn.Linear(4, 7)
        decoder.decoder.weight = encoder.encoder.weight
        self.add_module("0", encoder)
        self.add_module("1", decoder)

    def forward(self, tokens):
        encoder, decoder = self.get_submodule("0"), self.get_submodule("1")
        x = encoder.encoder(tokens)
        for rnn in encoder.rnns:
            x, state = rnn(x, None)
        return decoder.decoder(x), state


def expect(name, model, vectors=0):
    """What `model` computes, in f64 rounded once."""
    model = model.double().eval()
    if vectors:
        given = {"vectors": torch.randn(STEPS, ROWS, vectors)}
        inputs = given["vectors"].double()
    else:
        given = {"tokens": torch.randint(0, 7, (STEPS, ROWS)).int()}
        inputs = given["tokens"].long()
    with torch.no_grad():
        output, (h, c) = model(inputs)
    kept = {"output": output, "h_n": h, "c_n": c}
    save_file(given | {key: value.float().contiguous() for key, value in kept.items()}, HERE / f"{name}.expected.safetensors")


def trained():
    """A model and an optimizer that has moments."""
    model = LanguageModel()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 1).long())[0].sum().backward()
    optimizer.step()
    return model, optimizer


def save_tar(state_dict, path):
    """The archive of torch.save before 0.1.10, for float32 tensors."""
    sys_info, storages, tensors, body = (io.BytesIO() for _ in range(4))
    sizes = {"short": 2, "int": 4, "long": 4}
    pickle.dump({"protocol_version": 1000, "little_endian": True, "type_sizes": sizes}, sys_info, 2)
    pickle.dump(len(state_dict), storages, 2)
    pickle.dump(len(state_dict), tensors, 2)
    for index, tensor in enumerate(state_dict.values()):
        pickle.dump((1000 + index, "cpu", torch.FloatStorage), storages, 2)
        storages.write(struct.pack("<q", tensor.numel()) + tensor.contiguous().numpy().tobytes())
        pickle.dump((2000 + index, 1000 + index, torch.FloatTensor), tensors, 2)
        tensors.write(struct.pack("<ii", tensor.dim(), 0))
        tensors.write(struct.pack(f"<{tensor.dim()}q", *tensor.shape) + struct.pack(f"<{tensor.dim()}q", *tensor.stride()))
        tensors.write(struct.pack("<q", 0))
    pickle.dump([], storages, 2)

    class Keys(pickle.Pickler):
        def persistent_id(self, value):
            return str(value.key) if isinstance(value, Key) else None

    Keys(body, 2).dump(collections.OrderedDict((name, Key(2000 + i)) for i, name in enumerate(state_dict)))
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in [("sys_info", sys_info), ("storages", storages), ("tensors", tensors), ("pickle", body)]:
            entry = tarfile.TarInfo(name)
            entry.size = len(data.getvalue())
            archive.addfile(entry, io.BytesIO(data.getvalue()))


class Key:
    """Stands for a tensor that lies elsewhere in the archive."""

    def __init__(self, key):
        self.key = key


def main():
    torch.manual_seed(3)
    HERE.mkdir(exist_ok=True)

    model, optimizer = trained()
    lightning = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save(
        {
            "epoch": 3,
            "state_dict": lightning,
            "optimizer_states": [optimizer.state_dict()],
            "lr_schedulers": [],
            "hyper_parameters": {"lr": 0.001, "layers": 2},
        },
        HERE / "lightning.pt",
    )
    expect("lightning", model)

    model = LanguageModel()
    names = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(names, HERE / "legacy.pt", _use_new_zipfile_serialization=False)
    expect("legacy", model)

    model = LanguageModel()
    save_tar(model.state_dict(), HERE / "tar.pt")
    expect("tar", model)

    # Four matrices in one storage, a transposed one, and a tied readout.
    model = LanguageModel(size=5, tied=True)
    state_dict = model.state_dict()
    storage = torch.cat([model.rnn.get_parameter(f"weight_{what}_l{layer}") for what in ("ih", "hh") for layer in (0, 1)], 1)
    chunks = storage.detach().clone().chunk(4, dim=1)
    for chunk, name in zip(chunks, ["weight_ih_l0", "weight_ih_l1", "weight_hh_l0", "weight_hh_l1"]):
        state_dict[f"rnn.{name}"] = chunk
    state_dict["rnn.weight_hh_l1"] = state_dict["rnn.weight_hh_l1"].t().contiguous().t()
    torch.save({"model": state_dict, "step": 12}, HERE / "views.pt")
    expect("views", model)

    # Every stored form in one file.
    model = LanguageModel()
    state_dict = model.state_dict()
    for name, form in [("encoder.weight", torch.half), ("rnn.weight_ih_l0", torch.bfloat16), ("decoder.bias", torch.double)]:
        state_dict[name] = state_dict[name].to(form)
    torch.save(state_dict, HERE / "forms.pt")
    model.load_state_dict(state_dict)
    expect("forms", model)

    model = Awd()
    torch.save(model.state_dict(), HERE / "awd.pt")
    expect("awd", model)

    # Weight normalisation, of then and now; a parametrization that keeps its weight.
    model = LanguageModel()
    parametrizations.weight_norm(model.rnn, "weight_hh_l0")
    torch.nn.utils.parametrize.register_parametrization(model.rnn, "weight_hh_l1", nn.Identity())
    torch.save(model.state_dict(), HERE / "normalised.pt")
    expect("normalised", model)

    model = Tagger()
    torch.save(model, HERE / "whole.pt")
    expect("whole", model, vectors=3)
    model = Tagger()
    save_file(model.state_dict(), HERE / "tagger.safetensors")
    expect("tagger", model, vectors=3)

    # Of a shared tensor one name is kept, the other is in the metadata.
    model = LanguageModel(size=5, tied=True)
    save_model(model, str(HERE / "tied.safetensors"))
    expect("tied", model)


main()
