{{- define "keymeter.name" -}}
{{- contains "keymeter" .Release.Name | ternary .Release.Name (printf "%s-keymeter" .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "keymeter.selector" -}}
app.kubernetes.io/name: keymeter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "keymeter.labels" -}}
{{ include "keymeter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "keymeter.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What a pod is allowed: nothing but its own volume. */}}
{{- define "keymeter.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* The secrets of Keymeter's own, one variable each; of those that a program needs. */}}
{{- define "keymeter.own" -}}
{{- $secret := .root.Values.secretName -}}
{{- range .keys }}
- name: {{ index . 0 }}
  valueFrom: { secretKeyRef: { name: {{ $secret | quote }}, key: {{ index . 1 }} } }
{{- end }}
{{- end }}

{{/* One program as a container. dict root, program, port, keys (its own secrets), isFleet */}}
{{- define "keymeter.container" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .program -}}
name: {{ .program }}
image: {{ include "keymeter.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
args: [{{ .program }}]
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
env:
  - { name: KEYMETER_HOST, value: "0.0.0.0" }
  - { name: KEYMETER_INNER_HOST, value: "0.0.0.0" }
  - { name: KEYMETER_DATA_DIR, value: /data }
  - { name: KEYMETER_CONFIG, value: /etc/keymeter/keymeter.yaml }
  - { name: KEYMETER_PROMETHEUS, value: "off" }
  - { name: KEYMETER_DRAIN_SECONDS, value: {{ $root.Values.drainSeconds | quote }} }
  {{- if and (eq .program "proxy") (not (dig "proxy" "pass_through" "" $root.Values.settings)) }}
  # On every address whoever has a provider key could pass through: settings.proxy.pass_through chooses otherwise.
  - { name: KEYMETER_PASS_THROUGH, value: "off" }
  {{- end }}
  {{- if .isFleet }}
  - { name: KEYMETER_PROXY_OPS_URL, value: "http://{{ include "keymeter.name" $root }}-proxy:4001" }
  - { name: KEYMETER_COLLECTOR_URL, value: "http://{{ include "keymeter.name" $root }}-collector:4002" }
  - { name: KEYMETER_ALERTS_URL, value: "http://{{ include "keymeter.name" $root }}-alerts:4003" }
  {{- end }}
  {{- if $root.Values.secretName }}
  {{- include "keymeter.own" (dict "root" $root "keys" .keys) | trim | nindent 2 }}
  {{- end }}
  {{- with $values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  {{- if eq .program "proxy" }}
  - { name: proxy, containerPort: 4000 }
  {{- end }}
  - { name: {{ .portName }}, containerPort: {{ .port }} }
startupProbe: { httpGet: { path: /readyz, port: {{ .portName }} }, periodSeconds: 2, failureThreshold: 60 }
{{- /* In one pod a collector that waits for a bill takes no proxy out of service. */}}
{{- if or .isFleet (eq .program "proxy") }}
readinessProbe: { httpGet: { path: /readyz, port: {{ .portName }} }, periodSeconds: 5, timeoutSeconds: 3 }
{{- end }}
livenessProbe: { httpGet: { path: /healthz, port: {{ .portName }} }, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 }
resources:
  {{- toYaml $values.resources | nindent 2 }}
volumeMounts:
  - { name: data, mountPath: /data }
  - { name: tmp, mountPath: /tmp }
  - { name: settings, mountPath: /etc/keymeter, readOnly: true }
  {{- if $root.Values.serviceAccount.tokenAudience }}
  - { name: account-token, mountPath: /var/run/secrets/keymeter, readOnly: true }
  {{- end }}
{{- end }}

{{/* Volumes beside the data, and where pods run. */}}
{{- define "keymeter.volumes" -}}
- { name: tmp, emptyDir: { sizeLimit: 1Gi } }
- { name: settings, configMap: { name: {{ include "keymeter.name" . }}-settings } }
{{- if .Values.serviceAccount.tokenAudience }}
- name: account-token
  projected:
    sources:
      - serviceAccountToken: { path: token, audience: {{ .Values.serviceAccount.tokenAudience | quote }}, expirationSeconds: 3600 }
{{- end }}
{{- end }}

{{- define "keymeter.placing" -}}
serviceAccountName: {{ include "keymeter.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ add .Values.drainSeconds 20 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The programs, with their inner ports and those secrets of Keymeter's own that each needs. */}}
{{- define "keymeter.programs" -}}
{{- $ledger := list }}{{ if eq .Values.books "postgres" }}{{ $ledger = list (list "KEYMETER_LEDGER_URL" "ledger-url") }}{{ end -}}
programs:
  - program: proxy
    port: 4001
    portName: proxy-ops
    keys: {{ concat (list (list "KEYMETER_ADMIN_TOKEN" "admin-token") (list "KEYMETER_PEPPER" "pepper") (list "KEYMETER_METRICS_TOKEN" "metrics-token")) $ledger | toJson }}
  - program: collector
    port: 4002
    portName: collector
    keys: {{ concat (list (list "KEYMETER_ADMIN_TOKEN" "admin-token") (list "KEYMETER_READ_TOKEN" "read-token") (list "KEYMETER_METRICS_TOKEN" "metrics-token")) $ledger | toJson }}
  - program: alerts
    port: 4003
    portName: alerts
    keys: {{ concat (list (list "KEYMETER_ADMIN_TOKEN" "admin-token") (list "KEYMETER_WEBHOOK_TOKEN" "webhook-token") (list "KEYMETER_METRICS_TOKEN" "metrics-token")) $ledger | toJson }}
{{- end }}
