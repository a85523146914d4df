//! The section "Samples".

use super::{Report, check};

const ROWS: &[Report] = &[];

#[test]
fn the_page_says_what_happens() {
    check("Samples", ROWS);
}
