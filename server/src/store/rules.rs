//! Rules of cells and groups of machines that heat together; `workflows::build::rules` decides by them.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};
use serde_json::json;
use workflows::build::rules::{CellRules, GroupLoad, HeatGroup, NotNow, may_claim, may_start};
use workflows::model::Timestamp;

use super::database::{all, execute, for_update, from_json, notify_builds, one, to_json};
use super::{StoreError, audit, cells};

table!(
    /// Groups; `limits` is the JSON of a [`HeatGroup`].
    heat_group, "heat_group", {
    #[sea_orm(primary_key, auto_increment = false)]
    name: String,
    limits: String,
    last_start_at: Option<i64>,
});

table!(
    /// Rules of cells, where an operator set some; `rules` is the JSON of a [`CellRules`].
    cell_rules, "cell_rules", {
    #[sea_orm(primary_key, auto_increment = false)]
    cell: String,
    heat_group: Option<String>,
    rules: String,
});

/// The rules of a cell; none in particular unless an operator set some.
pub async fn of_cell(db: &impl ConnectionTrait, cell: &str) -> Result<CellRules, StoreError> {
    let row = cell_rules::Entity::find_by_id(cell.to_owned())
        .one(db)
        .await?;
    row.map_or_else(
        || Ok(CellRules::default()),
        |row| from_json("cell rules", &row.rules),
    )
}

/// Sets the rules of a cell. To be called in a transaction.
///
/// # Errors
///
/// When the cell or its heat group is unknown.
pub async fn put(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    cell: &str,
    rules: &CellRules,
) -> Result<(), StoreError> {
    cells::get(db, cell).await?;
    if let Some(name) = &rules.heat_group {
        group(db, name).await?;
    }
    let sql = "INSERT INTO cell_rules (cell, heat_group, rules) VALUES ($1, $2, $3) \
               ON CONFLICT (cell) DO UPDATE SET heat_group = excluded.heat_group, \
               rules = excluded.rules";
    let text = to_json("cell rules", rules)?;
    execute(db, sql, values![cell, rules.heat_group.clone(), text]).await?;
    audit::record(db, now, actor, "put_cell_rules", cell, &json!(rules)).await?;
    // What was barred may be free now.
    notify_builds(db).await
}

/// Every group, by name.
pub async fn groups(db: &impl ConnectionTrait) -> Result<Vec<(String, HeatGroup)>, StoreError> {
    let rows = heat_group::Entity::find()
        .order_by_asc(heat_group::Column::Name)
        .all(db)
        .await?;
    let read = |row: heat_group::Model| Ok((row.name, from_json("heat group", &row.limits)?));
    rows.into_iter().map(read).collect()
}

/// One group.
pub async fn group(db: &impl ConnectionTrait, name: &str) -> Result<HeatGroup, StoreError> {
    let row = heat_group::Entity::find_by_id(name.to_owned())
        .one(db)
        .await?;
    let row = row.ok_or_else(|| StoreError::unknown("heat group", name))?;
    from_json("heat group", &row.limits)
}

/// Makes or changes a group. To be called in a transaction.
pub async fn put_group(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    name: &str,
    limits: &HeatGroup,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO heat_group (name, limits) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET limits = excluded.limits";
    execute(db, sql, values![name, to_json("heat group", limits)?]).await?;
    audit::record(db, now, actor, "put_heat_group", name, &json!(limits)).await?;
    notify_builds(db).await
}

/// Removes a group. To be called in a transaction.
///
/// # Errors
///
/// `heat_group_used` while cells belong to it.
pub async fn delete_group(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    name: &str,
) -> Result<(), StoreError> {
    group(db, name).await?;
    let sql = "SELECT * FROM cell_rules WHERE heat_group = $1 ORDER BY cell LIMIT 1";
    if let Some(member) = one::<cell_rules::Model>(db, sql, values![name]).await? {
        return Err(StoreError::refused(
            "heat_group_used",
            format_args!(
                "cell `{}` belongs to heat group `{name}`; take its cells out first",
                member.cell
            ),
        ));
    }
    execute(db, "DELETE FROM heat_group WHERE name = $1", values![name]).await?;
    audit::record(db, now, actor, "delete_heat_group", name, &json!(null)).await
}

