"""Makes forecast.json: the losses of a forecast's likelihoods and their gradients by PyTorch's autograd, quantiles by SciPy.

    pip install torch==2.15.* scipy==1.17.* && python forecast.py > forecast.json

All in float64. A position has an offset and a scale; outputs become a distribution as the head's documentation says.
"""

import json

import torch
from scipy import stats
from torch.distributions import NegativeBinomial, StudentT
from torch.nn.functional import softplus

LEVELS = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
MEDIAN, LEAST = 5, 1e-6


def quantiles(outputs, offset, scale):
    steps = scale * softplus(outputs)
    median = offset + scale * outputs[MEDIAN]
    above = median + torch.cumsum(steps[MEDIAN + 1 :], 0)
    below = median - torch.cumsum(steps[:MEDIAN].flip(0), 0)
    return torch.cat([below.flip(0), median.reshape(1), above])


def loss_of(likelihood, outputs, offset, scale, value):
    if likelihood == "quantiles":
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        error = value - quantiles(outputs, offset, scale)
        return 2 * torch.maximum(levels * error, (levels - 1) * error).mean()
    if likelihood == "student":
        spread = scale * (softplus(outputs[1]) + LEAST)
        freedom = 2 + softplus(outputs[2]) + LEAST
        return -StudentT(freedom, offset + scale * outputs[0], spread).log_prob(value)
    if likelihood == "negative-binomial":
        mean = scale * (softplus(outputs[0]) + LEAST)
        shape = 1 / (softplus(outputs[1]) + LEAST)
        return -NegativeBinomial(shape, probs=mean / (shape + mean)).log_prob(value)
    return (offset + scale * outputs[0] - value) ** 2


def quantiles_of(likelihood, outputs, offset, scale):
    if likelihood == "quantiles":
        return quantiles(outputs, offset, scale).tolist()
    if likelihood == "student":
        spread = scale * (softplus(outputs[1]) + LEAST)
        freedom = 2 + softplus(outputs[2]) + LEAST
        return stats.t.ppf(LEVELS, float(freedom), float(offset + scale * outputs[0]), float(spread)).tolist()
    if likelihood == "negative-binomial":
        mean = scale * (softplus(outputs[0]) + LEAST)
        shape = 1 / (softplus(outputs[1]) + LEAST)
        return stats.nbinom.ppf(LEVELS, float(shape), float(shape / (shape + mean))).tolist()
    return [float(offset + scale * outputs[0])] * len(LEVELS)


def main():
    torch.manual_seed(1)
    cases = []
    sizes = {"quantiles": 11, "student": 3, "negative-binomial": 2, "point": 1}
    for likelihood, size in sizes.items():
        for offset, scale, value in [(0.25, 1.5, 3.0), (-1.0, 0.5, 0.0), (0.0, 12.0, 40.0)]:
            # What float32 holds exactly, so that both programs read the same.
            outputs = torch.randn(size).to(torch.float64).requires_grad_()
            loss = loss_of(likelihood, outputs, offset, scale, torch.tensor(value, dtype=torch.float64))
            loss.backward()
            cases.append({
                "likelihood": likelihood,
                "outputs": outputs.tolist(),
                "place": [offset, scale],
                "value": value,
                "loss": loss.item(),
                "gradient": outputs.grad.tolist(),
                "quantiles": quantiles_of(likelihood, outputs.detach(), offset, scale),
            })
    print(json.dumps(cases, indent=1))


if __name__ == "__main__":
    main()
