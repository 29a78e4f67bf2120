package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What a value is changed to, where its type alone does not say.
var otherwise = map[string]any{
	"allowedCIDRs":                                   []any{"10.2.0.0/16"},
	"consent.url":                                    "https://other.example.com",
	"consent.service.type":                           "NodePort",
	"log.format":                                     "text",
	"image.tag":                                      "9.9.9",
	"image.digest":                                   "sha256:" + strings.Repeat("0b", 32),
	"image.pullPolicy":                               "Always",
	"proxy.image.tag":                                "9.9.9",
	"proxy.image.digest":                             "sha256:" + strings.Repeat("0b", 32),
	"proxy.image.pullPolicy":                         "Always",
	"imagePullSecrets":                               []any{"other"},
	"journal.sizeLimit":                              "32Mi",
	"watchNamespaces":                                []any{"apps"},
	"podDisruptionBudget.minAvailable":               "2",
	"metrics.serviceMonitor.scrapeTimeout":           "9s",
	"dnsPolicy":                                      "Default",
	"leaderElection.enabled":                         nil, // the schema refuses anything else
	"rbac.scope":                                     nil, // has cases of its own: it needs watchNamespaces
	"enabled":                                        nil, // a condition for a chart that has this one as a part
	"podSecurityContext.runAsNonRoot":                nil, // restricted Pods are what TestEveryPodIsRestricted… asks for
	"securityContext.capabilities.drop":              []any{"NET_RAW"},
	"podSecurityContext.seccompProfile.type":         "Localhost",
	"strategy.type":                                  "Recreate",
	"resources.requests.cpu":                         "70m",
	"resources.requests.memory":                      "70Mi",
	"resources.limits.memory":                        "700Mi",
	"startupProbe":                                   map[string]any{"httpGet": map[string]any{"path": "/livez", "port": "metrics"}},
	"podDisruptionBudget.maxUnavailable":             nil, // where minAvailable is not set: TestHighAvailability
	"networkPolicy.webhookFrom":                      []any{map[string]any{"ipBlock": map[string]any{"cidr": "10.3.0.0/16"}}},
	"networkPolicy.egress.ports":                     []any{443},
	"metrics.serviceMonitor.interval":                "40s",
	"metrics.podMonitor.interval":                    "40s",
	"metrics.podMonitor.scrapeTimeout":               "9s",
	"metrics.podMonitor.relabelings":                 []any{map[string]any{"action": "labeldrop", "regex": "other"}},
	"metrics.podMonitor.metricRelabelings":           []any{map[string]any{"action": "labeldrop", "regex": "other"}},
	"injection.excludedNamespaces":                   []any{"kube-system"},
	"podDisruptionBudget.unhealthyPodEvictionPolicy": "IfHealthyBudget",
}

