//! Samples drawn by several machines: the same files as by one, or a refusal that names the shard.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::run::{ok, refused, tiny};
use crate::samples::files_of;

/// Every file of a folder of samples, and of the folders in it, but for the shards themselves.
fn files(folder: &Path, out: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = files_of(&folder.join(out));
    all.retain(|name, _| !name.starts_with("shard-"));
    all
}

/// Forty samples are three batches; the sampler adds noise, so that each depends on its number.
const ORDER: &str = "sample --from run --num 40 --sampler ddim --eta 0.5";

fn drawn(folder: &Path, out: &str, shards: usize) {
    for index in 1..=shards {
        ok(
            folder,
            &format!("{ORDER} --shard {index}/{shards} --out {out}"),
        );
    }
}

#[test]
fn shards_put_together_are_the_set_of_one_machine() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run");
    ok(folder, &format!("{ORDER} --raw --out one"));
    let one = files(folder, "one");
    assert_eq!(
        one.len(),
        43,
        "forty pictures, the grid, the values, the record"
    );
    // Of five machines two have nothing to do.
    for shards in [2, 3, 5] {
        let out = format!("of-{shards}");
        drawn(folder, &out, shards);
        assert!(files(folder, &out).is_empty(), "a shard is no picture");
        ok(folder, &format!("sample --merge --raw --out {out}"));
        assert!(files(folder, &out) == one, "{shards} shards");
        let again = format!("sample --merge --raw --out {out}");
        refused(folder, &again, 1, &["holds samples already", "--overwrite"]);
        fs::write(folder.join(&out).join("images/0007.png"), "").unwrap();
        ok(folder, &format!("{again} --overwrite"));
        assert!(files(folder, &out) == one, "{shards} shards, once more");
    }
}

/// Twenty images are two batches; each has its own times.
#[test]
fn an_evaluation_put_together_is_that_of_one_machine() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run");
    let question = "eval nll --from run --num 20 --times 3 --flow 2";
    ok(folder, &format!("{question} --json one.json"));
    for index in 1..=2 {
        ok(folder, &format!("{question} --shard {index}/2 --out bits"));
    }
    ok(folder, "eval nll --merge --out bits --json two.json");
    let read = |name| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(read("one.json"), read("two.json"));
    refused(
        folder,
        "sample --merge --out bits",
        1,
        &["something else than samples"],
    );
    fs::remove_file(folder.join("bits/shard-1-of-2.safetensors")).unwrap();
    let merge = "eval nll --merge --out bits";
    refused(folder, merge, 1, &["of 2 shards these are missing: 1"]);
    drawn(folder, "pictures", 1);
    let merge = "eval nll --merge --out pictures";
    refused(folder, merge, 1, &["something else than an evaluation"]);
}

#[test]
fn what_is_not_one_whole_set_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run");
    let merge = "sample --merge --out out";
    refused(folder, merge, 1, &["out"]);
    drawn(folder, "out", 3);
    let path = folder.join("out/shard-2-of-3.safetensors");
    let whole = fs::read(&path).unwrap();

    fs::remove_file(&path).unwrap();
    refused(folder, merge, 1, &["of 3 shards these are missing: 2"]);
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() - 4], &whole[..20], b""] {
        fs::write(&path, damaged).unwrap();
        refused(folder, merge, 1, &["shard-2-of-3.safetensors"]);
    }
    fs::copy(folder.join("out/shard-1-of-3.safetensors"), &path).unwrap();
    refused(folder, merge, 1, &["says that it is shard-1-of-3"]);
    let other = format!("{ORDER} --seed 1 --shard 2/3 --out out");
    refused(
        folder,
        &other,
        1,
        &["shard-2-of-3.safetensors was drawn already"],
    );
    let words = ["seed is 0 in out/shard-2-of-3.safetensors, 1 in this order"];
    fs::write(&path, &whole).unwrap();
    refused(folder, &format!("{other} --resume"), 1, &words);
    ok(folder, &format!("{other} --overwrite"));
    refused(
        folder,
        merge,
        1,
        &["different sets", "seed is 0", "1 in shard-2-of-3"],
    );
    ok(folder, &format!("{ORDER} --shard 2/4 --out out"));
    refused(folder, merge, 1, &["different sets"]);
    fs::remove_file(folder.join("out/shard-2-of-4.safetensors")).unwrap();
    ok(
        folder,
        &format!("{ORDER} --batch-size 7 --shard 2/3 --out out --overwrite"),
    );
    let words = ["batch-size is 16 in shard-1-of-3", "7 in shard-2-of-3"];
    refused(folder, merge, 1, &words);
    refused(folder, &format!("{ORDER} --shard 4/3"), 2, &["4/3"]);
    assert!(files(folder, "out").is_empty(), "nothing was written");
}
