//! Long lists in messages.

/// Lines below a message: the first ten, and the number of further lines.
pub struct Lines(pub Vec<String>);

impl std::fmt::Display for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MOST: usize = 10;
        for line in self.0.iter().take(MOST) {
            write!(f, "\n  {line}")?;
        }
        match self.0.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
