//! What a plugin asks for, what an operator grants, and what follows from both.
//!
//! Both are written in the same words. A plugin may do what both allow: of amounts the smaller, of names those that
//! both cover. Asking without being granted is refused before anything runs.

use serde::{Deserialize, Serialize};

use crate::origin::{is_origin, origin as normal};
use crate::world::Capability;

/// Powers with their reach: the `[capabilities]` of a manifest, and what an operator grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Bytes by digest.
    #[serde(default)]
    pub artifacts: Option<Artifacts>,
    /// What was measured.
    #[serde(default)]
    pub telemetry: Option<Telemetry>,
    /// What is remembered from call to call.
    #[serde(default)]
    pub state: Option<State>,
    /// Requests to other systems.
    #[serde(default)]
    pub http: Option<Http>,
}

/// The reach of `artifacts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Artifacts {
    /// Media types that may be read and written, as globs.
    pub media: Vec<String>,
    /// MiB that a call may write.
    #[serde(default = "default_artifact_mib")]
    pub write_mib: u32,
}

/// The reach of `telemetry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Metrics that may be read, as globs.
    pub metrics: Vec<String>,
}

/// The reach of `state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// KiB of keys and values together.
    pub kib: u32,
}

/// The reach of `http`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// Origins, such as `https://example.service-now.com`, without a path.
    pub origins: Vec<String>,
    /// KiB of the largest answer.
    #[serde(default = "default_response_kib")]
    pub response_kib: u32,
}

fn default_artifact_mib() -> u32 {
    64
}

fn default_response_kib() -> u32 {
    256
}

impl Capabilities {
    /// Those that are there, in the order of [`Capability::ALL`].
    #[must_use]
    pub fn named(&self) -> Vec<Capability> {
        Capability::ALL
            .into_iter()
            .filter(|one| self.has(*one))
            .collect()
    }

    /// Whether one is there.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Artifacts => self.artifacts.is_some(),
            Capability::Telemetry => self.telemetry.is_some(),
            Capability::State => self.state.is_some(),
            Capability::Http => self.http.is_some(),
        }
    }

    /// Holds every reach against what it can be; manifests and operators' grants alike.
    ///
    /// # Errors
    ///
    /// The first capability that reaches nowhere, or an origin that is none.
    pub fn check(&self) -> Result<(), ReachError> {
        let nowhere = |capability, names: Option<&Vec<String>>| match names {
            Some(names) if names.is_empty() => Err(ReachError::Nowhere(capability)),
            _ => Ok(()),
        };
        nowhere(
            Capability::Artifacts,
            self.artifacts.as_ref().map(|own| &own.media),
        )?;
        nowhere(
            Capability::Telemetry,
            self.telemetry.as_ref().map(|own| &own.metrics),
        )?;
        nowhere(Capability::Http, self.http.as_ref().map(|own| &own.origins))?;
        let origins = self.http.iter().flat_map(|http| &http.origins);
        match origins.into_iter().find(|origin| !is_origin(origin)) {
            Some(origin) => Err(ReachError::Origin(origin.clone())),
            None => Ok(()),
        }
    }

    /// The line of TOML that asks for one, or grants it, as it stands here.
    #[must_use]
    pub fn line(&self, capability: Capability) -> Option<String> {
        let list = |names: &[String]| {
            let quoted = |name: &String| toml::Value::String(name.clone()).to_string();
            names.iter().map(quoted).collect::<Vec<_>>().join(", ")
        };
        let reach = match capability {
            Capability::Artifacts => {
                let own = self.artifacts.as_ref()?;
                format!(
                    "media = [{}], write-mib = {}",
                    list(&own.media),
                    own.write_mib
                )
            }
            Capability::Telemetry => {
                format!("metrics = [{}]", list(&self.telemetry.as_ref()?.metrics))
            }
            Capability::State => format!("kib = {}", self.state.as_ref()?.kib),
            Capability::Http => {
                let own = self.http.as_ref()?;
                format!(
                    "origins = [{}], response-kib = {}",
                    list(&own.origins),
                    own.response_kib
                )
            }
        };
        Some(format!("{capability} = {{ {reach} }}"))
    }

    /// What one lets a plugin do, as a person reads it before granting it.
    #[must_use]
    pub fn sentence(&self, capability: Capability) -> Option<String> {
        let listed = |names: &[String]| {
            let quoted = |name: &String| format!("`{name}`");
            names.iter().map(quoted).collect::<Vec<_>>().join(", ")
        };
        Some(match capability {
            Capability::Artifacts => {
                let own = self.artifacts.as_ref()?;
                let (media, most) = (listed(&own.media), own.write_mib);
                format!(
                    "reads artifacts it is given and writes up to {most} MiB a call, of {media}"
                )
            }
            Capability::Telemetry => {
                let metrics = listed(&self.telemetry.as_ref()?.metrics);
                format!("reads what was measured of any asset: {metrics}")
            }
            Capability::State => {
                let kib = self.state.as_ref()?.kib;
                format!("remembers up to {kib} KiB from call to call")
            }
            Capability::Http => {
                let own = self.http.as_ref()?;
                let (origins, most) = (listed(&own.origins), own.response_kib);
                format!("sends requests to {origins}, and reads answers of up to {most} KiB")
            }
        })
    }
}

