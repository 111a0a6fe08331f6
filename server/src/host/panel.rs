//! Which plugins of a world are asked about an asset, and in which order: whoever serves in turn until somebody answers,
//! and beside them those that are only compared.

use ::plugins::lifecycle::{State, in_share};
use ::plugins::v1::types::Asset as Told;
use ::plugins::world::World;
use workflows::model::Asset;

use crate::plugins::{Member, Plugins};
use crate::store::StoreError;

/// Everybody who is asked in a world, as they stand at one moment.
pub(super) struct Panel {
    pub(super) plugins: Plugins,
    members: Vec<Member>,
}

impl Panel {
    /// Who is asked now.
    pub(super) async fn now(plugins: &Plugins, world: World) -> Result<Self, StoreError> {
        Ok(Self {
            members: plugins.members(world).await?,
            plugins: plugins.clone(),
        })
    }

    /// Those that have anything to do with a kind of asset.
    pub(super) fn about<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Member> {
        let covers = |member: &&Member| member.settings.covers(kind);
        self.members.iter().filter(covers)
    }

    /// Those that serve it, in the order in which they are asked.
    pub(super) fn serving<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Member> {
        let serves =
            |member: &&Member| matches!(member.row.stands(), State::Canary { .. } | State::Active);
        self.about(kind).filter(serves)
    }

    /// Those that are only compared.
    pub(super) fn compared<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Member> {
        self.about(kind)
            .filter(|member| member.row.stands() == State::Shadow)
    }
}

/// Whether one that serves is asked about an asset: a canary about its share of them alone.
pub(super) fn is_for(member: &Member, asset: &str) -> bool {
    match member.row.stands() {
        State::Canary { percent } => in_share(&member.row.plugin, asset, percent),
        _ => true,
    }
}

/// An asset as plugins are told of it.
pub(super) fn told_asset(asset: &Asset) -> Told {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let labels = asset.attributes.iter();
    Told {
        id: asset.id.clone(),
        kind: asset.kind.clone(),
        labels: labels
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
    }
}
