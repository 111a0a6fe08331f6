//! Replays: what a draft would have decided on recorded facts, a page of recorded decisions at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::model::Timestamp;
use workflows::policy::{Answered, Flip, Recorded, Replayed, Reply, replay};
use workflows::script::{Limits, Panicked, Script};

use super::flips::{
    AssetFlipsView, DIFFERENCES, DIFFERENCES_TAKE, FlipPair, FlipView, PairView, Sources, parted,
    shown, told_first,
};
use super::script::{Turns, in_time, refusal, sound};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::store::decisions::{self, Span};
use crate::store::{Page, scripts::Scripts};

/// Recorded decisions of one page, if not said.
const PAGE: u64 = 5_000;
/// Recorded decisions of one page at most: what a few seconds and some tens of megabytes are enough for.
const MAX_PAGE: u64 = 20_000;
/// How long the decisions of one page may take; what is not decided by then is left to the next.
const PAGE_TAKES: Duration = Duration::from_secs(20);
/// Flips of one page whose first difference is told at most.
const MAX_DIFFERENCES: usize = 500;
/// Decisions that cannot be read and are told one by one.
const UNREADABLE: usize = 20;

/// What to replay.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewReplay {
    /// The draft's source; or else name a stored revision.
    #[serde(default)]
    pub source: Option<String>,
    /// Digest of a stored revision of the policy.
    #[serde(default)]
    pub revision: Option<String>,
    /// Only decisions whose facts speak of this moment or a later one.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Only decisions whose facts speak of a moment before this one.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// `next` of the page before.
    #[serde(default)]
    pub after: Option<String>,
    /// How many recorded decisions at most, 1 to 20,000; 5,000 if not said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 20_000)]
    pub limit: Option<u64>,
    /// Of how many flips the first difference is told, at most 500; 20 if not said. The first five of each pair of
    /// answers come before the others.
    #[serde(default)]
    #[schema(maximum = 500)]
    pub differences: Option<usize>,
}

/// What a draft would have decided on a page of recorded decisions.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayPage {
    /// The policy.
    policy: String,
    /// Digest of the draft.
    revision: String,
    /// How many recorded decisions there are in all; on the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<i64>,
    /// How many of them this page has: fewer than were asked for where these took 20 seconds.
    decisions: u64,
    /// How many of these the draft would have made otherwise.
    flipped: u64,
    /// How many cannot be read.
    unreadable: u64,
    /// The first of those, and why.
    unreadable_first: Vec<String>,
    /// How many flips from which answer to which.
    pairs: Vec<PairView>,
    /// The assets with flips, most first.
    assets: Vec<AssetFlipsView>,
    /// How often what was decided, day by day.
    days: Vec<ReplayDayView>,
    /// What the draft's decisions took.
    operations: OperationsView,
    /// Every flip of this page, in the order the decisions were made.
    flips: Vec<FlipView>,
    /// Where the replay goes on; also where its time was up.
    next: Option<String>,
}

/// How often something was decided on a day.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayDayView {
    /// The day, UTC.
    day: String,
    /// The answer, e.g. `start replace_part`.
    outcome: String,
    /// How often as recorded.
    before: u64,
    /// How often by the draft.
    after: u64,
}

/// What decisions took, in operations.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperationsView {
    /// How many decisions were measured.
    pub decisions: u64,
    /// Half of them took no more.
    pub p50: u64,
    /// 99 of 100 took no more.
    pub p99: u64,
    /// None took more.
    pub max: u64,
    /// What one decision may take.
    pub budget: u64,
}

impl OperationsView {
    /// The quantiles of what decisions took.
    fn of(mut operations: Vec<u64>) -> Self {
        operations.sort_unstable();
        let count = operations.len();
        // The smallest value that at least this share does not exceed.
        let quantile = |percent: usize| {
            let rank = (count * percent).div_ceil(100).max(1);
            operations.get(rank - 1).copied().unwrap_or(0)
        };
        Self {
            decisions: count as u64,
            p50: quantile(50),
            p99: quantile(99),
            max: quantile(100),
            budget: Limits::decision().operations,
        }
    }
}

/// Ask a draft about recorded decisions: which flip, on which assets, and where the two first part. Starts nothing and
/// keeps nothing; go on with `next` until there is none.
///
/// Each decision has the second it has where it counts, and fails with `limit.deadline` after that. A page has 20
/// seconds, and 5 more for the differences; whatever it has by then is answered.
#[utoipa::path(post, path = "/api/v1/policies/{name}/replays", tag = "policies",
    params(("name" = String, Path)), request_body = NewReplay,
    responses((status = 200, body = ReplayPage)))]
