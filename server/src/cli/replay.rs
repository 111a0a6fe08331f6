//! `forewright policy replay`: what a draft would have decided on what a server has recorded.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use workflows::model::Timestamp;

use super::output::{self, Progress};
use crate::client::Client;

/// Assets and flips shown; `--json` has them all.
const SHOWN: usize = 10;
/// Characters of the longest bar.
const BAR: u64 = 40;

/// Ask a draft about the decisions a server has recorded: which flip, on which assets, and where the two first part.
#[derive(Debug, Args)]
#[command(after_help = super::scripts::REPLAY_HELP)]
pub struct Replay {
    /// The draft.
    #[arg(value_name = "FILE")]
    draft: PathBuf,
    /// The policy whose decisions are asked about again; the draft's file name if not said.
    #[arg(long)]
    policy: Option<String>,
    /// Only decisions about this moment or a later one: a day (2026-01-31, UTC) or a time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// Only decisions about a moment before this one.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Timestamp>,
    /// Where the server is.
    #[arg(
        long,
        env = "FOREWRIGHT_SERVER",
        default_value = "http://127.0.0.1:8600"
    )]
    server: String,
    /// A token of an engineer or operator.
    #[arg(long, env = "FOREWRIGHT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// A page, as the server answers it.
#[derive(Debug, Deserialize)]
struct Page {
    revision: String,
    total: Option<u64>,
    decisions: u64,
    unreadable: u64,
    unreadable_first: Vec<String>,
    pairs: Vec<Pair>,
    days: Vec<Day>,
    flips: Vec<Flip>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Pair {
    before: String,
    after: String,
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Day {
    day: String,
    outcome: String,
    before: u64,
    after: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Flip {
    decision: String,
    asset: String,
    at: Timestamp,
    before_revision: String,
    before: String,
    after: String,
    first_difference: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_difference: Option<String>,
}

/// All pages together.
#[derive(Debug, Default, Serialize)]
struct Report {
    policy: String,
    revision: String,
    decisions: u64,
    flipped: u64,
    unreadable: u64,
    unreadable_first: Vec<String>,
    pairs: Vec<PairCount>,
    assets: Vec<AssetCount>,
    days: Vec<DayCount>,
    flips: Vec<Flip>,
}

#[derive(Debug, Serialize)]
struct PairCount {
    before: String,
    after: String,
    count: u64,
}

#[derive(Debug, Serialize)]
struct AssetCount {
    asset: String,
    flips: u64,
}

#[derive(Debug, Serialize)]
struct DayCount {
    day: String,
    outcome: String,
    before: u64,
    after: u64,
}

impl Replay {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        let report = super::block_on(self.ask())?;
        if self.json {
            output::json(&report)?;
        }
        if report.decisions == 0 && report.unreadable == 0 {
            bail!("{}", self.nothing(&report.policy));
        }
        if self.json {
            return Ok(());
        }
        for line in report.lines() {
            output::line(&line)?;
        }
        Ok(())
    }

    /// That there was nothing to ask about, which says nothing of the draft.
    fn nothing(&self, policy: &str) -> String {
        let span = match (self.from, self.to) {
            (None, None) => String::new(),
            (Some(from), None) => format!(" since {from}"),
            (None, Some(to)) => format!(" before {to}"),
            (Some(from), Some(to)) => format!(" from {from} to {to}"),
        };
        format!("no decisions of `{policy}` are recorded{span}, so the draft was asked about none")
    }

    async fn ask(&self) -> anyhow::Result<Report> {
        let policy = self.policy()?;
        let source = output::read_text("draft", &self.draft)?;
        let client = Client::new(&self.server, self.token.clone())?;
        let mut progress = Progress::start(format!("replaying `{policy}`"));
        let mut report = Tally {
            policy: policy.clone(),
            ..Tally::default()
        };
        let mut after = None;
        loop {
            let body =
                json!({ "source": source, "from": self.from, "to": self.to, "after": after });
            let page: Page = client
                .post(&format!("/policies/{policy}/replays"), &body)
                .await
                .with_context(|| format!("failed to replay `{}`", self.draft.display()))?;
            after.clone_from(&page.next);
            report.add(page);
            let _ = progress.tell(report.decisions as f64 / report.total.max(1) as f64);
            if after.is_none() {
                return Ok(report.into_report());
            }
        }
    }

    /// The policy's name: it goes into a path, so it must be one.
    fn policy(&self) -> anyhow::Result<String> {
        let stem = self.draft.file_stem().unwrap_or_default();
        let name = self.policy.clone();
        let name = name.unwrap_or_else(|| stem.to_string_lossy().into_owned());
        match crate::api::name::checked_name("policy", name.clone()) {
            Ok(name) => Ok(name),
            Err(_) => bail!("`{name}` is no name of a policy; say it with --policy"),
        }
    }
}

/// What was counted so far.
#[derive(Debug, Default)]
struct Tally {
    policy: String,
    revision: String,
    total: u64,
    decisions: u64,
    unreadable: u64,
    unreadable_first: Vec<String>,
    pairs: BTreeMap<(String, String), u64>,
    days: BTreeMap<(String, String), (u64, u64)>,
    flips: Vec<Flip>,
}

impl Tally {
    fn add(&mut self, page: Page) {
        self.revision = page.revision;
        self.total = page.total.unwrap_or(self.total);
        self.decisions += page.decisions;
        self.unreadable += page.unreadable;
        self.unreadable_first.extend(page.unreadable_first);
        self.unreadable_first.truncate(SHOWN);
        for pair in page.pairs {
            *self.pairs.entry((pair.before, pair.after)).or_default() += pair.count;
        }
        for day in page.days {
            let sum = self.days.entry((day.day, day.outcome)).or_default();
            sum.0 += day.before;
            sum.1 += day.after;
        }
        self.flips.extend(page.flips);
    }

    fn into_report(self) -> Report {
        let mut by_asset = BTreeMap::<&str, u64>::new();
        for flip in &self.flips {
            *by_asset.entry(&flip.asset).or_default() += 1;
        }
        let assets = by_asset.into_iter().map(|(asset, flips)| AssetCount {
            asset: asset.to_owned(),
            flips,
        });
        let mut assets: Vec<_> = assets.collect();
        assets.sort_by(|a, b| b.flips.cmp(&a.flips).then_with(|| a.asset.cmp(&b.asset)));
        let pairs = self.pairs.into_iter();
        let mut pairs: Vec<_> = pairs
            .map(|((before, after), count)| PairCount {
                before,
                after,
                count,
            })
            .collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
        let days = self.days.into_iter();
        Report {
            policy: self.policy,
            revision: self.revision,
            decisions: self.decisions,
            flipped: self.flips.len() as u64,
            unreadable: self.unreadable,
            unreadable_first: self.unreadable_first,
            pairs,
            assets,
            days: days
                .map(|((day, outcome), (before, after))| DayCount {
                    day,
                    outcome,
                    before,
                    after,
                })
                .collect(),
            flips: self.flips,
        }
    }
}

impl Report {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} of {} decisions of `{}` flip, on {} assets",
            self.flipped,
            self.decisions,
            self.policy,
            self.assets.len()
        )];
        for pair in &self.pairs {
            lines.push(format!(
                "  {:>7}  {} → {}",
                pair.count, pair.before, pair.after
            ));
        }
        lines.extend(self.asset_lines());
        lines.extend(self.flip_lines());
        lines.extend(self.chart());
        if self.unreadable > 0 {
            lines.push(format!("{} cannot be read:", self.unreadable));
            let first = self.unreadable_first.iter();
            lines.extend(first.map(|why| format!("  {why}")));
        }
        lines
    }

    fn asset_lines(&self) -> Vec<String> {
        if self.assets.is_empty() {
            return Vec::new();
        }
        let named = self.assets.iter().take(SHOWN);
        let named: Vec<_> = named.map(|a| format!("{} {}", a.asset, a.flips)).collect();
        let more = self.assets.len().saturating_sub(SHOWN);
        let more = if more > 0 {
            format!(", and {more} more")
        } else {
            String::new()
        };
        vec![format!("most on: {}{more}", named.join(", "))]
    }

    /// The first flip of each pair with the statement in which the two part, or why no statement is told.
    fn flip_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for pair in self.pairs.iter().take(SHOWN) {
            let of_pair = |f: &&Flip| f.before == pair.before && f.after == pair.after;
            let mut of_pair = self.flips.iter().filter(of_pair);
            let told = of_pair.clone().find(|f| f.first_difference.is_some());
            let Some(flip) = told.or_else(|| of_pair.next()) else {
                continue;
            };
            lines.push(String::new());
            lines.push(format!(
                "{} → {}, first on {} at {}:",
                pair.before, pair.after, flip.asset, flip.at
            ));
            let Some(difference) = &flip.first_difference else {
                lines.push(format!("  {}", why_none(flip.no_difference.as_deref())));
                continue;
            };
            lines.push(statement("  was  ", &difference["before"]));
            lines.push(statement("  now  ", &difference["after"]));
        }
        lines
    }

    /// How often what was decided each day: as recorded and by the draft.
    fn chart(&self) -> Vec<String> {
        let Some(longest) = self.days.iter().map(|d| d.before.max(d.after)).max() else {
            return Vec::new();
        };
        let width = self.days.iter().map(|d| d.outcome.chars().count());
        let width = width.max().unwrap_or(0);
        let bar = |count: u64| {
            let length = (count * BAR).div_ceil(longest.max(1));
            "█".repeat(usize::try_from(length).unwrap_or(0))
        };
        let mut lines = vec![String::new(), "actions per day (was, now):".to_owned()];
        let mut last = "";
        for day in &self.days {
            let name = if day.day == last { "" } else { &day.day };
            last = &day.day;
            let head = format!("  {name:10}  {:width$}", day.outcome);
            lines.push(format!("{head}  {} {}", bar(day.before), day.before));
            lines.push(format!(
                "  {:10}  {:width$}  {} {}",
                "",
                "",
                bar(day.after),
                day.after
            ));
        }
        lines
    }
}

