//! A plugin as one file: a component that carries its manifest, and perhaps a signature, in custom sections at its end.
//!
//! The signature is over everything before it, so nothing it vouches for can be exchanged. The plugin's digest is that
//! of the whole file.

use sha2::{Digest, Sha256};

use crate::hex;
use crate::manifest::{Manifest, ManifestError};

/// The name of the section with the manifest's text.
const MANIFEST: &str = "forewright:manifest";
/// The name of the section with the signature.
const SIGNATURE: &str = "forewright:signature";
/// What every WebAssembly file begins with.
const MAGIC: &[u8] = b"\0asm";
/// The longest file, in bytes.
pub const LONGEST: usize = 64 << 20;

/// A plugin's file taken apart; the parts are slices of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// The component without what was added to it.
    pub component: &'a [u8],
    /// The text of its manifest.
    pub manifest: &'a str,
    /// What a signature is over: component and manifest.
    pub signed: &'a [u8],
    /// The signature section's content, where there is one.
    pub signature: Option<&'a [u8]>,
}

/// Why a file is no plugin.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Too long.
    #[error("the file has {0} bytes; {LONGEST} are the most")]
    TooLong(usize),
    /// Not WebAssembly.
    #[error("the file is not WebAssembly: it does not begin with `\\0asm`")]
    NotWasm,
    /// Cut off, or nonsense between sections.
    #[error("the file is broken at byte {at}: {why}")]
    Broken {
        /// Where.
        at: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// There is no manifest in it.
    #[error("the file has no manifest; `forewright plugin build` writes one into it")]
    NoManifest,
    /// Something stands where only the signature may.
    #[error(
        "the file goes on after its manifest, at byte {0}; what is added there was neither built nor signed"
    )]
    Trailing(usize),
    /// The manifest is no text.
    #[error("the manifest is not UTF-8")]
    NotText,
    /// The manifest does not hold together.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest belongs to another component.
    #[error("the manifest says that the component is `{said}`; it is `{is}`")]
    Digest {
        /// What the manifest says.
        said: String,
        /// What it is.
        is: String,
    },
}

impl BundleError {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "plugin.too-large",
            Self::NotWasm => "plugin.not-wasm",
            Self::Broken { .. } => "plugin.broken",
            Self::NoManifest => "plugin.no-manifest",
            Self::Trailing(_) => "plugin.trailing-bytes",
            Self::NotText => "plugin.manifest",
            Self::Manifest(error) => error.code(),
            Self::Digest { .. } => "plugin.digest",
        }
    }
}

/// `sha256:` and the digest in hexadecimal digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::digits(&Sha256::digest(bytes)))
}

/// Adds a manifest to a component.
#[must_use]
pub fn pack(component: &[u8], manifest: &str) -> Vec<u8> {
    let mut file = component.to_vec();
    section(&mut file, MANIFEST, manifest.as_bytes());
    file
}

/// Adds a signature to a packed component.
#[must_use]
pub fn seal(packed: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut file = packed.to_vec();
    section(&mut file, SIGNATURE, signature);
    file
}

/// Takes a file apart and reads its manifest.
///
/// # Errors
///
/// [`BundleError`] for what is no plugin, or lies about its digest.
pub fn open(file: &[u8]) -> Result<(Bundle<'_>, Manifest), BundleError> {
    let bundle = take_apart(file)?;
    let manifest: Manifest = bundle.manifest.parse()?;
    if let Some(said) = &manifest.digest {
        let is = digest(bundle.component);
        if *said != is {
            return Err(BundleError::Digest {
                said: said.clone(),
                is,
            });
        }
    }
    Ok((bundle, manifest))
}

fn take_apart(file: &[u8]) -> Result<Bundle<'_>, BundleError> {
    if file.len() > LONGEST {
        return Err(BundleError::TooLong(file.len()));
    }
    if !file.starts_with(MAGIC) || file.len() < 8 {
        return Err(BundleError::NotWasm);
    }
    let mut at = 8;
    let mut found: Option<(&str, &[u8], &[u8])> = None;
    let mut signature = None;
    while at < file.len() {
        let (begin, section) = (at, read_section(file, &mut at)?);
        match (section.name, found) {
            (Some(MANIFEST), None) => {
                let text =
                    std::str::from_utf8(section.content).map_err(|_| BundleError::NotText)?;
                found = Some((text, &file[..begin], &file[..at]));
            }
            (Some(SIGNATURE), Some(_)) if signature.is_none() => signature = Some(section.content),
            (_, Some(_)) => return Err(BundleError::Trailing(begin)),
            (_, None) => {}
        }
    }
    let (manifest, component, signed) = found.ok_or(BundleError::NoManifest)?;
    Ok(Bundle {
        component,
        manifest,
        signed,
        signature,
    })
}

struct Section<'a> {
    /// Of a custom section.
    name: Option<&'a str>,
    /// After the name of a custom one.
    content: &'a [u8],
}

