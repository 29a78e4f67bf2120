//go:build live

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Cluster is a real control plane of its own, as the stories have it.
type Cluster struct{ kubeconfig string }

func start(t *testing.T) Cluster {
	t.Helper()
	folder := t.TempDir()
	program, err := filepath.Abs(filepath.Join(root, "target", "debug", "examples", "cluster"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, folder, "control-plane")
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		t.Fatalf("%v: cargo build --example cluster", err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	})
	settings := filepath.Join(folder, "settings.env")
	for range 240 {
		if text, err := os.ReadFile(settings); err == nil {
			scanner := bufio.NewScanner(bytes.NewReader(text))
			for scanner.Scan() {
				if path, found := strings.CutPrefix(scanner.Text(), "export KUBECONFIG="); found {
					return Cluster{strings.Trim(path, `"`)}
				}
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
	said, _ := os.ReadFile(filepath.Join(folder, "log"))
	t.Fatalf("no control plane after two minutes: %s", said)
	return Cluster{}
}

// run runs a program against it: what it said, and what it warned of.
func (cluster Cluster) run(program, input string, arguments ...string) (string, string, error) {
	var out, said bytes.Buffer
	command := exec.Command(program, arguments...)
	command.Env = append(os.Environ(), "KUBECONFIG="+cluster.kubeconfig)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), &out, &said
	err := command.Run()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s%s", filepath.Base(program), strings.Join(arguments, " "), err, out.String(), said.String())
	}
	return out.String(), said.String(), err
}

func (cluster Cluster) kubectl(t *testing.T, arguments ...string) string {
	t.Helper()
	out, _, err := cluster.run(filepath.Join(root, "target", "tools", "kubernetes", "kubectl"), "", arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (cluster Cluster) feed(input string, arguments ...string) (string, error) {
	out, warned, err := cluster.run(filepath.Join(root, "target", "tools", "kubernetes", "kubectl"), input, append(arguments, "-f", "-")...)
	return out + warned, err
}

func (cluster Cluster) helm(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	out, _, err := cluster.run(program, "", append(arguments, "--namespace", "oauth-operator-system")...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// can says whether somebody may do something.
func (cluster Cluster) can(who string, arguments ...string) bool {
	out, _, _ := cluster.run(filepath.Join(root, "target", "tools", "kubernetes", "kubectl"), "", append([]string{"auth", "can-i", "--as", who}, arguments...)...)
	return strings.TrimSpace(out) == "yes"
}

// eventually waits for what a controller does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 120 {
		if done() {
			return
		}
		time.Sleep(250 * time.Millisecond)
	}
	t.Fatalf("not within 30 s: %s", what)
}

const theOperator = "system:serviceaccount:oauth-operator-system:oauth-operator"

func TestOnAPIServer(t *testing.T) {
	cluster := start(t)
	cluster.kubectl(t, "apply", "--server-side", "-f", filepath.Join(root, "target", "tools", "monitoring-kinds")+"/")
	cluster.kubectl(t, "wait", "--for=condition=Established", "--timeout=30s", "crd/servicemonitors.monitoring.coreos.com",
		"crd/podmonitors.monitoring.coreos.com", "crd/prometheusrules.monitoring.coreos.com")
	for _, namespace := range []string{"oauth-operator-system", "elsewhere", "apps", "shop"} {
		cluster.kubectl(t, "create", "namespace", namespace)
		cluster.kubectl(t, "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")
	}
	eventually(t, "ServiceAccount default", func() bool {
		return strings.Count(cluster.kubectl(t, "get", "serviceaccounts", "-A", "--field-selector", "metadata.name=default", "-o", "name"), "\n") >= 8
	})
	t.Run("takes every object and every Pod", func(t *testing.T) {
		for _, c := range cases {
			cluster.takes(t, c.fill())
		}
	})
	t.Run("refuses what is not restricted", cluster.refuses)
	for _, program := range helms {
		t.Run(filepath.Base(program), func(t *testing.T) {
			cluster.lives(t, program)
			cluster.isTakenOver(t, program)
		})
	}
	t.Run("rights", cluster.rights)
	t.Run("flags", flags)
}

// podOf is a Pod as the Deployment makes it.
func podOf(t *testing.T, c Case) string {
	t.Helper()
	deployment := one(t, c.objects(t), "Deployment", "")
	spec := deployment.at("spec", "template", "spec").(map[string]any)
	// The operator's own is not there yet.
	spec["serviceAccountName"] = "default"
	metadata := deployment.at("spec", "template", "metadata").(map[string]any)
	metadata["name"], metadata["namespace"] = "operator", c.place
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (cluster Cluster) takes(t *testing.T, c Case) {
	t.Helper()
	text, err := c.text(helms[0])
	if err != nil {
		t.Fatal(err)
	}
	said, err := cluster.feed(text, "apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts")
	if err != nil {
		t.Errorf("%s: %v", c.name, err)
		return
	}
	if want := strings.Count("\n"+text, "\nkind: "); strings.Count(said, "serverside-applied") != want {
		t.Errorf("%s: not all of %d objects: %s", c.name, want, said)
	}
	if strings.Contains(said, "Warning") {
		t.Errorf("%s: %s", c.name, said)
	}
	if said, err := cluster.feed(podOf(t, c), "create", "--dry-run=server", "--validate=strict"); err != nil {
		t.Errorf("%s: %v", c.name, err)
	} else if strings.Contains(said, "Warning") {
		t.Errorf("%s: %s", c.name, said)
	}
}

// Shows that the namespaces are as strict as the test needs them.
func (cluster Cluster) refuses(t *testing.T) {
	for set, words := range map[string]string{
		"podSecurityContext.seccompProfile=null":                 "seccompProfile",
		"podSecurityContext.runAsNonRoot=false":                  "runAsNonRoot",
		"securityContext.allowPrivilegeEscalation=true":          "allowPrivilegeEscalation",
		"securityContext.capabilities.add={NET_ADMIN}":           "unrestricted capabilities",
		"extraVolumes[0].name=a,extraVolumes[0].hostPath.path=/": "hostPath",
	} {
		_, err := cluster.feed(podOf(t, named(t, "defaults").with(set)), "create", "--dry-run=server")
		if err == nil || !strings.Contains(err.Error(), "violates PodSecurity") || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", set, err)
		}
	}
}

const account = `
apiVersion: oauth-operator.dev/v1alpha1
kind: OAuthAccount
metadata: {name: reports, namespace: apps}
spec:
  provider: {issuer: https://login.example.com}
  client: {id: reports, secretRef: {name: reports, key: client_secret}}
  grant: {clientCredentials: {}}
`

// lives goes through the life of a release: installed, upgraded, rolled back, removed, and installed again over what was kept.
func (cluster Cluster) lives(t *testing.T, program string) {
	cluster.removeKinds(t)
	injection := []string{"--set", "injection.enabled=true"}

	// An older version, whose CRD is not yet what it is now.
	older := filepath.Join(t.TempDir(), "oauth-operator")
	if err := os.CopyFS(older, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	crd := filepath.Join(older, "files", "crds", "oauthaccounts.yaml")
	text, err := os.ReadFile(crd)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("    - oacc\n"), []byte("    - oldacc\n"), 1)
	if err := os.WriteFile(crd, text, 0o644); err != nil {
		t.Fatal(err)
	}
	notes := cluster.helm(t, program, append([]string{"install", "oauth-operator", older}, injection...)...)
	if !strings.Contains(notes, "kubectl -n oauth-operator-system rollout status deployment/oauth-operator") {
		t.Errorf("the notes do not say the next command: %s", notes)
	}
	shortName := func() string {
		return cluster.kubectl(t, "get", "crd", "oauthaccounts.oauth-operator.dev", "-o", "jsonpath={.spec.names.shortNames[0]}")
	}
	if got := shortName(); got != "oldacc" {
		t.Fatalf("the older CRD has the short name %s", got)
	}
	cluster.kubectl(t, "wait", "--for=condition=Established", "--timeout=30s", "crd/oauthaccounts.oauth-operator.dev")
	eventually(t, "an account", func() bool { _, err := cluster.feed(account, "apply"); return err == nil })

	// What the operator writes into its webhook stays.
	bundle := "bm90IGEgY2VydGlmaWNhdGU="
	patch := `[{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "` + bundle + `"}]`
	// A bundle must hold a certificate.
	certificate := cluster.kubectl(t, "config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}")
	patch = strings.Replace(patch, bundle, certificate, 1)
	cluster.kubectl(t, "patch", "mutatingwebhookconfiguration", "oauth-operator-injection", "--type", "json", "-p", patch, "--field-manager", "oauth-operator")
	kept := func(when string) {
		t.Helper()
		got := cluster.kubectl(t, "get", "mutatingwebhookconfiguration", "oauth-operator-injection", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
		if got != certificate {
			t.Errorf("after %s the operator's caBundle is %q", when, got)
		}
		cluster.kubectl(t, "-n", "apps", "get", "oauthaccount", "reports")
	}
	replicas := func() string {
		return cluster.kubectl(t, "-n", "oauth-operator-system", "get", "deployment", "oauth-operator", "-o", "jsonpath={.spec.replicas}")
	}
	cluster.helm(t, program, append([]string{"upgrade", "oauth-operator", chart, "--set", "replicaCount=3,injection.timeoutSeconds=3"}, injection...)...)
	kept("an upgrade")
	if got := replicas(); got != "3" {
		t.Errorf("%s replicas after the upgrade", got)
	}
	if got := shortName(); got != "oacc" {
		t.Errorf("the upgrade leaves the CRD with the short name %s", got)
	}
	cluster.helm(t, program, "rollback", "oauth-operator", "1")
	kept("a rollback")
	if got := replicas(); got != "2" {
		t.Errorf("%s replicas after the rollback", got)
	}
	if got := shortName(); got != "oldacc" {
		t.Errorf("the rollback leaves the CRD with the short name %s", got)
	}

	cluster.helm(t, program, "uninstall", "oauth-operator")
	cluster.kubectl(t, "-n", "apps", "get", "oauthaccount", "reports")
	cluster.isGone(t)
	cluster.helm(t, program, "install", "oauth-operator", chart, "--set", "crds.keep=false")
	cluster.kubectl(t, "-n", "apps", "get", "oauthaccount", "reports")
	cluster.helm(t, program, "uninstall", "oauth-operator")
	eventually(t, "crds.keep=false removes the CRDs", func() bool {
		return cluster.kubectl(t, "get", "crd", "-l", "app.kubernetes.io/part-of=oauth-operator", "-o", "name") == ""
	})
	cluster.isGone(t)
}

// isTakenOver goes from the plain manifests to the chart.
func (cluster Cluster) isTakenOver(t *testing.T, program string) {
	cluster.removeKinds(t)
	cluster.kubectl(t, "apply", "--server-side", "-f", filepath.Join(root, "crds"))
	cluster.kubectl(t, "apply", "-f", filepath.Join(root, "deploy", "operator.yaml"))
	cluster.kubectl(t, "wait", "--for=condition=Established", "--timeout=30s", "crd/oauthaccounts.oauth-operator.dev")
	eventually(t, "an account", func() bool { _, err := cluster.feed(account, "apply"); return err == nil })
	arguments := []string{"install", "oauth-operator", chart, "--take-ownership"}
	if strings.HasSuffix(program, "4") {
		arguments = append(arguments, "--force-conflicts")
	}
	cluster.helm(t, program, arguments...)
	cluster.kubectl(t, "-n", "apps", "get", "oauthaccount", "reports")
	cluster.helm(t, program, "uninstall", "oauth-operator")
	cluster.isGone(t)
}

func (cluster Cluster) removeKinds(t *testing.T) {
	t.Helper()
	cluster.kubectl(t, "delete", "--ignore-not-found", "-f", filepath.Join(root, "crds"))
}

// isGone looks for what an uninstalled release has left behind, beside the CRDs.
func (cluster Cluster) isGone(t *testing.T) {
	t.Helper()
	kinds := "deployments,services,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,poddisruptionbudgets,networkpolicies," +
		"configmaps,secrets,pods,mutatingwebhookconfigurations"
	var left string
	for range 120 {
		left = cluster.kubectl(t, "get", kinds, "-A", "-l", "app.kubernetes.io/instance=oauth-operator", "-o", "name")
		if left == "" {
			return
		}
		time.Sleep(250 * time.Millisecond)
	}
	t.Errorf("left behind: %s", left)
}

// What the API server says to those who have the rights that are rendered.
func (cluster Cluster) rights(t *testing.T) {
	cluster.helm(t, helms[0], "install", "oauth-operator", chart)
	for who, role := range map[string]string{"viewer": "view", "editor": "edit", "owner": "admin"} {
		cluster.kubectl(t, "-n", "apps", "create", "rolebinding", who, "--clusterrole", role, "--user", who)
	}
	eventually(t, "aggregation", func() bool { return cluster.can("owner", "refresh", "oauthaccounts.oauth-operator.dev", "-n", "apps") })
	type question struct {
		who       string
		may       bool
		arguments string
	}
	ask := func(questions []question) {
		t.Helper()
		for _, q := range questions {
			if got := cluster.can(q.who, strings.Fields(q.arguments)...); got != q.may {
				t.Errorf("%s %s: %v", q.who, q.arguments, got)
			}
		}
	}
	ask([]question{
		{theOperator, true, "get secrets -n apps"},
		{theOperator, true, "get secrets -n shop"},
		{theOperator, true, "create tokenreviews.authentication.k8s.io"},
		{theOperator, true, "update leases/oauth-operator -n oauth-operator-system"},
		{theOperator, false, "update leases/oauth-operator -n apps"},
		{theOperator, false, "update configmaps/settings -n apps"},
		{theOperator, false, "update oauthaccounts.oauth-operator.dev -n apps"},
		{theOperator, true, "patch oauthaccounts.oauth-operator.dev --subresource status -n apps"},
		{theOperator, false, "create pods -n apps"},
		{theOperator, false, "patch deployments.apps -n apps"},
		{theOperator, false, "create serviceaccounts --subresource token -n apps"},
		{theOperator, false, "list namespaces"},
		{theOperator, false, "get nodes"},
		{"viewer", true, "list oauthaccounts.oauth-operator.dev -n apps"},
		{"viewer", true, "list workflows.oauth-operator.dev -n apps"},
		{"viewer", false, "list workflowruns.oauth-operator.dev -n apps"},
		{"viewer", false, "get secrets -n apps"},
		{"viewer", false, "authorize oauthaccounts.oauth-operator.dev -n apps"},
		{"editor", true, "list workflowruns.oauth-operator.dev -n apps"},
		{"editor", true, "create workflowruns.oauth-operator.dev -n apps"},
		{"editor", true, "refresh oauthaccounts.oauth-operator.dev -n apps"},
		{"editor", true, "get secrets -n apps"},
		{"editor", false, "patch workflowruns.oauth-operator.dev --subresource status -n apps"},
		{"editor", false, "create workflowruns.oauth-operator.dev -n shop"},
	})
	cluster.helm(t, helms[0], "uninstall", "oauth-operator")

	cluster.helm(t, helms[0], "install", "oauth-operator", chart, "--set", "rbac.scope=Namespaced,watchNamespaces={apps}")
	ask([]question{
		{theOperator, true, "get secrets -n apps"},
		{theOperator, true, "patch oauthaccounts.oauth-operator.dev --subresource status -n apps"},
		{theOperator, true, "create secrets -n oauth-operator-system"},
		{theOperator, false, "get secrets -n shop"},
		{theOperator, false, "list oauthaccounts.oauth-operator.dev -A"},
		{theOperator, false, "create tokenreviews.authentication.k8s.io"},
		{theOperator, false, "create subjectaccessreviews.authorization.k8s.io"},
	})
	cluster.helm(t, helms[0], "uninstall", "oauth-operator")
}

// The operator knows the flags that values become.
func flags(t *testing.T) {
	operator := filepath.Join(root, "target", "debug", "oauth-operator")
	for _, name := range []string{"everything", "some namespaces"} {
		arguments := []string{"--namespace=a"}
		for _, argument := range one(t, named(t, name).objects(t), "Deployment", "").list("spec", "template", "spec", "containers", 0, "args") {
			arguments = append(arguments, argument.(string))
		}
		if said, err := exec.Command(operator, append(arguments, "--version")...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v: %s", arguments, err, said)
		}
	}
	if said, err := exec.Command(operator, "--namespace=a", "--nobody-knows-this", "--version").CombinedOutput(); err == nil {
		t.Errorf("it takes any flag, so that this proves nothing: %s", said)
	}
}
