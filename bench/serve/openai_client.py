"""The official `openai` package against the real server: synchronous and asynchronous, streaming and not.

    python3 bench/serve/openai_client.py [--lstm PROGRAM] [--model RUN]

Skipped with a word where the package is not there.
"""

import asyncio
import pathlib
import sys
import time

import serving

try:
    import openai
except ImportError:
    print("skipped: the openai package is not installed (pip install openai)")
    sys.exit(0)


def text(stream):
    return "".join(chunk.choices[0].text for chunk in stream if chunk.choices)


def synchronous(client, model):
    asked = {"model": model, "prompt": "the dog", "max_tokens": 24, "seed": 5}
    whole = client.completions.create(**asked)
    assert whole.object == "text_completion" and whole.model == model, whole
    assert whole.usage.completion_tokens == 24 and whole.choices[0].finish_reason == "length", whole
    assert whole.choices[0].text == client.completions.create(**asked).choices[0].text
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert text(chunks) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage and all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason == "length"

    several = client.completions.create(**{**asked, "prompt": ["the dog", "a cat"]}, n=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.choices[0].text == whole.choices[0].text
    best = client.completions.create(**asked, best_of=4, logprobs=0)
    assert best.usage.completion_tokens == 96 and len(best.choices) == 1

    echoed = client.completions.create(**asked, echo=True, logprobs=3)
    logprobs = echoed.choices[0].logprobs
    assert echoed.choices[0].text == "the dog" + whole.choices[0].text
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 26
    assert all(len(top) >= 3 and token in top for token, top in zip(logprobs.tokens, logprobs.top_logprobs))
    stop = whole.choices[0].text[10:14]
    stopped = client.completions.create(**asked, stop=[stop])
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].text == whole.choices[0].text[: whole.choices[0].text.index(stop)]
    extra = client.completions.create(**asked, extra_body={"top_k": 1})
    cold = client.completions.create(**{**asked, "temperature": 0})
    assert extra.choices[0].text == cold.choices[0].text

    assert model in [found.id for found in client.models.list()] and client.models.retrieve(model).id == model
    for wrong, kind in [
        ({**asked, "temperature": -1}, openai.BadRequestError),
        ({**asked, "model": "none"}, openai.NotFoundError),
        ({**asked, "suffix": "x"}, openai.BadRequestError),
    ]:
        try:
            client.completions.create(**wrong)
            raise AssertionError(f"not refused: {wrong}")
        except kind as error:
            assert error.body["message"], error
    # A stream that is left in the middle gives its place back.
    stream = client.completions.create(**{**asked, "max_tokens": 5000}, stream=True)
    next(iter(stream))
    stream.close()


async def asynchronous(client, model):
    asked = {"model": model, "prompt": "the dog", "max_tokens": 24}

    async def whole(seed):
        return (await client.completions.create(**asked, seed=seed)).choices[0].text

    async def streamed(seed):
        stream = await client.completions.create(**asked, seed=seed, stream=True)
        return "".join([chunk.choices[0].text async for chunk in stream])

    wholes = await asyncio.gather(*(whole(seed) for seed in range(20)))
    streams = await asyncio.gather(*(streamed(seed) for seed in range(20)))
    assert wholes == streams and len(set(wholes)) > 10


def full(given, run, model):
    """A server without room says when to come again, and clients do."""
    with serving.server(given, run, "--rows", "1", "--waiting", "0", "--most-tokens", "100000000") as (address, _):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        stream = client.completions.create(model=model, prompt="a", max_tokens=50_000_000, stream=True)
        next(iter(stream))
        try:
            client.completions.create(model=model, prompt="a")
            raise AssertionError("there was room")
        except openai.RateLimitError as error:
            assert 1 <= int(error.response.headers["retry-after"]) <= 120, error.response.headers
        stream.close()
        patient = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=5)
        assert patient.completions.create(model=model, prompt="a").choices[0].text


def guarded(given, run, model):
    """A token is the client's api_key."""
    with serving.server(given, run, environment={"LSTM_SERVE_TOKEN": "secret"}) as (address, _):
        openai.OpenAI(base_url=f"{address}/v1", api_key="secret").completions.create(model=model, prompt="a")
        try:
            openai.OpenAI(base_url=f"{address}/v1", api_key="guess").completions.create(model=model, prompt="a")
            raise AssertionError("anybody is let in")
        except openai.AuthenticationError as error:
            assert error.code == "invalid_api_key", error


def main():
    given = serving.options(__doc__.splitlines()[0]).parse_args()
    begun = time.time()
    with serving.model(given) as run:
        name = pathlib.Path(run).name
        with serving.server(given, run) as (address, _):
            synchronous(openai.OpenAI(base_url=f"{address}/v1", api_key="none"), name)
            asyncio.run(asynchronous(openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none"), name))
        full(given, run, name)
        guarded(given, run, name)
    print(f"openai {openai.__version__}: all as expected, {time.time() - begun:.1f} s")


if __name__ == "__main__":
    main()
