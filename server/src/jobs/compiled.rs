//! The scripts a process has compiled, of which the least recently used are forgotten.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use workflows::script::Script;

/// How much text the remembered scripts have together; a compiled script takes a small multiple of its text.
const MOST_BYTES: usize = 4 << 20;

/// Compiled scripts by revision; copies share them.
#[derive(Clone)]
pub(super) struct Compiled {
    most_bytes: usize,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    scripts: BTreeMap<String, (Script, u64)>,
    bytes: usize,
    /// Counts the uses: the smaller the number of a script, the longer ago its last.
    uses: u64,
}

impl Default for Compiled {
    fn default() -> Self {
        Self::of_at_most(MOST_BYTES)
    }
}

impl Compiled {
    fn of_at_most(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            kept: Arc::default(),
        }
    }

    /// The script of a revision, if it is remembered.
    pub(super) fn get(&self, revision: &str) -> Option<Script> {
        let mut kept = self.kept();
        kept.uses += 1;
        let uses = kept.uses;
        let (script, used) = kept.scripts.get_mut(revision)?;
        *used = uses;
        Some(script.clone())
    }

    /// Remembers a script, whatever its size, and forgets others for it.
    pub(super) fn put(&self, revision: &str, script: Script) {
        let mut kept = self.kept();
        kept.uses += 1;
        let uses = kept.uses;
        kept.bytes += script.source().len();
        let before = kept.scripts.insert(revision.to_owned(), (script, uses));
        kept.bytes -= before.map_or(0, |(script, _)| script.source().len());
        while kept.bytes > self.most_bytes && kept.scripts.len() > 1 {
            kept.forget_one();
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Forgets what was used longest ago. They are looked through for it, which is little beside compiling one.
    fn forget_one(&mut self) {
        let oldest = self.scripts.iter().min_by_key(|(_, (_, used))| *used);
        if let Some(revision) = oldest.map(|(revision, _)| revision.clone())
            && let Some((script, _)) = self.scripts.remove(&revision)
        {
            self.bytes -= script.source().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_scripts_are_forgotten() {
        let source = "fn run(event) { 1 }";
        let script = |name: &str| Script::compile(name, source).expect("compiles");
        let compiled = Compiled::of_at_most(source.len() * 3);
        let known = |names: &str| names.chars().map(|c| c.to_string()).collect::<Vec<_>>();
        for name in known("abc") {
            compiled.put(&name, script(&name));
        }
        assert!(compiled.get("a").is_some());
        // The same once more takes no more room.
        compiled.put("c", script("c"));
        compiled.put("d", script("d"));
        let kept =
            |compiled: &Compiled| compiled.kept().scripts.keys().cloned().collect::<String>();
        assert_eq!(kept(&compiled), "acd");
        let long = format!("{source}{}", " ".repeat(source.len() * 5));
        compiled.put("e", Script::compile("e", &long).expect("compiles"));
        assert_eq!(kept(&compiled), "e", "one is always kept");
        compiled.put("f", script("f"));
        assert_eq!(kept(&compiled), "f");
        assert_eq!(compiled.kept().bytes, source.len());
    }
}
