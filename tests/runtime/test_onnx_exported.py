"""Layers as torch's exporter writes them: torch, onnxruntime and the numpy engine agree."""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from runtime.onnx_models import read
from torch import Tensor, nn

from mcsd_agent.export.onnx_step import quiet, stripped
from mcsd_agent.runtime.native_program import is_compiled
from mcsd_agent.runtime.onnx_native import NativeEngine
from mcsd_agent.runtime.onnx_numpy import NumpyEngine


class Zoo(nn.Module):
    """One policy step that uses every kind of layer somebody may put into an encoder or a backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, padding=1, groups=2), nn.GELU()
        )
        self.image_out = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16), nn.ELU())
        self.words, self.labels = nn.Embedding(20, 16, padding_idx=0), nn.Embedding(14, 4)
        self.gru, self.lstm = nn.GRU(16, 16, batch_first=True), nn.LSTM(16, 16, num_layers=2, batch_first=True)
        self.layer_norm, self.rms_norm, self.group_norm = nn.LayerNorm(16), nn.RMSNorm(16), nn.GroupNorm(2, 4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.vector, self.cell, self.head = nn.Linear(5, 16), nn.GRUCell(16, 16), nn.Linear(16, 9)
        self.rays = nn.Conv1d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool1d(2)
        self.blocks = nn.Parameter(torch.randn(4, 4, 4))
        self.register_buffer("mask", torch.full((5, 5), -torch.inf).triu(1))

    def forward(
        self, vector: Tensor, image: Tensor, text: Tensor, labels: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        x = self.vector(vector) + self.image_out(self.image(image.permute(0, 3, 1, 2).float() / 255))
        words, said = self.words(text), (text != 0).unsqueeze(-1)
        x = x + (words * said).sum(1) / said.sum(1).clamp(min=1)
        rays = self.pool(F.leaky_relu(self.group_norm(self.rays(self.labels(labels).transpose(1, 2))))).amax(-1)
        h0, c0 = state[:, :2].transpose(0, 1).contiguous(), state[:, 2:4].transpose(0, 1).contiguous()
        read, h = self.gru(words, state[:, 4][None].contiguous())
        sequence, (hn, cn) = self.lstm(words, (h0, c0))
        attended, _ = self.attention(self.layer_norm(sequence), read, read, attn_mask=self.mask, need_weights=False)
        y = self.rms_norm(x + attended[:, -1]) * F.silu(read[:, -1]) + F.softplus(hn[0])
        grouped = torch.einsum("bci,cij->bcj", y.view(-1, 4, 4), self.blocks)
        u, v = torch.chunk(grouped.flatten(1), 2, -1)
        y = torch.cat([torch.exp(-u.abs()) * torch.cos(v), torch.sin(u)], -1) + F.pad(rays, (0, 12))
        n = self.cell(y, h[0])
        logits = torch.log_softmax(self.head(n), -1)
        best = logits.argmax(-1, keepdim=True)
        near = (torch.arange(9) - best).abs() <= 1
        action = torch.where(near, logits.exp(), 0.0).sum(-1, keepdim=True) + F.one_hot(best[:, 0], 9).float().cumsum(
            -1
        )
        return torch.minimum(action, torch.tensor(5.0)), torch.stack([*hn, *cn, n], 1)


@pytest.mark.parametrize("opset", [18, 20])
def test_exported_layers_agree_between_engines(opset: int) -> None:
    torch.manual_seed(0)
    zoo = Zoo().eval()
    names = ["vector", "image", "text", "labels", "state"]
    rng = np.random.default_rng(0)

    def draw() -> dict[str, np.ndarray]:
        return {
            "vector": rng.normal(size=(1, 5)).astype(np.float32),
            "image": rng.integers(0, 256, (1, 16, 16, 3)).astype(np.uint8),
            "text": rng.integers(0, 20, (1, 5)),
            "labels": rng.integers(0, 14, (1, 6)),
            "state": rng.normal(size=(1, 5, 16)).astype(np.float32),
        }

    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            zoo,
            tuple(torch.from_numpy(a) for a in draw().values()),
            input_names=names,
            output_names=["action", "next_state"],
            dynamo=True,
            opset_version=opset,
            verbose=False,
        )
    assert program is not None
    data = stripped(program.model_proto)
    session, engine = onnxruntime.InferenceSession(data), NumpyEngine(read(data), steady=["text"])
    native = NativeEngine(read(data), steady=["text"]) if is_compiled() else engine
    for _ in range(20):
        arrays = draw()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error")
            expected = zoo(*(torch.from_numpy(a) for a in arrays.values()))
            found = engine.run(arrays)
        for n, c, o, t in zip(found, native.run(arrays), session.run(None, arrays), expected, strict=True):
            np.testing.assert_allclose(n, o, atol=2e-6)
            np.testing.assert_allclose(c, o, atol=2e-6)
            np.testing.assert_allclose(n, t.numpy(), atol=2e-6)
