//! The watches of one scope (a namespace, or all), the caches they fill and the accounts they wake.

use super::account_cache::{self, AccountCache};
use super::references::{self, References, Referent};
use super::told_watch::told;
use super::workqueue::Workqueue;
use crate::account::memory::Memory;
use crate::api::{NamespacedName, OAuthAccount, Workflow, vocabulary as v};
use crate::world::World;
use crate::world::consents::deposited;
use crate::world::guarded::Guarded;
use crate::world::logins::LoginEntry;
use crate::world::marks::{Mark, Marks};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube_runtime::events::EventType;
use kube_runtime::reflector::Store;
use kube_runtime::reflector::store::Writer;
use kube_runtime::watcher as watch;
use kube_runtime::watcher::{self, Event};
use prometheus::IntCounter;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, Semaphore};

/// Events on objects that cannot be read that are on their way at once, at most.
static UNREADABLE_TOLD: Semaphore = Semaphore::const_new(16);

/// Watches that a scope needs: its own five, and those of logins and consents.
const WATCHES: usize = 7;

/// One namespace, or all of them.
pub struct Scope {
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// The accounts.
    pub accounts: AccountCache,
    /// The workflows.
    pub workflows: Store<Workflow>,
    /// Which Secrets are ours.
    pub marks: Marks,
    /// What passes hand to each other.
    pub memory: Memory,
    /// What waits and what is worked on.
    pub queue: Workqueue,
    references: References,
    listed: AtomicUsize,
    synced: Notify,
}

impl Scope {
    /// A scope whose caches are empty; `workflows` fills that of workflows, `adds` counts who is woken.
    pub fn new(namespace: Option<String>, workflows: &Writer<Workflow>, adds: IntCounter) -> Self {
        Self {
            namespace,
            accounts: AccountCache::default(),
            workflows: workflows.as_reader(),
            marks: Marks::default(),
            memory: Memory::default(),
            queue: Workqueue::new(adds),
            references: References::default(),
            listed: AtomicUsize::new(0),
            synced: Notify::new(),
        }
    }

    /// Whether every watch has listed what there is.
    pub fn is_synced(&self) -> bool {
        self.listed.load(Ordering::Acquire) >= WATCHES
    }

    /// Waits until every watch has listed what there is.
    pub async fn until_synced(&self) {
        let notified = self.synced.notified();
        if !self.is_synced() {
            notified.await;
        }
    }

    /// Wakes every account.
    pub fn wake_all(&self) {
        self.accounts.names().into_iter().for_each(|account| self.queue.add(account));
    }

    /// Name of one of its watches on the health board.
    pub(super) fn component(&self, what: &str) -> String {
        match &self.namespace {
            Some(namespace) => format!("watch-{what}-{namespace}"),
            None => format!("watch-{what}"),
        }
    }

    /// Whether accounts of a namespace are served here.
    pub fn covers(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|own| own == namespace)
    }

    fn wake_referrers(&self, referent: Referent, namespace: &str, name: &str) {
        self.references.to(referent, namespace, name).into_iter().for_each(|account| self.queue.add(account));
    }

    pub(super) fn api<K>(&self, client: Client) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }

    fn has_listed(&self, first: &mut bool) {
        self.count_listed(first);
        self.wake_all();
    }

    /// The same of a watch that tells nothing of accounts.
    pub(super) fn count_listed(&self, first: &mut bool) {
        if std::mem::take(first) && self.listed.fetch_add(1, Ordering::AcqRel) + 1 == WATCHES {
            self.synced.notify_waiters();
        }
    }
}

/// Watches accounts: fills the cache, and wakes what has changed. Ends only when the watch does.
pub async fn accounts(scope: Arc<Scope>, world: Arc<World>) {
    let api: Api<Guarded<OAuthAccount>> = scope.api(world.cluster.watches.clone());
    let stream = watch(api, watcher::Config::default());
    let mut events = pin!(told(stream, scope.component("accounts"), || scope.is_synced(), &world));
    let mut listing = Listing::default();
    let mut first = true;
    while let Some(event) = events.next().await {
        match readable(event, &world) {
            Event::Apply(account) => {
                let name = scope.accounts.set(&account);
                scope.references.set(name.clone(), &account);
                // Runs of workflows may wait for it.
                world.runs.account_changed(&name.namespace, &name.name);
                scope.queue.add(name);
            }
            Event::Delete(account) => {
                let name = NamespacedName::of(&account);
                scope.accounts.remove(&name);
                world.runs.account_changed(&name.namespace, &name.name);
                scope.references.remove(&name);
                scope.queue.forget(&name);
                scope.memory.forget(account.metadata.uid.as_deref().unwrap_or_default());
                world.logins.account_left();
            }
            Event::Init => listing = Listing::default(),
            Event::InitApply(account) => {
                let name = listing.accounts.add(&account);
                scope.references.list(&mut listing.references, name, &account);
                listing.uids.extend(account.metadata.uid);
            }
            Event::InitDone => {
                let Listing { accounts, references, uids } = std::mem::take(&mut listing);
                scope.accounts.replace(accounts);
                scope.references.replace(references);
                scope.memory.retain(&uids);
                scope.has_listed(&mut first);
            }
        }
    }
}

