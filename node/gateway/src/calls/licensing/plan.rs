//! Plans between the wire and the ledger.

use lease::license::{
    CheckMode, Permission, Plan, PlanFeature as LedgerFeature, PlanScope as LedgerScope,
};
use lease::money::Measure;
use protocol::cloud::admin::{
    LicensePlan, LicenseProtocol, PlanCheckMode, PlanFeature, PlanScope, QuotaAmount,
    ScopePermission,
};

const DAY_MS: u64 = 86_400_000;

/// A plan as the ledger keeps it; `product` is the package's, for a plan that names none.
pub(super) fn to_ledger(plan: LicensePlan, protocol: LicenseProtocol, product: &str) -> Plan {
    let plan = plan.completed(protocol);
    let seconds_as_ms = |seconds: Option<u32>| u64::from(seconds.unwrap_or(0)) * 1_000;
    Plan {
        slug: plan.slug.unwrap_or_default().into(),
        id: 0,
        product: plan.product.as_deref().unwrap_or(product).into(),
        product_id: None,
        kind: plan.kind.unwrap_or_default().into(),
        features: plan.features.into_iter().map(feature).collect(),
        max_activations: plan.max_activations.unwrap_or(0),
        max_nodes: plan.max_nodes.unwrap_or(0),
        seats_per_activation: plan.seats_per_activation.unwrap_or(1),
        check: match plan.check_mode.unwrap_or(PlanCheckMode::EachExecution) {
            PlanCheckMode::None => CheckMode::None,
            PlanCheckMode::EachExecution => CheckMode::EachExecution,
            PlanCheckMode::Monthly => CheckMode::Monthly,
            PlanCheckMode::Yearly => CheckMode::Yearly,
            PlanCheckMode::Custom => CheckMode::Custom,
        },
        check_interval_s: plan.check_interval_seconds.unwrap_or(0),
        activation_ms: u64::from(plan.activation_days.unwrap_or(0)) * DAY_MS,
        slot_ttl_ms: seconds_as_ms(plan.slot_ttl_seconds),
        offline_ms: seconds_as_ms(plan.offline_seconds),
        trial: plan.trial,
        quotas: plan
            .quotas
            .into_iter()
            .map(|(metric, QuotaAmount(amount))| (metric.into(), Measure(amount)))
            .collect(),
    }
}

/// A plan as the wire shows it, everything said.
pub(super) fn to_wire(plan: &Plan) -> LicensePlan {
    let seconds = |ms: u64| u32::try_from(ms / 1_000).unwrap_or(u32::MAX);
    LicensePlan {
        slug: Some(plan.slug.to_string()),
        product: Some(plan.product.to_string()),
        kind: Some(plan.kind.to_string()),
        features: plan.features.iter().map(feature_view).collect(),
        max_activations: Some(plan.max_activations),
        max_nodes: Some(plan.max_nodes),
        seats_per_activation: Some(plan.seats_per_activation),
        check_mode: Some(match plan.check {
            CheckMode::None => PlanCheckMode::None,
            CheckMode::EachExecution => PlanCheckMode::EachExecution,
            CheckMode::Monthly => PlanCheckMode::Monthly,
            CheckMode::Yearly => PlanCheckMode::Yearly,
            CheckMode::Custom => PlanCheckMode::Custom,
        }),
        check_interval_seconds: (plan.check_interval_s > 0).then_some(plan.check_interval_s),
        activation_days: Some(u32::try_from(plan.activation_ms / DAY_MS).unwrap_or(u32::MAX)),
        slot_ttl_seconds: Some(seconds(plan.slot_ttl_ms)),
        offline_seconds: Some(seconds(plan.offline_ms)),
        trial: plan.trial,
        quotas: plan
            .quotas
            .iter()
            .map(|(metric, amount)| (metric.to_string(), QuotaAmount(amount.0)))
            .collect(),
    }
}

fn feature(feature: PlanFeature) -> LedgerFeature {
    LedgerFeature {
        slug: feature.slug.into(),
        id: 0,
        category: feature.category.unwrap_or_default().into(),
        enabled: feature.enabled,
        scopes: feature.scopes.into_iter().map(scope).collect(),
    }
}

fn scope(scope: PlanScope) -> LedgerScope {
    let metadata = match scope.metadata.is_empty() {
        true => String::new(),
        false => serde_json::to_string(&scope.metadata).unwrap_or_default(),
    };
    LedgerScope {
        slug: scope.slug.into(),
        id: 0,
        permission: match scope.permission {
            ScopePermission::Allow => Permission::Allow,
            ScopePermission::Deny => Permission::Deny,
            ScopePermission::Limit => Permission::Limit,
        },
        limit: scope.limit.unwrap_or(0),
        metadata: metadata.into(),
    }
}

fn feature_view(feature: &LedgerFeature) -> PlanFeature {
    PlanFeature {
        slug: feature.slug.to_string(),
        category: (!feature.category.is_empty()).then(|| feature.category.to_string()),
        enabled: feature.enabled,
        scopes: feature.scopes.iter().map(scope_view).collect(),
    }
}

fn scope_view(scope: &LedgerScope) -> PlanScope {
    PlanScope {
        slug: scope.slug.to_string(),
        permission: match scope.permission {
            Permission::Allow => ScopePermission::Allow,
            Permission::Deny => ScopePermission::Deny,
            Permission::Limit => ScopePermission::Limit,
        },
        limit: (scope.permission == Permission::Limit).then_some(scope.limit),
        metadata: serde_json::from_str(&scope.metadata).unwrap_or_default(),
    }
}
