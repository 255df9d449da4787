{{/* server.config.yml: the values under `config`, with what the chart knows better filled in where nothing is given. */}}
{{- define "directory.serverConfig" -}}
{{- $known := dict
  "profile" .Values.profile
  "metrics" (dict "address" (printf ":%d" (int .Values.ops.port)))
  "state_dir" "/var/lib/directory/database/state"
  "database" (dict "embedded" (dict "path" "/var/lib/directory/database/index"))
  "routing" (dict "datastore_dir" "/var/lib/directory/routing")
-}}
{{- if .Values.spire.enabled -}}
{{- $_ := set $known "authn" (dict "socket_path" (include "directory.socket" .) "trust_domain" (include "directory.trustDomain" .)) -}}
{{- end -}}
{{- if .Values.zot.enabled -}}
{{- $_ := set $known "store" (dict "oci" (dict "registry_address" (printf "%s.%s.svc:5000" (include "directory.zotName" .) .Release.Namespace))) -}}
{{- end -}}
{{- /* Behind a proxy that passes TLS through, or a node's address translation, all clients have one address. */ -}}
{{- if and (or .Values.ingress.enabled (ne .Values.service.type "ClusterIP")) (has (dig "listen" "proxy_protocol" "off" .Values.config) (list "" "off")) -}}
{{- $_ := set $known "limits" (dict "connections" (dict "per_ip" 0)) -}}
{{- end -}}
{{- $config := mergeOverwrite $known (deepCopy .Values.config) -}}
{{- if not (get (get $config "authn") "public_hostnames") -}}
{{- with include "directory.apiHosts" . | fromJsonArray -}}
{{- $_ := set (get $config "authn") "public_hostnames" . -}}
{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* authz_policies.csv */}}
{{- define "directory.policy" -}}
{{- if kindIs "string" .Values.authz.policies -}}
{{- .Values.authz.policies | trim -}}
{{- else if .Values.authz.policies -}}
{{- join "\n" .Values.authz.policies -}}
{{- else -}}
# The own trust domain may call everything.
p,{{ include "directory.trustDomain" . }},*
# Trust domains that SPIRE federates with may read records, and nothing else.
p,*,/agntcy.dir.store.v1.StoreService/Pull
p,*,/agntcy.dir.store.v1.StoreService/PullReferrer
p,*,/agntcy.dir.store.v1.StoreService/Lookup
{{- end -}}
{{- end -}}