// leaves gives the paths of what is no map with something in it.
func leaves(values map[string]any, above string) []string {
	var all []string
	for name, value := range values {
		path := strings.TrimPrefix(above+"."+name, ".")
		if inner, ok := value.(map[string]any); ok && len(inner) > 0 {
			all = append(all, leaves(inner, path)...)
		} else {
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return all
}

// find gives what is at a path, and whether there is something.
func find(values map[string]any, path string) (any, bool) {
	head, rest, more := strings.Cut(path, ".")
	value, there := values[head]
	if inner, ok := value.(map[string]any); ok && more {
		return find(inner, rest)
	}
	return value, there && !more
}

// put gives the same values with another one at a path; nil takes it out.
func put(values map[string]any, path string, value any) map[string]any {
	head, rest, more := strings.Cut(path, ".")
	other := map[string]any{}
	for name, there := range values {
		other[name] = there
	}
	switch inner, _ := values[head].(map[string]any); {
	case more:
		other[head] = put(inner, rest, value)
	case value == nil:
		delete(other, head)
	default:
		other[head] = value
	}
	return other
}

func changed(path string, value any) any {
	if other, known := otherwise[path]; known {
		return other
	}
	switch value := value.(type) {
	case bool:
		return !value
	case int:
		return value + 1
	case string:
		return strings.TrimPrefix(value+"-other", "-")
	default:
		return nil
	}
}

func valuesOf(t *testing.T, file string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

func renderedWith(t *testing.T, values map[string]any) string {
	t.Helper()
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := Case{flags: []string{"-f", file}}.text(helms[0])
	switch {
	case err == nil:
		return out
	case strings.Contains(err.Error(), "execution error at"):
		// A template that refuses a value has heard of it.
		return err.Error()
	default:
		t.Fatal(err)
		return ""
	}
}

// A value that changes nothing is a promise that nobody keeps.
func TestEveryValueArrives(t *testing.T) {
	defaults, everything := valuesOf(t, filepath.Join(chart, "values.yaml")), valuesOf(t, "testdata/everything.yaml")
	// In a mirror's place, registries count.
	bases := []map[string]any{everything, put(everything, "global", nil), {}}
	var unchanged []string
	for _, base := range bases {
		unchanged = append(unchanged, renderedWith(t, base))
	}
	for _, path := range leaves(defaults, "") {
		value, _ := find(defaults, path)
		_, set := find(everything, path)
		other := changed(path, value)
		if other == nil && !set {
			if _, known := otherwise[path]; !known {
				t.Errorf("%s: give it something in testdata/everything.yaml, or say here what it may be", path)
			}
			continue
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			for number, base := range bases {
				if other != nil && renderedWith(t, put(base, path, other)) != unchanged[number] {
					return
				}
			}
			if set && renderedWith(t, put(everything, path, nil)) != unchanged[0] {
				return
			}
			t.Errorf("nothing that is rendered tells of %s", path)
		})
	}
}

func TestHighAvailability(t *testing.T) {
	all := named(t, "highly available").objects(t)
	deployment := one(t, all, "Deployment", "")
	if replicas := deployment.at("spec", "replicas"); replicas != 3 {
		t.Errorf("%v replicas", replicas)
	}
	if budget := one(t, all, "PodDisruptionBudget", ""); budget.at("spec", "maxUnavailable") != 1 || budget.at("spec", "minAvailable") != nil {
		t.Errorf("%v", budget.at("spec"))
	}
	pod := func(path ...any) []any { return deployment.list(append([]any{"spec", "template", "spec"}, path...)...) }
	var left []string
	for _, toleration := range pod("tolerations") {
		left = append(left, fmt.Sprint(at(toleration, "key"), " ", at(toleration, "effect"), " ", at(toleration, "tolerationSeconds")))
	}
	if !slices.Equal(left, []string{"node.kubernetes.io/not-ready NoExecute 30", "node.kubernetes.io/unreachable NoExecute 30"}) {
		t.Errorf("%v", left)
	}
	var apart []string
	for _, constraint := range pod("topologySpreadConstraints") {
		apart = append(apart, fmt.Sprint(at(constraint, "topologyKey")))
	}
	if !slices.Equal(apart, []string{"topology.kubernetes.io/zone", "kubernetes.io/hostname"}) {
		t.Errorf("%v", apart)
	}
}

// What runs at an installation must be waited for, and stays when it fails.
func TestNothingRunsButTheOperatorAndWhatIsAskedFor(t *testing.T) {
	each(t, func(t *testing.T, c Case) {
		for _, object := range c.objects(t) {
			if hook := object.at("metadata", "annotations", "helm.sh/hook"); hook != nil && (object.kind() != "Pod" || hook != "test") {
				t.Errorf("%s is run as %v", object.id(), hook)
			}
			if slices.Contains([]string{"Job", "CronJob", "DaemonSet", "StatefulSet"}, object.kind()) {
				t.Errorf("%s", object.id())
			}
		}
	})
}
