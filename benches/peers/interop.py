"""The other side of `cargo xtask interop`: diffusers' networks, and what they make of ours.

    interop.py list                    the names of the cases, one a line
    interop.py make FOLDER CASE        FOLDER/theirs and FOLDER/inputs.safetensors
    interop.py compare FOLDER          once benches/examples/interop.rs has added FOLDER/ours
    interop.py fixtures FOLDER         the small cases that the tests read

`compare` prints a JSON line for each of the two sets of weights and each quantity: the largest
absolute difference, and the same relative to the largest absolute value of this side.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel, logging
from safetensors.torch import load_file, save_file

D, AD, U, AU = "DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"

# Two levels on 8×8 pixels; each case changes what its name says.
SMALL = dict(
    sample_size=8,
    in_channels=3,
    out_channels=3,
    block_out_channels=[16, 32],
    layers_per_block=1,
    down_block_types=[D, AD],
    up_block_types=[AU, U],
    norm_num_groups=4,
    attention_head_dim=8,
)

CIFAR10 = dict(
    sample_size=32,
    in_channels=3,
    out_channels=3,
    block_out_channels=[128, 256, 256, 256],
    layers_per_block=2,
    down_block_types=[D, AD, D, D],
    up_block_types=[U, U, AU, U],
    attention_head_dim=None,
    norm_num_groups=32,
    norm_eps=1e-6,
    downsample_padding=0,
    flip_sin_to_cos=False,
    freq_shift=1,
    dropout=0.0,
)

CASES = {
    "plain": (SMALL, {}),
    "full-width head": (SMALL | dict(attention_head_dim=None), dict(layout="flat")),
    "DDPM's embedding": (SMALL | dict(flip_sin_to_cos=False, freq_shift=1, downsample_padding=0), {}),
    "scale and shift": (SMALL | dict(resnet_time_scale_shift="scale_shift"), {}),
    "scale and shift, normed": (
        SMALL | dict(resnet_time_scale_shift="scale_shift", attn_norm_num_groups=4),
        {},
    ),
    "classes": (SMALL | dict(num_class_embeds=5), dict(layout="bin")),
    "no attention below": (SMALL | dict(add_attention=False, norm_eps=1e-3), {}),
    "three levels, three layers": (
        SMALL
        | dict(
            block_out_channels=[8, 16, 24],
            layers_per_block=3,
            down_block_types=[AD, D, D],
            up_block_types=[U, AU, U],
        ),
        dict(layout="sharded"),
    ),
    "centred, rescaled": (SMALL | dict(center_input_sample=True, mid_block_scale_factor=1.5), {}),
    "mish": (SMALL | dict(act_fn="mish"), {}),
    "gelu": (SMALL | dict(act_fn="gelu"), {}),
    "relu": (SMALL | dict(act_fn="relu", in_channels=1, out_channels=1), {}),
    "f16": (SMALL, dict(dtype=torch.float16)),
    "bf16": (SMALL, dict(dtype=torch.bfloat16, layout="bin")),
    "old names": (SMALL, dict(layout="old")),
    "not square": (SMALL | dict(sample_size=[8, 12]), {}),
    "CIFAR-10, 35.7M": (CIFAR10, dict(layout="flat")),
}

# The same for files in the repository, which are to be small.
TINY = SMALL | dict(block_out_channels=[4, 8], norm_num_groups=2, attention_head_dim=4)

FIXTURES = {
    "flat": (
        TINY
        | dict(
            attention_head_dim=None,
            norm_eps=1e-6,
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
        ),
        dict(layout="flat"),
    ),
    "pickled": (
        TINY | dict(resnet_time_scale_shift="scale_shift", num_class_embeds=3, act_fn="gelu"),
        dict(layout="bin"),
    ),
    "sharded": (
        TINY
        | dict(
            center_input_sample=True,
            mid_block_scale_factor=1.5,
            act_fn="mish",
            up_block_types=[U, AU],
        ),
        dict(layout="sharded", dtype=torch.float16),
    ),
    "old": (
        TINY | dict(layers_per_block=2, act_fn="relu", sample_size=[8, 12], add_attention=False),
        dict(layout="old", dtype=torch.bfloat16),
    ),
}

OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def save(unet, folder, layout):
    """Writes a pipeline's folder in one of the layouts that there are."""
    if layout in ("nested", "old"):
        pipeline = DDPMPipeline(unet, DDPMScheduler())
        pipeline.save_pretrained(folder)
    if layout == "old":
        file = folder / "unet" / "diffusion_pytorch_model.safetensors"
        weights = load_file(file)
        for new, old in OLD.items():
            weights = {name.replace(f".{new}.", f".{old}."): w for name, w in weights.items()}
        save_file(weights, file, metadata=dict(format="pt"))
    if layout == "flat":
        unet.save_pretrained(folder)
    if layout == "bin":
        unet.save_pretrained(folder, safe_serialization=False)
    if layout == "sharded":
        size = sum(p.numel() * p.element_size() for p in unet.parameters())
        unet.save_pretrained(folder, max_shard_size=size // 2)


def make(folder, config, options):
    torch.manual_seed(0)
    dtype = options.get("dtype", torch.float32)
    unet = UNet2DModel(**config).to(dtype)
    save(unet, folder / "theirs", options.get("layout", "nested"))
    size = config["sample_size"]
    height, width = size if isinstance(size, list) else (size, size)
    shape = [2, config["in_channels"], height, width]
    inputs = dict(
        x=torch.randn(shape),
        t=torch.tensor([3.0, 700.0]),
        target=torch.randn(shape),
        noise=torch.randn(shape),
    )
    if config.get("num_class_embeds"):
        inputs["classes"] = torch.tensor([0.0, config["num_class_embeds"] - 1.0])
    save_file(inputs, folder / "inputs.safetensors")


class Network:
    """A folder's network on a folder's inputs, in f32."""

    def __init__(self, weights, inputs):
        nested = weights / "unet"
        weights = nested if nested.is_dir() else weights
        self.unet = UNet2DModel.from_pretrained(
            weights, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
        # Dropout is another matter.
        self.unet.eval()
        self.inputs = load_file(inputs)
        self.options = {}
        if "classes" in self.inputs:
            self.options["class_labels"] = self.inputs["classes"].long()

    def forward(self, x, t):
        return self.unet(x, t, **self.options).sample

    def train(self):
        """The output and the gradient of its mean squared distance from the target."""
        output = self.forward(self.inputs["x"], self.inputs["t"])
        (output - self.inputs["target"]).square().mean().backward()
        gradient = {name: p.grad.contiguous() for name, p in self.unet.named_parameters()}
        return output.detach().contiguous(), gradient

    @torch.no_grad()
    def sample(self):
        """DDIM in 50 steps, ε following from the clipped x₀, as in the paper's formula and in ours."""
        scheduler = DDIMScheduler(timestep_spacing="trailing")
        scheduler.set_timesteps(50)
        x = self.inputs["noise"]
        for t in scheduler.timesteps:
            eps = self.forward(x, t)
            x = scheduler.step(eps, t, x, use_clipped_model_output=True).prev_sample
        return x.contiguous()


def compare(folder):
    for weights in ["theirs", "ours"]:
        network = Network(folder / weights, folder / "inputs.safetensors")
        output, gradient = network.train()
        images = network.sample()
        found = load_file(folder / f"{weights}.output")
        report(weights, "forward", {"": output}, {"": found["output"]})
        report(weights, "gradient", gradient, load_file(folder / f"{weights}.gradient"))
        report(weights, "DDIM-50", {"": images}, {"": found["images"]})


def report(weights, quantity, expected, found):
    """One line for all tensors: gradients are compared relative to the largest of all."""
    assert expected.keys() == found.keys(), sorted(expected.keys() ^ found.keys())
    absolute = max(float((expected[k] - found[k]).abs().max()) for k in expected)
    largest = max(float(expected[k].abs().max()) for k in expected)
    line = dict(weights=weights, quantity=quantity, absolute=absolute, relative=absolute / largest)
    print(json.dumps(line))


def fixtures(folder):
    for name, (config, options) in FIXTURES.items():
        case = folder / name
        case.mkdir(parents=True)
        make(case, config, options)
        network = Network(case / "theirs", case / "inputs.safetensors")
        output, gradient = network.train()
        images = network.sample()
        save_file(dict(output=output, images=images), case / "outputs.safetensors")
        save_file(gradient, case / "gradient.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(2)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    match sys.argv[1:]:
        case ["list"]:
            print("\n".join(CASES))
        case ["make", folder, case]:
            make(Path(folder), *CASES[case])
        case ["compare", folder]:
            compare(Path(folder))
        case ["fixtures", folder]:
            fixtures(Path(folder))
        case _:
            sys.exit(__doc__)
