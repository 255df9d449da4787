{{/* What must not be installed. Each guard has a sentence of its own; validate.yaml calls them all. */}}
{{- define "directory.guards" -}}
{{- include "directory.guards.ingress" . -}}
{{- include "directory.guards.replicas" . -}}
{{- include "directory.guards.identity" . -}}
{{- include "directory.guards.secrets" . -}}
{{- include "directory.guards.jobs" . -}}
{{- if eq .Values.profile "production" -}}{{- include "directory.guards.production" . -}}{{- end -}}
{{- end -}}

{{- define "directory.guards.ingress" -}}
{{- if .Values.ingress.enabled -}}
{{- $hosts := include "directory.apiHosts" . | fromJsonArray -}}
{{- if not $hosts -}}
{{- fail "ingress.enabled needs ingress.hosts or global.domain: passthrough is chosen by host name alone" -}}
{{- end -}}
{{- if eq .Values.ingress.mode "passthrough" -}}
{{- range .Values.ingress.tls -}}
{{- if hasKey . "secretName" -}}
{{- fail "ingress.tls[].secretName cannot be set in passthrough mode: the proxy would end TLS with it and the server's SVID would never be seen" -}}
{{- end -}}
{{- if not .hosts -}}
{{- fail "ingress.tls[].hosts is empty: in passthrough mode it must name the API host" -}}
{{- end -}}
{{- end -}}
{{- if contains "alb" (lower .Values.ingress.className) -}}
{{- fail (printf "ingress.className %q is an application load balancer: it ends TLS, so mutual TLS cannot pass; use ingress-nginx with passthrough or a network load balancer" .Values.ingress.className) -}}
{{- end -}}
{{- range $hosts -}}
{{- if hasPrefix "*" . -}}
{{- fail (printf "ingress host %q has a wildcard: passthrough looks up exact names only" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.zot.enabled .Values.zot.ingress.enabled (has (include "directory.zotHost" .) $hosts) -}}
{{- fail (printf "the registry and the API share the host %q: one ends TLS at the proxy, the other must not; give them different hosts" (include "directory.zotHost" .)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.zot.enabled .Values.zot.ingress.enabled -}}
{{- if not (include "directory.zotHost" .) -}}{{- fail "zot.ingress.enabled needs zot.ingress.host or global.domain" -}}{{- end -}}
{{- if not .Values.zot.ingress.tlsSecretName -}}{{- fail "zot.ingress.tlsSecretName is empty: the registry's host ends TLS at the proxy and needs a certificate" -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "directory.guards.replicas" -}}
{{- $many := gt (int .Values.replicaCount) 1 -}}
{{- if and $many (eq .Values.strategy.type "Recreate") -}}
{{- fail "replicaCount above 1 cannot go with strategy.type Recreate: every replica would stop at once; use RollingUpdate without single-node volumes" -}}
{{- end -}}
{{- range $name, $volume := .Values.persistence -}}
{{- if and $volume.enabled (not (has "ReadWriteMany" $volume.accessModes)) -}}
{{- if ne $.Values.strategy.type "Recreate" -}}
{{- fail (printf "persistence.%s is mounted by one node at a time: strategy.type must be Recreate, or the new pod waits for the old one for ever" $name) -}}
{{- end -}}
{{- if $many -}}
{{- fail (printf "persistence.%s is mounted by one node at a time: replicaCount must be 1" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $many (eq (dig "database" "type" "embedded" .Values.config) "embedded") -}}
{{- fail "replicaCount above 1 needs an index that replicas share: config.database.type embedded is one process's own" -}}
{{- end -}}
{{- end -}}

{{- define "directory.guards.identity" -}}
{{- $authn := dig "authn" "enabled" false .Values.config -}}
{{- if include "directory.publishes" . -}}
{{- if not $authn -}}
{{- fail "config.federation.bundle_endpoint needs config.authn.enabled: without an identity there is no bundle, and nothing to prove it with" -}}
{{- end -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- fail "config.federation.bundle_endpoint cannot go with replicaCount above 1: the sequence numbers of two publishers contradict each other, and partners refuse what goes back" -}}
{{- end -}}
{{- $ports := list (splitList ":" (dig "listen_address" "0.0.0.0:8888" .Values.config) | last) (toString .Values.ops.port) -}}
{{- if has (include "directory.bundlePort" .) $ports -}}
{{- fail (printf "config.federation.bundle_endpoint.listen_address has the port %s of the API or of ops: choose another" (include "directory.bundlePort" .)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.spire.enabled (not $authn) -}}
{{- fail "spire.enabled is on and config.authn.enabled is off: callers would have no identity and every call would be refused; set both" -}}
{{- end -}}
{{- if and $authn (not .Values.spire.enabled) (not (dig "authn" "socket_path" "" .Values.config)) -}}
{{- fail "config.authn.enabled needs a Workload API: set spire.enabled or config.authn.socket_path" -}}
{{- end -}}
{{- if and (dig "authz" "enabled" false .Values.config) (not $authn) -}}
{{- fail "config.authz.enabled needs config.authn.enabled: without identities there is nobody to authorize" -}}
{{- end -}}
{{- if and $authn (eq (dig "authn" "mode" "x509" .Values.config) "jwt") (not (dig "authn" "audiences" list .Values.config)) -}}
{{- fail "config.authn.mode jwt needs config.authn.audiences: tokens are meant for somebody, and clients ask for them by that name" -}}
{{- end -}}
{{- $wait := include "directory.seconds" (dig "authn" "startup_wait" "total" "60s" .Values.config) | int -}}
{{- $budget := mul .Values.probes.startup.periodSeconds .Values.probes.startup.failureThreshold | int -}}
{{- if ge $wait $budget -}}
{{- fail (printf "config.authn.startup_wait.total (%ds) must stay below the startup probe's budget (%ds): the pod would be killed before it can say why it has no identity" $wait $budget) -}}
{{- end -}}
{{- if and $authn (eq $wait 0) -}}
{{- fail "config.authn.startup_wait.total 0 waits for ever, but the startup probe does not; give it a bound" -}}
{{- end -}}
{{- end -}}

{{- define "directory.guards.secrets" -}}
{{- $inline := or .Values.secrets.registryUsername .Values.secrets.registryPassword .Values.zot.auth.htpasswd (dig "store" "oci" "auth_config" "password" "" .Values.config) -}}
{{- if and .Values.externalSecrets.enabled $inline -}}
{{- fail "externalSecrets.enabled and credentials in values are both set: keep one of them" -}}
{{- end -}}
{{- if and .Values.externalSecrets.enabled (not .Values.externalSecrets.path) -}}
{{- fail "externalSecrets.path is empty: name the path in the secret store that holds the registry's credentials" -}}
{{- end -}}
{{- if and (eq .Values.profile "production") $inline -}}
{{- fail "profile production refuses credentials in values (secrets.*, zot.auth.htpasswd, config.store.oci.auth_config.password): use existingSecret or externalSecrets" -}}
{{- end -}}
{{- if and .Values.zot.enabled (include "directory.htpasswdSecret" .) (not (include "directory.registrySecret" .)) -}}
{{- fail "the registry asks for a user (zot.auth) and the server has none: set secrets.existingSecret or secrets.registryUsername" -}}
{{- end -}}
{{- end -}}

{{- define "directory.guards.jobs" -}}
{{- if .Values.admin.enabled -}}
{{- if not .Values.spire.enabled -}}
{{- fail "admin.enabled needs spire.enabled: the jobs call the API with an identity of their own" -}}
{{- end -}}
{{- range $name, $job := .Values.admin.jobs -}}
{{- $full := printf "%s-%s" (include "directory.fullname" $) $name -}}
{{- if gt (len $full) 52 -}}
{{- fail (printf "CronJob name %q has %d characters, more than 52: shorten the release name or fullnameOverride" $full (len $full)) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.admin.namespace .Release.Namespace -}}
{{- if .Values.admin.createNamespace -}}
{{- fail "admin.namespace is the release's namespace: set admin.createNamespace to false" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "directory.guards.production" -}}
{{- $td := include "directory.trustDomain" . -}}
{{- if or (not $td) (has $td (list "example.org" "example.com" "localhost")) (hasSuffix ".local" $td) -}}
{{- fail (printf "profile production refuses the trust domain %q: it must be yours, globally unique, and can never be changed; set global.domain or spire.trustDomain" $td) -}}
{{- end -}}
{{- if not (dig "authn" "enabled" false .Values.config) -}}
{{- fail "profile production refuses config.authn.enabled: false" -}}
{{- end -}}
{{- if not (dig "authz" "enabled" false .Values.config) -}}
{{- fail "profile production refuses config.authz.enabled: false" -}}
{{- end -}}
{{- if and .Values.spire.enabled (not .Values.spire.useCSIDriver) -}}
{{- fail "profile production refuses spire.useCSIDriver: false: a hostPath hands the agent's socket to whoever may mount it" -}}
{{- end -}}
{{- if dig "store" "oci" "advertised_insecure" false .Values.config -}}
{{- fail "profile production refuses config.store.oci.advertised_insecure: peers would fetch records and credentials without TLS" -}}
{{- end -}}
{{- if dig "listen" "allow_insecure" false .Values.config -}}
{{- fail "profile production refuses config.listen.allow_insecure" -}}
{{- end -}}
{{- if and .Values.zot.enabled (not .Values.zot.persistence.enabled) -}}
{{- fail "profile production refuses a registry on an emptyDir: set zot.persistence.enabled, records would be lost with the pod" -}}
{{- end -}}
{{- end -}}
