"""Run the tasks of a batch in processes on this machine or on the workers of a Dask cluster.

The processes are no Dask cluster: other users of the machine could connect to its scheduler and run
code in them, and every user of `batch` would need the package distributed.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from napari_dff.batch.summary import Outcome
from napari_dff.batch.tasks import Task, run_task
from napari_dff.model import checks
from napari_dff.pipeline.planning import free_megabytes, resident_megabytes
from napari_dff.runtime.threads import thread_count

WORKER_RANGE = checks.Range(1, 1024, 1)  # of workers, and of threads of each
SCHEDULER_TIMEOUT_S = 10
WORKER_TIMEOUT_S = 60  # without any worker
CHECK_INTERVAL_S = 10  # of the cluster, while no task ends
CLEANUP_TIMEOUT_S = 5
WORKER_DIED = "its worker died, perhaps for lack of memory"


def run_tasks(tasks: Sequence[Task], *, workers: int = 1, scheduler: str = "") -> Iterator[Outcome]:
    """Run tasks in processes or on a Dask cluster; yield each outcome when it is finished.

    Workers of a cluster must have the same files under the same names.
    """
    if scheduler:
        yield from _run_on_cluster(tasks, scheduler)
        return
    remaining = deque(tasks)
    while remaining:
        suspects = yield from _run_until_worker_dies(remaining, workers)
        for task in suspects:  # one at a time, so that only the task that kills its worker fails
            if (yield from _run_until_worker_dies(deque([task]), 1)):
                yield task.outcome("failed", why=WORKER_DIED)


def worker_counts(
    workers: int | None, threads: int | None, tasks: int, scheduler: str = ""
) -> tuple[int, int]:
    """Return the number of workers, and of threads of each: they share all cores by default."""
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None:
            WORKER_RANGE.check(name, value)
    if workers is None and not scheduler:
        workers = max(1, min(thread_count(), tasks))
        return workers, threads or max(1, thread_count() // workers)
    return workers or 1, threads or 1


def share_resources(
    tasks: Sequence[Task], workers: int | None, threads: int | None, scheduler: str
) -> tuple[list[Task], int]:
    """Return tasks with their shares of threads and memory, and the number of workers."""
    workers, threads = worker_counts(workers, threads, len(tasks), scheduler)
    free, shared = free_megabytes(), []
    for task in tasks:
        limit = task.job.megabytes
        if not scheduler:
            limit = (free if limit is None else limit - resident_megabytes()) / workers
        shared.append(replace(task, threads=threads, job=replace(task.job, megabytes=limit)))
    return shared, workers


def _run_until_worker_dies(
    remaining: deque[Task], workers: int
) -> Generator[Outcome, None, list[Task]]:
    """Run tasks until none remains or a worker dies; return those that were running then."""
    running: dict[futures.Future[Outcome], Task] = {}
    context = multiprocessing.get_context("spawn")
    pool = futures.ProcessPoolExecutor(workers, context, initializer=_initialize_worker)
    try:
        while remaining or running:
            while remaining and len(running) < workers:
                future = pool.submit(run_task, remaining[0])
                running[future] = remaining.popleft()
            for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                outcome = future.result()
                del running[future]
                yield outcome
    except BrokenProcessPool:
        pass
    except KeyboardInterrupt:  # results in progress are dropped: nothing of them is visible yet
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    for future in [future for future in running if not future.exception()]:
        del running[future]
        yield future.result()
    return list(running.values())


def _initialize_worker() -> None:
    """Ignore Ctrl-C and warnings, which the parent reports; end on other signals and with it."""
    warnings.simplefilter("ignore", UserWarning)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _exit_after_cleanup)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_after_cleanup(*_: object) -> None:
    """Raise SystemExit so that temporary files are removed; exit in any case after a timeout."""
    timer = threading.Timer(CLEANUP_TIMEOUT_S, os._exit, (1,))
    timer.daemon = True
    timer.start()
    raise SystemExit(1)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_on_cluster(tasks: Sequence[Task], scheduler: str) -> Iterator[Outcome]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "a scheduler needs the package distributed: pip install 'napari-dff[distributed]'"
        ) from error
    _check_scheduler(scheduler)
    _silence_distributed()
    settings: dict[str, Any] = {"timeout": SCHEDULER_TIMEOUT_S, "set_as_default": False}
    with Client(scheduler, **settings) as client:  # type: ignore[no-untyped-call]
        if reason := _wait_for_workers(client):
            raise OSError(f"scheduler {scheduler} {reason}")
        executor = client.get_executor(pure=False, retries=0)
        running = {executor.submit(run_task, task): task for task in tasks}
        try:
            while running:
                finished = futures.wait(running, CHECK_INTERVAL_S, futures.FIRST_COMPLETED).done
                is_lost = not finished or client.status != "running"
                if is_lost and (reason := _wait_for_workers(client)):
                    for task in running.values():
                        yield task.outcome("failed", why=f"scheduler {scheduler} {reason}")
                    return
                for future in finished:
                    task = running.pop(future)
                    try:
                        yield future.result()
                    except Exception as error:  # of the cluster: `run_task` returns its own errors
                        yield task.outcome("failed", why=f"{WORKER_DIED}: {error}")
        finally:
            for future in running:
                future.cancel()


def _check_scheduler(address: str) -> None:
    """Raise an OSError unless a Dask scheduler answers in time: its client would wait for ever.

    What another program answers would be taken for numbers of bytes.
    """
    from distributed.comm import connect  # type: ignore[attr-defined]

    async def shake_hands() -> None:
        comm = await asyncio.wait_for(
            connect(address),  # type: ignore[no-untyped-call]
            SCHEDULER_TIMEOUT_S,
        )
        comm.abort()

    try:
        asyncio.run(shake_hands())
    except (OSError, TimeoutError) as error:
        problem = f"scheduler {address} does not answer within {SCHEDULER_TIMEOUT_S} s"
        raise OSError(f"{problem}: check the address, and that `dask scheduler` runs") from error
    except Exception as error:  # of many types, where another program answers
        message = " ".join(str(error).split()) or repr(error)
        raise OSError(f"scheduler {address} is no Dask scheduler: {message}") from error


def _wait_for_workers(client: Any) -> str:
    """Wait until the cluster has a worker; return what is wrong if that takes too long, or ""."""
    deadline_s = time.monotonic() + WORKER_TIMEOUT_S
    while client.status == "running":
        try:
            state = client.sync(client.scheduler.identity, callback_timeout=SCHEDULER_TIMEOUT_S)
        except Exception:  # of many types, where the connection has ended
            break
        if state["workers"]:
            return ""
        if time.monotonic() > deadline_s:
            waited = f"has had no worker for {WORKER_TIMEOUT_S} s"
            return f"{waited}: start one, and give the same command again"
        time.sleep(1)
    return "does not answer any more: start it, and give the same command again"


def _silence_distributed() -> None:
    """Let Dask log no tracebacks: the outcomes of the tasks have the reasons."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
