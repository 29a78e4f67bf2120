package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// each runs a test for every case.
func each(t *testing.T, test func(t *testing.T, c Case)) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			test(t, c.fill())
		})
	}
}

func TestEveryHelmRendersTheSameAndAlwaysDoes(t *testing.T) {
	// Helm 3 and 4 differ in empty lines, and in nothing that an API server sees.
	blank := regexp.MustCompile(`\n\n+`)
	each(t, func(t *testing.T, c Case) {
		var first string
		for i, program := range []string{helms[0], helms[1], helms[0]} {
			text, err := c.text(program)
			if err != nil {
				t.Fatal(err)
			}
			text = blank.ReplaceAllString(strings.TrimSpace(text), "\n")
			if i == 0 {
				first = text
			} else if text != first {
				t.Errorf("%s renders something else:\n%s", program, difference(first, text))
			}
		}
	})
}

// difference is the first line in which two texts differ.
func difference(one, other string) string {
	ours, theirs := strings.Split(one, "\n"), strings.Split(other, "\n")
	for i := range min(len(ours), len(theirs)) {
		if ours[i] != theirs[i] {
			return fmt.Sprintf("line %d:\n- %s\n+ %s", i+1, ours[i], theirs[i])
		}
	}
	return fmt.Sprintf("%d lines, and %d", len(ours), len(theirs))
}

