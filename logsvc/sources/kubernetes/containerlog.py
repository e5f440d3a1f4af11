"""Follows one container through the API server, run after run, until its pod is gone.

The API server names a log by the names of pod and container, and gives that of the newest run or of the one before. So
whose log an answer is, is asked once it has begun: a pod of the same name, or the next run, may have come in between.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from logsvc.errors import ClusterAway, ClusterError, NoLog
from logsvc.formats import cri
from logsvc.model import Origin, Stream
from logsvc.sources.collector import CLOSED, Collector
from logsvc.sources.kubernetes.apilines import ApiLines, Piece, Place
from logsvc.sources.kubernetes.apiserver import PODS, ApiServer, LogRequest
from logsvc.sources.kubernetes.lane import Identity, Unwanted
from logsvc.sources.kubernetes.losses import span, tell_loss
from logsvc.sources.kubernetes.objects import PodObject
from logsvc.sources.kubernetes.pace import Pace
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.kubernetes.quota import Quota
from logsvc.sources.kubernetes.transitions import PodStatus, Run

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
"""Seconds between two tries at an API server that doesn't answer, each twice the one before, a part left to chance."""

_SETTLED: Final = 2.0
"""Seconds in which the last line is found again in a log that is followed; else it is looked for in one that ends."""

_DEPTHS: Final = (256, 4096, 0)
"""Lines from the end of a log among which the last one that was taken is looked for, one after the other; 0: all."""

_TIME: Final = 30
"""Bytes of the time at the beginning of a log."""
_EMPTY: Final = "-"
"""In place of that time, where nothing is in the file yet. What is there later may be of another, and counts as new."""
_LOOK_BYTES: Final = 256 * 1024
_LOOK_SECONDS: Final = 5.0
"""How much has to come, and how long ago the last look has to be, until it is looked again whether a log was rotated.
The kubelet rotates one that has grown by megabytes, and looks every 10 seconds whether one has."""
_LAST_LOOK: Final = 120.0
"""Seconds after which what came is enough, however little it is."""
_PATIENCE: Final = 5.0
"""Seconds that such a look may take."""

_SILENT: Final = 15.0
"""Seconds in which nothing came, after which it is looked whether anything can: the API server may hold on to an answer
that nobody writes to any more, and a kubelet that was behind when the log was rotated waits at the old file's end."""
_SOME_BYTES: Final = 16 * 1024
"""How much has to come until then: one of which less came was not behind."""

_ENDED: Final = 5.0
"""Seconds after which a log that has ended is followed on, where nobody says that its process has."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reach:
    """What all containers' logs are read with."""

    api: ApiServer
    collector: Collector
    identity: Identity
    statuses: Callable[[Pod], PodStatus | None]
    """How a pod is now; None for one that is gone."""
    pace: Pace
    """Of requests."""
    now: Callable[[], int]
    """Unix ns."""
    refused: Callable[[ClusterError], None]
    """The API server won't give a log."""
    quota: Quota


class _End(Enum):
    """How an answer ended."""

    WHOLE = auto()
    """With the log."""
    NOW = auto()
    """With what there is at this moment."""
    OTHER = auto()
    """It was another run's, or another pod's."""
    UNFOUND = auto()
    """The last line that was taken isn't there, as far as was seen."""
    BACK = auto()
    """Times went back."""


def name_of(pod: Pod, container: str, run: int) -> str:
    """A run's log in origins."""
    return f"{pod.uid}/{container}/{run}"


def last_taken(origin: Origin | None) -> str:
    """The time of the last line of a run that was taken, as CRI has it; empty where that isn't known."""
    return origin.held[0][0] if origin is not None and origin.held else ""


