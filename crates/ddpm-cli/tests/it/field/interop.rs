//! The section "Files of diffusers".

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::{Fault, check, ends};
use crate::diffusers::places::{put_pipeline, spoil};
use crate::run::{ddpm, ok, samples};

const DRAW: &str = "sample --from pipe --num 1 --steps 2 --sampler ddim --out s";

const SCHEDULER: &str = "scheduler/scheduler_config.json";

const UNET: &str = "unet/config.json";

const WEIGHTS: &str = "unet/diffusion_pytorch_model.safetensors";

const ROWS: &[Fault] = &[
    Fault {
        reports: "huggingface/diffusers#1918",
        kind: "a scheduler made from another's configuration keeps the other's keys",
        tried: "a DDIM file with the `variance_type` of a DDPM",
        run: |folder| {
            put_pipeline(folder);
            add(
                folder,
                SCHEDULER,
                &[
                    ("_class_name", json!("DDIMScheduler")),
                    ("variance_type", json!("fixed_small")),
                ],
            );
            noted(folder)
        },
    },
    Fault {
        reports: "vladmandic/sdnext#2424, cswry/SeeSR#51",
        kind: "published files contain keys of other schedulers",
        tried: "a DDPM file with `skip_prk_steps`, `interpolation_type`, `use_karras_sigmas`, `timestep_type`, \
                and `sigma_min` and `sigma_max` that are null",
        run: |folder| {
            put_pipeline(folder);
            add(
                folder,
                SCHEDULER,
                &[
                    ("skip_prk_steps", json!(true)),
                    ("interpolation_type", json!("linear")),
                    ("use_karras_sigmas", json!(false)),
                    ("timestep_type", json!("discrete")),
                    ("sigma_min", Value::Null),
                    ("sigma_max", Value::Null),
                ],
            );
            noted(folder)
        },
    },
    Fault {
        reports: "huggingface/diffusers#1918",
        kind: "the same, with a key that would change the samples",
        tried: "a DDPM file with an unknown key, `rescale_betas_zero_snrr = true`",
        run: |folder| {
            put_pipeline(folder);
            add(
                folder,
                SCHEDULER,
                &[("rescale_betas_zero_snrr", json!(true))],
            );
            ends(folder, DRAW, 1)
        },
    },
    Fault {
        reports: "huggingface/diffusers#2706, huggingface/diffusers#2146",
        kind: "averaged weights cannot be loaded because of the keys that describe the averaging",
        tried: "`config.json` of a `unet_ema`, with `decay`, `inv_gamma`, `min_decay`, `optimization_step`, \
                `power`, `update_after_step` and `use_ema_warmup`",
        run: |folder| {
            put_pipeline(folder);
            add(
                folder,
                UNET,
                &[
                    ("decay", json!(0.9999)),
                    ("inv_gamma", json!(1.0)),
                    ("min_decay", json!(0.0)),
                    ("optimization_step", json!(5000)),
                    ("power", json!(0.75)),
                    ("update_after_step", json!(0)),
                    ("use_ema_warmup", json!(true)),
                ],
            );
            noted(folder)
        },
    },
    Fault {
        reports: "huggingface/diffusers#6815, huggingface/diffusers#2153, huggingface/diffusers#5960",
        kind: "black pictures, because all values are NaN",
        tried: "a NaN in one weight of the folder",
        run: |folder| {
            put_pipeline(folder);
            spoil(&folder.join("pipe"));
            let shown = ends(folder, DRAW, 1);
            assert!(!folder.join("s").exists());
            shown
        },
    },
    Fault {
        reports: "Hzfinfdu/Diffusion-BERT#24",
        kind: "weights saved from a wrapped network have a prefix in every name",
        tried: "`module.` and `_orig_mod.` before all names of the weights",
        run: |folder| {
            put_pipeline(folder);
            ok(folder, &format!("{DRAW} --raw"));
            let plain = samples(&folder.join("s"));
            for prefix in ["module.", "_orig_mod."] {
                fs::remove_dir_all(folder.join("pipe")).unwrap();
                fs::remove_dir_all(folder.join("s")).unwrap();
                put_pipeline(folder);
                rename_all(&folder.join("pipe").join(WEIGHTS), prefix);
                ok(folder, &format!("{DRAW} --raw"));
                assert_eq!(samples(&folder.join("s")), plain, "{prefix}");
            }
            "exit 0; the samples are byte for byte those without the prefix".into()
        },
    },
    Fault {
        reports: "huggingface/diffusers#10928, Tencent-Hunyuan/Hunyuan3D-2#262",
        kind: "only a variant of the weights exists",
        tried: "only `diffusion_pytorch_model.fp16.safetensors`",
        run: |folder| {
            put_pipeline(folder);
            let fp16 = "pipe/unet/diffusion_pytorch_model.fp16.safetensors";
            fs::rename(folder.join("pipe").join(WEIGHTS), folder.join(fp16)).unwrap();
            ends(folder, DRAW, 1)
        },
    },
    Fault {
        reports: "AUTOMATIC1111/stable-diffusion-webui#8123, haofanwang/Lora-for-Diffusers#3",
        kind: "a repository was cloned without its large files",
        tried: "a Git LFS pointer in place of the weights",
        run: |folder| {
            put_pipeline(folder);
            let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
            fs::write(folder.join("pipe").join(WEIGHTS), pointer).unwrap();
            ends(folder, DRAW, 1)
        },
    },
    Fault {
        reports: "node-config/node-config#215, B3Pay/ic-reactor#665",
        kind: "an editor wrote a byte order mark at the start of a file",
        tried: "a byte order mark at the start of `scheduler_config.json`",
        run: |folder| {
            put_pipeline(folder);
            let path = folder.join("pipe").join(SCHEDULER);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("\u{feff}{text}")).unwrap();
            ends(folder, DRAW, 1)
        },
    },
];

#[test]
fn the_page_says_what_happens() {
    check("Files of diffusers", ROWS);
}

/// Adds keys to a JSON file of the pipeline.
fn add(folder: &Path, file: &str, keys: &[(&str, Value)]) {
    let path = folder.join("pipe").join(file);
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in keys {
        json[*key] = value.clone();
    }
    fs::write(&path, json.to_string()).unwrap();
}

/// Puts a prefix before the names of all tensors of a file.
fn rename_all(path: &Path, prefix: &str) {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.tensors().into_iter();
    let renamed = tensors.map(|(name, tensor)| (format!("{prefix}{name}"), tensor));
    fs::write(path, safetensors::serialize(renamed, None).unwrap()).unwrap();
}

/// Draws from the pipeline, which must succeed with a note; the note, as the page shows it.
fn noted(folder: &Path) -> String {
    let output = ddpm(folder, DRAW);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let note = said.lines().find(|line| line.starts_with("note: "));
    format!("exit 0: `{}`", note.expect("a note"))
}
