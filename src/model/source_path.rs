//! A function's path, told by its file, where debug information keeps only its bare name.
//!
//! With `debug = "line-tables-only"` a function that was inlined is just `lock`. Its file says more: it is
//! `std::sys::sync::mutex::futex::lock`, since modules lie in files of their names. Which crate a folder belongs to is
//! told by the units of debug information, whose names hold both; else by the folder's name for fetched packages; else
//! by the function that it was inlined into. The type whose method it is stays unknown, and a module that has no file
//! of its own is left out.

/// The crates of a program, by where their files are.
#[derive(Debug, Default)]
pub(crate) struct Crates(Vec<Crate>);

#[derive(Debug)]
struct Crate {
    /// The folder of its modules' files; the file, if it is a test's or an example's: those have one.
    root: String,
    name: String,
}

impl Crates {
    /// Learns from a unit of debug information, named `src/lib.rs/@/shop.9f86d081-cgu.0` and compiled in `folder`.
    /// Incremental builds have no crate's name there.
    pub(crate) fn learn(&mut self, unit: &str, folder: &str) {
        let Some((file, unit)) = unit.split_once("/@/") else { return };
        let Some((name, _)) = unit.split_once('.').filter(|(name, _)| is_word(name)) else { return };
        let file = if file.starts_with('/') { file.to_owned() } else { format!("{folder}/{file}") };
        let Some(root) = file.strip_suffix(".rs") else { return };
        let root = root.strip_suffix("/lib").or_else(|| root.strip_suffix("/main")).unwrap_or(root);
        if self.0.iter().all(|known| known.root != root || known.name != name) {
            self.0.push(Crate { root: root.to_owned(), name: name.to_owned() });
        }
    }

    /// The path of the function `name` in `file`, as far as that tells. `outermost` is the function that it was
    /// inlined into, with its file: code of the same package is of the same crate.
    pub(crate) fn path(&self, name: &str, file: &str, outermost: Option<(&str, &str)>) -> String {
        let name = bare(name);
        let Some(file) = file.strip_suffix(".rs") else { return name.to_owned() };
        let guessed = || {
            let (root, modules) = package(file)?;
            Some((published(root).or_else(|| of_outermost(root, outermost?))?, modules))
        };
        let Some((crate_name, modules)) = self.known(file).or_else(guessed) else { return name.to_owned() };
        let modules = modules.split('/').filter(|module| !["lib", "main", "mod"].contains(module));
        let mut path = crate_name;
        for part in modules.chain([name]).filter(|part| !part.is_empty()) {
            path.push_str("::");
            path.push_str(part);
        }
        path
    }

    /// The crate whose folder a file lies in, and the file's place in it as modules.
    fn known<'a>(&self, file: &'a str) -> Option<(String, &'a str)> {
        let place =
            |root: &str| file.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let nearest = self
            .0
            .iter()
            .filter(|known| place(&known.root).is_some())
            .max_by_key(|known| known.root.len())?;
        Some((nearest.name.clone(), place(&nearest.root)?))
    }
}

/// A name without its generic arguments: the linker's names have none, and closures as arguments make them endless.
fn bare(name: &str) -> &str {
    match name.find('<') {
        Some(end @ 1..) => &name[..end],
        _ => name,
    }
}

/// The package that a file belongs to, as the folder or file of its crate's root, and the file's place in that.
fn package(file: &str) -> Option<(&str, &str)> {
    // Fetched packages and an installed standard library lie below a folder `src` themselves.
    let below =
        ["/registry/src/", "/rustlib/src/"].iter().find_map(|part| Some(file.find(part)? + part.len()));
    let below = below.unwrap_or(0);
    if let Some(at) = file[below..].find("/src/") {
        return Some((&file[..below + at], &file[below + at + "/src/".len()..]));
    }
    // A test, an example or a benchmark is a crate of its own, in one file.
    let apart = ["/tests/", "/examples/", "/benches/"].iter().any(|folder| file.contains(folder));
    apart.then_some((file, ""))
}

