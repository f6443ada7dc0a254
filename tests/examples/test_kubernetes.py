"""The Kubernetes manifests: right by the published schemas, and in step with each other."""

import re

import kubernetes_validate
import pytest
import yaml

from rawproxy import cli
from tests.examples import EXAMPLES

FILES = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
# The newest that the schemas know, and the oldest: what stands in the files is older than both.
VERSIONS = (kubernetes_validate.latest_version(), "1.25")


def manifest(kind: str):
    (found,) = [one for one in map(read, FILES) if one["kind"] == kind]
    return found


def read(path):
    (document,) = yaml.safe_load_all(path.read_text())
    return document


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_published_schemas_accept_it(path, version):
    kubernetes_validate.validate(read(path), version, strict=True)


def test_the_schemas_would_have_found_a_mistake():
    bad = manifest("Deployment")
    bad["spec"]["template"]["spec"]["terminationGracePeriod"] = 45
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(bad, VERSIONS[0], strict=True)


@pytest.fixture
def config(tmp_path):
    """What the ConfigMap's file means."""
    path = tmp_path / "rawproxy.toml"
    path.write_text(manifest("ConfigMap")["data"]["rawproxy.toml"])
    return cli.reread(["--config", str(path)])


def pod():
    return manifest("Deployment")["spec"]["template"]


def container():
    (found,) = pod()["spec"]["containers"]
    return found


def test_ports_are_those_of_the_file(config):
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {
        "http": config.http[0].port,
        "https": config.https[0].port,
        "admin": config.admin.port,
    }
    assert config.admin.host is None, "the kubelet asks from outside of the pod"
    told = {port["targetPort"] for port in manifest("Service")["spec"]["ports"]}
    assert told == {"http", "https"}, "the admin address is not for clients"


def test_the_probes_ask_the_admin_address():
    one = container()
    probes = {name: one[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness", "startup")}
    assert probes["liveness"] == probes["startup"] == {"path": "/healthz", "port": "admin"}
    assert probes["readiness"] == {"path": "/readyz", "port": "admin"}


def test_the_kubelet_waits_for_the_drain(config):
    program, seconds = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    patience = pod()["spec"]["terminationGracePeriodSeconds"]
    assert patience > int(seconds) + config.deadlines.drain


def test_everything_selects_the_same_pods():
    labels = pod()["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert manifest(kind)["spec"]["selector"]["matchLabels"] == labels
    assert manifest("Service")["spec"]["selector"] == labels


def test_the_pod_has_no_privilege():
    inner, outer = container()["securityContext"], pod()["spec"]["securityContext"]
    assert inner["capabilities"] == {"drop": ["ALL"]} and not inner["allowPrivilegeEscalation"]
    assert inner["readOnlyRootFilesystem"] and outer["runAsNonRoot"]
    (user,) = re.findall(r"^USER (\d+):", (EXAMPLES / "docker/Dockerfile").read_text(), re.M)
    assert outer["runAsUser"] == int(user)


def test_certificates_are_where_the_secret_is_mounted(config):
    (certificate,) = config.sites[0].certificates
    mounts = {one["name"]: one["mountPath"] for one in container()["volumeMounts"]}
    assert (certificate.cert, certificate.key) == (
        f"{mounts['certs']}/tls.crt",
        f"{mounts['certs']}/tls.key",
    )
    assert container()["args"] == ["--config", f"{mounts['config']}/rawproxy.toml"]


def test_a_deploy_rolls_as_the_page_says():
    """docs/scale.md: a new pod before an old one goes, and clients' addresses as they are."""
    page = (EXAMPLES.parent / "docs" / "scale.md").read_text()
    rolling = manifest("Deployment")["spec"]["strategy"]["rollingUpdate"]
    for name, value in rolling.items():
        assert f"`{name}: {value}`" in page
    assert rolling == {"maxUnavailable": 0, "maxSurge": 1}
    policy = manifest("Service")["spec"]["externalTrafficPolicy"]
    assert f"`externalTrafficPolicy: {policy}`" in page
    assert manifest("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
