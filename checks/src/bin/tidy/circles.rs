//! The rule for imports: no circle of files in a library or a program.
//!
//! A file imports the file that defines an item, whatever re-exports the path goes through. A file
//! that only declares modules and re-exports their items defines none, so it is in no circle.
//! Declaring a module, or re-exporting an item that the file does not use itself, is no import.

use super::imports::{Contents, Names};
use anyhow::Context as _;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
};

/// The circles among the files of the target with this root file, the shortest of each group: each
/// file imports the next, and the last one imports the first.
pub(super) fn find(root: &Path) -> anyhow::Result<Vec<Vec<PathBuf>>> {
    let mut modules = Modules::default();
    modules.read(root, Vec::new())?;
    let edges = modules.edges();
    let mut circles: Vec<_> = edges
        .keys()
        .filter_map(|from| shortest(from, &edges))
        .collect();
    circles.sort_by_key(Vec::len);
    let mut seen = BTreeSet::new();
    circles.retain(|circle| {
        let new = circle.iter().all(|module| !seen.contains(module));
        seen.extend(circle.iter().cloned());
        new
    });
    let file = |module: &Names| modules.0[module].0.clone();
    Ok(circles
        .iter()
        .map(|circle| circle.iter().map(file).collect())
        .collect())
}

/// The message that names the files of a circle in order.
pub(super) fn reason(circle: &[PathBuf]) -> String {
    let common = |file: &Path| circle.iter().all(|other| other.starts_with(file));
    let folder = circle[0].ancestors().skip(1).find(|folder| common(folder));
    let name = |file: &PathBuf| {
        let inside = folder.and_then(|folder| file.strip_prefix(folder).ok());
        inside.unwrap_or(file).display().to_string()
    };
    let names: Vec<_> = circle.iter().chain(&circle[..1]).map(name).collect();
    format!("imports in a circle: {}", names.join(" → "))
}

/// The shortest circle through a module.
fn shortest(from: &Names, edges: &BTreeMap<Names, BTreeSet<Names>>) -> Option<Vec<Names>> {
    let mut before = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(module) = queue.pop_front() {
        for next in edges.get(module).into_iter().flatten() {
            if next == from {
                let mut circle = vec![module.clone()];
                while let Some(earlier) = before.get(&circle[circle.len() - 1]) {
                    circle.push(Names::clone(earlier));
                }
                circle.reverse();
                return Some(circle);
            }
            if !before.contains_key(next) {
                before.insert(next.clone(), module.clone());
                queue.push_back(next);
            }
        }
    }
    None
}

/// The modules of a target that have files, by their paths.
#[derive(Default)]
struct Modules(BTreeMap<Names, (PathBuf, Contents)>);

/// What a path leads to.
enum Place {
    Module(Names),
    /// An item that the module's file defines.
    Item(Names),
}

