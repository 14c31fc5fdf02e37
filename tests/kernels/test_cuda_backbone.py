"""The whole stack as it runs on CUDA: values, gradients, what it keeps for the backward pass, its products."""

from __future__ import annotations

import copy

import pytest
import torch

from mcsd_agent import backbone
from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.bench.scan_floors import _Recorder
from mcsd_agent.cell import MCSDConfig
from mcsd_agent.kernels import cuda_mlp, cuda_sections, mlp_operators, operators, row_library, row_operators

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WIDTH, LAYERS = 16, 2


@pytest.fixture
def kernels(monkeypatch):
    """Calling it makes sure that kernels run: on tensors of a CPU those of CUDA, in the interpreter."""

    def force():
        monkeypatch.setattr(cuda_mlp, "_TOKENS", 16)
        monkeypatch.setattr(row_operators, "_LEAST_ON_CUDA", 0)
        if DEVICE == "cuda":
            return
        monkeypatch.setattr(row_operators, "takes", lambda *tensors: True)
        monkeypatch.setattr(row_operators, "_leaves_weight", lambda rows: True)
        monkeypatch.setattr(row_operators, "product_dtype", result_dtype)
        monkeypatch.setattr(backbone, "takes_mlp", lambda *tensors: True)
        monkeypatch.setattr(backbone, "pieces_for", lambda *sizes: 2)  # or the CPU's own path for the stack
        monkeypatch.setattr(operators, "fused", lambda x: True)

    return force


@pytest.fixture(scope="module", autouse=DEVICE == "cpu")
def cuda_operators_take_cpu_tensors():
    rows, mix = torch.library.Library("mcsd_rows", "IMPL"), torch.library.Library("mcsd", "IMPL")
    mlp = torch.library.Library("mcsd_mlp", "IMPL")
    for name in ("norm", "add_norm", "norm_backward"):
        rows.impl(name, getattr(row_library, f"_cuda_{name}"), "CPU", allow_override=True)
    mlp.impl("forward", mlp_operators._forward, "CPU")
    mlp.impl("backward", mlp_operators._backward, "CPU")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "_kernels", lambda device: cuda_sections)
        yield rows, mix, mlp


def result_dtype(x):
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def problem(preset, batch, time):
    """A stack whose norms have weights, tokens, and a gradient."""
    torch.manual_seed(0)
    net = MCSDBackbone(MCSDConfig.preset(preset, width=WIDTH, channels=2), LAYERS)
    with torch.no_grad():
        for norm in net.norms:
            norm.weight.add_(0.3 * torch.randn(WIDTH))
    shape = batch, time, WIDTH
    return net.to(DEVICE), torch.randn(shape).to(DEVICE), torch.randn(shape).to(DEVICE)


def run(net, xs, outer, autocast=False):
    xs = xs.clone().requires_grad_()
    net.zero_grad()
    state = xs.new_zeros(xs.shape[0], LAYERS, net.state_size)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
        ys, final = net.scan(xs, state)
    torch.autograd.backward((ys, final), (outer.to(ys.dtype), torch.ones_like(final)))
    grads = {name: p.grad for name, p in net.named_parameters()}
    return {"outputs": ys.detach(), "final": final.detach(), "tokens": xs.grad, **grads}


@pytest.mark.parametrize(
    ("preset", "autocast"),
    [
        ("extended", True),
        ("paper", False),
        pytest.param("extended", False, marks=pytest.mark.slow),
        pytest.param("paper", True, marks=pytest.mark.slow),
    ],
)
def test_values_and_all_gradients_equal_those_in_float64(preset, autocast, kernels):
    net, xs, outer = problem(preset, 2, 21)
    expected = run(copy.deepcopy(net).double(), xs.double(), outer.double())
    kernels()
    measured = run(net, xs, outer, autocast)
    assert measured["outputs"].dtype == (torch.bfloat16 if autocast else torch.float32)
    for name, y in expected.items():
        deviation = (measured[name].double() - y).norm() / y.norm()
        assert deviation < (3e-2 if autocast else 1e-5), f"{name}: {deviation:.1e}"
        assert name == "outputs" or measured[name].dtype == torch.float32


def test_a_token_costs_the_memory_that_its_gradients_need(kernels):
    kernels()

    def kept(time):
        net, xs, _ = problem("extended", 1, time)
        found = {}

        def pack(x):
            storage = x.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), torch.autocast(DEVICE, torch.bfloat16):
            ys = net.scan(xs.requires_grad_(), xs.new_zeros(1, LAYERS, net.state_size))[0]
        assert ys.requires_grad
        return sum(found.values())

    # Per layer, numbers of 2 bytes: two norms, 5 projections, gated sections, h. States between chunks, in float32,
    # and what rows were multiplied with. At the end the sum that the last norm is taken of.
    plan = cuda_sections.tile("backward", 2, WIDTH // 2, 256)
    layer = WIDTH * 2 * (2 + 5 + 2 + 4) + WIDTH * 2 * 4 / (plan.segments * plan.run) + 2 * 4
    assert (kept(512) - kept(256)) / 256 == LAYERS * layer + WIDTH * 4 + 4


def test_the_floor_counts_the_products_inside_the_mlp(kernels):
    def multiplications():
        net, xs, outer = problem("extended", 1, 32)
        with _Recorder() as recorder:
            run(net, xs, outer, True)
        return sum(p.batch * p.rows * p.inner * p.columns for p in recorder.found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_operators, "takes", lambda *tensors: False)
        patch.setattr(operators, "fused", lambda x: False)
        patch.setattr(backbone, "fused", lambda x: False)
        expected = multiplications()
    kernels()
    assert multiplications() == expected


def test_compiled_it_agrees(kernels):
    kernels()
    net, xs, outer = problem("extended", 2, 20)
    expected = run(net, xs, outer)
    compiled = copy.deepcopy(net)
    compiled.scan = torch.compile(compiled.scan, backend="aot_eager", fullgraph=True)
    for name, x in run(compiled, xs, outer).items():
        torch.testing.assert_close(x, expected[name], msg=name)


def test_second_derivatives_are_refused_clearly(kernels):
    kernels()
    net, xs, _ = problem("extended", 1, 8)
    x = xs.requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(net.mlps[0](x).sum(), x, create_graph=True)


def test_the_operators_keep_the_rules_that_compilation_relies_on():
    rows, wide, narrow = (torch.randn(5, 8 * n, device=DEVICE) for n in (1, 2, 1))
    inward, outward, inverse = torch.randn(16, 8, device=DEVICE), torch.randn(8, 8, device=DEVICE), rows[:, 0].exp()
    rules = ("test_schema", "test_faketensor")
    for dtype in (None, torch.float32):
        inputs = (narrow, rows, wide, inward, outward, dtype)
        torch.library.opcheck(torch.ops.mcsd_mlp.backward.default, inputs, test_utils=rules)
    torch.library.opcheck(torch.ops.mcsd_mlp.forward.default, (rows, inward, outward), test_utils=rules)
    for weight, other in ((None, torch.bfloat16), (inward[0], torch.float32)):
        inputs = (None, narrow, rows, inverse, weight, torch.float32, other)
        torch.library.opcheck(torch.ops.mcsd_rows.norm_backward.default, inputs, test_utils=rules)


def test_only_what_learns_has_gradients(kernels):
    kernels()
    net, xs, outer = problem("extended", 1, 20)
    expected = run(net, xs, outer)["tokens"]
    frozen = copy.deepcopy(net).requires_grad_(False)
    torch.testing.assert_close(run(frozen, xs, outer)["tokens"], expected)
    assert all(p.grad is None for p in frozen.parameters())
