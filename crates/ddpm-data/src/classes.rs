//! The names of classes, as users read and enter them.

use std::fmt::Write;

/// Columns per line.
const WIDTH: usize = 80;

/// The maximum number of names in a message.
const MOST: usize = 12;

/// The maximum number of lines for classes.
const LINES: usize = 6;

/// The numbers, names and row counts of classes in lines of 80 columns; only the first if there are
/// many.
pub fn describe(names: &[String], counts: &[usize]) -> String {
    let mut text = format!("{} classes:", counts.len());
    let (mut column, mut lines) = (text.len(), 1);
    for (class, count) in counts.iter().enumerate() {
        let entry = match names.get(class).filter(|name| **name != class.to_string()) {
            Some(name) => format!(" {class} {} ({count})", shown(name)),
            None => format!(" {class} ({count})"),
        };
        let last = class + 1 == counts.len();
        let entry = if last { entry } else { entry + "," };
        let length = entry.chars().count();
        if column + length > WIDTH {
            if lines == LINES {
                // Writing to a string cannot fail.
                let _ = write!(text, " and {} more", counts.len() - class);
                return text;
            }
            lines += 1;
            column = 1;
            text += "\n ";
        }
        column += length;
        text += &entry;
    }
    text
}

/// A name as shown in a message: at most 24 characters, with control characters escaped.
fn shown(name: &str) -> String {
    let cut = name
        .char_indices()
        .nth(24)
        .map_or(name.len(), |(end, _)| end);
    let dots = if cut < name.len() { "…" } else { "" };
    format!("{}{dots}", name[..cut].escape_debug())
}

/// Describes the first class whose name differs between `here` and `there`.
pub fn renamed(here: &[String], there: &[String]) -> Option<String> {
    let mut pairs = here.iter().zip(there).enumerate();
    pairs.find_map(|(class, (here, there))| {
        let (one, other) = (shown(here), shown(there));
        (here != there).then(|| format!("class {class} was {one}, but is {other} in the data"))
    })
}

/// The number of the class with the name `given`, or if there is none, with this number.
///
/// # Errors
///
/// If no class matches; the message lists the classes, or the first of them if there are many.
pub fn find(given: &str, names: &[String], count: usize) -> Result<usize, String> {
    if let Some(class) = names.iter().position(|name| name == given) {
        return Ok(class);
    }
    if let Some(class) = given.parse().ok().filter(|class| *class < count) {
        return Ok(class);
    }
    let mut known: Vec<_> = names.iter().take(MOST).map(|name| shown(name)).collect();
    if names.len() > MOST {
        known.push(format!("{} more", names.len() - MOST));
    }
    let named = if known.is_empty() {
        String::new()
    } else {
        format!(", by name {}", known.join(", "))
    };
    Err(format!(
        "{}: the network knows the classes 0 to {}{named}",
        shown(given),
        count.saturating_sub(1)
    ))
}

#[cfg(test)]
mod tests {
    use super::{describe, find};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_wins_over_a_number() {
        let animals = names(&["cat", "dog", "1"]);
        assert_eq!(find("dog", &animals, 3), Ok(1));
        assert_eq!(find("0", &animals, 3), Ok(0));
        assert_eq!(find("1", &animals, 3), Ok(2));
        assert_eq!(find("3", &[], 4), Ok(3));
        let refusal = "cow: the network knows the classes 0 to 2, by name cat, dog, 1";
        assert_eq!(find("cow", &animals, 3), Err(refusal.to_owned()));
        let many: Vec<_> = (0..500).map(|i| format!("n{i}")).collect();
        assert!(
            find("-1", &many, 500)
                .unwrap_err()
                .ends_with("n11, 488 more")
        );
    }

    #[test]
    fn classes_are_listed_in_lines() {
        let animals = names(&["cat", "1", "a\nb"]);
        assert_eq!(
            describe(&animals, &[3, 0, 2]),
            "3 classes: 0 cat (3), 1 (0), 2 a\\nb (2)"
        );
        let many: Vec<_> = (0..1000).map(|i| format!("name of {i}")).collect();
        let text = describe(&many, &[5; 1000]);
        assert!(text.lines().count() == 6 && text.lines().all(|line| line.len() <= 95));
        let shown = text.matches("name of").count();
        assert!(
            text.ends_with(&format!(", and {} more", 1000 - shown)),
            "{text}"
        );
    }
}
