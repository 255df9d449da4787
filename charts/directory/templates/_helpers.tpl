{{/* Names. Cut to what a label and a CronJob can hold. */}}
{{- define "directory.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "directory.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "directory.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "directory.zotName" -}}{{ .Release.Name | trunc 36 | trimSuffix "-" }}-zot{{- end -}}
{{- define "directory.adminName" -}}{{ include "directory.fullname" . }}-admin{{- end -}}

{{- define "directory.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "directory.fullname" .) -}}
{{- end -}}
{{- define "directory.adminServiceAccountName" -}}
{{- .Values.admin.serviceAccount.name | default (include "directory.adminName" .) -}}
{{- end -}}

{{/* Labels of an object: dict "root" $ "component" name. */}}
{{- define "directory.labels" -}}
{{ include "directory.selector" . }}
app.kubernetes.io/part-of: directory
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels that a selector uses: never change between versions. */}}
{{- define "directory.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{/* Labels of a pod: without versions, so that a new chart alone restarts nothing. */}}
{{- define "directory.podLabels" -}}
{{ include "directory.selector" . }}
app.kubernetes.io/part-of: directory
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Image reference: dict "image" values "tag" default. The digest wins. */}}
{{- define "directory.image" -}}
{{- $name := printf "%s/%s" .image.registry .image.repository -}}
{{- if .image.digest -}}{{ $name }}@{{ .image.digest }}{{- else -}}{{ $name }}:{{ .image.tag | default .tag }}{{- end -}}
{{- end -}}

{{- define "directory.trustDomain" -}}
{{- if .Values.spire.trustDomain -}}
{{- .Values.spire.trustDomain -}}
{{- else if eq .Values.profile "production" -}}
{{- .Values.global.domain -}}
{{- else -}}
example.org
{{- end -}}
{{- end -}}

{{/* SPIFFE ID of the API server. */}}
{{- define "directory.serverId" -}}
spiffe://{{ include "directory.trustDomain" . }}/ns/{{ .Release.Namespace }}/sa/{{ include "directory.serviceAccountName" . }}
{{- end -}}

{{- define "directory.socket" -}}unix://{{ .Values.spire.socketMountPath }}/{{ .Values.spire.socketName }}{{- end -}}

{{/* Hosts of the API as a JSON list: those of the Ingress, or the derived one. */}}
{{- define "directory.apiHosts" -}}
{{- $hosts := list -}}
{{- range .Values.ingress.hosts -}}{{- $hosts = append $hosts .host -}}{{- end -}}
{{- if and (not $hosts) .Values.global.domain -}}{{- $hosts = list (printf "api.%s" .Values.global.domain) -}}{{- end -}}
{{- toJson $hosts -}}
{{- end -}}

{{- define "directory.zotHost" -}}
{{- .Values.zot.ingress.host | default (empty .Values.global.domain | ternary "" (printf "zot.%s" .Values.global.domain)) -}}
{{- end -}}

{{/* Secret with the server's credentials for the registry; empty: none. */}}
{{- define "directory.registrySecret" -}}
{{- if .Values.secrets.existingSecret -}}
{{- .Values.secrets.existingSecret -}}
{{- else if or .Values.externalSecrets.enabled .Values.secrets.registryUsername -}}
{{- include "directory.fullname" . }}-registry
{{- end -}}
{{- end -}}

{{/* Secret with the registry's users; empty: none. */}}
{{- define "directory.htpasswdSecret" -}}
{{- if .Values.zot.auth.existingSecret -}}
{{- .Values.zot.auth.existingSecret -}}
{{- else if or .Values.externalSecrets.enabled .Values.zot.auth.htpasswd -}}
{{- include "directory.zotName" . }}-users
{{- end -}}
{{- end -}}

{{/* The Workload API as a volume; the driver insists on readOnly. */}}
{{- define "directory.spireVolume" -}}
- name: spire-agent-socket
{{- if .Values.spire.useCSIDriver }}
  csi:
    driver: {{ .Values.spire.csiDriver }}
    readOnly: true
{{- else }}
  hostPath:
    path: {{ .Values.spire.socketMountPath }}
    type: Directory
{{- end }}
{{- end -}}

{{- define "directory.spireMount" -}}
- name: spire-agent-socket
  mountPath: {{ .Values.spire.socketMountPath }}
  readOnly: true
{{- end -}}

{{/* A volume of the API server: dict "root" $ "name" routing|database "persistence" values. */}}
{{- define "directory.dataVolume" -}}
- name: {{ .name }}
{{- if .persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ .persistence.existingClaim | default (printf "%s-%s" (include "directory.fullname" .root) .name) }}
{{- else }}
  emptyDir: {}
{{- end }}
{{- end -}}

{{/* Seconds of a Go duration made of whole h, m, s, or ms (rounded up to a second). */}}
{{- define "directory.seconds" -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+(h|ms|m|s)" (toString .) -1 -}}
{{- $n := regexFind "^[0-9]+" . | int -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- if eq $unit "h" -}}{{- $total = add $total (mul $n 3600) -}}
{{- else if eq $unit "m" -}}{{- $total = add $total (mul $n 60) -}}
{{- else if eq $unit "s" -}}{{- $total = add $total $n -}}
{{- else -}}{{- $total = add $total 1 -}}{{- end -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{/* Whether our own bundle is published for partners: "true" or nothing. */}}
{{- define "directory.publishes" -}}
{{- if dig "federation" "bundle_endpoint" "enabled" false .Values.config -}}true{{- end -}}
{{- end -}}

{{/* The port of the bundle endpoint in the pod. */}}
{{- define "directory.bundlePort" -}}
{{- splitList ":" (dig "federation" "bundle_endpoint" "listen_address" "0.0.0.0:8443" .Values.config) | last -}}
{{- end -}}
