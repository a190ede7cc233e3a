{{- /* Fills in what the values lack. `helm upgrade --reuse-values` brings those of an earlier chart alone, so whatever is newer is
missing; files/defaults.yaml is a copy of values.yaml (make generate), which templates cannot read. Each template begins with it. */ -}}
{{- define "whittle.fill" -}}
{{- include "whittle.fillIn" (dict "values" .Values "defaults" (.Files.Get "files/defaults.yaml" | fromYaml)) -}}
{{- end }}

{{- /* "values" {…} "defaults" {…}. What is somebody's own as a whole is not filled: a line that was taken away there stays away. */ -}}
{{- define "whittle.fillIn" -}}
{{- $whole := list "resources" "securityContext" "containerSecurityContext" "defaults" "nodeSelector" "namespaceSelector" -}}
{{- range $key, $default := .defaults -}}
{{- $value := get $.values $key -}}
{{- if or (not (hasKey $.values $key)) (kindIs "invalid" $value) -}}
{{- $_ := set $.values $key $default -}}
{{- else if and (kindIs "map" $default) (kindIs "map" $value) (not (has $key $whole)) -}}
{{- include "whittle.fillIn" (dict "values" $value "defaults" $default) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "whittle.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "whittle.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "whittle.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "whittle.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "whittle.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "whittle.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- /* as src/controller/names.rs */ -}}
{{- define "whittle.lease" -}}
{{ include "whittle.fullname" . }}-controller
{{- end }}

