package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// Manifest is a file in deploy/: the chart with fixed values, for those who install without Helm.
type Manifest struct {
	file string
	head string
	// Values, as after --set.
	set []string
	// The one template that is meant; all without it.
	template string
}

const release, namespace = "oauth-operator", "oauth-operator-system"

var manifests = []Manifest{
	{
		file: "operator.yaml",
		head: `# The operator: kubectl apply -f crds/ -f deploy/operator.yaml
# It serves the accounts of every namespace. docs/installation.md says how to serve some only.
apiVersion: v1
kind: Namespace
metadata:
  name: oauth-operator-system
  labels:
    app.kubernetes.io/name: oauth-operator
    pod-security.kubernetes.io/enforce: restricted
---
`,
		set: []string{"crds.enabled=false"},
	},
	{
		file:     "consent.yaml",
		template: "consent",
		head: `# Optional: the pages on which people connect accounts (grant authorizationCode, and codes of deviceCode). Apply this, start
# the operator with --consent-url, and lead that address to the Service: kubectl apply -f deploy/consent.yaml
`,
		set: []string{"consent.url=https://connect.example.com"},
	},
	{
		file:     "injection.yaml",
		template: "injection",
		head: `# Optional: the webhook that puts the sidecar into Pods (docs/proxy.md, "Injection"). Apply this, start the operator with
# --injection-webhook=oauth-operator-injection, and give its Service oauth-operator the port 9443
# (docs/installation.md, "Injection", has the commands):
# kubectl apply -f deploy/injection.yaml
`,
		set: []string{"injection.enabled=true"},
	},
	{
		file:     "restart-targets.yaml",
		template: "rbac-restart-targets",
		head:     "# Optional: kubectl apply -f deploy/restart-targets.yaml\n",
		set:      []string{"rbac.restartTargets=true"},
	},
	{
		file:     "workload-identity.yaml",
		template: "rbac-workload-identity",
		head:     "# Optional: kubectl apply -f deploy/workload-identity.yaml\n",
		set:      []string{"rbac.workloadIdentity=true"},
	},
}

const generated = "# GENERATED from charts/oauth-operator by `make chart`; do not edit.\n"

// Lines that tell of Helm, which is not there for those who apply these files.
var ofHelm = regexp.MustCompile(`(?m)^(# Source: .*| *helm\.sh/chart: .*| *app\.kubernetes\.io/managed-by: Helm)\n`)

var separator = regexp.MustCompile(`\n+---\n+`)

func (manifest Manifest) render(helm, chart string) (string, error) {
	text, err := template(helm, chart, manifest.set, manifest.template)
	if err != nil {
		return "", fmt.Errorf("%s: %w", manifest.file, err)
	}
	text = ofHelm.ReplaceAllString(text, "")
	text = separator.ReplaceAllString(text, "\n---\n")
	return generated + manifest.head + strings.Trim(strings.TrimPrefix(text, "---\n"), "\n") + "\n", nil
}

// template asks Helm what it would install.
func template(helm, chart string, set []string, only string) (string, error) {
	arguments := []string{"template", release, chart, "--namespace", namespace, "--skip-tests"}
	for _, value := range set {
		arguments = append(arguments, "--set", value)
	}
	if only != "" {
		arguments = append(arguments, "--show-only", "templates/"+only+".yaml")
	}
	var out, said bytes.Buffer
	command := exec.Command(helm, arguments...)
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("helm %s: %w: %s", strings.Join(arguments, " "), err, said.String())
	}
	return out.String(), nil
}
