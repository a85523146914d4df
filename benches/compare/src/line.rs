//! The lines of JSON that the measured programs print: flat objects, whose texts have no escapes.

/// The number `key` of an object; `None` if it is missing or not a number.
pub fn number(line: &str, key: &str) -> Option<f64> {
    let (_, rest) = line.split_once(&format!("\"{key}\":"))?;
    rest.split([',', '}']).next()?.trim().parse().ok()
}

/// The text `key` of an object; `None` if it is missing.
pub fn text<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{key}\": \""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        let line = "{\"loop\": \"LCM a: b\", \"ms\": 12.5, \"peak_mib\": 100.5}";
        assert_eq!(number(line, "ms"), Some(12.5));
        assert_eq!(number(line, "peak_mib"), Some(100.5));
        assert_eq!(number("{\"ms\":7}", "ms"), Some(7.0));
        assert_eq!(number("{\"peak_mib\": null}", "peak_mib"), None);
        assert_eq!(number(line, "s"), None);
        assert_eq!(text(line, "loop"), Some("LCM a: b"));
        assert_eq!(text(line, "s"), None);
    }
}
