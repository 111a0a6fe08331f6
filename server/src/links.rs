//! Links in the document behind `openapi/v1.json`: which operation takes what another one answers.
//!
//! Most follow from the paths: whatever names a thing in its answer leads to the operations on that thing. A test that
//! follows links finds its way through the API as a client does.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::link::Link;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr};

/// A link to be added to the answer of an operation.
struct Found {
    from: String,
    status: String,
    to: String,
    parameters: BTreeMap<String, String>,
    body: Option<Value>,
}

/// A link the paths do not tell of: the operation it leads from, the status of its answer, the operation it leads to, the
/// parameter it carries, where that stands, and what of the body it knows.
type Told = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const TOLD: [Told; 10] = [
    (
        "create_enrolment",
        "201",
        "claim_cell_token",
        "code",
        "$response.body#/code",
        &[("claim_secret", "$response.body#/claim_secret")],
    ),
    (
        "open_epoch",
        "201",
        "acquire_lease",
        "cell",
        "$request.path.cell",
        &[("epoch", "$response.body#/epoch")],
    ),
    (
        "acquire_lease",
        "201",
        "get_build",
        "id",
        "$response.body#/build",
        &[],
    ),
    (
        "acquire_lease",
        "201",
        "renew_lease",
        "id",
        "$response.body#/id",
        HELD,
    ),
    (
        "acquire_lease",
        "201",
        "stage_build",
        "id",
        "$response.body#/id",
        STAGED,
    ),
    (
        "acquire_lease",
        "201",
        "start_build",
        "id",
        "$response.body#/id",
        HELD,
    ),
    (
        "acquire_lease",
        "201",
        "complete_build",
        "id",
        "$response.body#/id",
        HELD,
    ),
    (
        "acquire_lease",
        "201",
        "fail_build",
        "id",
        "$response.body#/id",
        HELD,
    ),
    (
        "list_plugin_calls",
        "200",
        "get_plugin_call",
        "id",
        "$response.body#/calls/0/id",
        &[],
    ),
    (
        "get_build",
        "200",
        "resolve_build",
        "id",
        "$response.body#/id",
        &[("fence", "$response.body#/fence")],
    ),
];
const HELD: &[(&str, &str)] = &[
    ("fence", "$response.body#/fence"),
    ("epoch", "$request.body#/epoch"),
];
const STAGED: &[(&str, &str)] = &[
    ("fence", "$response.body#/fence"),
    ("epoch", "$request.body#/epoch"),
    ("digest", "$response.body#/gcode/digest"),
];

/// Adds the links.
pub fn with_links(mut openapi: OpenApi) -> OpenApi {
    let document = serde_json::to_value(&openapi).unwrap_or_default();
    let mut found = from_paths(&document);
    found.extend(
        TOLD.iter()
            .map(|(from, status, to, parameter, value, body)| Found {
                from: (*from).into(),
                status: (*status).into(),
                to: (*to).into(),
                parameters: BTreeMap::from([((*parameter).into(), (*value).into())]),
                body: (!body.is_empty()).then(|| {
                    body.iter()
                        .map(|(k, v)| ((*k).to_owned(), json!(v)))
                        .collect()
                }),
            }),
    );
    for item in openapi.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.patch,
        ];
        for operation in operations.into_iter().flatten() {
            add(operation, &found);
        }
    }
    openapi
}

fn add(operation: &mut Operation, found: &[Found]) {
    let id = operation.operation_id.clone().unwrap_or_default();
    for link in found.iter().filter(|link| link.from == id) {
        if let Some(RefOr::T(response)) = operation.responses.responses.get_mut(&link.status) {
            let mut to = Link::builder().operation_id(link.to.clone());
            for (name, value) in &link.parameters {
                to = to.parameter(name.clone(), value.clone());
            }
            let to = to.request_body(link.body.clone()).build();
            // More than one may lead to the same: those told go before those found.
            response.links.insert(link.to.clone(), to.into());
        }
    }
}