pub async fn replay_policy(
    app: App,
    _: auth::Engineer,
    Path(name): Path<String>,
    Json(body): Json<NewReplay>,
) -> ApiResult<Json<ReplayPage>> {
    let draft = draft(&app, &name, &body).await?;
    let limit = body.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let detail = format!("`limit` must be 1 to {MAX_PAGE}");
        return Err(ApiError::refused("invalid_limit", detail).with("field", "limit"));
    }
    let span = Span {
        policy: &name,
        from: body.from.map_or(i64::MIN, |t| t.0),
        to: body.to.map_or(i64::MAX, |t| t.0),
    };
    let page = Page {
        after: body.after.as_deref(),
        limit,
    };
    let total = match page.after {
        None => Some(decisions::count(&app.db.read, span).await?),
        Some(_) => None,
    };
    if total == Some(0) {
        has_a_policy(&app, &name).await?;
    }
    let recorded = Arc::new(decisions::recorded(&app.db.read, span, page).await?);
    let replayed = on_all_cores(&draft, &recorded, PAGE_TAKES).await?;
    let asked = &recorded[..recorded.len().min(replayed.decisions as usize)];
    let is_last = asked.len() == recorded.len() && (recorded.len() as u64) < limit;
    let next = asked.last().filter(|_| !is_last);
    let next = next.map(|r| r.decision.clone());
    let told = body.differences.unwrap_or(DIFFERENCES).min(MAX_DIFFERENCES);
    let flips = with_differences(&app, &draft, &replayed, asked, told).await?;
    Ok(Json(ReplayPage {
        total,
        flips,
        next,
        ..view(name, &draft, replayed)
    }))
}

/// Refuses the name of a policy nobody has stored; one that has not decided yet is another matter.
async fn has_a_policy(app: &App, name: &str) -> ApiResult<()> {
    let (db, sort) = (&app.db.read, Scripts::Policies);
    let newest = Page {
        after: None,
        limit: 1,
    };
    if !sort.revisions(db, name, newest).await?.is_empty() {
        return Ok(());
    }
    let serving = sort.list(db).await?;
    let names = serving.iter().map(|revision| revision.name.as_str());
    Err(ApiError::not_found_among(sort.noun(), name, names))
}

async fn draft(app: &App, name: &str, body: &NewReplay) -> ApiResult<Script> {
    let source = match (&body.source, &body.revision) {
        (Some(source), None) => source.clone(),
        (None, Some(digest)) => {
            let stored = Scripts::Policies
                .revision(&app.db.read, name, digest)
                .await?;
            stored.source
        }
        _ => {
            let detail = "name the draft by its `source` or by the `revision` it is stored as";
            return Err(ApiError::refused("one_draft", detail));
        }
    };
    sound(Scripts::Policies, name, &source).await?;
    Script::compile(name, &source).map_err(|error| refusal(&[error]))
}

/// Asks on as many threads as there are cores, for so long at most. What is answered behind the first decision that is
/// not, is left out: whoever goes on there asks about it again.
async fn on_all_cores(
    draft: &Script,
    recorded: &Arc<Vec<Recorded>>,
    time: Duration,
) -> ApiResult<Replayed> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = Arc::new(AtomicUsize::new(0));
    let ask = |_| {
        let (draft, recorded, next) = (draft.clone(), recorded.clone(), next.clone());
        move |turns: &Turns| ask_in_turn(&draft, &recorded, &next, turns)
    };
    let threads: Vec<_> = (0..cores).map(ask).collect();
    let mut replies: Vec<Option<Reply>> = vec![None; recorded.len()];
    for told in in_time(time, threads).await? {
        for (n, reply) in told.map_err(ApiError::internal)? {
            replies[n] = Some(reply);
        }
    }
    // The first one took all the time there is, and would do so whenever it is asked about again.
    if let Some(one) = recorded.first()
        && replies[0].is_none()
    {
        replies[0] = Some(Answered::not_in_time(one));
    }
    let mut replayed = Replayed::default();
    for (one, reply) in recorded.iter().zip(replies) {
        let Some(reply) = reply else { break };
        replayed.add(one, reply);
    }
    Ok(replayed)
}