/// A reach that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// A list without a name.
    #[error("the capability `{0}` names nothing that it reaches; a glob `\"*\"` is everything")]
    Nowhere(Capability),
    /// Not an origin.
    #[error("`{0}` is not an origin such as `https://example.com:8443`")]
    Origin(String),
}

/// A capability that is asked for and not granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("the plugin asks for `{capability}`, which it is not granted; to grant it, add `{line}`")]
pub struct Missing {
    /// Which.
    pub capability: Capability,
    /// The line an operator adds to grant all that is asked.
    pub line: String,
}

/// What a plugin may do: what is asked and granted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    asked: Capabilities,
    granted: Capabilities,
}

impl Grants {
    /// Grants exactly what is asked; for tests and an author's own machine.
    #[must_use]
    pub fn all(asked: &Capabilities) -> Self {
        Self::narrowed(asked, asked)
    }

    /// What both sides allow.
    ///
    /// # Errors
    ///
    /// Every capability that is asked for and not granted at all. One that is granted less far is no error: the
    /// plugin is told `denied` where it goes beyond.
    pub fn new(asked: &Capabilities, granted: &Capabilities) -> Result<Self, Vec<Missing>> {
        let mut missing = Vec::new();
        for capability in asked.named() {
            if !granted.has(capability) {
                let line = asked.line(capability).unwrap_or_default();
                missing.push(Missing { capability, line });
            }
        }
        if missing.is_empty() {
            Ok(Self::narrowed(asked, granted))
        } else {
            Err(missing)
        }
    }

    /// What both sides allow, where what is asked for may have been taken back: then the plugin is told `denied`.
    #[must_use]
    pub fn narrowed(asked: &Capabilities, granted: &Capabilities) -> Self {
        Self {
            asked: asked.clone(),
            granted: granted.clone(),
        }
    }

    /// The capabilities there are.
    #[must_use]
    pub fn named(&self) -> Vec<Capability> {
        let both = |one: &Capability| self.granted.has(*one);
        self.asked.named().into_iter().filter(both).collect()
    }

    /// Whether artifacts of a media type may be read and written.
    #[must_use]
    pub fn media(&self, media_type: &str) -> bool {
        self.both(|side| {
            side.artifacts
                .as_ref()
                .is_some_and(|own| any(&own.media, media_type))
        })
    }

    /// Bytes that a call may write into artifacts.
    #[must_use]
    pub fn write_bytes(&self) -> u64 {
        u64::from(self.least(|side| side.artifacts.as_ref().map(|own| own.write_mib))) << 20
    }

    /// Whether a metric may be read.
    #[must_use]
    pub fn metric(&self, metric: &str) -> bool {
        self.both(|side| {
            side.telemetry
                .as_ref()
                .is_some_and(|own| any(&own.metrics, metric))
        })
    }