/// For each operation on one thing, the operations beside it whose answer names such a thing.
fn from_paths(document: &Value) -> Vec<Found> {
    let mut found = Vec::new();
    let all: Vec<(&String, &Value)> = operations(document).collect();
    for (path, operation) in &all {
        let Some((room, rest)) = path.split_once("/{") else {
            continue;
        };
        let Some((parameter, _)) = rest.split_once('}') else {
            continue;
        };
        for (other, source) in &all {
            let beside = *other == room || other.starts_with(&format!("{room}/{{"));
            let same = source["operationId"] == operation["operationId"];
            if beside && !same {
                found.extend(
                    named_in(document, source, room, parameter).map(|(status, value)| Found {
                        from: text(&source["operationId"]),
                        status,
                        to: text(&operation["operationId"]),
                        parameters: BTreeMap::from([(parameter.to_owned(), value)]),
                        body: None,
                    }),
                );
            }
        }
    }
    found
}

fn operations(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let operations = item
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, operation)| operation);
        operations
            .filter(|o| o["operationId"].is_string())
            .map(move |operation| (path, operation))
    })
}

/// Where the successes of an operation name a thing of this room: themselves, or in the first row of a list.
fn named_in<'a>(
    document: &'a Value,
    operation: &'a Value,
    room: &'a str,
    parameter: &'a str,
) -> impl Iterator<Item = (String, String)> + 'a {
    let key = room.rsplit('/').next().unwrap_or_default();
    let answers = operation["responses"].as_object().into_iter().flatten();
    let successes = answers.filter(|(status, _)| status.starts_with('2'));
    successes.filter_map(move |(status, answer)| {
        let schema = resolved(document, &answer["content"]["application/json"]["schema"]);
        let rows = resolved(document, &schema["properties"][key]["items"]);
        let value = match (name_of(schema, parameter), name_of(rows, parameter)) {
            (Some(name), _) => format!("$response.body#/{name}"),
            (None, Some(name)) => format!("$response.body#/{key}/0/{name}"),
            (None, None) => return None,
        };
        Some((status.clone(), value))
    })
}

/// The property that holds what the path calls this.
fn name_of<'a>(schema: &Value, parameter: &'a str) -> Option<&'a str> {
    let names = [parameter, "id"];
    names.into_iter().find(|name| has(schema, name))
}

/// A schema with flattened parts is told as several, all of which hold.
fn has(schema: &Value, name: &str) -> bool {
    let mut parts = schema["allOf"].as_array().into_iter().flatten();
    schema["properties"][name].is_object() || parts.any(|part| has(part, name))
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            let name = reference.rsplit('/').next().unwrap_or_default();
            &document["components"]["schemas"][name]
        }
        None => schema,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn links_lead_to_operations_that_take_what_they_carry() {
        let document = serde_json::to_value(crate::router::document()).expect("a document");
        let known: BTreeMap<String, &Value> = operations(&document)
            .map(|(_, operation)| (text(&operation["operationId"]), operation))
            .collect();
        let mut reached = BTreeSet::new();
        for (id, operation) in &known {
            let answers = operation["responses"].as_object().expect("responses");
            for link in answers
                .values()
                .flat_map(|a| a["links"].as_object())
                .flatten()
            {
                let to = text(&link.1["operationId"]);
                let target = known
                    .get(&to)
                    .unwrap_or_else(|| panic!("{id} leads to {to}"));
                let takes = target["parameters"].as_array().expect("parameters");
                for name in link.1["parameters"].as_object().expect("parameters").keys() {
                    assert!(
                        takes.iter().any(|p| p["name"] == **name),
                        "{id} to {to}: {name}"
                    );
                }
                reached.insert(to);
            }
        }
        for (from, _, to, ..) in TOLD {
            assert!(
                known.contains_key(from) && reached.contains(to),
                "{from} to {to}"
            );
        }
        let with_path = operations(&document).filter(|(path, _)| path.contains('{'));
        let lost: Vec<String> = with_path
            .map(|(_, operation)| text(&operation["operationId"]))
            .filter(|id| !reached.contains(id))
            .collect();
        assert_eq!(lost, [""; 0], "no answer leads there");
    }
}
