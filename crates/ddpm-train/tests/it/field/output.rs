//! The section "Output and signals".

use super::{Report, check};

const ROWS: &[Report] = &[];

#[test]
fn the_page_says_what_happens() {
    check("Output and signals", ROWS);
}