/// Whether a cell may take a build now.
pub async fn check_claim(
    db: &impl ConnectionTrait,
    now: i64,
    cell: &str,
) -> Result<Result<(), NotNow>, StoreError> {
    let sql = "SELECT * FROM cell_rules WHERE cell = $1";
    let rows: Vec<cell_rules::Model> = all(db, sql, values![cell]).await?;
    Ok(match checked(db, now, rows).await?.remove(cell) {
        Some(not_now) => Err(not_now),
        None => Ok(()),
    })
}

/// The cells that may not take a build now, each with the reason.
pub async fn barred(
    db: &impl ConnectionTrait,
    now: i64,
) -> Result<BTreeMap<String, NotNow>, StoreError> {
    let rows: Vec<cell_rules::Model> = all(db, "SELECT * FROM cell_rules", values![]).await?;
    checked(db, now, rows).await
}

async fn checked(
    db: &impl ConnectionTrait,
    now: i64,
    rows: Vec<cell_rules::Model>,
) -> Result<BTreeMap<String, NotNow>, StoreError> {
    let mut loads = BTreeMap::new();
    let named: BTreeSet<&String> = rows
        .iter()
        .filter_map(|row| row.heat_group.as_ref())
        .collect();
    for name in named {
        let sql = "SELECT * FROM heat_group WHERE name = $1";
        if let Some(row) = one::<heat_group::Model>(db, sql, values![name.as_str()]).await? {
            loads.insert(name.clone(), loaded(db, row).await?);
        }
    }
    let mut barred = BTreeMap::new();
    for row in rows {
        let rules: CellRules = from_json("cell rules", &row.rules)?;
        let group = row.heat_group.as_ref().and_then(|name| loads.get(name));
        let group = group.map(|(limits, load)| (limits, load));
        if let Err(not_now) = may_claim(Timestamp(now), &rules, group) {
            barred.insert(row.cell, not_now);
        }
    }
    Ok(barred)
}

/// Grants a start, or says when to ask again. The starts of a group queue up here until each is committed, so that no
/// two take the last place. To be called in the transaction of the start.
///
/// # Errors
///
/// `NotYet` with one of the codes of [`NotNow`].
pub async fn permit_start(
    db: &impl ConnectionTrait,
    now: i64,
    cell: &str,
) -> Result<(), StoreError> {
    let rules = of_cell(db, cell).await?;
    let group = match &rules.heat_group {
        None => None,
        Some(name) => {
            let sql = format!(
                "SELECT * FROM heat_group WHERE name = $1 {}",
                for_update(db)
            );
            let row: Option<heat_group::Model> = one(db, &sql, values![name.as_str()]).await?;
            let row = row.ok_or_else(|| StoreError::unknown("heat group", name.as_str()))?;
            Some(loaded(db, row).await?)
        }
    };
    let loaded = group.as_ref().map(|(limits, load)| (limits, load));
    if let Err(not_now) = may_start(Timestamp(now), &rules, loaded) {
        return Err(StoreError::NotYet {
            code: not_now.code(),
            message: not_now.to_string(),
            retry_after_ms: (not_now.until().0 - now).max(1),
        });
    }
    if let Some(name) = &rules.heat_group {
        let sql = "UPDATE heat_group SET last_start_at = $2 WHERE name = $1";
        execute(db, sql, values![name.as_str(), now]).await?;
    }
    Ok(())
}

#[derive(sea_orm::FromQueryResult)]
struct InHand {
    state: String,
    phase: String,
    started_at: Option<i64>,
}

/// What the machines of a group are at: those that started heat until their cell names another phase.
async fn loaded(
    db: &impl ConnectionTrait,
    row: heat_group::Model,
) -> Result<(HeatGroup, GroupLoad), StoreError> {
    let sql = "SELECT build.state, build.phase, build.started_at FROM build \
               JOIN cell_rules ON cell_rules.cell = build.cell \
               WHERE cell_rules.heat_group = $1 \
               AND build.state IN ('leased', 'staged', 'started', 'uncertain')";
    let in_hand: Vec<InHand> = all(db, sql, values![row.name.as_str()]).await?;
    let mut load = GroupLoad {
        last_start_at: row.last_start_at,
        ..GroupLoad::default()
    };
    for build in in_hand {
        match (build.state.as_str(), build.started_at) {
            ("leased" | "staged", _) => load.about_to_start += 1,
            (_, Some(at)) if ["", "heating"].contains(&build.phase.as_str()) => {
                load.heating_since.push(at);
            }
            _ => {}
        }
    }
    Ok((from_json("heat group", &row.limits)?, load))
}