func TestHelmLintIsContent(t *testing.T) {
	each(t, func(t *testing.T, c Case) {
		for _, program := range helms {
			arguments := append([]string{"lint", "--strict", chart, "--namespace", c.namespace}, c.flags...)
			if _, err := helm(program, arguments...); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestNamesAreShortAndNobodyElseS(t *testing.T) {
	each(t, func(t *testing.T, c Case) {
		seen := map[string]bool{}
		for _, object := range c.objects(t) {
			if seen[object.id()] {
				t.Errorf("%s is there twice", object.id())
			}
			seen[object.id()] = true
			if name := object.name(); len(name) > 63 || !regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`).MatchString(name) {
				t.Errorf("%s: its name has %d characters, or others than it may", object.id(), len(name))
			}
			labels, _ := object.at("metadata", "labels").(map[string]any)
			for key, value := range labels {
				if text, _ := value.(string); len(text) > 63 || text == "" {
					t.Errorf("%s: label %s is %q", object.id(), key, value)
				}
			}
		}
		for _, kind := range []string{"Deployment", "ClusterRole"} {
			if object := "/" + c.called; kind == "Deployment" && !seen[kind+" "+c.place+object] {
				t.Errorf("there is no %s %s%s: %v", kind, c.place, object, seen)
			}
		}
	})
}

var clusterScoped = []string{"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "MutatingWebhookConfiguration"}

func TestEveryObjectHasItsLabelsAndItsNamespace(t *testing.T) {
	each(t, func(t *testing.T, c Case) {
		for _, object := range c.objects(t) {
			if slices.Contains([]string{"map", "text"}, object.name()) {
				continue // of extraObjects
			}
			labels, _ := object.at("metadata", "labels").(map[string]any)
			want := map[string]string{
				"app.kubernetes.io/instance": c.release, "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/part-of": "oauth-operator",
				"app.kubernetes.io/version": "0.1.0", "helm.sh/chart": "oauth-operator-0.1.0",
			}
			if strings.Contains(strings.Join(c.flags, " "), "everything") {
				want["team"] = "platform"
				if object.at("metadata", "annotations", "example.com/owner") != "platform" {
					t.Errorf("%s lacks commonAnnotations", object.id())
				}
			}
			for key, value := range want {
				if labels[key] != value {
					t.Errorf("%s: label %s is %v, and not %s", object.id(), key, labels[key], value)
				}
			}
			for _, key := range []string{"app.kubernetes.io/name", "app.kubernetes.io/component"} {
				if labels[key] == nil {
					t.Errorf("%s lacks the label %s", object.id(), key)
				}
			}
			if slices.Contains(clusterScoped, object.kind()) != (object.namespace() == "") {
				t.Errorf("%s: a namespace where there is none, or the other way round", object.id())
			}
			apart := object.kind() == "Role" || object.kind() == "RoleBinding"
			if object.namespace() != "" && object.namespace() != c.place && !apart {
				t.Errorf("%s is not in %s", object.id(), c.place)
			}
		}
	})
}

func TestServicesAndBudgetsSelectTheOperatorSPodsAndNoOthers(t *testing.T) {
	each(t, func(t *testing.T, c Case) {
		all := c.objects(t)
		deployment := one(t, all, "Deployment", "")
		labels := deployment.at("spec", "template", "metadata", "labels")
		test := one(t, all, "Pod", "").at("metadata", "labels")
		selectors := map[string]any{deployment.id(): deployment.at("spec", "selector", "matchLabels")}
		for _, object := range all {
			switch object.kind() {
			case "Service":
				selectors[object.id()] = object.at("spec", "selector")
				for i := range object.list("spec", "ports") {
					target := object.at("spec", "ports", i, "targetPort")
					if !hasPort(deployment, target) {
						t.Errorf("%s leads to the port %v, which no container has", object.id(), target)
					}
				}
			case "PodDisruptionBudget":
				selectors[object.id()] = object.at("spec", "selector", "matchLabels")
			case "NetworkPolicy":
				selectors[object.id()] = object.at("spec", "podSelector", "matchLabels")
			}
		}
		for i := range deployment.list("spec", "template", "spec", "topologySpreadConstraints") {
			selectors[fmt.Sprint("constraint ", i)] = deployment.at("spec", "template", "spec", "topologySpreadConstraints", i, "labelSelector", "matchLabels")
		}
		for id, selector := range selectors {
			if !selects(selector, labels) {
				t.Errorf("%s does not select the operator: %v", id, selector)
			}
			if selects(selector, test) {
				t.Errorf("%s selects the Pod of helm test: %v", id, selector)
			}
		}
		one(t, all, "Service", "oauth-operator")
	})
}

// `helm test` asks a Service that there is, at a port that leads to the probes, and a NetworkPolicy lets it.
func TestHelmTestAsksWhetherTheOperatorIsReadyAndIsLetThrough(t *testing.T) {
	each(t, func(t *testing.T, c Case) {
		all := c.objects(t)
		test := one(t, all, "Pod", "")
		arguments := test.list("spec", "containers", 0, "args")
		if len(metricsServices(all)) == 0 {
			if !reflect.DeepEqual(arguments, []any{"--version"}) {
				t.Errorf("without a Service: %v", arguments)
			}
		} else {
			service := metricsServices(all)[0]
			url := fmt.Sprintf("--url=http://%s.%s.svc:%v/readyz", service.name(), service.namespace(), service.at("spec", "ports", 0, "port"))
			if want := []any{"probe", "--timeout-seconds=60", url}; !reflect.DeepEqual(arguments, want) {
				t.Errorf("%v and not %v", arguments, want)
			}
		}
		if !hasKind(all, "NetworkPolicy") {
			return
		}
		policy := one(t, all, "NetworkPolicy", "")
		if policy.namespace() != test.namespace() {
			t.Errorf("the test is in %s, where no peer of %s is", test.namespace(), policy.id())
		}
		for i := range policy.list("spec", "ingress") {
			rule := policy.at("spec", "ingress", i)
			if at(rule, "ports", 0, "port") != "metrics" {
				continue
			}
			peers, limited := at(rule, "from").([]any)
			permitted := !limited
			for _, peer := range peers {
				permitted = permitted || at(peer, "namespaceSelector") == nil && selects(at(peer, "podSelector", "matchLabels"), test.at("metadata", "labels"))
			}
			if !permitted {
				t.Errorf("%s keeps helm test out: %v", policy.id(), peers)
			}
		}
	})
}

// metricsServices are the Services that lead to the metrics, of the operator.
func metricsServices(all []Object) []Object {
	var found []Object
	for _, object := range all {
		if object.kind() == "Service" && object.at("spec", "ports", 0, "targetPort") == "metrics" {
			found = append(found, object)
		}
	}
	return found
}

func hasPort(deployment Object, name any) bool {
	for i := range deployment.list("spec", "template", "spec", "containers", 0, "ports") {
		if deployment.at("spec", "template", "spec", "containers", 0, "ports", i, "name") == name {
			return true
		}
	}
	return false
}

// The fields of the Pod Security Standard "restricted", of 1.36. That an API server thinks so too is tried in live/.
func TestEveryPodIsRestrictedAndLeavesItsUserToTheImage(t *testing.T) {
	each(t, func(t *testing.T, c Case) {
		for _, object := range c.objects(t) {
			spec := object.at("spec")
			if object.kind() == "Deployment" {
				spec = object.at("spec", "template", "spec")
			} else if object.kind() != "Pod" {
				continue
			}
			for _, field := range []string{"hostNetwork", "hostPID", "hostIPC"} {
				if at(spec, field) != nil {
					t.Errorf("%s: %s", object.id(), field)
				}
			}
			pod := at(spec, "securityContext")
			if at(pod, "runAsNonRoot") != true || at(pod, "seccompProfile", "type") != "RuntimeDefault" {
				t.Errorf("%s: securityContext %v", object.id(), pod)
			}
			containers, _ := at(spec, "containers").([]any)
			for _, container := range containers {
				context := at(container, "securityContext")
				if at(context, "allowPrivilegeEscalation") != false || at(context, "readOnlyRootFilesystem") != true || at(context, "privileged") != nil ||
					!reflect.DeepEqual(at(context, "capabilities"), map[string]any{"drop": []any{"ALL"}}) {
					t.Errorf("%s: securityContext of a container %v", object.id(), context)
				}
				for _, where := range []any{pod, context} {
					for _, field := range []string{"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"} {
						if at(where, field) != nil {
							t.Errorf("%s: %s is written down, which OpenShift refuses", object.id(), field)
						}
					}
				}
				limits, requests := at(container, "resources", "limits", "memory"), at(container, "resources", "requests", "cpu")
				if at(container, "name") != "beside" && (limits == nil || requests == nil) {
					t.Errorf("%s: a container without limits: %v", object.id(), at(container, "resources"))
				}
			}
			volumes, _ := at(spec, "volumes").([]any)
			for _, volume := range volumes {
				keyring := at(volume, "name") == "keyring" && at(volume, "secret") != nil
				if at(volume, "emptyDir") == nil && at(volume, "configMap") == nil && !keyring {
					t.Errorf("%s: volume %v", object.id(), volume)
				}
			}
		}
	})
}

func TestImagesComeFromWhereTheyAreMeantTo(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for name, want := range map[string]string{
		"defaults":   "ghcr.io/oauth-operator/oauth-operator:0.1.0",
		"OpenShift":  "image-registry.openshift-image-registry.svc:5000/oauth-operator/oauth-operator:0.1.0",
		"a mirror":   "mirror.example.com:5000/oauth-operator/oauth-operator:1.2.3",
		"a digest":   "ghcr.io/oauth-operator/oauth-operator@" + digest,
		"everything": "mirror.example.com:5000/oauth-operator/oauth-operator:0.1.0",
	} {
		all := named(t, name).objects(t)
		for _, got := range []any{
			one(t, all, "Deployment", "").at("spec", "template", "spec", "containers", 0, "image"),
			one(t, all, "Pod", "").at("spec", "containers", 0, "image"),
		} {
			if got != want {
				t.Errorf("%s: %v and not %s", name, got, want)
			}
		}
	}
	bare := named(t, "defaults").with("image.registry=", "image.repository=oauth-operator").objects(t)
	if got := one(t, bare, "Deployment", "").at("spec", "template", "spec", "containers", 0, "image"); got != "oauth-operator:0.1.0" {
		t.Errorf("without a registry: %v", got)
	}
	all := named(t, "everything").objects(t)
	deployment := one(t, all, "Deployment", "")
	secrets := deployment.at("spec", "template", "spec", "imagePullSecrets")
	if want := []any{map[string]any{"name": "mirror"}, map[string]any{"name": "other"}}; !reflect.DeepEqual(secrets, want) {
		t.Errorf("imagePullSecrets %v", secrets)
	}
	want := "mirror.example.com:5000/oauth-operator/oauth-proxy:0.1.0"
	if got := environment(deployment)["OAUTH_OPERATOR_PROXY_IMAGE"]; got != want {
		t.Errorf("the sidecar's image is %v", got)
	}
}

func environment(deployment Object) map[string]any {
	all := map[string]any{}
	for _, one := range deployment.list("spec", "template", "spec", "containers", 0, "env") {
		all[at(one, "name").(string)] = at(one, "value")
	}
	return all
}

func TestValuesBecomeFlags(t *testing.T) {
	arguments := func(name string) []any {
		return one(t, named(t, name).objects(t), "Deployment", "").list("spec", "template", "spec", "containers", 0, "args")
	}
	if got := arguments("defaults"); got != nil {
		t.Errorf("defaults are the operator's own: %v", got)
	}
	want := []any{
		"--allowed-cidrs=10.1.0.0/16,fd00::/8", "--require-token-hosts", "--allow-password-grant", "--consent-url=https://connect.example.com",
		"--orphan-grace-seconds=3600", "--max-concurrent-steps=64", "--log-level=info,oauth_operator=debug", "--log-format=json", "--identity=a",
	}
	if got := arguments("everything"); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if got := arguments("some namespaces"); !reflect.DeepEqual(got, []any{"--watch-namespaces=apps,shop"}) {
		t.Errorf("%v", got)
	}
}

// right is one line of what somebody may do: a verb on a resource, and the name where there is one.
func rights(rules []any) []string {
	var all []string
	for _, rule := range rules {
		for _, group := range at(rule, "apiGroups").([]any) {
			for _, resource := range at(rule, "resources").([]any) {
				for _, verb := range at(rule, "verbs").([]any) {
					line := fmt.Sprintf("%v %v.%v", verb, resource, group)
					if names, has := at(rule, "resourceNames").([]any); has {
						line += fmt.Sprint(" ", names)
					}
					all = append(all, line)
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func lines(text string) []string {
	var all []string
	for _, line := range strings.Split(text, "\n") {
		subject, verbs, found := strings.Cut(strings.TrimSpace(line), ": ")
		if !found {
			continue
		}
		for _, verb := range strings.Fields(verbs) {
			resource, name, named := strings.Cut(subject, " ")
			if named {
				resource += " [" + name + "]"
			}
			all = append(all, verb+" "+resource)
		}
	}
	slices.Sort(all)
	return all
}

// Written down a second time, on purpose: whoever gives the operator another right says so here too.
var (
	inTenants = lines(`
		oauthaccounts.oauth-operator.dev: get list watch
		oauthaccounts/status.oauth-operator.dev: patch
		workflows.oauth-operator.dev: get list watch
		workflows/status.oauth-operator.dev: patch
		workflowruns/status.oauth-operator.dev: patch
		workflowruns.oauth-operator.dev: get list watch create delete
		controllerrevisions.apps: get list create delete
		secrets.: get list watch create update patch delete
		configmaps.: get list watch create
		configmaps. oauth-operator-ca: update
		pods.: get
		localsubjectaccessreviews.authorization.k8s.io: create
		events.events.k8s.io: create patch`)
	atHome = lines(`
		secrets.: get list watch create update delete
		configmaps.: create
		configmaps. oauth-operator-ca: get update
		leases.coordination.k8s.io: create
		leases.coordination.k8s.io oauth-operator: get update`)
	tokenReview = lines("tokenreviews.authentication.k8s.io: create")
	restarts    = lines("deployments.apps: patch\nstatefulsets.apps: patch\ndaemonsets.apps: patch")
	identities  = lines("serviceaccounts.: get\nserviceaccounts/token.: create")
	webhook     = lines("mutatingwebhookconfigurations.admissionregistration.k8s.io oauth-operator-injection: get patch")
	view        = lines("oauthaccounts.oauth-operator.dev: get list watch\nworkflows.oauth-operator.dev: get list watch")
	viewRuns    = lines("workflowruns.oauth-operator.dev: get list watch")
	edit        = lines(`
		oauthaccounts.oauth-operator.dev: create update patch delete deletecollection authorize refresh
		workflows.oauth-operator.dev: create update patch delete deletecollection
		workflowruns.oauth-operator.dev: create update patch delete deletecollection`)
	people = map[string][]string{
		"ClusterRole /oauth-operator-view":      view,
		"ClusterRole /oauth-operator-view-runs": viewRuns,
		"ClusterRole /oauth-operator-edit":      edit,
	}
)

func TestRightsAreTheseAndNoOthers(t *testing.T) {
	home := "oauth-operator-system/oauth-operator"
	for name, want := range map[string]map[string][]string{
		"defaults": {
			"ClusterRole /oauth-operator": inTenants, "Role " + home: atHome, "ClusterRole /oauth-operator-token-review": tokenReview,
		},
		"some namespaces": {
			"ClusterRole /oauth-operator": inTenants, "Role " + home: atHome, "ClusterRole /oauth-operator-token-review": tokenReview,
			"ClusterRole /oauth-operator-restart-targets": restarts, "ClusterRole /oauth-operator-workload-identity": identities,
		},
		"namespaced": {
			"Role apps/oauth-operator-accounts": inTenants, "Role shop/oauth-operator-accounts": inTenants, "Role " + home: atHome,
		},
		"namespaced, with all that it can have": {
			"Role apps/oauth-operator-accounts": inTenants, "Role " + home: atHome,
			"Role apps/oauth-operator-restart-targets": restarts, "Role apps/oauth-operator-workload-identity": identities,
		},
		"its own namespace served": {
			"Role oauth-operator-system/oauth-operator-accounts": inTenants, "Role " + home: atHome,
		},
		"everything": {
			"ClusterRole /oauth-operator": inTenants, "Role " + home: atHome, "ClusterRole /oauth-operator-token-review": tokenReview,
			"ClusterRole /oauth-operator-restart-targets": restarts, "ClusterRole /oauth-operator-workload-identity": identities,
			"ClusterRole /oauth-operator-consent": tokenReview, "ClusterRole /oauth-operator-injection": webhook,
		},
		"rights of somebody else's": {},
	} {
		t.Run(name, func(t *testing.T) {
			if want["ClusterRole /oauth-operator"] != nil {
				for role, rights := range people {
					want[role] = rights
				}
			}
			got := map[string][]string{}
			for _, object := range named(t, name).objects(t) {
				if object.kind() == "Role" || object.kind() == "ClusterRole" {
					got[object.id()] = rights(object.list("rules"))
				}
			}
			for id := range want {
				for _, right := range want[id] {
					if !slices.Contains(got[id], right) {
						t.Errorf("%s lacks: %s", id, right)
					}
				}
				for _, right := range got[id] {
					if !slices.Contains(want[id], right) {
						t.Errorf("%s should not have: %s", id, right)
					}
				}
			}
			for id := range got {
				if want[id] == nil {
					t.Errorf("%s: nobody has written down that there is one", id)
				}
			}
		})
	}
}

func TestRolesAreBoundToTheOperatorWhereItServes(t *testing.T) {
	each(t, func(t *testing.T, c Case) {
		all := c.objects(t)
		account := one(t, all, "Deployment", "").word("spec", "template", "spec", "serviceAccountName")
		roles := map[string]bool{}
		for _, object := range all {
			if object.kind() == "Role" || object.kind() == "ClusterRole" {
				roles[object.id()] = false
			}
			if strings.Contains(object.text, "*") && strings.Contains(object.kind(), "Role") {
				t.Errorf("%s: a wildcard", object.id())
			}
		}
		for _, object := range all {
			if !strings.HasSuffix(object.kind(), "RoleBinding") {
				continue
			}
			role := object.word("roleRef", "kind") + " /" + object.word("roleRef", "name")
			if object.word("roleRef", "kind") == "Role" {
				role = strings.Replace(role, "/", object.namespace()+"/", 1)
			}
			if _, there := roles[role]; !there {
				t.Errorf("%s binds %s, which is not there", object.id(), role)
			}
			roles[role] = true
			want := []any{map[string]any{"kind": "ServiceAccount", "name": account, "namespace": c.place}}
			if !reflect.DeepEqual(object.at("subjects"), want) {
				t.Errorf("%s is for %v", object.id(), object.at("subjects"))
			}
		}
		for role, bound := range roles {
			ofPeople := regexp.MustCompile("-(view|view-runs|edit)$").MatchString(role)
			if bound == ofPeople {
				t.Errorf("%s: bound %v", role, bound)
			}
		}
		if c.name == "rights of somebody else's" {
			if len(roles) != 0 || account != "theirs" {
				t.Errorf("%v, %s", roles, account)
			}
		} else {
			one(t, all, "ServiceAccount", account)
		}
	})
	in := func(name string) map[string]int {
		counted := map[string]int{}
		for _, object := range named(t, name).objects(t) {
			if object.word("roleRef", "name") == "oauth-operator" {
				counted[object.kind()+" "+object.namespace()]++
			}
		}
		return counted
	}
	if got := in("defaults"); !reflect.DeepEqual(got, map[string]int{"ClusterRoleBinding ": 1, "RoleBinding oauth-operator-system": 1}) {
		t.Error(got)
	}
	want := map[string]int{"RoleBinding apps": 1, "RoleBinding shop": 1, "RoleBinding oauth-operator-system": 1}
	if got := in("some namespaces"); !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
}

func TestNamespacedMeansThatNothingBelongsToTheCluster(t *testing.T) {
	for _, name := range []string{"namespaced", "namespaced, with all that it can have", "its own namespace served"} {
		for _, object := range named(t, name).objects(t) {
			if slices.Contains(clusterScoped, object.kind()) && object.kind() != "CustomResourceDefinition" {
				t.Errorf("%s: %s", name, object.id())
			}
		}
	}
	if hasKind(named(t, "namespaced, with all that it can have").objects(t), "CustomResourceDefinition") {
		t.Error("crds.enabled is false")
	}
}

func TestAggregationIsAsItIsAskedFor(t *testing.T) {
	aggregated := func(set ...string) string {
		var all []string
		for _, object := range named(t, "defaults").with(set...).objects(t) {
			for key := range object.at("metadata", "labels").(map[string]any) {
				if to, found := strings.CutPrefix(key, "rbac.authorization.k8s.io/aggregate-to-"); found {
					all = append(all, strings.TrimPrefix(object.name(), "oauth-operator-")+">"+to)
				}
			}
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	for set, want := range map[string]string{
		"rbac.create=true":            "edit>admin edit>edit view-runs>admin view-runs>edit view>admin view>edit view>view",
		"rbac.aggregateToView=false":  "edit>admin edit>edit view-runs>admin view-runs>edit view>admin view>edit",
		"rbac.aggregateToEdit=false":  "edit>admin view-runs>admin view>admin view>view",
		"rbac.aggregateToAdmin=false": "edit>edit view-runs>edit view>edit view>view",
	} {
		if got := aggregated(set); got != want {
			t.Errorf("%s: %s", set, got)
		}
	}
}

func TestCRDsAreThoseOfTheSourcesAndStaySmall(t *testing.T) {
	kept := map[string]any{"defaults": "keep", "nothing kept": nil, "everything": "keep"}
	for name, policy := range kept {
		seen := 0
		for _, object := range named(t, name).objects(t) {
			if object.kind() != "CustomResourceDefinition" {
				continue
			}
			seen++
			if len(object.text) > 100_000 {
				t.Errorf("%s has %d bytes", object.id(), len(object.text))
			}
			if got := object.at("metadata", "annotations", "helm.sh/resource-policy"); got != policy {
				t.Errorf("%s: %s: policy %v", name, object.id(), got)
			}
			plural, _, _ := strings.Cut(object.name(), ".")
			text, err := os.ReadFile(filepath.Join(root, "crds", plural+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			var source map[string]any
			if err := yaml.Unmarshal(text, &source); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(object.at("spec"), source["spec"]) {
				t.Errorf("%s is not what crds/%s.yaml says: run `make chart`", object.id(), plural)
			}
		}
		if files, _ := filepath.Glob(filepath.Join(root, "crds", "*.yaml")); seen != len(files) || seen == 0 {
			t.Errorf("%s: %d CRDs, and %d files", name, seen, len(files))
		}
	}
}

func TestTheWebhookCannotStopPodsAndBringsNoCABundle(t *testing.T) {
	if hasKind(named(t, "defaults").objects(t), "MutatingWebhookConfiguration") {
		t.Error("it is on by itself")
	}
	configuration := one(t, named(t, "everything").objects(t), "MutatingWebhookConfiguration", "")
	if strings.Contains(strings.SplitN(configuration.text, "apiVersion", 2)[1], "caBundle") {
		t.Error("a caBundle is rendered, which an upgrade would put in the place of the operator's")
	}
	hook := configuration.list("webhooks")[0]
	if at(hook, "reinvocationPolicy") != "IfNeeded" {
		t.Errorf("what other webhooks add is not seen: %v", hook)
	}
	if at(hook, "failurePolicy") != "Ignore" || at(hook, "sideEffects") != "None" || at(hook, "clientConfig", "service", "name") != "oauth-operator" {
		t.Errorf("%v", hook)
	}
	var excluded []any
	for _, expression := range at(hook, "namespaceSelector", "matchExpressions").([]any) {
		if at(expression, "key") == "kubernetes.io/metadata.name" && at(expression, "operator") == "NotIn" {
			excluded = at(expression, "values").([]any)
		}
	}
	for _, namespace := range []any{"kube-system", "oauth-operator-system"} {
		if !slices.Contains(excluded, namespace) {
			t.Errorf("%v is not excluded: %v", namespace, excluded)
		}
	}
	limited := one(t, named(t, "defaults").with("watchNamespaces={apps,shop}", "injection.enabled=true").objects(t), "MutatingWebhookConfiguration", "").list("webhooks")[0]
	var served []any
	for _, expression := range at(limited, "namespaceSelector", "matchExpressions").([]any) {
		if at(expression, "key") == "kubernetes.io/metadata.name" && at(expression, "operator") == "In" {
			served = at(expression, "values").([]any)
		}
	}
	if !slices.Equal(served, []any{"apps", "shop"}) {
		t.Errorf("Pods of namespaces that the operator does not serve are shown to it: %v", limited)
	}
	if at(hook, "namespaceSelector", "matchLabels", "example.com/sidecars") != "allowed" {
		t.Errorf("injection.namespaceSelector is lost: %v", at(hook, "namespaceSelector"))
	}
	expressions := at(hook, "objectSelector", "matchExpressions").([]any)
	if len(expressions) != 2 || at(expressions, 0, "key") != "oauth-operator.dev/inject" || at(expressions, 1, "key") != "example.com/no-sidecar" {
		t.Errorf("objectSelector %v", expressions)
	}
}

func TestMonitorsFindWhatTheyAreFor(t *testing.T) {
	all := named(t, "everything").objects(t)
	monitor := one(t, all, "ServiceMonitor", "")
	for _, object := range all {
		if object.kind() != "Service" {
			continue
		}
		found := selects(monitor.at("spec", "selector", "matchLabels"), object.at("metadata", "labels"))
		if found != (object.name() == "oauth-operator-metrics") {
			t.Errorf("the ServiceMonitor finds %s: %v", object.id(), found)
		}
	}
	if port := monitor.at("spec", "endpoints", 0, "port"); port != one(t, all, "Service", "oauth-operator-metrics").at("spec", "ports", 0, "name") {
		t.Errorf("its port is %v", port)
	}
	if monitor.at("spec", "endpoints", 0, "honorLabels") != true || monitor.at("metadata", "labels", "release") != "prometheus" {
		t.Errorf("%v", monitor.fields)
	}
	if annotations := one(t, all, "Deployment", "").at("spec", "template", "metadata", "annotations"); at(annotations, "prometheus.io/scrape") != nil {
		t.Errorf("scraped twice: %v", annotations)
	}
	sidecars, err := os.ReadFile(filepath.Join(root, "deploy", "proxy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	port := one(t, all, "PodMonitor", "").at("spec", "podMetricsEndpoints", 0, "port")
	if !strings.Contains(string(sidecars), fmt.Sprintf("- name: %v\n", port)) {
		t.Errorf("no sidecar has the port %v", port)
	}
	if groups := one(t, all, "PrometheusRule", "").list("spec", "groups"); len(groups) == 0 {
		t.Error("no rules")
	}
	dashboard := one(t, all, "ConfigMap", "oauth-operator-dashboard")
	if dashboard.at("metadata", "labels", "grafana_dashboard") != "1" {
		t.Error("Grafana's sidecar does not find the dashboard")
	}
	source, err := os.ReadFile(filepath.Join(chart, "files", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	if dashboard.word("data", "oauth-operator.json") != strings.TrimSpace(string(source)) {
		t.Error("the dashboard is not the file's")
	}
}

func TestMistakesAreToldInASentence(t *testing.T) {
	for set, words := range map[string]string{
		"replicaCounts=2":                        "additional properties 'replicaCounts' not allowed",
		"image.repo=x":                           "additional properties 'repo' not allowed",
		"metrics.serviceMonitor.intervall=1s":    "additional properties 'intervall' not allowed",
		"resources.limit.memory=1Gi":             "additional properties 'limit' not allowed",
		"replicaCount=two":                       "'/replicaCount': got string, want integer",
		"watchNamespaces=apps":                   "'/watchNamespaces': got string, want array",
		"watchNamespaces={Apps}":                 "'/watchNamespaces/0'",
		"rbac.scope=Namespace":                   "value must be one of 'Cluster', 'Namespaced'",
		"consent.url=http://connect.example.com": "'/consent/url'",
		"image.digest=latest":                    "'/image/digest'",
		"leaderElection.enabled=false":           "'/leaderElection/enabled': value must be true",
		"terminationGracePeriodSeconds=5":        "minimum: got 5, want 30",
		"allowedCIDRs={10.1.0.0}":                "'/allowedCIDRs/0'",
		"commonLabels.a=true":                    "got boolean, want string",
		"rbac.scope=Namespaced":                  "say in watchNamespaces which namespaces the operator serves",
		"rbac.scope=Namespaced,watchNamespaces={apps},injection.enabled=true":                                      "injection.enabled needs rbac.scope Cluster",
		"podDisruptionBudget.enabled=true,podDisruptionBudget.minAvailable=1,podDisruptionBudget.maxUnavailable=1": "not both",
		"metrics.serviceMonitor.enabled=true,metrics.service.enabled=false":                                        "needs metrics.service.enabled",
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			for _, program := range helms {
				_, err := named(t, "defaults").with(set).text(program)
				if err == nil {
					t.Errorf("%s takes it", program)
				} else if !strings.Contains(err.Error(), words) {
					t.Errorf("%s does not say %q: %v", program, words, err)
				}
			}
		})
	}
	// A chart that depends on this one may have keys of its own there, and a condition.
	if _, err := named(t, "defaults").with("global.storageClass=fast", "enabled=true").text(helms[0]); err != nil {
		t.Error(err)
	}
}

func TestWhatIsGeneratedIsWhatTheChartSays(t *testing.T) {
	kept := []string{"charts/oauth-operator/README.md", "charts/oauth-operator/values.schema.json", "docs/permissions.md"}
	for _, manifest := range manifests {
		kept = append(kept, "deploy/"+manifest.file)
	}
	copy := t.TempDir()
	for _, folder := range []string{"charts", "crds", "deploy", "docs"} {
		if err := os.CopyFS(filepath.Join(copy, folder), os.DirFS(filepath.Join(root, folder))); err != nil {
			t.Fatal(err)
		}
	}
	tools, err := filepath.Abs(filepath.Join(root, "target", "tools"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(copy, "target"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(tools, filepath.Join(copy, "target", "tools")); err != nil {
		t.Fatal(err)
	}
	if err := write(copy); err != nil {
		t.Fatal(err)
	}
	for _, file := range kept {
		committed, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		made, err := os.ReadFile(filepath.Join(copy, file))
		if err != nil {
			t.Fatal(err)
		}
		if string(committed) != string(made) {
			t.Errorf("%s is not what the chart says, run `make chart`: %s", file, difference(string(committed), string(made)))
		}
	}
}
