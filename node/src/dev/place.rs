//! The directory of `leasehold dev`: what is ours, and what a second start finds again.
//!
//! ```text
//! DIR/.leasehold-dev.toml   0600; makes DIR ours; what must survive: ids, token, credentials
//! DIR/dev.json              0600; for scripts; written when everything is ready
//! DIR/context.toml          0600; for the `leasehold` command
//! DIR/ca.pem, vendor/, packages/, node-N/
//! ```
//!
//! A directory without the first file is never touched, unless it is empty. The file is locked
//! while a `dev` runs, so that two do not share a directory.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::seam::{RealDisk, replace_file};

use super::{DevError, DevOptions, Result, check_ports, failed};
use crate::config::io_reason;
use crate::provision::node_dir;

/// The directory, locked.
pub(crate) struct Place {
    /// Absolute.
    pub(crate) dir: PathBuf,
    /// As the user wrote it.
    given: PathBuf,
    pub(crate) state: State,
    _lock: fs::File,
}

/// What a second start finds again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    version: u32,
    pub(crate) nodes: u64,
    base_port: u16,
    /// Whether the nodes serve the classic face.
    #[serde(default)]
    pub(crate) classic: bool,
    /// Whether the cluster's files are all there.
    pub(crate) complete: bool,
    pub(crate) cluster_id: String,
    pub(crate) admin_token: String,
    /// Id of the sample package; empty until it is made.
    pub(crate) package: String,
    pub(crate) app: Option<AppState>,
}

/// The registered application.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppState {
    pub(crate) app_id: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) product_id: String,
}

impl State {
    /// Where a node's gateway listens.
    pub(crate) fn gateway_address(&self, id: u64) -> SocketAddr {
        self.address(id)
    }

    /// Where a node listens for peers.
    pub(crate) fn peer_address(&self, id: u64) -> SocketAddr {
        self.address(10 + id)
    }

    pub(crate) fn gateway_url(&self, id: u64) -> String {
        format!("https://{}", self.gateway_address(id))
    }

    fn address(&self, offset: u64) -> SocketAddr {
        // `check` has seen to it that no port overflows.
        let port = self.base_port.saturating_add(u16::try_from(offset).unwrap_or(u16::MAX));
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }
}

impl Place {
    /// Opens or makes the directory, as the options say.
    pub(crate) fn open(options: &DevOptions) -> Result<Self> {
        let given = options.dir.clone();
        let dir = std::path::absolute(&given)
            .map_err(|error| failed(format!("{}: {}", given.display(), io_reason(&error))))?;
        if dir.to_str().is_none() {
            return Err(DevError::Usage("--dir: the path is not UTF-8".to_owned()));
        }
        let wanted =
            Wanted { nodes: options.nodes, base_port: options.base_port, classic: options.classic };
        if options.clean {
            // Nothing is removed for a start that cannot succeed.
            check_ports(&wanted.begin()?)?;
            remove_ours(&dir)?;
        }
        let found = read_state(&dir)?;
        let state = match found {
            Some(state) => wanted.resume(&dir, state)?,
            None => {
                let state = wanted.begin()?;
                make_dir(&dir)?;
                write(&dir.join(STATE), &state_text(&state)?)?;
                state
            }
        };
        let lock = lock(&dir)?;
        // Whoever waits for it must not find the one of an earlier start.
        match fs::remove_file(dir.join(DEV_JSON)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(no_access(&dir.join(DEV_JSON), &error));
            }
            _ => {}
        }
        Ok(Self { dir, given, state, _lock: lock })
    }

    /// The directory as the user wrote it.
    pub(crate) fn shown(&self) -> String {
        self.given.display().to_string()
    }

    pub(crate) fn ca_cert(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    pub(crate) fn config(&self, id: u64) -> PathBuf {
        node_dir(&self.dir, id).join("node.toml")
    }

    pub(crate) fn log(&self, id: u64) -> PathBuf {
        node_dir(&self.dir, id).join("node.log")
    }

    pub(crate) fn vendor_private_key(&self) -> PathBuf {
        self.dir.join("vendor/vector-de.key.pem")
    }

    pub(crate) fn vendor_public_key(&self) -> PathBuf {
        self.dir.join("vendor/vector-de.pub.pem")
    }

    pub(crate) fn package_file(&self) -> PathBuf {
        self.dir.join("packages").join(format!("{}.json", self.state.package))
    }

    /// Keeps the state, whole or not at all.
    pub(crate) fn save_state(&self) -> Result<()> {
        write(&self.dir.join(STATE), &state_text(&self.state)?)
    }

    /// Writes what scripts and the `leasehold` command read. `pids` is in order of node id.
    pub(crate) fn write_dev_json(&self, pids: &[u32]) -> Result<()> {
        let Some(app) = &self.state.app else { return Err(failed("no app is registered")) };
        let nodes: Vec<_> = (1..=self.state.nodes)
            .zip(pids)
            .map(|(id, pid)| {
                json!({
                    "id": id,
                    "gateway": self.state.gateway_url(id),
                    "peer": self.state.peer_address(id).to_string(),
                    "pid": pid,
                    "data_dir": node_dir(&self.dir, id).join("data"),
                    "config": self.config(id),
                    "log": self.log(id),
                })
            })
            .collect();
        let dev = json!({
            "version": 1,
            "cluster_id": self.state.cluster_id,
            "ca_cert": self.ca_cert(),
            "admin_token": self.state.admin_token,
            "nodes": nodes,
            "app": app,
            "vendor": {
                "vendor_id": super::story::VENDOR_ID,
                "public_key": self.vendor_public_key(),
                "private_key": self.vendor_private_key(),
            },
            "package": self.package_file(),
        });
        let servers: Vec<_> = (1..=self.state.nodes).map(|id| self.state.gateway_url(id)).collect();
        let context = toml::to_string(&json!({
            "server": servers,
            "ca_cert": "ca.pem",
            "token": self.state.admin_token,
            "cluster_id": self.state.cluster_id,
            "app": app,
        }))
        .map_err(|error| failed(format!("writing the context file failed: {error}")))?;
        write(&self.dir.join("context.toml"), &context)?;
        let text = serde_json::to_string_pretty(&dev)
            .map_err(|error| failed(format!("writing dev.json failed: {error}")))?;
        write(&self.dir.join(DEV_JSON), &format!("{text}\n"))
    }
}

