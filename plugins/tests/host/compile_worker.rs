//! What `forewright compile-worker` does, and nothing else; the tests start it as their child.

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    std::process::exit(plugins::compile::work(&arguments));
}
