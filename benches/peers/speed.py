"""The other side of `cargo xtask race --speed`: PyTorch's training and sampling steps.

    speed.py FOLDER NETWORK VARIANT check BATCH
    speed.py FOLDER NETWORK VARIANT train BATCH STEPS
    speed.py FOLDER NETWORK VARIANT sample BATCH STEPS
    speed.py FOLDER NETWORK VARIANT product N STEPS

FOLDER is written by `step FOLDER NETWORK write BATCH` (benches/examples/step.rs). Its weights are loaded
into diffusers' U-Net. `check` compares the results of both networks for one batch and counts
operations. The others print one JSON line per step, as `step` does. VARIANT is eager, channels_last,
compile or bf16.
"""

import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
LAYOUTS = {"channels_last": torch.channels_last}

# `UNetConfig` of `Race::new`, with diffusers' keys, and the number of parameters.
COMMON = dict(
    layers_per_block=2,
    attention_head_dim=None,
    dropout=0.0,
    norm_num_groups=32,
    norm_eps=1e-6,
    downsample_padding=0,
    flip_sin_to_cos=False,
    freq_shift=1,
)


def levels(*attention):
    return dict(
        down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        up_block_types=["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)],
    )


NETWORKS = {
    "mnist": (
        dict(sample_size=28, in_channels=1, out_channels=1, block_out_channels=[64, 128, 128])
        | levels(False, True, False),
        6_469_889,
    ),
    "cifar10": (
        dict(sample_size=32, in_channels=3, out_channels=3, block_out_channels=[128, 256, 256, 256])
        | levels(False, True, False, False),
        35_746_307,
    ),
}


def alpha_bars():
    """T = 1000, β from 1e-4 to 0.02."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return torch.cumprod(1.0 - betas, 0)


class Race:
    def __init__(self, folder, network, variant):
        torch.set_num_threads(THREADS)
        torch.set_num_interop_threads(1)
        config, parameters = NETWORKS[network]
        self.unet = UNet2DModel(**COMMON, **config)
        found = sum(p.numel() for p in self.unet.parameters())
        assert found == parameters, f"{found} parameters, not {parameters}"
        weights = load_file(folder / "step-00000000" / "model.safetensors")
        self.unet.load_state_dict(weights, strict=True)
        self.data = load_file(folder / "batch.safetensors")
        self.layout = LAYOUTS.get(variant, torch.contiguous_format)
        self.unet.to(memory_format=self.layout)
        self.bf16 = variant == "bf16"
        self.forward = torch.compile(self.unet) if variant == "compile" else self.unet
        self.row = self.data["noise"].shape[1:]

    def network(self, x, t):
        with torch.autocast("cpu", dtype=torch.bfloat16) if self.bf16 else nullcontext():
            return self.forward(x, t, return_dict=False)[0]

    def images(self, name, batch):
        images = self.data[name]
        assert len(images) >= batch, f"the folder was written for a batch of {len(images)}"
        return images[:batch].to(memory_format=self.layout)

    def loss(self, batch):
        """A function without arguments: the mean loss of the batch, as in `Race::gradients`."""
        x0, eps = self.images("x0", batch), self.images("eps", batch)
        t = self.data["t"][:batch].long()
        alpha_bar = alpha_bars()[t].view(-1, 1, 1, 1)
        a, b = alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()

        def loss():
            output = self.network(a * x0 + b * eps, t)
            return (eps - output.float()).square().mean()

        return loss

    def states(self, x):
        """DDIM-50 from x, as in `Race::states`: the states after each step."""
        alpha_bar = alpha_bars()
        times = list(range(999, -1, -20))
        for t, s in zip(times, times[1:] + [None]):
            a, b = float(alpha_bar[t].sqrt()), float((1 - alpha_bar[t]).sqrt())
            clean = alpha_bar[t].new_ones(()) if s is None else alpha_bar[s]
            a_s, b_s = float(clean.sqrt()), float((1 - clean).sqrt())
            eps = self.network(x, torch.full([len(x)], t)).float()
            x0 = ((x - b * eps) / a).clamp(-1, 1)
            x = a_s * x0 + b_s / b * (x - a * x0)
            yield x

    def check(self, batch):
        """Exits with 1 if this network differs from the one that wrote the folder."""
        with torch.inference_mode():
            t = self.data["t"][:batch].long()
            output = self.network(self.images("x_t", batch), t).float()
            *_, sample = self.states(self.data["noise"])
        loss = self.loss(batch)()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.unet.parameters(), float("inf"))
        # Rounding differs between the implementations. Loss and norm average it out; fifty steps of
        # sampling accumulate it.
        found = [
            ("output", output, 1e-4),
            ("loss", loss.detach(), 1e-4),
            ("grad_norm", norm, 1e-4),
            ("sample", sample, 1e-2),
        ]
        failed = False
        for name, theirs, limit in found:
            ours = self.data[name][: len(theirs)] if theirs.dim() else self.data[name][0]
            difference = float((ours - theirs).abs().max())
            relative = difference / float(ours.abs().max())
            failed |= not relative <= limit
            line = dict(compared=name, max_abs=difference, relative=relative, limit=limit)
            print(json.dumps(line), flush=True)
        self.count()
        sys.exit("the two networks differ" if failed else 0)

    def count(self):
        """Prints billions of operations of the direct algorithms, for one image."""
        with FlopCounterMode(display=False) as counter:
            loss = self.loss(1)()
            sample = counter.get_total_flops()
            loss.backward()
            train = counter.get_total_flops()
        print(json.dumps(dict(gflop_sample=sample / 1e9, gflop_train=train / 1e9)), flush=True)

    def train(self, batch, steps):
        parameters = list(self.unet.parameters())
        average = [p.detach().clone() for p in parameters]
        adamw = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.01, foreach=True)
        loss = self.loss(batch)
        for step in range(1, steps + 1):
            start = time.perf_counter()
            value = loss()
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
            adamw.step()
            adamw.zero_grad(set_to_none=True)
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1 - 0.999)
            value.item()
            report(step, start)

    def sample(self, batch, steps):
        with torch.inference_mode():
            x = torch.randn(batch, *self.row).to(memory_format=self.layout)
            states = self.states(x)
            for step in range(1, steps + 1):
                start = time.perf_counter()
                next(states)
                report(step, start)


    def product(self, n, steps):
        a, b = torch.randn(n, n), torch.randn(n, n)
        with torch.inference_mode():
            for step in range(1, steps + 1):
                start = time.perf_counter()
                a @ b
                report(step, start)


def report(step, start):
    ms = (time.perf_counter() - start) * 1e3
    print(json.dumps(dict(step=step, ms=round(ms, 3), peak_mib=peak_mib())), flush=True)


def peak_mib():
    """The peak resident memory of this process, where the system reports it (Linux)."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def main():
    folder, network, variant, case, *numbers = sys.argv[1:]
    race = Race(Path(folder), network, variant)
    cases = dict(
        check=race.check, train=race.train, sample=race.sample, product=race.product
    )
    cases[case](*map(int, numbers))


if __name__ == "__main__":
    main()