    /// Bytes of keys and values that may be remembered.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        u64::from(self.least(|side| side.state.as_ref().map(|own| own.kib))) << 10
    }

    /// Whether requests may go to an origin, as [`origin`](crate::origin::origin) tells it.
    #[must_use]
    pub fn origin(&self, origin: &str) -> bool {
        let same = |own: &Http| {
            own.origins
                .iter()
                .any(|one| normal(one).as_deref() == Some(origin))
        };
        self.both(|side| side.http.as_ref().is_some_and(same))
    }

    /// Bytes of the largest answer.
    #[must_use]
    pub fn response_bytes(&self) -> u64 {
        u64::from(self.least(|side| side.http.as_ref().map(|own| own.response_kib))) << 10
    }

    fn both(&self, allows: impl Fn(&Capabilities) -> bool) -> bool {
        allows(&self.asked) && allows(&self.granted)
    }

    fn least(&self, amount: impl Fn(&Capabilities) -> Option<u32>) -> u32 {
        let (asked, granted) = (amount(&self.asked), amount(&self.granted));
        asked.unwrap_or(0).min(granted.unwrap_or(0))
    }
}

fn any(globs: &[String], name: &str) -> bool {
    globs.iter().any(|glob| matches(glob, name))
}

/// Whether a glob matches a whole name; `*` stands for any text, everything else for itself.
#[must_use]
pub fn matches(glob: &str, name: &str) -> bool {
    let mut pieces = glob.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        // The leftmost place is as good as any: what follows has the most room behind it.
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry(metrics: &[&str]) -> Capabilities {
        let metrics = metrics.iter().map(|&metric| metric.to_owned()).collect();
        Capabilities {
            telemetry: Some(Telemetry { metrics }),
            ..Capabilities::default()
        }
    }

    #[test]
    fn globs_match_whole_names() {
        let cases = [
            ("*", "", true),
            ("*", "anything", true),
            ("fan", "fan", true),
            ("fan", "fans", false),
            ("fan*", "fan", true),
            ("*rpm", "fan.rpm", true),
            ("*rpm", "fan.rpms", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("a*b*b", "ab", false),
            ("a*b*b", "abb", true),
            ("model/*", "model/stl", true),
            ("**", "x", true),
        ];
        for (glob, name, expected) in cases {
            assert_eq!(matches(glob, name), expected, "`{glob}` on `{name}`");
        }
    }

    #[test]
    fn only_what_both_sides_name_may_be_read() {
        let grants = Grants::new(&telemetry(&["vib*", "temp"]), &telemetry(&["*x"])).unwrap();
        assert!(grants.metric("vibration_x"));
        assert!(!grants.metric("vibration_y"), "not granted");
        assert!(!grants.metric("load_x"), "not asked");
    }

    #[test]
    fn of_amounts_the_smaller_counts() {
        let state = |kib| Capabilities {
            state: Some(State { kib }),
            ..Capabilities::default()
        };
        assert_eq!(
            Grants::new(&state(64), &state(8)).unwrap().state_bytes(),
            8 << 10
        );
        assert_eq!(
            Grants::new(&state(4), &state(8)).unwrap().state_bytes(),
            4 << 10
        );
        assert_eq!(
            Grants::new(&Capabilities::default(), &state(8))
                .unwrap()
                .state_bytes(),
            0
        );
    }

    #[test]
    fn what_is_not_granted_is_told_with_the_line_that_grants_it() {
        let asked = Capabilities {
            http: Some(Http {
                origins: vec!["https://a.example".into()],
                response_kib: 9,
            }),
            ..telemetry(&["vib*"])
        };
        let missing = Grants::new(&asked, &Capabilities::default()).unwrap_err();
        let lines: Vec<&str> = missing.iter().map(|one| one.line.as_str()).collect();
        let expected = [
            "telemetry = { metrics = [\"vib*\"] }",
            "http = { origins = [\"https://a.example\"], response-kib = 9 }",
        ];
        assert_eq!(lines, expected);
        let granted: Capabilities = toml::from_str(&lines.join("\n")).unwrap();
        assert_eq!(granted, asked, "the lines grant what is asked");
    }

    proptest::proptest! {
        /// Against the plain definition: some way of cutting the name fits the glob.
        #[test]
        fn globs_agree_with_their_definition(glob in "[ab*]{0,6}", name in "[ab]{0,6}") {
            fn slow(glob: &[u8], name: &[u8]) -> bool {
                match glob.split_first() {
                    None => name.is_empty(),
                    Some((b'*', rest)) => (0..=name.len()).any(|cut| slow(rest, &name[cut..])),
                    Some((one, rest)) => name.split_first().is_some_and(|(other, left)| one == other && slow(rest, left)),
                }
            }
            proptest::prop_assert_eq!(matches(&glob, &name), slow(glob.as_bytes(), name.as_bytes()));
        }
    }
}
