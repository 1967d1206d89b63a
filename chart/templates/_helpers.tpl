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
{{- $found := int .Values.ring.replicas -}}
{{- range (include "coterie.rings" . | fromJson).items -}}
{{- if eq .metadata.name $.Values.ring.name }}{{ $found = int .spec.replicas }}{{ end -}}
{{- end -}}
{{ $found }}
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
  verbs: [get, list, watch, operate]  # operate: nothing of Kubernetes'; by that the guard knows an operator
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
{{- /* With --reuse-values there is nothing of what an older chart did not have. */}}
{{- $allow := .Values.allow | default dict -}}
{{- $secrets := $allow.imagePullSecrets | default list -}}
{{- range .Values.imagePullSecrets }}{{ $secrets = append $secrets .name }}{{ end -}}
{{/* An empty text is left out: the API server would drop it, and whoever applies the same again would meet a conflict. */}}
{{- with $allow.images }}
- {name: COTERIE_OPERATOR_ALLOW_IMAGES, value: {{ join "," . | quote }}}
{{- end }}
{{- with $secrets }}
- {name: COTERIE_OPERATOR_ALLOW_PULL_SECRETS, value: {{ join "," . | quote }}}
{{- end }}
{{- if $allow.hostNetwork }}
- {name: COTERIE_OPERATOR_ALLOW_HOST_NETWORK, value: "true"}
{{- end }}
{{- if $allow.controlPlane }}
- {name: COTERIE_OPERATOR_ALLOW_CONTROL_PLANE, value: "true"}
{{- end }}
{{- with $allow.serviceAnnotations }}
- {name: COTERIE_OPERATOR_ALLOW_SERVICE_ANNOTATIONS, value: {{ join "," . | quote }}}
{{- end }}
{{- with $allow.serviceTypes }}
- {name: COTERIE_OPERATOR_ALLOW_SERVICE_TYPES, value: {{ join "," . | quote }}}
{{- end }}
{{- if .Values.ring.enabled }}
{{- $ring := .Values.ring }}
{{- $spec := pick $ring "hostNetwork" "tolerations" "nodeSelector" "affinity" }}
{{- $_ := set $spec "service" (pick $ring.service "type" "annotations") }}
- {name: COTERIE_OPERATOR_OWN_RING, value: {{ dict "metadata" (dict "name" $ring.name) "spec" $spec | toJson | quote }}}
{{- end }}
{{- end }}

{{/*
Whether the cluster knows the kind Ring: "true", "false", or nothing when there is no cluster to ask (helm template). To look a kind
up that is not known is an error.
*/}}
{{- define "coterie.knows.rings" -}}
{{- if .Capabilities.APIVersions.Has "coterie.chat/v1alpha1/Ring" }}true{{ else if lookup "v1" "Namespace" "" "default" }}false{{ end }}
{{- end }}

{{/* The Rings of the namespace, as JSON. */}}
{{- define "coterie.rings" -}}
{{- if eq (include "coterie.knows.rings" .) "true" -}}
{{ lookup "coterie.chat/v1alpha1" "Ring" .Release.Namespace "" | toJson }}
{{- else -}}
{"items": []}
{{- end }}
{{- end }}

{{/* Which release an object belongs to, as NAMESPACE/NAME; without Helm's word, the object's own. */}}
{{- define "coterie.release" -}}
{{- $said := .metadata.annotations | default dict -}}
{{ get $said "meta.helm.sh/release-namespace" | default .metadata.namespace }}/{{ get $said "meta.helm.sh/release-name" | default .metadata.name }}
{{- end }}

{{/* Whether an object is of an operator of this chart. */}}
{{- define "coterie.is.operator" -}}
{{- $labels := .metadata.labels | default dict -}}
{{ and (eq (get $labels "app.kubernetes.io/name") "coterie") (eq (get $labels "app.kubernetes.io/component") "operator") }}
{{- end }}

{{/*
What others own (FIELDS, as in managedFields) and an upgrade would set to something else: (list LIVE OURS FIELDS PATH). Each
difference begins with a comma; nothing if there is none.
*/}}
{{- define "coterie.differences" -}}
{{- $live := index . 0 -}}
{{- $ours := index . 1 -}}
{{- $path := index . 3 -}}
{{- range $key, $below := index . 2 -}}
{{- if hasPrefix "f:" $key -}}
{{- $name := trimPrefix "f:" $key -}}
{{- if and (kindIs "map" $live) (kindIs "map" $ours) -}}
{{- if and (hasKey $live $name) (hasKey $ours $name) -}}
{{- $now := get $live $name -}}
{{- $then := get $ours $name -}}
{{- if $below -}}
{{ include "coterie.differences" (list $now $then $below (printf "%s.%s" $path $name)) }}
{{- else if ne (toJson $now) (toJson $then) -}}
, {{ trimPrefix "." (printf "%s.%s" $path $name) }} is {{ toJson $now | trunc 80 }} (here {{ toJson $then | trunc 80 }})
{{- end -}}
{{- end -}}
{{- end -}}
{{- else if and (hasPrefix "k:" $key) (kindIs "slice" $live) (kindIs "slice" $ours) -}}
{{- $is := fromJson (trimPrefix "k:" $key) -}}
{{- $now := include "coterie.element" (list $live $is) | fromJson -}}
{{- $then := include "coterie.element" (list $ours $is) | fromJson -}}
{{- include "coterie.differences" (list $now $then $below (printf "%s[%s]" $path (values $is | first | toString))) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The element of a list that has these values, as JSON: (list LIST VALUES). */}}
{{- define "coterie.element" -}}
{{- $found := dict -}}
{{- $is := index . 1 -}}
{{- range $one := index . 0 -}}
{{- $same := true -}}
{{- range $key, $value := $is -}}
{{- if ne (toJson (get $one $key)) (toJson $value) }}{{ $same = false }}{{ end -}}
{{- end -}}
{{- if $same }}{{ $found = $one }}{{ end -}}
{{- end -}}
{{ toJson $found }}
{{- end }}
