//! The node is one: Pods answer by the names of their Services, and tell what they print.

use crate::testbed::Result;
use crate::testbed::node::Node;
use crate::testbed::story::eventually;
use std::time::{Duration, Instant};

const PODS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: hello}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: hello, labels: {app: hello}}
spec:
  containers:
  - name: hello
    image: localhost/busybox:1
    args: [sh, -c, 'mkdir -p /www && echo hello from a Pod > /www/index.html && exec busybox httpd -f -p 8080 -h /www']
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  restartPolicy: Never
  containers:
  - name: asks
    image: localhost/busybox:1
    args: [sh, -c, 'until busybox wget -q -O - http://hello.default.svc.cluster.local; do busybox sleep 0.2; done']
";

pub async fn run(node: &Node) -> Result<()> {
    let began = Instant::now();
    let kubectl = node.cluster.kubectl();
    let account = || Ok(kubectl.try_run(&["get", "serviceaccount", "default"]).ok());
    eventually(Duration::from_secs(30), account).await?.ok_or("no ServiceAccount default")?;
    kubectl.apply(PODS)?;
    let said = || Ok(kubectl.try_run(&["logs", "asks"]).ok().filter(|said| said.contains("hello from a Pod")));
    let said = eventually(Duration::from_secs(60), said).await?;
    said.ok_or_else(|| format!("no Pod answers by the name of its Service:\n{}", node.state("default")))?;
    println!("  a Pod answers by the name of its Service after {:.1} s", began.elapsed().as_secs_f32());
    kubectl.run(&["delete", "pod,service", "--all", "--grace-period=1", "--timeout=60s"]).map(drop)
}
