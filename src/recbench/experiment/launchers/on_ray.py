"""Jobs of a sweep as tasks of a Ray cluster; what each asks for is ``hardware=ray``.

Hydra's own hydra-ray-launcher 1.2.2 (2022) pins cloudpickle below 3 and can no longer be installed beside today's Ray, so this sends the jobs itself.
Ray starts a job again whose worker or machine was lost; by its key the run finds its checkpoint and goes on. All machines see the same folders, as
on Slurm: the run's lock lies there, so two jobs that need one dependency train it once.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn

from recbench.config.settings import RayConfig
from recbench.core.errors import UserError, first_line
from recbench.experiment.launchers.records import record_path, write_lost
from recbench.experiment.launchers.task import Task

logger = logging.getLogger(__name__)

#: How long a cluster may take to answer at its port.
ANSWER_SECONDS = 10
GIB = 1 << 30


def launch(plugin: Any, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Send all jobs and wait for every one. Raises UserError without Ray, without hardware=ray, and where no cluster answers."""
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "hydra/launcher=ray needs the extra 'ray'; install it with: pip install 'recbench[ray]'"
        ) from error
    from hydra.core.singleton import Singleton

    hardware = hardware_of(plugin.config)
    sweep_dir = Path(str(plugin.config.hydra.sweep.dir)).absolute()
    with cluster(ray, plugin.settings):
        warn_of_want(ray, hardware)
        options = {**asked(hardware), "max_retries": int(plugin.settings.get("retries", 3)), "max_calls": 1}
        send = ray.remote(**options)(_job)
        state, task, place = Singleton.get_state(), ray.put(Task(plugin)), str(Path.cwd())
        numbers = range(first, first + len(job_overrides))
        sent = [send.remote(task, list(o), n, state, place) for n, o in zip(numbers, job_overrides, strict=True)]
        logger.info("%d jobs sent to Ray at %s", len(sent), ray.get_runtime_context().gcs_address)
        try:
            return [
                _result(ray, ref, number, overrides, sweep_dir)
                for ref, number, overrides in zip(sent, numbers, job_overrides, strict=True)
            ]
        except BaseException:
            for ref in sent:
                ray.cancel(ref, force=True)
            raise


def _job(task: Task, overrides: list[str], number: int, state: dict[Any, Any], place: str) -> JobReturn:
    """In a worker: paths of the words mean what they meant where the sweep was started."""
    os.chdir(place)
    return task(overrides, number, state)


def _result(ray: Any, ref: Any, number: int, overrides: Sequence[str], sweep_dir: Path) -> JobReturn:
    """The answer of a job; one that Ray gave up is noted with the reason, and the others go on."""
    try:
        found: JobReturn = ray.get(ref)
        return found
    except ray.exceptions.RayError as error:
        logger.debug("%s", error)
        record_path(sweep_dir, number).unlink(missing_ok=True)
        said = first_line(error)[:200]
        return write_lost(sweep_dir, number, overrides, f"Ray gave the job up ({type(error).__name__}: {said})")


@contextmanager
def cluster(ray: Any, settings: Any, key: str = "hydra.launcher.address") -> Iterator[None]:
    """Connected to the cluster of ``settings["address"]``, or to one of this machine alone, which ends with the block. key: what sets the address,
    for messages. Raises UserError."""
    address = settings.get("address") or os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():  # a cluster of a notebook
        yield
        return
    if address is not None:
        check_answers(str(address), key)
    try:
        ray.init(
            address=address,
            runtime_env=dict(settings.get("runtime_env") or {}),
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = first_line(error)[:200]
        raise UserError(
            f"no Ray cluster at {address or 'this machine'} ({said}); start one with: ray start --head, or leave {key} out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_answers(address: str, key: str = "hydra.launcher.address") -> None:
    """Raise UserError, in seconds rather than minutes, where nobody listens at HOST:PORT. Other forms, such as ``auto``, are left to Ray."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        with closing(socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS)):
            return
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({getattr(error, 'strerror', None) or error}); start one with: ray start --head, "
            f"or leave {key} out for one of this machine"
        ) from error


def hardware_of(config: Any) -> RayConfig:
    """What the jobs of a sweep ask for. Raises UserError unless it is ``hardware=ray`` for all of them, and sensible."""
    from omegaconf import OmegaConf

    found = OmegaConf.to_object(config.hardware) if config.get("hardware") is not None else None
    if not isinstance(found, RayConfig):
        raise UserError("jobs for Ray need hardware=ray, which says what they ask for")
    if found.cpus < 1 or found.gpus < 0 or (found.memory_gb is not None and found.memory_gb <= 0):
        raise UserError("hardware.cpus must be at least 1, hardware.gpus at least 0, and hardware.memory_gb positive")
    return found


def asked(hardware: RayConfig) -> dict[str, Any]:
    """Ray's names for what a job asks for."""
    found: dict[str, Any] = {"num_cpus": hardware.cpus, "num_gpus": hardware.gpus}
    return found if hardware.memory_gb is None else {**found, "memory": int(hardware.memory_gb * GIB)}


def warn_of_want(ray: Any, hardware: RayConfig) -> None:
    """Say where no machine of the cluster is large enough now: the jobs then wait until one joins, which a cluster that grows by itself brings."""
    wanted = {"CPU": hardware.cpus, "GPU": hardware.gpus, "memory": (hardware.memory_gb or 0) * GIB}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
        logger.warning(
            "no machine of this Ray cluster has what a job asks for (hardware.cpus=%s, gpus=%s, memory_gb=%s); the jobs wait until one joins",
            hardware.cpus, hardware.gpus, hardware.memory_gb,
        )  # fmt: skip
