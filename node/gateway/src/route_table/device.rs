//! The routes of the `device` protocol: activate, verify, trials, health.

use protocol::device::trial::{TrialCheckRequest, TrialCheckResponse, TrialRequest};
use protocol::device::wire::{DeviceRequest, Health};

use super::{created, ok, schema_of};
use crate::calls::device;
use crate::routes::{Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "activateDevice",
        method: Verb::Post,
        path: "/api/activate",
        credential: Credential::Face,
        protocol: Protocol::Device,
        summary: "Activates a device under a license key, or confirms that it is.",
        request: RequestShape::Json(schema_of::<DeviceRequest>),
        answers: &[ok(schema_of::<device::DeviceAnswer>, "The license, sealed to the device.")],
        failures: &[400, 401, 404, 409, 413, 429, 503],
        handler: handler!(device::activate),
    },
    Operation {
        id: "verifyDevice",
        method: Verb::Post,
        path: "/api/verify",
        credential: Credential::Face,
        protocol: Protocol::Device,
        summary: "Asks whether a device's license still holds.",
        request: RequestShape::Json(schema_of::<DeviceRequest>),
        answers: &[ok(schema_of::<device::DeviceAnswer>, "The license as it is now.")],
        failures: &[400, 401, 404, 409, 413, 429, 503],
        handler: handler!(device::verify),
    },
    Operation {
        id: "startTrial",
        method: Verb::Post,
        path: "/api/trial",
        credential: Credential::Face,
        protocol: Protocol::Device,
        summary: "Begins a device's one trial and activates it.",
        request: RequestShape::Json(schema_of::<TrialRequest>),
        answers: &[created(schema_of::<device::trial::TrialAnswer>, "The trial has begun.")],
        failures: &[400, 401, 404, 409, 413, 429, 503],
        handler: handler!(device::trial::start),
    },
    Operation {
        id: "checkTrial",
        method: Verb::Post,
        path: "/api/trial/check",
        credential: Credential::Face,
        protocol: Protocol::Device,
        summary: "Says whether a device may have a trial.",
        request: RequestShape::Json(schema_of::<TrialCheckRequest>),
        answers: &[ok(schema_of::<TrialCheckResponse>, "Whether it may, and what it had.")],
        failures: &[400, 413, 503],
        handler: handler!(device::trial::check_body),
    },
    Operation {
        id: "queryTrial",
        method: Verb::Get,
        path: "/api/trial/check",
        credential: Credential::Face,
        protocol: Protocol::Device,
        summary: "Says whether a device may have a trial.",
        request: RequestShape::Query(device::trial::parameters),
        answers: &[ok(schema_of::<TrialCheckResponse>, "Whether it may, and what it had.")],
        failures: &[400, 503],
        handler: handler!(device::trial::check_query),
    },
    Operation {
        id: "showDeviceHealth",
        method: Verb::Get,
        path: "/health",
        credential: Credential::Nobody,
        protocol: Protocol::Device,
        summary: "Says that the process is up, and nothing else.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<Health>, "It is up.")],
        failures: &[],
        handler: handler!(device::health),
    },
];