/// What a list of accounts has told so far.
#[derive(Default)]
struct Listing {
    accounts: account_cache::Listing,
    references: references::Listing,
    uids: HashSet<String>,
}

/// Watches Secrets, without their content.
pub async fn secrets(scope: Arc<Scope>, world: Arc<World>) {
    let api: Api<Guarded<PartialObjectMeta<Secret>>> = scope.api(world.cluster.watches.clone());
    let stream = watch(api, watcher::Config::default());
    let mut events = pin!(told(stream, scope.component("secrets"), || scope.is_synced(), &world));
    let mut listing: Vec<(NamespacedName, Mark)> = vec![];
    let mut first = true;
    while let Some(event) = events.next().await {
        match readable(event, &world) {
            Event::Init => listing.clear(),
            Event::InitApply(secret) => listing.extend(Mark::of(&secret.metadata).map(|mark| (place(&secret), mark))),
            Event::InitDone => {
                scope.marks.replace(std::mem::take(&mut listing));
                world.recent.clear();
                scope.has_listed(&mut first);
            }
            Event::Apply(secret) => {
                let NamespacedName { namespace, name } = &place(&secret);
                scope.marks.set(place(&secret), Mark::of(&secret.metadata));
                world.recent.secret_changed(namespace, name);
                world.runs.input_changed(namespace, name);
                scope.wake_referrers(Referent::Secret, namespace, name);
            }
            Event::Delete(secret) => {
                let NamespacedName { namespace, name } = &place(&secret);
                scope.marks.set(place(&secret), None);
                world.recent.secret_changed(namespace, name);
                scope.wake_referrers(Referent::Secret, namespace, name);
            }
        }
    }
}

/// Watches ConfigMaps, without their content: some hold a CA bundle, and some are the operator's own.
pub async fn config_maps(scope: Arc<Scope>, world: Arc<World>) {
    let api: Api<Guarded<PartialObjectMeta<ConfigMap>>> = scope.api(world.cluster.watches.clone());
    let stream = watch(api, watcher::Config::default());
    let mut events = pin!(told(stream, scope.component("configmaps"), || scope.is_synced(), &world));
    let mut listing: Vec<(Box<str>, Box<str>)> = vec![];
    let mut first = true;
    let version = |map: &PartialObjectMeta<ConfigMap>| map.metadata.resource_version.clone().unwrap_or_default();
    while let Some(event) = events.next().await {
        match readable(event, &world) {
            Event::Init => listing.clear(),
            Event::InitApply(map) => {
                let NamespacedName { namespace, name } = place(&map);
                listing.extend((*name == *v::CA_NAME).then(|| (namespace, version(&map).into())));
            }
            Event::InitDone => {
                world.bundles.replace(|namespace| scope.covers(namespace), std::mem::take(&mut listing));
                world.recent.clear();
                scope.has_listed(&mut first);
            }
            Event::Apply(map) => {
                let NamespacedName { namespace, name } = place(&map);
                world.bundles.set(&namespace, &name, Some(&version(&map)));
                world.recent.config_map_changed(&namespace, &name);
                world.runs.input_changed(&namespace, &name);
                scope.wake_referrers(Referent::ConfigMap, &namespace, &name);
            }
            Event::Delete(map) => {
                let NamespacedName { namespace, name } = place(&map);
                world.bundles.set(&namespace, &name, None);
                world.recent.config_map_changed(&namespace, &name);
                scope.wake_referrers(Referent::ConfigMap, &namespace, &name);
            }
        }
    }
}

/// Watches the operator's records of logins in its own namespace, without their content, and wakes the accounts of which
/// somebody wants a newer token, or whose refresh another instance has brought to its end.
pub async fn logins(scopes: Arc<Vec<Arc<Scope>>>, world: Arc<World>) {
    let api: Api<Guarded<PartialObjectMeta<Secret>>> = Api::namespaced(world.cluster.watches.clone(), &world.namespace);
    let ours = watcher::Config::default().labels(&format!("{}={}", v::COMPONENT_LABEL, v::STATE_COMPONENT));
    let synced = || scopes.iter().all(|scope| scope.is_synced());
    let mut events = pin!(told(watch(api, ours), "watch-logins".to_owned(), synced, &world));
    let mut listing: Vec<LoginEntry> = vec![];
    let mut first = true;
    while let Some(event) = events.next().await {
        match readable(event, &world) {
            Event::Init => listing.clear(),
            Event::InitApply(secret) => listing.extend(LoginEntry::of(&secret.metadata)),
            Event::InitDone => {
                world.logins.replace(std::mem::take(&mut listing));
                let first = std::mem::take(&mut first);
                scopes.iter().filter(|_| first).for_each(|scope| scope.has_listed(&mut true));
                let demanded = world.logins.all().into_iter().filter(|entry| entry.demanded.is_some());
                demanded.for_each(|entry| wake(&scopes, &entry.namespace, &entry.name));
            }
            Event::Apply(secret) => {
                let name = secret.metadata.name.as_deref().unwrap_or_default();
                let entry = LoginEntry::of(&secret.metadata);
                // Of what this process wrote itself it knows already.
                let settled = world.logins.set(name, entry.clone());
                if let Some(entry) = entry.filter(|entry| settled || entry.demanded.is_some()) {
                    wake(&scopes, &entry.namespace, &entry.name);
                }
            }
            Event::Delete(secret) => {
                world.logins.set(secret.metadata.name.as_deref().unwrap_or_default(), None);
            }
        }
    }
}

