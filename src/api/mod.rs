//! WHAT USERS WRITE: the custom resources, their schema and the contracts around them; no behaviour.
//!
//! Bounds stand beside the fields, CEL rules beside the types, so that the API server itself refuses a bad object with a
//! sentence, even while the operator is down.

mod account;
mod client;
mod condition;
mod grant;
mod provider;
mod reference;
pub mod schema;
mod status;
mod token_secret;
pub mod vocabulary;

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
pub use provider::{
    BasicEncoding, BodyFormat, ClientAuthOverrides, CustomProvider, ErrorOverrides, ExpiryOverrides, ExpiryUnit, FieldCase,
    ParameterOverrides, Probe, Provider, ProviderOverrides, RefreshTokenOverrides, RefreshWindow, RegistrationOverrides,
    ResponseOverrides, RotationMode, RotationOverrides, UnknownOutcome,
};
pub use reference::{CABundleKind, CABundleReference, KeyReference};
pub use status::{
    Attempt, AttemptResult, Authorization, DPoPStatus, ExpirySource, HealthStatus, LoginStatus, OAuthAccountStatus,
    RestartStatus, TokenStatus, Trigger,
};
pub use token_secret::{CreationPolicy, DeletionPolicy, SecretType, TokenSecret};
