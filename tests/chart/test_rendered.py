"""What the rendered objects must say."""

import copy

import pytest
import yaml
from support import CHART, PRESETS, all_of, containers, find, pod_templates, render

NGINX = "nginx.ingress.kubernetes.io/"


@pytest.fixture
def production():
    return copy.deepcopy(render(("production",)))


def config_of(docs) -> dict:
    [doc] = [d for d in all_of(docs, "ConfigMap") if "server.config.yml" in d["data"]]
    return yaml.safe_load(doc["data"]["server.config.yml"])


def policy_of(docs) -> list[str]:
    [doc] = [d for d in all_of(docs, "ConfigMap") if "authz_policies.csv" in d["data"]]
    return [line for line in doc["data"]["authz_policies.csv"].splitlines() if line and not line.startswith("#")]


# -- exposure -----------------------------------------------------------------------------------------------------


def test_the_api_is_passed_through_and_never_terminated(production):
    ingress = find(production, "Ingress", "dir-apiserver")
    notes = ingress["metadata"]["annotations"]
    assert notes[NGINX + "ssl-passthrough"] == "true"
    assert notes[NGINX + "backend-protocol"] == "GRPCS"
    assert notes[NGINX + "force-ssl-redirect"] == "true"
    assert ingress["spec"]["tls"] == [{"hosts": ["api.your-domain.com"]}]
    assert ingress["spec"]["ingressClassName"] == "nginx"
    [rule] = ingress["spec"]["rules"]
    assert rule["host"] == "api.your-domain.com"
    [path] = rule["http"]["paths"]
    assert path == {"path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": "dir-apiserver", "port": {"name": "grpc"}}}}


def test_the_registry_ends_tls_on_a_host_of_its_own(production):
    ingress = find(production, "Ingress", "dir-zot")
    assert ingress["spec"]["tls"] == [{"hosts": ["zot.your-domain.com"], "secretName": "zot-tls"}]
    assert NGINX + "ssl-passthrough" not in ingress["metadata"]["annotations"]
    assert ingress["metadata"]["annotations"][NGINX + "proxy-body-size"] == "0"


def test_given_hosts_and_paths_are_kept():
    hosts = [{"host": "a.example.net", "paths": [{"path": "/", "pathType": "ImplementationSpecific"}]}, {"host": "b.example.net"}]
    docs = render(("production",), {"ingress.hosts": hosts})
    ingress = find(docs, "Ingress", "dir-apiserver")
    assert [r["host"] for r in ingress["spec"]["rules"]] == ["a.example.net", "b.example.net"]
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["pathType"] == "ImplementationSpecific"
    assert ingress["spec"]["tls"] == [{"hosts": ["a.example.net", "b.example.net"]}]
    assert find(docs, "ClusterSPIFFEID", "dir-prod-dir-apiserver")["spec"]["dnsNameTemplates"][:2] == ["a.example.net", "b.example.net"]


