//! A scheduler's file key by key, so that an error can name the key and its value.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::SchedulerError;

/// The keys that have not been taken yet.
pub(super) struct Keys {
    file: String,
    class: String,
    map: Map<String, Value>,
}

impl Keys {
    /// Reads a file's text, and takes what is not the scheduler's own.
    pub(super) fn parse(text: &str, file: &str) -> Result<Self, SchedulerError> {
        let read = serde_json::from_str(&strict(text));
        let map: Map<String, Value> = read.map_err(|error| SchedulerError::Json {
            file: file.to_owned(),
            error,
        })?;
        let (file, class) = (file.to_owned(), String::new());
        let mut keys = Self { file, class, map };
        keys.class = keys.take("_class_name", String::new())?;
        for key in ["_diffusers_version", "_name_or_path", "_use_default_values"] {
            keys.take::<Value>(key, Value::Null)?;
        }
        Ok(keys)
    }

    /// The file's `_class_name`, empty if it has none.
    pub(super) fn class(&self) -> &str {
        &self.class
    }

    /// A key's value, or what it is by default.
    pub(super) fn take<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        default: T,
    ) -> Result<T, SchedulerError> {
        let Some(value) = self.map.remove(key) else {
            return Ok(default);
        };
        T::deserialize(&value).map_err(|error| self.bad(key, &value, &error.to_string()))
    }

    /// What a key's value stands for: one of these.
    pub(super) fn choice<N: Copy + PartialEq, T: Copy>(
        &mut self,
        key: &'static str,
        default: N,
        choices: &[(N, T)],
    ) -> Result<T, SchedulerError>
    where
        Value: From<N>,
    {
        let value = self.map.remove(key).unwrap_or_else(|| default.into());
        let found = choices.iter().find(|(name, _)| Value::from(*name) == value);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names = choices.iter().map(|(name, _)| Value::from(*name));
            self.not_one_of(key, &value, names)
        })
    }

    /// Takes a key whose value must be one of these if it is there.
    pub(super) fn only(
        &mut self,
        key: &'static str,
        supported: &[Value],
    ) -> Result<(), SchedulerError> {
        match self.map.remove(key) {
            Some(value) if !supported.contains(&value) => {
                Err(self.not_one_of(key, &value, supported.iter().cloned()))
            }
            _ => Ok(()),
        }
    }

    fn not_one_of(
        &self,
        key: &'static str,
        value: &Value,
        names: impl Iterator<Item = Value>,
    ) -> SchedulerError {
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        let reason = format!("not supported; only {} is", names.join(" or "));
        self.bad(key, value, &reason)
    }

    /// An error about a key that has been taken.
    pub(super) fn bad(&self, key: &'static str, value: &Value, reason: &str) -> SchedulerError {
        SchedulerError::Value {
            file: self.file.clone(),
            key,
            value: value.to_string(),
            reason: reason.to_owned(),
        }
    }

    /// The end: whatever was not taken is unknown.
    pub(super) fn finish(self) -> Result<(), SchedulerError> {
        if self.map.is_empty() {
            return Ok(());
        }
        Err(SchedulerError::Unknown {
            file: self.file,
            class: self.class,
            keys: self.map.into_iter().map(|(key, _)| key).collect(),
        })
    }
}

/// JSON of a text by Python, which writes numbers that JSON does not have: they become strings.
fn strict(text: &str) -> String {
    let mut strict = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| !in_string && rest.starts_with(word));
        if let Some(word) = word {
            strict.push_str(&json!(word).to_string());
            rest = &rest[word.len()..];
            continue;
        }
        let mut taken = c.len_utf8();
        if in_string && c == '\\' {
            // What is escaped does not end the string.
            taken += rest[taken..].chars().next().map_or(0, char::len_utf8);
        } else if c == '"' {
            in_string = !in_string;
        }
        strict.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    strict
}