fn read_section<'a>(file: &'a [u8], at: &mut usize) -> Result<Section<'a>, BundleError> {
    let begin = *at;
    let id = file[begin];
    *at += 1;
    let length = read_length(file, at)?;
    let end = at.checked_add(length).filter(|&end| end <= file.len());
    let end = end.ok_or(BundleError::Broken {
        at: begin,
        why: "the section ends beyond the file",
    })?;
    let mut content = &file[*at..end];
    let mut name = None;
    if id == 0 {
        let mut inside = 0;
        let length = read_length(content, &mut inside)?;
        let named = inside
            .checked_add(length)
            .and_then(|end| content.get(inside..end));
        let named = named.ok_or(BundleError::Broken {
            at: begin,
            why: "the name is longer than its section",
        })?;
        name = std::str::from_utf8(named).ok();
        content = &content[inside + length..];
    }
    *at = end;
    if name.is_some_and(|name| name == MANIFEST || name == SIGNATURE) {
        // One plugin has one file, and one digest: these sections are only ever written by `section`.
        let mut written = Vec::new();
        section(&mut written, name.unwrap_or_default(), content);
        if written != file[begin..end] {
            return Err(BundleError::Broken {
                at: begin,
                why: "the section's lengths are padded",
            });
        }
    }
    Ok(Section { name, content })
}

/// An unsigned LEB128 of at most 32 bits.
fn read_length(bytes: &[u8], at: &mut usize) -> Result<usize, BundleError> {
    let begin = *at;
    let mut value = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(*at).ok_or(BundleError::Broken {
            at: begin,
            why: "the file ends within a length",
        })?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let fits = u32::try_from(value).map_err(|_| BundleError::Broken {
                at: begin,
                why: "the length is too great",
            })?;
            return Ok(fits as usize);
        }
    }
    Err(BundleError::Broken {
        at: begin,
        why: "the length is too long",
    })
}

fn section(file: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut body = Vec::with_capacity(content.len() + name.len() + 5);
    write_length(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);
    file.push(0);
    write_length(file, body.len());
    file.extend_from_slice(&body);
}

fn write_length(bytes: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return;
        }
        bytes.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MANIFEST_TEXT: &str = "name = \"a\"\nversion = \"1.0.0\"\nworld = \"detector\"\ninterface = \"forewright:plugin@1\"\n";

    #[test]
    fn what_is_packed_and_sealed_is_taken_apart() {
        let packed = pack(COMPONENT, MANIFEST_TEXT);
        let (bundle, manifest) = open(&packed).unwrap();
        assert_eq!((bundle.component, bundle.signed), (COMPONENT, &packed[..]));
        assert_eq!((bundle.signature, manifest.name.as_str()), (None, "a"));
        let sealed = seal(&packed, b"yes");
        let (bundle, _) = open(&sealed).unwrap();
        assert_eq!(
            (bundle.signed, bundle.signature),
            (&packed[..], Some(&b"yes"[..]))
        );
    }

    #[test]
    fn a_manifest_that_lies_about_its_component_is_refused() {
        let own = format!("{MANIFEST_TEXT}digest = \"{}\"\n", digest(COMPONENT));
        open(&pack(COMPONENT, &own)).unwrap();
        let other = format!("{MANIFEST_TEXT}digest = \"{}\"\n", digest(b"other"));
        let error = open(&pack(COMPONENT, &other)).unwrap_err();
        assert!(matches!(error, BundleError::Digest { .. }), "{error}");
    }

    #[test]
    fn what_is_no_plugin_is_refused_with_its_reason() {
        let refused = |file: &[u8]| open(file).unwrap_err().to_string();
        assert!(refused(b"").contains("not WebAssembly"));
        assert!(refused(b"\0asm").contains("not WebAssembly"));
        assert!(refused(b"#!/bin/sh\n").contains("not WebAssembly"));
        assert!(refused(COMPONENT).contains("no manifest"));
        let packed = pack(COMPONENT, MANIFEST_TEXT);
        assert!(refused(&packed[..packed.len() - 1]).contains("beyond the file"));
        assert!(refused(&pack(&packed, MANIFEST_TEXT)).contains("goes on after its manifest"));
        let signed_twice = seal(&seal(&packed, b"a"), b"b");
        assert!(refused(&signed_twice).contains("goes on after its manifest"));
        let mut padded = packed.clone();
        padded.splice(9..10, [packed[9] | 0x80, 0]);
        assert!(refused(&padded).contains("padded"), "{}", refused(&padded));
        let mut not_text = COMPONENT.to_vec();
        section(&mut not_text, MANIFEST, b"\xff");
        assert!(refused(&not_text).contains("not UTF-8"));
        let endless = [COMPONENT, b"\0\x80\x80\x80\x80\x80\x80"].concat();
        assert!(refused(&endless).contains("the length is too long"));
    }

    proptest! {
        #[test]
        fn no_file_is_too_strange(mut file in proptest::collection::vec(any::<u8>(), 0..200), as_wasm: bool) {
            if as_wasm {
                file.splice(0..0, COMPONENT.iter().copied());
            }
            let _ = open(&file);
        }

        #[test]
        fn cut_anywhere_it_is_no_plugin(cut in 0usize..150) {
            let sealed = seal(&pack(COMPONENT, MANIFEST_TEXT), b"yes");
            let packed = pack(COMPONENT, MANIFEST_TEXT).len();
            let cut = cut.min(sealed.len() - 1);
            prop_assert_eq!(open(&sealed[..cut]).is_ok(), cut == packed);
        }
    }
}