@pytest.mark.parametrize("preset", PRESETS)
def test_no_ingress_reaches_the_ops_port(preset):
    docs = render(preset)
    for ingress in all_of(docs, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                assert not path["backend"]["service"]["name"].endswith("-ops")
    ops = find(docs, "Service", "dir-apiserver-ops")
    assert ops["spec"]["type"] == "ClusterIP"
    api = find(docs, "Service", "dir-apiserver")
    assert [p["name"] for p in api["spec"]["ports"]] == ["grpc"]


def test_our_bundle_has_a_service_only_when_it_is_published():
    assert not [d for d in all_of(render(("production",)), "Service") if d["metadata"]["name"].endswith("-bundle")]
    publish = {"config.federation.bundle_endpoint": {"enabled": True, "listen_address": "0.0.0.0:9443"},
               "bundleService.type": "LoadBalancer", "bundleService.annotations": {"a": "b"}, "bundleService.port": 443}
    docs = render(("production",), publish)
    service = find(docs, "Service", "dir-apiserver-bundle")
    assert service["metadata"]["annotations"] == {"a": "b"}
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["ports"] == [{"name": "https-spiffe", "port": 443, "targetPort": "bundle"}]
    [server] = [c for _, _, c in containers(docs) if c["name"] == "apiserver"]
    assert {"name": "bundle", "containerPort": 9443} in server["ports"]
    api = find(docs, "Service", "dir-apiserver")
    assert service["spec"]["selector"] == api["spec"]["selector"]
    assert config_of(docs)["federation"]["bundle_endpoint"]["listen_address"] == "0.0.0.0:9443"


def test_a_network_policy_names_each_port_that_is_open():
    assert not all_of(render(("production",)), "NetworkPolicy")
    monitoring = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    values = {"networkPolicy.enabled": True, "networkPolicy.opsFrom": monitoring}
    policy = find(render(("production",), values), "NetworkPolicy", "dir-apiserver")["spec"]
    deployment = find(render(("production",), values), "Deployment", "dir-apiserver")
    assert policy["podSelector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [
        {"ports": [{"port": "grpc", "protocol": "TCP"}]},
        {"ports": [{"port": "ops", "protocol": "TCP"}], "from": monitoring},
    ]
    # Nobody scrapes: nobody gets there.
    [api] = find(render((), {"networkPolicy.enabled": True}), "NetworkPolicy")["spec"]["ingress"]
    assert api["ports"][0]["port"] == "grpc"
    partner = [{"ipBlock": {"cidr": "203.0.113.0/24"}}]
    values |= {"config.federation.bundle_endpoint.enabled": True, "networkPolicy.bundleFrom": partner,
               "networkPolicy.egress": [{"to": partner}]}
    docs = render(("production",), values)
    policy = find(docs, "NetworkPolicy", "dir-apiserver")["spec"]
    assert policy["ingress"][-1] == {"ports": [{"port": "bundle", "protocol": "TCP"}], "from": partner}
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [{"to": partner}])
    [server] = [c for _, _, c in containers(docs) if c["name"] == "apiserver"]
    assert {p["port"] for rule in policy["ingress"] for p in rule["ports"]} <= {p["name"] for p in server["ports"]}


def test_local_is_reached_by_node_port():
    docs = render(("local",))
    service = find(docs, "Service", "dir-apiserver")
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["ports"][0]["nodePort"] == 30888
    assert not all_of(docs, "Ingress")


