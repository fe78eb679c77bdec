"""The steps of a run on a `dask.distributed` cluster: what the client does."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from ..errors import ClusterError, OptionError
from ..params import TranscoderConfig, check_activation, check_plain
from ..training.adam import Recipe
from ..training.scaling import Moments, column_sums, means_of
from ..training.steps import Here, Pair, Plan, Steps
from . import moving, slices, sources
from .slices import LostSlice, Owned
from .sources import Source, scattered

T = TypeVar("T")
#: The activations that it trains.
TRAINED = ("topk", "relu", "groupmax", "abstopk")
_POLL = 0.2  # seconds between two looks at which workers are there
_GRACE = 15.0  # seconds that a lost worker has to come back
_EMPTY = 120.0  # and that a cluster without any has
_MOST_LOSSES = 5  # of one step
_BLOCK = 4096  # rows of which sums are made at once, as `Activations.blocks` does
_BLOCKS = 8  # of them in a task


class Lost(Exception):
    """A worker is gone, and with it what it held."""


class Layout:
    """Which worker owns which features, and what they are at: after step ``t``."""

    def __init__(self, client: Any, plan: Plan, workers: list[str], t: int) -> None:
        config = plan.state.config
        grouped = config.activation == "groupmax"
        width = config.dict_size // config.top_k if grouped else 1
        units = config.dict_size // width
        self.workers = workers[:units]
        P = len(self.workers)
        self.run = uuid.uuid4().hex
        self.t = t
        edges = [units * n // P * width for n in range(P + 1)]
        self.owned = [
            Owned(self.run, n, edges[n], edges[n + 1], n == P - 1, config) for n in range(P)
        ]
        self.sources = [Source(client, data, workers) for data in plan.training]

    def task(self, client: Any, n: int, function: Any, *given: Any, name: str, key: str) -> Any:
        """A future of what ``function`` makes in the worker that owns slice ``n``."""
        return client.submit(
            function, *given, key=f"{name}-{self.run}-{key}", workers=[self.workers[n]], pure=False
        )

    def held(self, client: Any, n: int, function: Any, *given: Any, name: str, key: str) -> Any:
        """The same of a function of a slice."""
        return self.task(client, n, function, self.run, n, *given, name=name, key=key)


class ClusterSteps(Steps):
    """Makes the steps in the workers, and again from the arrays last fetched if one is lost."""

    def __init__(self, client: Any, plan: Plan) -> None:
        super().__init__(plan)
        self._client = client
        self._state = plan.state
        self._fetched = plan.state.t  # the step of the arrays that ``plan.state`` has
        self._layout: Layout | None = None
        self._workers = 0  # that there were
        self._ahead: dict[int, Any] = {}  # what is being read, by step

    def make(self, t: int) -> float:
        """As `Steps.make`."""
        loss = self._surely(lambda layout: self._step(layout, t))
        self._state.t = t
        return loss

    def fetch(self) -> None:
        """As `Steps.fetch`."""
        if self._fetched < self._state.t:
            self._surely(self._fetch)
            self._fetched = self._state.t

    def close(self) -> None:
        """Have the workers let go of their slices."""
        if self._layout is not None:
            run, self._layout = self._layout.run, None
            self._ahead.clear()
            self._client.run(slices.forget, run, on_error="ignore")

    def _surely(self, work: Callable[[Layout], T]) -> T:
        """What ``work`` makes of a layout that is at the step of the state."""
        losses = 0
        while True:
            try:
                if self._layout is None:
                    self._layout = self._laid_out()
                while self._layout.t < self._state.t:
                    self._step(self._layout, self._layout.t + 1)
                return work(self._layout)
            except (Lost, LostSlice) as lost:
                self.close()
                losses += 1
                if losses > _MOST_LOSSES:
                    problem = f"step {self._state.t + 1} was lost {losses} times, and not made"
                    raise ClusterError(f"{problem}: {lost}") from lost

    def _laid_out(self) -> Layout:
        """Every slice in a worker, as it was when it was last fetched."""
        client, plan = self._client, self.plan
        workers = self._present()
        try:
            layout = Layout(client, plan, workers, self._fetched)
            tasks = []
            for n, owned in enumerate(layout.owned):
                arrays = scattered(client, _part(plan.state, owned), layout.workers[n])
                given = owned, plan.recipe, self._fetched, arrays
                tasks.append(layout.task(client, n, slices.hold, *given, name="hold", key=f"{n}"))
        except ClusterError as error:
            if set(workers) <= set(client.nthreads()):
                raise
            raise Lost(str(error)) from error
        self._results(layout, tasks)
        return layout

    def _present(self) -> list[str]:
        """The workers, as many as there were before if they come back in time."""
        started = time.monotonic()
        while True:
            workers = sorted(self._client.nthreads())
            waited = time.monotonic() - started
            if workers and (len(workers) >= self._workers or waited > _GRACE):
                self._workers = len(workers)
                return workers
            if waited > _EMPTY:
                raise ClusterError(f"the cluster has had no worker for {_EMPTY:.0f} s. Start one.")
            time.sleep(_POLL)

    def _step(self, layout: Layout, t: int) -> float:
        """Make step ``t``; the loss before it."""
        plan, client = self.plan, self._client
        config, recipe = plan.state.config, plan.recipe
        P, rows = len(layout.workers), plan.schedule.batch_size
        top_k = plan.schedule.top_k(t, config.top_k)
        read = self._read(layout, t)
        if t < plan.schedule.steps:
            self._ahead[t + 1] = self._read(layout, t + 1)
        parts = []
        for g, (x, target) in enumerate(read):
            key = f"{t}-{g}"

            def made(n: int, function: Any, *given: Any, name: str, key: str = key) -> Any:
                return layout.held(client, n, function, t, *given, name=name, key=f"{key}-{n}")

            found = [made(n, slices.encode, top_k, x, name="encode") for n in range(P)]
            given = config, top_k, recipe.aux_k, found
            chosen = layout.task(client, g % P, slices.choose, *given, name="choose", key=key)
            before = None
            for n in range(P - 1):
                before = made(n, slices.decode, chosen, before, name="decode")
            errors = made(P - 1, slices.errors, rows, chosen, before, x, target, name="errors")
            parts.append((x, chosen, errors))
        rates = moving.Rates(t, plan.schedule(t), rows)
        moved = self._moved(layout, rates, parts)
        loss: float = self._results(layout, moved)[-1]
        layout.t = t
        return loss

    def _moved(self, layout: Layout, rates: moving.Rates, parts: Any) -> list[Any]:
        """The last tasks of a step."""
        client, t, numbers = self._client, rates.t, range(len(layout.workers))
        if not self.plan.recipe.clip_norm:
            return [
                layout.held(client, n, moving.move, rates, parts, name="gradient", key=f"{t}-{n}")
                for n in numbers
            ]
        norms = [
            layout.held(client, n, moving.gradient, rates, parts, name="gradient", key=f"{t}-{n}")
            for n in numbers
        ]
        norm = layout.task(client, 0, moving.norm, norms, name="norm", key=f"{t}")
        return [
            layout.held(client, n, moving.move_clipped, rates, norm, name="adam", key=f"{t}-{n}")
            for n in numbers
        ]

    def _read(self, layout: Layout, t: int) -> list[list[list[Any]]]:
        """Futures of the rows of step ``t``: of each part, x and target, each in pieces."""
        if t in self._ahead:
            begun: list[list[list[Any]]] = self._ahead.pop(t)
            return begun
        plan, client = self.plan, self._client
        kind: Any = np.dtype(plan.state.config.dtype).type
        scales = kind(plan.scaling.input_scale), kind(plan.scaling.target_scale)
        parts = np.array_split(plan.batches.rows(t), plan.accumulate)
        return [
            [
                [
                    client.submit(
                        sources.read,
                        share.held,
                        indices,
                        scale,
                        not side,
                        key=f"read-{layout.run}-{t}-{g}-{side}-{n}",
                        workers=share.worker and [share.worker],
                        pure=False,
                    )
                    for n, (share, indices) in enumerate(source.pieces(rows))
                ]
                for side, (source, scale) in enumerate(zip(layout.sources, scales))
            ]
            for g, rows in enumerate(parts)
        ]

    def _fetch(self, layout: Layout) -> None:
        """Write what the workers have to the arrays of the state."""
        client, t = self._client, layout.t
        tasks = [
            layout.held(client, n, moving.fetch, t, name="fetch", key=f"{t}-{n}")
            for n in range(len(layout.workers))
        ]
        ours = self._state.named()
        found = self._results(layout, tasks)  # of all, before anything is overwritten
        for owned, arrays in zip(layout.owned, found):
            for name, array in arrays.items():
                ours[name][_place(name, owned)] = array

    def _results(self, layout: Layout, tasks: list[Any]) -> list[Any]:
        """What ``tasks`` return, if no worker is lost meanwhile."""
        from distributed import KilledWorker, wait
        from distributed.client import CancelledError

        client = self._client
        while True:
            try:
                wait(tasks, timeout=_POLL)
                break
            except TimeoutError:
                self._look(layout)
            except CancelledError as cancelled:
                raise Lost(f"a task was cancelled: {cancelled}") from cancelled
        failed = [task for task in tasks if task.status != "finished"]
        for task in failed:
            self._look(layout)
            error = task.exception() if task.status == "error" else Lost("a task was cancelled")
            if isinstance(error, KilledWorker):
                raise Lost(str(error))
            raise error
        try:
            results: list[Any] = client.gather(tasks)
        except Exception as error:
            raise Lost(f"a result was lost: {error}") from error
        return results

    def _look(self, layout: Layout) -> None:
        if gone := set(layout.workers) - set(self._client.nthreads()):
            raise Lost(f"{', '.join(sorted(gone))} is gone")


def _part(state: Any, owned: Owned) -> dict[str, np.ndarray]:
    """The arrays of a slice, by name: no copies."""
    arrays = {n: a for n, a in state.named().items() if not n.startswith("best.")}
    return {n: a[_place(n, owned)] for n, a in arrays.items() if owned.last or not _is_dense(n)}


def _place(name: str, owned: Owned) -> slice:
    return slice(None) if _is_dense(name) else slice(owned.first, owned.stop)


def _is_dense(name: str) -> bool:
    """Whether the array belongs to no feature."""
    return name.endswith((".b_dec", ".W_skip"))


class Cluster(Here):
    """The cluster of ``client`` as the place where a run is made."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._steps: ClusterSteps | None = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._steps is not None:
            self._steps.close()

    def check(self, config: TranscoderConfig, recipe: Recipe, backend: str) -> None:
        """Refuse the reference, rows that compete, and what has no fused step."""
        if backend != "kernels":
            raise OptionError("backend", "'kernels' on a cluster", backend)
        check_activation(config, TRAINED, "rt.distributed.fit")
        check_plain(config, "rt.distributed.fit")
        if not recipe.plain:
            losses = recipe.reconstruction_loss, recipe.sparsity_loss
            raise OptionError("losses", "the default ones on a cluster", losses)

    def opened(self, pair: Pair) -> Pair:
        """As `Here.opened`."""
        x, target = (sources.opened(self._client, data) for data in pair)
        return x, target

    def moments(self, training: Pair, digests: Mapping[str, Any]) -> Moments:
        """As `Here.moments`; without digests, which are of all rows in order, the workers read."""
        if digests:
            return super().moments(training, digests)
        x, target = (means_of(self._sums(data), data) for data in training)
        return Moments(*x, *target, len(training[0]))

    def _sums(self, data: Any) -> Iterable[Any]:
        """`column_sums` of each block of ``data``, in order."""
        if not sources.is_in_files(data):
            yield from map(column_sums, data.blocks())
            return
        (held,) = self._client.scatter([data], hash=False, broadcast=True)
        firsts = range(0, len(data), _BLOCK)
        tasks = [
            self._client.submit(
                sources.block_sums, held, firsts[n : n + _BLOCKS], _BLOCK, len(data), pure=False
            )
            for n in range(0, len(firsts), _BLOCKS)
        ]
        for task in tasks:
            yield from task.result()

    def steps(self, plan: Plan) -> ClusterSteps:
        """As `Here.steps`."""
        self._steps = ClusterSteps(self._client, plan)
        return self._steps
