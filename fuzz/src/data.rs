//! What the targets of data share: files of which one is the fuzzer's, loaded as training does.

use std::path::Path;

use ddpm_data::{Dataset, Source};

/// Writes files into a folder, loads it, and reads the rows if there are any; every refusal is a good
/// answer.
///
/// # Panics
///
/// If the loader does, or the temporary folder cannot be written.
pub fn load(files: &[(&str, &[u8])], source: impl Fn(&Path) -> Source) {
    let folder = crate::written(files.iter().copied());
    let Ok(rows) = ddpm_data::load(&source(folder.path())) else {
        return;
    };
    assert!(!rows.is_empty());
    let mut row = vec![f32::NAN; rows.row_len()];
    for i in [0, rows.len() - 1] {
        if rows.write_row(i, &mut row).is_err() {
            continue;
        }
        assert!(row.iter().all(|x| (-1.0..=1.0).contains(x)));
        let class = rows.label(i);
        assert!(class.is_none_or(|class| rows.classes().is_some_and(|n| class < n)));
    }
}
