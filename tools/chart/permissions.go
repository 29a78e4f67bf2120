package main

import (
	_ "embed"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed permissions.md
var permissionsText string

// Rule is one rule of a Role, with the comment above it.
type Rule struct {
	APIGroups     []string `yaml:"apiGroups"`
	Resources     []string `yaml:"resources"`
	ResourceNames []string `yaml:"resourceNames"`
	Verbs         []string `yaml:"verbs"`
	why           string
}

// Role is a Role or ClusterRole of a manifest.
type Role struct {
	kind, name, why string
	aggregatedTo    []string
	rules           []Rule
}

// permissions is docs/permissions.md: its text, with a table of each Role where the text says {{NAME}}.
func permissions(helm, chart string) (string, error) {
	all := []string{"rbac.restartTargets=true", "rbac.workloadIdentity=true", "injection.enabled=true", "consent.url=https://connect.example.com"}
	text, err := template(helm, chart, append(all, "crds.enabled=false"), "")
	if err != nil {
		return "", err
	}
	out := strings.Replace(permissionsText, "\n", "\n\n"+"<!-- GENERATED from the comments of charts/oauth-operator and from tools/chart/permissions.md by `make chart`; do not edit. -->\n", 1)
	for _, document := range strings.Split(text, "\n---\n") {
		role, err := readRole(document)
		if err != nil {
			return "", err
		}
		if role == nil {
			continue
		}
		mark := fmt.Sprintf("{{%s %s}}", role.kind, role.name)
		if strings.Count(out, mark) != 1 {
			return "", fmt.Errorf("tools/chart/permissions.md must have %s once", mark)
		}
		out = strings.Replace(out, mark, role.table(), 1)
	}
	if at := strings.Index(out, "{{"); at >= 0 {
		return "", fmt.Errorf("tools/chart/permissions.md asks for a Role that is not there: %s", strings.SplitN(out[at:], "\n", 2)[0])
	}
	return out, nil
}

func readRole(text string) (*Role, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return nil, err
	}
	var object struct {
		Kind     string
		Metadata struct {
			Name   string
			Labels map[string]string
		}
		Rules []Rule
	}
	if err := document.Decode(&object); err != nil {
		return nil, err
	}
	if object.Kind != "Role" && object.Kind != "ClusterRole" {
		return nil, nil
	}
	lines := strings.Split(text, "\n")
	role := &Role{kind: object.Kind, name: object.Metadata.Name, rules: object.Rules}
	role.why = sentence(commentAbove(lines, document.Content[0].Line))
	for _, to := range []string{"view", "edit", "admin"} {
		if object.Metadata.Labels["rbac.authorization.k8s.io/aggregate-to-"+to] == "true" {
			role.aggregatedTo = append(role.aggregatedTo, "`"+to+"`")
		}
	}
	for i, node := range rulesOf(document.Content[0]) {
		comment := commentAbove(lines, node.Line)
		for j := 0; j+1 < len(node.Content); j += 2 {
			if key := node.Content[j]; key.Value == "verbs" {
				comment = append(comment, commentAbove(lines, key.Line)...)
			}
		}
		role.rules[i].why = sentence(comment)
		if role.rules[i].why == "" {
			return nil, fmt.Errorf("%s %s: a rule without a reason: %v %v", role.kind, role.name, role.rules[i].Verbs, role.rules[i].Resources)
		}
	}
	return role, nil
}

func rulesOf(object *yaml.Node) []*yaml.Node {
	for i := 0; i+1 < len(object.Content); i += 2 {
		if object.Content[i].Value == "rules" {
			return object.Content[i+1].Content
		}
	}
	return nil
}

// sentence is a comment without the line that tells where it is from.
func sentence(comment []string) string {
	var words []string
	for _, line := range comment {
		if !strings.HasPrefix(line, "Source: ") {
			words = append(words, line)
		}
	}
	return strings.Join(words, " ")
}

func (role *Role) table() string {
	var text strings.Builder
	text.WriteString(role.why + "\n\n")
	if len(role.aggregatedTo) > 0 {
		fmt.Fprintf(&text, "Aggregated to %s.\n\n", strings.Join(role.aggregatedTo, ", "))
	}
	text.WriteString("| may | what | why |\n| --- | --- | --- |\n")
	for _, rule := range role.rules {
		var what []string
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				if group != "" {
					resource += "." + group
				}
				what = append(what, "`"+resource+"`")
			}
		}
		named := ""
		if len(rule.ResourceNames) > 0 {
			named = " named `" + strings.Join(rule.ResourceNames, "`, `") + "`"
		}
		fmt.Fprintf(&text, "| %s | %s%s | %s |\n", strings.Join(rule.Verbs, ", "), strings.Join(what, ", "), named, rule.why)
	}
	return strings.TrimSuffix(text.String(), "\n")
}
