//! Who asks, and whether they may have the token of an account.

use super::claims;
use super::entitlement::{is_of, mounts};
use crate::world::access::{self, Person, PodReference, Target};
use crate::world::{ApiError, World, clock, pods};
use k8s_openapi::api::core::v1::Pod;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Audience of the tokens that are shown here: of nothing else, so that none that opens the API server is sent.
pub const AUDIENCE: &str = "oauth-operator";
/// The verb on an account by which others than its Pods may ask.
const VERB: &str = "refresh";
/// How long it is remembered that the API server does not say whose a token is.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Somebody who has shown a token.
pub struct Caller {
    person: Person,
    /// Whether the API server said so itself; then it has also seen that the token's Pod lives.
    reviewed: bool,
}

/// By what right somebody has a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// Their Pod mounts it: its name.
    Mount(String),
    /// They may refresh the account and read the Secret.
    Grant,
}

/// Whether the API server may be asked whose a token is; not, where the operator has rights in some namespaces only.
#[derive(Default)]
pub struct Reviews {
    /// Until when it is not asked again, by the boot clock.
    forbidden: Mutex<Option<Duration>>,
}

impl Reviews {
    fn are_forbidden(&self) -> bool {
        self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| clock::uptime() < until)
    }

    fn forbid(&self) {
        let until = clock::uptime() + REMEMBERED;
        let before = self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).replace(until);
        if before.is_none() {
            tracing::info!(
                "the operator may not create TokenReviews; callers of the refresh endpoint are known by the cluster's public keys"
            );
        }
    }

    /// Whose token this is; `None` where it is nobody's.
    ///
    /// # Errors
    /// Where the API server does not answer, or lets the operator find it out in neither way.
    pub async fn caller(&self, world: &World, token: &str) -> Result<Option<Caller>, ApiError> {
        let client = &world.cluster.objects;
        if !self.are_forbidden() {
            match access::authenticate(client, token, AUDIENCE).await {
                Ok(person) => return Ok(person.map(|person| Caller { person, reviewed: true })),
                Err(error) if error.is_forbidden() => self.forbid(),
                Err(error) => return Err(error),
            }
        }
        let keys = world.issuer.keys(client, claims::key_id(token).as_deref()).await?;
        let person = claims::verify(token, &keys, AUDIENCE, clock::now());
        Ok(person.map(|person| Caller { person, reviewed: false }))
    }

    /// The Pod that a token is bound to, by the cluster's public keys, for whoever wants to read ahead while the API server is asked
    /// about the token: it is believed when that has said the same. `None` also where the keys are not at hand, or nothing is waited for.
    pub fn likely_pod(&self, world: &Arc<World>, token: &str) -> Option<PodReference> {
        if self.are_forbidden() {
            return None;
        }
        let Some(keys) = world.issuer.at_hand(claims::key_id(token).as_deref()) else {
            // For those who come next.
            let world = world.clone();
            tokio::spawn(async move { world.issuer.fetch(&world.cluster.objects).await });
            return None;
        };
        claims::verify(token, &keys, AUDIENCE, clock::now())?.pod()
    }
}

impl Caller {
    /// Their name.
    pub fn name(&self) -> &str {
        &self.person.name
    }

    /// By what right they may have the token of an account, whose Secret has this name; `None`: by none. A Pod that was read since
    /// they asked is not read again.
    ///
    /// # Errors
    /// Where the API server does not answer, or does not let the operator find it out.
    pub async fn right(
        &self,
        world: &World,
        (namespace, name): (&str, &str),
        secret: &str,
        ahead: Option<(PodReference, Option<Pod>)>,
    ) -> Result<Option<Right>, ApiError> {
        let client = &world.cluster.objects;
        let told = self.person.pod();
        if let Some(told) = told.filter(|told| !self.reviewed || told.namespace == namespace) {
            let read = match ahead {
                Some((of, pod)) if of == told => Ok(pod),
                _ => pods::pod(client, &told.namespace, &told.name).await,
            };
            match read {
                Ok(pod) => {
                    let pod = pod.filter(|pod| is_of(pod, &told));
                    // The token of a Pod that is gone is worth nothing, whoever else may have the account's.
                    if pod.is_none() && !self.reviewed {
                        return Ok(None);
                    }
                    if told.namespace == namespace && pod.is_some_and(|pod| mounts(&pod, secret)) {
                        return Ok(Some(Right::Mount(told.name)));
                    }
                }
                Err(error) if error.is_forbidden() && !self.reviewed => return Ok(None),
                Err(error) if error.is_forbidden() => {
                    tracing::warn!(%error, "the operator may not read Pods: whoever mounts a token Secret needs a RoleBinding");
                }
                Err(error) => return Err(error),
            }
        }
        let may = |verb, target| access::may(client, &self.person, verb, target);
        let entitled =
            may(VERB, Target::account(namespace, name)).await? && may("get", Target::secret(namespace, secret)).await?;
        Ok(entitled.then_some(Right::Grant))
    }
}
