//! A gzipped tar of small files with a manifest at its end.

use std::io::Write;

use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use protocol::wire::UtcTime;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{CliError, Result};

/// Files on their way into an archive.
pub(crate) struct Archive {
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<Value>,
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self { files: Vec::new(), missing: Vec::new() }
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.files.push((name.to_owned(), text.as_bytes().to_vec()));
    }

    pub(crate) fn json(&mut self, name: &str, value: &Value) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CliError::Failed(format!("{name} cannot be written: {error}")))?;
        self.text(name, &(text + "\n"));
        Ok(())
    }

    /// Says what is not there, and why.
    pub(crate) fn missing(&mut self, name: &str, why: &str) {
        self.missing.push(json!({ "name": name, "why": why }));
    }

    /// The archive's bytes, and its manifest.
    pub(crate) fn finish(mut self, now_ms: i64) -> Result<(Vec<u8>, Value)> {
        let listed: Vec<Value> = self
            .files
            .iter()
            .map(|(name, bytes)| {
                let sha256 = HEXLOWER.encode(&Sha256::digest(bytes));
                json!({ "name": name, "bytes": bytes.len(), "sha256": sha256 })
            })
            .collect();
        let manifest = json!({
            "format": 1,
            "made_at": UtcTime::from_unix_ms(now_ms).to_string(),
            "made_by": concat!("leasehold ", env!("CARGO_PKG_VERSION")),
            "files": listed,
            "missing": self.missing,
        });
        self.json("manifest.json", &manifest)?;
        let failed = |error: std::io::Error| CliError::Failed(format!("no archive: {error}"));
        let encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut tar = tar::Builder::new(encoder);
        let mtime = u64::try_from(now_ms / 1_000).unwrap_or(0);
        for (name, bytes) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(mtime);
            tar.append_data(&mut header, format!("bundle/{name}"), bytes.as_slice())
                .map_err(failed)?;
        }
        let mut encoder = tar.into_inner().map_err(failed)?;
        encoder.flush().map_err(failed)?;
        Ok((encoder.finish().map_err(failed)?, manifest))
    }
}
