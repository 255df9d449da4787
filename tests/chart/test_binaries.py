"""What the chart renders is what the real programs read: configuration, environment, policy, arguments."""

import json
import os
import subprocess

import pytest
import yaml
from support import CHART, PRESETS, all_of, binary, containers, find, render

# Keys that a cluster has no use for: the embedded Workload API is for trying out without SPIRE.
NOT_IN_THE_CHART = "dev_identity."
# Variables of the SPIFFE specification, not ours.
FOREIGN = {"SPIFFE_ENDPOINT_SOCKET"}


def run(name: str, *args: str, env: dict | None = None) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DIRECTORY_", "RECONCILER_", "SPIFFE_"))}
    return subprocess.run([binary(name), *args], capture_output=True, text=True, check=False, timeout=60,
                          env=clean | (env or {}), stdin=subprocess.DEVNULL)


def config_files(docs, folder):
    for doc in all_of(docs, "ConfigMap"):
        for key, text in doc["data"].items():
            (folder / key).write_text(text)
    return folder / "server.config.yml"


def server_env(docs) -> dict:
    [container] = find(docs, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {e["name"]: e.get("value", "from-a-secret") for e in container["env"]}


def check(docs, folder) -> subprocess.CompletedProcess[str]:
    return run("dir-apiserver", "config", "check", str(config_files(docs, folder)), env=server_env(docs))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_server_accepts_its_configuration(preset, tmp_path):
    docs = render(preset)
    done = check(docs, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = (done.stdout + done.stderr).lower()
    assert "0 errors, 0 warnings" in said, said


@pytest.mark.parametrize("preset", PRESETS)
def test_the_server_accepts_its_policy(preset, tmp_path):
    config_files(render(preset), tmp_path)
    policy = tmp_path / "authz_policies.csv"
    done = run("dir-apiserver", "authz", "check", str(policy), "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["rules"] == 4 and told["errors"] + told["findings"] + told["warnings"] == []


def test_the_policy_means_what_the_chart_says(tmp_path):
    config_files(render(("local",)), tmp_path)
    own, partner = "spiffe://example.org/ns/a/sa/b", "spiffe://partner.example/ns/a/sa/b"
    store = "/agntcy.dir.store.v1.StoreService"
    cases = [(own, f"{store}/Push", "allow"), (partner, f"{store}/Pull", "allow"), (partner, f"{store}/Lookup", "allow"),
             (partner, f"{store}/Push", "deny"),
             (partner, "/agntcy.dir.store.v1.SyncService/RequestRegistryCredentials", "deny")]
    table = {"policy": "authz_policies.csv",
             "cases": [{"subject": s, "method": m, "expect": e} for s, m, e in cases]}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(table))
    done = run("dir-apiserver", "authz", "test", str(tmp_path / "cases.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_server_refuses_a_broken_policy(tmp_path):
    lines = ["p,example.org,*", "p,b.example,/agntcy.dir.store.v1.StoreService/Pul"]
    config_files(render((), {"authz.policies": lines}), tmp_path)
    done = run("dir-apiserver", "authz", "check", str(tmp_path / "authz_policies.csv"))
    assert done.returncode == 4, done.stdout
    assert "did you mean /agntcy.dir.store.v1.StoreService/Pull?" in done.stdout


def test_the_server_refuses_a_broken_configuration(tmp_path):
    docs = render(("production",))
    path = config_files(docs, tmp_path)
    path.write_text(path.read_text().replace("registry_address", "registry_adress"))
    done = run("dir-apiserver", "config", "check", str(path), env=server_env(docs))
    assert done.returncode == 4, done.stdout
    assert "registry_adress" in done.stdout + done.stderr


def test_every_variable_of_the_server_is_one_it_reads(tmp_path):
    docs = render(("production",))
    known = run("dir-apiserver", "config", "env").stdout
    ours = {name for name in server_env(docs) if name.startswith("DIRECTORY_SERVER_")}
    assert ours and all(f"`{name}`" in known for name in ours), ours
    # A variable that nobody reads is found out, so the check above means something.
    done = run("dir-apiserver", "config", "check", str(config_files(docs, tmp_path)),
               env=server_env(docs) | {"DIRECTORY_SERVER_NO_SUCH_KEY": "1"})
    assert "DIRECTORY_SERVER_NO_SUCH_KEY" in done.stdout + done.stderr
    prefixes = ("DIRECTORY_SERVER_", "DIRECTORY_LOGGER_", "DIRECTORY_CLIENT_")
    for preset in PRESETS:
        for _, _, container in containers(render(preset)):
            for entry in container.get("env", []):
                assert entry["name"].startswith(prefixes) or entry["name"] in FOREIGN


def test_the_schema_knows_the_keys_of_the_server_and_no_others():
    def leaves(schema, path=""):
        properties = schema.get("properties")
        if not properties:
            return {path}
        return {leaf for key, sub in properties.items() for leaf in leaves(sub, f"{path}.{key}" if path else key)}

    schema = json.loads((CHART / "values.schema.json").read_text())
    done = run("dir-apiserver", "config", "show", "--output", "json")
    assert done.returncode == 0, done.stderr
    server = {entry["key"] for entry in json.loads(done.stdout)}
    server = {key for key in server if not key.startswith(NOT_IN_THE_CHART)}
    chart = leaves(schema["properties"]["config"])
    assert (chart - server, server - chart) == (set(), set())


def test_the_server_reads_what_the_chart_says(tmp_path):
    """Not only accepted: the values arrive, from the file and from the variables."""
    docs = render(("production",))
    path = config_files(docs, tmp_path)
    done = run("dir-apiserver", "config", "show", "--config", str(path), "--output", "json", env=server_env(docs))
    assert done.returncode == 0, done.stderr
    shown = {entry["key"]: entry for entry in json.loads(done.stdout)}
    assert shown["authn.trust_domain"]["value"] == "your-domain.com"
    assert shown["authn.public_hostnames"]["value"] == ["api.your-domain.com"]
    assert shown["ratelimit.global_rps"]["value"] == 500
    assert shown["metrics.address"]["value"] == ":9090"
    assert shown["store.oci.registry_address"]["value"] == "dir-zot.dir-prod.svc:5000"
    assert shown["store.oci.auth_config.username"]["value"] == "from-a-secret"
    assert "from-a-secret" not in json.dumps(shown["store.oci.auth_config.password"]["value"])

    def leaves(tree, at=""):
        for key, value in tree.items():
            name = f"{at}.{key}" if at else key
            if isinstance(value, dict):
                yield from leaves(value, name)
            else:
                yield name

    for key in leaves(yaml.safe_load(path.read_text())):
        assert shown[key]["source"]["kind"] == "file", key


@pytest.mark.parametrize("preset", [("local",), ("production",)])
def test_the_jobs_are_commands_that_dir_admin_has(preset):
    jobs = all_of(render(preset), "CronJob")
    assert jobs
    for job in jobs:
        [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        env = {e["name"]: e["value"] for e in container["env"]}
        # Parsed in full, then help instead of a call.
        done = run("dir-admin", *container["args"], "--help", env=env)
        assert done.returncode == 0 and "Usage:" in done.stdout, done.stderr
        broken = run("dir-admin", *container["args"], "--no-such-flag", "--help", env=env)
        assert broken.returncode == 2, broken.stderr


def test_the_arguments_of_the_server():
    [container] = find(render(("production",)), "Deployment")["spec"]["template"]["spec"]["containers"]
    done = run("dir-apiserver", *container["args"], "--help")
    assert done.returncode == 0 and "Usage: dir-apiserver serve" in done.stdout, done.stderr
