//! WHAT USERS WRITE: the custom resources, their schema and the contracts around them; no behaviour.
//!
//! Bounds stand beside the fields, CEL rules beside the types, so that the API server itself refuses a bad object with a
//! sentence, even while the operator is down.

mod account;
mod client;
mod condition;
mod grant;
mod namespaced_name;
mod provider;
pub mod reference;
mod run_status;
pub mod schema;
mod status;
mod step;
mod token_secret;
pub mod vocabulary;
mod workflow;
mod workflow_run;

pub use account::{
    DPoP, DPoPAlgorithm, HealthCheck, OAuthAccount, OAuthAccountSpec, RefreshSchedule, RestartKind, RestartTarget,
};
pub use account::{RevocationPolicy, StatePolicy};
pub use client::{AuthMethod, Client, ClientIDSource};
pub use condition::{ConditionType, Reason};
pub use grant::{
    AuthorizationCode, ClientCredentials, DeviceCode, GitHubApp, Grant, JWTAlgorithm, JWTBearer, Password, Pkce, RefreshToken,
    ServiceAccountToken, SubjectToken, TokenExchange,
};
pub use namespaced_name::NamespacedName;
pub use provider::{
    BasicEncoding, BodyFormat, ClientAuthOverrides, CustomProvider, ErrorOverrides, ExpiryOverrides, ExpiryUnit, FieldCase,
    ParameterOverrides, Probe, Provider, ProviderOverrides, RefreshTokenOverrides, RefreshWindow, RegistrationOverrides,
    ResponseOverrides, RotationMode, RotationOverrides, UnknownOutcome,
};
pub use reference::{CABundleKind, CABundleReference, KeyReference};
pub use run_status::{Interrupt, Notice, OutputReference, Phase, RemoteStatus, RunReason, StepStatus, Usage, WorkflowRunStatus};
pub use status::{
    Attempt, AttemptResult, Authorization, DPoPStatus, ExpirySource, HealthStatus, LoginStatus, OAuthAccountStatus,
    RestartStatus, TokenStatus, Trigger,
};
pub use step::{
    AccountReference, Backoff, CozeDialect, CozeMode, CozeRun, Delivery, HTTPRequest, Header, Method, OnError, Poll, Retry, Step,
};
pub use token_secret::{CreationPolicy, DeletionPolicy, SecretType, TokenSecret};
pub use workflow::{
    ConcurrencyPolicy, History, Inputs, Schedule, ScheduleStatus, StepDefaults, Workflow, WorkflowSpec, WorkflowStatus,
};
pub use workflow_run::{ConfigMapKeyReference, InputSource, WorkflowReference, WorkflowRun, WorkflowRunSpec};
