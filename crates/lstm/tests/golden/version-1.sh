#!/bin/sh
# Makes version-1/, a run folder with a config.toml of version 1: run it with a program of before version 2,
# `version-1.sh LSTM` (the stored one is by commit bfb6645).
cd "$(dirname "$0")" && "$1" train - --preset small --layers 2 --hidden 4,5 --embedding 3 --wiring skip --coupled \
    --average "ema(0.5)" --batch 4 --segment 6 --schedule constant --learning-rate 0.5 --steps 10 --seed 4 --threads 1 \
    --out version-1.new < version-1/text.txt
