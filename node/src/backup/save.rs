//! `snapshot save`: a backup of a cluster that runs, or of a node that does not.

use std::path::{Path, PathBuf};

use cli::local::{Failed, Told, ToldPart, Trouble, download};
use cli::{GlobalOptions, OutputFormat, SaveArgs};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use raft::ClusterConfig;
use raft::offline::{self, Export};
use serde_json::json;

use super::inspect::{self, Inspection};
use super::write::{Writing, not_written};
use super::{World, fact, io_trouble, offline_trouble, told, unusable};
use crate::directory;

/// `leasehold snapshot save`
pub(super) fn save(args: &SaveArgs, options: &GlobalOptions) -> Result<Told, Failed> {
    match &args.data_dir {
        None => from_server(&args.target, options),
        Some(data_dir) => Ok(from_disk(&args.target, data_dir, &World::real())?),
    }
}

fn from_server(target: &Path, options: &GlobalOptions) -> Result<Told, Failed> {
    let bar = progress(options);
    let begun = |offered: &cli::local::Offered| {
        Writing::begin(place(target, offered.file_name.as_deref())?)
    };
    let writing =
        download(options, &["admin", "snapshot"], begun, |writing: &mut Writing, piece| {
            writing.write(piece)?;
            bar.set_position(writing.bytes);
            Ok(())
        })?;
    bar.set_message("verifying");
    let (path, found) = writing.finish()?;
    bar.finish_and_clear();
    Ok(saved(&path, &found, None))
}

/// What a stopped node has on its disk.
pub(super) fn from_disk(target: &Path, data_dir: &Path, world: &World) -> Result<Told, Trouble> {
    let stopped = directory::open_stopped(world.disk.as_ref(), data_dir)
        .map_err(|error| unusable("data_directory", error.to_string()))?;
    let identity = &stopped.identity;
    let config = ClusterConfig::new(identity.node, data_dir.to_owned(), identity.incarnation);
    let scratch = data_dir.join(SCRATCH);
    if world.disk.exists(&scratch).unwrap_or(false) {
        // Of an export that died; nothing else makes it, and the directory is locked.
        world.disk.remove_dir_all(&scratch).map_err(|error| io_trouble(&scratch, &error))?;
    }
    let export = offline::export(&config, world.disk.clone(), world.clock.clone(), scratch)
        .map_err(|error| offline_trouble(data_dir, &error))?;
    let name = export.ledger.cluster().map(|cluster| {
        inspect::file_name(&cluster.cluster_id, cluster.epoch, export.applied.index)
    });
    let mut writing = Writing::begin(place(target, name.as_deref())?)?;
    let chunks = export.snapshot.chunks();
    let chunks = chunks.map_err(|error| unusable("data_directory", error.to_string()))?;
    for chunk in chunks {
        let chunk = chunk.map_err(|error| unusable("data_directory", error.to_string()))?;
        writing.write(&chunk).map_err(|error| not_written(target, &error))?;
    }
    let (path, found) = writing.finish()?;
    let told = saved(&path, &found, Some(&export));
    export.remove().map_err(|error| io_trouble(data_dir, &error))?;
    Ok(told)
}

/// The file to make: in a directory under the name that it has by what is in it.
fn place(target: &Path, name: Option<&str>) -> Result<PathBuf, Trouble> {
    let is_dir = target.is_dir() || target.to_string_lossy().ends_with('/');
    match (is_dir, name) {
        (false, _) => Ok(target.to_owned()),
        (true, Some(name)) => Ok(target.join(name)),
        (true, None) => {
            let message = format!("{}: is a directory; name a file", target.display());
            Err(unusable("file", message))
        }
    }
}

fn saved(path: &Path, found: &Inspection, export: Option<&Export>) -> Told {
    let mut facts = vec![
        fact("file", path.display()),
        fact("index", found.index()),
        fact("civil time", found.civil_time()),
        fact("rows", found.rows()),
        fact("bytes", found.bytes),
        fact("sha-256", found.sha256_hex()),
    ];
    let mut json = json!({
        "file": path,
        "index": found.index().to_string(),
        "civil_time": found.civil_time().to_string(),
        "rows": found.rows(),
        "bytes": found.bytes,
        "sha256": found.sha256_hex(),
    });
    if let Some(export) = export {
        facts.push(fact("after the last known commit", format!("{} entries", export.uncommitted)));
        json["uncommitted_entries"] = json!(export.uncommitted);
    }
    told(json, vec![ToldPart::Facts(facts)], path.display().to_string())
}

/// Bytes and rate, on a terminal only.
fn progress(options: &GlobalOptions) -> ProgressBar {
    let bar = ProgressBar::no_length();
    if options.quiet || options.output == OutputFormat::Json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{spinner} {bytes} ({bytes_per_sec}) {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Below the data directory, while a stopped node's state is copied.
pub(super) const SCRATCH: &str = "export.tmp";
