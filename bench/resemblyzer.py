"""Resemblyzer's speaker encoder through this program: its embedding of a generated sound against PyTorch's.

    python bench/resemblyzer.py

Needs torch (2.15), safetensors and pip; gets the package `resemblyzer` 0.1.4 from the package registry, whose `pretrained.pt` holds
three LSTM layers and a linear one, and says so and stops where that is not to be had. The sound is a chirp with vowel-like
formants; its spectrogram has Resemblyzer's shape (40 mel channels of 25 ms every 10 ms). Both read the same, and what follows
the linear layer (ReLU, then the unit length) is done here for both.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-5
RATE, WINDOW, HOP, CHANNELS = 16_000, 400, 160, 40


def sound(seconds=2.0):
    """A voice-like tone: harmonics of a falling pitch, louder near two moving formants."""
    time = torch.arange(int(seconds * RATE)) / RATE
    phase = 2 * torch.pi * torch.cumsum(180 - 40 * time, 0) / RATE
    wave = torch.zeros_like(time)
    for harmonic in range(1, 30):
        pitch = harmonic * (180 - 40 * time)
        loud = torch.exp(-((pitch - 600 - 200 * time) / 250) ** 2) + torch.exp(-((pitch - 1500 + 300 * time) / 350) ** 2)
        wave += loud * torch.sin(harmonic * phase)
    return 0.1 * wave / wave.abs().max()


def spectrogram(wave):
    """[T, 40]: the power in mel bands."""
    power = torch.stft(wave, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True).abs() ** 2
    mel = torch.linspace(0, 2595 * torch.log10(torch.tensor(1 + RATE / 2 / 700)), CHANNELS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequencies = torch.linspace(0, RATE / 2, power.shape[0])
    up = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    filters = torch.minimum(up, down).clamp(min=0) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return (filters @ power).T.contiguous()


def embedding(linear):
    raw = torch.relu(linear)
    return raw / raw.norm()


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "resemblyzer==0.1.4", "-d", folder]
        if subprocess.run(command, capture_output=True).returncode:
            print("skipped: the package resemblyzer 0.1.4 is not to be had (offline?)")
            return
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            weights = Path(wheel.extract("resemblyzer/pretrained.pt", folder))
        subprocess.run(["cargo", "build", "--release", "--workspace", "--bins", "--examples"], cwd=ROOT, check=True)
        # What the training loss compares with: no part of the encoder.
        out = folder / "encoder.pt"
        left_out = [f"--map=model_state.similarity_{name}=" for name in ("weight", "bias")]
        subprocess.run([ROOT / "target/release/lstm", "convert", weights, out, *left_out], check=True)

        state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
        lstm, linear = nn.LSTM(CHANNELS, 256, 3), nn.Linear(256, 256)
        lstm.load_state_dict({name[5:]: value for name, value in state.items() if name.startswith("lstm.")}, strict=True)
        linear.load_state_dict({name[7:]: value for name, value in state.items() if name.startswith("linear.")}, strict=True)
        mels = spectrogram(sound())
        with torch.no_grad():
            _, (hidden, _) = lstm(mels[:, None])
            theirs = embedding(linear(hidden[-1])[0])

        save_file({"vectors": mels[:, None].contiguous()}, folder / "input.safetensors")
        example = ROOT / "target/release/examples/network"
        subprocess.run([example, out, folder / "input.safetensors", folder / "output.safetensors"], check=True)
        values = load_file(folder / "output.safetensors")["values"].view(len(mels), 256)
        ours = embedding(values[-1])
        apart = (ours - theirs).abs().max().item()
        print(f"{len(mels)} frames, embedding of {len(ours)} values, length 1: at most {apart:.1e} from PyTorch's")
        assert apart <= TOLERANCE


main()