{{- define "whittle.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "whittle.runnerImage" -}}
{{- default (include "whittle.image" .) .Values.runner.image -}}
{{- end }}

{{- define "whittle.selector" -}}
app.kubernetes.io/name: {{ include "whittle.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "whittle.labels" -}}
app.kubernetes.io/name: {{ include "whittle.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: whittle
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- /* A key that stands twice is an error; the chart's own stays. */}}
{{- with omit .Values.commonLabels "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/part-of" "app.kubernetes.io/managed-by" "app.kubernetes.io/component" "helm.sh/chart" }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* name, labels and annotations of an object: dict "root" . "name" … "namespaced" bool (or "namespace" …) "labels" {…} "annotations" {…} */ -}}
{{- define "whittle.metadata" -}}
name: {{ .name }}
{{- if .namespaced }}
namespace: {{ .root.Release.Namespace }}
{{- else if .namespace }}
namespace: {{ .namespace }}
{{- end }}
labels:
  {{- merge (dict) (default (dict) .labels) (include "whittle.labels" .root | fromYaml) | toYaml | nindent 2 }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* the seccomp profile of builders in a user namespace: a path below the kubelet's seccomp folder; empty: none is there */ -}}
{{- define "whittle.seccompProfile" -}}
{{- if .Values.builder.seccompProfile -}}
{{ .Values.builder.seccompProfile }}
{{- else if .Values.builder.nodeProfiles.install -}}
whittle/builder-v1.json
{{- end -}}
{{- end }}

{{- /* what the controller reads at /etc/whittle/settings.json */ -}}
{{- define "whittle.settings" -}}
{{- /* $(POD_NAMESPACE) is put in by the controller. */ -}}
{{- $callback := default (printf "https://%s.$(POD_NAMESPACE).svc:8443" (include "whittle.fullname" .)) .Values.callback.url -}}
{{- $runner := merge (dict "image" (include "whittle.runnerImage" .) "imagePullSecrets" (include "whittle.secretNames" .Values.runner.imagePullSecrets | fromJsonArray)) .Values.runner -}}
{{- $builder := merge (dict "imagePullSecrets" (include "whittle.secretNames" .Values.builder.imagePullSecrets | fromJsonArray)) (omit .Values.builder "tenants" "nodeProfiles" "seccompProfile" "appArmorProfile") -}}
{{- with include "whittle.seccompProfile" . }}{{ $_ := set $builder "seccompProfile" . }}{{ end -}}
{{- with .Values.builder.appArmorProfile }}{{ $_ := set $builder "appArmorProfile" . }}{{ end -}}
{{- range list "priorityClassName" "podLabels" "podAnnotations" "nodeSelector" "tolerations" }}{{ if not (get $runner .) }}{{ $runner = omit $runner . }}{{ end }}{{ end -}}
{{- range list "podLabels" "podAnnotations" "env" }}{{ if not (get $builder .) }}{{ $builder = omit $builder . }}{{ end }}{{ end -}}
{{- $settings := dict "runner" $runner "builder" $builder "callback" (dict "url" $callback) "concurrency" (int .Values.concurrency) "triggers" (dict "maxConcurrent" (int .Values.triggers.maxConcurrent)) "probeGuard" (dict "name" (include "whittle.fullname" .) "trust" .Values.probeGuard.trust) "installation" (printf "$(POD_NAMESPACE)/%s" (include "whittle.fullname" .)) "watch" (dict "namespaces" (default list .Values.watchNamespaces) "selector" (default dict .Values.watchSelector)) -}}
{{- if .Values.webhooks.secret.name }}{{ $_ := set $settings "webhooks" (dict "secretFile" "/etc/whittle-webhooks/secret") }}{{ end -}}
{{- if .Values.metrics.namespaces }}{{ $_ := set $settings "metrics" (dict "namespaces" true) }}{{ end -}}
{{- with include "whittle.sink" . | fromJson }}{{ $_ := set $settings "notifications" (dict "sink" .) }}{{ end -}}
{{- with include "whittle.otlp" . | fromJson }}{{ $_ := set $settings "traces" (dict "otlp" . "attributes" (default dict $.Values.traces.attributes)) }}{{ end -}}
{{- with include "whittle.proxy" . | fromJson }}{{ $_ := set $settings "proxy" . }}{{ end -}}
{{- with include "whittle.caConfigMap" . }}{{ $_ := set $settings "caFile" "/etc/whittle-ca/ca.crt" }}{{ end -}}
{{- toPrettyJson $settings -}}
{{- end }}

{{- /* proxy as the controller reads it, as JSON; {} without one. */ -}}
{{- define "whittle.proxy" -}}
{{- $proxy := dict -}}
{{- if or .Values.proxy.httpProxy .Values.proxy.httpsProxy -}}
{{- range $key, $value := .Values.proxy }}{{ if $value }}{{ $_ := set $proxy $key $value }}{{ end }}{{ end -}}
{{- end -}}
{{- toJson $proxy -}}
{{- end }}

{{- /* The ConfigMap with what is trusted besides the public authorities; empty: none. */ -}}
{{- define "whittle.caConfigMap" -}}
{{- if and .Values.caBundle.pem .Values.caBundle.configMap.name -}}
{{- fail "caBundle: set pem or configMap.name, not both" -}}
{{- end -}}
{{- if .Values.caBundle.pem -}}
{{ include "whittle.fullname" . }}-ca
{{- else -}}
{{ .Values.caBundle.configMap.name }}
{{- end -}}
{{- end }}

{{- /* How the controller reaches the outside, as a container has it: a JSON list in "env". As src/api/proxy.rs has it for builds. */ -}}
{{- define "whittle.outside" -}}
{{- $env := list -}}
{{- with include "whittle.proxy" . | fromJson -}}
{{- $https := default .httpProxy .httpsProxy -}}
{{- $without := printf "localhost,127.0.0.1,::1,.svc,.cluster.local" -}}
{{- with .noProxy }}{{ $without = printf "%s,%s" $without (nospace .) }}{{ end -}}
{{- with .httpProxy }}{{ $env = append $env (dict "name" "HTTP_PROXY" "value" .) }}{{ end -}}
{{- with $https }}{{ $env = append $env (dict "name" "HTTPS_PROXY" "value" .) }}{{ end -}}
{{- $env = append $env (dict "name" "NO_PROXY" "value" $without) -}}
{{- end -}}
{{- if include "whittle.caConfigMap" . }}{{ $env = append $env (dict "name" "SSL_CERT_DIR" "value" "/etc/whittle-ca") }}{{ end -}}
{{- dict "env" $env | toJson -}}
{{- end }}

{{- /* A receiver as the controller reads it, as JSON; {} without a URL. Of a list: its values, and the file of its token. */ -}}
{{- define "whittle.receiver" -}}
{{- $given := index . 0 -}}
{{- $settings := dict -}}
{{- with $given.url -}}
{{- $_ := set $settings "url" . -}}
{{- with $given.caBundle }}{{ $_ := set $settings "caBundle" . }}{{ end -}}
{{- with $given.source }}{{ $_ := set $settings "source" . }}{{ end -}}
{{- if dig "tokenSecret" "name" "" $given }}{{ $_ := set $settings "tokenFile" (index $ 1) }}{{ end -}}
{{- end -}}
{{- toJson $settings -}}
{{- end }}

{{- /* notifications.sink and traces.otlp so. */ -}}
{{- define "whittle.sink" -}}
{{- include "whittle.receiver" (list (dig "sink" dict .Values.notifications) "/etc/whittle-sink/token") -}}
{{- end }}
{{- define "whittle.otlp" -}}
{{- include "whittle.receiver" (list (dig "otlp" dict .Values.traces) "/etc/whittle-otlp/token") -}}
{{- end }}

{{- /* values of selfGuard, as JSON. It was called secretGuard: who switched that off finds it off. */ -}}
{{- define "whittle.selfGuard" -}}
{{- $defaults := dict "enabled" true "protectedNamespaces" (list "kube-system" "kube-public" "kube-node-lease") "extraImages" list "extraLabels" list -}}
{{- $guard := mergeOverwrite $defaults (default (dict) .Values.selfGuard) -}}
{{- if eq (toString (dig "enabled" true (default (dict) .Values.secretGuard))) "false" }}{{ $_ := set $guard "enabled" false }}{{ end -}}
{{- toJson $guard -}}
{{- end }}

{{- /* builder.egress.enabled, which values of an older chart do not have: "true", or nothing. */ -}}
{{- define "whittle.holdsEgress" -}}
{{- if dig "egress" "enabled" true .Values.builder }}true{{ end -}}
{{- end }}

{{- /* CEL: by the controller's own account, whatever namespace that is in: what moves the objects of this chart to another
one (kustomize) moves the role's subject, and knows nothing of an expression. Who has all verbs is somebody else. */ -}}
{{- define "whittle.isTheController" -}}
(request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:{{ include "whittle.serviceAccount" . }}'
|| request.userInfo.username.startsWith('system:serviceaccount:')
&& authorizer.group('whittle.dev').resource('probeprofiles').name('{{ include "whittle.fullname" . }}').check('guarded').allowed()
&& !authorizer.group('whittle.dev').resource('probeprofiles').name('{{ include "whittle.fullname" . }}').check('unrestricted').allowed())
{{- end }}

{{- /* a policy's condition: by the controller's own account */ -}}
{{- define "whittle.byTheController" -}}
- name: by-the-controller
  expression: >-
    {{- include "whittle.isTheController" . | nindent 4 }}
{{- end }}

{{- /* CEL: the namespace of the account that asks. */ -}}
{{- define "whittle.home" -}}
request.userInfo.username.split(':')[2]
{{- end }}

{{- /* Names of Secrets, which may also stand as a Pod has them: {name: x}. */ -}}
{{- define "whittle.secretNames" -}}
{{- $names := list -}}
{{- range . -}}
{{- if kindIs "map" . }}{{ $names = append $names .name }}{{ else }}{{ $names = append $names . }}{{ end -}}
{{- end -}}
{{- toJson $names -}}
{{- end }}

{{- /* imagePullSecrets of a Pod in the release's own namespace. */ -}}
{{- define "whittle.pullSecrets" -}}
{{- with concat (default list .Values.global.imagePullSecrets) (default list .Values.imagePullSecrets) -}}
imagePullSecrets:
  {{- range include "whittle.secretNames" . | fromJsonArray | uniq }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* An endpoint of serviceMonitor or podMonitor. */ -}}
{{- define "whittle.endpoint" -}}
path: /metrics
interval: {{ .interval }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- if .honorLabels }}
honorLabels: true
{{- end }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The account of the DaemonSet that puts the seccomp profile on nodes. */ -}}
{{- define "whittle.nodeProfilesAccount" -}}
{{- default (printf "%s-node-profiles" (include "whittle.fullname" .)) .Values.builder.nodeProfiles.serviceAccount.name -}}
{{- end }}
