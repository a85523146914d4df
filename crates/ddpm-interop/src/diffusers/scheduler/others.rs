//! Keys of other classes, and classes that are not supported.

/// Classes that are not supported, and why.
pub(super) const REFUSED: [(&str, &str); 6] = [
    (
        "DPMSolverSDEScheduler",
        "its noise comes from a Brownian tree, which is not supported; a \
         DPMSolverMultistepScheduler with algorithm_type = \"sde-dpmsolver++\" solves the same \
         equation",
    ),
    (
        "CosineDPMSolverMultistepScheduler",
        "its noise comes from a Brownian tree, which is not supported; an \
         EDMDPMSolverMultistepScheduler with algorithm_type = \"sde-dpmsolver++\" solves the same \
         equation",
    ),
    (
        "ScoreSdeVeScheduler",
        "the size of its corrector's steps depends on norms of the network's output (snr), but here \
         the steps of a sampler must be known in advance",
    ),
    (
        "ScoreSdeVpScheduler",
        "no sampler here takes its Euler–Maruyama steps; a DDIMScheduler or a \
         DPMSolverMultistepScheduler samples from the same networks",
    ),
    (
        "DDIMInverseScheduler",
        "it gives the network the time of the level that a step leads to, and clips there; a \
         DPMSolverMultistepInverseScheduler with solver_order = 1 is DDIM from data to noise too",
    ),
    (
        "RePaintScheduler",
        "it inpaints given images and does not draw samples",
    ),
];

/// All keys of diffusers' classes of schedulers, including those of the releases of 2022. A
/// scheduler made from another one's configuration is saved with the keys of both; the keys of
/// other classes are ignored.
pub(super) const KEYS: [&str; 74] = [
    "algorithm_type",
    "base_image_seq_len",
    "base_shift",
    "beta_end",
    "beta_max",
    "beta_min",
    "beta_schedule",
    "beta_start",
    "clip_denoised",
    "clip_sample",
    "clip_sample_range",
    "correct_steps",
    "corrector_order",
    "disable_corrector",
    "dynamic_thresholding_ratio",
    "eta",
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "invert_sigmas",
    "lambda_min_clipped",
    "lower_order_final",
    "max_image_seq_len",
    "max_shift",
    "noise_sampler_seed",
    "num_train_timesteps",
    "original_inference_steps",
    "predict_epsilon",
    "predict_x0",
    "prediction_type",
    "predictor_order",
    "rescale_betas_zero_snr",
    "rho",
    "s_churn",
    "s_max",
    "s_min",
    "s_noise",
    "sample_max_value",
    "sampling_eps",
    "scale_factors",
    "set_alpha_to_one",
    "set_alpha_to_zero",
    "shift",
    "shift_terminal",
    "sigma_data",
    "sigma_max",
    "sigma_min",
    "sigma_schedule",
    "skip_prk_steps",
    "snr",
    "snr_shift_scale",
    "solver_order",
    "solver_p",
    "solver_type",
    "steps_offset",
    "stochastic_sampling",
    "tau_func",
    "tensor_format",
    "thresholding",
    "time_shift_type",
    "timestep_scaling",
    "timestep_spacing",
    "timestep_type",
    "timestep_values",
    "trained_betas",
    "upscale_mode",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "use_exponential_sigmas",
    "use_flow_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "variance_type",
];
