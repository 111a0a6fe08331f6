//! Digests and other bytes as hexadecimal digits.

use std::io;

use ring::rand::{SecureRandom, SystemRandom};

/// Two lower-case digits for each byte.
pub(crate) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digits of `sha256:…`, if that is what a text is.
pub(crate) fn of_digest(text: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix("sha256:")
        .filter(|digits| digits.len() == 64 && digits.chars().all(plain))
}

/// A name that nobody else has: 32 random digits.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    let random = SystemRandom::new().fill(&mut bytes);
    random.map_err(|_| io::Error::other("the machine gives no randomness"))?;
    Ok(digits(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_told_from_other_texts() {
        assert_eq!(digits(&[0, 15, 255]), "000fff");
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(of_digest(&good), Some("0a".repeat(32).as_str()));
        for bad in [
            "",
            "sha256:",
            "sha256:../x",
            &good.to_uppercase(),
            &good[..70],
            &format!("{good}0"),
        ] {
            assert_eq!(of_digest(bad), None, "{bad}");
        }
    }
}