/// Asks about the next decision nobody was asked about yet, again and again; tells which, and what came of each.
fn ask_in_turn(
    draft: &Script,
    recorded: &[Recorded],
    next: &AtomicUsize,
    turns: &Turns,
) -> Result<Vec<(usize, Reply)>, Panicked> {
    let mut taken = Vec::new();
    let one_more = std::iter::from_fn(|| {
        if !turns.begin() {
            return None;
        }
        let n = next.fetch_add(1, Ordering::Relaxed);
        let one = recorded.get(n)?;
        taken.push(n);
        Some(one)
    });
    let replies = replay(draft, one_more, turns.limits())?;
    Ok(taken.into_iter().zip(replies).collect())
}

/// The flips with, for some of them, the statement in which the draft parts from the revision that decided.
async fn with_differences(
    app: &App,
    draft: &Script,
    replayed: &Replayed,
    asked: &[Recorded],
    told: usize,
) -> ApiResult<Vec<FlipView>> {
    let mut scripts = Sources::default();
    let mut pairs = Vec::new();
    let mut asked = asked.iter();
    let flips = replayed.flips.iter();
    let answers = flips.map(|flip| (flip.before.to_string(), flip.after.to_string()));
    for at in told_first(answers, told) {
        let flip = &replayed.flips[at];
        let before = scripts.get(app, draft.name(), &flip.revision).await?;
        let facts = asked.find(|r| r.decision == flip.decision);
        let facts = facts.map(|r| r.facts.clone());
        pairs.push((at, FlipPair::of(before, Some(draft.clone()), facts)));
    }
    let mut parted = parted(pairs, DIFFERENCES_TAKE).await?;
    let flip = |(at, flip): (usize, &Flip)| {
        let (first_difference, no_difference) = shown(parted.remove(&at));
        FlipView {
            decision: flip.decision.clone(),
            asset: flip.asset.clone(),
            at: flip.at,
            role: "replay".to_owned(),
            before_revision: flip.revision.clone(),
            before: flip.before.to_string(),
            after: flip.after.to_string(),
            first_difference,
            no_difference,
        }
    };
    Ok(replayed.flips.iter().enumerate().map(flip).collect())
}