/// The crate of a package that is the standard library's or was fetched: its folder has the crate's name.
fn published(package: &str) -> Option<String> {
    let folder = package.rsplit('/').next()?;
    let std = ["/rustc/", "/rustlib/src/rust/"].iter().any(|part| package.contains(part));
    if std && package.contains("/library/") {
        return Some(folder.to_owned());
    }
    let is_fetched =
        ["/registry/src/", "/git/checkouts/", "/vendor/"].iter().any(|part| package.contains(part));
    let is_version = |at: usize| folder[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    let version = folder.match_indices('-').map(|(at, _)| at).find(|&at| is_version(at));
    is_fetched.then(|| folder[..version.unwrap_or(folder.len())].replace('-', "_"))
}

/// The crate of a function, if its file is of the same package.
fn of_outermost(package: &str, (function, file): (&str, &str)) -> Option<String> {
    let (its_package, _) = self::package(file.strip_suffix(".rs")?)?;
    let (name, _) = function.split_once("::").filter(|(name, _)| is_word(name))?;
    (its_package == package).then(|| name.to_owned())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_tell_which_folder_is_whose() {
        let mut crates = Crates::default();
        crates.learn("src/lib.rs/@/kymo.b9d8b5626d09bd1b-cgu.14", "/home/me/kymo");
        crates.learn("tests/waits.rs/@/waits.c0ffee-cgu.0", "/home/me/kymo");
        crates.learn("/r/library/std/src/lib.rs/@/std.f00-cgu.0", "/elsewhere");
        crates.learn("src/main.rs/@/f3zyk50zppc9sm4d46ptvmzxz", "/home/me/incremental");
        crates.learn("main.c", "/home/me");
        for (name, file, path) in [
            ("capture", "/home/me/kymo/src/unwind/mod.rs", "kymo::unwind::capture"),
            ("{closure#0}<u8>", "/home/me/kymo/tests/waits.rs", "waits::{closure#0}"),
            ("f", "/r/library/std/src/sync/mod.rs", "std::sync::f"),
            ("f", "/home/me/incremental/src/main.rs", "f"),
            ("f", "/home/me/kymo/srcs/a.rs", "f"),
        ] {
            assert_eq!(crates.path(name, file, None), path);
        }
    }

    #[test]
    fn the_standard_library_and_fetched_packages_are_known() {
        let std = "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/std/src";
        let registry = "/home/me/.cargo/registry/src/index-1949cf8c6b5b557f";
        for (name, file, path) in [
            ("lock", format!("{std}/sys/sync/mutex/futex.rs"), "std::sys::sync::mutex::futex::lock"),
            ("recv<u32>", format!("{std}/sync/mpmc/mod.rs"), "std::sync::mpmc::recv"),
            ("{closure#0}<a::b, ()>", format!("{std}/panic.rs"), "std::panic::{closure#0}"),
            ("sleep", format!("{registry}/tokio-1.54.1/src/time/sleep.rs"), "tokio::time::sleep::sleep"),
            ("run", format!("{registry}/a-b-2.0.0-rc.1/src/lib.rs"), "a_b::run"),
            (
                "f",
                "/rust/lib/rustlib/src/rust/library/core/src/ops/function.rs".into(),
                "core::ops::function::f",
            ),
        ] {
            assert_eq!(Crates::default().path(name, &file, None), path);
        }
    }

    #[test]
    fn code_of_the_same_package_is_of_the_same_crate() {
        let main = ("shop::main", "/home/me/shop/src/main.rs");
        let test = ("counts::a_sale", "/home/me/shop/tests/counts.rs");
        let method = ("<shop::Hat as core::fmt::Display>::fmt", "/home/me/shop/src/main.rs");
        for (name, file, outermost, path) in [
            ("sell<Hat>", "/home/me/shop/src/counter/mod.rs", main, "shop::counter::sell"),
            ("sell", "/home/me/other/src/counter.rs", main, "sell"),
            ("{closure#1}", "/home/me/shop/tests/counts.rs", test, "counts::{closure#1}"),
            ("sell", "/home/me/shop/src/counter.rs", test, "sell"),
            ("sell", "/home/me/shop/src/counter.rs", method, "sell"),
        ] {
            assert_eq!(Crates::default().path(name, file, Some(outermost)), path);
        }
    }

    #[test]
    fn what_the_file_does_not_tell_stays_as_it_is() {
        for file in ["", "main.c", "/src/", "x.rs", "<anon>"] {
            assert_eq!(Crates::default().path("f", file, None), "f");
        }
        assert_eq!(Crates::default().path("<impl a::B>", "", None), "<impl a::B>");
    }
}
