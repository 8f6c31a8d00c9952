#!/usr/bin/env python3
"""Holds everything in deploy/kubernetes to Kubernetes' own schemas and to what the manifests promise.

    python3 -m venv target/deploy-venv && target/deploy-venv/bin/pip install -r deploy/kubernetes/requirements.txt
    target/deploy-venv/bin/python deploy/kubernetes/validate.py target/debug/forebay

The chart is linted and rendered by Helm, with its defaults and with each file of helm/ci. Every rendered or plain object must be
one that Kubernetes knows (strictly: no unknown key), every pod one that its `restricted` Pod Security Standard lets in, every
grace period long enough for the stop of the relay in it, and every configuration one that the given forebay loads.
"""

import base64
import copy
import pathlib
import subprocess
import sys
import tempfile

import helm_python
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE / "helm" / "forebay"
# The oldest that the chart says it is for, and the newest whose schema there is.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]
# Of the Prometheus operator: no schema of Kubernetes' own.
FOREIGN = {"PodMonitor": ("podMetricsEndpoints",), "ServiceMonitor": ("endpoints",)}
# What a process needs to end, beyond preStop and `shutdown_timeout`.
SPARE_SECONDS = 5


class Mistakes:
    def __init__(self):
        self.all = []
        self.checks = 0

    def expect(self, holds, what):
        self.checks += 1
        if not holds:
            self.all.append(what)


def objects(text, where):
    for number, found in enumerate(yaml.safe_load_all(text)):
        if found:
            yield f"{where}, object {number}", found


def rendered(mistakes):
    """The chart, with every set of values."""
    findings = helm_python.lint(str(CHART))
    # 1 is advice: there is no icon.
    grave = [found for found in findings["messages"] if found["severity"] > 1]
    mistakes.expect(not grave and not findings["errors"] and findings["total_charts_linted"] == 1, f"lint: {findings}")
    sets = [CHART / "values.yaml", *sorted((HERE / "helm" / "ci").glob("*.yaml"))]
    mistakes.expect(len(sets) >= 4, f"only {sets}")
    with helm_python.Chart.load(str(CHART)) as chart:
        for values in sets:
            given = yaml.safe_load(values.read_text()) or {}
            if values.name == "values.yaml":
                try:
                    chart.render(given, name="no-keys", namespace="logs")
                    mistakes.expect(False, "the chart renders without any intake key")
                except helm_python.HelmError as error:
                    mistakes.expect("intake keys" in str(error), f"without keys: {error}")
                given = {"keys": {"default": "0123456789abcdef"}}
            chart.validate_schema(given)
            found = []
            for name, text in chart.render(given, name="logs", namespace="logs").items():
                if not name.endswith(".txt"):
                    found += objects(text, f"{values.name}: {name}")
            yield values.name, found
        try:
            chart.validate_schema({"mode": "cluster"})
            mistakes.expect(False, "the chart's schema takes any mode")
        except helm_python.HelmError:
            mistakes.expect(True, "")