/// What the options ask for.
struct Wanted {
    nodes: Option<u64>,
    base_port: Option<u16>,
    classic: bool,
}

impl Wanted {
    fn begin(&self) -> Result<State> {
        let (nodes, base_port) = (self.nodes.unwrap_or(3), self.base_port.unwrap_or(7400));
        if base_port == 0 || base_port > MAX_BASE_PORT {
            let text = format!("--base-port {base_port}: must be from 1 to {MAX_BASE_PORT}");
            return Err(DevError::Usage(text));
        }
        Ok(State {
            version: STATE_VERSION,
            nodes,
            base_port,
            classic: self.classic,
            complete: false,
            cluster_id: String::new(),
            admin_token: String::new(),
            package: String::new(),
            app: None,
        })
    }

    /// A directory whose files are not complete has never had a node started: it begins anew.
    fn resume(&self, dir: &Path, state: State) -> Result<State> {
        if !state.complete {
            return self.begin();
        }
        let differs = |option: &str, there: String| {
            let dir = dir.display();
            DevError::Usage(format!(
                "{dir} holds a cluster with {option} {there}: leave the option out to resume it, \
                 or add --clean to begin anew"
            ))
        };
        match self {
            Self { nodes: Some(nodes), .. } if *nodes != state.nodes => {
                Err(differs("--nodes", state.nodes.to_string()))
            }
            Self { base_port: Some(port), .. } if *port != state.base_port => {
                Err(differs("--base-port", state.base_port.to_string()))
            }
            Self { classic: true, .. } if !state.classic => Err(DevError::Usage(format!(
                "{} holds a cluster without --classic: leave the option out to resume it, \
                     or add --clean to begin anew",
                dir.display()
            ))),
            _ => Ok(state),
        }
    }
}

/// The state of a directory that is ours; `None` when it is empty or not there.
fn read_state(dir: &Path) -> Result<Option<State>> {
    let path = dir.join(STATE);
    match fs::read_to_string(&path) {
        Ok(text) => match toml::from_str::<State>(&text) {
            Ok(state) if state.version == STATE_VERSION => Ok(Some(state)),
            _ => Err(failed(format!(
                "{}: not understood by this release; begin anew with --clean",
                path.display()
            ))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => match fs::read_dir(dir) {
            Ok(mut entries) => match entries.next() {
                None => Ok(None),
                Some(_) => Err(not_ours(dir)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(no_access(dir, &error)),
        },
        Err(error) => Err(no_access(&path, &error)),
    }
}

/// Removes a directory that is ours. One that is empty or not there is left as it is.
fn remove_ours(dir: &Path) -> Result<()> {
    let marker = dir.join(STATE);
    match marker.try_exists() {
        Ok(true) => {
            let held = lock(dir)?;
            fs::remove_dir_all(dir).map_err(|error| no_access(dir, &error))?;
            drop(held);
            Ok(())
        }
        Ok(false) => read_state(dir).map(drop),
        Err(error) => Err(no_access(&marker, &error)),
    }
}

fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        failed(format!("{}: cannot be made: {}", dir.display(), io_reason(&error)))
    })?;
    for name in ["vendor", "packages"] {
        let path = dir.join(name);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| no_access(&path, &error))?;
    }
    Ok(())
}

