//! By what right an account asks for tokens.

use crate::api::{GitHubApp, Grant, JWTBearer, KeyReference, Pkce, TokenExchange};
use serde_json::{Value, json};

/// By what right a token is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantPlan {
    /// The client's own: asking spends nothing.
    ClientCredentials,
    /// A refresh token, which asking may spend; where the first one is read.
    RefreshToken(KeyReference),
    /// A person's consent in a browser, which gives a refresh token; how its code is challenged.
    AuthorizationCode(Pkce),
    /// A person's consent on another device, which gives a refresh token.
    DeviceCode,
    /// A signed assertion: asking spends nothing.
    JWTBearer(Box<JWTBearer>),
    /// Another token: asking spends nothing.
    TokenExchange(Box<TokenExchange>),
    /// An App's installation: asking spends nothing.
    GitHubApp(Box<GitHubApp>),
    /// A person's name and password: asking spends nothing.
    Password(KeyReference),
}

impl GrantPlan {
    pub(super) fn of(grant: &Grant) -> Option<Self> {
        let refresh_token = grant.refresh_token.as_ref().map(|grant| Self::RefreshToken(grant.secret_ref.clone()));
        let password = || grant.password.as_ref().map(|grant| Self::Password(grant.secret_ref.clone()));
        refresh_token
            .or_else(|| grant.client_credentials.as_ref().map(|_| Self::ClientCredentials))
            .or_else(|| grant.authorization_code.as_ref().map(|grant| Self::AuthorizationCode(grant.pkce)))
            .or_else(|| grant.device_code.as_ref().map(|_| Self::DeviceCode))
            .or_else(|| grant.jwt_bearer.clone().map(Self::JWTBearer))
            .or_else(|| grant.token_exchange.clone().map(Self::TokenExchange))
            .or_else(|| grant.github_app.clone().map(Self::GitHubApp))
            .or_else(password)
    }

    /// Its name, as status and metrics give it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "ClientCredentials",
            Self::RefreshToken(_) => "RefreshToken",
            Self::AuthorizationCode(_) => "AuthorizationCode",
            Self::DeviceCode => "DeviceCode",
            Self::JWTBearer(_) => "JWTBearer",
            Self::TokenExchange(_) => "TokenExchange",
            Self::GitHubApp(_) => "GitHubApp",
            Self::Password(_) => "Password",
        }
    }

    /// The Secret that it reads, with the field that names it.
    pub fn secret(&self) -> Option<(&'static str, &KeyReference)> {
        match self {
            Self::ClientCredentials | Self::AuthorizationCode(_) | Self::DeviceCode => None,
            Self::RefreshToken(seed) => Some(("spec.grant.refreshToken.secretRef", seed)),
            Self::JWTBearer(grant) => Some(("spec.grant.jwtBearer.keyRef", &grant.key_ref)),
            Self::TokenExchange(grant) => {
                grant.subject_token.secret_ref.as_ref().map(|key| ("spec.grant.tokenExchange.subjectToken.secretRef", key))
            }
            Self::GitHubApp(grant) => Some(("spec.grant.githubApp.keyRef", &grant.key_ref)),
            Self::Password(password) => Some(("spec.grant.password.secretRef", password)),
        }
    }

    /// What of it another token would be asked for with; not where a first refresh token was read: another seed is another
    /// refresh token, and not another request.
    pub(super) fn digested(&self) -> Value {
        match self {
            Self::ClientCredentials | Self::RefreshToken(_) | Self::AuthorizationCode(_) | Self::DeviceCode => json!(self.name()),
            Self::JWTBearer(grant) => json!({"jwtBearer": grant}),
            Self::TokenExchange(grant) => json!({"tokenExchange": grant}),
            Self::GitHubApp(grant) => json!({"githubApp": grant}),
            Self::Password(password) => json!({"password": password}),
        }
    }
}
