//! The closed stub of WASI 0.2 for guests whose toolchain cannot leave it out: Python, and Rust with `std`.
//!
//! There are no files, no sockets, no environment and no input. The clock stands at the call's moment, randomness
//! starts from its seed, and what is written to standard output and error goes to the plugin's log. Everything else
//! stops the guest, which is told by name.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceDynamic, ResourceType, Val};
use wasmtime::{Engine, StoreContextMut};

use super::guest::{Guest, Stop};

/// The packages that are stubbed, in any version 0.2.
const PACKAGES: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
/// The resources that a guest can come by, in the order of their numbers.
const RESOURCES: [&str; 4] = ["error", "input-stream", "output-stream", "pollable"];
const INPUT: u32 = 1;
const OUTPUT: u32 = 2;
const POLLABLE: u32 = 3;
/// What stands behind an output stream.
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
/// Bytes that a stream takes at once: as many as `blocking-write-and-flush` has to.
const PIECE: usize = 4_096;
/// Bytes that randomness gives at once.
const MOST_RANDOM: u64 = 64 << 10;

/// Whether the stub has an import, by its name such as `wasi:cli/stderr@0.2.3`.
pub(crate) fn has(import: &str) -> bool {
    let interface = import
        .strip_prefix("wasi:")
        .and_then(|rest| rest.split_once('/'));
    let Some((package, rest)) = interface else {
        return false;
    };
    let version = rest.split_once('@').map_or("", |(_, version)| version);
    PACKAGES.contains(&package) && version.starts_with("0.2.")
}

