//! A real control plane: etcd, kube-apiserver and kube-controller-manager on free loopback ports, RBAC enforced, every
//! write audited. The same serves a node (`node`). A cluster of the user's own takes its place where `KUBECONFIG` names one (demo only).

use super::certificates::{Authority, Identity};
use super::kubectl::Kubectl;
use super::process::{Process, folder, free_port};
use super::relay::Relay;
use super::{Result, root};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cluster.
pub struct Cluster {
    /// Kubeconfig of its admin.
    pub kubeconfig: PathBuf,
    /// How a kubeconfig names it: address and CA.
    entry: Value,
    /// What the API server wrote down of every write: one JSON object a line. Of clusters that we have started.
    pub audit_log: PathBuf,
    /// Our processes of it; none where it is the user's own.
    pub control_plane: Option<ControlPlane>,
}

/// The processes of a control plane.
pub struct ControlPlane {
    pub api_server: Process,
    pub controller_manager: Process,
    pub etcd: Process,
}

/// Where the binaries are: `make tools` puts them there; `make skew` names others of them.
pub fn binary(name: &str) -> Result<PathBuf> {
    let control_plane = std::env::var("OAUTH_OPERATOR_KUBERNETES").unwrap_or_else(|_| "kubernetes".into());
    let path = root().join("target/tools").join(control_plane).join(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is not there: run `make tools`", path.display()).into()) }
}

impl Cluster {
    /// Starts one, with the operator's CRDs applied.
    pub async fn start(name: &str) -> Result<Self> {
        let (cluster, _) = Self::start_with(name, AUDIT_POLICY, None).await?;
        cluster.define_kinds()?;
        Ok(cluster)
    }

    /// One for a node of this address, without the operator's kinds; and its CA, which signs who the node's parts are.
    pub async fn start_for_node(name: &str, address: &str) -> Result<(Self, Authority)> {
        Self::start_with(name, AUDIT_POLICY, Some(address)).await
    }

    /// One that writes nothing down of what it is asked: for measurements.
    pub async fn start_silent(name: &str) -> Result<Self> {
        let nothing = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n";
        let (cluster, _) = Self::start_with(name, nothing, None).await?;
        cluster.define_kinds()?;
        Ok(cluster)
    }

    async fn start_with(name: &str, audit_policy: &str, node: Option<&str>) -> Result<(Self, Authority)> {
        let folder = folder(name)?;
        let at = |file: &str| folder.join(file).display().to_string();
        let authority = Authority::new("testbed")?;
        std::fs::write(folder.join("ca.crt"), &authority.certificate)?;
        let address = node.unwrap_or("127.0.0.1");
        let served =
            ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.0.0.1", address];
        authority.server(&served)?.store(&folder, "api-server")?;
        // Any ECDSA key signs ServiceAccount tokens.
        authority.server(&["localhost"])?.store(&folder, "service-account")?;
        let (etcd_port, peer_port, port, manager_port) = (free_port()?, free_port()?, free_port()?, free_port()?);
        let server = format!("https://{address}:{port}");
        let admin = authority.client("admin", Some("system:masters"))?;
        let entry = json!({"server": server, "certificate-authority-data": base64(&authority.certificate)});
        let kubeconfig = kubeconfig(&folder, "admin", &entry, &Credentials::Certificate(admin))?;
        let manager = Credentials::Certificate(authority.client("system:kube-controller-manager", None)?);
        let manager = self::kubeconfig(&folder, "controller-manager", &entry, &manager)?;
        std::fs::write(folder.join("audit-policy.yaml"), audit_policy)?;

        let flags = |text: String| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let etcd = Process::start(
            "etcd",
            &folder,
            &binary("etcd")?,
            &flags(format!(
                "--data-dir {} --listen-client-urls http://127.0.0.1:{etcd_port} --advertise-client-urls http://127.0.0.1:{etcd_port} \
                 --listen-peer-urls http://127.0.0.1:{peer_port} --unsafe-no-fsync --log-level warn",
                at("etcd")
            )),
            &[],
        )?;
        let reach = match node {
            None => "--bind-address 127.0.0.1 --authorization-mode RBAC".to_owned(),
            Some(address) => {
                let (certificate, key) =
                    authority.client("kube-apiserver", Some("system:masters"))?.store(&folder, "kubelet-client")?;
                format!(
                    "--bind-address 0.0.0.0 --advertise-address {address} --authorization-mode Node,RBAC --allow-privileged \
                     --kubelet-client-certificate {} --kubelet-client-key {} --kubelet-preferred-address-types InternalIP",
                    certificate.display(),
                    key.display(),
                )
            }
        };
        let api_server = Process::start(
            "kube-apiserver",
            &folder,
            &binary("kube-apiserver")?,
            &flags(format!(
                "--etcd-servers http://127.0.0.1:{etcd_port} --secure-port {port} {reach} --tls-cert-file {} \
                 --tls-private-key-file {} --client-ca-file {} --service-account-key-file {} --service-account-signing-key-file {} \
                 --service-account-issuer https://kubernetes.default.svc \
                 --service-cluster-ip-range 10.0.0.0/24 --audit-policy-file {} --audit-log-path {}",
                at("api-server.crt"),
                at("api-server.key"),
                at("ca.crt"),
                // The certificate, for its public key.
                at("service-account.crt"),
                at("service-account.key"),
                at("audit-policy.yaml"),
                at("audit.log"),
            )),
            &[],
        )?;
        let kubectl = Kubectl::new(&kubeconfig);
        api_server
            .until("ready", Duration::from_secs(90), async || kubectl.try_run(&["get", "--raw", "/readyz"]).is_ok())
            .await?;
        let controller_manager = Process::start(
            "kube-controller-manager",
            &folder,
            &binary("kube-controller-manager")?,
            &flags(format!(
                "--kubeconfig {manager} --authentication-kubeconfig {manager} --authorization-kubeconfig {manager} \
                 --service-account-private-key-file {} --root-ca-file {} --use-service-account-credentials --leader-elect=false \
                 --bind-address 127.0.0.1 --secure-port {manager_port}",
                at("service-account.key"),
                at("ca.crt"),
                manager = manager.display(),
            )),
            &[],
        )?;
        let control_plane = Some(ControlPlane { api_server, controller_manager, etcd });
        Ok((Self { kubeconfig, entry, audit_log: folder.join("audit.log"), control_plane }, authority))
    }

    /// The cluster that a kubeconfig's current context names, with the operator's CRDs applied.
    pub fn of(kubeconfig: &Path) -> Result<Self> {
        let view = Kubectl::new(kubeconfig).run(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"])?;
        let view: Value = serde_json::from_str(&view)?;
        let entry = view["clusters"][0]["cluster"].clone();
        let cluster = Self { kubeconfig: kubeconfig.to_owned(), entry, audit_log: PathBuf::new(), control_plane: None };
        cluster.define_kinds()?;
        Ok(cluster)
    }

    /// A kubeconfig for somebody else.
    pub fn kubeconfig_for(&self, folder: &Path, name: &str, credentials: &Credentials) -> Result<PathBuf> {
        kubeconfig(folder, name, &self.entry, credentials)
    }

    /// A kubeconfig for somebody else, who reaches the API server by another way.
    pub fn kubeconfig_through(&self, relay: &Relay, folder: &Path, name: &str, credentials: &Credentials) -> Result<PathBuf> {
        let entry = json!({"server": relay.url, "certificate-authority-data": base64(&relay.ca)});
        kubeconfig(folder, name, &entry, credentials)
    }

    /// A relay in front of its API server.
    pub async fn relay(&self) -> Result<Relay> {
        use base64::Engine;
        let text = |key: &str| self.entry[key].as_str().ok_or_else(|| format!("the kubeconfig has no {key}"));
        let ca = base64::engine::general_purpose::STANDARD.decode(text("certificate-authority-data")?)?;
        Relay::before(text("server")?, &String::from_utf8(ca)?).await
    }

    /// Applies the operator's CRDs.
    pub fn define_kinds(&self) -> Result<()> {
        let established = ["wait", "--for=condition=Established", "--timeout=30s", "crd/oauthaccounts.oauth-operator.dev"];
        self.kubectl().run(&["apply", "--server-side", "-f", &root().join("crds").display().to_string()])?;
        self.kubectl().run(&established).map(drop)
    }

    /// kubectl as its admin.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig)
    }
}

/// How a kubeconfig's user proves itself.
#[derive(Clone)]
pub enum Credentials {
    Certificate(Identity),
    Token(String),
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn kubeconfig(folder: &Path, name: &str, cluster: &Value, credentials: &Credentials) -> Result<PathBuf> {
    let user = match credentials {
        Credentials::Certificate(identity) => json!({
            "client-certificate-data": base64(&identity.certificate), "client-key-data": base64(&identity.key)
        }),
        Credentials::Token(token) => json!({ "token": token }),
    };
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    });
    let path = folder.join(format!("{name}.kubeconfig"));
    std::fs::write(&path, serde_json::to_string_pretty(&config)?)?;
    Ok(path)
}

/// Every write and every read of a Secret, without bodies: who did what, and how it ended.
const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: Metadata
  verbs: [get]
  resources: [{group: '', resources: [secrets]}]
- level: None
";
