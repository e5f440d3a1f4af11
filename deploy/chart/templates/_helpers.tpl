{{- define "logsvc.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "logsvc.selector" -}}
app.kubernetes.io/name: logsvc
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "logsvc.labels" -}}
{{ include "logsvc.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "logsvc.image" -}}
{{ required "image.repository is needed: where the image of logsvc is" .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "logsvc.config" -}}
{{- $own := dict "probe" (dict "host" "0.0.0.0" "port" 9100) "log" (dict "format" "json") "http" (dict "host" "0.0.0.0" "port" 8080) -}}
{{- mergeOverwrite $own (deepCopy .Values.settings) | toToml -}}
{{- end }}

{{- /* A new pod where what it is told has changed. */ -}}
{{- define "logsvc.annotations" -}}
checksum/config: {{ include "logsvc.config" .root | sha256sum }}
{{- end }}

{{- define "logsvc.environment" -}}
env:
  - {name: LOGSVC_CONFIG, value: /etc/logsvc/logsvc.toml}
{{- with .env }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .secret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{- define "logsvc.probes" -}}
startupProbe: {httpGet: {path: /healthz, port: probes}, periodSeconds: 2, failureThreshold: 60}
livenessProbe: {httpGet: {path: /healthz, port: probes}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
readinessProbe: {httpGet: {path: /readyz, port: probes}, periodSeconds: 5, timeoutSeconds: 5}
{{- end }}

{{- define "logsvc.pod" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
serviceAccountName: {{ include "logsvc.name" .root }}-{{ .role }}
automountServiceAccountToken: {{ .token | default false }}
securityContext:
  seccompProfile: {type: RuntimeDefault}
{{- if not .asRoot }}
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
{{- end }}
{{- end }}

{{- define "logsvc.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "logsvc.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "logsvc.selector" . | nindent 8 }}
{{- end }}

{{- /* Settings, and the files that they may name. */ -}}
{{- define "logsvc.mounts" -}}
- {name: config, mountPath: /etc/logsvc, readOnly: true}
{{- if .Values.secretFiles }}
- {name: files, mountPath: /run/secrets/logsvc, readOnly: true}
{{- end }}
{{- end }}

{{- define "logsvc.volumes" -}}
- {name: config, configMap: {name: {{ .config | default (include "logsvc.name" .root) }}}}
{{- with .root.Values.secretFiles }}
- {name: files, secret: {secretName: {{ . }}}}
{{- end }}
{{- end }}
