//! What `license issue` says of a plan: a file, single flags, or a file with flags over it.

use std::path::PathBuf;

use clap::Args;
use protocol::cloud::admin::{
    LicensePlan, MAX_LICENSE_DAYS, PlanCheckMode, PlanFeature, PlanScope, QuotaAmount,
    ScopePermission,
};
use protocol::cloud::body::decode;
use protocol::package::MAX_QUANTITY;
use protocol::wire::is_id;

use super::wire_word;
use crate::error::{CliError, Result};
use crate::files;
use crate::options::Span;

/// Options of `license issue` about the plan. What is left out is as the protocol has it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Plan")]
pub struct PlanArgs {
    /// JSON file with the plan; the flags below win over it
    #[arg(long, value_name = "FILE")]
    plan_file: Option<PathBuf>,
    /// The plan's name
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// Name of its product; the package's when left out
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    /// Kind that clients are shown
    #[arg(long, value_name = "TEXT")]
    kind: Option<String>,
    /// A feature, with scopes where it has any: export, export:create=allow,rows=limit/100.
    /// Repeat it to name more
    #[arg(long = "feature", value_name = "FEATURE", value_parser = feature)]
    features: Vec<PlanFeature>,
    /// Devices, clusters or hosts at once; 0: as many as there are seats
    #[arg(long, visible_alias = "max-activations", value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_QUANTITY)))]
    max_devices: Option<u32>,
    /// Nodes that one cluster may have (deployment); 0: any number
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_QUANTITY)))]
    max_nodes: Option<u32>,
    /// Seats that one activation takes
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_QUANTITY)))]
    seats_per_activation: Option<u32>,
    /// When devices verify: none, each-execution, monthly, yearly, custom
    #[arg(long, value_name = "WORD", value_parser = wire_word::<PlanCheckMode>)]
    check_mode: Option<PlanCheckMode>,
    /// For --check-mode custom, as 12h; five minutes at least
    #[arg(long, value_name = "TIME")]
    check_interval: Option<Span>,
    /// How long one activation is valid; 0: as long as the license
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_LICENSE_DAYS)))]
    activation_days: Option<u32>,
    /// An activation unheard for so long gives its seat back, as 24h; 0: never
    #[arg(long, value_name = "TIME")]
    slot_ttl: Option<Span>,
    /// How long an offline token may live, where the package allows any, as 24h; 0: none is given
    #[arg(long, value_name = "TIME")]
    offline: Option<Span>,
    /// It is a trial
    #[arg(long)]
    trial: bool,
    /// Metered use that is included: METRIC=AMOUNT. Repeat it to name more
    #[arg(long = "quota", value_name = "METRIC=AMOUNT", value_parser = quota)]
    quotas: Vec<(String, QuotaAmount)>,
}

impl PlanArgs {
    /// The plan as the request has it.
    pub(super) fn plan(&self) -> Result<LicensePlan> {
        let mut plan = match &self.plan_file {
            None => LicensePlan::default(),
            Some(path) => decode(&files::read(path, MAX_PLAN_BYTES)?)
                .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?,
        };
        let names = [
            ("--plan", &self.plan, &mut plan.slug),
            ("--product", &self.product, &mut plan.product),
        ];
        for (flag, given, field) in names {
            if given.as_ref().is_some_and(|name| !is_id(name)) {
                return Err(CliError::Usage(format!("{flag} wants letters, digits and . _ -")));
            }
            set(field, given.clone());
        }
        set(&mut plan.kind, self.kind.clone());
        set(&mut plan.max_activations, self.max_devices);
        set(&mut plan.max_nodes, self.max_nodes);
        set(&mut plan.seats_per_activation, self.seats_per_activation);
        set(&mut plan.check_mode, self.check_mode);
        let seconds = |span: Option<Span>| span.map(|span| span.seconds);
        set(&mut plan.check_interval_seconds, seconds(self.check_interval));
        set(&mut plan.activation_days, self.activation_days);
        set(&mut plan.slot_ttl_seconds, seconds(self.slot_ttl));
        set(&mut plan.offline_seconds, seconds(self.offline));
        plan.trial |= self.trial;
        for feature in &self.features {
            plan.features.retain(|other| other.slug != feature.slug);
            plan.features.push(feature.clone());
        }
        plan.quotas.extend(self.quotas.iter().cloned());
        Ok(plan)
    }
}

fn set<T>(field: &mut Option<T>, given: Option<T>) {
    if given.is_some() {
        *field = given;
    }
}