/// Adds what a component imports of WASI, and nothing it does not.
pub(super) fn add(
    engine: &Engine,
    linker: &mut Linker<Guest>,
    component: &Component,
) -> wasmtime::Result<()> {
    let shape = component.component_type();
    let mut known = RESOURCES.map(str::to_owned).to_vec();
    for (name, import) in shape.imports(engine).filter(|(name, _)| has(name)) {
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            continue;
        };
        let mut instance = linker.instance(name)?;
        for (item, export) in interface.exports(engine) {
            match export.ty {
                ComponentItem::Resource(_) => add_resource(&mut instance, item, &mut known)?,
                ComponentItem::ComponentFunc(_) => add_function(&mut instance, name, item)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// A resource that several interfaces speak of is the same one in all of them: its number is its place in `known`.
fn add_resource(
    instance: &mut LinkerInstance<'_, Guest>,
    name: &str,
    known: &mut Vec<String>,
) -> wasmtime::Result<()> {
    let number = known.iter().position(|one| one == name).unwrap_or_else(|| {
        known.push(name.to_owned());
        known.len() - 1
    });
    instance.resource(name, ResourceType::host_dynamic(number as u32), |_, _| {
        Ok(())
    })
}

fn add_function(
    instance: &mut LinkerInstance<'_, Guest>,
    interface: &str,
    name: &str,
) -> wasmtime::Result<()> {
    let bare = interface.split('@').next().unwrap_or_default();
    let full = format!("{bare}#{name}");
    instance.func_new(name, move |mut store, _, arguments, results| {
        store.data_mut().enter(None)?;
        // Lent resources have to be given back, whatever becomes of the call.
        let lent = give_back(&mut store, arguments)?;
        let answer = call(&mut store, &full, arguments, &lent)?;
        if let (Some(result), Some(answer)) = (results.first_mut(), answer) {
            *result = answer;
        }
        Ok(())
    })
}

type Store<'a> = StoreContextMut<'a, Guest>;

/// Answers one function, or stops the guest.
fn call(
    store: &mut Store<'_>,
    function: &str,
    arguments: &[Val],
    lent: &[u32],
) -> wasmtime::Result<Option<Val>> {
    let answer = match function {
        "wasi:cli/environment#get-environment" | "wasi:cli/environment#get-arguments" => empty(),
        "wasi:filesystem/preopens#get-directories" => empty(),
        "wasi:cli/environment#initial-cwd" | "wasi:filesystem/types#filesystem-error-code" => {
            none()
        }
        "wasi:cli/terminal-stdin#get-terminal-stdin"
        | "wasi:cli/terminal-stdout#get-terminal-stdout"
        | "wasi:cli/terminal-stderr#get-terminal-stderr" => none(),
        "wasi:cli/stdin#get-stdin" => resource(store, 0, INPUT)?,
        "wasi:cli/stdout#get-stdout" => resource(store, STDOUT, OUTPUT)?,
        "wasi:cli/stderr#get-stderr" => resource(store, STDERR, OUTPUT)?,
        "wasi:cli/exit#exit" | "wasi:cli/exit#exit-with-code" => return Err(Stop::Exited.into()),
        "wasi:clocks/monotonic-clock#now" => Val::U64(now_ns(store)),
        "wasi:clocks/monotonic-clock#resolution" => Val::U64(1_000_000),
        "wasi:clocks/wall-clock#now" => datetime(now_ns(store)),
        "wasi:clocks/wall-clock#resolution" => datetime(1_000_000),
        "wasi:clocks/monotonic-clock#subscribe-instant"
        | "wasi:clocks/monotonic-clock#subscribe-duration" => resource(store, 0, POLLABLE)?,
        "wasi:random/random#get-random-u64" | "wasi:random/insecure#get-insecure-random-u64" => {
            Val::U64(store.data_mut().draw())
        }
        "wasi:random/random#get-random-bytes"
        | "wasi:random/insecure#get-insecure-random-bytes" => {
            random_bytes(store, arguments, function)?
        }
        "wasi:random/insecure-seed#insecure-seed"
        | "wasi:random/insecure-seed#get-insecure-seed" => {
            let guest = store.data_mut();
            Val::Tuple(vec![Val::U64(guest.draw()), Val::U64(guest.draw())])
        }
        _ => return io(store, function, arguments, lent),
    };
    Ok(Some(answer))
}

/// Streams and what waits for them: input is at its end, output is always ready, nobody ever waits.
fn io(
    store: &mut Store<'_>,
    function: &str,
    arguments: &[Val],
    lent: &[u32],
) -> wasmtime::Result<Option<Val>> {
    let Some(method) = function.strip_prefix("wasi:io/") else {
        return Err(absent(function));
    };
    let answer = match method {
        "error#[method]error.to-debug-string" => Val::String(String::new()),
        "poll#[method]pollable.ready" => Val::Bool(true),
        "poll#[method]pollable.block" => return Ok(None),
        "poll#poll" => match arguments {
            [Val::List(waiting)] => Val::List((0..waiting.len() as u32).map(Val::U32).collect()),
            _ => return Err(absent(function)),
        },
        "streams#[method]input-stream.subscribe" | "streams#[method]output-stream.subscribe" => {
            resource(store, 0, POLLABLE)?
        }
        "streams#[method]output-stream.check-write" => {
            Val::Result(Ok(Some(Box::new(Val::U64(PIECE as u64)))))
        }
        "streams#[method]output-stream.write"
        | "streams#[method]output-stream.blocking-write-and-flush" => {
            write(store, arguments, lent, function)?;
            Val::Result(Ok(None))
        }
        "streams#[method]output-stream.flush" | "streams#[method]output-stream.blocking-flush" => {
            Val::Result(Ok(None))
        }
        "streams#[method]input-stream.read"
        | "streams#[method]input-stream.blocking-read"
        | "streams#[method]input-stream.skip"
        | "streams#[method]input-stream.blocking-skip" => closed(),
        _ => return Err(absent(function)),
    };
    Ok(Some(answer))
}

fn absent(function: &str) -> wasmtime::Error {
    Stop::Absent(function.to_owned()).into()
}

fn empty() -> Val {
    Val::List(Vec::new())
}

fn none() -> Val {
    Val::Option(None)
}

/// `stream-error::closed`.
fn closed() -> Val {
    Val::Result(Err(Some(Box::new(Val::Variant("closed".to_owned(), None)))))
}

fn resource(store: &mut Store<'_>, behind: u32, kind: u32) -> wasmtime::Result<Val> {
    let own = ResourceDynamic::new_own(behind, kind);
    Ok(Val::Resource(own.try_into_resource_any(store)?))
}

fn now_ns(store: &Store<'_>) -> u64 {
    // Saturates for moments before 1970 and beyond 2554.
    (store.data().context.now_ms * 1e6) as u64
}

fn datetime(ns: u64) -> Val {
    let nanoseconds = (ns % 1_000_000_000) as u32;
    Val::Record(vec![
        ("seconds".to_owned(), Val::U64(ns / 1_000_000_000)),
        ("nanoseconds".to_owned(), Val::U32(nanoseconds)),
    ])
}

fn random_bytes(store: &mut Store<'_>, arguments: &[Val], function: &str) -> wasmtime::Result<Val> {
    let [Val::U64(count @ 0..=MOST_RANDOM)] = arguments else {
        return Err(absent(function));
    };
    let guest = store.data_mut();
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < *count {
        bytes.extend(guest.draw().to_le_bytes());
    }
    bytes.truncate(*count as usize);
    Ok(Val::List(bytes.into_iter().map(Val::U8).collect()))
}

fn write(
    store: &mut Store<'_>,
    arguments: &[Val],
    lent: &[u32],
    function: &str,
) -> wasmtime::Result<()> {
    let (Some(Val::List(bytes)), Some(stream)) = (arguments.get(1), lent.first()) else {
        return Err(absent(function));
    };
    if bytes.len() > PIECE {
        return Err(Stop::Misused(function.to_owned()).into());
    }
    let byte = |value: &Val| match value {
        Val::U8(byte) => Some(*byte),
        _ => None,
    };
    let bytes: Vec<u8> = bytes.iter().filter_map(byte).collect();
    store.data_mut().print(*stream == STDERR, &bytes);
    Ok(())
}

/// What stands behind the resources among the arguments, in their order.
fn give_back(store: &mut Store<'_>, arguments: &[Val]) -> wasmtime::Result<Vec<u32>> {
    let mut behind = Vec::new();
    for argument in arguments {
        match argument {
            Val::Resource(lent) => {
                behind.push(ResourceDynamic::try_from_resource_any(*lent, &mut *store)?.rep());
            }
            Val::List(all) => behind.extend(give_back(store, all)?),
            _ => {}
        }
    }
    Ok(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stub_is_closed() {
        for import in [
            "wasi:cli/stderr@0.2.3",
            "wasi:io/streams@0.2.0",
            "wasi:sockets/tcp@0.2.9",
        ] {
            assert!(has(import), "{import}");
        }
        for import in [
            "wasi:http/types@0.2.3",
            "wasi:cli/stderr@0.3.0",
            "wasi:cli/stderr",
            "wasi:nn/tensor@0.2.0",
            "acme:cli/stderr@0.2.3",
            "wasi:cli@0.2.3",
        ] {
            assert!(!has(import), "{import}");
        }
        assert_eq!(RESOURCES[INPUT as usize], "input-stream");
        assert_eq!(RESOURCES[OUTPUT as usize], "output-stream");
        assert_eq!(RESOURCES[POLLABLE as usize], "pollable");
    }
}