def plain(mistakes):
    """The manifests of each kustomization, as kustomize would put them together."""
    for folder in sorted(path.parent for path in HERE.glob("*/kustomization.yaml")):
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        found = []
        for name in kustomization["resources"]:
            found += objects((folder / name).read_text(), f"{folder.name}/{name}")
        for generator in kustomization.get("configMapGenerator", []):
            data = {file: (folder / file).read_text() for file in generator["files"]}
            found.append((f"{folder.name}/{generator['name']}", {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": generator["name"]}, "data": data}))
        for generator in kustomization.get("secretGenerator", []):
            pairs = dict(line.split("=", 1) for line in generator["literals"])
            found.append((f"{folder.name}/{generator['name']}", {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": generator["name"]}, "stringData": pairs}))
        used = {folder / name for name in kustomization["resources"]}
        used |= {folder / file for generator in kustomization.get("configMapGenerator", []) for file in generator["files"]}
        left = [path.name for path in folder.glob("*.yaml") if path not in used and path.name != "kustomization.yaml"]
        mistakes.expect(not left, f"{folder.name}: {left} are in no list of the kustomization")
        yield folder.name, found


def pod_of(found):
    kind = found["kind"]
    if kind == "Pod":
        return found["spec"]
    if kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        return found["spec"]["template"]["spec"]
    return None


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def restricted(pod, where, mistakes):
    """Kubernetes' Pod Security Standard of that name, and a root that is read only."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        mistakes.expect(not pod.get(key), f"{where}: {key}")
    own = pod.get("securityContext", {})
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        allowed = {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "downwardAPI", "csi", "ephemeral"}
        mistakes.expect(kinds <= allowed, f"{where}: volume {volume['name']} is {kinds}")
        # Kubernetes' default is 0644, which forebay refuses.
        mode = volume.get("secret", {"defaultMode": 0}).get("defaultMode", 0o644)
        mistakes.expect(mode & 0o137 == 0, f"{where}: others may read the keys of volume {volume['name']} ({mode:o})")
    for container in containers(pod):
        context = {**own, **container.get("securityContext", {})}
        name = f"{where}: container {container['name']}"
        mistakes.expect(context.get("runAsNonRoot") is True, f"{name} may run as root")
        mistakes.expect(context.get("runAsUser") != 0, f"{name} runs as root")
        mistakes.expect(context.get("allowPrivilegeEscalation") is False, f"{name} may gain privileges")
        mistakes.expect(context.get("capabilities", {}).get("drop") == ["ALL"], f"{name} keeps capabilities")
        added = set(context.get("capabilities", {}).get("add", []))
        mistakes.expect(added <= {"NET_BIND_SERVICE"}, f"{name} adds {added}")
        mistakes.expect(context.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"), f"{name}: seccomp")
        mistakes.expect(not context.get("privileged"), f"{name} is privileged")
        mistakes.expect(context.get("readOnlyRootFilesystem") is True, f"{name} may write to its root")
        mistakes.expect(not any("hostPort" in port for port in container.get("ports", [])), f"{name} has a port of the node")


def check(forebay, arguments, environment, where, mistakes):
    done = subprocess.run([forebay, "check", *arguments], capture_output=True, text=True, env=environment)
    mistakes.expect(done.returncode == 0 and not done.stderr, f"{where}: forebay check: {done.stderr}")


def load(files, keys, forebay, where, mistakes):
    """Has forebay load a ConfigMap's files, with these keys as credentials."""
    with tempfile.TemporaryDirectory() as folder:
        config, credentials = pathlib.Path(folder, "config"), pathlib.Path(folder, "keys")
        config.mkdir()
        credentials.mkdir()
        for name, text in files.items():
            (config / name).write_text(text)
        for name, text in keys.items():
            (credentials / name).write_text(text)
            # As the manifests mount them.
            (credentials / name).chmod(0o440)
        check(forebay, ["-c", config], {"CREDENTIALS_DIRECTORY": str(credentials)}, where, mistakes)


def seconds(files):
    """`shutdown_timeout` of a configuration: its default is 10 s."""
    for text in files.values():
        timeout = (yaml.safe_load(text) or {}).get("shutdown_timeout")
        if timeout:
            return int(timeout.removesuffix("s"))
    return 10


def together(name, found, forebay, mistakes):
    """What holds between the objects of one installation."""
    by_kind = {}
    for where, each in found:
        by_kind.setdefault(each["kind"], []).append((where, each))
    keys = {}
    for _, secret in by_kind.get("Secret", []):
        keys.update(secret.get("stringData", {}))
        keys.update({key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()})
    keys = keys or {"default": "0123456789abcdef", "linux": "0123456789abcdef", "firewall": "0123456789abcdef"}
    files = {}
    for where, config in by_kind.get("ConfigMap", []):
        load(config["data"], keys, forebay, where, mistakes)
        files.update(config["data"])
    pods = [(where, each, pod_of(each)) for where, each in found if pod_of(each)]
    mistakes.expect(len(pods) == 1, f"{name}: {len(pods)} workloads")
    for where, each, pod in pods:
        restricted(pod, where, mistakes)
        relay = next(container for container in containers(pod) if container["name"] == "forebay")
        grace = pod.get("terminationGracePeriodSeconds", 30)
        before = relay.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        mistakes.expect(grace >= before + seconds(files) + SPARE_SECONDS, f"{where}: {grace} s are too short for {before} + {seconds(files)} s")
        mistakes.expect(pod.get("enableServiceLinks") is False, f"{where}: services' variables reach the relay")
        for probe in ("startupProbe", "readinessProbe"):
            mistakes.expect(relay[probe]["httpGet"]["path"] == "/readyz", f"{where}: {probe}")
        mounted = {mount["name"] for mount in relay.get("volumeMounts", [])}
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])}
        mistakes.expect(mounted <= volumes, f"{where}: {mounted - volumes} are mounted and not there")
        if not files:
            variables = {name["name"]: name.get("value", "0123456789abcdef") for name in relay["env"]}
            check(forebay, [], variables, where, mistakes)
        if each["kind"] == "Pod":
            continue
        labels = each["spec"]["template"]["metadata"]["labels"]
        ports = {port["name"]: port for port in relay["ports"]}
        for _, service in by_kind.get("Service", []):
            selector = service["spec"]["selector"]
            mistakes.expect(selector.items() <= labels.items(), f"{name}: a Service selects nothing")
            for port in service["spec"]["ports"]:
                target = ports.get(port["targetPort"])
                mistakes.expect(target and target["protocol"] == port["protocol"], f"{name}: {port} leads nowhere")
            if service["spec"].get("type") == "LoadBalancer":
                mistakes.expect(service["spec"].get("externalTrafficPolicy") == "Local", f"{name}: peers are lost")
        for kind in ("PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
            for where_else, other in by_kind.get(kind, []):
                selector = other["spec"].get("selector", other["spec"].get("podSelector"))["matchLabels"]
                mistakes.expect(selector.items() <= labels.items(), f"{where_else} selects nothing")


def known(where, each, mistakes):
    """Whether Kubernetes has such an object, and knows all of its keys."""
    if each["kind"] in FOREIGN:
        needs = all(each["spec"].get(key) for key in FOREIGN[each["kind"]])
        mistakes.expect(needs and each["spec"]["selector"]["matchLabels"], f"{where}: {each}")
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(each, version, strict=True)
            mistakes.expect(True, "")
        except kubernetes_validate.ValidationError as error:
            mistakes.expect(False, f"{where} ({version}): {error.path}: {error.message}")


def hand_over(forebay, mistakes):
    """The Job that sends the spool of a replica that is gone."""
    found = list(objects((HERE / "hand-over.yaml").read_text(), "hand-over.yaml"))
    for where, each in found:
        known(where, each, mistakes)
        pod = pod_of(each)
        restricted(pod, where, mistakes)
        (container,) = containers(pod)
        command, at = [word for word in container["args"] if not word.startswith("/")], container["args"][-1]
        done = subprocess.run([forebay, *command[:-1], "--help"], capture_output=True, text=True, env={})
        mistakes.expect(done.returncode == 0 and command[-1] == "-c" and "-c, --config" in done.stdout, f"{where}: {command}")
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        mistakes.expect(set(mounted) == {volume["name"] for volume in pod["volumes"]}, f"{where}: {mounted}")
        mistakes.expect(at in mounted.values(), f"{where}: nothing is mounted at {at}")
    return len(found)


def damage(found, forebay, mistakes):
    """Each of these must be found: a check that cannot fail is none."""

    def pod(objects):
        return next(pod_of(each) for _, each in objects if pod_of(each))

    damages = {
        "an unknown key": lambda objects: pod(objects).update(terminationGracePeriod=1),
        "a root": lambda objects: pod(objects)["securityContext"].update(runAsNonRoot=False),
        "a capability": lambda objects: pod(objects)["containers"][0]["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
        "a folder of the node": lambda objects: pod(objects)["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
        "a key that all may read": lambda objects: [volume["secret"].pop("defaultMode") for volume in pod(objects)["volumes"] if "secret" in volume],
        "a short grace": lambda objects: pod(objects).update(terminationGracePeriodSeconds=30),
        "an unknown route key": lambda objects: [each["data"].update({"z.yaml": "routes: [{nmae: a}]"}) for _, each in objects if each["kind"] == "ConfigMap"],
        "a port that leads nowhere": lambda objects: pod(objects)["containers"][0]["ports"].pop(0),
        "a label that nobody has": lambda objects: [each["spec"]["selector"]["matchLabels"].update(a="b") for _, each in objects if each["kind"] == "PodDisruptionBudget"],
    }
    for what, harm in damages.items():
        objects, own = copy.deepcopy(found), Mistakes()
        harm(objects)
        for where, each in objects:
            known(where, each, own)
        together("damaged", objects, forebay, own)
        mistakes.expect(own.all, f"{what} is not found")


def main():
    forebay = pathlib.Path(sys.argv[1]).resolve()
    mistakes = Mistakes()
    count = hand_over(forebay, mistakes)
    sets = [*rendered(mistakes), *plain(mistakes)]
    damage(dict(sets)["everything.yaml"], forebay, mistakes)
    for name, found in sets:
        for where, each in found:
            count += 1
            known(where, each, mistakes)
        together(name, found, forebay, mistakes)
    for mistake in mistakes.all:
        print(mistake, file=sys.stderr)
    print(f"{count} objects, {mistakes.checks} checks, {len(mistakes.all)} mistakes; Helm {helm_python.helm_sdk_version()}, Kubernetes {VERSIONS}")
    sys.exit(1 if mistakes.all or count < 40 else 0)


main()
