//! Where in a script's sequence of journalled calls one call stands.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Ordinal of a journalled call, from 1, with children numbered below it: `3`, `3.1`.
///
/// Ordered by number, not by text: `2 < 3 < 3.1 < 3.2 < 10`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(Vec<u32>);

impl Position {
    /// The `ordinal`th call of the script itself.
    #[must_use]
    pub fn top(ordinal: u32) -> Self {
        Self(vec![ordinal])
    }

    /// The `ordinal`th call below this one.
    #[must_use]
    pub fn child(&self, ordinal: u32) -> Self {
        let mut path = self.0.clone();
        path.push(ordinal);
        Self(path)
    }

    /// Its ordinal, or that of the call it stands below, among those below `parent`; among the script's own where there
    /// is none. `None` where it stands elsewhere.
    pub(super) fn ordinal_below(&self, parent: Option<&Self>) -> Option<u32> {
        let parent = parent.map_or(&[][..], |parent| &parent.0);
        self.0.strip_prefix(parent)?.first().copied()
    }
}

/// A text is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a position; positions look like `3` or `3.1`")]
pub struct PositionError(String);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, ordinal) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            write!(f, "{ordinal}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || PositionError(text.to_owned());
        text.split('.')
            .map(|part| part.parse().map_err(|_| fail()))
            .collect::<Result<Vec<u32>, _>>()
            .map(Self)
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_by_number() {
        let texts = ["2", "3", "3.1", "3.2", "3.10", "10"];
        let positions: Vec<Position> = texts.iter().map(|t| t.parse().expect("position")).collect();
        assert!(positions.is_sorted());
        assert_eq!(positions[4].to_string(), "3.10");
        assert_eq!(Position::top(3).child(10), positions[4]);
        assert!("".parse::<Position>().is_err() && "3.x".parse::<Position>().is_err());
    }
}
