"""A stand-in for the part of Kubernetes that runs Jobs: pods are processes of this machine, volumes are folders.

It follows the rules that matter here: no GPU without a limit, SIGTERM, and SIGKILL after the grace period, the failure
policy of the Job, and its limit of restarts. It proves what our manifest and our script do, not what Kubernetes does.
"""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path


class RefusedError(Exception):
    """The API server's answer to a manifest that it does not take."""


class Cluster:
    """Runs Jobs.

    Args:
        claims: name of a PersistentVolumeClaim → folder.
        environment: what the image has in its environment.
    """

    def __init__(self, claims: dict[str, Path], environment: dict[str, str]):
        self.claims, self.environment = claims, environment

    def create(self, manifest: dict) -> "RunningJob":
        """Start a Job.

        Raises:
            RefusedError: the manifest breaks a rule of the API server.
        """
        spec = manifest["spec"]["template"]["spec"]
        for container in spec["containers"]:
            asked, limits = (container["resources"].get(key, {}) for key in ("requests", "limits"))
            for name, amount in asked.items():
                if "/" in name and limits.get(name) != amount:
                    raise RefusedError(f"Limit must be set for non overcommitable resources ({name})")
        if "podFailurePolicy" in manifest["spec"] and spec["restartPolicy"] != "Never":
            raise RefusedError("restartPolicy: only Never is supported when podFailurePolicy is specified")
        for volume in spec["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in self.claims:
                raise RefusedError(f"persistentvolumeclaim {claim} not found")
        return RunningJob(manifest["spec"], self)


class RunningJob:
    """A Job: ``status`` is ``active``, ``succeeded`` or ``failed``, ``pods`` the exit statuses of its pods so far."""

    def __init__(self, spec: dict, cluster: Cluster):
        self.spec, self.cluster = spec, cluster
        self.status, self.pods, self.output = "active", [], ""
        self._process: subprocess.Popen | None = None
        self._disrupted = False
        self._thread = threading.Thread(target=self._control, daemon=True)
        self._thread.start()

    def wait(self, timeout: float) -> str:
        self._thread.join(timeout)
        return self.status

    def stop_pod(self, disrupted: bool = False) -> None:
        """SIGTERM to the first process of the pod, and SIGKILL to all of them after the grace period.

        Args:
            disrupted: whether Kubernetes itself evicts it (the condition DisruptionTarget).
        """
        process, self._disrupted = self._process, disrupted
        process.send_signal(signal.SIGTERM)
        end = time.monotonic() + self.spec["template"]["spec"]["terminationGracePeriodSeconds"]
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def _control(self) -> None:
        counted = 0
        while self.status == "active":
            self._disrupted = False
            self._process = self._start()
            self.output += self._process.communicate()[0]
            code = self._process.returncode
            code = 128 - code if code < 0 else code
            self.pods.append(code)
            action = "Succeed" if code == 0 else self._action(code)
            counted += action == "Count"
            if action == "Succeed":
                self.status = "succeeded"
            elif action == "FailJob" or counted > self.spec["backoffLimit"]:
                self.status = "failed"

    def _action(self, code: int) -> str:
        for rule in self.spec["podFailurePolicy"]["rules"]:
            if "onPodConditions" in rule and self._disrupted:
                return rule["action"]
            exits = rule.get("onExitCodes")
            if exits and (code in exits["values"]) == (exits["operator"] == "In"):
                return rule["action"]
        return "Count"

    def _start(self) -> subprocess.Popen:
        pod = self.spec["template"]["spec"]
        (container,) = pod["containers"]
        folders = {}
        for mount in container["volumeMounts"]:
            (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
            if "persistentVolumeClaim" in volume:
                folders[mount["mountPath"]] = str(self.cluster.claims[volume["persistentVolumeClaim"]["claimName"]])

        def here(text: str) -> str:
            for path, folder in folders.items():
                text = text.replace(path, folder)
            return text

        return subprocess.Popen(
            container["command"],
            cwd=here(container["workingDir"]),
            env=self.cluster.environment | {one["name"]: here(one["value"]) for one in container["env"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
