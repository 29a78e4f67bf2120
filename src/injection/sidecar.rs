//! The sidecar and its volumes, as deploy/proxy.yaml has them, and within the Pod Security Standard *restricted*.

use super::asked::{Asked, Destination};
use super::{ADMIN_PORT, CONTAINER, PORT};
use crate::api::vocabulary as v;
use serde_json::{Value, json};

/// Where token Secrets are mounted, each in a folder with the name of its account.
const TOKENS: &str = "/var/run/oauth";
/// Where what the operator is asked with is mounted.
const OPERATOR: &str = "/var/run/oauth-operator";
const ROUTES: &str = "/etc/oauth-proxy";
const UPSTREAM_CA: &str = "/etc/oauth-proxy-ca";
/// User and group of the image.
const USER: i64 = 65532;
/// Mode of token files. Only the sidecar mounts the volume. Which user it runs as is not known beforehand (the image says 65532,
/// OpenShift another one), and without `fsGroup` files of a Secret are root's: so everybody in the container may read them.
const MODE: i32 = 0o444;

/// What all sidecars of an operator share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Image of the proxy.
    pub image: String,
    /// When it is pulled: Always, IfNotPresent or Never.
    pub image_pull_policy: String,
    /// Namespace of the operator, whose refresh endpoint is asked for newer tokens.
    pub operator_namespace: String,
}

impl Sidecar {
    /// The container, and its volumes. `secrets` are the token Secrets of the accounts, in their order; `user_is_said` where the Pod says
    /// as which user or group all its containers run.
    pub(super) fn build(&self, asked: &Asked, secrets: &[String], user_is_said: bool) -> (Value, Vec<Value>) {
        let mounted: Vec<_> = asked
            .accounts
            .iter()
            .zip(secrets)
            .enumerate()
            .map(|(index, (account, secret))| {
                let name = format!("oauth-proxy-token-{index}");
                (mount(&name, &format!("{TOKENS}/{}", account.name)), token(&name, secret))
            })
            .collect();
        let (mut mounts, mut volumes): (Vec<_>, Vec<_>) = mounted.into_iter().unzip();
        let mut add = |(mount, volume)| {
            mounts.push(mount);
            volumes.push(volume);
        };
        add((mount("oauth-proxy-operator", OPERATOR), operator("oauth-proxy-operator")));
        match &asked.destination {
            Destination::Routes(map) => {
                add((mount("oauth-proxy-routes", ROUTES), config_map("oauth-proxy-routes", map, "routes.yaml")));
            }
            Destination::Upstream { ca: Some(map), .. } => {
                add((mount("oauth-proxy-ca", UPSTREAM_CA), config_map("oauth-proxy-ca", map, v::CA_CERTIFICATE_KEY)));
            }
            Destination::Upstream { ca: None, .. } => {}
        }
        let probe = |path: &str| json!({"path": path, "port": "proxy-metrics"});
        let resources = &asked.resources;
        let mut limits = json!({"memory": resources.memory_limit});
        if let Some(cpu) = &resources.cpu_limit {
            limits["cpu"] = json!(cpu);
        }
        let container = json!({
            "name": CONTAINER,
            "image": self.image,
            "imagePullPolicy": self.image_pull_policy,
            // A native sidecar: it starts before the app and ends after it.
            "restartPolicy": "Always",
            "args": self.arguments(asked),
            "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
            "ports": [{"name": "proxy-metrics", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
            "startupProbe": {"httpGet": probe("/startupz"), "periodSeconds": 1, "failureThreshold": 30},
            "readinessProbe": {"httpGet": probe("/readyz")},
            "livenessProbe": {"httpGet": probe("/livez")},
            "resources": {"requests": {"cpu": resources.cpu_request, "memory": resources.memory_request}, "limits": limits},
            "securityContext": security_context(user_is_said),
            "volumeMounts": mounts,
        });
        (container, volumes)
    }

    fn arguments(&self, asked: &Asked) -> Vec<String> {
        let mut arguments = match &asked.destination {
            Destination::Routes(_) => vec![format!("--routes={ROUTES}/routes.yaml")],
            Destination::Upstream { origin, ca, envelope, port } => {
                let mut arguments = vec![format!("--upstream={origin}")];
                arguments.extend(asked.accounts.iter().map(|account| format!("--account={TOKENS}/{}", account.name)));
                arguments.extend(envelope.iter().map(|envelope| format!("--envelope={envelope}")));
                arguments.extend(ca.iter().map(|_| format!("--upstream-ca={UPSTREAM_CA}/{}", v::CA_CERTIFICATE_KEY)));
                if *port != PORT {
                    arguments.push(format!("--listen=127.0.0.1:{port},[::1]:{port}"));
                }
                arguments
            }
        };
        arguments.extend([
            format!("--refresh-url=https://oauth-operator.{}.svc:8443", self.operator_namespace),
            format!("--refresh-ca={OPERATOR}/{}", v::CA_CERTIFICATE_KEY),
            format!("--refresh-token={OPERATOR}/token"),
            "--namespace=$(POD_NAMESPACE)".to_owned(),
        ]);
        arguments
    }
}

/// The image says as which user; where the Pod says so for all its containers, that would be inherited.
fn security_context(user_is_said: bool) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if user_is_said {
        context["runAsUser"] = json!(USER);
        context["runAsGroup"] = json!(USER);
    }
    context
}

fn mount(name: &str, path: &str) -> Value {
    json!({"name": name, "mountPath": path, "readOnly": true})
}

/// A token Secret. Optional: the Pod may start before the account's first token.
fn token(name: &str, secret: &str) -> Value {
    let keys = [v::ACCESS_TOKEN_KEY, v::TOKEN_TYPE_KEY, v::EXPIRES_AT_KEY, v::GENERATION_KEY, v::ALLOWED_HOSTS_KEY];
    let items: Vec<_> = keys.iter().map(|key| json!({"key": key, "path": key})).collect();
    json!({"name": name, "secret": {"secretName": secret, "optional": true, "defaultMode": MODE, "items": items}})
}

/// What the operator's refresh endpoint is asked with: a token of the Pod's ServiceAccount, and whom to trust. The kubelet makes
/// the token's file readable to the sidecar's user, or its group.
fn operator(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": MODE, "sources": [
        {"serviceAccountToken": {"audience": "oauth-operator", "expirationSeconds": 3600, "path": "token"}},
        {"configMap": {"name": v::CA_NAME, "optional": true, "items": [{"key": v::CA_CERTIFICATE_KEY, "path": v::CA_CERTIFICATE_KEY}]}},
    ]}})
}

/// One key of a ConfigMap. Optional like the others: what is missing is told by the sidecar, which is started again until it is there.
fn config_map(name: &str, map: &str, key: &str) -> Value {
    json!({"name": name, "configMap": {"name": map, "optional": true, "defaultMode": MODE, "items": [{"key": key, "path": key}]}})
}
