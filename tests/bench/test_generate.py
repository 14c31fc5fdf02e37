"""Generation against a Transformer with a cache: what is compared is comparable, and the rows say what they must."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcsd_agent.bench import decoding
from mcsd_agent.bench.generate import headline
from mcsd_agent.bench.language_models import MODELS, ByteModel, ByteModelConfig, MCSDTrunk, build, memory_bytes
from mcsd_agent.cli import main
from mcsd_agent.errors import UserError

# What measures is used by few, and takes its time.
pytestmark = pytest.mark.thorough

SIZES = ["--device", "cpu", "--width", "16", "--layers", "1", "--quiet"]
TINY = [*SIZES, "--lengths", "16", "64", "--batches", "1", "2", "--batch-lengths", "16", "--further-batches", "3"]


def tiny(model: str, **changes: object) -> ByteModel:
    torch.manual_seed(0)
    return build(ByteModelConfig(model=model, width=16, channels=4, **changes))  # type: ignore[arg-type]


@given(
    width=st.sampled_from([32, 64, 96, 512, 768]),
    layers=st.integers(1, 13),
    preset=st.sampled_from(["extended", "paper"]),
    conv=st.booleans(),
    expansion=st.integers(1, 4),
    tied=st.booleans(),
)
def test_both_models_have_the_same_number_of_parameters(width, layers, preset, conv, expansion, tied):
    sizes = dict(width=width, layers=layers, preset=preset, conv=conv, expansion=expansion, tied=tied)
    with torch.device("meta"):
        counts = [build(ByteModelConfig(model=m, **sizes)).parameter_count for m in MODELS]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("conv", [False, True])
def test_reading_a_text_at_once_and_byte_by_byte_give_the_same_logits(model, conv):
    net = tiny(model, conv=conv).double()
    text = torch.randint(0, 256, (3, 20), generator=torch.Generator().manual_seed(1))
    memory, logits = net.begin(3, 20), []
    for byte in text.unbind(1):
        y, memory = net.step(byte, memory)
        logits.append(y)
    torch.testing.assert_close(torch.stack(logits, 1), net(text), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("model", MODELS)
def test_no_byte_sees_a_later_one(model):
    net = tiny(model)
    text = torch.randint(0, 256, (1, 30), generator=torch.Generator().manual_seed(1))
    changed = text.clone()
    changed[0, 17] = (changed[0, 17] + 1) % 256
    differs = (net(text) != net(changed)).any(-1)[0]
    assert differs.nonzero().min() == 17


@pytest.mark.parametrize("model", MODELS)
def test_a_model_learns_from_every_parameter(model):
    net = tiny(model, conv=True)
    text = torch.randint(0, 256, (4, 20))
    torch.nn.functional.cross_entropy(net(text).flatten(0, 1), text.flatten()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_an_untrained_model_expects_every_byte_alike():
    for model in MODELS:
        text = torch.randint(0, 256, (4, 50))
        loss = torch.nn.functional.cross_entropy(tiny(model)(text).flatten(0, 1), text.flatten())
        assert loss.item() / math.log(2) == pytest.approx(8.0, abs=0.1)


def test_a_memory_of_constant_size_and_one_that_grows():
    sizes = {m: [memory_bytes(tiny(m).begin(2, length)) for length in (10, 1000)] for m in MODELS}
    assert sizes["mcsd"][0] == sizes["mcsd"][1]
    assert sizes["transformer"][1] == 100 * sizes["transformer"][0]


def test_a_full_cache_says_so():
    net = tiny("transformer")
    _, memory = net.step(torch.tensor([1]), net.begin(1, 1))
    with pytest.raises(UserError, match="room for 1 bytes"):
        net.step(torch.tensor([1]), memory)


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("preset", ["extended", "paper"])
def test_products_in_bfloat16_leave_rates_and_state_in_float32(preset, conv):
    net, exact = (tiny("mcsd", preset=preset, conv=conv) for _ in range(2))
    net.cast_products(torch.bfloat16)
    assert isinstance(net.trunk, MCSDTrunk)
    assert {b.dtype for n, b in net.named_parameters() if "rate" in n or "angle" in n} <= {torch.float32}
    memory, wanted = net.begin(2, 64), exact.begin(2, 64)
    with torch.no_grad():
        for byte in torch.randint(0, 256, (64, 2), generator=torch.Generator().manual_seed(2)):
            logits, memory = net.step(byte, memory)
            expected, wanted = exact.step(byte, wanted)
    assert memory.dtype is torch.float32
    assert logits.dtype is torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.03)


@pytest.mark.parametrize("model", MODELS)
def test_a_loop_feeds_its_own_bytes_back(model):
    net = tiny(model)
    with torch.no_grad():
        loop = decoding.Loop(net, net.begin(2, 64), 2)
        loop.call()
        byte, memory = torch.zeros(2, dtype=torch.long), net.begin(2, 64)
        for _ in range(decoding.STEPS):
            logits, memory = net.step(byte, memory)
            byte = logits.argmax(-1)
    assert loop.byte.tolist() == byte.tolist()
    if model == "mcsd":
        torch.testing.assert_close(loop.memory, memory)


def test_the_steps_timed_by_length_are_real_and_consecutive():
    net, called = tiny("mcsd"), 0
    step = net.step

    def counting(*arguments):
        nonlocal called
        called += 1
        return step(*arguments)

    net.step = counting  # type: ignore[method-assign]
    rows = decoding.by_length(net, 1, [50, 16], "cpu")
    assert [r["length"] for r in rows] == [16, 50]
    assert [r["timed_steps"] for r in rows] == [16, 52]  # in whole loops
    assert called == 52 + decoding.STEPS  # and one loop to warm up


def test_steps_of_a_growing_cache_are_timed_at_evenly_spaced_lengths_and_when_it_is_full():
    net, used = tiny("transformer"), []
    step = net.step

    def watching(byte, memory):
        used.append(memory.used)
        return step(byte, memory)

    net.step = watching  # type: ignore[method-assign]
    row = decoding.growing(net, 2, 80, "cpu", 4, {"math": 1.0, "flash": None})
    assert sorted(set(used)) == sorted({first + i for first in (8, 28, 48, 68, 76) for i in range(decoding.STEPS)})
    assert row["attention"] == "math"
    assert row["ms_per_token"] * row["tokens_per_s"] == pytest.approx(2000)


def test_only_attention_kernels_that_exist_have_a_time():
    times = decoding.attention_times(tiny("transformer"), 1, 32, "cpu")
    assert times["math"] is not None
    assert times["cudnn"] is None


def test_the_command_prints_rows_and_writes_three_plots(capsys, tmp_path):
    assert main(["bench", "generate", *TINY, "--json", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["device"] == "cpu"
    measured = {(r["model"], r["length"], r["batch"]) for r in result["rows"]}
    shared = {(16, 1), (64, 1), (16, 2)}
    assert measured == {(m, *cell) for m in MODELS for cell in shared} | {("mcsd", 16, 3)}
    for row in result["rows"]:
        assert {"model", "batch", "length", "ms_per_token", "tokens_per_s", "peak_bytes"} <= row.keys()
        assert row["ms_per_token"] > 0
    assert json.loads((tmp_path / "generate.json").read_text()) == result
    for name in ("memory", "latency", "throughput"):
        assert (tmp_path / f"generate_{name}.png").read_bytes().startswith(b"\x89PNG")


def test_help_comes_without_torch():
    code = "import mcsd_agent.cli as c, sys; c._parser(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_what_does_not_fit_is_a_row_without_numbers(capsys, monkeypatch, tmp_path):
    growing = decoding.growing

    def small(model, batch, length, *rest):
        if batch * length > 20:
            raise torch.OutOfMemoryError
        return growing(model, batch, length, *rest)

    monkeypatch.setattr(decoding, "growing", small)
    assert main(["bench", "generate", *TINY, "--json", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    refused = [r for r in result["rows"] if r.get("out_of_memory")]
    assert {(r["model"], r["batch"], r["length"]) for r in refused} == {("transformer", 1, 64), ("transformer", 2, 16)}
    assert all(r[k] is None for r in refused for k in ("ms_per_token", "tokens_per_s", "peak_bytes"))
    assert [e["batch"] for e in result["headline"]["throughput"]] == [1]


def test_the_headline_compares_at_the_largest_batch_that_both_held():
    def row(model, batch, length, tokens, peak=1):
        ms = 1000 * batch / tokens
        return dict(model=model, batch=batch, length=length, ms_per_token=ms, tokens_per_s=tokens, peak_bytes=peak)

    refused = dict.fromkeys(("ms_per_token", "tokens_per_s", "peak_bytes"))
    rows = [
        *(row("mcsd", 1, n, 10) for n in (2, 4)),
        *(row("transformer", 1, n, 8 / n, peak=n) for n in (2, 4)),
        row("mcsd", 2, 4, 20),
        row("mcsd", 8, 4, 60),
        {"model": "transformer", "batch": 2, "length": 4, **refused, "out_of_memory": True},
    ]
    found = headline(rows)
    assert found["mcsd"] == {"lengths": [2, 4], "memory_ratio": 1.0, "latency_ratio": 1.0}
    assert found["transformer"] == {"lengths": [2, 4], "memory_ratio": 2.0, "latency_ratio": 2.0}
    assert found["throughput"][1] == dict(length=4, batch=1, ratio=5.0, largest_batch=8, ratio_of_maxima=30.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lengths", "3"], "--lengths 3"),
        (["--batches", "0"], "--batches 0"),
        (["--width", "20"], "width=20"),
        (["--layers", "0"], "layers=0"),
    ],
)
def test_sizes_that_cannot_be_are_refused_in_one_line(arguments, message, capsys):
    assert main(["bench", "generate", "--device", "cpu", "--quiet", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
