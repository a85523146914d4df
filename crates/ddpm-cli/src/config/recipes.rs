//! The recipes that are compiled into the program.

use super::error::ConfigError;

/// The recipes compiled into the program: name and TOML.
pub const RECIPES: [(&str, &str); 7] = [
    ("digits", include_str!("../../recipes/digits.toml")),
    ("digits-edm", include_str!("../../recipes/digits-edm.toml")),
    ("images", include_str!("../../recipes/images.toml")),
    (
        "fashion-mnist",
        include_str!("../../recipes/fashion-mnist.toml"),
    ),
    ("cifar10", include_str!("../../recipes/cifar10.toml")),
    ("swiss-roll", include_str!("../../recipes/swiss-roll.toml")),
    (
        "swiss-roll-flow",
        include_str!("../../recipes/swiss-roll-flow.toml"),
    ),
];

/// A recipe's TOML.
///
/// # Errors
///
/// If there is no such recipe; the message lists those there are.
pub fn recipe(name: &str) -> Result<&'static str, ConfigError> {
    RECIPES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
        .ok_or_else(|| ConfigError::UnknownRecipe {
            name: name.to_owned(),
            known: RECIPES.map(|(name, _)| name).join(", "),
        })
}
