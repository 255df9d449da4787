"""What must not render, each with a sentence of its own."""

import pytest
from support import helm, render, render_args, refused

P = ("production",)
HOST = {"ingress.enabled": True, "global.domain": "your-domain.com"}
PUBLISH = {"config.federation.bundle_endpoint.enabled": True}
SINGLE_NODE = {"persistence.database.enabled": True}

GUARDS = [
    # ingress
    ((), {"ingress.enabled": True}, "needs ingress.hosts or global.domain"),
    (P, {"ingress.tls": [{"hosts": ["api.your-domain.com"], "secretName": "tls"}]}, "secretName cannot be set in passthrough mode"),
    (P, {"ingress.tls": [{"hosts": ["api.your-domain.com"], "secretName": ""}]}, "secretName cannot be set in passthrough mode"),
    (P, {"ingress.tls": [{"hosts": []}]}, "ingress.tls[].hosts is empty"),
    (P, {"ingress.tls": [{}]}, "ingress.tls[].hosts is empty"),
    ((), HOST | {"ingress.className": "alb"}, "application load balancer"),
    (P, {"ingress.hosts": [{"host": "*.your-domain.com"}]}, "wildcard"),
    (P, {"zot.ingress.host": "api.your-domain.com"}, "share the host"),
    (P, {"zot.ingress.tlsSecretName": ""}, "zot.ingress.tlsSecretName is empty"),
    ((), {"zot.ingress.enabled": True, "zot.ingress.tlsSecretName": "t"}, "needs zot.ingress.host or global.domain"),
    # replicas and volumes
    ((), {"replicaCount": 2}, "cannot go with strategy.type Recreate"),
    ((), SINGLE_NODE | {"strategy.type": "RollingUpdate"}, "strategy.type must be Recreate"),
    ((), {"replicaCount": 2, "strategy.type": "RollingUpdate"}, "needs an index that replicas share"),
    # identity
    ((), {"config.authn.enabled": False}, "spire.enabled is on and config.authn.enabled is off"),
    ((), {"spire.enabled": False}, "needs a Workload API"),
    ((), {"spire.enabled": False, "config.authn.enabled": False}, "config.authz.enabled needs config.authn.enabled"),
    ((), {"config.authn.mode": "jwt"}, "config.authn.mode jwt needs config.authn.audiences"),
    ((), {"config.authn.mode": "jwt-tls"}, "mode"),
    ((), PUBLISH | {"spire.enabled": False, "config.authn.enabled": False, "config.authz.enabled": False},
     "bundle_endpoint needs config.authn.enabled"),
    ((), PUBLISH | {"replicaCount": 2, "strategy.type": "RollingUpdate", "config.database.type": "memory"},
     "bundle_endpoint cannot go with replicaCount above 1"),
    ((), PUBLISH | {"config.federation.bundle_endpoint.listen_address": "0.0.0.0:8888"}, "has the port 8888 of the API or of ops"),
    ((), PUBLISH | {"config.federation.bundle_endpoint.listen_address": ":9090"}, "has the port 9090 of the API or of ops"),
    ((), {"bundleService.type": "ExternalName"}, "bundleService"),
    ((), {"config.authn.startup_wait.total": "90s"}, "must stay below the startup probe's budget (90s)"),
    ((), {"config.authn.startup_wait.total": "1m31s"}, "(91s) must stay below"),
    ((), {"config.authn.startup_wait.total": "0"}, "waits for ever"),
    # credentials
    (P, {"externalSecrets.enabled": False, "secrets.registryPassword": "x"}, "profile production refuses credentials in values"),
    (P, {"externalSecrets.enabled": False, "zot.auth.htpasswd": "a:b"}, "profile production refuses credentials in values"),
    (P, {"externalSecrets.enabled": False, "config.store.oci.auth_config.password": "x"}, "profile production refuses credentials in values"),
    (("local",), {"externalSecrets.enabled": True, "externalSecrets.path": "p"}, "are both set"),
    (P, {"externalSecrets.path": ""}, "externalSecrets.path is empty"),
    ((), {"zot.auth.htpasswd": "a:b"}, "the server has none"),
    # jobs
    ((), {"admin.enabled": True, "spire.enabled": False, "config.authn.socket_path": "unix:///x"}, "admin.enabled needs spire.enabled"),
    ((), {"admin.enabled": True, "admin.namespace": "dir-prod"}, "set admin.createNamespace to false"),
    ((), {"admin.enabled": True, "fullnameOverride": "a" * 36}, "more than 52"),
    # production
    (P, {"spire.trustDomain": "example.org"}, 'refuses the trust domain "example.org"'),
    (P, {"spire.trustDomain": "example.com"}, 'refuses the trust domain "example.com"'),
    (P, {"spire.trustDomain": "localhost"}, 'refuses the trust domain "localhost"'),
    (P, {"spire.trustDomain": "cluster.local"}, 'refuses the trust domain "cluster.local"'),
    (P, {"global.domain": "", "ingress.hosts": [{"host": "a.b"}], "zot.ingress.host": "z.b"}, 'refuses the trust domain ""'),
    (P, {"config.authz.enabled": False}, "refuses config.authz.enabled: false"),
    (P, {"spire.enabled": False, "admin.enabled": False, "config.authn.enabled": False, "config.authz.enabled": False},
     "refuses config.authn.enabled: false"),
    (P, {"spire.useCSIDriver": False}, "refuses spire.useCSIDriver: false"),
    (P, {"config.store.oci.advertised_insecure": True}, "refuses config.store.oci.advertised_insecure"),
    (P, {"config.listen.allow_insecure": True}, "refuses config.listen.allow_insecure"),
    (P, {"zot.persistence.enabled": False}, "refuses a registry on an emptyDir"),
    # schema
    ((), {"config.no_such_key": 1}, "no_such_key"),
    ((), {"config.store.oci.registy_address": "x"}, "registy_address"),
    ((), {"nosuchvalue": 1}, "nosuchvalue"),
    ((), {"profile": "staging"}, "profile"),
    ((), {"strategy.type": "recreate"}, "strategy"),
    ((), {"image.digest": "sha256:abc"}, "digest"),
    ((), {"admin.jobs.federation-check.schedule": "every hour"}, "schedule"),
    ((), {"admin.jobs.federation-check.args": []}, "args"),
    ((), {"ingress.mode": "terminate"}, "mode"),
    ((), {"config.authn.startup_wait.total": "1d"}, "total"),
]


