"""Searches for the rate and the width of a model with Optuna, and gives up early on trials that do worse than others at the same step.

    pip install ./crates/lstm-python optuna
    python examples/optuna_search.py [TEXT] [TRIALS]

Without a text it is the built-in language. Every trial is a run folder under runs/search, which the command opens as any other:
`lstm show runs/search/*` gathers their table.
"""

import sys

import lstm_cpu
import optuna


def main():
    text = sys.argv[1] if len(sys.argv) > 1 else None
    trials = int(sys.argv[2]) if len(sys.argv) > 2 else 8

    def objective(trial):
        rate = trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True)
        hidden = trial.suggest_int("hidden", 16, 64, step=16)

        def watch(event):
            if event["event"] == "validated":
                trial.report(event["valid"], event["step"])
                # What the callback raises ends the training at its next step, with a checkpoint.
                if trial.should_prune():
                    raise optuna.TrialPruned

        run = f"runs/search/{trial.number:03}"
        model = lstm_cpu.train(text, run, hidden=hidden, layers=1, learning_rate=rate, optimizer="adam", epochs=3, callback=watch)
        return model.results["valid"]

    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=3), sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(objective, n_trials=trials)
    print(f"best: validation perplexity {study.best_value:.2f} with {study.best_params}")


main()