#[cfg(test)]
mod tests {
    use workflows::build::rules::Closed;

    use super::super::leases::tests::{GCODE, TTL, ask, cell, holder, order, order_at};
    use super::super::leases::{Beat, Grant, heartbeat, stage, start};
    use super::super::{Page, builds, dispatch};
    use super::*;
    use crate::testing::{Fresh, on_both};

    on_both!(
        a_group_heats_only_so_many_at_once_and_starts_them_one_after_the_other,
        a_cell_under_maintenance_takes_nothing_and_the_build_says_why,
        a_point_of_priority_goes_before_ten_minutes_of_waiting,
        of_many_who_start_at_once_only_so_many_may,
        a_group_with_cells_in_it_stays,
    );

    async fn grouped(f: &Fresh, cells: &[&str], stagger_ms: i64) {
        let db = &f.db.write;
        let limits = HeatGroup {
            max_heating: 2,
            stagger_ms,
            heating_ms: 300_000,
            quiet: workflows::build::rules::Quiet::default(),
        };
        put_group(db, f.now(), "op", "hall", &limits).await.unwrap();
        for cell in cells {
            let rules = CellRules {
                heat_group: Some("hall".into()),
                ..CellRules::default()
            };
            put(db, f.now(), "op", cell, &rules).await.unwrap();
        }
    }

    async fn staged(f: &Fresh, cell: &str, epoch: i64) -> Option<Grant> {
        let db = &f.db.write;
        let grant = ask(db, f.now(), cell, epoch, None).await.unwrap()?;
        stage(db, f.now(), holder(&grant, epoch), GCODE)
            .await
            .unwrap();
        Some(grant)
    }