fn view(policy: String, draft: &Script, replayed: Replayed) -> ReplayPage {
    let assets = replayed.assets().into_iter();
    let assets = assets.map(|(asset, flips)| AssetFlipsView {
        asset: asset.to_owned(),
        flips: flips.cast_signed(),
    });
    let days = replayed.days.iter().flat_map(|(day, outcomes)| {
        outcomes.iter().map(|(outcome, count)| ReplayDayView {
            day: day.clone(),
            outcome: outcome.clone(),
            before: count.before,
            after: count.after,
        })
    });
    let pairs = replayed.pairs.iter();
    let pairs = pairs.map(|((before, after), count)| PairView {
        before: before.clone(),
        after: after.clone(),
        flipped: true,
        count: count.cast_signed(),
        assets: None,
    });
    let unreadable = replayed.unreadable.iter().take(UNREADABLE);
    ReplayPage {
        policy,
        revision: draft.digest().to_owned(),
        total: None,
        decisions: replayed.decisions,
        flipped: replayed.flips.len() as u64,
        unreadable: replayed.unreadable.len() as u64,
        unreadable_first: unreadable.map(ToString::to_string).collect(),
        pairs: pairs.collect(),
        assets: assets.collect(),
        days: days.collect(),
        operations: OperationsView::of(replayed.operations),
        flips: Vec::new(),
        next: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use workflows::policy::{Facts, decide};

    use super::*;
    use crate::auth::Role;
    use crate::store::{self, decisions::decision};
    use crate::testing::{NOW, TestServer};

    const HOUR_MS: i64 = 3_600_000;

    fn policy(threshold: f64) -> String {
        format!(
            "fn decide(facts) {{\n    let risk = facts.fps.get(\"7d\");\n    if risk > {threshold} {{\n        \
             return #{{ action: \"start\", workflow: \"replace_part\", reason: `${{risk}}` }};\n    }}\n    \
             #{{ action: \"monitor\", reason: `${{risk}}` }}\n}}\n"
        )
    }

    /// The risk in the `n`-th record, spread over 0 to 1 without a pattern.
    fn risk(n: usize) -> f64 {
        (n * 7_919 % 10_007) as f64 / 10_007.0
    }

    /// Records decisions of a revision with threshold 0.5, an hour apart, on a hundred assets.
    async fn record(app: &App, count: usize) {
        let db = &app.db.write;
        let tx = store::begin(db).await.unwrap();
        let serving = Scripts::Policies
            .activate(&tx, NOW, "p", &policy(0.5))
            .await;
        let revision = serving.unwrap().digest;
        let script = Script::compile("p", &policy(0.5)).unwrap();
        for n in 0..count {
            let at = Timestamp(NOW + n as i64 * HOUR_MS);
            let mut facts = Facts::about(&format!("fan-{}", n % 100), "fan", at);
            facts.fps.insert("7d".into(), risk(n));
            let decided = decide(&script, &facts, &Limits::decision()).unwrap();
            let row = decision::Model {
                id: format!("{n:08}"),
                asset: facts.asset.clone(),
                policy: "p".into(),
                revision: revision.clone(),
                facts: serde_json::to_string(&facts).unwrap(),
                verdict: serde_json::to_string(&decided.decision).unwrap(),
                reason: decided.decision.reason().into(),
                operations: 0,
                duration_us: 0,
                run_id: None,
                at: at.0,
                stopped_by: None,
                fell_back: None,
            };
            store::decisions::insert(&tx, row).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// Asks page after page; answers the ids that flipped and the pages.
    async fn all_pages(server: &TestServer, mut body: Value) -> (Vec<String>, Vec<Value>) {
        let token = server.token(Role::Engineer, "emil").await;
        let (mut flipped, mut pages) = (Vec::new(), Vec::new());
        loop {
            let path = "/api/v1/policies/p/replays";
            let page = server.ask("POST", path, &token, &body.to_string()).await;
            assert_eq!(page.status, 200, "{:?}", page.body);
            let page = page.json();
            let flips = page["flips"].as_array().unwrap();
            flipped.extend(
                flips
                    .iter()
                    .map(|f| f["decision"].as_str().unwrap().to_owned()),
            );
            body["after"] = page["next"].clone();
            pages.push(page);
            if body["after"].is_null() {
                return (flipped, pages);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_draft_is_asked_about_what_was_recorded_and_exactly_the_flips_are_listed() {
        let server = TestServer::with(&[]).await;
        record(&server.app, 500).await;
        let body = json!({ "source": policy(0.8), "limit": 120 });
        let (flipped, pages) = all_pages(&server, body).await;
        let wanted = (0..500).filter(|n| risk(*n) > 0.5 && risk(*n) <= 0.8);
        let wanted: Vec<String> = wanted.map(|n| format!("{n:08}")).collect();
        assert_eq!(flipped, wanted);
        assert_eq!(pages.len(), 5);
        assert_eq!(
            (&pages[0]["total"], &pages[0]["decisions"]),
            (&json!(500), &json!(120))
        );
        let difference = &pages[0]["flips"][0]["first_difference"];
        assert_eq!(difference["after"]["line"], 3);
        assert_eq!(difference["after"]["text"], "if risk > 0.8 {");
        assert_eq!(difference["before"]["taken"], json!(true));
        assert_eq!(pages[0]["pairs"][0]["after"], "monitor");
        assert_eq!(pages[0]["operations"]["decisions"], 120);
        // A day of twenty-four hours.
        let (from, to) = (Timestamp(NOW + 24 * HOUR_MS), Timestamp(NOW + 48 * HOUR_MS));
        let body = json!({ "source": policy(0.8), "from": from, "to": to });
        let (_, pages) = all_pages(&server, body).await;
        assert_eq!(
            (&pages[0]["total"], &pages[0]["decisions"]),
            (&json!(24), &json!(24))
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_rare_flip_behind_many_of_another_kind_is_told_with_its_statement() {
        let server = TestServer::with(&[]).await;
        record(&server.app, 100).await;
        let rule = "fn decide(facts) {\n    if facts.asset == \"fan-99\" {\n        \
                    return #{ action: \"shift_bandwidth\", reason: \"rare\" };\n    }\n";
        let draft = policy(0.8).replace("fn decide(facts) {\n", rule);
        let (_, pages) = all_pages(&server, json!({ "source": draft })).await;
        let flips = pages[0]["flips"].as_array().unwrap();
        let rare = flips.last().unwrap();
        assert_eq!(rare["after"], "shift_bandwidth");
        assert_eq!(rare["first_difference"]["after"]["line"], 2, "{rare}");
        let (told, not_told): (Vec<_>, Vec<_>) = flips
            .iter()
            .partition(|flip| flip["first_difference"].is_object());
        assert_eq!(told.len(), DIFFERENCES);
        assert!(not_told.len() > 5, "{}", not_told.len());
        for flip in not_told {
            assert_eq!(flip["no_difference"], "one_of_many");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_draft_that_takes_too_long_fails_as_it_would_where_it_counts() {
        let server = TestServer::with(&[]).await;
        record(&server.app, 2).await;
        // Few operations, each of which compares hundreds of items.
        let slow = "fn decide(facts) {\n    let a = [];\n    a.pad(900, 1);\n    while a == a { }\n    \
                    #{ action: \"monitor\", reason: \"never\" }\n}\n";
        let body = json!({ "source": slow, "differences": 0 });
        let (flipped, pages) = all_pages(&server, body).await;
        assert_eq!(flipped.len(), 2);
        for flip in pages[0]["flips"].as_array().unwrap() {
            assert_eq!(flip["after"], "failed limit.deadline");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_not_asked_in_time_is_left_to_the_next_page_and_every_page_gets_on() {
        let source = r#"fn decide(facts) {
            if facts.dependents == 5 { let a = []; a.pad(900, 1); while a == a { } }
            #{ action: "shift_bandwidth", reason: "so" }
        }"#;
        let draft = Script::compile("p", source).unwrap();
        let recorded = (0..10).map(|n| {
            let mut facts = Facts::about("fan-1", "fan", Timestamp(NOW));
            facts.dependents = n;
            Recorded {
                decision: format!("{n:02}"),
                asset: facts.asset.clone(),
                at: facts.at,
                revision: "sha256:0".into(),
                facts: serde_json::to_string(&facts).unwrap(),
                verdict: r#"{"action":"monitor","reason":"ok"}"#.into(),
            }
        });
        let recorded: Vec<Recorded> = recorded.collect();
        let ask = async |from: usize| {
            let page = Arc::new(recorded[from..].to_vec());
            let asked = on_all_cores(&draft, &page, Duration::from_millis(500)).await;
            asked.unwrap()
        };
        let first = ask(0).await;
        assert_eq!((first.decisions, first.flips.len()), (5, 5));
        let second = ask(5).await;
        assert!(second.decisions > 0, "it would be asked about for ever");
        assert_eq!(second.flips[0].decision, "05");
        assert_eq!(second.flips[0].after.to_string(), "failed limit.deadline");
        assert_eq!(ask(6).await.decisions, 4);
    }

    #[tokio::test]
    async fn a_replay_of_no_draft_or_a_faulty_one_is_refused() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Engineer, "emil").await;
        for (body, code) in [
            (json!({}), "one_draft"),
            (
                json!({ "source": "fn decide(facts) { facts.fsp }" }),
                "script",
            ),
            (
                json!({ "source": policy(0.1), "limit": 20_001 }),
                "invalid_limit",
            ),
        ] {
            let body = body.to_string();
            let asked = server
                .ask("POST", "/api/v1/policies/p/replays", &token, &body)
                .await;
            assert_eq!(asked.problem(422), code);
        }
    }

    #[tokio::test]
    async fn a_replay_of_a_policy_nobody_has_names_the_nearest() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Engineer, "emil").await;
        let stored = json!({ "name": "quiet_hours", "source": policy(0.1) }).to_string();
        server
            .ask("POST", "/api/v1/policies", &token, &stored)
            .await;
        let body = json!({ "source": policy(0.1) }).to_string();
        let ask = |name: &str| format!("/api/v1/policies/{name}/replays");
        let asked = server.ask("POST", &ask("quite_hours"), &token, &body).await;
        assert_eq!(asked.problem(404), "not_found");
        assert_eq!(asked.json()["nearest"], "quiet_hours");
        let none_yet = server.ask("POST", &ask("quiet_hours"), &token, &body).await;
        assert_eq!(
            (none_yet.status.as_u16(), &none_yet.json()["total"]),
            (200, &json!(0))
        );
    }

    #[test]
    fn quantiles_are_values_that_were_taken() {
        let view = OperationsView::of((1..=200).rev().collect());
        assert_eq!((view.p50, view.p99, view.max), (100, 198, 200));
        assert_eq!(OperationsView::of(Vec::new()).max, 0);
    }

    /// Prints the figure `policy_replay_100k_s`.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a measurement"]
    async fn a_hundred_thousand_decisions_are_replayed() {
        let server = TestServer::with(&[]).await;
        record(&server.app, 100_000).await;
        let wanted = (0..100_000)
            .filter(|n| risk(*n) > 0.5 && risk(*n) <= 0.8)
            .count();
        let begun = std::time::Instant::now();
        let (flipped, _) = all_pages(&server, json!({ "source": policy(0.8) })).await;
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(flipped.len(), wanted);
        println!("policy_replay_100k_s {seconds:.2} s");
    }
}
