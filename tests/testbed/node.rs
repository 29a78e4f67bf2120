//! A real node: kubelet, kube-scheduler, kube-proxy, containerd with runc and CNI plugins, CoreDNS, under a control plane of its
//! own. Inside `namespaces` only.

use super::certificates::Authority;
use super::cluster::{Cluster, Credentials};
use super::namespaces::{ADDRESS, group};
use super::node_images::{build, import};
use super::process::{Process, folder};
use super::{Result, root};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long each part may take to answer, on a machine that builds beside it.
const SOON: Duration = Duration::from_secs(90);

/// A cluster of one node.
pub struct Node {
    pub cluster: Cluster,
    folder: PathBuf,
    _parts: Vec<Process>,
}

/// Where the node's binaries are: `tools/install.sh node` puts them there.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = root().join("target/tools/node").join(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is not there: run `tools/install.sh node`", path.display()).into()) }
}

impl Node {
    /// Starts one; its Pods can run and find each other by name.
    pub async fn start() -> Result<Self> {
        let group = group().ok_or("a node is started in namespaces of its own (testbed/namespaces.rs)")?;
        let folder = folder("node")?;
        let began = Instant::now();
        let containerd = containerd(&folder)?;
        let images = std::thread::spawn({
            let folder = folder.clone();
            move || build(&folder)
        });
        let (cluster, authority) = Cluster::start_for_node("node", ADDRESS).await?;
        containerd.until("answering", SOON, async || ctr(&["version"])).await?;
        for archive in images.join().map_err(|_| "building images has panicked")?? {
            import(&archive)?;
        }
        let parts = vec![
            containerd,
            kubelet(&folder, &cluster, &authority, &group)?,
            scheduler(&folder, &cluster, &authority)?,
            proxy(&folder, &cluster, &authority)?,
        ];
        let kubectl = cluster.kubectl();
        let is_ready = async || {
            let ready = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
            kubectl.try_run(&["get", "nodes", "-o", ready]).is_ok_and(|status| status == "True")
        };
        parts[1].until("a ready node", SOON, is_ready).await?;
        println!("  the node is ready after {:.1} s", began.elapsed().as_secs_f32());
        kubectl.apply(&std::fs::read_to_string(root().join("tests/node/coredns.yaml"))?)?;
        let node = Self { cluster, folder, _parts: parts };
        node.rolled_out("kube-system", "deployment/coredns", SOON)?;
        println!("  names are resolved after {:.1} s", began.elapsed().as_secs_f32());
        Ok(node)
    }

    /// Waits for a rollout; what stands in its way is told.
    pub fn rolled_out(&self, namespace: &str, workload: &str, limit: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", limit.as_secs());
        let rolled = self.cluster.kubectl().namespaced(namespace).run(&["rollout", "status", workload, &timeout]);
        rolled.map(drop).map_err(|error| format!("{error}\n{}", self.state(namespace)).into())
    }

    /// What the cluster and its parts say of a namespace, for somebody who has to find out why something failed.
    pub fn state(&self, namespace: &str) -> String {
        let kubectl = self.cluster.kubectl();
        let of = |arguments: &[&str]| match kubectl.namespaced(namespace).output(arguments, "") {
            Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            Err(error) => error.to_string(),
        };
        let mut state = of(&["get", "pods,jobs,deployments", "-o", "wide"]);
        state += &of(&["get", "events", "--sort-by=.lastTimestamp"]);
        for pod in of(&["get", "pods", "-o", "name"]).lines() {
            state += &format!("--- {pod}\n{}", of(&["logs", pod, "--all-containers", "--prefix", "--tail=30"]));
        }
        for part in ["kubelet", "containerd"] {
            let log = std::fs::read_to_string(self.folder.join(format!("{part}.log"))).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(8).collect();
            state += &format!("--- {part}\n{}\n", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        state
    }
}

fn ctr(arguments: &[&str]) -> bool {
    binary("ctr").is_ok_and(|ctr| Command::new(ctr).args(arguments).output().is_ok_and(|output| output.status.success()))
}

/// A file of tests/node with its places filled in.
fn filled(folder: &Path, template: &str, group: &str) -> Result<String> {
    let text = std::fs::read_to_string(root().join("tests/node").join(template))?;
    Ok(text.replace("@FOLDER@", &folder.display().to_string()).replace("@CGROUP@", group))
}

fn containerd(folder: &Path) -> Result<Process> {
    let configuration = folder.join("containerd.toml");
    std::fs::write(&configuration, filled(folder, "containerd.toml", "")?)?;
    std::fs::create_dir_all(folder.join("cni"))?;
    std::fs::write(folder.join("cni/10-pods.conflist"), filled(folder, "network.conflist", "")?)?;
    let program = binary("containerd")?;
    // It finds its shim by PATH.
    let shims = program.parent().ok_or("a folder")?.display().to_string();
    let path = format!("{shims}:{}", std::env::var("PATH")?);
    Process::start("containerd", folder, &program, &["--config".into(), configuration.display().to_string()], &[("PATH", path)])
}

fn kubelet(folder: &Path, cluster: &Cluster, authority: &Authority, group: &str) -> Result<Process> {
    let credentials = Credentials::Certificate(authority.client("system:node:node", Some("system:nodes"))?);
    let kubeconfig = cluster.kubeconfig_for(folder, "kubelet", &credentials)?;
    let configuration = folder.join("kubelet.yaml");
    std::fs::write(folder.join("resolv.conf"), "")?;
    std::fs::write(&configuration, filled(folder, "kubelet.yaml", group)?)?;
    let flags = [
        format!("--config={}", configuration.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--node-ip={ADDRESS}"),
        "--hostname-override=node".into(),
    ];
    Process::start("kubelet", folder, &binary("kubelet")?, &flags, &[])
}

fn scheduler(folder: &Path, cluster: &Cluster, authority: &Authority) -> Result<Process> {
    let credentials = Credentials::Certificate(authority.client("system:kube-scheduler", None)?);
    let kubeconfig = cluster.kubeconfig_for(folder, "scheduler", &credentials)?.display().to_string();
    let flags = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"];
    let mut flags: Vec<String> = flags.iter().map(|flag| format!("--{flag}={kubeconfig}")).collect();
    flags.push("--leader-elect=false".into());
    Process::start("kube-scheduler", folder, &binary("kube-scheduler")?, &flags, &[])
}

fn proxy(folder: &Path, cluster: &Cluster, authority: &Authority) -> Result<Process> {
    let credentials = Credentials::Certificate(authority.client("system:kube-proxy", None)?);
    let kubeconfig = cluster.kubeconfig_for(folder, "kube-proxy", &credentials)?;
    // Where /proc/sys is read-only, nothing is to be set of connection tracking.
    let flags = format!(
        "--kubeconfig={} --hostname-override=node --proxy-mode=nftables --cluster-cidr=10.1.0.0/24 \
         --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0",
        kubeconfig.display()
    );
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    Process::start("kube-proxy", folder, &binary("kube-proxy")?, &flags, &[])
}