/// Why the statement in which two revisions part is not told.
fn why_none(reason: Option<&str>) -> &'static str {
    match reason {
        Some("not_in_time") => "where they part was not found in time",
        Some("none_found") => "all statements that are kept are alike",
        Some("unreadable") => "the facts cannot be read, or the revision that decided is gone",
        _ => "where they part was not looked for: too many others flip",
    }
}

/// A statement with what it read, on one line.
fn statement(head: &str, step: &Value) -> String {
    let Some(text) = step["text"].as_str() else {
        return format!("{head}it had ended");
    };
    let taken = match step["taken"].as_bool() {
        Some(true) => "  [taken]",
        Some(false) => "  [not taken]",
        None => "",
    };
    let values = step["values"].as_object().into_iter().flatten();
    let values: Vec<_> = values
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    let values = if values.is_empty() {
        String::new()
    } else {
        format!("  ({})", values.join(", "))
    };
    format!("{head}line {}: {text}{taken}{values}", step["line"])
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(day) = text.parse::<Date>()
        && !text.contains('T')
    {
        let midnight = day.to_zoned(jiff::tz::TimeZone::UTC);
        let midnight = midnight.map_err(|e| e.to_string())?;
        return Ok(Timestamp(midnight.timestamp().as_millisecond()));
    }
    text.parse().map_err(|_| {
        format!("`{text}` is neither a day (2026-01-31) nor a time (2026-01-31T12:00:00Z)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(next: Option<&str>) -> Page {
        let flip = json!({
            "decision": "1", "asset": "fan-1", "at": "2026-01-01T00:00:00Z", "before_revision": "sha256:0",
            "before": "monitor", "after": "start w",
            "first_difference": {
                "before": { "line": 2, "text": "if risk > 0.5 {", "taken": false, "values": { "risk": 0.4 } },
                "after": { "line": 2, "text": "if risk > 0.3 {", "taken": true, "values": { "risk": 0.4 } },
            },
        });
        let page = json!({
            "revision": "sha256:1", "total": 4, "decisions": 2, "unreadable": 0, "unreadable_first": [],
            "pairs": [{ "before": "monitor", "after": "start w", "count": 1 }],
            "days": [
                { "day": "2026-01-01", "outcome": "monitor", "before": 2, "after": 1 },
                { "day": "2026-01-01", "outcome": "start w", "before": 0, "after": 1 },
            ],
            "flips": [flip], "next": next,
        });
        serde_json::from_value(page).expect("a page")
    }

    #[test]
    fn pages_are_added_up_and_shown() {
        let mut tally = Tally::default();
        tally.add(page(Some("1")));
        tally.add(page(None));
        let report = tally.into_report();
        assert_eq!((report.decisions, report.flipped), (4, 2));
        let lines = report.lines().join("\n");
        for wanted in [
            "2 of 4 decisions",
            "      2  monitor → start w",
            "most on: fan-1 2",
            "  was  line 2: if risk > 0.5 {  [not taken]  (risk = 0.4)",
            "  now  line 2: if risk > 0.3 {  [taken]  (risk = 0.4)",
            "  2026-01-01  monitor  ████████████████████████████████████████ 4",
            "                       ████████████████████ 2",
        ] {
            assert!(lines.contains(wanted), "{wanted}\n---\n{lines}");
        }
        assert_eq!(Tally::default().into_report().lines().len(), 1);
    }

    #[test]
    fn a_flip_whose_statement_is_not_told_says_why() {
        let mut page = page(None);
        page.flips[0].first_difference = None;
        page.flips[0].no_difference = Some("not_in_time".to_owned());
        let mut tally = Tally::default();
        tally.add(page);
        let report = tally.into_report();
        let lines = report.lines().join("\n");
        let wanted = "monitor → start w, first on fan-1 at 2026-01-01T00:00:00.000Z:\n  \
                      where they part was not found in time";
        assert!(lines.contains(wanted), "{lines}");
        let flip = serde_json::to_value(&report.flips[0]).expect("JSON");
        assert_eq!(flip["no_difference"], "not_in_time");
    }

    #[test]
    fn an_empty_span_is_named() {
        let replay = |from, to| Replay {
            draft: PathBuf::from("p.rhai"),
            policy: None,
            from,
            to,
            server: String::new(),
            token: None,
            json: false,
        };
        let none = replay(None, None).nothing("p");
        assert_eq!(
            none,
            "no decisions of `p` are recorded, so the draft was asked about none"
        );
        let day = replay(Some(Timestamp(0)), Some(Timestamp(86_400_000))).nothing("p");
        assert!(
            day.contains(" from 1970-01-01T00:00:00.000Z to 1970-01-02T"),
            "{day}"
        );
    }

    #[test]
    fn moments_are_days_or_times() {
        assert_eq!(moment("1970-01-02"), Ok(Timestamp(86_400_000)));
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(Timestamp(1_000)));
        let refused = moment("yesterday").expect_err("no moment");
        assert!(refused.contains("neither a day"), "{refused}");
    }
}
