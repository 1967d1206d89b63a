{{- define "coterie.fullname" -}}
{{- if contains "coterie" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-coterie" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "coterie.operator" -}}
{{ include "coterie.fullname" . }}-operator
{{- end }}

{{- define "coterie.guard" -}}
{{ printf "%s.%s.coterie.chat" (include "coterie.fullname" .) .Release.Namespace }}
{{- end }}

{{- define "coterie.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "coterie.common" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: coterie
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: coterie
{{- end }}

{{- define "coterie.operator.selector" -}}
app.kubernetes.io/name: coterie
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "coterie.operator.labels" -}}
{{ include "coterie.common" . }}
app.kubernetes.io/component: operator
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