class ContainerLog:
    """One container. `run` it in a TaskGroup."""

    def __init__(self, reach: Reach, pod: Pod, container: str, first: int) -> None:
        """`first`: the run to begin with."""
        self.read = first
        """Number of the first run that isn't read to its end."""
        self.changed = asyncio.Event()
        """To be set when the pod, or whose it is, isn't as it was."""
        self.nobodys = False
        """It isn't known yet whose the lines are, or they are left out."""
        self.over_quota = False
        """Lines wait, as their tenant has had enough for now."""
        self._reach = reach
        self._pod = pod
        self._container = container
        self._caught_up = False
        """What there was has been taken, so that a log that is followed begins with few lines."""
        self._depth = 0
        """Where among the depths to look for the place."""
        self._cut = False
        """The last answer broke off: there may be lines behind it."""
        self._head = ""
        """Time of the first line of the kubelet's file when that was looked at last; empty where it isn't known."""
        self._seen = ""
        """Time of the last line that was taken by then."""
        self._followed = ""
        """The head when what is being read was asked for."""
        self._came = self._looked = 0
        """Bytes of this run that came, and those that had come by then."""
        self._tried = 0.0
        """When that was, by the loop's clock, or when it would have been time."""

    async def run(self) -> None:
        """Follow until the pod is gone. Raises BusError."""
        while True:
            status = self._status()
            if status is None:
                break
            if status.number > self.read + 1:
                await self._skip(status.number - 1)
            if status.number < self.read or (status.number == self.read and status.started is None):
                await self._wait()
            elif not isinstance(self._stream(), Stream):
                self.nobodys = True
                await self._wait()
                self.nobodys = False
            else:
                await self._run_log()
        # Of no more use.
        self._reach.collector.forget([self._file, name_of(self._pod, self._container, self.read - 1)])

    def _status(self) -> Run | None:
        status = self._reach.statuses(self._pod)
        return next((run for run in status.runs if run.name == self._container), None) if status else None

    def _is_over(self) -> bool:
        """Whether the process of this run has ended, or its pod is gone."""
        status = self._status()
        return status is None or status.number > self.read or status.exit is not None

    def _stream(self) -> Stream | Unwanted | None:
        return self._reach.identity.stream(*self._pod, self._container, self.read)

    async def _wait(self, seconds: float | None = None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        self.changed.clear()

    # ---- one run

    async def _run_log(self) -> None:
        """Take one run's log to its end, or as far as it can be had."""
        self._caught_up, self._depth, self._cut = not self._place().time, 0, True
        self._head, self._seen = self._known_head()
        # One that was begun before may have been rotated by now.
        self._came, self._looked = (_LOOK_BYTES if self._head else 0), 0
        begun = 0
        pause = _FIRST_PAUSE / 2
        while (run := self._status()) is not None and run.number <= self.read + 1:
            over = run.number > self.read or run.exit is not None
            if run.number == self.read and run.started is not None:
                begun = int(run.started * 1e9)
            taken = self._place().taken
            try:
                end = await self._answer(over=over)
            except NoLog as error:
                logger.debug("%s: %s", self._name, error)
                if over:
                    break
                await self._wait(_FIRST_PAUSE)
            except ClusterError as error:
                self._caught_up, self._cut = False, True
                if not isinstance(error, ClusterAway):
                    self._reach.refused(error)
                pause = _FIRST_PAUSE if self._place().taken > taken else min(2 * pause, _LONGEST_PAUSE)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads requests out
            else:
                pause = _FIRST_PAUSE / 2
                if end is _End.WHOLE and over:
                    self._cut = False
                    break
                await self._after(end)
        if self._cut:
            text = f"Lines of {self._since_last(begun)} were lost: the log of the process could not be had any more"
            await self._tell("unavailable", text)
        self._close()

    async def _after(self, end: _End) -> None:
        """What to do where an answer ended, and the log goes on."""
        match end:
            case _End.WHOLE:
                self._cut = False
                await self._wait(_ENDED)
            case _End.NOW:
                self._caught_up = True
            case _End.OTHER:
                await self._wait(_FIRST_PAUSE)
            case _End.BACK:
                # Only all of it tells whether a clock was set back or a file is given again.
                self._depth = len(_DEPTHS) - 1
            case _End.UNFOUND:
                self._caught_up = False
                self._depth = min(self._depth + 1, len(_DEPTHS) - 1)

    async def _answer(self, *, over: bool) -> _End:
        """Take what one request brings."""
        lines = ApiLines(self._place())
        follow = self._caught_up and not over
        request = self._request(follow=follow)
        before = self._came
        end = await self._read(lines, request)
        if end is _End.WHOLE and over and not lines.first and (lines.seeking or self._came > before):
            raise NoLog("the kubelet has none of its lines any more")
        rotated = self._came >= _LOOK_BYTES and self._came > self._looked and not lines.seeking
        # In one that is empty now the next line may be long in coming.
        if end is _End.WHOLE and (rotated if over else self._is_emptied(lines)):
            await self._look_for_rotation(lines, request)
        if lines.seeking and lines.first and end is _End.WHOLE:
            if request.tail:
                return _End.UNFOUND
            # That it isn't in all of the file means that it is gone, and all there is is new.
            await self._tell_rotated(lines.first, anew=True)
            return _End.UNFOUND
        if end is _End.WHOLE and over:
            await self._append(lines.end())
        return _End.NOW if end is _End.WHOLE and not follow and not over else end

    def _request(self, *, follow: bool) -> LogRequest:
        status = self._status()
        previous = status is not None and status.number > self.read
        tail = _DEPTHS[self._depth] if self._place().time else 0
        return LogRequest(self._pod.namespace, self._pod.name, self._container, previous, tail, follow)

    async def _read(self, lines: ApiLines, request: LogRequest) -> _End:
        clock = asyncio.get_running_loop().time
        found_by = None
        self._followed = self._head
        await self._reach.pace.turn()
        async with self._reach.api.log(request) as content:
            if not await self._is_ours(request.previous):
                return _End.OTHER
            source = aiter(content)
            heard = clock()
            while True:
                until = None
                if request.follow:
                    found_by = (found_by or clock() + _SETTLED) if lines.seeking and lines.first else None
                    look_at = self._look_at if not lines.seeking else None
                    if look_at is not None and clock() >= look_at:
                        await self._look_in_time(look_at, lines, request)
                        continue
                    silent_by = heard + (_SILENT if self._head == self._followed else _SETTLED)
                    until = min(found_by or look_at or math.inf, silent_by)
                try:
                    async with asyncio.timeout_at(until) as waiting:
                        data = await anext(source)
                except TimeoutError:
                    if found_by is not None or not waiting.expired():
                        return _End.UNFOUND
                    if clock() >= silent_by:
                        if self._is_over():
                            return _End.NOW
                        if await self._has_stalled(lines, request):
                            return _End.UNFOUND
                        heard = clock()
                    continue
                except StopAsyncIteration:
                    return _End.WHOLE
                pieces = lines.feed(data)
                if lines.first and not request.tail and not lines.seeking:
                    if not self._head:
                        self._saw(lines.first)
                        self._followed = self._head
                    elif not self._place().time and lines.first != self._head:
                        await self._tell_rotated(lines.first, anew=True)
                        return _End.UNFOUND
                self._came += len(data)
                await self._append(pieces)
                heard = clock()  # not before: a quota may have had it wait
                if request.follow and not lines.seeking:
                    self._depth = 0
                if lines.went_back:
                    return _End.BACK

    # ---- rotation while it is followed

    @property
    def _look_at(self) -> float | None:
        """When to look again, by the loop's clock; None where there is no reason."""
        if self._came < _LOOK_BYTES or self._came == self._looked:
            return None
        return self._tried + (_LOOK_SECONDS if self._came - self._looked >= _LOOK_BYTES else _LAST_LOOK)

    async def _look_in_time(self, due: float, lines: ApiLines, request: LogRequest) -> None:
        """Where others wait for their turn to ask, later: what matters more is that every log is followed."""
        now = asyncio.get_running_loop().time()
        if self._reach.pace.idle:
            self._tried = now
            await self._look_for_rotation(lines, request)
        else:
            self._tried += now + _LOOK_SECONDS - due

    async def _has_stalled(self, lines: ApiLines, request: LogRequest) -> bool:
        """Whether nothing came for a while as the kubelet may wait at the end of a file that was rotated."""
        if self._head == self._followed and self._came - self._looked >= _SOME_BYTES:
            await self._look_for_rotation(lines, request)
        return self._head != self._followed or self._is_emptied(lines)

    async def _look_for_rotation(self, lines: ApiLines, request: LogRequest) -> None:
        """Say where lines may be missing, as the file isn't the one that it was.

        The kubelet goes on in the new file without another look at the old one, and nothing in what it gives tells.
        """
        await self._reach.pace.turn()
        try:
            async with asyncio.timeout(_PATIENCE):
                head = await self._first_time(request)
                if head != self._head and not await self._is_ours(request.previous):
                    return
        except (ClusterError, NoLog, TimeoutError) as error:
            logger.debug("%s: it can't be told whether it was rotated: %r", self._name, error)
            return
        if self._head and head != self._head:
            await self._tell_rotated(head)
            lines.told()
        else:
            self._saw(head)

    def _is_emptied(self, lines: ApiLines) -> bool:
        """Whether nothing is in a file that had lines when it was looked at last."""
        return not lines.first and self._head not in {"", _EMPTY}

    async def _tell_rotated(self, head: str, *, anew: bool = False) -> None:
        """It was rotated once or more since it was looked at last."""
        between = f"between {self._seen or self._place().time} and {self._begin(head)}"
        self._saw(head, anew=anew)  # so that the notice's own place has it, and it is told once
        await self._tell("rotated", f"Lines of {between} may be missing: the log was rotated meanwhile", anew=anew)

    async def _first_time(self, request: LogRequest) -> str:
        """Of the file that the kubelet reads now, or _EMPTY. Raises NoLog, ClusterError."""
        head = b""
        async with self._reach.api.log(request._replace(tail=0, follow=False, limit=_TIME)) as content:
            async for data in content:
                head += data
        if head and cri.read_part(head + b" stdout F ") is None:
            raise NoLog("it does not begin with a time")  # the kubelet's own words, as the file is being renamed
        return head.decode() or _EMPTY

    def _begin(self, head: str) -> str:
        """When the file begins, or will."""
        return head if head != _EMPTY else cri.format_time(self._reach.now()).decode()

    def _saw(self, head: str, *, anew: bool = False) -> None:
        """`anew`: no line of it was taken."""
        last = "" if anew else self._place().time
        self._head, self._seen, self._looked = head, last or self._begin(head), self._came

    async def _is_ours(self, previous: bool) -> bool:
        """Whether what has just begun to come is of this run of this pod."""
        item = await self._reach.api.get(PODS, self._pod.namespace, self._pod.name)
        if item is None or PodObject.of(item, ()).folder != self._pod:
            return False
        runs = PodStatus.of(item, self._container).runs
        return any(run.name == self._container and run.number - previous == self.read for run in runs)

    # ---- to the bus

    async def _append(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            stream = self._stream()
            if isinstance(stream, Stream):
                await self._reach.collector.append(
                    stream, piece.value, self._origin(piece.place), partial=piece.partial
                )
                await self._take(stream.tenant, len(piece.value))
            else:
                self._reach.collector.moved(self._origin(piece.place))

    async def _take(self, tenant: str, size: int) -> None:
        """Read no more while the tenant is over its quota: then the kubelet doesn't either."""
        quota = self._reach.quota
        quota.take(tenant, size)
        if quota.wait(tenant):
            self.over_quota = True
            await quota.until_paid(tenant)
            self.over_quota = False

    async def _tell(self, reason: str, text: str, *, anew: bool = False) -> None:
        """A notice at this place; `anew`: nothing that comes behind it was taken before."""
        stream = self._stream()
        if isinstance(stream, Stream):
            place = self._place()
            behind = Place(place.taken + 1) if anew else place._replace(taken=place.taken + 1)
            await tell_loss(self._reach.collector, stream, reason, text, self._origin(behind), self._reach.now())

    async def _skip(self, number: int) -> None:
        """Go on with a later run: nobody has the logs of those before any more."""
        times = number - self.read
        runs = "an earlier run" if times == 1 else f"{times} earlier runs"
        text = (
            f"Lines of {self._since_last()}, of {runs} of the process, were lost: it was started again before they were"
        )
        await self._tell("started_again", f"{text} read")
        self._reach.collector.forget([self._file])
        self.read = number

    def _since_last(self, begun: int = 0) -> str:
        """From the last line that was taken up to now, in words; where the run has none, from `begun` (Unix ns)."""
        before = self._reach.collector.positions.get(name_of(self._pod, self._container, self.read - 1))
        return span(self._place().time or begun or last_taken(before), self._reach.now())

    # ---- places

    @property
    def _name(self) -> str:
        return f"{self._pod.namespace}/{self._pod.name}/{self._container}"

    @property
    def _file(self) -> str:
        return name_of(self._pod, self._container, self.read)

    def _place(self) -> Place:
        origin = self._reach.collector.positions.get(self._file)
        if origin is None or not origin.held:
            return Place(origin.end if origin is not None else 0)
        (time, same), (_, inside) = origin.held
        return Place(origin.end, time, origin.check, same, inside)

    def _known_head(self) -> tuple[str, str]:
        """What was known of the file when the last line was taken, before a restart too."""
        origin = self._reach.collector.positions.get(self._file)
        head, _, seen = origin.held[1][0].partition(" ") if origin is not None and origin.held else ("", "", "")
        return head, seen

    def _origin(self, place: Place) -> Origin:
        held = ((place.time, place.same), (f"{self._head} {self._seen}".strip(), place.inside))
        return Origin(self._reach.collector.node, self._file, place.taken - 1, place.taken, place.check, held)

    def _close(self) -> None:
        """All of this run was read."""
        place = self._place()
        self._reach.collector.moved(self._origin(place)._replace(start=place.taken, check=CLOSED))
        self._reach.collector.forget([name_of(self._pod, self._container, self.read - 1)])
        self.read += 1
