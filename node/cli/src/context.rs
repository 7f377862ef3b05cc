//! The context file: where the servers are and who we are, so that it need not be said each time.
//!
//! ```toml
//! server = ["https://127.0.0.1:7401", "https://127.0.0.1:7402"]   # or one text
//! ca_cert = "ca.pem"                                              # relative to this file
//! token = "lh_op_…"
//!
//! [app]                       # who checkout, heartbeat and return act as
//! client_id = "…"
//! client_secret = "…"
//! product_id = "…"            # what checkout asks for when it is not told
//! ```
//!
//! It holds secrets, and it is looked for in the working directory too, so a file that another user
//! owns or could change is refused, and so is one with secrets that others can read. What it leaves
//! to others: which value wins ([`crate::settings`]).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{CliError, Result};

/// What a context file says, paths resolved.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// The file.
    pub(crate) path: PathBuf,
    /// Gateways.
    pub(crate) servers: Vec<String>,
    /// Authority of their certificates.
    pub(crate) ca_cert: Option<PathBuf>,
    /// Operator token.
    pub(crate) token: Option<String>,
    /// The application to act as.
    pub(crate) app: Option<ContextApp>,
}

/// The application to act as.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContextApp {
    /// OAuth client id.
    pub(crate) client_id: String,
    /// OAuth client secret.
    pub(crate) client_secret: String,
    /// What `checkout` asks for when it is not told.
    pub(crate) product_id: Option<String>,
    /// The registration's id; for people.
    #[serde(rename = "app_id")]
    _app_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    server: Servers,
    ca_cert: Option<PathBuf>,
    token: Option<String>,
    app: Option<ContextApp>,
    /// The cluster's id; for people.
    #[serde(rename = "cluster_id")]
    _cluster_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Servers {
    One(String),
    Many(Vec<String>),
}

impl Default for Servers {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// Finds and reads the context file. A file named by flag or environment must exist; of the usual
/// places the first that exists is taken.
pub(crate) fn load(
    named: Option<&Path>,
    var: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Context>> {
    let by_environment = var("LEASEHOLD_CONTEXT").map(PathBuf::from);
    if let Some(path) = named.map(Path::to_owned).or(by_environment) {
        return read(&path).map(Some);
    }
    for path in usual_places(var) {
        match fs::symlink_metadata(&path) {
            Ok(_) => return read(&path).map(Some),
            Err(_) => continue,
        }
    }
    Ok(None)
}

fn usual_places(var: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let config = var("XDG_CONFIG_HOME")
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
        .or_else(|| var("HOME").map(|home| Path::new(&home).join(".config")));
    let mut places = vec![PathBuf::from("leasehold-dev/context.toml")];
    places.extend(config.map(|config| config.join("leasehold/context.toml")));
    places
}

fn read(path: &Path) -> Result<Context> {
    let cannot_read = |source| CliError::File { action: "read", path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(cannot_read)?;
    let text = fs::read_to_string(path).map_err(cannot_read)?;
    let context = parse(path, &text)?;
    let has_secrets = context.token.is_some() || context.app.is_some();
    let user = rustix::process::geteuid().as_raw();
    match mistrust(metadata.uid(), user, metadata.mode(), has_secrets) {
        None => Ok(context),
        Some(why) => Err(CliError::Usage(format!(
            "the context file {} {why}: `chmod 600` it if it is yours",
            path.display()
        ))),
    }
}

/// Why a file is not to be used, if so.
fn mistrust(owner: u32, user: u32, mode: u32, has_secrets: bool) -> Option<&'static str> {
    if owner != user && owner != 0 {
        Some("belongs to another user")
    } else if mode & 0o022 != 0 {
        Some("can be changed by others")
    } else if has_secrets && mode & 0o044 != 0 {
        Some("holds secrets and can be read by others")
    } else {
        None
    }
}

fn parse(path: &Path, text: &str) -> Result<Context> {
    let file: File = toml::from_str(text).map_err(|error| {
        let place = error.span().map_or(1, |span| line_of(text, span.start));
        let reason = error.message().replace('\n', " ");
        CliError::Usage(format!("{}:{place}: {reason}", path.display()))
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    Ok(Context {
        path: path.to_owned(),
        servers: match file.server {
            Servers::One(server) => vec![server],
            Servers::Many(servers) => servers,
        },
        ca_cert: file.ca_cert.map(|ca_cert| base.join(ca_cert)),
        token: file.token,
        app: file.app,
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_full_file_is_read_with_paths_beside_it() {
        let text = r#"
server = ["https://a:1", "https://b:2"]
ca_cert = "ca.pem"
token = "lh_op_x"
cluster_id = "c"
[app]
app_id = "app-1"
client_id = "cl"
client_secret = "s"
product_id = "p"
"#;
        let context = parse(Path::new("/etc/lh/context.toml"), text).ok().unwrap();
        assert_eq!(context.servers, ["https://a:1", "https://b:2"]);
        assert_eq!(context.ca_cert.as_deref(), Some(Path::new("/etc/lh/ca.pem")));
        assert_eq!(context.token.as_deref(), Some("lh_op_x"));
        assert!(context.app.is_some_and(|app| app.client_id == "cl" && app.client_secret == "s"));
        let one = parse(Path::new("c.toml"), "server = \"https://a\"").ok().unwrap();
        assert_eq!(one.servers, ["https://a"]);
    }

    fn check_bad(text: &str, message_has: &str) {
        let Err(error) = parse(Path::new("c.toml"), text) else { panic!("{text} was taken") };
        assert_eq!(error.exit().code(), 2);
        let line = error.line();
        assert!(line.contains(message_has), "{line:?} lacks {message_has:?}");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        check_bad("token = \"t\"\nservre = \"x\"", "c.toml:2: unknown field `servre`");
        check_bad("token = 7", "c.toml:1: invalid type");
        check_bad("[app]\nclient_id = \"x\"", "client_secret");
        check_bad("token = ", "c.toml:1:");
    }

    #[test]
    fn files_that_others_could_change_or_read_secrets_from_are_refused() {
        let check = |owner, mode, has_secrets, refused: bool| {
            assert_eq!(mistrust(owner, 1000, mode, has_secrets).is_some(), refused, "{mode:o}");
        };
        check(1000, 0o100_600, true, false);
        check(0, 0o100_600, true, false);
        check(1001, 0o100_600, true, true);
        check(1000, 0o100_644, true, true);
        check(1000, 0o100_644, false, false);
        check(1000, 0o100_640, true, true);
        check(1000, 0o100_620, false, true);
        check(1000, 0o100_602, false, true);
    }

    #[test]
    fn a_named_file_must_exist_and_usual_places_may_be_empty() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let var = |name: &str| (name == "HOME").then(|| home.clone());
        assert!(load(None, &var).is_ok_and(|context| context.is_none()));
        assert!(load(Some(&dir.path().join("none.toml")), &var).is_err());
        let path = dir.path().join(".config/leasehold/context.toml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "token = \"t\"").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(None, &var).is_err_and(|error| error.line().contains("chmod 600")));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let found = load(None, &var).ok().flatten().unwrap();
        assert_eq!(found.token.as_deref(), Some("t"));
        let by_env =
            |name: &str| (name == "LEASEHOLD_CONTEXT").then(|| path.to_str().unwrap().to_owned());
        assert!(load(None, &by_env).is_ok_and(|context| context.is_some()));
    }
}