    fn code(error: &StoreError) -> &'static str {
        match error {
            StoreError::NotYet { code, .. } | StoreError::Refused { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }

    async fn a_group_heats_only_so_many_at_once_and_starts_them_one_after_the_other(f: Fresh) {
        let db = &f.db.write;
        for _ in 0..4 {
            order(&f).await;
        }
        let mut epochs = Vec::new();
        for name in ["c1", "c2", "c3", "free"] {
            epochs.push(cell(&f, name).await);
        }
        grouped(&f, &["c1", "c2", "c3"], 30_000).await;
        let one = staged(&f, "c1", epochs[0]).await.unwrap();
        let two = staged(&f, "c2", epochs[1]).await.unwrap();
        assert!(
            staged(&f, "c3", epochs[2]).await.is_none(),
            "two are about to heat"
        );
        assert!(
            staged(&f, "free", epochs[3]).await.is_some(),
            "it is on no circuit of theirs"
        );

        start(db, f.now(), holder(&one, epochs[0])).await.unwrap();
        let soon = start(db, f.now(), holder(&two, epochs[1]))
            .await
            .unwrap_err();
        match soon {
            StoreError::NotYet {
                code,
                retry_after_ms,
                ..
            } => {
                assert_eq!((code, retry_after_ms), ("staggered", 30_000));
            }
            other => panic!("{other:?}"),
        }
        f.advance(30_000);
        let started = start(db, f.now(), holder(&two, epochs[1])).await.unwrap();
        assert_eq!(
            started.build.physical_starts, 1,
            "to be refused is no start"
        );
        assert!(staged(&f, "c3", epochs[2]).await.is_none(), "two heat");
        let beat = Beat {
            seq: 1,
            share_done: 0.1,
            phase: "printing",
            ttl_ms: TTL,
        };
        heartbeat(db, f.now(), holder(&one, epochs[0]), beat)
            .await
            .unwrap();
        assert!(
            staged(&f, "c3", epochs[2]).await.is_some(),
            "the first has heated"
        );
    }

    async fn a_cell_under_maintenance_takes_nothing_and_the_build_says_why(f: Fresh) {
        let db = &f.db.write;
        let why = async || {
            let waiting = builds::list(db, Some("waiting"), Page::ALL).await.unwrap();
            let why = dispatch::why_waiting(db, f.now(), &waiting[0])
                .await
                .unwrap();
            let told = why
                .into_iter()
                .map(|o| (o.cell.unwrap_or_default(), o.code));
            told.collect::<Vec<_>>()
        };
        let build = order(&f).await;
        assert_eq!(why().await, [(String::new(), "no_cells")]);
        let epoch = cell(&f, "c1").await;
        assert_eq!(why().await, [("c1".to_owned(), "next")]);
        let rules = CellRules {
            maintenance: vec![Closed {
                from: Timestamp(f.now()),
                to: Timestamp(f.now() + 60_000),
            }],
            ..CellRules::default()
        };
        put(db, f.now(), "op", "c1", &rules).await.unwrap();
        assert_eq!(why().await, [("c1".to_owned(), "maintenance")]);
        assert!(staged(&f, "c1", epoch).await.is_none());
        assert!(barred(db, f.now()).await.unwrap().contains_key("c1"));
        f.advance(60_000);
        assert!(barred(db, f.now()).await.unwrap().is_empty());
        let taken = staged(&f, "c1", epoch).await.unwrap();
        assert_eq!(taken.build.id, build);
        order(&f).await;
        assert_eq!(why().await, [("c1".to_owned(), "busy")]);
        f.advance(TTL * 3);
        super::super::leases::expire(db, f.now()).await.unwrap();
        assert_eq!(why().await, [("c1".to_owned(), "away")]);
        execute(
            db,
            "UPDATE cell SET machine = '{\"printers\": [\"voron_24\"]}'",
            vec![],
        )
        .await
        .unwrap();
        assert_eq!(why().await, [("c1".to_owned(), "misfit")]);
    }

    async fn a_point_of_priority_goes_before_ten_minutes_of_waiting(f: Fresh) {
        let epochs = [
            cell(&f, "c1").await,
            cell(&f, "c2").await,
            cell(&f, "c3").await,
        ];
        let oldest = order(&f).await;
        f.advance(601_000);
        let (old, urgent) = (order(&f).await, order_at(&f, 1).await);
        let mut taken = Vec::new();
        for (name, epoch) in ["c1", "c2", "c3"].into_iter().zip(epochs) {
            taken.push(staged(&f, name, epoch).await.unwrap().build.id);
        }
        assert_eq!(taken, [oldest, urgent, old]);
    }

    async fn of_many_who_start_at_once_only_so_many_may(f: Fresh) {
        let names: Vec<String> = (0..6).map(|n| format!("c{n}")).collect();
        let mut grants = Vec::new();
        for name in &names {
            order(&f).await;
            let epoch = cell(&f, name).await;
            grants.push((staged(&f, name, epoch).await.unwrap(), epoch));
        }
        let members: Vec<&str> = names.iter().map(String::as_str).collect();
        grouped(&f, &members, 0).await;
        let starting = grants.into_iter().map(|(grant, epoch)| {
            let (db, now) = (f.db.write.clone(), f.now());
            tokio::spawn(async move {
                let tx = super::super::begin(&db).await.unwrap();
                let started = start(&tx, now, holder(&grant, epoch)).await;
                tx.commit().await.unwrap();
                started.map_err(|error| code(&error)).err()
            })
        });
        let mut refused = Vec::new();
        for task in starting.collect::<Vec<_>>() {
            refused.extend(task.await.unwrap());
        }
        assert_eq!(refused, ["heat_group_full"; 4]);
    }

    async fn a_group_with_cells_in_it_stays(f: Fresh) {
        let db = &f.db.write;
        cell(&f, "c1").await;
        grouped(&f, &["c1"], 0).await;
        let refused = delete_group(db, f.now(), "op", "hall").await.unwrap_err();
        assert_eq!(code(&refused), "heat_group_used");
        put(db, f.now(), "op", "c1", &CellRules::default())
            .await
            .unwrap();
        delete_group(db, f.now(), "op", "hall").await.unwrap();
        assert!(group(db, "hall").await.is_err());
        let unknown = CellRules {
            heat_group: Some("hall".into()),
            ..CellRules::default()
        };
        let refused = put(db, f.now(), "op", "c1", &unknown).await;
        assert!(matches!(refused, Err(StoreError::Unknown { .. })));
    }
}
