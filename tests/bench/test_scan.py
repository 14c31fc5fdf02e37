"""`bench scan`: equal parameters, floors, memory, and the form of the result. No times are judged."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from mcsd_agent.bench.scan import MODELS, add_arguments, describe, run, run_scan_benchmark
from mcsd_agent.bench.scan_floors import Product, Products
from mcsd_agent.bench.scan_memory import peak_bytes
from mcsd_agent.bench.scan_models import Pass, Task, build, count, equal_width
from mcsd_agent.errors import UserError

# What measures is used by few, and takes its time.
pytestmark = pytest.mark.thorough

KEYS = {
    "model",
    "T",
    "B",
    "D",
    "params",
    "tokens_per_s",
    "peak_bytes",
    "ratio_to_gemm_floor",
    "ratio_to_bandwidth_floor",
}


def task(model: str, length: int = 16, batch: int = 2, starts_every: int | None = None) -> Task:
    return Task(model, "cpu", length, batch, 32, 2, "float32", 0, starts_every)


@pytest.fixture(scope="module")
def result():
    return run_scan_benchmark("cpu", [8, 32], MODELS, tokens=64, width=32, layers=1, repeats=2, memory=False)


def test_there_is_a_row_per_model_and_length_and_one_with_episode_starts(result):
    assert set(result) == {"rows", "device"}
    plain = [(r["model"], r["T"]) for r in result["rows"] if r["starts_every"] is None and r["T"] != 512]
    assert sorted(plain) == sorted((m, t) for m in MODELS for t in (8, 32))
    for starts_every, models in ((None, ["lstm", "mcsd-extended"]), (50, ["lstm", "lstm-by-step", "mcsd-extended"])):
        rest = [r["model"] for r in result["rows"] if r["T"] == 512 and r["starts_every"] == starts_every]
        assert sorted(rest) == models
    assert all(set(r) >= KEYS for r in result["rows"])
    assert json.loads(json.dumps(result)) == result


def test_tokens_stay_the_same_and_floors_are_positive(result):
    for row in result["rows"]:
        assert row["B"] * row["T"] == max(64, row["T"])
        assert min(row["tokens_per_s"], row["ratio_to_gemm_floor"], row["gemm_seconds"]) > 0
        assert row["ratio_to_bandwidth_floor"] is None, "there is no such floor on a CPU"


def test_the_table_has_a_line_per_row(result):
    assert len(describe(result["rows"]).splitlines()) == 2 + len(result["rows"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("width", "layers"), [(128, 2), (512, 2), (512, 12)])
def test_models_have_equal_parameters(model, width, layers):
    with torch.device("meta"):
        target = count(build("mcsd-extended", width, layers, 1))
        found = count(build(model, equal_width(model, width, layers), layers, 1))
    # Channels of MCSD and heads of a transformer have to divide the width.
    assert abs(found / target - 1) < (0.03 if model in ("mcsd-paper", "transformer") else 0.02)


@pytest.mark.parametrize("model", ["mcsd-extended", "mcsd-paper", "transformer", "mingru", "lstm"])
def test_the_products_of_a_pass_are_those_of_its_weights_forward_and_twice_backward(model):
    run_pass = Pass(task(model))
    products = Products.of(run_pass).products
    multiplied = sum(p.batch * p.rows * p.inner * p.columns for p in products)
    rates = ("log_decay_rate", "angle")  # per channel and feature, but nothing is multiplied by them
    weights = [p for name, p in run_pass.model.named_parameters() if not name.endswith(rates)]
    matrices = sum(p.numel() for p in weights if p.dim() >= 2)
    assert multiplied == 3 * 2 * 16 * matrices  # two sequences of 16 tokens


def test_products_run_without_changing_shape_or_layout():
    wide = Product(1, 5, 7, 3, True, False, torch.float32)
    many = Product(4, 5, 7, 3, False, True, torch.float32)
    products = Products([wide, many, wide], torch.device("cpu"))
    assert products.seconds() > 0


def test_the_peak_is_what_a_pass_has_to_keep_and_little_more():
    peak = peak_bytes(task("none", 512, batch=64))
    if peak is None:  # no Linux
        return
    # Float32 numbers that the gradient needs: per layer the norm's result, 4 D of the MLP's first product, 2 D gated.
    kept = 64 * 512 * equal_width("none", 32, 2) * 4 * (1 + 2 * 7)
    assert kept < peak < 4 * kept


def test_episode_starts_come_at_different_times_and_always_as_far_apart():
    starts = Pass(task("lstm", 120, 4, starts_every=50)).starts
    first = starts.float().argmax(1).tolist()
    assert len(set(first)) == 4
    for row in starts:
        assert set(row.nonzero().flatten().diff().tolist()) == {50}


def test_an_lstm_cut_where_episodes_start_and_one_by_step_compute_the_same():
    cut, by_step = (Pass(task(model, 20, 3, starts_every=7)) for model in ("lstm", "lstm-by-step"))
    by_step.model.load_state_dict(cut.model.state_dict())
    with torch.no_grad():
        expected, measured = (p.model.scan(cut.tokens, cut.state, cut.starts) for p in (cut, by_step))
    for x, y in zip(measured, expected, strict=True):
        torch.testing.assert_close(x, y)


def test_a_pass_leaves_no_gradients_behind():
    run_pass = Pass(task("mingru"))
    run_pass()
    assert run_pass.tokens.grad is None
    assert all(p.grad is None for p in run_pass.model.parameters())


def test_the_command_draws_its_result(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = "--device cpu --lengths 8 --models gru --tokens 32 --width 32 --layers 1 --repeats 1"
    out = tmp_path / "plots" / "scan.png"
    found = run(parser.parse_args([*options.split(), "--out", str(out)]))
    assert [r["peak_bytes"] is None or r["peak_bytes"] > 0 for r in found["rows"]] == [True]
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "gru" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"models": ["grru"]}, "did you mean 'gru'"),
        ({"lengths": [0]}, "lengths=0 must be at least 1"),
        ({"repeats": 0}, "repeats=0"),
        ({"width": 24}, "multiple of 16"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"device": "tpu"}, "device='tpu'"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        run_scan_benchmark(**({"device": "cpu", "memory": False} | arguments))
