//! Whatever text a manifest is, it is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugins::manifest::Manifest;

fuzz_target!(|text: &str| {
    let Ok(manifest) = text.parse::<Manifest>() else {
        return;
    };
    // What was taken holds together.
    assert!(manifest.limits.check().is_ok());
    assert!(manifest.capabilities.check().is_ok());
    for capability in manifest.capabilities.named() {
        assert!(manifest.capabilities.line(capability).is_some());
        assert!(manifest.capabilities.sentence(capability).is_some());
    }
});
