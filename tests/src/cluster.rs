//! A Postgres cluster of one's own, which may be stopped as by a power cut and started again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::server::free_port;

/// A running cluster with `fsync` on; stopped and removed with the value.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Cluster {
    /// A new cluster on a free port of the loopback.
    ///
    /// # Panics
    ///
    /// When Postgres is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let cluster = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            programs: newest_programs(),
            port: free_port(),
        };
        if is_root() {
            let mut chown = Command::new("chown");
            run(chown.arg("postgres").arg(cluster.folder.path()));
        }
        let data = cluster.data();
        let data = data.to_str().expect("a readable path");
        let options = [
            "-U",
            "forewright",
            "--auth=trust",
            "-E",
            "UTF8",
            "--no-sync",
        ];
        run(cluster.program("initdb").args(["-D", data]).args(options));
        cluster.start_again();
        cluster
    }

    /// The address of a new, empty database.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn database(&self, name: &str) -> String {
        let admin = self.url("postgres");
        let sql = format!("CREATE DATABASE {name}");
        let told = Command::new("psql")
            .args([&admin, "-qX", "-c", &sql])
            .status();
        assert!(told.expect("psql can be started").success(), "{sql}");
        self.url(name)
    }

    /// The address of a database.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("postgres://forewright@127.0.0.1:{}/{name}", self.port)
    }

    /// Ends every process of it at once, as a power cut would; what was not committed is lost.
    ///
    /// # Panics
    ///
    /// When it does not stop.
    pub fn stop_at_once(&self) {
        run(self.control().args(["-m", "immediate", "stop"]));
    }

    /// Starts it after [`Cluster::stop_at_once`], and waits until it has recovered.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_again(&self) {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -p {} -k {} -c max_connections=300",
            self.port,
            self.folder.path().display()
        );
        let log = self.folder.path().join("log");
        run(self
            .control()
            .arg("-l")
            .arg(log)
            .args(["-w", "-o", &options, "start"]));
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn control(&self) -> Command {
        let mut control = self.program("pg_ctl");
        control.arg("-D").arg(self.data());
        control
    }

    /// Postgres refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            let user = [
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                "--",
            ];
            command.args(user).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = self.control();
        let stop = stop.args(["-m", "immediate", "stop"]);
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn newest_programs() -> PathBuf {
    let all = std::fs::read_dir("/usr/lib/postgresql").expect("Postgres is installed");
    let versions = all.flatten().map(|entry| entry.path().join("bin"));
    let number = |bin: &PathBuf| {
        let version = bin.parent().and_then(Path::file_name);
        version.and_then(|v| v.to_str()?.parse::<u32>().ok())
    };
    versions.max_by_key(number).expect("Postgres is installed")
}

/// Whatever it starts must not keep our pipes open.
fn run(command: &mut Command) {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    let ended = quiet.status().expect("it can be started");
    assert!(ended.success(), "{command:?} ended with {ended}");
}
