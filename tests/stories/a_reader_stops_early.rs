//! `forewright … | head`: whoever has read enough closes the pipe, and the command ends without a word.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use tests::binary::forewright;

#[test]
fn a_command_whose_output_is_cut_ends_quietly() {
    // The document is longer than any pipe holds, so the command is still writing when its reader goes.
    let mut command = Command::new(forewright())
        .arg("openapi")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("forewright can be started");
    let mut line = String::new();
    let mut out = BufReader::new(command.stdout.take().expect("a pipe"));
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "{\n");
    drop(out);
    let mut said = String::new();
    let mut stderr = command.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut said).expect("text");
    let ended = command.wait().expect("an end");
    assert_eq!((ended.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_failure_nobody_reads_of_is_still_one() {
    let missing = ["cad", "check", "no-such-file.stl"];
    let mut command = Command::new(forewright())
        .args(missing)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("forewright can be started");
    drop(command.stderr.take());
    let ended = command.wait().expect("an end");
    assert_eq!(ended.code(), Some(1), "neither a panic nor a success");
}