/// `export`, or `export:create=allow,delete=deny,rows=limit/100`.
fn feature(text: &str) -> std::result::Result<PlanFeature, &'static str> {
    const WANT: &str = "want NAME or NAME:SCOPE=allow|deny|limit/COUNT,…";
    let (slug, scopes) = match text.split_once(':') {
        None => (text, Vec::new()),
        Some((slug, scopes)) => {
            let scopes: Option<Vec<PlanScope>> = scopes.split(',').map(scope).collect();
            (slug, scopes.ok_or(WANT)?)
        }
    };
    if !is_id(slug) {
        return Err(WANT);
    }
    Ok(PlanFeature { slug: slug.to_owned(), category: None, enabled: true, scopes })
}

fn scope(text: &str) -> Option<PlanScope> {
    let (slug, word) = text.split_once('=')?;
    let (permission, limit) = match word.split_once('/') {
        Some(("limit", count)) => (ScopePermission::Limit, Some(count.parse().ok()?)),
        None if word == "allow" => (ScopePermission::Allow, None),
        None if word == "deny" => (ScopePermission::Deny, None),
        _ => return None,
    };
    let metadata = Default::default();
    is_id(slug).then(|| PlanScope { slug: slug.to_owned(), permission, limit, metadata })
}

fn quota(text: &str) -> std::result::Result<(String, QuotaAmount), &'static str> {
    const WANT: &str = "want METRIC=AMOUNT, as tokens=1000000";
    let (metric, amount) = text.split_once('=').ok_or(WANT)?;
    let amount: QuotaAmount = serde_json::from_str(amount).map_err(|_| WANT)?;
    if is_id(metric) { Ok((metric.to_owned(), amount)) } else { Err(WANT) }
}

/// As much as a request's body may have.
const MAX_PLAN_BYTES: u64 = 256 * 1_024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_feature_is_a_name_with_scopes() {
        let read = |text: &str| feature(text).ok().map(|f| serde_json::to_value(f).unwrap());
        assert_eq!(read("export"), Some(json!({"slug": "export", "enabled": true})));
        assert_eq!(
            read("export:create=allow,delete=deny,rows=limit/100"),
            Some(json!({"slug": "export", "enabled": true, "scopes": [
                {"slug": "create", "permission": "allow"},
                {"slug": "delete", "permission": "deny"},
                {"slug": "rows", "permission": "limit", "limit": 100}
            ]}))
        );
        for text in ["", "a b", ":x=allow", "a:", "a:x", "a:x=maybe", "a:x=limit", "a:x=limit/-1"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_quota_is_an_amount_of_a_metric() {
        let read = |text: &str| quota(text).ok().map(|(name, amount)| (name, amount.0.to_string()));
        assert_eq!(read("tokens=1000000"), Some(("tokens".to_owned(), "1000000".to_owned())));
        assert_eq!(read("cpu_hours=1.5"), Some(("cpu_hours".to_owned(), "1.5".to_owned())));
        for text in ["tokens", "tokens=", "=1", "tokens=-1", "tokens=many"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn flags_win_over_the_file_and_a_wrong_file_names_the_field() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        let plan = json!({"slug": "gold", "max_devices": 3,
            "features": [{"slug": "a", "enabled": false}, {"slug": "b"}]});
        std::fs::write(&path, plan.to_string()).unwrap();
        let args = PlanArgs {
            plan_file: Some(path.clone()),
            max_devices: Some(5),
            features: vec![feature("a").unwrap()],
            quotas: vec![quota("tokens=7").unwrap()],
            ..PlanArgs::default()
        };
        let plan = args.plan().ok().unwrap();
        assert_eq!((plan.slug.as_deref(), plan.max_activations), (Some("gold"), Some(5)));
        let features: Vec<_> = plan.features.iter().map(|f| (f.slug.as_str(), f.enabled)).collect();
        assert_eq!(features, [("b", true), ("a", true)]);
        assert!(plan.quotas.contains_key("tokens"));
        std::fs::write(&path, r#"{"max_device": 3}"#).unwrap();
        let error = args.plan().err().unwrap();
        assert!(error.line().contains("unknown field `max_device`"), "{error}");
        assert_eq!(error.exit().code(), 2);
        let args = PlanArgs { plan: Some("a b".to_owned()), ..PlanArgs::default() };
        assert!(args.plan().is_err_and(|error| error.line().contains("--plan")));
    }
}
