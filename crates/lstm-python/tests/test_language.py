"""Language models: trained, opened, measured, written with, exchanged with PyTorch."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import lstm_cpu

TEXT = "the cat sat on the mat .\nthe dog sat on the cat .\na cat saw the dog on the mat .\n"


# What so few steps learn of so short a text is how often its words occur, so they have to start without it.
RANDOM = {"unigram_bias": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def text(folder):
    path = folder / "text.txt"
    path.write_text(TEXT * 60, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def events():
    return []


@pytest.fixture(scope="module")
def model(folder, text, events):
    return lstm_cpu.train(
        text, folder / "run", epochs=3, hidden=16, layers=1, tokenizer="words", callback=events.append, settings=RANDOM
    )


def test_training_tells_what_happens(model, events):
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started" and kinds.count("validated") == 3 and "tested" in kinds
    steps = [event for event in events if event["event"] == "step"]
    assert steps[-1]["loss"] < steps[0]["loss"] and 0.99 < steps[-1]["progress"] <= 1.0
    assert model.results["epoch"] in (1, 2, 3) and model.results["test"] == pytest.approx(
        [event for event in events if event["event"] == "tested"][0]["test"]
    )


def test_measures_agree(model, folder):
    lines = model.score(TEXT)
    assert len(lines) == 3 and [token.text for token in lines[0]][:3] == ["the", "cat", "sat"]
    nats = [token.nats for line in lines for token in line]
    assert model.perplexity(TEXT) == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-4)
    file = folder / "measured.txt"
    file.write_text(TEXT, encoding="utf-8")
    assert model.perplexity(file) == pytest.approx(model.perplexity(TEXT))
    alone = model.score(TEXT, alone=True)
    assert model.score(TEXT.splitlines()[2] + "\n", alone=True)[0][0].nats == pytest.approx(alone[2][0].nats, rel=1e-3)


def test_a_stream_scores_what_scoring_does(model):
    tokenizer = model.tokenizer
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT and len(tokenizer) == model.step([0]).shape[1]
    assert [tokenizer.id(tokenizer.token(id)) for id in set(ids)] == list(set(ids))
    model.reset()
    assert model.state is None
    scored = [token for line in model.score(TEXT) for token in line]
    assert [token.id for token in scored] == ids
    before = tokenizer.id("<eos>")
    for token in scored[:12]:
        logits = model.step([before])[0].astype(np.float64)
        nats = np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[token.id]
        assert nats == pytest.approx(token.nats, abs=1e-4) and token.rank == (logits > logits[token.id]).sum() + 1
        before = token.id
    h, c = model.state
    stream = model.stream(1)
    stream.state = (h, c)
    assert np.array_equal(stream.step([ids[3]]), model.step([ids[3]])) and h.dtype == np.float32
    with pytest.raises(IndexError, match="is no token"):
        model.step([10**6])
    with pytest.raises(ValueError, match="2 tokens for 1 row;"):
        model.step([0, 1])


def test_writing_is_repeatable_and_its_tokens_are_the_tokenizer_s(model):
    first = list(model.generate("the cat", length=12, seed=4))
    assert first == list(model.generate("the cat", length=12, seed=4)) and len(first) == 12
    assert first != list(model.generate("the cat", length=12, seed=5))
    assert all(model.tokenizer.token(id) == text or text == "\n" for id, text in first)
    with pytest.raises(ValueError, match="`temperature`"):
        model.generate(temperature=-1.0)


def test_a_saved_model_is_the_model(model, folder):
    model.save(folder / "saved.safetensors")
    again = lstm_cpu.load(folder / "saved.safetensors")
    assert again.perplexity(TEXT) == model.perplexity(TEXT) and repr(again) == repr(model)
    assert all(np.array_equal(a, again.parameters()[name]) for name, a in model.parameters().items())
    with pytest.raises(FileExistsError, match="is there already"):
        model.save(folder / "saved.safetensors")


def test_errors_are_sentences_of_the_right_type(model, folder, text):
    with pytest.raises(FileNotFoundError):
        lstm_cpu.load(folder / "nothing")
    with pytest.raises(ValueError, match="config.toml"):
        lstm_cpu.load(folder)
    with pytest.raises(FileExistsError, match="run"):
        lstm_cpu.train(text, folder / "run", epochs=1)
    with pytest.raises(FileNotFoundError, match="cannot be read"):
        lstm_cpu.train(folder / "nothing.txt", folder / "other", epochs=1)
    with pytest.raises(ValueError, match="`hidden` is 0"):
        lstm_cpu.train(text, folder / "other", epochs=1, hidden=0)
    with pytest.raises(ValueError, match="preset"):
        lstm_cpu.train(text, folder / "other", preset="none")
    with pytest.raises(FloatingPointError, match="lower learning rate"):
        lstm_cpu.train(
            text, folder / "diverged", epochs=2, hidden=8, layers=1, optimizer="sgd", learning_rate=1e4, settings=RANDOM
        )
    assert not (folder / "other").exists()


def test_a_callback_s_exception_ends_the_training_with_a_checkpoint(folder, text):
    class Enough(Exception):
        pass

    def callback(event):
        if event["event"] == "step" and event["step"] == 3:
            raise Enough

    with pytest.raises(Enough):
        lstm_cpu.train(text, folder / "stopped", epochs=50, hidden=8, layers=1, callback=callback)
    assert (folder / "stopped" / "checkpoint.safetensors").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_ctrl_c_ends_a_long_training(folder, text):
    # Who starts the tests in the background of a shell lets them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        lstm_cpu.train(text, folder / "interrupted", epochs=1_000_000, hidden=8, layers=1)
    signal.signal(signal.SIGINT, before)
    assert (folder / "interrupted" / "checkpoint.safetensors").exists()


def test_the_package_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; import lstm_cpu; print(lstm_cpu.isa()); lstm_cpu.accelerate"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == lstm_cpu.isa() and "torch" in done.stderr.splitlines()[-1]


def test_the_interpreter_is_free_while_the_library_computes(model):
    """Another thread runs on while a text is measured."""
    counted = []
    over = threading.Event()

    def count():
        while not over.is_set():
            counted.append(1)

    thread = threading.Thread(target=count)
    thread.start()
    # A call so long that the other thread gets a core in it, on any machine.
    seconds, times = 0.0, 200
    while seconds < 0.5:
        before, start = len(counted), time.perf_counter()
        model.perplexity(TEXT * times)
        during, seconds, times = len(counted) - before, time.perf_counter() - start, 4 * times
    over.set()
    thread.join()
    assert during > 100


def test_there_and_back_with_torch(model, folder):
    torch = pytest.importorskip("torch", reason="torch is not installed, so there is no module to become")
    network = model.to_torch()
    ids = model.tokenizer.encode(TEXT)
    with torch.no_grad():
        logits = network(torch.tensor(ids[:20])[:, None])[0].reshape(20, -1)
    stream = model.stream()
    ours = np.concatenate([stream.step([id]) for id in ids[:20]])
    np.testing.assert_allclose(logits.numpy(), ours, rtol=1e-4, atol=1e-4)
    back = lstm_cpu.from_torch(network, folder / "back.safetensors", vocabulary=model.path / "tokenizer.json")
    again = back.stream()
    np.testing.assert_allclose(np.concatenate([again.step([id]) for id in ids[:20]]), ours, rtol=1e-4, atol=1e-4)
    assert [type(m) for m in network.modules() if isinstance(m, torch.nn.LSTM)]
    assert lstm_cpu.accelerate(network).exchanged


def test_an_inspected_text_keeps_the_equations(model):
    looked = model.inspect(TEXT, explain=[4])
    ids = model.tokenizer.encode(TEXT)
    assert looked["ids"][1:].tolist() == ids and looked["text"][1:4] == ["the", "cat", "sat"]
    nats = [token.nats for line in model.score(TEXT) for token in line]
    np.testing.assert_allclose(looked["nats"][1:], nats, rtol=1e-4, atol=1e-5)
    i, f, g, o, c, h = (looked[f"layer1_{name}"] for name in "ifgoch")
    assert c.shape == h.shape == (len(ids) + 1, 16) and c.dtype == np.float32
    np.testing.assert_allclose(c[1:], f[1:] * c[:-1] + i[1:] * g[1:], atol=1e-5)
    np.testing.assert_allclose(h, o * np.tanh(c), atol=1e-5)
    assert looked["cause4_product"].shape == looked["cause4_integrated"].shape == (4,) and looked["cause4_from"] == 0
    with pytest.raises(ValueError, match="no tokens"):
        model.inspect("")


def test_arrays_of_other_libraries_are_taken_by_dlpack(model):
    class Foreign:
        """An array of a library that numpy does not know."""

        def __init__(self, values):
            self.values = values

        def __dlpack__(self, **options):
            return self.values.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.values.__dlpack_device__()

    stream, other = model.stream(), model.stream()
    stream.step(np.array([2]))
    h, c = stream.state
    other.state = Foreign(h), Foreign(c)
    np.testing.assert_array_equal(stream.step([3]), other.step([3]))
    np.testing.assert_array_equal(np.from_dlpack(h), h)


def test_any_setting_of_a_run_is_one_of_train(folder, text, model):
    given = {"training.weight_decay": 1e-5, "model": {"lstm": {"variant": {"peepholes": True}}}, "model.tied": True}
    trained = lstm_cpu.train(text, folder / "settings", steps=2, hidden=8, embedding=8, layers=1, settings=given)
    written = (folder / "settings" / "config.toml").read_text(encoding="utf-8")
    assert "peepholes = true" in written and "tied = true" in written and "weight_decay = 0.00001" in written
    assert "lstm.weight_peephole_l0" in trained.parameters()
    for wrong, said in [({"training.wait_decay": 1.0}, "wait_decay"), ({"model.tied": 3}, "tied|bool")]:
        with pytest.raises(ValueError, match=said):
            lstm_cpu.train(text, folder / "refused", steps=1, settings=wrong)
        assert not (folder / "refused").exists()
    further = lstm_cpu.train(text, folder / "further", steps=1, pretrained=model.path, settings={"training.batch": 4})
    assert "from" in (folder / "further" / "config.toml").read_text(encoding="utf-8") and len(further.tokenizer) == len(model.tokenizer)
