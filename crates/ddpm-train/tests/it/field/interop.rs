//! The section "Files of diffusers".

use super::{Report, check};

const ROWS: &[Report] = &[];

#[test]
fn the_page_says_what_happens() {
    check("Files of diffusers", ROWS);
}
