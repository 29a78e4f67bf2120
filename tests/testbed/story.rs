//! One story: a tenant's namespace, the operator's own, and the operator with exactly the rights of deploy/operator.yaml.

use super::authorization_server::Client;
use super::cluster::{Cluster, Credentials};
use super::faulty_endpoint::FaultyEndpoint;
use super::kubectl::Kubectl;
use super::name_server::NameServer;
use super::operator::{Operator, executable, released};
use super::process::folder;
use super::relay::Relay;
use super::{Result, root};
use k8s_openapi::api::core::v1::Secret;
use oauth_operator::api::OAuthAccount;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The manifest that users apply, object by object.
pub fn manifest() -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(root().join("deploy/operator.yaml"))?;
    Ok(serde_saphyr::from_multiple(&text)?)
}

/// Where the operator may work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In the story's tenant namespace.
    Tenant,
    /// Everywhere.
    All,
}

/// A story on a cluster.
#[derive(Clone)]
pub struct Story<'a> {
    pub cluster: &'a Cluster,
    /// The tenant's namespace.
    pub apps: String,
    /// The operator's namespace.
    pub system: String,
    /// Where its files are.
    pub folder: PathBuf,
    /// Kubeconfig of the operator's ServiceAccount.
    pub kubeconfig: PathBuf,
    credentials: Credentials,
    reach: Reach,
}

