//! What a Rust file defines, declares and imports.

use super::tokens::{tokens, without_tests};
use std::collections::BTreeSet;

/// The segments of a path.
pub(super) type Names = Vec<String>;

/// A name that a `use` brings into a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// The name, or `*`.
    pub(super) name: String,
    pub(super) path: Names,
    /// Whether it is a re-export.
    pub(super) public: bool,
}

/// What is in a file, without its tests.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The items that it defines.
    pub(super) items: BTreeSet<String>,
    /// The modules that it declares in files of their own.
    pub(super) modules: BTreeSet<String>,
    pub(super) imports: Vec<Import>,
    /// The paths in its code, of two segments or more.
    pub(super) paths: BTreeSet<Names>,
    /// The words of its code outside `use`.
    pub(super) words: BTreeSet<String>,
}

/// Keywords before the name of an item.
const ITEMS: [&str; 9] = [
    "fn", "struct", "enum", "trait", "type", "const", "static", "union", "impl",
];

impl Contents {
    /// Reads a file's text.
    pub(super) fn read(text: &str) -> Self {
        let tokens = without_tests(&tokens(text));
        let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
        let mut contents = Self::default();
        // Open braces, and how many of them were open where each module within the file began.
        let (mut braces, mut inline) = (0, Vec::new());
        let mut at = 0;
        while at < tokens.len() {
            let next = tokens.get(at + 1).copied().unwrap_or_default();
            match tokens[at] {
                "{" => braces += 1,
                "}" => {
                    braces -= 1;
                    inline.pop_if(|outside| *outside == braces);
                }
                "mod" if tokens.get(at + 2) == Some(&";") => {
                    contents.modules.insert(next.to_owned());
                }
                "mod" if tokens.get(at + 2) == Some(&"{") => {
                    contents.items.insert(next.to_owned());
                    inline.push(braces);
                }
                "use" if next != "<" => {
                    let public = at > 0 && matches!(tokens[at - 1], "pub" | ")");
                    let before = contents.imports.len();
                    at = contents.use_tree(&tokens, at + 1, &Vec::new(), public);
                    for import in &mut contents.imports[before..] {
                        import.path = leave(std::mem::take(&mut import.path), inline.len());
                    }
                    continue;
                }
                "macro_rules" => {
                    let name = tokens.get(at + 2).copied().unwrap_or_default();
                    contents.items.insert(name.to_owned());
                }
                keyword if ITEMS.contains(&keyword) && braces == inline.len() => {
                    contents.items.insert(next.to_owned());
                }
                _ => {}
            }
            at = contents.path(&tokens, at, inline.len());
        }
        contents
    }

    /// Reads the path or the token at `at`; returns the index after it.
    fn path(&mut self, tokens: &[&str], at: usize, depth: usize) -> usize {
        let is_word = |at: usize| {
            let token = tokens.get(at).and_then(|token| token.chars().next());
            token.is_some_and(|c| c.is_alphabetic() || c == '_')
        };
        if !is_word(at) {
            return at + 1;
        }
        let mut names = vec![tokens[at].to_owned()];
        let mut end = at + 1;
        while tokens.get(end) == Some(&"::") && is_word(end + 1) {
            names.push(tokens[end + 1].to_owned());
            end += 2;
        }
        let starts = at == 0 || tokens[at - 1] != "::";
        if starts {
            self.words.insert(names[0].clone());
            if names.len() > 1 {
                self.paths.insert(leave(names, depth));
            }
        }
        end
    }

    /// Reads a tree of a `use` below `prefix`; returns the index after it.
    fn use_tree(&mut self, tokens: &[&str], start: usize, prefix: &Names, public: bool) -> usize {
        let mut path = prefix.clone();
        let mut at = start;
        while let Some(&token) = tokens.get(at) {
            at += 1;
            match token {
                "::" => {}
                "{" => {
                    while tokens.get(at).is_some_and(|token| *token != "}") {
                        at = self.use_tree(tokens, at, &path, public);
                        at += usize::from(tokens.get(at) == Some(&","));
                    }
                    return at + 1;
                }
                "," | "}" | ";" => {
                    at -= 1;
                    break;
                }
                "as" => {
                    let name = tokens.get(at).copied().unwrap_or_default().to_owned();
                    self.imports.push(Import { name, path, public });
                    return at + 1;
                }
                // `use a::{self}` imports `a`.
                "self" if !path.is_empty() => {}
                name => path.push(name.to_owned()),
            }
        }
        if let Some(name) = path
            .last()
            .cloned()
            .filter(|_| path.len() > prefix.len() || at > start)
        {
            self.imports.push(Import { name, path, public });
        }
        at
    }
}

/// A path as the file's own module sees it, from one in a module `depth` levels within the file.
fn leave(mut names: Names, depth: usize) -> Names {
    let up = names.iter().take_while(|name| *name == "super").count();
    if depth > 0 && up > 0 {
        names.drain(..up.min(depth));
        if up <= depth {
            names.insert(0, "self".to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(text: &str) -> Vec<String> {
        let imports = Contents::read(text).imports.into_iter();
        let shown = imports.map(|import| {
            let public = if import.public { "pub " } else { "" };
            format!("{public}{} = {}", import.name, import.path.join("::"))
        });
        shown.collect()
    }

    #[test]
    fn trees_of_use_are_read() {
        let text = "use crate::a::{self, b as c, d::{E, f::*}};\npub(crate) use super::g;";
        let expected = [
            "a = crate::a",
            "c = crate::a::b",
            "E = crate::a::d::E",
            "* = crate::a::d::f::*",
            "pub g = super::g",
        ];
        assert_eq!(imports(text), expected);
    }

    #[test]
    fn items_modules_and_paths_are_read() {
        let text = "mod a; pub struct B { c: crate::d::E } impl B { fn f() { a::g(); } }\n\
                    mod h { use super::i; use super::super::j; }";
        let contents = Contents::read(text);
        assert!(contents.modules.iter().eq(["a"]));
        assert!(contents.items.iter().eq(["B", "h"]));
        let paths: Vec<_> = contents.paths.iter().map(|path| path.join("::")).collect();
        assert_eq!(paths, ["a::g", "crate::d::E"]);
        assert_eq!(imports(text), ["i = self::i", "j = super::j"]);
    }
}
