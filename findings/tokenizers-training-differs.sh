#!/usr/bin/env bash
# The same text trains another vocabulary every time: UnigramTrainer and WordPieceTrainer of `tokenizers` walk through hash
# maps whose order is drawn anew for every process, ties fall otherwise, and pieces, scores and ids differ. There is no seed to
# set. BpeTrainer alone writes the same bytes. (The Rust crate is the same code.)
#
# Seen with tokenizers 0.23.3, four processes each:
#   BPE: 1 vocabulary of 4 trainings
#   Unigram: 4 vocabularies of 4 trainings
#   WordPiece: 4 vocabularies of 4 trainings
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q tokenizers==0.23.3
cat >train.py <<'PYTHON'
import hashlib
import random
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

kind = sys.argv[1]
draw = random.Random(1)
syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(3000)]
lines = [" ".join(draw.choices(words, k=12)) for _ in range(2000)]
options = {"vocab_size": 800, "show_progress": False, "special_tokens": ["<unk>"]}
model, trainer = {
    "BPE": (models.BPE(), trainers.BpeTrainer(**options)),
    "Unigram": (models.Unigram(), trainers.UnigramTrainer(unk_token="<unk>", **options)),
    "WordPiece": (models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer(**options)),
}[kind]
tokenizer = Tokenizer(model)
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.train_from_iterator(lines, trainer)
print(hashlib.sha256(tokenizer.to_str().encode()).hexdigest())
PYTHON
same=0
for kind in BPE Unigram WordPiece; do
  kinds=$(for _ in 1 2 3 4; do venv/bin/python train.py "$kind"; done | sort -u | wc -l)
  echo "$kind: $kinds $([ "$kinds" = 1 ] && echo vocabulary || echo vocabularies) of 4 trainings"
  if [ "$kind" = BPE ]; then [ "$kinds" = 1 ] || same=1; else [ "$kinds" -gt 1 ] || same=1; fi
done
[ "$same" = 0 ] || { echo "the behaviour has changed"; exit 1; }
