//! Every class of diffusers, as configured in its tests, comes to the sums that diffusers comes to
//! in double precision: what is read is what is run.
#![expect(clippy::unreadable_literal, reason = "digits as they are printed")]

use serde_json::{Value, json};

use super::numbers::{sum, sum_of_tensors};
use super::{check, read};

/// To 10⁻⁹; with noise that torch draws to 10⁻⁷, for it computes that in single precision and the
/// test in double, rounded at the end.
const EXACT: f64 = 1e-9;
const SEEDED: f64 = 1e-7;

/// A class, its keys, the steps and Σ|x|.
type Row = (&'static str, Value, u32, f64);

/// Over keys that all rows have.
#[track_caller]
fn assert_sums(base: &Value, tolerance: f64, rows: impl IntoIterator<Item = Row>) {
    let mut wrong = Vec::new();
    for (class, keys, n, expected) in rows {
        let mut all = base.clone();
        for (key, value) in keys.as_object().unwrap() {
            all[key] = value.clone();
        }
        let found = sum(&read(class, all), n);
        let off = (found / expected - 1.0).abs();
        if off > tolerance || off.is_nan() {
            wrong.push(format!("{class} {keys}: {found} is not {expected}"));
        }
    }
    check(&wrong);
}

#[test]
#[rustfmt::skip]
fn the_chain() {
    let v = json!({ "prediction_type": "v_prediction" });
    assert_sums(&json!({}), SEEDED, [
        ("DDPMScheduler", json!({}), 1000, 258.9590527),
        ("DDPMScheduler", v.clone(), 1000, 202.0282598),
        ("DDPMParallelScheduler", json!({}), 1000, 258.9590527),
        ("DDPMScheduler", json!({ "variance_type": "fixed_large" }), 1000, 261.204977),
        ("DDPMScheduler", json!({ "clip_sample": false }), 1000, 263.3447602),
        ("UnCLIPScheduler", json!({}), 1000, 252.4390017),
        ("UnCLIPScheduler", json!({}), 25, 258.3410676),
    ]);
    let other = json!({ "beta_start": 0.01 });
    let rows = [
        ("DDIMScheduler", json!({}), 10, 172.0065222),
        ("DDIMScheduler", v.clone(), 10, 52.53012385),
        ("DDIMScheduler", other.clone(), 10, 149.8294595),
        ("PNDMScheduler", json!({}), 10, 198.1317394),
        ("PNDMScheduler", v, 10, 67.39855104),
        ("PNDMScheduler", json!({ "set_alpha_to_one": true, "beta_start": 0.01 }), 10, 230.0369233),
        ("PNDMScheduler", other, 10, 186.9448239),
        ("PNDMScheduler", json!({ "skip_prk_steps": true }), 10, 197.7154268),
        ("IPNDMScheduler", json!({}), 10, 247.4408742),
    ];
    assert_sums(&json!({}), EXACT, rows);
}

/// Four columns: ε, v and ε along Karras' σ, v along them; then ε along equal ln σ and Beta
/// quantiles.
#[test]
#[rustfmt::skip]
fn the_classes_of_sigma() {
    let base = json!({ "num_train_timesteps": 1100, "beta_start": 1e-4, "beta_end": 0.02 });
    let columns = [
        json!({}),
        json!({ "prediction_type": "v_prediction" }),
        json!({ "use_karras_sigmas": true }),
        json!({ "use_karras_sigmas": true, "prediction_type": "v_prediction" }),
        json!({ "use_exponential_sigmas": true }),
        json!({ "use_beta_sigmas": true }),
    ];
    let nan = f64::NAN;
    let table = [
        ("EulerDiscreteScheduler", EXACT,
         [168.0513608, 46.9140314, 156.684233, 25.332789, 164.3553691, 25.83777319]),
        ("EulerAncestralDiscreteScheduler", SEEDED,
         [233.2861668, 137.2152848, nan, nan, nan, nan]),
        ("HeunDiscreteScheduler", EXACT,
         [244.6023677, 116.0957255, 248.2054263, 180.2748087, 232.5240509, 2384.18884]),
        ("LMSDiscreteScheduler", EXACT,
         [191.193927, 76.93928193, 172.0856548, 54.46921451, 177.8251909, 27.64772569]),
        ("KDPM2DiscreteScheduler", EXACT,
         [218.2558644, 107.879165, 223.2704216, 140.1607127, 213.7177893, 2941.061712]),
        ("KDPM2AncestralDiscreteScheduler", SEEDED,
         [456.553277, 422.6229834, 439.9693794, 742.8008576, 364.824833, nan]),
    ];
    for (class, tolerance, sums) in table {
        let rows = columns.iter().zip(sums).filter(|(_, sum)| !sum.is_nan());
        let rows = rows.map(|(keys, sum)| (class, keys.clone(), 10, sum));
        assert_sums(&base, tolerance, rows);
    }
    let zero_snr = json!({ "rescale_betas_zero_snr": true, "prediction_type": "v_prediction" });
    let euler = "EulerDiscreteScheduler";
    assert_sums(&base, EXACT, [
        (euler, json!({ "timestep_spacing": "leading" }), 10, 170.7164379),
        (euler, json!({ "timestep_spacing": "trailing" }), 10, 168.7413924),
        (euler, json!({ "interpolation_type": "log_linear" }), 10, 169.0268959),
        (euler, zero_snr, 10, 46.61187266),
    ]);
}

/// Left out is the third order of `sde-dpmsolver++`, where diffusers gives the second difference a
/// weight of the wrong sign.
///
/// The end at the least noise without a lower order, then with it, and at clean data likewise.
#[test]
#[rustfmt::skip]
fn dpm_solver() {
    let nan = f64::NAN;
    let multi = "DPMSolverMultistepScheduler";
    let single = "DPMSolverSinglestepScheduler";
    let table = [
        (multi, "dpmsolver", 1, "midpoint", [172.2639631, 172.2639631, nan, nan]),
        (multi, "dpmsolver", 2, "midpoint", [223.5867801, 184.9211377, nan, nan]),
        (multi, "dpmsolver", 2, "heun", [203.6039913, 183.6761901, nan, nan]),
        (multi, "dpmsolver", 3, "midpoint", [204.9881658, 186.0467202, nan, nan]),
        (multi, "dpmsolver", 3, "heun", [205.0088672, 185.2253359, nan, nan]),
        (multi, "dpmsolver++", 1, "midpoint", [172.2639631, 172.2639631, 169.9294425, 169.9294425]),
        (multi, "dpmsolver++", 2, "midpoint", [253.552879, 187.553088, 185.0113693, 185.0113693]),
        (multi, "dpmsolver++", 2, "heun", [292.1312195, 189.3125291, 186.7469665, 186.7469665]),
        (multi, "dpmsolver++", 3, "midpoint", [176.9626586, 190.1708817, 188.0457197, 187.5936866]),
        (multi, "dpmsolver++", 3, "heun", [176.9411627, 191.263108, 188.0228775, 188.6711111]),
        (multi, "sde-dpmsolver", 1, "midpoint", [284.1618286, 284.1618286, nan, nan]),
        (multi, "sde-dpmsolver", 2, "midpoint", [5015.585773, 679.67918, nan, nan]),
        (multi, "sde-dpmsolver", 2, "heun", [1314.903556, 416.821949, nan, nan]),
        (multi, "sde-dpmsolver++", 2, "midpoint", [525.9545605, 279.2133568, 278.8484487, 278.8484487]),
        (multi, "sde-dpmsolver++", 2, "heun", [774.7810448, 291.5608949, 291.1149009, 291.1149009]),
        (single, "dpmsolver", 1, "midpoint", [172.2639631, 172.2639631, nan, nan]),
        (single, "dpmsolver", 2, "midpoint", [290.98242, 186.122372, nan, nan]),
        (single, "dpmsolver", 2, "heun", [216.2968513, 182.3883647, nan, nan]),
        (single, "dpmsolver", 3, "midpoint", [187.0833078, 187.0833078, nan, nan]),
        (single, "dpmsolver", 3, "heun", [186.8259371, 186.8259371, nan, nan]),
        (single, "dpmsolver++", 1, "midpoint", [172.2639631, 172.2639631, 169.9294425, 169.9294425]),
        (single, "dpmsolver++", 2, "midpoint", [214.362032, 177.3438261, 174.9404632, 174.9404632]),
        (single, "dpmsolver++", 2, "heun", [249.183548, 179.619551, 177.1853475, 177.1853475]),
        (single, "dpmsolver++", 3, "midpoint", [189.0940104, 189.0940104, 186.5314091, 186.5314091]),
        (single, "dpmsolver++", 3, "heun", [190.4052153, 190.4052153, 187.8248446, 187.8248446]),
        (single, "sde-dpmsolver++", 1, "midpoint", [232.8765527, 232.8765527, 232.4453497, 232.4453497]),
        (single, "sde-dpmsolver++", 2, "midpoint", [390.422727, 226.8193088, 226.6442599, 226.6442599]),
        (single, "sde-dpmsolver++", 2, "heun", [643.3789375, 228.9650007, 228.7600783, 228.7600783]),
    ];
    for (class, algorithm, order, solver, sums) in table {
        let tolerance = if algorithm.starts_with("sde") { SEEDED } else { EXACT };
        let rows = sums.into_iter().enumerate().filter(|(_, sum)| !sum.is_nan());
        let rows = rows.map(|(i, sum)| {
            let end = if i < 2 { "sigma_min" } else { "zero" };
            let keys = json!({ "final_sigmas_type": end, "lower_order_final": i % 2 == 1 });
            (class, keys, 10, sum)
        });
        let base = json!({
            "algorithm_type": algorithm, "solver_order": order, "solver_type": solver,
        });
        assert_sums(&base, tolerance, rows);
    }
}

/// DPM-Solver++ of two evaluations along other levels, to the least noise.
#[test]
#[rustfmt::skip]
fn dpm_solver_along_other_levels() {
    let multi = "DPMSolverMultistepScheduler";
    let v = "v_prediction";
    let base = json!({ "final_sigmas_type": "sigma_min", "lower_order_final": false });
    assert_sums(&base, EXACT, [
        (multi, json!({ "prediction_type": v }), 10, 172.8763003),
        (multi, json!({ "prediction_type": v, "use_karras_sigmas": true }), 10, 160.6655289),
        (multi, json!({ "prediction_type": v, "use_lu_lambdas": true }), 10, 119.3652386),
        (multi, json!({ "use_karras_sigmas": true }), 10, 226.1747937),
        (multi, json!({ "use_exponential_sigmas": true }), 10, 209.2337327),
        (multi, json!({ "use_beta_sigmas": true }), 10, 64.9210898),
        (multi, json!({ "use_lu_lambdas": true }), 10, 208.9846114),
        (multi, json!({ "prediction_type": "sample" }), 10, 847.0459554),
        (multi, json!({ "timestep_spacing": "leading" }), 10, 246.22233),
        (multi, json!({ "timestep_spacing": "trailing" }), 10, 253.0923102),
        (multi, json!({
            "timestep_spacing": "trailing", "rescale_betas_zero_snr": true, "prediction_type": v,
        }), 10, 171.3271288),
        (multi, json!({ "final_sigmas_type": "zero", "euler_at_final": true }), 20, 194.6491927),
        (multi, json!({
            "final_sigmas_type": "zero", "use_flow_sigmas": true, "flow_shift": 3.0,
            "prediction_type": "flow_prediction",
        }), 10, 137.2821501),
        ("DPMSolverSinglestepScheduler", json!({ "use_karras_sigmas": true }), 10, 172.6802354),
        ("DPMSolverSinglestepScheduler", json!({ "prediction_type": v }), 10, 111.5994707),
        ("DPMSolverSinglestepScheduler", json!({
            "prediction_type": v, "use_karras_sigmas": true,
        }), 10, 49.84696696),
    ]);
    let inverse = "DPMSolverMultistepInverseScheduler";
    assert_sums(&json!({ "lower_order_final": false }), EXACT, [
        (inverse, json!({}), 10, 541.2021766),
        (inverse, json!({ "prediction_type": v }), 10, 1166.883183),
        (inverse, json!({ "prediction_type": v, "use_karras_sigmas": true }), 10, 1368.284793),
    ]);
}

#[test]
#[rustfmt::skip]
fn deis_unipc_and_sa_solver() {
    let v = "v_prediction";
    let (deis, unipc, sa) = (
        "DEISMultistepScheduler",
        "UniPCMultistepScheduler",
        "SASolverScheduler",
    );
    assert_sums(&json!({ "final_sigmas_type": "sigma_min" }), EXACT, [
        (deis, json!({ "solver_order": 1 }), 10, 172.2639631),
        (deis, json!({}), 10, 183.6761901),
        (deis, json!({ "solver_order": 3 }), 10, 185.579727),
        (deis, json!({ "lower_order_final": false }), 10, 203.6039913),
        (deis, json!({ "lower_order_final": false, "solver_order": 3 }), 10, 205.0898858),
        (deis, json!({ "use_karras_sigmas": true }), 10, 188.7635461),
        (deis, json!({ "prediction_type": v }), 10, 69.94361723),
        (unipc, json!({}), 10, 189.2316532),
        (unipc, json!({ "use_karras_sigmas": true }), 10, 224.6270497),
        (unipc, json!({ "prediction_type": v }), 10, 77.8724196),
        (unipc, json!({ "prediction_type": v, "use_karras_sigmas": true }), 10, 150.6888138),
        (unipc, json!({ "solver_type": "bh1", "solver_order": 1 }), 10, 180.3346622),
        (unipc, json!({ "solver_type": "bh1" }), 10, 193.5753796),
        (unipc, json!({ "solver_type": "bh1", "solver_order": 3 }), 10, 193.5999416),
        (unipc, json!({ "solver_order": 1 }), 10, 178.4622889),
        (unipc, json!({ "solver_order": 3 }), 10, 189.9727507),
        (unipc, json!({ "solver_order": 1, "final_sigmas_type": "zero" }), 10, 175.8761137),
        (unipc, json!({ "final_sigmas_type": "zero" }), 10, 186.7620733),
        (unipc, json!({ "solver_order": 3, "final_sigmas_type": "zero" }), 10, 187.5004288),
        (unipc, json!({ "predict_x0": false, "solver_type": "bh1", "solver_order": 1 }), 10, 190.9931466),
        (unipc, json!({ "predict_x0": false, "solver_type": "bh1" }), 10, 189.5344138),
        (unipc, json!({ "predict_x0": false, "solver_order": 3 }), 10, 185.5230169),
        (unipc, json!({ "predict_x0": false }), 10, 187.3958697),
    ]);
    let base = json!({ "num_train_timesteps": 1100 });
    assert_sums(&base, SEEDED, [
        (sa, json!({}), 10, 337.3939725),
        (sa, json!({ "prediction_type": v }), 10, 193.1464197),
        (sa, json!({ "use_karras_sigmas": true }), 10, 837.2768534),
    ]);
}

#[test]
#[rustfmt::skip]
fn consistency_models() {
    assert_sums(&json!({}), SEEDED, [
        ("LCMScheduler", json!({}), 1, 18.70979872),
        ("LCMScheduler", json!({}), 4, 189.0071967),
        ("LCMScheduler", json!({}), 10, 197.761613),
        ("TCDScheduler", json!({}), 10, 264.7295318),
        ("CMStochasticIterativeScheduler", json!({ "num_train_timesteps": 201 }), 1, 192.7613048),
    ]);
}

/// The sums of a flow that is shifted are those of one shifted once, given as σ: diffusers shifts
/// its last one twice.
#[test]
#[rustfmt::skip]
fn processes_in_continuous_time() {
    let (euler, dpm) = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler");
    let v = json!({ "prediction_type": "v_prediction" });
    let sigma_min = json!({ "final_sigmas_type": "sigma_min" });
    let to_least = |keys: &Value| {
        let mut all = json!({ "lower_order_final": false, "final_sigmas_type": "sigma_min" });
        for (key, value) in keys.as_object().unwrap() {
            all[key] = value.clone();
        }
        all
    };
    let order = |order: u32, solver: &str| json!({ "solver_order": order, "solver_type": solver });
    assert_sums(&json!({}), EXACT, [
        (euler, json!({}), 10, 34.1854943),
        (euler, v.clone(), 10, 380.9195634),
        (euler, json!({ "sigma_schedule": "exponential" }), 10, 21.74732661),
        (euler, sigma_min, 10, 33.80657081),
        (dpm, to_least(&json!({})), 10, 135.641573),
        (dpm, to_least(&v), 10, 1007.444538),
        (dpm, order(1, "midpoint"), 10, 34.1854943),
        (dpm, order(2, "midpoint"), 10, 137.1619217),
        (dpm, order(2, "heun"), 10, 176.9105459),
        (dpm, order(3, "midpoint"), 10, 146.2794147),
        (dpm, order(3, "heun"), 10, 184.6307294),
    ]);
    let (euler, heun) = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler");
    assert_sums(&json!({}), EXACT, [
        (euler, json!({}), 10, 133.3620448),
        (euler, json!({ "shift": 3.0 }), 10, 129.1532934),
        (euler, json!({ "use_karras_sigmas": true }), 10, 119.9727008),
        (euler, json!({ "use_exponential_sigmas": true }), 10, 107.4648046),
        (euler, json!({ "use_beta_sigmas": true }), 10, 132.2887646),
        (heun, json!({}), 10, 145.7654894),
    ]);
    let stochastic = json!({ "stochastic_sampling": true });
    assert_sums(&json!({}), SEEDED, [
        (euler, stochastic, 10, 126.126093),
        ("FlowMatchLCMScheduler", json!({}), 10, 126.126093),
    ]);
}

/// The same sums come of tensors: clipped with the network's ε̂, told fractions, with the sign of
/// EDM's v, and with a boundary condition.
#[test]
#[rustfmt::skip]
fn tensors_come_to_the_same() {
    let one_step = json!({ "num_train_timesteps": 201 });
    for (class, keys, n, expected) in [
        ("DDIMScheduler", json!({}), 10, 172.0065222),
        ("EDMEulerScheduler", json!({ "prediction_type": "v_prediction" }), 10, 380.9195634),
        ("EDMDPMSolverMultistepScheduler", json!({}), 10, 137.1619217),
        ("FlowMatchHeunDiscreteScheduler", json!({}), 10, 145.7654894),
        ("PNDMScheduler", json!({ "set_alpha_to_one": true, "beta_start": 0.01 }), 10, 230.0369233),
        ("LCMScheduler", json!({}), 1, 18.70979872),
        ("CMStochasticIterativeScheduler", one_step, 1, 192.7613048),
    ] {
        let found = sum_of_tensors(&read(class, keys), n);
        let off = (found / expected - 1.0).abs();
        assert!(off < 1e-4, "{class}: {found} is not {expected}");
    }
}