impl Modules {
    /// Reads a module's file and those of the modules below it.
    fn read(&mut self, file: &Path, module: Names) -> anyhow::Result<()> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let contents = Contents::read(&text);
        let named = module
            .last()
            .is_some_and(|name| file.file_stem() == Some(name.as_ref()));
        let folder = if named {
            file.with_extension("")
        } else {
            file.with_file_name("")
        };
        for name in &contents.modules {
            let files = [format!("{name}.rs"), format!("{name}/mod.rs")];
            let file = files
                .iter()
                .map(|file| folder.join(file))
                .find(|file| file.exists());
            // A module that another platform has, or one that a macro or an attribute places.
            if let Some(file) = file {
                self.read(
                    &file,
                    [module.as_slice(), std::slice::from_ref(name)].concat(),
                )?;
            }
        }
        self.0.insert(module, (file.to_path_buf(), contents));
        Ok(())
    }

    /// The modules whose items each module uses.
    fn edges(&self) -> BTreeMap<Names, BTreeSet<Names>> {
        let edges = |(module, (_, contents)): (&Names, &(PathBuf, Contents))| {
            let mut used = BTreeSet::new();
            let mut add = |place| {
                if let Some(Place::Item(owner)) = place
                    && owner != *module
                {
                    used.insert(owner);
                }
            };
            for import in &contents.imports {
                if import.name == "*" {
                    let from = &import.path[..import.path.len() - 1];
                    if let Some(Place::Module(from)) = self.resolve(module, from, 0) {
                        let words = contents.words.iter();
                        words.for_each(|word| add(self.inside(&from, word, 0)));
                    }
                } else if !import.public || contents.words.contains(&import.name) {
                    add(self.resolve(module, &import.path, 0));
                }
            }
            for path in &contents.paths {
                add(self.resolve(module, path, 0));
            }
            (module.clone(), used)
        };
        self.0.iter().map(edges).collect()
    }

    /// Follows a path from a module; `None` if it leads out of the target.
    fn resolve(&self, module: &Names, path: &[String], depth: usize) -> Option<Place> {
        let mut place = Place::Module(module.clone());
        for (number, name) in path.iter().enumerate() {
            let Place::Module(here) = &place else { break };
            place = match name.as_str() {
                "crate" => Place::Module(Names::new()),
                "self" => place,
                "super" => Place::Module(here.split_last()?.1.to_vec()),
                // `a::a::B`: the second `a` is looked up in the first one only.
                name => match self.inside(here, name, depth) {
                    Some(inside) => inside,
                    None if number == 0 => return None,
                    None => Place::Item(here.clone()),
                },
            };
        }
        Some(place)
    }

    /// What a name is within a module.
    fn inside(&self, module: &Names, name: &str, depth: usize) -> Option<Place> {
        // Re-exports may lead to each other.
        if depth > 16 {
            return None;
        }
        let (_, contents) = self.0.get(module)?;
        if contents.modules.contains(name) {
            let below = [module.as_slice(), &[name.to_owned()]].concat();
            return self.0.contains_key(&below).then_some(Place::Module(below));
        }
        if contents.items.contains(name) {
            return Some(Place::Item(module.clone()));
        }
        let mut imports = contents.imports.iter();
        if let Some(import) = imports.find(|import| import.name == name) {
            // A path that begins with its own name leads out of the target: `use a::a`.
            let own = import.path.first().is_some_and(|first| first == name);
            return if own {
                None
            } else {
                self.resolve(module, &import.path, depth + 1)
            };
        }
        let globs = contents.imports.iter().filter(|import| import.name == "*");
        globs.into_iter().find_map(|glob| {
            let from = &glob.path[..glob.path.len() - 1];
            let Place::Module(from) = self.resolve(module, from, depth + 1)? else {
                return None;
            };
            self.inside(&from, name, depth + 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles among files of these texts, the first of which is the root.
    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let circles = find(&folder.path().join(files[0].0)).unwrap();
        circles.iter().map(|circle| reason(circle)).collect()
    }

    const ROOT: (&str, &str) = ("lib.rs", "mod a; mod b; mod c; pub use {a::A, b::B};");

    #[test]
    fn a_circle_is_named_in_order() {
        let found = circles(&[
            ROOT,
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "pub struct B(super::c::C);"),
            ("c.rs", "use super::a; pub struct C(a::A);"),
        ]);
        assert_eq!(found, ["imports in a circle: a.rs → b.rs → c.rs → a.rs"]);
    }

    #[test]
    fn a_circle_goes_through_re_exports() {
        let found = circles(&[
            ROOT,
            ("a.rs", "use crate::B; pub struct A(B);"),
            ("b.rs", "use crate::*; pub struct B(A);"),
            ("c.rs", ""),
        ]);
        assert_eq!(found, ["imports in a circle: a.rs → b.rs → a.rs"]);
    }

    #[test]
    fn a_parent_that_defines_what_its_child_uses_and_uses_its_child() {
        let child = ("a/d.rs", "use super::A; pub struct D(A);");
        let uses = ("a.rs", "mod d; use d::D; pub struct A; fn f(d: D) {}");
        let shown = ("a.rs", "mod d; pub use d::D; pub struct A;");
        let rest = [("b.rs", ""), ("c.rs", "")];
        let found = circles(&[ROOT, uses, child, rest[0], rest[1]]);
        assert_eq!(found, ["imports in a circle: a.rs → a/d.rs → a.rs"]);
        let found = circles(&[ROOT, shown, child, rest[0], rest[1]]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn tests_and_other_crates_make_no_circle() {
        let found = circles(&[
            ROOT,
            (
                "a.rs",
                "use std::b::B; pub struct A; #[cfg(test)] mod tests { use crate::b; }",
            ),
            (
                "b.rs",
                "use crate::a::A; pub struct B(A); fn f(x: crate::a::A) {}",
            ),
            ("c.rs", ""),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }
}
