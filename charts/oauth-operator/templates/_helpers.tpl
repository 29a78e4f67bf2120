{{- define "oauth-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the objects: the release's, with the chart's where that does not say it. */}}
{{- define "oauth-operator.fullname" -}}
{{- $name := include "oauth-operator.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The same with a suffix, which is never cut off. Arguments: root, suffix. */}}
{{- define "oauth-operator.suffixed" -}}
{{- $room := sub 62 (len .suffix) | int -}}
{{- printf "%s-%s" (include "oauth-operator.fullname" .root | trunc $room | trimSuffix "-") .suffix -}}
{{- end -}}

{{- define "oauth-operator.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "oauth-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "oauth-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "oauth-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "oauth-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of an object. Arguments: root, component (operator without it), labels (more of them). */}}
{{- define "oauth-operator.labels" -}}
{{- $labels := dict
  "app.kubernetes.io/name" (include "oauth-operator.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/component" (default "operator" .component)
  "app.kubernetes.io/part-of" "oauth-operator"
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) (deepCopy (default dict .labels)) $labels) -}}
{{- end -}}

{{/* metadata of an object. Arguments: root, name, and where there are any: namespace, component, labels, annotations. */}}
{{- define "oauth-operator.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "oauth-operator.labels" . | nindent 2 }}
{{- with mergeOverwrite (deepCopy .root.Values.commonAnnotations) (deepCopy (default dict .annotations)) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where an image is. Arguments: root, image. */}}
{{- define "oauth-operator.image" -}}
{{- $registry := default .image.registry .root.Values.global.imageRegistry -}}
{{- $place := empty $registry | ternary .image.repository (printf "%s/%s" $registry .image.repository) -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $place .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $place (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "oauth-operator.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range .Values.imagePullSecrets -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- with $secrets }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Who the operator is, as a binding names it. */}}
{{- define "oauth-operator.subjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "oauth-operator.serviceAccountName" . }}
  namespace: {{ include "oauth-operator.namespace" . }}
{{- end -}}

{{/*
Rights in the namespaces that the operator serves. As scope and watchNamespaces say: a ClusterRole bound everywhere, a ClusterRole bound in
some namespaces, or a Role in each. Arguments: root, name, local (its name in a namespace), why (a comment), rules (a template's name).
*/}}
{{- define "oauth-operator.rights" -}}
{{- $root := .root -}}
{{- $arguments := . -}}
{{- $roles := eq $root.Values.rbac.scope "Namespaced" -}}
{{- if not $roles -}}
{{ .why }}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  {{- include "oauth-operator.metadata" (dict "root" $root "name" .name) | nindent 2 }}
rules:
{{ include .rules $root }}
{{- end }}
{{- if not (or $roles $root.Values.watchNamespaces) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  {{- include "oauth-operator.metadata" (dict "root" $root "name" .name) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ .name }}
{{ include "oauth-operator.subjects" $root }}
{{- end }}
{{- range $namespace := $root.Values.watchNamespaces }}
{{- with $arguments }}
{{- if $roles }}
---
{{ .why }}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "oauth-operator.metadata" (dict "root" $root "name" .local "namespace" $namespace) | nindent 2 }}
rules:
{{ include .rules $root }}
{{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "oauth-operator.metadata" (dict "root" $root "name" .local "namespace" $namespace) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $roles | ternary "Role" "ClusterRole" }}
  name: {{ $roles | ternary .local .name }}
{{ include "oauth-operator.subjects" $root }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What no schema can say. */}}
{{- define "oauth-operator.validate" -}}
{{- if eq .Values.rbac.scope "Namespaced" -}}
{{- if not .Values.watchNamespaces -}}
{{- fail "rbac.scope is Namespaced: say in watchNamespaces which namespaces the operator serves" -}}
{{- end -}}
{{- if .Values.injection.enabled -}}
{{- fail "injection.enabled needs rbac.scope Cluster: a webhook is an object of the whole cluster" -}}
{{- end -}}
{{- end -}}
{{- with .Values.podDisruptionBudget -}}
{{- if and .enabled (ne (toString .minAvailable) "") (ne (toString .maxUnavailable) "") -}}
{{- fail "podDisruptionBudget takes minAvailable or maxUnavailable, not both" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) -}}
{{- fail "metrics.serviceMonitor.enabled needs metrics.service.enabled: a ServiceMonitor finds Pods by their Service" -}}
{{- end -}}
{{- end -}}
