//! The closed sets of condition types and reasons.

/// Type of a condition. Positive summaries are always present, the others only while true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// A valid token is published.
    Ready,
    /// The provider accepts our credentials.
    Authorized,
    /// Work towards Ready goes on (kstatus).
    Reconciling,
    /// No progress without a person (kstatus).
    Stalled,
    /// The last attempt to obtain a token failed.
    RefreshFailing,
    /// The Secret to publish in belongs to someone else.
    SecretConflict,
    /// The login is over: a person must log in again.
    ReauthorizationRequired,
    /// The login ends soon, whatever its use.
    ReauthorizationDue,
    /// The resource server refuses tokens, also fresh ones.
    TokenRejectedByResource,
    /// The resource server of `spec.healthCheck` accepts the token. Present with a health check only.
    Healthy,
    /// Nobody knows whether the refresh token was spent.
    RefreshOutcomeUnknown,
    /// The refresh token of the seed is another account's.
    DuplicateCredential,
    /// The operator's record of the login is older than what status tells of, or gone.
    StateRolledBack,
}

impl ConditionType {
    /// Every type, in the order in which status lists them.
    pub const ALL: [Self; 13] = [
        Self::Ready,
        Self::Authorized,
        Self::Reconciling,
        Self::Stalled,
        Self::RefreshFailing,
        Self::ReauthorizationRequired,
        Self::ReauthorizationDue,
        Self::TokenRejectedByResource,
        Self::Healthy,
        Self::RefreshOutcomeUnknown,
        Self::DuplicateCredential,
        Self::StateRolledBack,
        Self::SecretConflict,
    ];

    /// As it stands in `status.conditions[].type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Authorized => "Authorized",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::RefreshFailing => "RefreshFailing",
            Self::SecretConflict => "SecretConflict",
            Self::ReauthorizationRequired => "ReauthorizationRequired",
            Self::ReauthorizationDue => "ReauthorizationDue",
            Self::TokenRejectedByResource => "TokenRejectedByResource",
            Self::Healthy => "Healthy",
            Self::RefreshOutcomeUnknown => "RefreshOutcomeUnknown",
            Self::DuplicateCredential => "DuplicateCredential",
            Self::StateRolledBack => "StateRolledBack",
        }
    }
}

/// Reason of a condition and of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing has been tried yet.
    Pending,
    /// A valid token is published.
    TokenPublished,
    /// The provider issued a token.
    TokenIssued,
    /// The published token has expired.
    TokenExpired,
    /// The token Secret is gone or was changed, and no token can be had to heal it now.
    TokenMissing,
    /// `spec.suspend` is set.
    Suspended,
    /// The provider does not accept the client's credentials.
    Authentication,
    /// The provider accepts the client but not what it asks for.
    Authorization,
    /// The provider answers what it should not.
    ProviderError,
    /// A reference, a Secret's content or a setting is wrong.
    Configuration,
    /// The provider cannot be reached.
    Network,
    /// The provider asks for patience.
    RateLimited,
    /// The Secret to publish in belongs to someone else.
    SecretConflict,
    /// A token was obtained again after failures.
    Recovered,
    /// A refresh token that was received here and posted nowhere else by us was refused.
    RedeemedElsewhere,
    /// A refresh left us and no answer came.
    OutcomeUnknown,
    /// The refresh token of the seed is another account's.
    DuplicateCredential,
    /// The operator's record of the login is older than what status tells of, or gone.
    StateRolledBack,
    /// The provider's reply is about somebody else's login.
    WrongSubject,
    /// A workload that was to be restarted was not.
    RestartFailed,
    /// A person is to consent, and can do so now.
    AuthorizationPending,
    /// Nobody has consented in time.
    AuthorizationExpired,
    /// The login ends soon, whatever its use.
    LoginEnds,
    /// The resource server accepts the token.
    TokenAccepted,
    /// The resource server refuses the token.
    TokenRejected,
}

impl Reason {
    /// As it stands in `status.conditions[].reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::TokenPublished => "TokenPublished",
            Self::TokenIssued => "TokenIssued",
            Self::TokenExpired => "TokenExpired",
            Self::TokenMissing => "TokenMissing",
            Self::Suspended => "Suspended",
            Self::Authentication => "Authentication",
            Self::Authorization => "Authorization",
            Self::ProviderError => "ProviderError",
            Self::Configuration => "Configuration",
            Self::Network => "Network",
            Self::RateLimited => "RateLimited",
            Self::SecretConflict => "SecretConflict",
            Self::Recovered => "Recovered",
            Self::RedeemedElsewhere => "RedeemedElsewhere",
            Self::OutcomeUnknown => "OutcomeUnknown",
            Self::DuplicateCredential => "DuplicateCredential",
            Self::StateRolledBack => "StateRolledBack",
            Self::WrongSubject => "WrongSubject",
            Self::RestartFailed => "RestartFailed",
            Self::AuthorizationPending => "AuthorizationPending",
            Self::AuthorizationExpired => "AuthorizationExpired",
            Self::LoginEnds => "LoginEnds",
            Self::TokenAccepted => "TokenAccepted",
            Self::TokenRejected => "TokenRejected",
        }
    }
}
