//! Does something in the world: here it only logs what it was asked, and answers that it is done.
//!
//! Begin with `run`: do there what your action does, and hand `key` on as its idempotency key. JSON is plain text here;
//! to read more of it, add `serde_json` to Cargo.toml.

use std::fmt::Write;

use plugin_sdk::act::PluginError;
use plugin_sdk::info;

struct Announce;

impl plugin_sdk::Action for Announce {
    fn run(input: String, key: String) -> Result<String, PluginError> {
        let input = input.trim();
        if !(input.starts_with('{') && input.ends_with('}')) {
            return Err(PluginError::InvalidInput(
                "the input has to be an object".to_owned(),
            ));
        }
        info!(key = key; "was asked for {input}");
        Ok(format!(r#"{{"done": "{}"}}"#, escaped(&key)))
    }
}

plugin_sdk::action!(Announce);

/// What stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\0'..' ' => _ = write!(escaped, "\\u{:04x}", u32::from(c)),
            _ => escaped.push(c),
        }
    }
    escaped
}
