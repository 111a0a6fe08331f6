//! Whatever bytes are uploaded, they are a plugin or refused with a code.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugins::grants::Capabilities;
use plugins::trust::KeyRing;
use plugins::{bundle, shape};

const MANIFEST: &str = "name = \"a\"\nversion = \"1.0.0\"\nworld = \"action\"\n\
                        interface = \"forewright:plugin@1\"\n[action]\ninput = {}\noutput = {}\n";

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    // The same as a component under a manifest, or what is within would seldom be reached.
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    component.extend_from_slice(bytes);
    look(&bundle::pack(&component, MANIFEST));
});

fn look(file: &[u8]) {
    let (bundle, manifest) = match bundle::open(file) {
        Ok(opened) => opened,
        Err(refused) => {
            assert!(refused.code().starts_with("plugin."));
            return;
        }
    };
    let _ = KeyRing::default().signer(bundle.signed, bundle.signature);
    let admitted = shape::read(bundle.component)
        .and_then(|shape| shape::admit(&shape, &manifest, &Capabilities::default()));
    if let Err(refused) = admitted {
        assert!(refused.code().starts_with("plugin."));
    }
}
