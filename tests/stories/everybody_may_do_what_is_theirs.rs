//! Everybody may do what is theirs: every operation of the contract, asked by every role.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Server};

const ROLES: [&str; 6] = [
    "operator",
    "technician",
    "engineer",
    "developer",
    "agent",
    "cell",
];

/// What each role may do, in letters: o(perator) t(echnician) e(ngineer) d(eveloper) a(gent) c(ell).
///
/// `readers` is what people see; whoever adds an operation adds it here, and says by that who may.
const READERS: &str = "oteda";
const ALL: &str = "otedac";
const MAY: &[(&str, &str)] = &[
    ("accept_window", "to"),
    ("acquire_lease", "c"),
    ("activate_policy_revision", "oe"),
    ("activate_workflow_revision", "oe"),
    ("answer_approval", "to"),
    ("append_upload", "otec"),
    ("approve_enrolment", "o"),
    ("canary_plugin", "o"),
    ("canary_policy_revision", "oe"),
    ("cancel_run", "oe"),
    ("check_policy", READERS),
    ("check_workflow", READERS),
    ("claim_cell_token", ALL),
    ("complete_build", "c"),
    ("create_enrolment", ALL),
    ("create_event", "oea"),
    ("create_outcome", "to"),
    ("create_run", "oe"),
    ("create_token", "o"),
    ("create_upload", "otec"),
    ("delete_heat_group", "o"),
    ("delete_plugin_key", "o"),
    ("delete_trigger", "oe"),
    ("delete_upload", "otec"),
    ("demote_plugin", "o"),
    ("fail_build", "c"),
    ("finish_upload", "otec"),
    ("get_artifact", ALL),
    ("get_health", ALL),
    ("get_plugin_recording", "od"),
    ("get_plugin_settings", "od"),
    ("get_upload", "otec"),
    ("list_enrolments", "o"),
    ("list_events", ALL),
    ("list_tokens", "o"),
    ("migrate_workflow", "oe"),
    ("open_epoch", "c"),
    ("pin_run", "oe"),
    ("promote_plugin", "o"),
    ("put_artifact", "otec"),
    ("put_asset", "o"),
    ("put_cell_rules", "o"),
    ("put_dry_run", "oe"),
    ("put_heat_group", "o"),
    ("put_kill_switch", "o"),
    ("put_locality", "o"),
    ("put_part", "oe"),
    ("put_plugin_key", "o"),
    ("put_plugin_settings", "o"),
    ("put_policy", "oe"),
    ("put_technician", "o"),
    ("put_trigger", "oe"),
    ("put_workflow", "oe"),
    ("redrive_dead_letter", "oe"),
    ("reject_enrolment", "o"),
    ("reject_window", "to"),
    ("remote_write", "oa"),
    ("renew_lease", "c"),
    ("replay_policy", "oe"),
    ("resolve_build", "toc"),
    ("restart_run", "oe"),
    ("retire_plugin", "o"),
    ("retire_policy_revision", "oe"),
    ("retire_workflow_revision", "oe"),
    ("revoke_cell_token", "o"),
    ("revoke_token", "o"),
    ("roll_back_policy", "oe"),
    ("roll_back_workflow", "oe"),
    ("rotate_cell_token", "o"),
    ("shadow_policy_revision", "oe"),
    ("stage_build", "c"),
    ("start_build", "c"),
    ("stream_events", ALL),
    ("tick", "o"),
    ("train_model", "oe"),
    ("upload_plugin", "od"),
    ("write_samples", "oa"),
];

async fn clients(server: &Server) -> BTreeMap<&'static str, Client> {
    let mut clients = BTreeMap::new();
    for role in ROLES {
        let client = match role {
            "operator" => server.operator.clone(),
            "cell" => server.cell("c1").await.client,
            other => server.client_of(other).await,
        };
        clients.insert(role, client);
    }
    clients
}

/// Whether the role's word counts: anything but a refusal of the role itself.
async fn is_let_in(client: &Client, method: &Method, path: &str) -> bool {
    // Names nobody has, and bodies that are not understood: whoever is let in changes nothing.
    let path = path.trim_start_matches("/api/v1");
    let path = path.replace("{digest}", "sha256:0");
    // A cell speaks for itself alone.
    let path = path
        .replace("{cell}/epochs", "c1/epochs")
        .replace("{cell}/leases", "c1/leases");
    let path = path.split('/').map(|part| {
        if part.starts_with('{') {
            "nobody"
        } else {
            part
        }
    });
    let path: Vec<&str> = path.collect();
    let request = client
        .request(method.clone(), &path.join("/"))
        .json(&json!([]));
    let response = client.open(request).await;
    assert_ne!(response.status(), 401, "{method} {path:?}");
    response.status() != 403
}

#[tokio::test]
async fn every_operation_asked_by_every_role() {
    let server = Server::start().await;
    let clients = clients(&server).await;
    let text = std::fs::read_to_string("../openapi/v1.json").expect("the contract");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let told: BTreeMap<&str, &str> = MAY.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let Ok(verb) = method.to_uppercase().parse::<Method>() else {
                continue;
            };
            let Some(id) = operation["operationId"].as_str() else {
                continue;
            };
            let may = match told.get(id) {
                Some(may) => *may,
                // Reading is for people; what changes something has to be said above.
                None if verb == Method::GET => READERS,
                None => {
                    wrong.push(format!("{id}: say in this test who may"));
                    continue;
                }
            };
            seen.insert(id.to_owned());
            for role in ROLES {
                let is = is_let_in(&clients[role], &verb, path).await;
                if is != may.contains(&role[..1]) {
                    let word = if is { "may" } else { "may not" };
                    wrong.push(format!("{id}: {role} {word}"));
                }
            }
        }
    }
    wrong.extend(
        told.keys()
            .filter(|id| !seen.contains(**id))
            .map(|id| format!("{id} is gone")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}
