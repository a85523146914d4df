"""The other side of `cargo xtask interop`: computes with diffusers' networks and ours.

    interop.py list                    the names of the cases, one per line
    interop.py make FOLDER CASE        FOLDER/theirs and FOLDER/inputs.safetensors
    interop.py compare FOLDER          compares, after benches/examples/interop.rs has added FOLDER/ours
    interop.py schedulers FOLDER       the same as `make`, with one loop per class of scheduler
    interop.py follow FOLDER           compares the loops, after `interop sample` has added theirs.output
    interop.py noise FOLDER            FOLDER/inputs.safetensors for FOLDER/theirs, a run's export
    interop.py grids FOLDER IMAGES     pictures side by side, after `interop sample` has sampled it
    interop.py fixtures FOLDER         the small cases that the tests read
    interop.py fuzz FOLDER             the folders and first inputs of the fuzz targets

`compare` and `grids` print one JSON line for each of the two sets of weights and each quantity: the
largest absolute difference, and the same relative to the largest absolute value of this side. `follow`
prints one for each loop, relative to the range of this side's images, with the evaluations.
"""

import inspect
import json
import sys
import warnings
from copy import deepcopy
from functools import partial
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMParallelScheduler,
    DDIMPipeline,
    DDIMScheduler,
    DDPMParallelScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepInverseScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    HeunDiscreteScheduler,
    IPNDMScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    SASolverScheduler,
    TCDScheduler,
    UNet2DModel,
    UniPCMultistepScheduler,
    UnCLIPScheduler,
    logging,
)
from diffusers.pipelines.ddim import pipeline_ddim
from diffusers.pipelines.ddpm import pipeline_ddpm
from diffusers.schedulers import scheduling_ddpm
from PIL import Image
from safetensors.torch import load_file, save_file

D, AD, U, AU = "DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"

# Two levels on 8×8 pixels. The name of each case describes its change.
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

# The same for files in the repository, which should be small.
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

# The smallest network, for files that a fuzzer can change byte by byte.
LEAST = TINY | dict(
    sample_size=4,
    in_channels=1,
    out_channels=1,
    block_out_channels=[2],
    down_block_types=[D],
    up_block_types=[U],
    norm_num_groups=1,
    attention_head_dim=1,
)

# The schedulers and their numbers of steps. Each keeps x₀ in [−1, 1]: DPM-Solver++ clips only by
# thresholding, which is the same with a maximum of 1. DDIM's spacing is trailing, because with
# others its steps do not connect (docs/peers.md).
LOOPS = {
    "DDIM-50": DDIMScheduler(timestep_spacing="trailing"),
    "DDPM-50": DDPMScheduler(timestep_spacing="trailing"),
    "DPM++-20": DPMSolverMultistepScheduler(thresholding=True, sample_max_value=1.0),
}
# ε is derived from the clipped x₀, as in the paper's formula. A file of this name passes the option
# to our side, because scheduler_config.json has no key for it.
DERIVED = "use_clipped_model_output"
OPTIONS = {"DDIM-50": {DERIVED: True}}

