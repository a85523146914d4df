//! A setting that is out of its range.

/// A setting that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {value} must be {range}")]
pub struct SettingsError {
    /// The field of [`Settings`](crate::Settings), as `field.field`.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What it must be.
    pub range: &'static str,
}

impl SettingsError {
    /// The first of (name, whether it is valid, value, range) that is not valid.
    ///
    /// # Errors
    ///
    /// If there is one.
    pub fn first<const N: usize>(
        checks: [(&'static str, bool, String, &'static str); N],
    ) -> Result<(), Self> {
        let mut checks = checks.into_iter();
        match checks.find(|(_, valid, _, _)| !valid) {
            None => Ok(()),
            Some((name, _, value, range)) => Err(Self { name, value, range }),
        }
    }
}