# -- pods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_services_select_pods_and_name_their_ports(preset):
    docs = render(preset)
    pods = list(pod_templates(docs).values())
    for service in all_of(docs, "Service"):
        selector = service["spec"]["selector"].items()
        chosen = [p for p in pods if selector <= p["metadata"]["labels"].items()]
        assert len(chosen) == 1, service["metadata"]["name"]
        names = {p["name"] for c in chosen[0]["spec"]["containers"] for p in c["ports"]}
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= names
    for kind in ("Deployment", "StatefulSet"):
        for doc in all_of(docs, kind):
            labels = doc["spec"]["template"]["metadata"]["labels"]
            assert doc["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_api_server_has_the_label_that_the_documentation_selects_by(production):
    labels = find(production, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "apiserver"


def test_ports(production):
    [container] = find(production, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert {p["name"]: p["containerPort"] for p in container["ports"]} == {"grpc": 8888, "ops": 9090}
    docs = render((), {"config.listen_address": "0.0.0.0:9999", "ops.port": 9191})
    [container] = find(docs, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert {p["name"]: p["containerPort"] for p in container["ports"]} == {"grpc": 9999, "ops": 9191}
    assert config_of(docs)["metrics"]["address"] == ":9191"


def test_probes_ask_the_ops_port(production):
    [container] = find(production, "Deployment")["spec"]["template"]["spec"]["containers"]
    probes = {k: container[f"{k}Probe"] for k in ("startup", "liveness", "readiness")}
    assert {k: p["httpGet"] for k, p in probes.items()} == {
        "startup": {"path": "/startupz", "port": "ops"},
        "liveness": {"path": "/livez", "port": "ops"},
        "readiness": {"path": "/readyz", "port": "ops"},
    }
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] == 90


@pytest.mark.parametrize("preset", PRESETS)
def test_every_caller_of_the_api_gets_its_socket_from_the_csi_driver(preset):
    docs = render(preset)
    for owner, pod in pod_templates(docs).items():
        if owner.endswith("-zot"):
            continue
        [volume] = [v for v in pod["spec"]["volumes"] if v["name"] == "spire-agent-socket"]
        assert volume["csi"] == {"driver": "csi.spiffe.io", "readOnly": True}, owner
        [mount] = [m for c in pod["spec"]["containers"] for m in c["volumeMounts"] if m["name"] == "spire-agent-socket"]
        assert mount["mountPath"] == "/run/spire/agent-sockets" and mount["readOnly"] is True
    kinds = {owner.split("/")[0] for owner in pod_templates(docs)}
    assert ("CronJob" in kinds) == bool(preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_containers_are_confined_and_limited(preset):
    for owner, pod, container in containers(render(preset)):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, owner
        assert spec["securityContext"]["runAsUser"] == 65532, owner
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert spec["automountServiceAccountToken"] is False, owner
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True, owner
        assert context["capabilities"] == {"drop": ["ALL"]}, owner
        assert set(container["resources"]) == {"requests", "limits"}, owner
        assert any(m["mountPath"] == "/tmp" for m in container["volumeMounts"]), owner
        assert not any("subPath" in m for m in container["volumeMounts"]), owner
        volumes = {v["name"] for v in spec["volumes"]} | ({"data"} if owner.startswith("StatefulSet/") else set())
        assert {m["name"] for m in container["volumeMounts"]} <= volumes, owner


def test_configuration_and_policy_are_one_directory(production):
    spec = find(production, "Deployment")["spec"]["template"]
    [mount] = [m for m in spec["spec"]["containers"][0]["volumeMounts"] if m["mountPath"] == "/etc/agntcy/dir"]
    [volume] = [v for v in spec["spec"]["volumes"] if v["name"] == mount["name"]]
    names = [s["configMap"]["name"] for s in volume["projected"]["sources"]]
    assert names == ["dir-apiserver-config", "dir-apiserver-policy"]
    keys = [k for n in names for k in find(production, "ConfigMap", n)["data"]]
    assert keys == ["server.config.yml", "authz_policies.csv"]


def test_a_change_rolls_what_it_concerns():
    def sums(values):
        return {k: v for k, v in find(render((), values), "Deployment")["spec"]["template"]["metadata"]["annotations"].items()}

    base = sums({})
    config = sums({"config.events.subscriber_buffer_size": 7})
    policy = sums({"authz.policies": ["p,example.org,*"]})
    changed = lambda other: {k for k in base if base[k] != other[k]}  # noqa: E731
    assert changed(config) == {"checksum/config"}
    assert changed(policy) == {"checksum/policy"}
    zot = lambda values: find(render((), values), "StatefulSet")["spec"]["template"]  # noqa: E731
    assert zot({}) == zot({"authz.policies": ["p,example.org,*"]})


def test_every_object_is_labelled_and_placed():
    cluster = {"ClusterSPIFFEID", "Namespace"}
    for preset in PRESETS:
        for doc in render(preset):
            labels = doc["metadata"]["labels"]
            assert labels["app.kubernetes.io/instance"] == "dir" and labels["app.kubernetes.io/name"], doc["kind"]
            assert ("namespace" in doc["metadata"]) != (doc["kind"] in cluster), doc["kind"]


# -- identity -----------------------------------------------------------------------------------------------------


def test_every_workload_has_an_identity_of_its_own(production):
    accounts = {owner: p["spec"]["serviceAccountName"] for owner, p in pod_templates(production).items()}
    assert len(set(accounts.values())) == len(accounts)
    assert set(accounts.values()) == {a["metadata"]["name"] for a in all_of(production, "ServiceAccount")}


def test_spiffe_ids_name_namespace_and_service_account(production):
    api = find(production, "ClusterSPIFFEID", "dir-prod-dir-apiserver")["spec"]
    assert api["spiffeIDTemplate"] == "spiffe://your-domain.com/ns/dir-prod/sa/dir-apiserver"
    assert api["workloadSelectorTemplates"] == ["k8s:ns:dir-prod", "k8s:sa:dir-apiserver"]
    assert api["className"] == "dir-spire"
    # The first one becomes the subject that a look at the public host shows.
    assert api["dnsNameTemplates"][0] == "api.your-domain.com"
    assert "dir-apiserver.dir-prod.svc" in api["dnsNameTemplates"]
    job = find(production, "ClusterSPIFFEID", "dir-prod-dir-apiserver-admin")["spec"]
    assert job["spiffeIDTemplate"] == "spiffe://your-domain.com/ns/dir-admin/sa/dir-apiserver-admin"
    assert "dnsNameTemplates" not in job


@pytest.mark.parametrize("preset", PRESETS)
def test_identities_select_exactly_their_pods(preset):
    docs = render(preset)
    pods = {}
    for doc in docs:
        spec = doc.get("spec", {})
        pod = spec.get("jobTemplate", {}).get("spec", {}).get("template") or spec.get("template")
        if pod:
            pods[doc["metadata"]["name"]] = (doc["metadata"]["namespace"], pod)
    for identity in all_of(docs, "ClusterSPIFFEID"):
        spec = identity["spec"]
        namespace = spec["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        chosen = [p for ns, p in pods.values()
                  if ns == namespace and spec["podSelector"]["matchLabels"].items() <= p["metadata"]["labels"].items()]
        assert len(chosen) == 1
        assert spec["spiffeIDTemplate"].endswith(f"/ns/{namespace}/sa/{chosen[0]['spec']['serviceAccountName']}")


def test_class_none_leaves_the_field_out():
    for identity in all_of(render(("production",), {"spire.className": "none"}), "ClusterSPIFFEID"):
        assert "className" not in identity["spec"]


def test_without_csi_the_socket_comes_from_the_node():
    pod = pod_templates(render((), {"spire.useCSIDriver": False}))["Deployment/dir-apiserver"]
    [volume] = [v for v in pod["spec"]["volumes"] if v["name"] == "spire-agent-socket"]
    assert volume["hostPath"] == {"path": "/run/spire/agent-sockets", "type": "Directory"}


# -- configuration ------------------------------------------------------------------------------------------------


def test_what_the_chart_fills_in():
    config = config_of(render(("production",)))
    assert config["profile"] == "production"
    assert config["authn"]["socket_path"] == "unix:///run/spire/agent-sockets/api.sock"
    assert config["authn"]["public_hostnames"] == ["api.your-domain.com"]
    assert config["store"]["oci"]["registry_address"] == "dir-zot.dir-prod.svc:5000"
    assert config["state_dir"].startswith("/var/lib/directory/database/")
    assert config["database"]["embedded"]["path"].startswith("/var/lib/directory/database/")
    assert config["routing"]["datastore_dir"] == "/var/lib/directory/routing"
    assert "bootstrap_peers" not in config["routing"]


def test_clients_behind_one_address_are_not_capped_as_one():
    """Passthrough and node ports hide the clients' addresses: a cap per address would be a cap on everybody."""
    for presets in (("production",), ("local",)):
        assert config_of(render(presets))["limits"]["connections"]["per_ip"] == 0
    assert config_of(render(("production",), {"config.limits.connections.per_ip": 7}))["limits"]["connections"] == {"per_ip": 7}
    assert "limits" not in config_of(render(("production",), {"config.listen.proxy_protocol": "required"}))
    assert "limits" not in config_of(render((), {"ingress.enabled": False, "service.type": "ClusterIP"}))


def test_jobs_authenticate_as_the_server_wants_it():
    def env(values):
        rendered = pod_templates(render(("production",), values))
        [pod] = [pod for name, pod in rendered.items() if name.startswith("CronJob/")][:1]
        return {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}

    assert env({})["DIRECTORY_CLIENT_AUTH_MODE"] == "x509"
    assert "DIRECTORY_CLIENT_JWT_AUDIENCE" not in env({})
    jwt = {"config.authn.mode": "jwt", "config.authn.audiences": ["https://dir.example", "second"]}
    assert env(jwt)["DIRECTORY_CLIENT_AUTH_MODE"] == "jwt"
    assert env(jwt)["DIRECTORY_CLIENT_JWT_AUDIENCE"] == "https://dir.example"
    assert config_of(render((), jwt))["authn"]["audiences"] == ["https://dir.example", "second"]


def test_what_is_given_wins():
    config = config_of(render((), {"config.store.oci.registry_address": "registry.example.net", "config.authn.socket_path": "unix:///x",
                                   "zot.enabled": False, "config.connection.max_recv_msg_size": 4194304}))
    assert config["store"]["oci"]["registry_address"] == "registry.example.net"
    assert config["authn"]["socket_path"] == "unix:///x"
    assert config["connection"]["max_recv_msg_size"] == 4194304


def test_rate_limits_of_the_presets():
    local = config_of(render(("local",)))["ratelimit"]
    assert (local["enabled"], local["global_rps"], local["global_burst"]) == (True, 50, 100)
    prod = config_of(render(("production",)))["ratelimit"]
    assert prod == {"enabled": True, "global_rps": 500, "global_burst": 1000, "per_client_rps": 100, "per_client_burst": 200}


def test_default_policy():
    assert policy_of(render(("production",))) == [
        "p,your-domain.com,*",
        "p,*,/agntcy.dir.store.v1.StoreService/Pull",
        "p,*,/agntcy.dir.store.v1.StoreService/PullReferrer",
        "p,*,/agntcy.dir.store.v1.StoreService/Lookup",
    ]
    assert policy_of(render(("local",)))[0] == "p,example.org,*"
    lines = ["p,a.example,*", "p,b.example,/agntcy.dir.store.v1.StoreService/Pull"]
    assert policy_of(render((), {"authz.policies": lines})) == lines
    assert policy_of(render((), {"authz.policies": "\n".join(lines) + "\n"})) == lines


# -- sizes, volumes, credentials ----------------------------------------------------------------------------------


def test_resources_of_the_presets():
    def of(preset):
        [container] = find(render((preset,)), "Deployment")["spec"]["template"]["spec"]["containers"]
        return container["resources"]

    assert of("local")["requests"] == {"cpu": "250m", "memory": "512Mi"}
    assert of("production") == {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2000m", "memory": "4Gi"}}


def test_production_keeps_its_data(production):
    claims = {c["metadata"]["name"]: c for c in all_of(production, "PersistentVolumeClaim")}
    sizes = {n: c["spec"]["resources"]["requests"]["storage"] for n, c in claims.items()}
    assert sizes == {"dir-apiserver-routing": "20Gi", "dir-apiserver-database": "5Gi"}
    [zot] = find(production, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert zot["spec"]["resources"]["requests"]["storage"] == "100Gi"
    for claim in [*claims.values(), zot]:
        assert claim["spec"]["storageClassName"] == "ebs-sc-encrypted"
    for claim in claims.values():
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    deployment = find(production, "Deployment")
    assert deployment["spec"]["strategy"]["type"] == "Recreate" and deployment["spec"]["replicas"] == 1
    bound = {v["persistentVolumeClaim"]["claimName"] for v in deployment["spec"]["template"]["spec"]["volumes"] if "persistentVolumeClaim" in v}
    assert bound == set(claims)


def test_local_keeps_nothing():
    docs = render(("local",))
    assert not all_of(docs, "PersistentVolumeClaim")
    for owner, pod in pod_templates(docs).items():
        assert not any("persistentVolumeClaim" in v for v in pod["spec"]["volumes"]), owner
    assert "volumeClaimTemplates" not in find(docs, "StatefulSet")["spec"]


def test_one_writer_on_the_registry():
    for preset in PRESETS:
        assert find(render(preset), "StatefulSet")["spec"]["replicas"] == 1


def test_credentials_come_from_the_store_in_production(production):
    assert not all_of(production, "Secret")
    wanted = {e["metadata"]["name"]: {d["secretKey"] for d in e["spec"]["data"]} for e in all_of(production, "ExternalSecret")}
    assert wanted == {"dir-apiserver-registry": {"registry-username", "registry-password"}, "dir-zot-users": {"htpasswd"}}
    for secret in all_of(production, "ExternalSecret"):
        assert secret["apiVersion"] == "external-secrets.io/v1"
        assert secret["spec"]["target"]["deletionPolicy"] == "Retain"


@pytest.mark.parametrize("preset", [("local",), ("production",)])
def test_every_referenced_secret_key_is_made(preset):
    docs = render(preset)
    made = {s["metadata"]["name"]: set(s["stringData"]) for s in all_of(docs, "Secret")}
    made |= {e["spec"]["target"]["name"]: {d["secretKey"] for d in e["spec"]["data"]} for e in all_of(docs, "ExternalSecret")}
    used = set()
    for _, pod, container in containers(docs):
        for env in container.get("env", []):
            if "valueFrom" in env:
                ref = env["valueFrom"]["secretKeyRef"]
                used.add((ref["name"], ref["key"]))
        for volume in pod["spec"]["volumes"]:
            for source in volume.get("projected", {}).get("sources", []):
                for item in source.get("secret", {}).get("items", []):
                    used.add((source["secret"]["name"], item["key"]))
    assert used and used == {(name, key) for name, keys in made.items() for key in keys}


# -- jobs ---------------------------------------------------------------------------------------------------------


def test_the_job_lives_in_the_admin_namespace(production):
    job = find(production, "CronJob")
    assert job["metadata"]["namespace"] == "dir-admin"
    assert find(production, "Namespace")["metadata"]["name"] == "dir-admin"
    assert find(production, "ServiceAccount", "dir-apiserver-admin")["metadata"]["namespace"] == "dir-admin"
    spec = job["spec"]
    assert spec["concurrencyPolicy"] == "Forbid" and spec["suspend"] is False
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (3, 3)
    [container] = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["federation", "check"]
    env = {e["name"]: e["value"] for e in container["env"]}
    assert env["DIRECTORY_CLIENT_SERVER_ADDRESS"] == "dir-apiserver.dir-prod.svc:8888"
    identity = find(production, "ClusterSPIFFEID", "dir-prod-dir-apiserver")["spec"]["spiffeIDTemplate"]
    assert env["DIRECTORY_CLIENT_EXPECTED_SERVER_ID"] == identity
    assert env["DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH"] == "unix:///run/spire/agent-sockets/api.sock"


def test_local_jobs_wait_to_be_started_by_hand():
    assert find(render(("local",)), "CronJob")["spec"]["suspend"] is True


def test_the_job_may_share_the_namespace():
    docs = render((), {"admin.enabled": True, "admin.namespace": "dir-prod", "admin.createNamespace": False})
    assert not all_of(docs, "Namespace")
    assert find(docs, "CronJob")["metadata"]["namespace"] == "dir-prod"


# -- values -------------------------------------------------------------------------------------------------------


def test_images_by_digest():
    digest = "sha256:" + "ab" * 32
    [container] = find(render((), {"image.digest": digest}), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"ghcr.io/directory/apiserver@{digest}"
    for _, _, container in containers(render(("production",))):
        assert not container["image"].endswith(":latest") and (":" in container["image"])


def test_every_value_is_explained():
    """A key of values.yaml at the first two levels has a comment on the line above, or belongs to a group that has."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = []
    for at, line in enumerate(lines):
        if line and not line.startswith((" ", "#")) and not lines[at - 1].startswith("#"):
            nested = [n for n in lines[at + 1 : at + 3] if n.strip().startswith("#")]
            if not nested and line.split(":")[1].strip():
                bare.append(line)
    allowed = {"nodeSelector: {}", "affinity: {}", "tolerations: []", "topologySpreadConstraints: []", 'priorityClassName: ""',
               "podAnnotations: {}", "podLabels: {}", "replicaCount: 1", "revisionHistoryLimit: 2"}
    assert set(bare) <= allowed