# Every class that ddpm supports, with the keys that differ from its defaults.
V = dict(prediction_type="v_prediction")
CLASSES = [
    (DDPMScheduler, {}),
    (DDPMScheduler, V),
    (DDPMParallelScheduler, V),
    (DDIMScheduler, {}),
    (DDIMScheduler, V),
    (DDIMParallelScheduler, V),
    (UnCLIPScheduler, {}),
    (PNDMScheduler, {}),
    (PNDMScheduler, V),
    (PNDMScheduler, V | dict(skip_prk_steps=True)),
    (IPNDMScheduler, {}),
    (EulerDiscreteScheduler, {}),
    (EulerDiscreteScheduler, V),
    (EulerDiscreteScheduler, V | dict(use_karras_sigmas=True)),
    (EulerAncestralDiscreteScheduler, {}),
    (EulerAncestralDiscreteScheduler, V),
    (HeunDiscreteScheduler, {}),
    (HeunDiscreteScheduler, V),
    (KDPM2DiscreteScheduler, {}),
    (KDPM2DiscreteScheduler, V),
    (KDPM2AncestralDiscreteScheduler, {}),
    (KDPM2AncestralDiscreteScheduler, V),
    (LMSDiscreteScheduler, {}),
    (LMSDiscreteScheduler, V),
    (DPMSolverMultistepScheduler, {}),
    (DPMSolverMultistepScheduler, V),
    (DPMSolverMultistepScheduler, V | dict(solver_order=3)),
    (DPMSolverMultistepScheduler, V | dict(solver_type="heun")),
    (DPMSolverMultistepScheduler, V | dict(algorithm_type="sde-dpmsolver++")),
    (
        DPMSolverMultistepScheduler,
        V | dict(algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
    ),
    (
        DPMSolverMultistepScheduler,
        V | dict(algorithm_type="sde-dpmsolver", final_sigmas_type="sigma_min"),
    ),
    (DPMSolverMultistepInverseScheduler, {}),
    (DPMSolverMultistepInverseScheduler, V),
    (DPMSolverSinglestepScheduler, {}),
    (DPMSolverSinglestepScheduler, V),
    (DPMSolverSinglestepScheduler, V | dict(solver_order=3)),
    (DPMSolverSinglestepScheduler, V | dict(algorithm_type="sde-dpmsolver++")),
    (
        DPMSolverSinglestepScheduler,
        V | dict(algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
    ),
    (DEISMultistepScheduler, {}),
    (DEISMultistepScheduler, V),
    (DEISMultistepScheduler, V | dict(solver_order=3)),
    (UniPCMultistepScheduler, {}),
    (UniPCMultistepScheduler, V),
    (UniPCMultistepScheduler, V | dict(solver_order=3)),
    (SASolverScheduler, {}),
    (SASolverScheduler, V),
    (LCMScheduler, {}),
    (LCMScheduler, V),
    (TCDScheduler, {}),
    (TCDScheduler, V),
    (CMStochasticIterativeScheduler, {}),
    (EDMEulerScheduler, {}),
    (EDMDPMSolverMultistepScheduler, {}),
    (EDMDPMSolverMultistepScheduler, dict(solver_order=3)),
    (EDMDPMSolverMultistepScheduler, dict(algorithm_type="sde-dpmsolver++")),
    (FlowMatchEulerDiscreteScheduler, {}),
    (FlowMatchEulerDiscreteScheduler, dict(stochastic_sampling=True)),
    (FlowMatchHeunDiscreteScheduler, {}),
    (FlowMatchLCMScheduler, {}),
]


def schedulers():
    """Every class, as in LOOPS, in twenty steps each; a name is the class and its keys."""
    name = lambda scheduler, keys: f"{scheduler.__name__} {json.dumps(keys)}-20"
    return {name(scheduler, keys): scheduler(**keys) for scheduler, keys in CLASSES}


# The size of a grid of images.
ROWS, COLUMNS = 4, 5


def steps(loop):
    return int(loop.rsplit("-")[-1])


OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def save(unet, folder, layout):
    """Writes a pipeline's folder in one of the existing layouts."""
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


def save_loop(folder, loop, scheduler):
    scheduler.save_pretrained(folder / "loops" / loop)
    if OPTIONS.get(loop, {}).get(DERIVED):
        (folder / "loops" / loop / DERIVED).touch()


def make(folder, config, options, loops=LOOPS):
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
        # The noise of each step of the longest loop.
        z=torch.randn([max(map(steps, loops)), *shape]),
    )
    if config.get("num_class_embeds"):
        inputs["classes"] = torch.tensor([0.0, config["num_class_embeds"] - 1.0])
    save_file(inputs, folder / "inputs.safetensors")
    for loop, scheduler in loops.items():
        save_loop(folder, loop, scheduler)


class Network:
    """A folder's network on a folder's inputs, in f32."""

    def __init__(self, weights, inputs):
        nested = weights / "unet"
        weights = nested if nested.is_dir() else weights
        self.unet = UNet2DModel.from_pretrained(
            weights, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
        # Without dropout.
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
    def sample(self, scheduler, steps, **options):
        """The images of a loop with the inputs' noise, and the number of evaluations.

        A step that does not change with its noise uses no draw.
        """
        scheduler = deepcopy(scheduler)
        scheduler.set_timesteps(steps)
        x = self.inputs["noise"] * getattr(scheduler, "init_noise_sigma", 1.0)
        zero, draws = torch.zeros_like(x), 0
        for t, after in pairwise([*scheduler.timesteps, None]):
            if "prev_timestep" in inspect.signature(scheduler.step).parameters:
                options["prev_timestep"] = after
            scale = getattr(scheduler, "scale_model_input", lambda x, _: x)
            output = self.forward(scale(x, t), t)
            z = self.inputs["z"][min(draws, steps - 1)]
            without = step(deepcopy(scheduler), zero, output, t, x, **options)
            x = step(scheduler, z, output, t, x, **options)
            draws += not x.equal(without)
        assert draws <= steps, draws
        return x.contiguous(), len(scheduler.timesteps)


def step(scheduler, z, *inputs, **options):
    """A step whose noise is z."""
    module = sys.modules[type(scheduler).__module__]
    with patch.object(module, "randn_tensor", lambda *_, **__: z, create=True):
        return scheduler.step(*inputs, **options).prev_sample


def compare(folder):
    for weights in ["theirs", "ours"]:
        network = Network(folder / weights, folder / "inputs.safetensors")
        output, gradient = network.train()
        found = load_file(folder / f"{weights}.output")
        report(weights, "forward", {"": output}, {"": found["output"]})
        report(weights, "gradient", gradient, load_file(folder / f"{weights}.gradient"))
        for loop, scheduler in LOOPS.items():
            images, _ = network.sample(scheduler, steps(loop), **OPTIONS.get(loop, {}))
            report(weights, loop, {"": images}, {"": found[loop]})


def follow(folder):
    network = Network(folder / "theirs", folder / "inputs.safetensors")
    found = load_file(folder / "theirs.output")
    for loop, scheduler in schedulers().items():
        images, evaluations = network.sample(scheduler, steps(loop))
        absolute = float((images - found[loop]).abs().max())
        line = dict(
            loop=loop.removesuffix("-20").translate(dict.fromkeys(map(ord, '{"}'))).strip(),
            evaluations=evaluations,
            ours=int(found[f"{loop} evaluations"]),
            largest=float(images.abs().max()),
            relative=absolute / float(images.max() - images.min()),
        )
        print(json.dumps(line))


def report(weights, quantity, expected, found):
    """One line for all tensors: differences are relative to the largest value of all tensors."""
    assert expected.keys() == found.keys(), sorted(expected.keys() ^ found.keys())
    absolute = max(float((expected[k] - found[k]).abs().max()) for k in expected)
    largest = max(float(expected[k].abs().max()) for k in expected)
    line = dict(weights=weights, quantity=quantity, absolute=absolute, relative=absolute / largest)
    print(json.dumps(line))


class Same:
    """Replaces randn_tensor: returns the inputs' noise first, then that of each step."""

    def __init__(self, inputs):
        self.rest = iter([inputs["noise"], *inputs["z"]])

    def __call__(self, shape, **_):
        z = next(self.rest)
        assert z.shape == torch.Size(shape), (z.shape, shape)
        return z


def pipelines(folder):
    """Both of diffusers' pipelines with the exported run, by loop."""
    ddpm = DDPMPipeline.from_pretrained(folder / "theirs")
    known = set(inspect.signature(DDIMScheduler).parameters)
    config = {key: value for key, value in ddpm.scheduler.config.items() if key in known}
    ddim = DDIMPipeline(ddpm.unet, DDIMScheduler(**config))
    return {"DDPM-100": ddpm, "DDIM-50": ddim}


def noise(folder):
    loops = pipelines(folder)
    unet = loops["DDPM-100"].unet.config
    shape = [ROWS * COLUMNS, unet.in_channels, unet.sample_size, unet.sample_size]
    torch.manual_seed(0)
    inputs = dict(
        noise=torch.randn(shape),
        z=torch.randn([max(map(steps, loops)), *shape]),
    )
    if unet.num_class_embeds:
        # All classes in turn; the last of the eleven is the null class.
        inputs["classes"] = torch.arange(float(shape[0])) % 10
    save_file(inputs, folder / "inputs.safetensors")
    for loop, pipeline in loops.items():
        save_loop(folder, loop, pipeline.scheduler)


def grids(folder, images):
    inputs = load_file(folder / "inputs.safetensors")
    found = load_file(folder / "theirs.output")
    for loop, pipeline in pipelines(folder).items():
        if "classes" in inputs:
            # These pipelines have no argument for classes.
            forward = pipeline.unet.forward
            pipeline.unet.forward = partial(forward, class_labels=inputs["classes"].long())
        pipeline.set_progress_bar_config(disable=True)
        same = Same(inputs)
        with (
            patch.object(pipeline_ddpm, "randn_tensor", same),
            patch.object(pipeline_ddim, "randn_tensor", same),
            patch.object(scheduling_ddpm, "randn_tensor", same),
        ):
            theirs = pipeline(
                batch_size=ROWS * COLUMNS,
                num_inference_steps=steps(loop),
                output_type="np",
                **OPTIONS.get(loop, {}),
            ).images
        if "classes" in inputs:
            pipeline.unet.forward = forward
        theirs = torch.from_numpy(theirs).permute(0, 3, 1, 2)
        ours = (found[loop] / 2 + 0.5).clamp(0, 1)
        report("ours", loop, {"": theirs}, {"": ours})
        gap = torch.ones([1, ROWS * theirs.shape[2], 8])
        both = torch.cat([grid(theirs), gap, grid(ours)], 2)
        picture = Image.fromarray((both * 255).round().byte().squeeze(0).numpy())
        size = (2 * picture.width, 2 * picture.height)
        name = f"interop-{loop.split('-')[0].lower()}.png"
        picture.resize(size, Image.Resampling.NEAREST).save(images / name, optimize=True)


def grid(images):
    rows = [torch.cat(list(row), 2) for row in images.split(COLUMNS)]
    return torch.cat(rows, 1)


def fixtures(folder):
    for name, (config, options) in FIXTURES.items():
        case = folder / name
        case.mkdir(parents=True)
        make(case, config, options)
        network = Network(case / "theirs", case / "inputs.safetensors")
        output, gradient = network.train()
        images, _ = network.sample(LOOPS["DDIM-50"], 50, **OPTIONS["DDIM-50"])
        save_file(dict(output=output, images=images), case / "outputs.safetensors")
        save_file(gradient, case / "gradient.safetensors")


def fuzz(folder):
    """The fuzzer's first inputs: the files of the smallest network, and some still smaller."""
    corpus = folder / "corpus"
    for name, layout in [("safetensors", "flat"), ("bin", "bin"), ("sharded", "sharded")]:
        torch.manual_seed(0)
        save(UNet2DModel(**LEAST), folder / "folders" / name, layout)
    for target, file in [
        ("safetensors", "safetensors/diffusion_pytorch_model.safetensors"),
        ("pickle", "bin/diffusion_pytorch_model.bin"),
        ("index", "sharded/diffusion_pytorch_model.safetensors.index.json"),
        ("network", "safetensors/config.json"),
    ]:
        (corpus / target).mkdir(parents=True)
        (corpus / target / "whole").write_bytes((folder / "folders" / file).read_bytes())
    for dtype in [torch.float32, torch.float16, torch.bfloat16]:
        # A matrix, its transpose (a view, not contiguous in pickles), and a number.
        matrix = torch.arange(6.0, dtype=dtype).reshape(2, 3)
        tensors = dict(a=matrix, b=matrix.T, c=torch.nn.Parameter(torch.ones((), dtype=dtype)))
        name = str(dtype).removeprefix("torch.")
        torch.save(tensors, corpus / "pickle" / name)
        copies = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
        save_file(copies, corpus / "safetensors" / name, metadata=dict(format="pt"))
    for number, (config, _) in enumerate((CASES | FIXTURES).values()):
        file = corpus / "network" / str(number)
        file.write_text(json.dumps(dict(_class_name="UNet2DModel") | config))
    (corpus / "scheduler").mkdir()
    for number, scheduler in enumerate(
        [
            DDPMScheduler(),
            DDPMScheduler(beta_schedule="sigmoid", variance_type="learned_range", thresholding=True),
            DDIMScheduler(timestep_spacing="trailing", rescale_betas_zero_snr=True),
            DDIMScheduler(trained_betas=[0.1, 0.2], num_train_timesteps=2, steps_offset=1),
            DPMSolverMultistepScheduler(use_karras_sigmas=True, final_sigmas_type="sigma_min"),
            DPMSolverMultistepScheduler(use_lu_lambdas=True, solver_order=1),
        ]
    ):
        (corpus / "scheduler" / str(number)).write_text(scheduler.to_json_string())


if __name__ == "__main__":
    torch.set_num_threads(2)
    logging.set_verbosity_error()
    # Warnings about arguments that diffusers will remove.
    warnings.simplefilter("ignore", FutureWarning)
    logging.disable_progress_bar()
    match sys.argv[1:]:
        case ["list"]:
            print("\n".join(CASES))
        case ["make", folder, case]:
            make(Path(folder), *CASES[case])
        case ["compare", folder]:
            compare(Path(folder))
        case ["schedulers", folder]:
            make(Path(folder), SMALL, {}, schedulers())
        case ["follow", folder]:
            follow(Path(folder))
        case ["noise", folder]:
            noise(Path(folder))
        case ["grids", folder, images]:
            grids(Path(folder), Path(images))
        case ["fixtures", folder]:
            fixtures(Path(folder))
        case ["fuzz", folder]:
            fuzz(Path(folder))
        case _:
            sys.exit(__doc__)