/// Watches the consents under way in the operator's own namespace, without their content, and wakes the accounts that a code
/// has come for.
pub async fn consents(scopes: Arc<Vec<Arc<Scope>>>, world: Arc<World>) {
    let api: Api<Guarded<PartialObjectMeta<Secret>>> = Api::namespaced(world.cluster.watches.clone(), &world.namespace);
    let ours = watcher::Config::default().labels(&format!("{}={}", v::COMPONENT_LABEL, v::CONSENT_COMPONENT));
    let synced = || scopes.iter().all(|scope| scope.is_synced());
    let mut events = pin!(told(watch(api, ours), "watch-consents".to_owned(), synced, &world));
    let mut listing = vec![];
    let mut first = true;
    while let Some(event) = events.next().await {
        match readable(event, &world) {
            Event::Init => listing.clear(),
            Event::InitApply(secret) => listing.push(secret.metadata),
            Event::InitDone => {
                world.consents.replace(listing.iter());
                let first = std::mem::take(&mut first);
                scopes.iter().filter(|_| first).for_each(|scope| scope.has_listed(&mut true));
                scopes.iter().filter(|_| !first).for_each(|scope| scope.wake_all());
            }
            Event::Apply(secret) => {
                world.consents.set(&secret.metadata);
                if let Some((namespace, name)) = deposited(&secret.metadata).and_then(|account| account.split_once('/')) {
                    wake(&scopes, namespace, name);
                }
            }
            Event::Delete(secret) => world.consents.remove(secret.metadata.name.as_deref().unwrap_or_default()),
        }
    }
}

/// Wakes one account.
fn wake(scopes: &[Arc<Scope>], namespace: &str, name: &str) {
    let account = Arc::new(NamespacedName::new(namespace, name));
    scopes.iter().filter(|scope| scope.covers(namespace)).for_each(|scope| scope.queue.add(account.clone()));
}

fn place<K>(object: &PartialObjectMeta<K>) -> NamespacedName {
    let text = |value: &'_ Option<String>| value.as_deref().unwrap_or_default().into();
    NamespacedName { namespace: text(&object.metadata.namespace), name: text(&object.metadata.name) }
}

/// The object in an event, without what nobody reads: managed fields are most of an object's size. One that this
/// version cannot read is as good as gone, and that is said: it must not stop the others, nor be served by what it was.
pub(super) fn readable<K>(event: Event<Guarded<K>>, world: &Arc<World>) -> Event<K>
where
    K: kube::Resource<DynamicType = ()> + Default,
{
    let read = |guard: Guarded<K>, gone: bool| match guard.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            if let Some(annotations) = &mut object.meta_mut().annotations {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
            Ok(object)
        }
        Err(invalid) => {
            world.metrics.unreadable.inc();
            let metadata = invalid.metadata;
            let (namespace, name) =
                (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
            let kind = K::kind(&());
            tracing::error!(namespace, name, kind = &*kind, error = %invalid.error, "this version cannot read the object; it is left alone: upgrade the operator, or apply it as this version has it");
            let mut stub = K::default();
            *stub.meta_mut() = metadata;
            // Where there are many, the log has them all.
            if let Some(place) = UNREADABLE_TOLD.try_acquire().ok().filter(|_| !gone) {
                let (world, about) = (world.clone(), stub.object_ref(&()));
                let note = format!("This version of the operator cannot read it, and leaves it alone: {}", invalid.error);
                tokio::spawn(async move {
                    world.events.tell(&about, EventType::Warning, "Unreadable", &note).await;
                    drop(place);
                });
            }
            Err(stub)
        }
    };
    match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::Apply(guard) => read(guard, false).map_or_else(Event::Delete, Event::Apply),
        // A list is told object by object; a deletion within it removes what was told before.
        Event::InitApply(guard) => read(guard, false).map_or_else(Event::Delete, Event::InitApply),
        Event::Delete(guard) => Event::Delete(read(guard, true).unwrap_or_else(|stub| stub)),
    }
}