/// The lock is on the state file's directory entry itself, which a rename would replace: so on the
/// directory.
fn lock(dir: &Path) -> Result<fs::File> {
    let file = fs::File::open(dir).map_err(|error| no_access(dir, &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(failed(format!("another `leasehold dev` is running in {}", dir.display())))
        }
        Err(errno) => Err(no_access(dir, &errno.into())),
    }
}

fn state_text(state: &State) -> Result<String> {
    let text = toml::to_string(state)
        .map_err(|error| failed(format!("writing the state failed: {error}")))?;
    Ok(format!("# Made by `leasehold dev`, which may remove this directory (--clean).\n{text}"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    replace_file(&RealDisk, path, text.as_bytes()).map_err(|error| no_access(path, &error))
}

fn no_access(path: &Path, error: &std::io::Error) -> DevError {
    failed(format!("{}: {}", path.display(), io_reason(error)))
}

fn not_ours(dir: &Path) -> DevError {
    DevError::Failed(format!(
        "{}: is not empty and was not made by `leasehold dev`: choose another with --dir",
        dir.display()
    ))
}

const STATE: &str = ".leasehold-dev.toml";
const DEV_JSON: &str = "dev.json";
const STATE_VERSION: u32 = 1;
/// The highest port used is 15 above it.
const MAX_BASE_PORT: u16 = u16::MAX - 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: &Path) -> DevOptions {
        DevOptions {
            dir: dir.to_owned(),
            nodes: None,
            base_port: None,
            clean: false,
            once: false,
            classic: false,
        }
    }

    fn refused(options: &DevOptions, says: &str) {
        let Err(error) = Place::open(options) else { panic!("it was taken; {says}") };
        let text = error.to_string();
        assert!(text.contains(says), "`{text}` does not say `{says}`");
        assert!(!text.contains('\n'), "more than one line: {text}");
    }

    #[test]
    fn a_directory_is_resumed_as_it_was_made() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("dev");
        let first = DevOptions { nodes: Some(5), base_port: Some(9000), ..options(&dir) };
        let mut place = Place::open(&first).unwrap();
        refused(&first, "another `leasehold dev`");
        place.state.complete = true;
        place.state.cluster_id = "lh-a".to_owned();
        place.save_state().unwrap();
        drop(place);
        let again = Place::open(&options(&dir)).unwrap();
        assert_eq!((again.state.nodes, again.state.base_port), (5, 9000));
        assert_eq!(again.state.cluster_id, "lh-a");
        drop(again);
        refused(&DevOptions { nodes: Some(3), ..options(&dir) }, "with --nodes 5");
        refused(&DevOptions { base_port: Some(7400), ..options(&dir) }, "with --base-port 9000");
        refused(&DevOptions { classic: true, ..options(&dir) }, "without --classic");
        let clean = DevOptions { clean: true, nodes: Some(1), ..options(&dir) };
        let place = Place::open(&clean).unwrap();
        assert!(place.state.cluster_id.is_empty() && place.state.nodes == 1);
    }

    #[test]
    fn what_is_not_ours_is_not_touched() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("thesis.txt"), "irreplaceable").unwrap();
        for clean in [false, true] {
            refused(&DevOptions { clean, ..options(scratch.path()) }, "not made by");
        }
        let file = scratch.path().join("thesis.txt");
        refused(&options(&file), "thesis.txt");
        assert_eq!(fs::read_to_string(&file).unwrap(), "irreplaceable");
        let base = DevOptions { base_port: Some(65530), ..options(&scratch.path().join("d")) };
        refused(&base, "--base-port 65530");
    }

    #[test]
    fn a_start_that_broke_off_before_any_node_ran_begins_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let first = DevOptions { nodes: Some(1), ..options(scratch.path()) };
        drop(Place::open(&first).unwrap());
        let second = Place::open(&options(scratch.path())).unwrap();
        assert_eq!(second.state.nodes, 3);
    }
}
