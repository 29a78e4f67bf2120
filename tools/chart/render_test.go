package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"
)

const root = "../.."

var chart = filepath.Join(root, "charts", "oauth-operator")

// The versions of Helm for which the chart must be the same: tools/install.sh helm builds them.
var helms = []string{filepath.Join(root, "target", "tools", "helm4"), filepath.Join(root, "target", "tools", "helm3")}

// Case is one way in which somebody installs it.
type Case struct {
	name, release, namespace string
	flags                    []string
	// Where its objects are meant to be, where that is not the namespace.
	place string
	// What its objects are called, where that is not the release.
	called string
}

var longest = strings.Repeat("r", 53)

var cases = []Case{
	{name: "defaults"},
	{name: "highly available", flags: []string{"-f", filepath.Join(chart, "values-ha.yaml")}},
	{name: "some namespaces", flags: []string{"--set", "watchNamespaces={apps,shop}", "--set", "rbac.restartTargets=true,rbac.workloadIdentity=true"}},
	{name: "namespaced", flags: []string{"--set", "rbac.scope=Namespaced,watchNamespaces={apps,shop}"}},
	{
		name: "namespaced, with all that it can have",
		flags: []string{"--set", "rbac.scope=Namespaced,watchNamespaces={apps},rbac.restartTargets=true,rbac.workloadIdentity=true",
			"--set", "consent.url=https://connect.example.com,crds.enabled=false,metrics.podMonitor.enabled=true"},
	},
	{name: "its own namespace served", flags: []string{"--set", "rbac.scope=Namespaced,watchNamespaces={oauth-operator-system}"}},
	{name: "everything", flags: []string{"-f", "testdata/everything.yaml"}},
	{
		name:  "OpenShift",
		flags: []string{"--set", "image.registry=image-registry.openshift-image-registry.svc:5000,metrics.serviceMonitor.enabled=true"},
	},
	{name: "a mirror", flags: []string{"--set", "global.imageRegistry=mirror.example.com:5000,image.tag=1.2.3,imagePullSecrets={mirror}"}},
	{name: "a digest", flags: []string{"--set", "image.digest=sha256:" + strings.Repeat("0a", 32)}},
	{name: "a name of the release's own", release: "tokens", called: "tokens-oauth-operator"},
	{name: "nameOverride", release: "tokens", flags: []string{"--set", "nameOverride=keeper"}, called: "tokens-keeper"},
	{name: "fullnameOverride", release: "tokens", flags: []string{"--set", "fullnameOverride=keeper"}, called: "keeper"},
	{
		name: "names as long as can be", release: longest,
		flags:  []string{"-f", "testdata/everything.yaml", "--set", "nameOverride=" + strings.Repeat("n", 63)},
		called: (longest + "-" + strings.Repeat("n", 63))[:63],
	},
	{name: "namespaceOverride", flags: []string{"-f", "testdata/everything.yaml", "--set", "namespaceOverride=elsewhere"}, place: "elsewhere"},
	{name: "rights of somebody else's", flags: []string{"--set", "rbac.create=false,serviceAccount.create=false,serviceAccount.name=theirs"}},
	{name: "nothing kept", flags: []string{"--set", "crds.keep=false,journal.enabled=false,metrics.scrapeAnnotations=false,metrics.service.enabled=false"}},
	{name: "whom to let through", flags: []string{"--set", "networkPolicy.enabled=true,metrics.service.port=9091"}},
	{name: "one replica", flags: []string{"--set", "replicaCount=1,podDisruptionBudget.enabled=true"}},
	{name: "aggregated to nobody", flags: []string{"--set", "rbac.aggregateToView=false,rbac.aggregateToEdit=false,rbac.aggregateToAdmin=false"}},
}

func (c Case) fill() Case {
	if c.release == "" {
		c.release = "oauth-operator"
	}
	if c.namespace == "" {
		c.namespace = "oauth-operator-system"
	}
	if c.place == "" {
		c.place = c.namespace
	}
	if c.called == "" {
		c.called = c.release
	}
	return c
}

// named gives the case of this name.
func named(t *testing.T, name string) Case {
	t.Helper()
	for _, c := range cases {
		if c.name == name {
			return c.fill()
		}
	}
	t.Fatalf("there is no case %q", name)
	return Case{}
}

// with gives the same with further values.
func (c Case) with(set ...string) Case {
	c.flags = append([]string{}, c.flags...)
	for _, value := range set {
		c.flags = append(c.flags, "--set", value)
	}
	return c
}

func helm(program string, arguments ...string) (string, error) {
	var out, said bytes.Buffer
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(arguments, " "), err, said.String())
	}
	return out.String(), nil
}

func (c Case) text(program string) (string, error) {
	c = c.fill()
	return helm(program, append([]string{"template", c.release, chart, "--namespace", c.namespace}, c.flags...)...)
}

// Object is one object of the chart.
type Object struct {
	fields map[string]any
	text   string
}

// What was rendered, by flags: that it is always the same has a test of its own.
var rendered sync.Map

func (c Case) objects(t *testing.T) []Object {
	t.Helper()
	key := fmt.Sprint(c.release, c.namespace, c.flags)
	if text, known := rendered.Load(key); known {
		return objects(t, text.(string))
	}
	text, err := c.text(helms[0])
	if err != nil {
		t.Fatal(err)
	}
	rendered.Store(key, text)
	return objects(t, text)
}

func objects(t *testing.T, text string) []Object {
	t.Helper()
	var all []Object
	for _, document := range strings.Split("\n"+text, "\n---\n") {
		fields := map[string]any{}
		if err := yaml.Unmarshal([]byte(document), &fields); err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		if len(fields) > 0 {
			all = append(all, Object{fields, document})
		}
	}
	if len(all) == 0 {
		t.Fatal("nothing was rendered")
	}
	return all
}

// at gives what is at this path, or nil. Numbers are places in lists.
func at(from any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			fields, _ := from.(map[string]any)
			from = fields[step]
		case int:
			list, _ := from.([]any)
			if step >= len(list) {
				return nil
			}
			from = list[step]
		}
	}
	return from
}

func (object Object) at(path ...any) any { return at(object.fields, path...) }

func (object Object) word(path ...any) string {
	text, _ := object.at(path...).(string)
	return text
}

func (object Object) kind() string      { return object.word("kind") }
func (object Object) name() string      { return object.word("metadata", "name") }
func (object Object) namespace() string { return object.word("metadata", "namespace") }
func (object Object) id() string {
	return object.kind() + " " + object.namespace() + "/" + object.name()
}

func (object Object) list(path ...any) []any {
	list, _ := object.at(path...).([]any)
	return list
}

// one gives the only object of a kind, or the one of that name.
func one(t *testing.T, all []Object, kind, name string) Object {
	t.Helper()
	var found []Object
	for _, object := range all {
		if object.kind() == kind && (name == "" || object.name() == name) {
			found = append(found, object)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects %s %s", len(found), kind, name)
	}
	return found[0]
}

func hasKind(all []Object, kind string) bool {
	for _, object := range all {
		if object.kind() == kind {
			return true
		}
	}
	return false
}

// selects says whether a map of labels selects these.
func selects(selector, labels any) bool {
	wanted, _ := selector.(map[string]any)
	has, _ := labels.(map[string]any)
	for key, value := range wanted {
		if has[key] != value {
			return false
		}
	}
	return len(wanted) > 0
}

func TestMain(m *testing.M) {
	for _, program := range helms {
		if _, err := os.Stat(program); err != nil {
			fmt.Fprintf(os.Stderr, "%s is not there: run tools/install.sh helm\n", program)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
