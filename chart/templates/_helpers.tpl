{{- define "coterie.fullname" -}}
{{- if contains "coterie" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-coterie" (.Release.Name | trunc 32 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "coterie.operator" -}}
{{ include "coterie.fullname" . }}-operator
{{- end }}

{{/* What belongs to the whole cluster needs a name that no other release has. */}}
{{- define "coterie.global" -}}
{{ .Release.Namespace }}-{{ include "coterie.operator" . }}
{{- end }}

{{- define "coterie.guard" -}}
{{ printf "%s.%s.coterie.chat" (include "coterie.fullname" .) .Release.Namespace }}
{{- end }}

{{- define "coterie.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Labels: (list $ COMPONENT). */}}
{{- define "coterie.labels" -}}
{{- $top := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: coterie
app.kubernetes.io/instance: {{ $top.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: coterie
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
{{- end }}

{{- define "coterie.operator.selector" -}}
app.kubernetes.io/name: coterie
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Whether pods are to be annotated for scraping: PodMonitors beside that would scrape each of them twice. */}}
{{- define "coterie.annotated" -}}
{{ if and .Values.monitoring.annotations (not .Values.monitoring.podMonitor.enabled) }}true{{ end }}
{{- end }}

{{- define "coterie.pod.security" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "coterie.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/*
How many nodes the ring has or is to have. A ring that lives keeps its size: it is `kubectl scale ring/…` that changes it,
not an upgrade of the chart. Without a cluster to look at (helm template) it is the value.
*/}}
{{- define "coterie.replicas" -}}
{{- $live := lookup "coterie.chat/v1alpha1" "Ring" .Release.Namespace .Values.ring.name -}}
{{- if $live }}{{ int $live.spec.replicas }}{{ else }}{{ int .Values.ring.replicas }}{{ end }}
{{- end }}

{{/*
Which hooks apply the CRD; nothing where none is needed. Helm installs what is in crds/ if it is not there, and never
upgrades it. The definition says which chart it is from: one that a newer chart has put there is left alone.
*/}}
{{- define "coterie.crd.hook" -}}
{{- $live := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "rings.coterie.chat" | default dict -}}
{{- $from := dig "metadata" "annotations" "coterie.chat/chart-version" "0.0.0" $live -}}
{{- $newer := gt ((semver $from).Compare (semver .Chart.Version)) 0 -}}
{{- if and .Values.crd.upgrade (not $newer) -}}
{{- if .Release.IsUpgrade }}pre-upgrade{{ else if and $live (ne $from .Chart.Version) }}pre-install{{ end }}
{{- end }}
{{- end }}

{{/* What the operator does, and no more. Names cannot be given: a Ring may be called anything. */}}
{{- define "coterie.rules" -}}
- apiGroups: [coterie.chat]
  resources: [rings]
  verbs: [get, list, watch]
- apiGroups: [coterie.chat]
  resources: [rings/status]
  verbs: [patch]
- apiGroups: [coterie.chat]
  resources: [rings/finalizers]  # to own what it makes, where OwnerReferencesPermissionEnforcement is on
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]  # delete: without its pods, so that claims may grow
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]  # delete: a pod whose volume is lost
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, patch, delete]  # patch: to grow; delete: a claim whose volume is lost
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create]
- apiGroups: [""]
  resources: [events]
  verbs: [list]  # why a claim is pending
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/*
What Rings may have besides what is only theirs. What this release gives its own ring is allowed to that ring, as it stands in
the values: whoever installs the operator may do more than whoever edits Rings.
*/}}
{{- define "coterie.permits" -}}
{{- $allow := .Values.allow -}}
{{- $secrets := $allow.imagePullSecrets -}}
{{- range .Values.imagePullSecrets }}{{ $secrets = append $secrets .name }}{{ end -}}
- {name: COTERIE_OPERATOR_ALLOW_IMAGES, value: {{ join "," $allow.images | quote }}}
- {name: COTERIE_OPERATOR_ALLOW_PULL_SECRETS, value: {{ join "," $secrets | quote }}}
- {name: COTERIE_OPERATOR_ALLOW_HOST_NETWORK, value: {{ $allow.hostNetwork | quote }}}
- {name: COTERIE_OPERATOR_ALLOW_CONTROL_PLANE, value: {{ $allow.controlPlane | quote }}}
- {name: COTERIE_OPERATOR_ALLOW_SERVICE_ANNOTATIONS, value: {{ join "," $allow.serviceAnnotations | quote }}}
- {name: COTERIE_OPERATOR_ALLOW_SERVICE_TYPES, value: {{ join "," $allow.serviceTypes | quote }}}
{{- if .Values.ring.enabled }}
{{- $ring := .Values.ring }}
{{- $spec := pick $ring "hostNetwork" "tolerations" "nodeSelector" "affinity" }}
{{- $_ := set $spec "service" (pick $ring.service "type" "annotations") }}
- {name: COTERIE_OPERATOR_OWN_RING, value: {{ dict "metadata" (dict "name" $ring.name) "spec" $spec | toJson | quote }}}
{{- end }}
{{- end }}
