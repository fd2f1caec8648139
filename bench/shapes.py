"""The shapes that `bench/compare.py` measures, section by section."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The arguments of one measurement; `None` is an option that the kind does not have."""

    name: str
    hidden: int
    batch: int
    embedding: int | None = None
    layers: int = 1
    vocab: int | None = None
    segment: int | None = None

    def arguments(self):
        sizes = {
            "vocab": self.vocab,
            "embedding": self.embedding or self.hidden,
            "hidden": self.hidden,
            "layers": self.layers,
            "segment": self.segment,
            "batch": self.batch,
        }
        return [part for name, size in sizes.items() if size is not None for part in (f"--{name}", str(size))]

    def sizes(self):
        letters = {"V": self.vocab, "E": self.embedding or self.hidden}
        words = [f"{letter} {size:,}" for letter, size in letters.items() if size is not None]
        words.append(f"{self.layers}×{self.hidden}")
        words += [f"{letter} {size}" for letter, size in {"T": self.segment, "B": self.batch}.items() if size is not None]
        return " ".join(words)


TRAIN = [
    Shape("textlstm", hidden=128, batch=128, embedding=256, vocab=5_000, segment=5),
    Shape("small", hidden=200, batch=20, layers=2, vocab=10_000, segment=20),
    Shape("medium", hidden=650, batch=20, layers=2, vocab=10_000, segment=35),
    Shape("char", hidden=256, batch=64, embedding=64, layers=2, vocab=65, segment=64),
    Shape("wide", hidden=1150, batch=40, embedding=400, vocab=10_000, segment=70),
    Shape("large vocabulary", hidden=200, batch=20, layers=2, vocab=33_278, segment=35),
]

LAYER = [
    *(Shape("", hidden=hidden, batch=20, segment=35) for hidden in (64, 128, 200, 257, 512, 650, 1000, 1500)),
    Shape("one row", hidden=64, batch=1, segment=100),
    Shape("one row", hidden=256, batch=1, segment=35),
]

RUST = [Shape("", hidden=hidden, batch=20, segment=35) for hidden in (64, 200, 512, 650, 1000)] + [
    Shape("one row", hidden=64, batch=1, segment=100)
]

SEGMENTS = [
    Shape("", hidden=128, batch=128, embedding=256, segment=5),
    Shape("", hidden=200, batch=20, layers=2, segment=20),
    Shape("", hidden=257, batch=20, segment=35),
    Shape("", hidden=650, batch=20, layers=2, segment=35),
    Shape("", hidden=1500, batch=20, layers=2, segment=35),
    Shape("one row", hidden=256, batch=1, segment=100),
]

DECODE = [Shape(name, hidden, 1, layers=2, vocab=10_000) for name, hidden in (("small", 200), ("medium", 650), ("large", 1500))]