@pytest.mark.parametrize(("presets", "values", "sentence"), GUARDS)
def test_refused(presets, values, sentence):
    error = refused(presets, values)
    assert sentence in error, error


EDGES = [
    ((), {"config.authn.startup_wait.total": "89s"}),
    ((), {"config.authn.startup_wait.total": "1m29s"}),
    ((), {"admin.enabled": True, "fullnameOverride": "a" * 35}),
    ((), {"replicaCount": 2, "strategy.type": "RollingUpdate", "config.database.type": "postgres"}),
    ((), {"persistence.routing.enabled": True, "persistence.routing.accessModes": ["ReadWriteMany"], "strategy.type": "RollingUpdate"}),
    ((), {"spire.enabled": False, "config.authn.enabled": False, "config.authz.enabled": False}),
    (P, {"externalSecrets.enabled": False, "secrets.existingSecret": "a", "zot.auth.existingSecret": "b"}),
    (P, {"spire.trustDomain": "agents.your-domain.com"}),
]


@pytest.mark.parametrize(("presets", "values"), EDGES)
def test_just_inside_the_guards(presets, values):
    assert render(presets, values)


def test_notes_warn_of_movable_images_and_of_credentials_in_values():
    def notes(presets, values=None):
        args = render_args(presets, values)
        # `template` leaves the notes out; a client-side dry run of an install prints them.
        done = helm("install", *args[1:5], "--dry-run=client", *args[7:])
        assert done.returncode == 0, done.stderr
        return done.stdout.split("NOTES:")[1]

    assert "named by tag" in notes(P)
    digest = "sha256:" + "0" * 64
    assert "named by tag" not in notes(P, {"image.digest": digest, "admin.image.digest": digest, "zot.image.digest": digest})
    assert "credentials come from values" in notes(("local",))
    assert "credentials come from values" not in notes(P)