impl<'a> Story<'a> {
    /// Makes the namespaces and the operator's rights, no wider than the manifest's.
    pub async fn begin(cluster: &'a Cluster, name: &str, reach: Reach) -> Result<Self> {
        let (apps, system) = (format!("{name}-apps"), format!("{name}-system"));
        // Two stories in one place would undo each other's work, now and then.
        static BEGUN: Mutex<BTreeSet<(PathBuf, String)>> = Mutex::new(BTreeSet::new());
        if !BEGUN.lock().map_err(|_| "a story broke off")?.insert((cluster.kubeconfig.clone(), name.to_owned())) {
            return Err(format!("there is another story of the name {name}").into());
        }
        let kubectl = cluster.kubectl();
        let mut objects = vec![namespace(&apps), namespace(&system)];
        for mut object in manifest()? {
            match object["kind"].as_str() {
                Some("ServiceAccount" | "Role") => object["metadata"]["namespace"] = json!(system),
                // In one namespace, a Role of the same rules does, and nothing is left in the cluster afterwards.
                Some("ClusterRole") if reach == Reach::Tenant => {
                    if object["metadata"]["name"] != json!("oauth-operator") {
                        continue;
                    }
                    object["kind"] = json!("Role");
                    object["metadata"]["namespace"] = json!(apps);
                }
                Some("ClusterRole") => {}
                Some(kind @ ("RoleBinding" | "ClusterRoleBinding")) => {
                    let cluster_wide = kind == "ClusterRoleBinding";
                    object["subjects"][0]["namespace"] = json!(system);
                    if cluster_wide && reach == Reach::Tenant {
                        // What a Role cannot give.
                        if object["roleRef"]["name"] != json!("oauth-operator") {
                            continue;
                        }
                        object["kind"] = json!("RoleBinding");
                        object["roleRef"]["kind"] = json!("Role");
                        object["metadata"]["namespace"] = json!(apps);
                    } else if cluster_wide {
                        let before = object["metadata"]["name"].as_str().unwrap_or_default();
                        object["metadata"]["name"] = json!(format!("{before}-{name}"));
                    } else {
                        object["metadata"]["namespace"] = json!(system);
                    }
                }
                _ => continue,
            }
            objects.push(object);
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        kubectl.feed(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &list)?;
        let token = kubectl.namespaced(&system).run(&["create", "token", "oauth-operator", "--duration=720h"])?;
        let folder = folder(name)?;
        let credentials = Credentials::Token(token.trim().to_owned());
        let kubeconfig = cluster.kubeconfig_for(&folder, "operator", &credentials)?;
        Ok(Self { cluster, apps, system, folder, kubeconfig, credentials, reach })
    }

    /// On an operator that was installed into `system` otherwise: the tenant's namespace is made, where Pods must be `restricted`.
    pub fn beside(cluster: &'a Cluster, apps: &str, system: &str) -> Result<Self> {
        let mut tenant = namespace(apps);
        tenant["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        cluster.kubectl().apply(&tenant.to_string())?;
        let token = cluster.kubectl().namespaced(system).run(&["create", "token", "oauth-operator"])?;
        let (folder, credentials) = (folder(apps)?, Credentials::Token(token.trim().to_owned()));
        let kubeconfig = cluster.kubeconfig_for(&folder, "operator", &credentials)?;
        Ok(Self { cluster, apps: apps.into(), system: system.into(), folder, kubeconfig, credentials, reach: Reach::All })
    }

    /// Lets the operator ask the API server whose a token is, as deploy/operator.yaml does.
    pub fn may_review(&self) -> Result<()> {
        let mut objects: Vec<Value> = manifest()?;
        objects.retain(|object| object["metadata"]["name"] == json!("oauth-operator-token-review"));
        assert_eq!(objects.len(), 2);
        for object in &mut objects {
            object["metadata"]["name"] = json!(format!("oauth-operator-token-review-{}", self.system));
        }
        objects[1]["roleRef"]["name"] = objects[0]["metadata"]["name"].clone();
        objects[1]["subjects"][0]["namespace"] = json!(self.system);
        self.cluster.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()).map(drop)
    }

    /// kubectl of the tenant.
    pub fn kubectl(&self) -> Kubectl {
        self.cluster.kubectl().namespaced(&self.apps)
    }

    /// An operator that may talk to loopback.
    pub async fn operator(&self, identity: &str) -> Result<Operator> {
        self.operator_with(identity, &["--allowed-cidrs", "127.0.0.0/8"]).await
    }

    /// An operator with flags of the story's own.
    pub async fn operator_with(&self, identity: &str, flags: &[&str]) -> Result<Operator> {
        self.start(&executable(), identity, &self.kubeconfig, flags).await
    }

    /// The operator as users run it, where told so behind a relay.
    pub async fn released_operator(&self, identity: &str, relay: Option<&Relay>) -> Result<Operator> {
        let kubeconfig = match relay {
            Some(relay) => self.cluster.kubeconfig_through(relay, &self.folder, "relayed", &self.credentials)?,
            None => self.kubeconfig.clone(),
        };
        self.start(&released()?, identity, &kubeconfig, &["--allowed-cidrs", "127.0.0.0/8"]).await
    }

    /// The operator as users run it, with flags of its own.
    pub async fn released_operator_with(&self, identity: &str, flags: &[&str]) -> Result<Operator> {
        self.start(&released()?, identity, &self.kubeconfig, flags).await
    }

    /// The operator that was built beside us, where names are resolved by this server.
    pub async fn operator_asking(&self, names: &NameServer, identity: &str, flags: &[&str]) -> Result<Operator> {
        self.start(&names.resolving(&self.folder, &executable())?, identity, &self.kubeconfig, flags).await
    }

    /// The operator that was built beside us, behind a relay.
    pub async fn operator_behind(&self, identity: &str, relay: &Relay) -> Result<Operator> {
        let kubeconfig = self.cluster.kubeconfig_through(relay, &self.folder, "relayed", &self.credentials)?;
        self.start(&executable(), identity, &kubeconfig, &["--allowed-cidrs", "127.0.0.0/8"]).await
    }

    async fn start(&self, binary: &Path, identity: &str, kubeconfig: &Path, flags: &[&str]) -> Result<Operator> {
        let mut arguments = vec!["--namespace", &self.system];
        if self.reach == Reach::Tenant {
            arguments.extend(["--watch-namespaces", &self.apps]);
        }
        arguments.extend(flags);
        Operator::start(binary, &self.folder, identity, kubeconfig, &arguments).await
    }

    /// A Secret of the tenant's.
    pub fn secret(&self, name: &str, data: &[(&str, &str)]) -> Result<()> {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        self.kubectl().apply(&secret.to_string()).map(drop)
    }

    /// A token endpoint that misbehaves, its CA in the ConfigMap `faulty-ca`.
    pub async fn faulty_endpoint(&self) -> Result<FaultyEndpoint> {
        let endpoint = FaultyEndpoint::start().await?;
        self.ca("faulty-ca", &endpoint.ca)?;
        Ok(endpoint)
    }

    /// A ConfigMap with a CA bundle.
    pub fn ca(&self, name: &str, certificate: &str) -> Result<()> {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": certificate}});
        self.kubectl().apply(&map.to_string()).map(drop)
    }

    /// The Secret `<name>-client` of a client and the account `<name>` that uses it, with `patch` merged into its spec.
    pub fn account(&self, name: &str, provider: &Value, client: &Client, patch: &Value) -> Result<()> {
        self.secret(&format!("{name}-client"), &[("client_secret", &client.secret)])?;
        self.account_alone(name, provider, client, patch)
    }

    /// The Secret `<name>-seed` with a refresh token, and the account `<name>` of a public client that begins with it.
    pub fn login(&self, name: &str, provider: &Value, client: &Client, refresh_token: &str, patch: &Value) -> Result<()> {
        self.secret(&format!("{name}-seed"), &[("refresh_token", refresh_token)])?;
        self.kubectl().apply(&login(name, provider, client, patch).to_string()).map(drop)
    }

    /// The operator's record of an account's login, as it is stored.
    pub fn state(&self, name: &str) -> Result<Option<Value>> {
        let secret = oauth_operator::account::state_secret_name(&self.apps, name);
        let kubectl = self.cluster.kubectl().namespaced(&self.system);
        let text = kubectl.run(&["get", "secret", &secret, "-o", "json", "--ignore-not-found"])?;
        if text.is_empty() {
            return Ok(None);
        }
        let secret: Secret = serde_json::from_str(&text)?;
        let bytes = secret.data.and_then(|mut data| data.remove("state")).ok_or("no key state")?;
        Ok(Some(serde_json::from_slice(&bytes.0)?))
    }

    /// The account alone.
    pub fn account_alone(&self, name: &str, provider: &Value, client: &Client, patch: &Value) -> Result<()> {
        self.kubectl().apply(&account(name, provider, client, patch).to_string()).map(drop)
    }

    /// The account as the API server shows it.
    pub fn get(&self, name: &str) -> Result<OAuthAccount> {
        Ok(serde_json::from_str(&self.kubectl().run(&["get", "oauthaccount", name, "-o", "json"])?)?)
    }

    /// A Secret as the API server shows it; none where there is none.
    pub fn read_secret(&self, name: &str) -> Result<Option<Secret>> {
        let text = self.kubectl().run(&["get", "secret", name, "-o", "json", "--ignore-not-found"])?;
        Ok(if text.is_empty() { None } else { Some(serde_json::from_str(&text)?) })
    }

    /// One key of a Secret as text.
    pub fn key(&self, secret: &str, key: &str) -> Result<String> {
        let secret = self.read_secret(secret)?.ok_or_else(|| format!("no Secret {secret}"))?;
        let bytes = secret.data.and_then(|mut data| data.remove(key)).ok_or_else(|| format!("no key {key}"))?;
        Ok(String::from_utf8(bytes.0)?)
    }

    /// Status and reason of a condition, with its message.
    pub fn condition(&self, name: &str, type_: &str) -> Result<Option<(String, String, String)>> {
        let conditions = self.get(name)?.status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == type_);
        Ok(found.map(|condition| (condition.status, condition.reason, condition.message)))
    }

