"""Draw what each channel of a cell remembers of one token, by its age: `python benchmarks/impulse_responses.py`.

The weights are read off the recurrences themselves: one token of value 1, then zeros.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from mcsd_agent.cell import MCSDCell, MCSDConfig
from mcsd_agent.mixing import mix_reference


def impulse_responses(cell: MCSDCell, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight of a token `0 … steps-1` steps later, `(steps, D)` each: slope section, decay section."""
    width, channels = cell.config.width, cell.config.channels
    constants = cell.double().constants()
    values = torch.zeros(1, steps, (5 if cell.config.selective else 4) * width, dtype=torch.float64)
    values[:, 0, 2 * width : 4 * width] = 1.0
    if cell.config.rotating:  # a real number enters; the imaginary half of each channel stays 0
        values[:, 0, 3 * width : 4 * width].view(channels, 2, -1)[:, 1] = 0.0
    state = torch.zeros(1, 2 * width, dtype=torch.float64)
    normaliser = None
    if not cell.config.selective:  # in the midst of a long sequence, where the window's sum of weights has settled
        keep = torch.exp(-cell.log_slope.exp())
        normaliser = (1.0 / (1.0 - keep)).expand(1, steps, channels)
    histories = []
    for t in range(1, steps + 1):  # the state after t tokens is the history itself
        _, state_after = mix_reference(
            values[:, :t], state, None, None if normaliser is None else normaliser[:, :t], constants, channels
        )
        histories.append(state_after[0])
    slope, decay = torch.stack(histories).split(width, 1)
    if normaliser is not None:
        slope = slope / normaliser[0].repeat_interleave(width // channels, 1)
    return slope.detach(), decay.detach()


def main() -> None:
    """Draw the figure that `docs/cell.md` shows."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images/impulse_responses.png"))
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.manual_seed(0)
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    colors = plt.get_cmap("viridis")
    for axis, preset, section in ((axes[0], "paper", 0), (axes[1], "paper", 1), (axes[2], "extended", 1)):
        cell = MCSDCell(MCSDConfig.preset(preset, width=256, channels=8))
        response = impulse_responses(cell, options.steps)[section]
        age = torch.arange(1, options.steps + 1)
        for c in range(8):
            feature = 32 * c
            if preset == "extended":  # of the channel's angles the one nearest to a period of 24 steps
                feature += int((cell.angle[c] - 2 * torch.pi / 24).abs().argmin())
            weight = response[:, feature] / response[0, feature]
            offset = 2.2 * (7 - c) if preset == "extended" else 0.0
            axis.plot(age, weight + offset, color=colors(c / 8), label=f"channel {c + 1}", linewidth=1.2)
        if preset == "paper":
            axis.set(
                title=f"paper: {('slope', 'decay')[section]}", xscale="log", xlabel="age of the token in steps, plus 1"
            )
        else:
            axis.set(
                title="extended: decay, one feature a channel, apart", xlabel="age of the token in steps", yticks=[]
            )
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("weight, largest = 1")
    axes[0].legend(fontsize=7, ncols=2)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=110)
    print(options.out)


if __name__ == "__main__":
    main()