    /// Waits until a condition has this status and reason; its message.
    pub async fn until(&self, name: &str, type_: &str, status: &str, reason: &str) -> Result<String> {
        let mut last = None;
        let wanted = || -> Result<Option<String>> {
            last = self.condition(name, type_)?;
            Ok(last.clone().filter(|(s, r, _)| s == status && r == reason).map(|(_, _, message)| message))
        };
        let message = eventually(Duration::from_secs(30), wanted).await?;
        message.ok_or_else(|| format!("{name}: {type_} is not {status}/{reason} but {last:?}").into())
    }

    /// Waits until Ready is True.
    pub async fn until_ready(&self, name: &str) -> Result<()> {
        self.until(name, "Ready", "True", "TokenPublished").await.map(drop)
    }

    /// Waits until the published token has this generation.
    pub async fn until_generation(&self, name: &str, generation: i64) -> Result<()> {
        let reached = || -> Result<Option<()>> {
            let token = self.get(name)?.status.unwrap_or_default().token;
            Ok(token.filter(|token| token.generation >= generation).map(drop))
        };
        eventually(Duration::from_secs(60), reached).await?.ok_or_else(|| format!("{name}: no generation {generation}").into())
    }

    /// Writes of the operator's, as the API server audited them: `verb resource/subresource name`.
    pub fn writes_by_operator(&self) -> Result<Vec<String>> {
        Ok(self.requests_by_operator()?.into_iter().filter(|request| !request.starts_with("get ")).collect())
    }

    /// The same with its live reads of Secrets.
    pub fn requests_by_operator(&self) -> Result<Vec<String>> {
        let user = format!("system:serviceaccount:{}:oauth-operator", self.system);
        let log = std::fs::read_to_string(&self.cluster.audit_log)?;
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let own = events.filter(|event| event["user"]["username"] == json!(user));
        Ok(own
            .map(|event| {
                let object = &event["objectRef"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let subresource = object["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
                format!("{} {}{subresource} {}", text(&event["verb"]), text(&object["resource"]), text(&object["name"]))
            })
            .collect())
    }
}

/// An account that obtains tokens with client credentials.
pub fn account(name: &str, provider: &Value, client: &Client, patch: &Value) -> Value {
    let mut account = json!({
        "apiVersion": "oauth-operator.dev/v1alpha1",
        "kind": "OAuthAccount",
        "metadata": {"name": name},
        "spec": {
            "provider": provider,
            "client": {"id": client.id, "secretRef": {"name": format!("{name}-client"), "key": "client_secret"}},
            "grant": {"clientCredentials": {}},
        }
    });
    merge(&mut account["spec"], patch);
    account
}

/// An account of a public client that obtains tokens with a refresh token.
pub fn login(name: &str, provider: &Value, client: &Client, patch: &Value) -> Value {
    let seed = json!({"secretRef": {"name": format!("{name}-seed"), "key": "refresh_token"}});
    let mut account = account(name, provider, client, &json!({"client": {"secretRef": null}}));
    merge(&mut account["spec"], &json!({"grant": {"clientCredentials": null, "refreshToken": seed}}));
    merge(&mut account["spec"], patch);
    account
}

/// RFC 7396.
pub fn merge(base: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *base = patch.clone();
        return;
    };
    if !base.is_object() {
        *base = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            base.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut base[key], value);
        }
    }
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// Asks again and again until there is an answer or the time is over.
pub async fn eventually<T>(limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if began.elapsed() > limit {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
